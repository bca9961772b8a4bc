//! Cells -> metric families in OpenMetrics text. Names and help texts stand here and nowhere else.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::label::{ErrorClass, Label, Origin};
use super::meter::{Cells, NodeCells, Waits};
use super::metrics::Metrics;
use super::tally::{Counter, Durations, DurationsShown, Tally};
use crate::model::{NodeView, Role, Service, Snapshot};

/// Everything that a tally counted.
pub(super) fn total<L: Label>(tally: &Tally<L>) -> u64 {
    L::ALL.iter().map(|value| tally.value(*value)).sum()
}

/// Writes families one after the other.
pub(super) struct Exposition<'e>(DescriptorEncoder<'e>);

impl<'e> Exposition<'e> {
    pub(super) fn new(encoder: DescriptorEncoder<'e>) -> Self {
        Self(encoder)
    }

    /// What the workers counted about clients and statements.
    pub(super) fn data_path(&mut self, metrics: &Metrics) -> fmt::Result {
        let all = &metrics.workers;
        let sum = |pick: fn(&Cells) -> &Counter| all.iter().map(|cells| pick(cells).value()).sum::<u64>();
        let clients: i64 = all.iter().map(|cells| cells.clients.value()).sum();
        self.gauge("clients", "Clients connected", clients)?;
        self.counter("clients_accepted", "Clients accepted", sum(|c| &c.clients_accepted))?;
        self.counter("clients_signed_in", "Clients signed in", sum(|c| &c.clients_signed_in))?;
        self.tally(
            "sign_in_refusals",
            "Clients not let in",
            "reason",
            &all.iter().map(|c| &c.sign_in_refusals),
        )?;
        self.counter("client_read_bytes", "Bytes read from signed-in clients", sum(|c| &c.client_bytes_in))?;
        self.counter(
            "client_written_bytes",
            "Bytes written to signed-in clients",
            sum(|c| &c.client_bytes_out),
        )?;
        self.counter("transactions", "Transactions ended", sum(|c| &c.transactions))?;
        self.counter("cancels", "Cancel requests carried out", sum(|c| &c.cancels))?;
        self.counter("verdict_cache_hits", "Verdicts from the cache", sum(|c| &c.verdict_cache.hits))?;
        self.counter("verdict_cache_misses", "Verdicts by parsing", sum(|c| &c.verdict_cache.misses))?;
        let entries = signed(sum(|c| &c.verdict_cache.entries));
        self.gauge("verdict_cache_entries", "Verdicts kept", entries)?;
        self.gauge("verdict_cache_bytes", "Bytes of them", signed(sum(|c| &c.verdict_cache.bytes)))?;
        self.tally("pins", "Sessions tied to a connection", "cause", &all.iter().map(|c| &c.pins))?;
        self.tally("retries", "Statements run again unseen", "reason", &all.iter().map(|c| &c.retries))?;
        self.errors(&all.iter().map(|cells| &**cells))?;
        self.waits("hold", "for a primary", &all.iter().map(|c| &c.holds))?;
        self.waits("pool_wait", "for a server connection", &all.iter().map(|c| &c.pool_waits))?;
        self.waits("freshness_wait", "for a replica to catch up", &all.iter().map(|c| &c.freshness_waits))?;
        self.waits(
            "barrier_wait",
            "for the primary to show a replica's commits",
            &all.iter().map(|c| &c.barrier_waits),
        )
    }

    /// What the workers counted about server connections and routes, by node.
    pub(super) fn servers(&mut self, metrics: &Metrics) -> fmt::Result {
        let mut routes =
            self.0.encode_descriptor("routes", "Requests by node and reason", None, MetricType::Counter)?;
        for (place, name) in metrics.names.load().iter().enumerate() {
            for reason in crate::route::RouteReason::ALL {
                let count: u64 = at(metrics, place).map(|cells| cells.routes.value(*reason)).sum();
                if count > 0 {
                    let labels = [("node", &**name), ("reason", reason.word())];
                    routes.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        self.by_node("server_connections", "Server connections open", metrics, |c| c.open.value())?;
        self.by_node("server_connections_leased", "Server connections lent to sessions", metrics, |c| {
            c.leased.value()
        })?;
        self.count_by_node("server_connections_opened", "Server connections opened", metrics, |c| &c.opened)?;
        self.count_by_node("server_open_failures", "Server connections that failed to open", metrics, |c| {
            &c.open_failures
        })?;
        let times =
            metrics.workers.iter().flat_map(|cells| cells.nodes.iter()).map(|node| &node.connect_times);
        self.durations("server_connect", "Time to open a server connection and sign in", &times)?;
        let times =
            metrics.workers.iter().flat_map(|cells| cells.nodes.iter()).map(|node| &node.statement_times);
        self.durations("statement", "Time from sending a statement (or pipeline) to its last answer", &times)
    }

    /// What the control plane counted.
    pub(super) fn control(&mut self, metrics: &Metrics) -> fmt::Result {
        self.tally(
            "primary_changes",
            "Changes of primary, and attempts",
            "how",
            &[&metrics.changes].into_iter(),
        )?;
        let times = [&metrics.change_times].into_iter();
        self.durations(
            "primary_change",
            "From the first sign of trouble, or the command, to the new primary",
            &times,
        )?;
        self.counter("reloads", "Configurations read again", metrics.reloads.value())?;
        self.counter("reload_failures", "Configurations refused", metrics.reload_failures.value())
    }

    /// What the topology says.
    pub(super) fn topology(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let open = i64::from(snapshot.service == Service::Open);
        self.gauge("service_open", "Whether statements for the primary go out", open)?;
        self.gauge("epoch", "One more at every change of primary", signed(snapshot.epoch.0))?;
        self.gauge("timeline", "Timeline of this epoch", i64::from(snapshot.timeline.0))?;
        self.by_view("node_primary", "Whether the node is the primary", snapshot, |n| {
            i64::from(n.role == Role::Primary)
        })?;
        self.by_view("node_up", "Whether the node's role is known", snapshot, |n| {
            i64::from(n.role != Role::Unknown)
        })?;
        self.by_view("node_readable", "Whether the node may serve reads", snapshot, |n| {
            i64::from(n.unreadable.is_none())
        })?;
        self.by_view("node_lag_bytes", "Bytes of WAL that the node is behind", snapshot, |n| {
            signed(n.lag_bytes)
        })?;
        let mut lag = self.0.encode_descriptor(
            "node_lag",
            "Time that the node is behind",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for node in snapshot.present() {
            lag.encode_family(&[("node", &*node.name)])?.encode_gauge(&node.lag.as_secs_f64())?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// One family with a sample for every value of the enum.
    fn tally<'t, L: Label>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        tallies: &(impl Iterator<Item = &'t Tally<L>> + Clone),
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for value in L::ALL {
            let count: u64 = tallies.clone().map(|tally| tally.value(*value)).sum();
            encoder
                .encode_family(&[(label, value.word())])?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn errors<'c>(&mut self, cells: &(impl Iterator<Item = &'c Cells> + Clone)) -> fmt::Result {
        let help = "Errors that went to clients, by SQLSTATE class";
        let mut encoder = self.0.encode_descriptor("errors", help, None, MetricType::Counter)?;
        for origin in [Origin::Server, Origin::Proxy] {
            for class in ErrorClass::ALL {
                let count: u64 = cells.clone().map(|cells| cells.errors(origin).value(*class)).sum();
                if count > 0 {
                    let labels = [("origin", origin.word()), ("class", class.word())];
                    encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        Ok(())
    }

    fn waits<'w>(
        &mut self,
        name: &str,
        what: &str,
        waits: &(impl Iterator<Item = &'w Waits> + Clone),
    ) -> fmt::Result {
        let waiting: i64 = waits.clone().map(|w| w.waiting.value()).sum();
        self.gauge(&format!("{name}s_waiting"), &format!("Waiting now {what}"), waiting)?;
        self.tally(&format!("{name}s"), &format!("Waits {what}"), "end", &waits.clone().map(|w| &w.ends))?;
        self.durations(name, &format!("Time waited {what}"), &waits.clone().map(|w| &w.times))
    }

    fn durations<'d>(
        &mut self,
        name: &str,
        help: &str,
        durations: &(impl Iterator<Item = &'d Durations> + Clone),
    ) -> fmt::Result {
        let shown = DurationsShown::of(durations);
        self.0
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(shown.sum_s, shown.count, &shown.buckets, None)
    }

    fn by_node(
        &mut self,
        name: &str,
        help: &str,
        metrics: &Metrics,
        pick: fn(&NodeCells) -> i64,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (place, node) in metrics.names.load().iter().enumerate() {
            let sum: i64 = at(metrics, place).map(pick).sum();
            encoder.encode_family(&[("node", &**node)])?.encode_gauge(&sum)?;
        }
        Ok(())
    }

    fn count_by_node(
        &mut self,
        name: &str,
        help: &str,
        metrics: &Metrics,
        pick: fn(&NodeCells) -> &Counter,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (place, node) in metrics.names.load().iter().enumerate() {
            let sum: u64 = at(metrics, place).map(|cells| pick(cells).value()).sum();
            encoder.encode_family(&[("node", &**node)])?.encode_counter::<NoLabelSet, _, u64>(&sum, None)?;
        }
        Ok(())
    }

    fn by_view(
        &mut self,
        name: &str,
        help: &str,
        snapshot: &Snapshot,
        pick: fn(&NodeView) -> i64,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for node in snapshot.present() {
            encoder.encode_family(&[("node", &*node.name)])?.encode_gauge(&pick(node))?;
        }
        Ok(())
    }
}

/// Every worker's cells about the node in that place.
fn at(metrics: &Metrics, place: usize) -> impl Iterator<Item = &NodeCells> {
    metrics.workers.iter().filter_map(move |cells| cells.nodes.get(place))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::label::{ChangeOfPrimary, WaitEnd};
    use super::super::meter::Wait;
    use super::*;
    use crate::model::{Address, Epoch, Lsn, NodeId, SqlState, Timeline};
    use crate::route::RouteReason;
    use crate::sql::{CacheStats, Reason};

    fn snapshot() -> Arc<Snapshot> {
        let node = NodeView {
            id: NodeId(0),
            name: "n0".into(),
            address: Address::Tcp { host: "h".into(), port: 1 },
            role: Role::Primary,
            unreadable: None,
            weight: 100,
            zone: "".into(),
            timeline: Timeline(3),
            received: Lsn(1),
            replayed: Lsn(1),
            lag_bytes: 42,
            lag: Duration::from_millis(250),
            server_version: 150_000,
        };
        Arc::new(Snapshot {
            version: 1,
            epoch: Epoch(7),
            timeline: Timeline(3),
            fork: Lsn(0),
            system_id: None,
            primary: Some(NodeId(0)),
            service: Service::Open,
            nodes: vec![node],
        })
    }

    #[test]
    fn what_workers_count_is_summed_in_a_scrape() {
        let metrics = Metrics::new(vec!["n0".into()], 2);
        for worker in 0..2 {
            let meter = metrics.meter(worker);
            meter.client_connected();
            meter.route(NodeId(0), RouteReason::Verdict(Reason::Write));
            meter.route(NodeId(0), RouteReason::Freshness);
            meter.route(NodeId(9), RouteReason::Freshness);
            meter.error(Origin::Server, SqlState::SYNTAX_ERROR);
            meter.wait_began(Wait::Primary);
            meter.wait_ended(Wait::Primary, WaitEnd::Served, Duration::from_millis(200));
            meter.waiting(Wait::Pool).ended(WaitEnd::TimedOut);
            drop(meter.waiting(Wait::Freshness));
            meter.verdict_cache(CacheStats { hits: 40, misses: 2, entries: 2, bytes: 100 });
            meter.server_opened(NodeId(0), Duration::from_millis(2));
        }
        metrics.meter(0).client_disconnected();
        metrics.primary_changed(ChangeOfPrimary::Failover, Duration::from_millis(300));
        let text = metrics.render(snapshot()).expect("text");
        for line in [
            "primacy_clients 1",
            "primacy_routes_total{node=\"n0\",reason=\"write\"} 2",
            "primacy_routes_total{node=\"n0\",reason=\"freshness\"} 2",
            "primacy_errors_total{origin=\"server\",class=\"42\"} 2",
            "primacy_holds_total{end=\"served\"} 2",
            "primacy_pool_waits_total{end=\"timed-out\"} 2",
            "primacy_pool_waits_waiting 0",
            "primacy_freshness_waits_total{end=\"abandoned\"} 2",
            "primacy_verdict_cache_hits_total 80",
            "primacy_hold_seconds_bucket{le=\"+Inf\"} 2",
            "primacy_hold_seconds_count 2",
            "primacy_hold_seconds_bucket{le=\"0.25\"} 2",
            "primacy_server_connections{node=\"n0\"} 2",
            "primacy_primary_changes_total{how=\"failover\"} 1",
            "primacy_epoch 7",
            "primacy_node_lag_bytes{node=\"n0\"} 42",
            "primacy_node_lag_seconds{node=\"n0\"} 0.25",
            "primacy_node_primary{node=\"n0\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(metrics.node(NodeId(0)).requests, 4);
    }
}
