//! Which nodes may have died a moment ago: raised by whoever loses a connection to one, laid by the monitor when a process
//! that the node's postmaster has forked *since* says anything. Only that tells: sessions outlive their postmaster, and so
//! does the kept connection of the monitor's. Decides nothing; reading costs one load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

use crate::model::NodeId;

/// Part of the board.
#[derive(Debug)]
pub struct Suspicions {
    nodes: Box<[One]>,
    raised: Notify,
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct One {
    /// How often a sign was seen that it may have died.
    signs: AtomicU64,
    /// Nothing has come since from a process that it forked after the last sign.
    stands: AtomicBool,
    /// The monitor has not been sent to look yet.
    unseen: AtomicBool,
    /// The last visit was in vain.
    gone: AtomicBool,
    /// Visits of the monitor's, a fresh connection each: begun; the last that was answered; how many were.
    begun: AtomicU64,
    word: AtomicU64,
    answered: AtomicU64,
}

/// A visit of the monitor's under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    number: u64,
    signs: u64,
}

/// What is known of a node since something came from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It lived when that came.
    Alive,
    /// It may not have; the monitor will tell.
    Awaited,
    /// It may not have, and the monitor's last visit was in vain.
    Gone,
}

impl Suspicions {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: (0..nodes).map(|_| One::default()).collect(),
            raised: Notify::new(),
            news: watch::Sender::new(0),
        }
    }

    fn of(&self, node: NodeId) -> Option<&One> {
        self.nodes.get(node.index())
    }

    // ---- whoever loses a connection ----------------------------------------------------------------------------

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

    // ---- the data path -----------------------------------------------------------------------------------------

    /// Whether the node may be dead, as far as is known at this moment.
    #[inline]
    pub fn stands(&self, node: NodeId) -> bool {
        self.of(node).is_some_and(|one| one.stands.load(Ordering::SeqCst))
    }

    /// Number of the visit whose answer vouches for what has come from the node until now.
    pub fn next_visit(&self, node: NodeId) -> u64 {
        self.of(node).map_or(0, |one| one.begun.load(Ordering::SeqCst) + 1)
    }

    /// What is known of what had come when `next_visit` gave this number. However many signs there are meanwhile, one
    /// answered visit is enough.
    pub fn word(&self, node: NodeId, visit: u64) -> Word {
        let Some(one) = self.of(node) else { return Word::Alive };
        if !one.stands.load(Ordering::SeqCst) || one.word.load(Ordering::SeqCst) >= visit {
            Word::Alive
        } else if one.gone.load(Ordering::SeqCst) {
            Word::Gone
        } else {
            Word::Awaited
        }
    }

    /// Wakes when there is news of a suspected node. Cancellation-safe.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// How often a fresh connection of the monitor's to this node was answered.
    pub fn visits_of(&self, node: NodeId) -> u64 {
        self.of(node).map_or(0, |one| one.answered.load(Ordering::Acquire))
    }

    // ---- the monitor -------------------------------------------------------------------------------------------

    /// A fresh connection to the node is about to be made.
    pub(crate) fn begin(&self, node: NodeId) -> Visit {
        let Some(one) = self.of(node) else { return Visit { number: 0, signs: 0 } };
        let signs = one.signs.load(Ordering::SeqCst);
        Visit { number: one.begun.fetch_add(1, Ordering::SeqCst) + 1, signs }
    }

    /// The question that it was made for was answered.
    pub(crate) fn answered(&self, node: NodeId, visit: Visit) {
        if let Some(one) = self.of(node) {
            one.answered.fetch_add(1, Ordering::AcqRel);
        }
        self.lay(node, visit);
    }

    /// A process said something that the node forked in this visit, or there is no hope of one.
    pub(crate) fn lay(&self, node: NodeId, visit: Visit) {
        let Some(one) = self.of(node) else { return };
        one.gone.store(false, Ordering::SeqCst);
        one.word.fetch_max(visit.number, Ordering::SeqCst);
        if !one.stands.load(Ordering::SeqCst) {
            return;
        }
        if one.signs.load(Ordering::SeqCst) == visit.signs {
            one.stands.store(false, Ordering::SeqCst);
            if one.signs.load(Ordering::SeqCst) != visit.signs {
                // A sign in between, whose store may have come before ours.
                one.stands.store(true, Ordering::SeqCst);
            }
        }
        self.news.send_modify(|count| *count += 1);
    }

    /// Nobody was found there, which is a sign.
    pub(crate) fn gone(&self, node: NodeId) {
        self.sign(node);
        self.silent(node);
    }

    /// Nothing was heard, which may be the network's fault.
    pub(crate) fn silent(&self, node: NodeId) {
        if let Some(one) = self.of(node) {
            one.gone.store(true, Ordering::SeqCst);
        }
        self.news.send_modify(|count| *count += 1);
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
    fn only_a_visit_that_began_after_the_last_sign_lays_a_suspicion() {
        let (all, node) = (Suspicions::new(2), NodeId(1));
        assert!(!all.stands(node));
        all.raise(node);
        assert!(all.stands(node) && !all.stands(NodeId(0)) && all.take(node) && !all.take(node));
        let early = all.begin(node);
        all.sign(node);
        all.lay(node, early);
        assert!(all.stands(node), "it may have died after it was asked");
        assert!(!all.take(node), "whoever saw that sign looks by itself");
        let news = all.news();
        let late = all.begin(node);
        all.answered(node, late);
        assert!(!all.stands(node) && news.has_changed().unwrap());
        assert_eq!(all.visits_of(node), 1);
    }

    #[test]
    fn one_visit_vouches_for_what_came_before_it_however_many_signs_there_are() {
        let (all, node) = (Suspicions::new(1), NodeId(0));
        all.raise(node);
        let early = all.begin(node);
        let came = all.next_visit(node);
        all.raise(node);
        all.lay(node, early);
        assert_eq!(all.word(node, came), Word::Awaited, "its process may have been forked before");
        let late = all.begin(node);
        all.raise(node);
        all.lay(node, late);
        assert!(all.stands(node));
        assert_eq!(all.word(node, came), Word::Alive);
        assert_eq!(all.word(node, all.next_visit(node)), Word::Awaited);
        all.gone(node);
        assert_eq!(all.word(node, all.next_visit(node)), Word::Gone);
        let found = all.begin(node);
        all.lay(node, found);
        assert_eq!(all.word(node, all.next_visit(node)), Word::Alive);
    }

    #[test]
    fn a_node_that_is_not_known_is_not_suspected() {
        let all = Suspicions::new(1);
        all.raise(NodeId(7));
        all.lay(NodeId(7), all.begin(NodeId(7)));
        all.gone(NodeId(7));
        assert!(!all.stands(NodeId(7)) && !all.take(NodeId(7)));
    }
}
