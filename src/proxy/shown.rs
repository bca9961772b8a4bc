//! What a session can be shown of itself and of the cluster, beyond what its machine knows.

use std::rc::Rc;

use super::driver::Driver;
use super::pool::UserPool;
use super::worker::Worker;
use crate::model::{Epoch, Lsn, Timeline};
use crate::session::Facts;

impl Driver {
    /// What `SHOW primacy.…` can tell beyond the machine's own.
    pub(super) fn facts(&self) -> impl Facts + use<> {
        let position = self.machine.freshness.floor().position();
        SessionFacts { worker: Rc::clone(&self.worker), pool: Rc::clone(&self.pool), position }
    }
}

struct SessionFacts {
    worker: Rc<Worker>,
    pool: Rc<UserPool>,
    /// Covers everything that the session has seen, once that is known.
    position: Option<Lsn>,
}

impl Facts for SessionFacts {
    fn show(&self, name: &str) -> Option<String> {
        let board = self.worker.board();
        let snapshot = board.snapshot();
        match name {
            "version" => Some(env!("CARGO_PKG_VERSION").to_owned()),
            "consistency" => {
                let own = self.worker.shared.route.load().for_session(&self.pool.user, &self.pool.database);
                Some(own.consistency.as_str().to_owned())
            }
            "position" => Some(format!("{}:{}", snapshot.timeline, self.position?)),
            "epoch" => Some(snapshot.epoch.to_string()),
            "primary" => {
                let primary = snapshot.primary.and_then(|id| snapshot.node(id));
                Some(primary.map_or_else(String::new, |node| node.name.to_string()))
            }
            "service" => Some(snapshot.service.as_str().to_owned()),
            _ => None,
        }
    }

    fn timeline(&self) -> (Timeline, (Epoch, Lsn, u64)) {
        let board = self.worker.board();
        let snapshot = board.snapshot();
        (snapshot.timeline, (snapshot.epoch, snapshot.fork, board.ticket()))
    }
}
