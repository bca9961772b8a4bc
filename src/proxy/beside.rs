//! Reads that run on a replica while the session's own connection, which it is tied to, waits.

use super::driver::{Driver, Lost, Phase, Turn};
use super::pool::ServerConn;
use crate::session::{Plan, Step};

impl Driver {
    /// What to do with a judged batch. A transaction that cannot go on on its replica has left it.
    pub(super) fn step(&mut self, plan: &Plan) -> Step {
        let step = match self.machine.step(plan, self.lease.is_some()) {
            Step::Move => {
                self.machine.let_reading_go();
                self.leave_replica();
                self.machine.step(plan, self.lease.is_some())
            }
            step => step,
        };
        // A read leaves the session's own connection only where nothing that came on it waits for its rest.
        let whole = self.server_in.is_empty() && self.server_out.is_empty();
        match step {
            Step::Route(_) if self.lease.is_some() && !whole => Step::Held,
            step => step,
        }
    }

    /// Puts the connection that the session is tied to aside: the batch may run on a replica instead.
    pub(super) fn park(&mut self) {
        self.parked = self.lease.take();
        self.handle.set_held(None);
    }

    /// The connection that was put aside, for a batch that runs on it after all.
    pub(super) fn take_parked(&mut self) -> Option<Box<ServerConn>> {
        self.parked.take()
    }

    /// Tells the machine whether the batch that goes out runs beside the connection that the session is tied to.
    pub(super) fn note_beside(&mut self) {
        self.machine.set_beside(self.parked.is_some());
    }

    /// The batch beside it is over: the session is back on its own connection.
    pub(super) fn unpark(&mut self) -> Result<(), Turn> {
        let Some(conn) = self.parked.take() else { return Ok(()) };
        self.machine.set_beside(false);
        let fenced = self.worker.is_fenced(&conn);
        self.hold_lease(conn);
        if fenced { self.server_lost(Lost::Broken) } else { Ok(()) }
    }

    /// No replica could be had: the batch runs on the connection that was put aside. `false`: there is none.
    pub(super) fn back_to_parked(&mut self) -> bool {
        let Some(conn) = self.take_parked() else { return false };
        self.hold_lease(conn);
        self.phase = Phase::Leased;
        true
    }

    /// Gives the connection up that was put aside.
    pub(super) fn discard_parked(&mut self) {
        if let Some(mut conn) = self.parked.take() {
            self.worker.left(&mut conn);
            self.pool.discard(conn);
        }
    }
}
