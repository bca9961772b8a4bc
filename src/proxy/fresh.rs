//! The driver's part in the freshness of reads: what the session has to see is brought up to the board's positions before
//! each decision, and what it has seen is noted after each answer.

use super::driver::Driver;
use crate::model::{NodeId, Snapshot};
use crate::route::{Consistency, Floor, Request};
use crate::session::Moment;

impl Driver {
    /// The promise that holds for this request.
    pub(super) fn consistency(&self, request: &Request) -> Consistency {
        request.consistency.unwrap_or_else(|| self.worker.shared.route.load().consistency)
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
        let consistency = self.consistency(request);
        if consistency == Consistency::Eventual {
            (request.floor, request.home) = (Floor::NONE, None);
            return;
        }
        let board = self.worker.board();
        let sample = board.sample();
        let freshness = &mut self.machine.freshness;
        freshness.follow(snapshot.epoch, snapshot.fork, board.ticket());
        freshness.settle(sample);
        if let Some(home) = freshness.home() {
            let serves =
                snapshot.node(home.node).is_some_and(|node| node.unreadable.is_none() && node.weight > 0);
            if !serves || board.run_of(home.node) != home.run || request.avoid == Some(home.node) {
                freshness.leave_home();
            }
        }
        // Once a sample has come that covers them, commits of others that follow are none of this request's concern.
        *arrived = arrived.settled(sample);
        request.home = freshness.home().map(|home| home.node);
        request.floor = freshness.floor().and(*arrived);
    }

    /// The time for waiting is over, and no replica has what the session has to see.
    pub(super) fn waited_in_vain(&self, request: &mut Request) {
        request.waited = true;
        let board = self.worker.board();
        if let Some(position) = request.floor.settled(board.sample()).position() {
            board.miss(position);
        }
    }

    /// Something was answered by this node.
    pub(super) fn note_freshness(&mut self, node: NodeId) {
        let board = self.worker.board();
        let ticket = board.ticket();
        if board.snapshot().primary == Some(node) {
            self.machine.freshness.ran_on_primary(ticket);
        } else {
            let moment = Moment { ticket, round: board.rounds().next(), run: board.run_of(node) };
            self.machine.freshness.read_on(node, moment);
            self.worker.note_replica_read();
        }
    }
}
