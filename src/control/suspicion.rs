//! Which nodes may have died a moment ago: raised by whoever loses a connection to one, laid by the monitor when a process
//! that the node's postmaster has forked *since* gives an answer. Only that tells: sessions outlive their postmaster, and so
//! does the kept connection of the monitor's. Decides nothing; reading costs one load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

use crate::model::NodeId;

/// Part of the board.
#[derive(Debug)]
pub struct Suspicions {
    nodes: Box<[One]>,
    raised: Notify,
    laid: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct One {
    /// How often a sign was seen that it may have died.
    signs: AtomicU64,
    /// Nothing has come since from a process that it forked after the last sign.
    stands: AtomicBool,
    /// The monitor has not been sent to look yet.
    unseen: AtomicBool,
    /// How often a fresh connection of the monitor's was answered.
    visits: AtomicU64,
}

impl Suspicions {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: (0..nodes).map(|_| One::default()).collect(),
            raised: Notify::new(),
            laid: watch::Sender::new(0),
        }
    }

    fn of(&self, node: NodeId) -> Option<&One> {
        self.nodes.get(node.index())
    }

    /// A connection to the node failed: the monitor is to look at it now.
    pub(super) fn raise(&self, node: NodeId) {
        self.sign(node);
        if let Some(one) = self.of(node) {
            one.unseen.store(true, Ordering::SeqCst);
            self.raised.notify_one();
        }
    }

    /// The same seen by somebody who looks anyway.
    pub(crate) fn sign(&self, node: NodeId) {
        if let Some(one) = self.of(node) {
            one.signs.fetch_add(1, Ordering::SeqCst);
            one.stands.store(true, Ordering::SeqCst);
        }
    }

    /// How many signs there were. Ask *before* the fresh connection is begun whose answer is given to `lay`.
    pub(crate) fn signs(&self, node: NodeId) -> u64 {
        self.of(node).map_or(0, |one| one.signs.load(Ordering::SeqCst))
    }

    /// A process answered that the node has forked after so many signs, or there is no hope of one.
    pub(crate) fn lay(&self, node: NodeId, signs: u64) {
        let Some(one) = self.of(node).filter(|one| one.stands.load(Ordering::SeqCst)) else { return };
        if one.signs.load(Ordering::SeqCst) != signs {
            return;
        }
        one.stands.store(false, Ordering::SeqCst);
        if one.signs.load(Ordering::SeqCst) != signs {
            // A sign in between, whose store may have come before ours.
            one.stands.store(true, Ordering::SeqCst);
            return;
        }
        self.laid.send_modify(|count| *count += 1);
    }

    /// Data path: whether the node may be dead, as far as is known at this moment.
    #[inline]
    pub fn stands(&self, node: NodeId) -> bool {
        self.of(node).is_some_and(|one| one.stands.load(Ordering::SeqCst))
    }

    /// Wakes when a suspicion was laid. Cancellation-safe.
    pub fn laid(&self) -> watch::Receiver<u64> {
        self.laid.subscribe()
    }

    /// Prober only: a fresh connection to the node was answered.
    pub(crate) fn visited(&self, node: NodeId) {
        if let Some(one) = self.of(node) {
            one.visits.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Data path: how often a fresh connection of the monitor's to this node was answered.
    pub fn visits_of(&self, node: NodeId) -> u64 {
        self.of(node).map_or(0, |one| one.visits.load(Ordering::Acquire))
    }

    /// Monitor only: wakes when a node was suspected.
    pub(crate) async fn raised(&self) {
        self.raised.notified().await;
    }

    /// Monitor only: whether this node was suspected since it was asked last.
    pub(crate) fn take(&self, node: NodeId) -> bool {
        self.of(node).is_some_and(|one| one.unseen.swap(false, Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_asked_after_the_last_sign_lays_a_suspicion() {
        let (all, node) = (Suspicions::new(2), NodeId(1));
        let laid = all.laid();
        assert!(!all.stands(node));
        all.raise(node);
        assert!(all.stands(node) && !all.stands(NodeId(0)) && all.take(node) && !all.take(node));
        let early = all.signs(node);
        all.sign(node);
        all.lay(node, early);
        assert!(all.stands(node), "it may have died after it was asked");
        assert!(!all.take(node), "whoever saw that sign looks by itself");
        assert!(!laid.has_changed().unwrap());
        all.lay(node, all.signs(node));
        assert!(!all.stands(node) && laid.has_changed().unwrap());
    }

    #[test]
    fn a_node_that_is_not_known_is_not_suspected() {
        let all = Suspicions::new(1);
        all.raise(NodeId(7));
        all.lay(NodeId(7), 0);
        assert!(!all.stands(NodeId(7)) && !all.take(NodeId(7)));
    }
}
