//! The driver's part in the freshness of reads: what the session has to see is brought up to the board's positions before
//! each decision, and what it has seen is noted after each answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use super::acquire::Refusal;
use super::driver::Driver;
use crate::clock;
use crate::control::Board;
use crate::model::{Lsn, NodeId, Service, Snapshot};
use crate::route::{self, Consistency, Floor, Request, TransactionRouting};
use crate::session::{ClientError, Freshness, Machine, Moment, Plan};

/// A sample that does not come is asked for again after this long.
const SAMPLE_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The routing settings in force, and what of them holds for this session.
#[derive(Debug, Default)]
pub(super) struct Routing {
    all: Arc<route::Settings>,
    pub(super) own: Arc<route::Settings>,
    /// The lease was chosen without a look at what the session has to see.
    glimpses: bool,
}

/// What a session that signs in now has to see. The first sample of a process counts for what was told by its
/// predecessor, from which the client may have come.
pub(super) fn entered(board: &Board) -> Freshness {
    let epoch = board.snapshot().epoch;
    let mut freshness = Freshness::entered(epoch, board.acknowledged().max(1));
    let sample = board.sample();
    // A sample of another primary is held against what another primary acknowledged, later.
    if board.snapshot().epoch == epoch {
        freshness.settle(sample);
    }
    freshness
}

/// What a replica has to show of what others were told before the session signed in. With no primary to be had nobody can
/// say how far that was, and perhaps no replica ever gets there: the last position that is known counts then, and no more
/// than the furthest replica has.
fn entry(freshness: &Freshness, board: &Board, snapshot: &Snapshot) -> Floor {
    let entry = freshness.entry();
    if snapshot.service != Service::ReadOnly {
        return entry;
    }
    let (_, last) = board.sample();
    let known = entry.settled((u64::MAX, last)).position().unwrap_or_default();
    let readable = snapshot.nodes.iter().filter(|node| node.unreadable.is_none() && node.weight > 0);
    let furthest = readable.map(|node| board.replayed(node.id)).max().unwrap_or(Lsn::ZERO);
    Floor::at(known.min(furthest))
}

impl Driver {
    /// Takes a reload in, and what configuration says about sessions like this one.
    pub(super) fn follow_settings(&mut self, request: &mut Request) {
        let all = self.worker.shared.route.load();
        if !Arc::ptr_eq(&all, &self.routing.all) {
            let own = all.for_session(&self.pool.user, &self.pool.database);
            self.machine.set_optimistic(own.transactions == TransactionRouting::Optimistic);
            self.routing = Routing { all: Arc::clone(&all), own, ..Routing::default() };
        }
        request.hint = request.hint.or(self.routing.own.hint);
    }

    /// The promise that holds for this request.
    pub(super) fn consistency(&self, request: &Request) -> Consistency {
        request.consistency.unwrap_or(self.routing.own.consistency)
    }

    /// What a request that arrives now has to see of what others were told.
    pub(super) fn arrival(&self, request: &Request) -> Floor {
        match self.consistency(request) {
            Consistency::Global => Floor::ticket(self.worker.board().acknowledged()),
            _ => Floor::NONE,
        }
    }

    /// Brings what the session has to see up to the snapshot and the newest sample.
    pub(super) fn refresh(&mut self, request: &mut Request, arrived: &mut Floor, snapshot: &Snapshot) {
        self.routing.glimpses = self.consistency(request) == Consistency::Eventual;
        if self.routing.glimpses {
            (request.floor, request.home) = (Floor::NONE, None);
            return;
        }
        let board = self.worker.board();
        let sample = board.sample();
        let freshness = &mut self.machine.freshness;
        freshness.follow(snapshot.epoch, snapshot.fork, board.ticket());
        freshness.settle(sample);
        let entry = entry(freshness, board, snapshot);
        if let Some(home) = freshness.home() {
            let serves = snapshot.node(home.node).is_some_and(|node| node.unreadable.is_none() && node.weight > 0)
                    // It may have been chosen while there was no primary to ask.
                    && entry.is_covered(board.replayed(home.node), sample);
            if !serves || board.run_of(home.node) != home.run || request.avoid == Some(home.node) {
                freshness.leave_home();
            }
        }
        // Once a sample has come that covers them, commits of others that follow are none of this request's concern.
        *arrived = arrived.settled(sample);
        request.home = freshness.home().map(|home| home.node);
        request.floor = freshness.floor().and(entry).and(*arrived);
    }

    /// The time for waiting is over, and no replica has what the session has to see.
    pub(super) fn waited_in_vain(&self, request: &mut Request) {
        request.waited = true;
        let board = self.worker.board();
        if let Some(position) = request.floor.settled(board.sample()).position() {
            board.miss(position);
        }
    }

    /// Whether the position of everything that the session has seen has to be waited for.
    pub(super) fn must_settle(&mut self, plan: &Plan) -> bool {
        Machine::asks_position(plan) && self.position_is_open()
    }

    fn position_is_open(&mut self) -> bool {
        let board = self.worker.board();
        let snapshot = board.snapshot();
        let freshness = &mut self.machine.freshness;
        freshness.follow(snapshot.epoch, snapshot.fork, board.ticket());
        freshness.settle(board.sample());
        freshness.floor().position().is_none()
    }

    /// Waits for a sample that covers everything the session has seen.
    pub(super) async fn settle(&mut self) -> Result<(), Refusal> {
        let started = clock::now();
        let limit = self.worker.shared.settings.load().limits.hold_timeout;
        loop {
            let mut moved = self.worker.board().want_positions();
            if !self.position_is_open() {
                return Ok(());
            }
            let waited = clock::now().duration_since(started);
            if waited >= limit {
                return Err(Refusal::Error(ClientError::NoPrimary { waited }));
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = tokio::time::sleep(SAMPLE_AGAIN_AFTER) => {}
                gone = poll_fn(|cx| self.poll_gone(cx)) => return Err(gone),
            }
        }
    }

    /// Answers the kept batch without a server.
    pub(super) fn answer_kept(&mut self) {
        let Some(plan) = self.plan.take() else { return };
        let batch = std::mem::take(&mut self.batch);
        let facts = self.facts();
        self.machine.answer(&batch, &plan, &facts, &mut self.client_out);
        self.batch_kept = false;
        self.rest_phase();
        self.set_resting();
    }

    /// Something was answered by this node.
    pub(super) fn note_freshness(&mut self, node: NodeId) {
        let board = self.worker.board();
        let ticket = board.ticket();
        let on_primary = self.worker.topology().primary == Some(node);
        if on_primary {
            self.machine.freshness.ran_on_primary(ticket);
        } else {
            let moment = Moment { ticket, round: board.rounds().next(), run: board.run_of(node) };
            if self.routing.glimpses {
                self.machine.freshness.glimpsed(node, moment);
            } else {
                self.machine.freshness.read_on(node, moment);
                self.worker.note_replica_read();
            }
        }
    }
}
