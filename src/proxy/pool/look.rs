//! What of a pool others may look at, and its renewal on a person's word.

use std::time::Instant;

use super::{ServerConn, UserPool, say_goodbye};
use crate::model::NodeId;

/// Figures of one node's part of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolFigures {
    /// Connections, idle and lent.
    pub total: u32,
    /// Idle ones.
    pub idle: u32,
    /// Statements waiting.
    pub waiting: u32,
}

/// A connection that nobody uses at the moment.
#[derive(Clone, Copy, Debug)]
pub struct IdleConn {
    /// The process id on the server.
    pub pid: i32,
    /// When it was opened.
    pub opened: Instant,
    /// Since when nobody has used it.
    pub since: Instant,
    /// Whether it is encrypted.
    pub tls: bool,
}

impl ServerConn {
    /// When it was opened.
    pub fn opened(&self) -> Instant {
        self.opened
    }
}

impl UserPool {
    /// Figures of one node's part.
    pub fn figures(&self, node: NodeId) -> PoolFigures {
        let nodes = self.nodes.borrow();
        let Some(pool) = nodes.get(node.index()) else { return PoolFigures::default() };
        PoolFigures {
            total: pool.total,
            idle: u32::try_from(pool.idle.len()).unwrap_or(u32::MAX),
            waiting: u32::try_from(pool.waiters.len()).unwrap_or(u32::MAX),
        }
    }

    /// The idle connections to one node.
    pub fn idle(&self, node: NodeId) -> Vec<IdleConn> {
        let nodes = self.nodes.borrow();
        let idle = nodes.get(node.index()).map(|pool| pool.idle.as_slice()).unwrap_or_default();
        idle.iter()
            .map(|conn| IdleConn {
                pid: conn.key.0,
                opened: conn.opened,
                since: conn.idle_since,
                tls: conn.stream.is_tls(),
            })
            .collect()
    }

    /// Whether a connection that was opened then is closed when it comes back.
    pub fn outdated(&self, opened: Instant) -> bool {
        self.renewed.get().is_some_and(|renewed| opened < renewed)
    }

    /// Closes the idle connections now, and the lent ones when they come back.
    pub fn renew(&self, now: Instant) {
        self.renewed.set(Some(now));
        for pool in self.nodes.borrow_mut().iter_mut() {
            pool.total = pool.total.saturating_sub(u32::try_from(pool.idle.len()).unwrap_or(u32::MAX));
            for conn in pool.idle.drain(..) {
                self.meter.server_closed(conn.session.node);
                say_goodbye(conn.stream);
            }
        }
    }
}
