//! Every metric of the process: the workers' cells, the control plane's counts, and the text of a scrape.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::expose::Exposition;
use super::label::{ChangeOfPrimary, Label as _};
use super::meter::{Cells, Meter, Wait};
use super::tally::{Counter, Durations, DurationsShown, Tally};
use super::trace::Traces;
use crate::model::{NODES_MAX, NodeId, Snapshot};
use crate::route::RouteReason;

/// The process's metrics. `Arc<Metrics>` is made once and handed over at birth.
#[derive(Debug)]
pub struct Metrics {
    /// The nodes' names by their ids; more may come.
    pub(super) names: ArcSwap<Vec<Arc<str>>>,
    pub(super) workers: Vec<Arc<Cells>>,
    pub(super) changes: Tally<ChangeOfPrimary>,
    pub(super) change_times: Durations,
    pub(super) reloads: Counter,
    pub(super) reload_failures: Counter,
    traces: OnceLock<Traces>,
}

impl Metrics {
    /// Metrics for nodes of these names, counted by so many workers.
    pub fn new(names: Vec<Arc<str>>, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: (0..workers.max(1)).map(|_| Arc::new(Cells::new(NODES_MAX))).collect(),
            changes: Tally::default(),
            change_times: Durations::default(),
            reloads: Counter::default(),
            reload_failures: Counter::default(),
            traces: OnceLock::new(),
            names: ArcSwap::from_pointee(names),
        })
    }

    /// Statements are told of from now on; once, before the workers start.
    pub fn trace_to(&self, traces: Traces) {
        if self.traces.set(traces).is_err() {
            tracing::error!("traces have a second destination; the first one counts");
        }
    }

    /// Where statements are told of.
    pub fn traces(&self) -> Option<Traces> {
        self.traces.get().cloned()
    }

    /// Nodes were added. Ids that were given stay what they are.
    pub fn rename_nodes(&self, names: Vec<Arc<str>>) {
        self.names.store(Arc::new(names));
    }

    /// A worker's counting handle; workers beyond the number given at birth share the cells of others.
    pub fn meter(&self, worker: usize) -> Meter {
        let place = worker % self.workers.len();
        // `new` makes at least one worker's cells; `get` only spares an index that could panic.
        let cells = self.workers.get(place).cloned();
        Meter(cells.unwrap_or_else(|| Arc::new(Cells::new(NODES_MAX))))
    }

    /// A change of primary ended; `took` from the first sign of trouble, or the command.
    pub fn primary_changed(&self, how: ChangeOfPrimary, took: Duration) {
        self.changes.count(how);
        self.change_times.record(took);
    }

    /// The configuration was read again.
    pub fn reloaded(&self, succeeded: bool) {
        if succeeded { self.reloads.add(1) } else { self.reload_failures.add(1) }
    }

    /// Clients connected now.
    pub fn clients(&self) -> u64 {
        let sum: i64 = self.workers.iter().map(|cells| cells.clients.value()).sum();
        u64::try_from(sum).unwrap_or(0)
    }

    /// Transactions until now.
    pub fn transactions(&self) -> u64 {
        self.workers.iter().map(|cells| cells.transactions.value()).sum()
    }

    /// Requests by reason, over all nodes; only reasons that there were.
    pub fn by_reason(&self) -> Vec<(&'static str, u64)> {
        let cells = || self.workers.iter().flat_map(|cells| cells.nodes.iter());
        let count = |reason: RouteReason| cells().map(|node| node.routes.value(reason)).sum::<u64>();
        let all = RouteReason::ALL.iter().map(|reason| (reason.word(), count(*reason)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// How long servers took for statements: upper bounds in seconds, and how many fell into each bucket.
    pub fn statement_times(&self) -> Vec<(f64, u64)> {
        let cells = self.workers.iter().flat_map(|cells| cells.nodes.iter());
        DurationsShown::of(&cells.map(|node| &node.statement_times)).buckets
    }

    /// How many wait now.
    pub fn waiting(&self, what: Wait) -> u64 {
        let sum: i64 = self.workers.iter().map(|cells| cells.waits(what).waiting.value()).sum();
        u64::try_from(sum).unwrap_or(0)
    }

    /// What one node's connections look like now.
    pub fn node(&self, node: NodeId) -> NodeCounts {
        let cells = || self.workers.iter().filter_map(|cells| cells.nodes.get(node.index()));
        let gauge = |sum: i64| u64::try_from(sum).unwrap_or(0);
        NodeCounts {
            open: gauge(cells().map(|c| c.open.value()).sum()),
            leased: gauge(cells().map(|c| c.leased.value()).sum()),
            requests: cells().map(|c| super::expose::total(&c.routes)).sum(),
        }
    }

    /// The text of a scrape (OpenMetrics), with what the topology says now.
    pub fn render(self: &Arc<Self>, snapshot: Arc<Snapshot>) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("primacy");
        registry.register_collector(Box::new(Scrape { metrics: Arc::clone(self), snapshot }));
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// One node's connections and requests, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Server connections open.
    pub open: u64,
    /// Of those, lent to sessions.
    pub leased: u64,
    /// Requests sent there until now.
    pub requests: u64,
}

/// The metrics together with one snapshot.
#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    snapshot: Arc<Snapshot>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut exposition = Exposition::new(encoder);
        exposition.data_path(&self.metrics)?;
        exposition.servers(&self.metrics)?;
        exposition.control(&self.metrics)?;
        exposition.topology(&self.snapshot)
    }
}
