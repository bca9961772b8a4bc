//! The driver's stopwatch: when a batch went to its server, when its transaction began, and who counts that.
//!
//! Two looks at the clock per batch; everything else is an addition on the worker's own thread.

use std::time::{Duration, Instant};

use super::driver::Driver;
use super::worker::Shared;
use crate::clock;
use crate::model::NodeId;
use crate::observe::trace::{Place, Statement};
use crate::route::RouteReason;
use crate::session::{Plan, Tx};

/// What is known of the batch in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timing {
    /// When it was sent.
    sent: Option<Instant>,
    /// When the first batch of its transaction was sent.
    xact: Option<Instant>,
    /// Why it runs where it runs; `None` on a connection that the session had already.
    reason: Option<RouteReason>,
    /// How long it waited before it could be sent.
    waited: Duration,
    /// A collector is told of it: where it stands.
    traced: Option<Place>,
}

impl Driver {
    /// A connection was lent for this reason.
    pub(super) fn note_route(&mut self, reason: RouteReason) {
        self.timing.reason = Some(reason);
        self.database.counts.assigned();
    }

    /// The batch had to wait before it could be sent.
    pub(super) fn note_waited(&mut self, waited: Duration) {
        self.timing.waited += waited;
        self.database.counts.waited(waited);
    }

    /// The batch is on its way to a node.
    pub(super) fn note_sent(&mut self, node: NodeId, batch: &[u8]) {
        if !self.loaded {
            self.worker.add_load(node, 1);
            self.loaded = true;
        }
        let now = clock::now();
        self.timing.sent = Some(now);
        if let Some(traces) = &self.worker.traces {
            self.timing.traced = traces.wants(batch, self.worker.chance());
        }
        self.timing.xact.get_or_insert(now);
    }

    /// The batch is answered.
    pub(super) fn note_answered(&mut self, node: NodeId, failed: bool) {
        if self.loaded {
            self.worker.add_load(node, -1);
            self.loaded = false;
        }
        let now = clock::now();
        let took = |since: Option<Instant>| since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let on_server = took(self.timing.sent.take());
        self.database.counts.query(on_server);
        self.worker.meter.statement(node, on_server);
        self.worker.pace.answered(on_server);
        let why = self.timing.reason.take().unwrap_or_else(|| self.why_still_here());
        if let Some(verdict) = self.plan.as_ref().and_then(Plan::solo) {
            let on_replica = self.worker.topology().primary != Some(node);
            verdict.usage.count(on_replica, why.as_str(), on_server);
            let slow = self.worker.slow.get();
            if slow.is_some_and(|limit| on_server >= limit) {
                let text = self.worker.classifier.borrow().text_of(verdict);
                tracing::warn!(
                    node = %self.node_name(node), user = %self.pool.user, database = %self.pool.database,
                    took_ms = %format_args!("{:.3}", on_server.as_secs_f64() * 1e3),
                    route = why.as_str(), statement = text, "slow statement"
                );
            }
        }
        let waited = std::mem::take(&mut self.timing.waited);
        if let Some(place) = self.timing.traced.take() {
            self.tell((node, failed), (place, why), (waited, on_server));
        }
        if self.machine.keeps_status() {
            return;
        }
        self.database.counts.xact(took(self.timing.xact.take()));
        self.worker.meter.transaction();
    }

    /// Hands what is known of the batch over to whoever carries it to the collector.
    fn tell(
        &self,
        (node, failed): (NodeId, bool),
        (place, why): (Place, RouteReason),
        (waited, on_server): (Duration, Duration),
    ) {
        let Some(traces) = &self.worker.traces else { return };
        let verdict = self.plan.as_ref().and_then(Plan::solo);
        let text = verdict.map(|verdict| self.worker.classifier.borrow().text_of(verdict));
        traces.tell(Statement {
            place,
            ended: clock::wall(),
            waited,
            on_server,
            node: self.node_name(node),
            user: std::sync::Arc::clone(&self.pool.user),
            database: std::sync::Arc::clone(&self.pool.database),
            route: why.as_str(),
            text: text.unwrap_or_default(),
            failed,
        });
    }

    /// The batch was answered here.
    pub(super) fn note_local(&mut self, plan: &Plan) {
        if plan.solo().is_some() {
            self.database.counts.query(Duration::ZERO);
        }
        if !self.machine.keeps_status() && matches!(self.machine.tx(), Tx::None) {
            self.timing.xact = None;
        }
    }

    /// Why a batch went to the connection that the session had.
    fn why_still_here(&self) -> RouteReason {
        if self.machine.pins().is_empty() { RouteReason::Transaction } else { RouteReason::Pinned }
    }
}

/// How long a statement takes that is worth a line in the log.
pub(super) fn slow_statements(shared: &Shared) -> Option<Duration> {
    Some(shared.settings.load().slow_statement).filter(|limit| !limit.is_zero())
}
