//! Rounds of the barrier between replicas and the primary, as the data path sees them.
//!
//! A replica may show a commit that the primary does not show yet. A round that begins at some moment is *passed* for a
//! replica once the primary shows everything that this replica showed at that moment. Like a sample of the primary's
//! position, one round serves every session whose read was over before it began.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

use crate::model::NodeId;

/// The shared counters.
#[derive(Debug)]
pub struct Rounds {
    begun: AtomicU64,
    passed: Box<[AtomicU64]>,
    wanted: AtomicBool,
    wake: Notify,
    moved: watch::Sender<u64>,
}

impl Rounds {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            begun: AtomicU64::new(0),
            passed: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
            wanted: AtomicBool::new(false),
            wake: Notify::new(),
            moved: watch::Sender::new(0),
        }
    }

    /// The first round that begins after this moment.
    pub fn next(&self) -> u64 {
        self.begun.load(Ordering::SeqCst) + 1
    }

    /// Whether the primary shows everything that this replica showed when `round` began.
    pub fn has_passed(&self, node: NodeId, round: u64) -> bool {
        self.passed.get(node.index()).is_some_and(|passed| passed.load(Ordering::Acquire) >= round)
    }

    /// Asks for a round soon, and returns what wakes when one is passed.
    pub fn want(&self) -> watch::Receiver<u64> {
        let receiver = self.moved.subscribe();
        self.wanted.store(true, Ordering::SeqCst);
        self.wake.notify_one();
        receiver
    }

    /// Barrier only: wakes when somebody wants a round.
    pub(super) async fn wanted(&self) {
        self.wake.notified().await;
    }

    /// Barrier only: whether somebody wants a round.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Barrier only: whether somebody wants a round; clears the wish.
    pub(super) fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::SeqCst)
    }

    /// Barrier only: call *before* anything is asked; the round's number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Barrier only: the round is passed for this replica, and so is every earlier one.
    pub(super) fn pass(&self, node: NodeId, round: u64) {
        if let Some(passed) = self.passed.get(node.index()) {
            passed.fetch_max(round, Ordering::Release);
            self.moved.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_counts_for_reads_that_were_over_before_it_began() {
        let rounds = Rounds::new(2);
        let early = rounds.begin();
        let wanted = rounds.next();
        rounds.pass(NodeId(1), early);
        assert!(!rounds.has_passed(NodeId(1), wanted), "it began before the read was over");
        rounds.pass(NodeId(1), rounds.begin());
        assert!(rounds.has_passed(NodeId(1), wanted) && !rounds.has_passed(NodeId(0), wanted));
        rounds.pass(NodeId(1), early);
        assert!(rounds.has_passed(NodeId(1), wanted), "a late answer takes nothing back");
    }
}
