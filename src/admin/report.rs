//! Snapshot, core's status and counts -> the reports of the API.

use std::time::Duration;

use super::json::{ChangeReport, EventReport, NodeReport, StatusReport, StepReport};
use super::time::rfc3339;
use crate::failover::{HistoryEntry, Status};
use crate::model::{NodeId, NodeView, Snapshot};
use crate::observe::{Event, Metrics};

/// The whole status.
pub fn status(
    snapshot: &Snapshot,
    core: Option<&Status>,
    metrics: &Metrics,
    uptime: Duration,
) -> StatusReport {
    let name = |id: NodeId| snapshot.node(id).map(|node| node.name.to_string());
    let nodes = snapshot.nodes.iter().map(|node| node_report(node, core, metrics)).collect();
    let mut report = StatusReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: millis(uptime),
        service: snapshot.service.as_str().to_owned(),
        primary: snapshot.primary.and_then(name),
        epoch: snapshot.epoch.0,
        timeline: snapshot.timeline.0,
        system_id: snapshot.system_id.map(|id| id.to_string()),
        clients: metrics.clients(),
        transactions: metrics.transactions(),
        nodes,
        ..StatusReport::default()
    };
    if let Some(core) = core {
        report.phase = core.phase.as_str().into();
        report.reason.clone_from(&core.reason);
        report.automatic = core.automatic;
        report.recruits_needed = count(core.recruits_needed);
        report.alarms = core.alarms.iter().map(|alarm| named(&alarm.to_string(), snapshot)).collect();
        if let Some(cohort) = &core.cohort {
            report.sync_replicas = count(cohort.standbys);
            report.durability = if cohort.standbys == 0 { "async" } else { "quorum" }.into();
        }
    }
    report
}

fn node_report(node: &NodeView, core: Option<&Status>, metrics: &Metrics) -> NodeReport {
    let counts = metrics.node(node.id);
    let standing = core.and_then(|core| core.standings.get(node.id.index()));
    NodeReport {
        name: node.name.to_string(),
        address: node.address.to_string(),
        role: node.role.as_str().to_owned(),
        standing: standing.map(|standing| standing.as_str().to_owned()).unwrap_or_default(),
        readable: node.unreadable.is_none(),
        unreadable: node.unreadable.map(|why| why.as_str().to_owned()),
        zone: node.zone.to_string(),
        weight: node.weight,
        timeline: node.timeline.0,
        received: node.received.to_string(),
        replayed: node.replayed.to_string(),
        lag_bytes: node.lag_bytes,
        lag_ms: millis(node.lag),
        server_version: node.server_version,
        connections: counts.open,
        leased: counts.leased,
        requests: counts.requests,
    }
}

/// One change of primary; `at` is when it ended.
pub fn change(
    entry: &HistoryEntry,
    at: std::time::SystemTime,
    name: impl Fn(NodeId) -> String,
) -> ChangeReport {
    let steps: Vec<StepReport> = entry
        .steps
        .iter()
        .map(|step| StepReport {
            step: step.step.as_str().to_owned(),
            after_ms: fractional_millis(step.after),
        })
        .collect();
    ChangeReport {
        epoch: entry.epoch.0,
        at: rfc3339(at),
        cause: entry.cause.as_str().to_owned(),
        rule: entry.rule.as_str().to_owned(),
        from: entry.from.map(&name),
        to: entry.to.map(&name),
        timeline: entry.timeline.0,
        fork: entry.fork.to_string(),
        took_ms: steps.last().map(|step| step.after_ms).unwrap_or_default(),
        steps,
        lost_bytes: entry.lost.as_ref().map(|lost| lost.seen.bytes_since(lost.after)),
        abandoned: Some(entry.abandoned.clone()).filter(|why| !why.is_empty()),
    }
}

/// One event.
pub fn event(event: &Event) -> EventReport {
    EventReport {
        number: event.number,
        at: rfc3339(event.at),
        kind: event.kind.as_str().to_owned(),
        node: event.node.as_ref().map(ToString::to_string),
        text: event.text.clone(),
    }
}

/// The core speaks of nodes by number; people know them by name.
fn named(text: &str, snapshot: &Snapshot) -> String {
    let by_number = |text: String, node: &NodeView| text.replace(&format!("{:?}", node.id), &node.name);
    snapshot.nodes.iter().fold(text.to_owned(), by_number)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn fractional_millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
