//! The driver's handling of server bytes: on to the client, and what their end or their loss means.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::driver::{Driver, Lost, Phase, Turn, internal};
use super::flow::poll_read;
use super::handle::Doing;
use super::keep_back::Kept;
use super::pool::{ServerConn, UserPool};
use super::resolve::Commit;
use super::worker::Worker;
use crate::model::{NodeId, SqlState};
use crate::observe::Retry;
use crate::session::batch::End;
use crate::session::overlay::Overlay;
use crate::session::{ClientError, Ending, Event, Loss, Plan, Reached, Remains, Step, Stream as StreamKind};
use crate::sql::{Hint, PinCause, Place, Reason};
use crate::wire::TxStatus;

/// How often a read is given up for what looks like recovery before the primary has to answer it: a function may raise
/// the same error on its own account, again and again.
const CONFLICTS_MAX: u8 = 2;

/// A batch that has lost so many servers is not sent to another: it may be what ends them.
const LOSSES_MAX: u8 = 5;

impl Driver {
    /// Reads from the server and hands on. `true`: something happened.
    pub(super) fn poll_server(&mut self, cx: &mut Context<'_>) -> Result<bool, Turn> {
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let have = self.server_in.len();
        if let Some(visit) = self.handle.keeps_back_until() {
            drop(scratch);
            match self.look_at_kept(visit, cx)? {
                Kept::Read => {}
                Kept::Wait => return Ok(false),
                Kept::Given => return Ok(true),
            }
            scratch = worker.scratch.borrow_mut();
        }
        if let Some(front) = scratch.get_mut(..have) {
            front.copy_from_slice(&self.server_in);
        }
        let Some(conn) = &mut self.lease else { return Ok(false) };
        let polled = poll_read(&mut conn.stream, cx, scratch.get_mut(have..).unwrap_or_default());
        match polled {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                drop(scratch);
                self.server_closed()
            }
            Poll::Ready(Err(_)) => {
                drop(scratch);
                self.server_lost(Lost::Broken).map(|()| true)
            }
            Poll::Ready(Ok(len)) => {
                self.stalled_ticks = 0;
                if self.must_keep_back() {
                    self.keep_back(scratch.get(..have + len).unwrap_or_default());
                    return Ok(true);
                }
                self.server_in.clear();
                self.take_answer(scratch.get(..have + len).unwrap_or_default(), cx).map(|()| true)
            }
        }
    }

    pub(super) fn take_answer(&mut self, input: &[u8], cx: &mut Context<'_>) -> Result<(), Turn> {
        let worker = Rc::clone(&self.worker);
        let mut out = worker.out.borrow_mut();
        let mut at = 0;
        loop {
            out.clear();
            let rest = input.get(at..).unwrap_or_default();
            let Some(conn) = &mut self.lease else { return Ok(()) };
            let Ok(relayed) = self.machine.relay(rest, &mut conn.session, &mut out) else {
                tracing::error!(
                    node = conn.session.node.0,
                    "a server broke the protocol; its connection is closed"
                );
                drop(out);
                return self.server_lost(Lost::Broken);
            };
            let bytes =
                if out.is_empty() { rest.get(relayed.forward.clone()).unwrap_or_default() } else { &out };
            let may_commit = |plan: &Plan| plan.commits || plan.place == Place::Primary;
            if !bytes.is_empty() && self.plan.as_ref().is_none_or(may_commit) {
                // It may be the answer to a commit, of which others may hear from this client.
                self.worker.board().acknowledge();
            }
            self.give_client(cx, bytes)?;
            at += relayed.consumed;
            if let Some(written) = self.machine.take_written() {
                self.commit = Some(Commit::new(written, self.worker.board()));
                // From here on a cancel request could only meet the wait for synchronous replicas.
                self.handle.set_committing(true);
            }
            match relayed.event {
                None => {
                    self.server_in.extend_from_slice(rest.get(relayed.consumed..).unwrap_or_default());
                    return Ok(());
                }
                Some(Event::Ready(status)) => {
                    self.finished(status);
                    if self.parked.is_some() {
                        drop(out);
                        self.release();
                        return self.unpark();
                    }
                }
                Some(Event::CopyIn) => self.phase = self.copy_in_phase(),
                Some(Event::Refused(state)) => {
                    drop(out);
                    return self.refused(state);
                }
                Some(Event::Unprepared(_)) if self.phase == Phase::Idle => {
                    drop(out);
                    return self.server_lost(Lost::Broken);
                }
                Some(Event::Unprepared(frame)) => {
                    self.unprepared(&frame);
                    return Ok(());
                }
                Some(Event::Fatal(frame)) => {
                    drop(out);
                    return self.server_ended(&frame);
                }
            }
        }
    }

    /// Where the client's COPY data goes: a simple query ends with it, a pipeline goes on to its next Sync, because the
    /// server ignores the Sync that was sent ahead of the data (manual, 55.2.7).
    fn copy_in_phase(&self) -> Phase {
        let extended = self.plan.as_ref().is_some_and(crate::session::Plan::extended);
        let kind = if extended { StreamKind::Pipeline } else { StreamKind::CopyIn };
        Phase::Streaming { kind, left: 0 }
    }

    /// The batch is answered.
    fn finished(&mut self, status: TxStatus) {
        let failed = self.machine.has_failed();
        if self.plan.as_ref().is_some_and(|plan| plan.doubted) && !failed {
            self.learn();
        }
        let Some(conn) = &mut self.lease else { return };
        let node = conn.session.node;
        let changes = self.machine.finish(status, &mut conn.session);
        if !changes.is_empty() {
            self.database.facts.take(changes);
        }
        self.note_pins();
        self.note_answered(node, failed);
        self.note_freshness(node);
        self.plan = None;
        self.commit = None;
        self.handle.set_committing(false);
        self.batch_kept = false;
        self.refusals = 0;
        self.rest_phase();
        self.set_resting();
        if self.machine.may_release() {
            self.release();
        }
    }

    /// Waits for the client's next batch. What is left of a message that was being streamed is nobody's any more.
    pub(super) fn rest_phase(&mut self) {
        if let Phase::Streaming { left, .. } = self.phase {
            self.client_skip = left;
        }
        self.phase = Phase::Idle;
        self.losses = 0;
    }

    fn note_pins(&self) {
        let (before, now) = (self.handle.pins(), self.machine.pins());
        if before != now {
            now.iter()
                .filter(|&cause| !before.contains(cause))
                .for_each(|cause| self.worker.meter.pinned(cause));
            self.handle.set_pins(now);
        }
    }

    /// Gives the clean connection back to the pool.
    fn release(&mut self) {
        let Some(conn) = self.lease.take() else { return };
        self.handle.set_held(None);
        self.server_in.clear();
        give_back(&self.worker, &self.pool, conn);
    }

    /// The connection is of no more use.
    pub(super) fn discard(&mut self) -> Option<NodeId> {
        let mut conn = self.lease.take()?;
        let node = conn.session.node;
        self.handle.set_held(None);
        self.handle.set_keeps_back_until(None);
        self.server_in.clear();
        self.server_out.clear();
        if self.loaded {
            self.worker.add_load(node, -1);
            self.loaded = false;
        }
        self.worker.left(&mut conn);
        self.pool.discard(conn);
        Some(node)
    }

    /// A replica (or a server that stops) refused a batch that changed nothing: it runs elsewhere.
    fn refused(&mut self, state: SqlState) -> Result<(), Turn> {
        let Some(node) = self.discard() else { return Err(internal("a refusal without a server")) };
        let stopping = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
        if stopping.contains(&state) {
            self.worker.board().suspect(node);
        }
        self.machine.rewind();
        let why = if state == SqlState::SERIALIZATION_FAILURE {
            Retry::RecoveryConflict
        } else {
            Retry::RefusedByReplica
        };
        self.worker.meter.retried(why);
        let conflict = state == SqlState::SERIALIZATION_FAILURE || stopping.contains(&state);
        self.refusals = self.refusals.saturating_add(1);
        if !conflict || self.refusals > CONFLICTS_MAX {
            self.stay_on_primary();
        }
        if state == SqlState::READ_ONLY_SQL_TRANSACTION {
            self.learn();
        } else if let (false, Some(plan)) = (conflict, &mut self.plan) {
            // The primary may refuse it with the same words: then its like are no worse placed on replicas.
            plan.doubted = true;
        }
        self.run_again(Some(node))
    }

    /// Sends the kept batch elsewhere.
    pub(super) fn run_again(&mut self, avoid: Option<NodeId>) -> Result<(), Turn> {
        let Some(plan) = &self.plan else { return Err(internal("a second try without a plan")) };
        let mut request = match self.machine.step(plan, false) {
            Step::Route(request) => request,
            // The end of a transaction that was on a replica: there is nothing left to be ended.
            Step::Local => {
                self.answer_kept();
                return Ok(());
            }
            Step::Held | Step::Move => return Err(internal("a second try that needs no server")),
        };
        request.avoid = avoid;
        self.phase = Phase::Acquiring;
        self.handle.set_doing(Doing::Waiting, self.worker.coarse_now());
        Err(Turn::Acquire(request))
    }

    /// The transaction goes on elsewhere: what it has been doing here is ended, and the connection given back.
    pub(super) fn leave_replica(&mut self) {
        let settings = self.machine.settings_outside();
        if !(self.machine.leave_replica() || self.machine.leave_failed()) {
            return;
        }
        let Some(conn) = self.lease.take() else { return };
        self.handle.set_held(None);
        self.server_in.clear();
        tokio::task::spawn_local(roll_back(Rc::clone(&self.worker), Rc::clone(&self.pool), conn, settings));
    }

    /// The batch in flight goes to the primary, whose word is the last, against any hint.
    fn stay_on_primary(&mut self) {
        if let Some(plan) = &mut self.plan {
            plan.place = Place::Primary;
            plan.reason = Reason::Learned;
            plan.hint = Some(Hint::Primary);
        }
    }

    /// Settings or BEGIN ahead of the batch failed: the client gets that error, and keeps its session.
    fn unprepared(&mut self, frame: &[u8]) {
        self.discard();
        self.refuse_with(frame);
    }

    /// The server said a last word and ends the connection.
    fn server_ended(&mut self, frame: &[u8]) -> Result<(), Turn> {
        let fields = crate::wire::ErrorFields::new(frame.get(5..).unwrap_or_default());
        tracing::debug!(code = ?fields.code(), "a server ended a connection: {}", fields.message());
        self.server_lost(Lost::Closed)
    }

    /// The server connection broke, or nothing counts any more that comes from it.
    pub(super) fn server_lost(&mut self, how: Lost) -> Result<(), Turn> {
        let Some(node) = self.discard() else { return Ok(()) };
        self.worker.board().suspect(node);
        let name = self.node_name(node);
        let sync_sent = match &self.plan {
            Some(plan) if plan.end == End::Query => true,
            Some(plan) if plan.prepares_only() => false,
            _ => self.phase == Phase::Running,
        };
        let idle = self.phase == Phase::Idle;
        if idle && self.machine.leave_replica() {
            // Nothing was running, and what the transaction has done can be repeated anywhere.
            self.machine.freshness.leave_home();
            self.set_resting();
            return Ok(());
        }
        // Temporary tables, locks: going on as if they were there would be a lie.
        let pin = self.machine.lost_pin().map(PinCause::as_str);
        if idle && let Some(pin) = pin {
            return Err(Turn::Fail(ClientError::SessionLost { pin }));
        }
        let often = self.losses >= LOSSES_MAX;
        self.losses = self.losses.saturating_add(u8::from(!idle));
        if self.commit.is_none() && !often && self.replays(how) {
            return Err(Turn::Replay(node));
        }
        if self.commit.is_some() && !idle {
            self.lost_pin = pin;
            return Err(Turn::Resolve(node));
        }
        let Some(plan) = self.plan.take().filter(|_| !idle) else {
            self.machine.connection_lost(&name);
            self.set_resting();
            return self.listen_next();
        };
        let unseen = how == Lost::Unsent || (how == Lost::Closed && self.machine.commit_unseen());
        let loss = if plan.is_commit() && unseen && !self.machine.is_roaming() {
            // Whatever the server said came before its end, and it would have answered what goes ahead of COMMIT first.
            self.machine.lost_commit(Ending::RolledBack, &name, (&[], &plan), &mut self.client_out)
        } else {
            let reached = match how {
                Lost::Unsent => Reached::Nothing,
                _ if unseen => Reached::Undone,
                _ => self.reached,
            };
            let kept = (self.batch_kept && !often).then_some(&*self.batch);
            let held = Remains { kept, sync_sent, reached };
            self.machine.lost(&plan, &name, held, &mut self.client_out)
        };
        match loss {
            Loss::RunAgain => {
                self.plan = Some(plan);
                self.worker.meter.retried(Retry::ConnectionLost);
                self.machine.freshness.leave_home();
                self.listen_next()?;
                self.run_again(Some(node))
            }
            Loss::Answered => {
                self.rest_phase();
                self.batch_kept = false;
                self.set_resting();
                self.unpark()?;
                // What became of the statement has been said; now that the session cannot go on, or how.
                pin.map_or_else(
                    || self.listen_next(),
                    |pin| Err(Turn::Fail(ClientError::SessionLost { pin })),
                )
            }
            Loss::Broken => Err(Turn::Close),
        }
    }

    /// Whether the transaction is to be run again: it cannot have been committed, and it was kept.
    fn replays(&mut self, how: Lost) -> bool {
        let unseen = how == Lost::Unsent || (how == Lost::Closed && self.machine.commit_unseen());
        let in_flight = self.phase != Phase::Idle;
        let may = match &self.plan {
            Some(plan) if in_flight && plan.commits => plan.is_commit() && unseen,
            Some(plan) if in_flight => plan.end != End::Flush && self.batch_kept,
            _ => !in_flight,
        };
        if !may || !self.machine.begin_replay(in_flight) {
            return false;
        }
        // A COMMIT is kept for an answer of ours; now it is to be sent again.
        self.batch_kept = in_flight;
        true
    }

    /// A session that listens takes another connection, before it does anything else.
    pub(super) fn listen_next(&self) -> Result<(), Turn> {
        let deaf = self.machine.listens() && self.lease.is_none() && self.parked.is_none();
        if deaf { Err(Turn::Listen) } else { Ok(()) }
    }

    pub(super) fn node_name(&self, node: NodeId) -> Arc<str> {
        self.worker.shared.links.name(node).unwrap_or_else(|| Arc::from("?"))
    }

    /// The session is over: its connection goes back if it can be made clean.
    pub(super) fn end(mut self) {
        let busy = self.machine.is_busy();
        let in_transaction = self.machine.keeps_status();
        self.pool.leave(self.machine.id());
        self.discard_parked();
        let Some(mut conn) = self.lease.take() else { return };
        if self.loaded {
            self.worker.add_load(conn.session.node, -1);
        }
        conn.session.last_user = 0;
        self.handle.set_held(None);
        let (worker, pool) = (Rc::clone(&self.worker), Rc::clone(&self.pool));
        if busy || in_transaction {
            let node = conn.session.node;
            if busy && !self.handle.is_committing() {
                super::cancel::spawn(&worker, node, conn.key.clone());
            }
            worker.left(&mut conn);
            pool.discard(conn);
            return;
        }
        if conn.session.tainted || pool.is_fresh() {
            worker.left(&mut conn);
            pool.discard(conn);
            return;
        }
        tokio::task::spawn_local(clean(worker, pool, conn));
    }
}

/// Gives a clean connection to the pool, unless nothing counts any more that comes from its node.
pub(super) fn give_back(worker: &Rc<Worker>, pool: &Rc<UserPool>, mut conn: Box<ServerConn>) {
    worker.left(&mut conn);
    if conn.session.tainted || worker.is_fenced(&conn) {
        pool.discard(conn);
        return;
    }
    if conn.cancels.get() > 0 {
        // A cancel request is on its way to it: it must not hit the next client's statement.
        let pool = Rc::clone(pool);
        tokio::task::spawn_local(async move {
            super::cancel::settled(&conn).await;
            pool.give_back(conn);
        });
        return;
    }
    pool.give_back(conn);
}

/// Cleans a connection that a session leaves behind with state in it, and gives it back.
async fn clean(worker: Rc<Worker>, pool: Rc<UserPool>, mut conn: Box<ServerConn>) {
    let cleaned = super::query::rows(&mut conn.stream, "DISCARD ALL");
    let limit = std::time::Duration::from_secs(5);
    if matches!(tokio::time::timeout(limit, cleaned).await, Ok(Ok((_, TxStatus::Idle)))) {
        conn.session = crate::session::ServerSession::new(conn.session.node);
        give_back(&worker, &pool, conn);
    } else {
        worker.left(&mut conn);
        pool.discard(conn);
    }
}

/// Ends the transaction that a session has left on a connection, which then has these settings again, and gives it back.
async fn roll_back(worker: Rc<Worker>, pool: Rc<UserPool>, mut conn: Box<ServerConn>, settings: Overlay) {
    let rolled_back = super::query::rows(&mut conn.stream, "ROLLBACK");
    let limit = std::time::Duration::from_secs(5);
    if matches!(tokio::time::timeout(limit, rolled_back).await, Ok(Ok((_, TxStatus::Idle)))) {
        conn.session.applied = settings;
        conn.session.unnamed = None;
        give_back(&worker, &pool, conn);
    } else {
        worker.left(&mut conn);
        pool.discard(conn);
    }
}
