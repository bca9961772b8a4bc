//! The driver's wait between a read on a replica and what follows it on the primary, where the session was promised never
//! to go back in time: until the primary shows everything that the replica had shown.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use super::acquire::Refusal;
use super::driver::Driver;
use crate::clock;
use crate::model::{NodeId, Role, Snapshot};
use crate::observe::{self, WaitEnd};
use crate::route::{Consistency, Request, Transaction};
use crate::session::{Ahead, ClientError, Moment};

/// A round that failed is asked for again after this long.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

impl Driver {
    /// Whether the session may not go on on the primary yet.
    pub(super) fn must_pass_barrier(&mut self, request: &Request) -> bool {
        // Within one transaction nobody expects to go back in time, whatever is promised between transactions.
        let moved = matches!(request.transaction, Transaction::Deferred { moved: true, .. });
        if self.consistency(request) != Consistency::Strict && !moved {
            return false;
        }
        let Some(Ahead { node, round, run }) = self.machine.freshness.ahead() else { return false };
        let board = self.worker.board();
        // Started anew, the replica may have said less than it had shown.
        if board.run_of(node) == run && board.rounds().has_passed(node, round) {
            self.machine.freshness.caught_up();
            return false;
        }
        true
    }

    /// Waits for a round of the barrier, once; the caller looks again.
    pub(super) async fn wait_at_barrier(
        &mut self,
        started: Instant,
        snapshot: &Snapshot,
    ) -> Result<(), Refusal> {
        let limit = self.worker.shared.settings.load().limits.hold_timeout;
        let waited = clock::now().duration_since(started);
        let left = limit.saturating_sub(waited);
        if left.is_zero() {
            return Err(Refusal::Error(ClientError::PrimaryBehind { waited }));
        }
        self.choose_witness(snapshot);
        let waiting = self.worker.meter.waiting(observe::Wait::Barrier);
        let mut moved = self.worker.board().rounds().want();
        let mut changes = self.worker.board().changes();
        tokio::select! {
            _ = moved.changed() => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep(AGAIN_AFTER.min(left)) => {}
            gone = poll_fn(|cx| self.poll_gone(cx)) => return Err(gone),
        }
        waiting.ended(WaitEnd::Served);
        Ok(())
    }

    /// The replica that served the read is asked; where it is gone or was started anew, any other that has replayed as
    /// much by now shows as much.
    fn choose_witness(&mut self, snapshot: &Snapshot) {
        let worker = std::rc::Rc::clone(&self.worker);
        let board = worker.board();
        let Some(ahead) = self.machine.freshness.ahead() else { return };
        let serves = |id: NodeId| {
            snapshot.node(id).is_some_and(|node| node.role == Role::Replica && node.unreadable.is_none())
        };
        if serves(ahead.node) && board.run_of(ahead.node) == ahead.run {
            return;
        }
        let floor = self.machine.freshness.floor();
        let has_it = |id: NodeId| floor.is_covered(board.replayed(id), board.sample());
        let other = snapshot.nodes.iter().map(|node| node.id).find(|&id| serves(id) && has_it(id));
        if let Some(node) = other {
            let (ticket, round, run) = (board.ticket(), board.rounds().next(), board.run_of(node));
            self.machine.freshness.ask_instead(node, Moment { ticket, round, run });
        } else {
            drop(board.want_positions());
        }
    }
}
