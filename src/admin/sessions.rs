//! Who is connected and what waits: the workers' reports, put together for the dashboard and `primacy top`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::json::{PinReport, PoolSummary, SessionsReport, WaitReport};
use crate::model::{NodeId, Snapshot};
use crate::proxy::handle::Doing;
use crate::proxy::report::WorkerReport;

/// Pins and waits that are told of at most.
const LISTED_MAX: usize = 200;

/// The report.
pub fn report(workers: &[WorkerReport], snapshot: &Snapshot) -> SessionsReport {
    let name = |node: NodeId| snapshot.node(node).map_or_else(String::new, |node| node.name.to_string());
    let mut pools: BTreeMap<(Arc<str>, Arc<str>, NodeId), PoolSummary> = BTreeMap::new();
    for pool in workers.iter().flat_map(|worker| &worker.pools) {
        let key = (Arc::clone(&pool.database), Arc::clone(&pool.user), pool.node);
        let sum = pools.entry(key).or_insert_with(|| PoolSummary {
            database: pool.database.to_string(),
            user: pool.user.to_string(),
            node: name(pool.node),
            ..PoolSummary::default()
        });
        sum.connections += pool.total;
        sum.idle += pool.idle;
        sum.waiting += pool.waiting;
    }
    let clients = || workers.iter().flat_map(|worker| &worker.clients);
    let pins = clients().filter(|client| !client.pins.is_empty()).map(|client| PinReport {
        client: client.pid,
        user: client.user.to_string(),
        database: client.database.to_string(),
        node: client.server.map(|(node, _)| name(node)),
        cause: client.pins.join(", "),
    });
    let mut waits: Vec<WaitReport> = clients()
        .filter(|client| client.doing == Doing::Waiting)
        .map(|client| WaitReport {
            client: client.pid,
            user: client.user.to_string(),
            database: client.database.to_string(),
            waited_ms: u64::try_from(client.since.as_millis()).unwrap_or(u64::MAX),
        })
        .collect();
    waits.sort_by_key(|wait| std::cmp::Reverse(wait.waited_ms));
    waits.truncate(LISTED_MAX);
    SessionsReport { pools: pools.into_values().collect(), pins: pins.take(LISTED_MAX).collect(), waits }
}
