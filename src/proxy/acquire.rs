//! The driver's waiting: for a primary, for a replica to catch up, for a server connection.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::driver::Driver;
use super::handle::Kick;
use super::hang_ups::HangUps;
use super::line::Place;
use super::pool::{AcquireError, ServerConn};
use super::server::ConnectError;
use crate::clock;
use crate::model::{NodeId, Snapshot};
use crate::observe::{self, WaitEnd};
use crate::route::{Decision, Floor, Request, RouteReason};
use crate::session::ClientError;
use crate::session::client_error::HoldLimit;

/// Why a batch gets no server connection.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client gets this error of ours.
    Error(ClientError),
    /// The client gets this ErrorResponse of a server.
    Server(Vec<u8>),
    /// The client is gone.
    Gone,
}

/// How long after a failed attempt the same node is tried again, where nothing else wakes the session.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl Driver {
    /// A connection for this request, where one can be had without waiting.
    pub(super) fn lease_now(&mut self, mut request: Request) -> Option<Box<ServerConn>> {
        if self.database.gate.is_closed() {
            return None;
        }
        let worker = Rc::clone(&self.worker);
        let snapshot = worker.topology();
        self.follow_settings(&mut request);
        if self.may_wait_for_facts(&request) {
            return None;
        }
        let mut arrived = self.arrival(&request);
        self.refresh(&mut request, &mut arrived, &snapshot);
        let (node, reason) = match worker.decide(&request, &snapshot, &self.routing.own) {
            Decision::Primary(_) if self.must_pass_barrier(&request) => return None,
            // The session's own connection is what it has there.
            Decision::Primary(_) if self.parked.is_some() => return self.take_parked(),
            Decision::Primary(reason) => (snapshot.writable_primary()?, reason),
            Decision::Replica(node, reason) => (node, reason),
            Decision::WaitForReplica | Decision::Nowhere => return None,
        };
        let mut conn = self.pool.take_idle(node, &self.profile, self.machine.id())?;
        conn.epoch = snapshot.epoch;
        drop(snapshot);
        self.enter(conn, reason)
    }

    /// Counts the decision, and the lease for the drain before a switchover. `None`: that has just begun.
    fn enter(&mut self, mut conn: Box<ServerConn>, reason: RouteReason) -> Option<Box<ServerConn>> {
        if !self.worker.entered(&mut conn) {
            super::answer::give_back(&self.worker, &self.pool, conn);
            return None;
        }
        self.worker.meter.route(conn.session.node, reason);
        self.note_route(reason);
        Some(conn)
    }

    /// Gets a connection for the batch, waiting for what it needs. Watches the client meanwhile.
    pub(super) async fn acquire(&mut self, mut request: Request) -> Result<(), Refusal> {
        let started = clock::now();
        self.follow_settings(&mut request);
        if self.may_wait_for_facts(&request) {
            self.wait_for_facts(&mut request).await?;
        }
        let mut wait = Wait {
            request,
            arrived: self.arrival(&request),
            started,
            held: false,
            place: None,
            bytes: self.batch.len() as u64,
            catching_up: None,
            hang_ups: HangUps::default(),
        };
        let outcome = self.acquire_inner(&mut wait).await;
        if wait.held {
            let (count, bytes) = self.worker.holds.get();
            self.worker.holds.set((count.saturating_sub(1), bytes.saturating_sub(wait.bytes)));
            let end = if outcome.is_ok() { WaitEnd::Served } else { WaitEnd::TimedOut };
            self.worker.meter.wait_ended(observe::Wait::Primary, end, clock::now().duration_since(started));
        }
        self.note_waited(clock::now().duration_since(started));
        let conn = outcome?;
        self.hold_lease(conn);
        Ok(())
    }

    async fn acquire_inner(&mut self, wait: &mut Wait) -> Result<Box<ServerConn>, Refusal> {
        let mut changes = self.worker.board().changes();
        let hold_timeout = self.worker.shared.settings.load().limits.hold_timeout;
        loop {
            self.wait_at_gate().await?;
            changes.mark_unchanged();
            let snapshot = self.worker.board().snapshot().clone();
            self.refresh(&mut wait.request, &mut wait.arrived, &snapshot);
            let decision = self.worker.decide(&wait.request, &snapshot, &self.routing.own);
            let target = match decision {
                Decision::Primary(_) if self.must_pass_barrier(&wait.request) => {
                    self.wait_at_barrier(wait.started, &snapshot).await?;
                    continue;
                }
                Decision::Primary(reason) => {
                    if let Some(conn) = self.take_parked() {
                        wait.stop_catching_up();
                        return Ok(conn);
                    }
                    snapshot.writable_primary().map(|node| (node, reason))
                }
                Decision::Replica(node, reason) => Some((node, reason)),
                Decision::WaitForReplica => {
                    self.wait_for_replica(wait).await?;
                    continue;
                }
                Decision::Nowhere => None,
            };
            wait.stop_catching_up();
            if self.waits_in_line(wait, target.is_some()) {
                let left = hold_timeout.saturating_sub(clock::now().duration_since(wait.started));
                if left.is_zero() {
                    return Err(Refusal::Error(self.nobody(decision, wait)));
                }
                self.stand_in_line(wait, left).await?;
                continue;
            }
            let left = hold_timeout.saturating_sub(clock::now().duration_since(wait.started));
            let pause = match target {
                Some((node, reason)) => {
                    let conn = self.try_node(node, &snapshot, wait).await?;
                    if let Some(conn) = conn.and_then(|conn| self.enter(conn, reason)) {
                        return Ok(conn);
                    }
                    RETRY_PAUSE.min(left)
                }
                None => left,
            };
            if left.is_zero() {
                return Err(Refusal::Error(self.nobody(decision, wait)));
            }
            self.count_hold(wait)?;
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
                gone = poll_fn(|cx| self.poll_gone(cx)) => return Err(gone),
            }
        }
    }

    /// Whether there is a node now, and others of the pool have waited longer for it.
    fn waits_in_line(&self, wait: &Wait, found: bool) -> bool {
        let abreast = self.abreast();
        found && wait.place.as_ref().is_some_and(|place| !place.is_turn(abreast))
    }

    /// How many of a pool go for a connection at a time: as many as it may have.
    fn abreast(&self) -> usize {
        let settings = self.worker.shared.settings.load();
        settings.pool.size_max.div_ceil(settings.workers.max(1)).max(1) as usize
    }

    async fn stand_in_line(&mut self, wait: &Wait, left: Duration) -> Result<(), Refusal> {
        let Some(place) = &wait.place else { return Ok(()) };
        tokio::select! {
            () = place.moved() => Ok(()),
            () = tokio::time::sleep(left) => Ok(()),
            gone = poll_fn(|cx| self.poll_gone(cx)) => Err(gone),
        }
    }

    fn nobody(&self, decision: Decision, wait: &Wait) -> ClientError {
        let board = self.worker.board();
        let primary = board.snapshot().writable_primary();
        if let Some(ended) = primary.and_then(|node| wait.hang_ups.at_the_end(node, board)) {
            return ended;
        }
        match decision {
            Decision::Nowhere => ClientError::NoReplica,
            _ => ClientError::NoPrimary { waited: clock::now().duration_since(wait.started) },
        }
    }

    /// One attempt at a node. `None`: it cannot be reached; its failure is reported.
    async fn try_node(
        &mut self,
        node: NodeId,
        snapshot: &Snapshot,
        wait: &mut Wait,
    ) -> Result<Option<Box<ServerConn>>, Refusal> {
        let (pool, profile) = (Rc::clone(&self.pool), Rc::clone(&self.profile));
        let run = self.worker.board().run_of(node);
        let session = self.machine.id();
        let acquired = tokio::select! {
            acquired = pool.acquire(node, (&profile, session), snapshot.epoch) => acquired,
            gone = poll_fn(|cx| self.poll_gone(cx)) => return Err(gone),
        };
        match acquired {
            Ok(mut conn) => {
                let board = self.worker.board();
                if board.snapshot().epoch != snapshot.epoch || board.run_of(node) != run {
                    // The primary changed meanwhile, and this may be the old one; or the node was started anew, and may
                    // show less than what was decided by.
                    self.pool.discard(conn);
                    return Ok(None);
                }
                conn.epoch = snapshot.epoch;
                Ok(Some(conn))
            }
            Err(AcquireError::Timeout(waited)) => Err(Refusal::Error(ClientError::PoolTimeout { waited })),
            Err(AcquireError::TooManyWaiters) => {
                let waiters_max = self.worker.shared.settings.load().pool.waiters_max;
                Err(Refusal::Error(ClientError::TooManyWaiters { waiters_max }))
            }
            Err(AcquireError::Connect(error)) => self.connect_failed(node, snapshot, error, wait),
        }
    }

    fn connect_failed(
        &self,
        node: NodeId,
        snapshot: &Snapshot,
        error: ConnectError,
        wait: &mut Wait,
    ) -> Result<Option<Box<ServerConn>>, Refusal> {
        if error.node_is_suspect() {
            let board = self.worker.board();
            board.suspect(node);
            if snapshot.primary != Some(node) {
                wait.request.avoid = Some(node);
            } else if let Some(ended) =
                wait.hang_ups.one_too_many((node, &self.node_name(node)), &error, board)
            {
                return Err(Refusal::Error(ended));
            }
            return Ok(None);
        }
        tracing::warn!(node = %self.node_name(node), user = %self.pool.user, database = %self.pool.database, %error,
            "cannot open a server connection");
        if error.credential_is_doubtful() {
            // The password may have been changed since the client proved that it knows it.
            self.worker.shared.verifiers.distrust(&self.pool.user);
        }
        let fault = error.fault();
        match error {
            ConnectError::Refused { frame, .. } => Err(Refusal::Server(frame)),
            _ => Err(Refusal::Error(ClientError::ServerSignIn {
                node: self.node_name(node).to_string(),
                user: self.pool.user.to_string(),
                fault,
            })),
        }
    }

    /// Waits until positions move, at most for what is left of `causal_wait`.
    async fn wait_for_replica(&mut self, wait: &mut Wait) -> Result<(), Refusal> {
        let limit = self.routing.own.causal_wait;
        let left = limit.saturating_sub(clock::now().duration_since(wait.started));
        if left.is_zero() {
            self.waited_in_vain(&mut wait.request);
            return Ok(());
        }
        if wait.catching_up.is_none() {
            wait.catching_up = Some(self.worker.meter.waiting(observe::Wait::Freshness));
        }
        let mut moved = self.worker.board().want_positions();
        tokio::select! {
            _ = moved.changed() => {}
            () = tokio::time::sleep(left) => self.waited_in_vain(&mut wait.request),
            gone = poll_fn(|cx| self.poll_gone(cx)) => return Err(gone),
        }
        Ok(())
    }

    /// Takes a place among those who wait for a primary.
    fn count_hold(&self, wait: &mut Wait) -> Result<(), Refusal> {
        if wait.held {
            return Ok(());
        }
        let settings = self.worker.shared.settings.load();
        let workers = settings.workers.max(1);
        let (count, bytes) = self.worker.holds.get();
        if count >= settings.limits.holds_max.div_ceil(workers) {
            self.worker.meter.wait_refused(observe::Wait::Primary);
            let limit = HoldLimit::Statements(settings.limits.holds_max);
            return Err(Refusal::Error(ClientError::TooManyHolds { limit }));
        }
        if bytes + wait.bytes > settings.limits.hold_bytes_max / u64::from(workers) {
            self.worker.meter.wait_refused(observe::Wait::Primary);
            let limit = HoldLimit::Bytes(settings.limits.hold_bytes_max);
            return Err(Refusal::Error(ClientError::TooManyHolds { limit }));
        }
        self.worker.holds.set((count + 1, bytes + wait.bytes));
        wait.held = true;
        wait.place = Some(self.pool.line.join());
        self.worker.meter.wait_began(observe::Wait::Primary);
        Ok(())
    }

    /// Ready when the client has gone, or gives its statement up.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        self.handle.register(cx);
        if self.handle.has(Kick::Killed) {
            return Poll::Ready(Refusal::Error(ClientError::Killed));
        }
        if self.handle.take(Kick::Cancel) {
            return Poll::Ready(Refusal::Error(ClientError::Cancelled));
        }
        match self.poll_ahead(cx) {
            Err(_) => Poll::Ready(Refusal::Gone),
            // Once more, so that the next bytes wake the session too.
            Ok(true) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(false) => Poll::Pending,
        }
    }
}

/// One batch's wait.
struct Wait {
    request: Request,
    /// What others had been told when the batch arrived, as far as it has to see that.
    arrived: Floor,
    started: Instant,
    /// It is counted among those who wait for a primary.
    held: bool,
    /// Its place among those of its pool.
    place: Option<Place>,
    bytes: u64,
    /// It has waited for a replica to catch up.
    catching_up: Option<observe::Waiting>,
    hang_ups: HangUps,
}

impl Wait {
    /// The wait for a replica to catch up is over, if there was one.
    fn stop_catching_up(&mut self) {
        if let Some(waiting) = self.catching_up.take() {
            waiting.ended(if self.request.waited { WaitEnd::TimedOut } else { WaitEnd::Served });
        }
    }
}
