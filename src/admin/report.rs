//! The control plane's report and the counts -> the reports of the API.

use std::time::Duration;

use super::json::{ChangeReport, ClusterReport, EventReport, StatusReport, TrafficReport};
use crate::control::report::timestamp;
use crate::model::{NodeId, Snapshot};
use crate::observe::{Event, Metrics};

/// The whole status.
pub fn status(
    cluster: ClusterReport,
    snapshot: &Snapshot,
    metrics: &Metrics,
    uptime: Duration,
) -> StatusReport {
    StatusReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
        clients: metrics.clients(),
        transactions: metrics.transactions(),
        traffic: snapshot.present().map(|node| traffic(node.id, &node.name, metrics)).collect(),
        cluster,
    }
}

fn traffic(id: NodeId, name: &str, metrics: &Metrics) -> TrafficReport {
    let counts = metrics.node(id);
    TrafficReport {
        node: name.to_owned(),
        connections: counts.open,
        leased: counts.leased,
        requests: counts.requests,
    }
}

/// One event.
pub fn event(event: &Event) -> EventReport {
    EventReport {
        number: event.number,
        at: timestamp(event.at),
        kind: event.kind.as_str().to_owned(),
        node: event.node.as_ref().map(ToString::to_string),
        text: event.text.clone(),
    }
}

/// From the first sign of trouble, or the command, to the last step.
pub fn took_ms(change: &ChangeReport) -> f64 {
    change.steps.last().map(|step| step.after_ms).unwrap_or_default()
}

/// The same as a duration.
pub fn took(change: &ChangeReport) -> Duration {
    Duration::try_from_secs_f64(took_ms(change) / 1e3).unwrap_or_default()
}
