//! What a worker of the data path counts with: one call per thing that happened, one relaxed addition each.
//!
//! Every worker has cells of its own, so that two cores never fight for one; they are summed at a scrape.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::label::{ErrorClass, Origin, Retry, SignInRefusal, WaitEnd};
use super::tally::{Counter, Durations, Gauge, Tally};
use crate::clock;
use crate::model::{NodeId, SqlState};
use crate::route::RouteReason;
use crate::sql::{CacheStats, PinCause};

/// One worker's cells.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) nodes: Box<[NodeCells]>,
    pub(super) verdict_cache: VerdictCache,
    pub(super) pins: Tally<PinCause>,
    pub(super) server_errors: Tally<ErrorClass>,
    pub(super) proxy_errors: Tally<ErrorClass>,
    pub(super) retries: Tally<Retry>,
    pub(super) holds: Waits,
    pub(super) pool_waits: Waits,
    pub(super) freshness_waits: Waits,
    pub(super) barrier_waits: Waits,
    pub(super) transactions: Counter,
    pub(super) cancels: Counter,
    pub(super) client_bytes_in: Counter,
    pub(super) client_bytes_out: Counter,
    pub(super) clients_accepted: Counter,
    pub(super) clients_signed_in: Counter,
    pub(super) sign_in_refusals: Tally<SignInRefusal>,
    pub(super) clients: Gauge,
}

/// One worker's cells about one node.
#[derive(Debug, Default)]
pub(super) struct NodeCells {
    pub(super) routes: Tally<RouteReason>,
    pub(super) opened: Counter,
    pub(super) open_failures: Counter,
    pub(super) open: Gauge,
    pub(super) leased: Gauge,
    pub(super) connect_times: Durations,
    pub(super) statement_times: Durations,
}

/// How the worker's verdict cache serves; the classifier counts, and is looked at now and then.
#[derive(Debug, Default)]
pub(super) struct VerdictCache {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) entries: Counter,
    pub(super) bytes: Counter,
}

/// Waits for one thing.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) ends: Tally<WaitEnd>,
    pub(super) waiting: Gauge,
    pub(super) times: Durations,
}

impl Cells {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: (0..nodes).map(|_| NodeCells::default()).collect(),
            verdict_cache: VerdictCache::default(),
            pins: Tally::default(),
            server_errors: Tally::default(),
            proxy_errors: Tally::default(),
            retries: Tally::default(),
            holds: Waits::default(),
            pool_waits: Waits::default(),
            freshness_waits: Waits::default(),
            barrier_waits: Waits::default(),
            transactions: Counter::default(),
            cancels: Counter::default(),
            client_bytes_in: Counter::default(),
            client_bytes_out: Counter::default(),
            clients_accepted: Counter::default(),
            clients_signed_in: Counter::default(),
            sign_in_refusals: Tally::default(),
            clients: Gauge::default(),
        }
    }

    /// The waits for this.
    pub(super) fn waits(&self, what: Wait) -> &Waits {
        match what {
            Wait::Primary => &self.holds,
            Wait::Pool => &self.pool_waits,
            Wait::Freshness => &self.freshness_waits,
            Wait::Barrier => &self.barrier_waits,
        }
    }

    /// The errors that came from there.
    pub(super) fn errors(&self, origin: Origin) -> &Tally<ErrorClass> {
        match origin {
            Origin::Server => &self.server_errors,
            Origin::Proxy => &self.proxy_errors,
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// A primary, while there is none.
    Primary,
    /// A server connection.
    Pool,
    /// A replica that has what the session must see.
    Freshness,
    /// The primary, to show what a replica has shown the session.
    Barrier,
}

/// A wait that goes on.
#[derive(Debug)]
pub struct Waiting {
    meter: Meter,
    what: Wait,
    began: Instant,
    over: bool,
}

impl Waiting {
    /// It is over.
    pub fn ended(mut self, end: WaitEnd) {
        self.end(end);
    }

    fn end(&mut self, end: WaitEnd) {
        self.over = true;
        self.meter.wait_ended(self.what, end, clock::now().saturating_duration_since(self.began));
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.end(WaitEnd::Abandoned);
        }
    }
}

/// A worker's counting handle. Cloning it is cheap; clones count into the same cells.
#[derive(Clone, Debug)]
pub struct Meter(pub(super) Arc<Cells>);

impl Meter {
    // ---- clients ---------------------------------------------------------------------------------------------

    /// A client was accepted.
    pub fn client_connected(&self) {
        self.0.clients_accepted.add(1);
        self.0.clients.raise();
    }

    /// A client has gone, for whatever reason.
    pub fn client_disconnected(&self) {
        self.0.clients.lower();
    }

    /// A client signed in.
    pub fn client_signed_in(&self) {
        self.0.clients_signed_in.add(1);
    }

    /// A client was not let in.
    pub fn client_refused(&self, why: SignInRefusal) {
        self.0.sign_in_refusals.count(why);
    }

    /// Bytes read from a client. Per read, not per message.
    pub fn client_read(&self, bytes: usize) {
        self.0.client_bytes_in.add(bytes as u64);
    }

    /// Bytes written to a client. Per write, not per message.
    pub fn client_written(&self, bytes: usize) {
        self.0.client_bytes_out.add(bytes as u64);
    }

    // ---- statements ------------------------------------------------------------------------------------------

    /// A request (one statement, or one pipeline up to Sync) goes to this node.
    pub fn route(&self, node: NodeId, reason: RouteReason) {
        if let Some(cells) = self.0.nodes.get(node.index()) {
            cells.routes.count(reason);
        }
    }

    /// What the worker's classifier has counted until now.
    pub fn verdict_cache(&self, stats: CacheStats) {
        let cells = &self.0.verdict_cache;
        cells.hits.show(stats.hits);
        cells.misses.show(stats.misses);
        cells.entries.show(u64::try_from(stats.entries).unwrap_or(u64::MAX));
        cells.bytes.show(u64::try_from(stats.bytes).unwrap_or(u64::MAX));
    }

    /// A server answered a statement (or a pipeline up to Sync).
    #[inline]
    pub fn statement(&self, node: NodeId, took: Duration) {
        if let Some(cells) = self.0.nodes.get(node.index()) {
            cells.statement_times.record(took);
        }
    }

    /// A transaction (or a statement outside one) ended.
    pub fn transaction(&self) {
        self.0.transactions.add(1);
    }

    /// A session was tied to its server connection.
    pub fn pinned(&self, cause: PinCause) {
        self.0.pins.count(cause);
    }

    /// An error went to a client.
    pub fn error(&self, origin: Origin, code: SqlState) {
        self.0.errors(origin).count(ErrorClass::of(code));
    }

    /// A statement is run again without the client seeing it.
    pub fn retried(&self, why: Retry) {
        self.0.retries.count(why);
    }

    /// A cancel request was carried out.
    pub fn cancelled(&self) {
        self.0.cancels.add(1);
    }

    // ---- waits -----------------------------------------------------------------------------------------------

    /// Somebody begins to wait. Ends with `Waiting::ended`, or as abandoned when it is dropped.
    pub fn waiting(&self, what: Wait) -> Waiting {
        self.wait_began(what);
        Waiting { meter: self.clone(), what, began: clock::now(), over: false }
    }

    /// Somebody begins to wait; `wait_ended` must follow.
    pub fn wait_began(&self, what: Wait) {
        self.waits(what).waiting.raise();
    }

    /// A wait that had begun is over.
    pub fn wait_ended(&self, what: Wait, end: WaitEnd, took: Duration) {
        let waits = self.waits(what);
        waits.waiting.lower();
        waits.ends.count(end);
        waits.times.record(took);
    }

    /// Somebody was not even allowed to wait.
    pub fn wait_refused(&self, what: Wait) {
        self.waits(what).ends.count(WaitEnd::Refused);
    }

    fn waits(&self, what: Wait) -> &Waits {
        self.0.waits(what)
    }

    // ---- server connections ----------------------------------------------------------------------------------

    /// A server connection was opened and signed in.
    pub fn server_opened(&self, node: NodeId, took: Duration) {
        if let Some(cells) = self.0.nodes.get(node.index()) {
            cells.opened.add(1);
            cells.open.raise();
            cells.connect_times.record(took);
        }
    }

    /// A server connection could not be opened.
    pub fn server_open_failed(&self, node: NodeId) {
        if let Some(cells) = self.0.nodes.get(node.index()) {
            cells.open_failures.add(1);
        }
    }

    /// A server connection that had been opened is closed.
    pub fn server_closed(&self, node: NodeId) {
        if let Some(cells) = self.0.nodes.get(node.index()) {
            cells.open.lower();
        }
    }

    /// A server connection was lent to a session; `server_returned` must follow, before `server_closed` too.
    pub fn server_leased(&self, node: NodeId) {
        if let Some(cells) = self.0.nodes.get(node.index()) {
            cells.leased.raise();
        }
    }

    /// A session gave its server connection back (to the pool, or to be closed).
    pub fn server_returned(&self, node: NodeId) {
        if let Some(cells) = self.0.nodes.get(node.index()) {
            cells.leased.lower();
        }
    }
}
