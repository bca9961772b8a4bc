//! Carries one client's session: reads, asks the machine, does what it says.
//!
//! One client is one task, and the task does the I/O on the server connection that it holds. `poll` does everything
//! that needs no waiting for others in one go; what has to wait (for a connection, a primary, a replica to catch up)
//! is a `Turn` that the loop in `run` takes. Cancellation-safe: dropping the future closes both connections.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::acquire::Refusal;
use super::fresh::Routing;
use super::handle::{Doing, Handle, Held, Kick};
use super::pool::{Profile, ServerConn, UserPool};
use super::resolve::Commit;
use super::stream::Stream;
use super::timing::Timing;
use super::worker::{Database, Worker};
use crate::model::{NodeId, Role};
use crate::observe::Origin;
use crate::route::Request;
use crate::session::batch::{Lookahead, Scanner};
use crate::session::{ClientError, Hold, Machine, Plan, Reached, Stream as StreamKind, Tx};
use crate::wire::encode;

/// Longest SQL text that is gathered whole, in bytes; longer ones stream to the primary and tie the session.
pub(super) const TEXT_MAX: usize = 16 * 1024 * 1024;

/// What a resting session keeps of its buffers at most, in bytes.
const REST_CAPACITY_MAX: usize = 8 * 1024;

/// A statement whose replica is found silent at so many ticks in a row is given up.
const STALLED_TICKS_MAX: u8 = 10;

/// What the session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client's next batch.
    Idle,
    /// A server connection for the kept batch; `acquire` is at it.
    Acquiring,
    /// Nothing: the kept batch goes out.
    Leased,
    /// The server's answer.
    Running,
    /// Both: the client goes on sending what the server takes.
    Streaming { kind: StreamKind, left: usize },
}

/// How a server connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The server closed it, after everything that it had to say.
    Closed,
    /// It broke, or was fenced: what the server had to say may be lost.
    Broken,
    /// Not a byte of the batch was sent.
    Unsent,
}

/// What the loop has to do.
#[derive(Debug)]
pub(super) enum Turn {
    /// Get a server connection for this request.
    Acquire(Request),
    /// The client is gone, or cannot go on.
    Close,
    /// Tell the client this last error.
    Fail(ClientError),
    /// Find out what became of the COMMIT that was running on this node.
    Resolve(NodeId),
    /// Listen for notifications on another connection, then go on.
    Listen,
    /// Run the transaction again that was lost with this node.
    Replay(NodeId),
    /// Find the position that covers everything the session has seen, and answer the kept batch with it.
    Settle,
}

/// What follows a turn.
enum Next {
    Turn(Turn),
    End,
}

/// Ends the session with an error of ours: a rule of our own was broken.
pub(super) fn internal(what: &'static str) -> Turn {
    Turn::Fail(ClientError::Internal { what })
}

/// One client's session.
#[derive(Debug)]
pub struct Driver {
    pub(super) worker: Rc<Worker>,
    pub(super) handle: Rc<Handle>,
    pub(super) client: Stream,
    pub(super) machine: Machine,
    pub(super) scanner: Scanner,
    pub(super) lookahead: Lookahead,
    pub(super) pool: Rc<UserPool>,
    pub(super) database: Rc<Database>,
    pub(super) profile: Rc<Profile>,
    pub(super) routing: Routing,
    pub(super) lease: Option<Box<ServerConn>>,
    /// The connection that the session is tied to, while a read runs on a replica.
    pub(super) parked: Option<Box<ServerConn>>,
    pub(super) phase: Phase,
    pub(super) plan: Option<Plan>,
    /// The batch in flight, where it may have to be sent again or has not been sent yet.
    pub(super) batch: Vec<u8>,
    pub(super) batch_kept: bool,
    /// How often the batch in flight has lost its server.
    pub(super) losses: u8,
    pub(super) client_in: Vec<u8>,
    /// Bytes of a message that nobody wants.
    pub(super) client_skip: usize,
    pub(super) client_out: Vec<u8>,
    pub(super) server_in: Vec<u8>,
    pub(super) server_out: Vec<u8>,
    /// The commit that is running, where its outcome can be found out if its server is lost.
    pub(super) commit: Option<Commit>,
    /// What tied the session to the connection on which that commit was lost.
    pub(super) lost_pin: Option<&'static str>,
    /// How often the batch in flight was refused by a server.
    pub(super) refusals: u8,
    /// Where the batch in flight was sent to.
    pub(super) reached: Reached,
    /// The load counter of this node was raised for the batch in flight.
    pub(super) loaded: bool,
    /// When the batch and its transaction began, and why they run where they do.
    pub(super) timing: Timing,
    /// How many ticks the replica has been found silent since it said anything.
    pub(super) stalled_ticks: u8,
}

/// Whatever ends a session, even a bug of ours: its server connection is not lost to the pool's count.
impl Drop for Driver {
    fn drop(&mut self) {
        self.discard();
        self.discard_parked();
    }
}

/// What a driver is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its worker.
    pub worker: Rc<Worker>,
    /// Its place in the registry.
    pub handle: Rc<Handle>,
    /// The client, signed in and greeted.
    pub client: Stream,
    /// What it has sent already.
    pub ahead: Vec<u8>,
    /// Its session.
    pub machine: Machine,
    /// Server connections of its database and role.
    pub pool: Rc<UserPool>,
    /// Its database.
    pub database: Rc<Database>,
    /// Settings that its server connections are started with.
    pub profile: Rc<Profile>,
}

impl Driver {
    /// A session that has just been greeted.
    pub fn new(parts: Parts) -> Self {
        let batch_max = parts.worker.shared.settings.load().limits.batch_max as usize;
        Self {
            worker: parts.worker,
            handle: parts.handle,
            client: parts.client,
            machine: parts.machine,
            scanner: Scanner::default(),
            lookahead: Lookahead { batch_max, text_max: TEXT_MAX },
            pool: parts.pool,
            database: parts.database,
            profile: parts.profile,
            routing: Routing::default(),
            lease: None,
            parked: None,
            phase: Phase::Idle,
            plan: None,
            batch: Vec::new(),
            batch_kept: false,
            losses: 0,
            client_in: parts.ahead,
            client_skip: 0,
            client_out: Vec::new(),
            server_in: Vec::new(),
            server_out: Vec::new(),
            commit: None,
            lost_pin: None,
            refusals: 0,
            reached: Reached::Nothing,
            loaded: false,
            timing: Timing::default(),
            stalled_ticks: 0,
        }
    }

    /// Serves the client until it leaves or has to.
    pub async fn run(mut self: Box<Self>) {
        loop {
            let mut turn = poll_fn(|cx| self.poll(cx)).await;
            // One turn may lead to another.
            while let Some(next) = self.take(turn).await {
                turn = match next {
                    Next::Turn(turn) => turn,
                    Next::End => return self.end(),
                };
            }
        }
    }

    /// Takes one turn. `None`: the session goes on.
    async fn take(&mut self, turn: Turn) -> Option<Next> {
        match turn {
            Turn::Acquire(request) => match Box::pin(self.acquire(request)).await {
                Ok(()) => self.phase = Phase::Leased,
                Err(Refusal::Error(error)) if error.fatal() => return Some(Next::Turn(Turn::Fail(error))),
                Err(Refusal::Gone) => return Some(Next::End),
                Err(_) if self.back_to_parked() => {}
                Err(Refusal::Error(error)) => self.refuse(&error),
                Err(Refusal::Server(frame)) => self.refuse_with(&frame),
            },
            Turn::Resolve(node) => return Box::pin(self.resolve(node)).await.map(Next::Turn),
            Turn::Replay(node) => return Box::pin(self.replay(node)).await.map(Next::Turn),
            Turn::Listen => return Box::pin(self.listen_again()).await.err().map(Next::Turn),
            Turn::Settle => match Box::pin(self.settle()).await {
                Ok(()) => self.answer_kept(),
                Err(Refusal::Error(error)) if !error.fatal() => self.refuse(&error),
                Err(_) => return Some(Next::End),
            },
            Turn::Close => return Some(Next::End),
            Turn::Fail(error) => {
                Box::pin(self.say_last(&error)).await;
                return Some(Next::End);
            }
        }
        None
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.handle.register(cx);
        loop {
            if self.handle.is_kicked()
                && let Some(turn) = self.take_kicks()
            {
                return Poll::Ready(turn);
            }
            let progress = match self.poll_once(cx) {
                Ok(progress) => progress,
                Err(turn) => return Poll::Ready(turn),
            };
            if !progress {
                self.rest();
                return Poll::Pending;
            }
        }
    }

    /// One round over what can be ready; `false` where nothing was.
    fn poll_once(&mut self, cx: &mut Context<'_>) -> Result<bool, Turn> {
        let flushed = self.flush_client(cx)?;
        match self.phase {
            Phase::Idle => {
                let mut progress = false;
                if flushed {
                    progress = self.poll_batch(cx)?;
                }
                if !progress && self.lease.is_some() && flushed {
                    progress = self.poll_server(cx)?;
                }
                Ok(progress)
            }
            Phase::Acquiring => Ok(false),
            Phase::Leased => {
                self.dispatch_kept(cx)?;
                Ok(true)
            }
            Phase::Running => {
                self.flush_server(cx)?;
                let served = flushed && self.poll_server(cx)?;
                // Looking for the client's end costs no system call while nothing has come.
                Ok(served || self.poll_ahead(cx)?)
            }
            Phase::Streaming { .. } => {
                let sent = self.flush_server(cx)?;
                let served = flushed && self.poll_server(cx)?;
                let streaming = matches!(self.phase, Phase::Streaming { .. });
                Ok(served || (sent && streaming && self.poll_stream(cx)?))
            }
        }
    }

    /// What the session was told from outside.
    fn take_kicks(&mut self) -> Option<Turn> {
        if self.handle.has(Kick::Killed) {
            return Some(Turn::Fail(ClientError::Killed));
        }
        if self.handle.take(Kick::SlowReader) {
            let limit = self.worker.shared.settings.load().limits.write_timeout;
            return Some(Turn::Fail(ClientError::SlowReader { limit }));
        }
        if self.handle.take(Kick::Fenced) && self.lease.is_some() {
            return self.server_lost(Lost::Broken).err();
        }
        let roams_idly = self.phase == Phase::Idle && self.machine.is_roaming();
        if self.handle.take(Kick::NodeDown) && (roams_idly || self.moves() || self.is_stalled()) {
            return self.server_lost(Lost::Broken).err();
        }
        let resting = self.phase == Phase::Idle && !self.machine.is_busy();
        if self.handle.has(Kick::Drain)
            && resting
            && matches!(self.machine.tx(), Tx::None | Tx::Deferred { .. })
        {
            return Some(Turn::Fail(ClientError::Drain));
        }
        if self.handle.take(Kick::Idle) && resting {
            return Some(Turn::Fail(ClientError::IdleSession));
        }
        if self.handle.take(Kick::IdleInTransaction) && resting {
            return Some(Turn::Fail(ClientError::IdleInTransaction));
        }
        // A cancel request for a statement that has ended by now.
        self.handle.take(Kick::Cancel);
        None
    }

    /// Whether the batch in flight can be run elsewhere without its client noticing.
    fn moves(&self) -> bool {
        let movable = |plan: &Plan| self.machine.can_begin_anew(plan, false);
        self.phase == Phase::Running && self.batch_kept && self.plan.as_ref().is_some_and(movable)
    }

    /// Whether what runs on a replica that does not answer is to be given up: nothing has come from it for a while, and
    /// nothing may ever. Asked once per tick.
    fn is_stalled(&mut self) -> bool {
        let runs = matches!(self.phase, Phase::Running | Phase::Streaming { .. });
        if !runs || !self.lease.as_ref().is_some_and(|conn| self.is_replica(conn)) {
            return false;
        }
        self.stalled_ticks = self.stalled_ticks.saturating_add(1);
        self.stalled_ticks > STALLED_TICKS_MAX
    }

    /// Gives back what a resting session does not need.
    fn rest(&mut self) {
        for buffer in [&mut self.client_in, &mut self.client_out, &mut self.server_in, &mut self.server_out] {
            if buffer.is_empty() && buffer.capacity() > REST_CAPACITY_MAX {
                *buffer = Vec::new();
            }
        }
        if self.phase == Phase::Idle && self.batch.capacity() > REST_CAPACITY_MAX {
            self.batch = Vec::new();
        }
    }

    /// Whether the first answers are kept back so that the batch can be run again elsewhere.
    pub(super) fn hold_for(&self, plan: &Plan) -> Hold {
        let whole = !plan.stays_open();
        let untied = self.parked.is_some() || self.machine.pins().is_empty();
        let alone = (untied && matches!(self.machine.tx(), Tx::None | Tx::Deferred { .. }))
            || self.machine.is_roaming();
        let read = plan.place == crate::sql::Place::Anywhere;
        let on_replica = self.reached == Reached::Replica;
        if alone && whole && (on_replica || read) { Hold::UntilDecided } else { Hold::None }
    }

    /// Whether the connection is to a node that is a replica in this epoch: one of an older epoch may be to what was the
    /// primary then.
    pub(super) fn is_replica(&self, conn: &ServerConn) -> bool {
        let snapshot = self.worker.topology();
        let node = conn.session.node;
        conn.epoch == snapshot.epoch
            && (snapshot.primary != Some(node)
                || snapshot.node(node).is_some_and(|node| node.role == Role::Replica))
    }

    /// Takes a connection over, for the batch that is kept.
    pub(super) fn hold_lease(&mut self, mut conn: Box<ServerConn>) {
        conn.session.last_user = self.machine.id();
        let held = Held {
            node: conn.session.node,
            epoch: conn.epoch,
            key: (conn.key.0, Rc::clone(&conn.key.1)),
            cancels: Rc::clone(&conn.cancels),
            opened: conn.opened(),
            tls: conn.stream.is_tls(),
        };
        self.handle.set_held(Some(held));
        self.lease = Some(conn);
    }

    /// Answers a batch that is not sent to any server with an error of ours; the session goes on.
    pub(super) fn refuse(&mut self, error: &ClientError) {
        self.worker.meter.error(Origin::Proxy, error.sqlstate());
        let mut frame = Vec::new();
        error.encode(&mut frame);
        self.refuse_with(&frame);
    }

    /// The same with a whole ErrorResponse.
    pub(super) fn refuse_with(&mut self, frame: &[u8]) {
        self.client_out.extend_from_slice(frame);
        let open = self.plan.as_ref().is_some_and(|plan| plan.end == crate::session::batch::End::Flush);
        let streaming = !self.batch_kept && self.plan.as_ref().is_some_and(Plan::extended);
        self.machine.give_up();
        self.refusals = 0;
        if open || streaming {
            self.machine.skip_to_sync();
        } else {
            encode::ready(&mut self.client_out, self.machine.status());
        }
        let large = self.phase == Phase::Acquiring && !self.batch_kept && !streaming;
        self.rest_phase();
        if large {
            // One message that did not fit into memory, of which nothing has been taken yet.
            let header = crate::wire::Header::peek(&self.client_in).ok().flatten();
            self.client_skip = header.map_or(0, |header| header.len);
        }
        self.batch_kept = false;
        self.set_resting();
    }

    pub(super) fn set_resting(&mut self) {
        let doing = if self.machine.keeps_status() { Doing::IdleInTransaction } else { Doing::Idle };
        self.handle.set_doing(doing, self.worker.coarse_now());
    }

    /// A last error, then the end. A client that does not take it in a second has had its chance.
    async fn say_last(&mut self, error: &ClientError) {
        use tokio::io::AsyncWriteExt;
        self.worker.meter.error(Origin::Proxy, error.sqlstate());
        error.encode_fatal(&mut self.client_out);
        let bytes = std::mem::take(&mut self.client_out);
        let limit = std::time::Duration::from_secs(1);
        let client = &mut self.client;
        let told = async {
            client.write_all(&bytes).await?;
            client.flush().await
        };
        if !matches!(tokio::time::timeout(limit, told).await, Ok(Ok(()))) {
            tracing::debug!("a client left before its last error reached it");
        }
    }
}
