//! The board: where control publishes and sessions read.
//!
//! One writer (the control plane), many readers (the workers of the data path). A snapshot is replaced whole;
//! positions, which move every few milliseconds, are atomics beside it. Reading never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::in_doubt::InDoubt;
use super::rounds::Rounds;
use super::suspicion::Suspicions;
use crate::model::{Lsn, NODES_MAX, NodeId, Snapshot};

/// The shared board. `Arc<Board>` is handed to everybody at birth.
#[derive(Debug)]
pub struct Board {
    snapshot: ArcSwap<Snapshot>,
    /// How many snapshots were published: whoever keeps one sees by it that there is another.
    published: AtomicU64,
    version: watch::Sender<u64>,
    replayed: Box<[AtomicU64]>,
    /// How often each node has been started, as far as it was noticed.
    runs: Box<[AtomicU64]>,
    /// The highest ticket of a commit that any client was told of.
    acknowledged: AtomicU64,
    /// The position that was last waited for in vain.
    missed: AtomicU64,
    rounds: Rounds,
    /// Number of the newest sample of the primary's insert position that was asked for; only grows.
    samples_sent: AtomicU64,
    /// Newest completed sample: number and position. The number is stored last.
    sample_position: AtomicU64,
    sample_done: AtomicU64,
    wanted: AtomicBool,
    wanted_wake: Notify,
    moved: watch::Sender<u64>,
    suspicions: Suspicions,
    /// Connections to the primary that sessions hold now.
    leases: AtomicU64,
    drained: Notify,
    in_doubt: InDoubt,
}

impl Board {
    /// A board that shows `first`, with room for nodes that are added later.
    pub fn new(first: Snapshot) -> Arc<Self> {
        let nodes = first.nodes.len().max(NODES_MAX);
        Arc::new(Self {
            version: watch::Sender::new(first.version),
            snapshot: ArcSwap::from_pointee(first),
            published: AtomicU64::new(0),
            replayed: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
            runs: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
            acknowledged: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            rounds: Rounds::new(nodes),
            samples_sent: AtomicU64::new(0),
            sample_position: AtomicU64::new(0),
            sample_done: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            wanted_wake: Notify::new(),
            moved: watch::Sender::new(0),
            suspicions: Suspicions::new(nodes),
            leases: AtomicU64::new(0),
            drained: Notify::new(),
            in_doubt: InDoubt::default(),
        })
    }

    /// The topology now. Load once per decision and use that one throughout.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Replaces the topology and wakes everybody who waits for a change. Control only.
    pub fn publish(&self, snapshot: Snapshot) {
        let (version, epoch) = (snapshot.version, snapshot.epoch);
        if self.snapshot.swap(Arc::new(snapshot)).epoch != epoch {
            // A position of the old timeline may never be reached on the new one.
            self.missed.store(0, Ordering::Release);
            // What was told before is held against the new primary's positions: the old one's may lie behind the fork.
            self.acknowledge();
        }
        // After the snapshot itself: who sees the number finds that snapshot, or a later one.
        self.published.fetch_add(1, Ordering::Release);
        self.version.send_replace(version);
    }

    /// How many snapshots have been published. While it stays the same, so does the topology.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Wakes with every published snapshot. Cancellation-safe.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    // ---- positions -------------------------------------------------------------------------------------------

    /// A ticket for what was acknowledged until now: any sample of that number or later covers it.
    pub fn ticket(&self) -> u64 {
        self.samples_sent.load(Ordering::SeqCst) + 1
    }

    /// Newest completed sample of the primary's insert position: its number and what it showed.
    pub fn sample(&self) -> (u64, Lsn) {
        // The position is written before the number, so the position read after the number is at least its own.
        let number = self.sample_done.load(Ordering::Acquire);
        (number, Lsn(self.sample_position.load(Ordering::Acquire)))
    }

    /// Last known replayed position of a node.
    pub fn replayed(&self, node: NodeId) -> Lsn {
        self.replayed.get(node.index()).map_or(Lsn::ZERO, |p| Lsn(p.load(Ordering::Acquire)))
    }

    /// Data path: a client is about to be told of a commit. Call *before* it is.
    #[inline]
    pub fn acknowledge(&self) {
        let ticket = self.ticket();
        if self.acknowledged.load(Ordering::SeqCst) < ticket {
            self.acknowledged.fetch_max(ticket, Ordering::SeqCst);
        }
    }

    /// A ticket for every commit that any client was told of until now, and for this epoch; zero: there was none.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Data path: no replica had this position when the time for waiting was over.
    pub fn miss(&self, position: Lsn) {
        self.missed.store(position.0, Ordering::Release);
    }

    /// The position that was last waited for in vain.
    pub fn missed(&self) -> Lsn {
        Lsn(self.missed.load(Ordering::Acquire))
    }

    /// The barrier between replicas and the primary.
    pub fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// Asks for fresh samples and replica positions soon, and returns what wakes when some have moved.
    pub fn want_positions(&self) -> watch::Receiver<u64> {
        let receiver = self.moved.subscribe();
        self.wanted.store(true, Ordering::SeqCst);
        self.wanted_wake.notify_one();
        receiver
    }

    /// Sampler only: whether somebody wants positions; clears the wish.
    pub fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::SeqCst)
    }

    /// Sampler only: wakes when somebody wants positions.
    pub async fn wanted(&self) {
        self.wanted_wake.notified().await;
    }

    /// Sampler only: call *before* the query is sent; returns the sample's number.
    pub fn sample_sent(&self) -> u64 {
        self.samples_sent.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Sampler only: the answer to sample `number`. Call in order of the numbers.
    pub fn sample_done(&self, number: u64, position: Lsn) {
        self.sample_position.store(position.0, Ordering::Release);
        self.sample_done.store(number, Ordering::Release);
        self.moved.send_modify(|count| *count += 1);
    }

    /// Prober and sampler only: what a node has replayed.
    pub fn set_replayed(&self, node: NodeId, position: Lsn) {
        if let Some(slot) = self.replayed.get(node.index()) {
            slot.store(position.0, Ordering::Release);
            self.moved.send_modify(|count| *count += 1);
        }
    }

    /// How often a node has been started, as far as it was noticed.
    pub fn run_of(&self, node: NodeId) -> u64 {
        self.runs.get(node.index()).map_or(0, |run| run.load(Ordering::Acquire))
    }

    /// Prober and sampler only: the node has stopped, or was started anew. After a crash a replica opens as soon as its
    /// files are consistent, and may show less than it showed before: nothing counts any more of what was known of it.
    pub fn stopped(&self, node: NodeId) {
        if let (Some(run), Some(replayed)) = (self.runs.get(node.index()), self.replayed.get(node.index())) {
            run.fetch_add(1, Ordering::AcqRel);
            replayed.store(0, Ordering::Release);
        }
    }

    // ---- suspicion -------------------------------------------------------------------------------------------

    /// Data path: a connection to this node failed. Triggers a probe at once; decides nothing by itself.
    pub fn suspect(&self, node: NodeId) {
        self.suspicions.raise(node);
    }

    /// Which nodes may have died a moment ago.
    #[inline]
    pub fn suspicions(&self) -> &Suspicions {
        &self.suspicions
    }

    // ---- drain -----------------------------------------------------------------------------------------------

    /// Data path: a session has been lent a connection to the primary. Look at the snapshot's service *after* this call
    /// and give the connection back if statements are held by then: a switchover waits for what it sees entered.
    pub fn enter_primary(&self) {
        self.leases.fetch_add(1, Ordering::SeqCst);
    }

    /// Data path: the connection is back in its pool (no transaction is open on it) or gone. Once per `enter_primary`.
    pub fn leave_primary(&self) {
        if self.leases.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.drained.notify_waiters();
        }
    }

    /// How many sessions hold a connection to the primary.
    pub fn primary_leases(&self) -> u64 {
        self.leases.load(Ordering::SeqCst)
    }

    /// Control only: waits until no session holds a connection to the primary, at most for `limit`; whether that came.
    /// Those that are left are broken by the server when the old primary is quiesced.
    pub async fn wait_drained(&self, limit: Duration) -> bool {
        let drained = async {
            loop {
                let woken = self.drained.notified();
                tokio::pin!(woken);
                // Registered before the count is read: a session that leaves in between is not missed.
                woken.as_mut().enable();
                if self.primary_leases() == 0 {
                    return;
                }
                woken.await;
            }
        };
        tokio::time::timeout(limit, drained).await.is_ok()
    }

    // ---- commits in doubt ------------------------------------------------------------------------------------

    /// Data path: where a transaction is entered before its COMMIT is sent.
    pub fn in_doubt(&self) -> &InDoubt {
        &self.in_doubt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Service, Timeline};

    fn board() -> Arc<Board> {
        Board::new(Snapshot {
            version: 1,
            epoch: Epoch(1),
            timeline: Timeline(1),
            fork: Lsn::ZERO,
            system_id: None,
            primary: None,
            service: Service::ReadOnly,
            nodes: Vec::new(),
        })
    }

    #[tokio::test]
    async fn a_drain_ends_with_the_last_session() {
        let board = board();
        assert!(board.wait_drained(Duration::ZERO).await, "nobody is there");
        board.enter_primary();
        board.enter_primary();
        assert!(!board.wait_drained(Duration::from_millis(5)).await);
        let leave = async {
            board.leave_primary();
            tokio::task::yield_now().await;
            board.leave_primary();
        };
        let (drained, ()) = tokio::join!(board.wait_drained(Duration::from_secs(5)), leave);
        assert!(drained);
    }

    #[test]
    fn what_was_told_before_a_change_of_primary_is_not_covered_by_samples_of_the_old_one() {
        let board = board();
        board.acknowledge();
        let (told, number) = (board.acknowledged(), board.sample_sent());
        board.sample_done(number, Lsn(10));
        assert!(board.sample().0 >= told);
        let changed = |epoch| Snapshot { epoch, ..(**board.snapshot()).clone() };
        board.publish(changed(Epoch(1)));
        assert_eq!(board.acknowledged(), told, "the same primary");
        board.publish(changed(Epoch(2)));
        assert!(board.acknowledged() > board.sample().0, "a sample of the new one is needed");
    }

    #[test]
    fn a_sample_asked_for_after_a_ticket_covers_it() {
        let board = board();
        let early = board.sample_sent();
        let ticket = board.ticket();
        board.sample_done(early, Lsn(10));
        assert!(board.sample().0 < ticket);
        let late = board.sample_sent();
        board.sample_done(late, Lsn(20));
        assert_eq!(board.sample(), (ticket, Lsn(20)));
    }
}
