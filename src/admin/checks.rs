//! Health checks for load balancers and orchestrators: the status code is the answer.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::server::Shared;
use crate::model::{Role, Snapshot};

type Answer = (StatusCode, String);

fn answer(yes: bool, text: String) -> Answer {
    (if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

/// The process runs.
pub(super) async fn health() -> Answer {
    answer(true, "healthy\n".into())
}

/// It can serve something: writes, or at least reads.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Answer {
    let snapshot = shared.context.board.snapshot();
    let readable = snapshot.nodes.iter().filter(|node| node.unreadable.is_none()).count();
    let writable = snapshot.writable_primary().is_some();
    answer(
        writable || readable > 0,
        format!("service {}, {readable} readable nodes\n", snapshot.service.as_str()),
    )
}

/// Statements for the primary go out.
pub(super) async fn primary(State(shared): State<Arc<Shared>>) -> Answer {
    let snapshot = shared.context.board.snapshot();
    match snapshot.writable_primary().and_then(|id| snapshot.node(id)) {
        Some(node) => answer(true, format!("primary {}\n", node.name)),
        None => answer(false, format!("service {}\n", snapshot.service.as_str())),
    }
}

#[derive(Deserialize)]
pub(super) struct ReplicaQuery {
    /// Only replicas at most so many bytes behind.
    lag: Option<u64>,
}

/// A replica serves reads; with `?lag=BYTES` one that is at most so far behind.
pub(super) async fn replica(State(shared): State<Arc<Shared>>, Query(query): Query<ReplicaQuery>) -> Answer {
    let count = readable_replicas(&shared.context.board.snapshot(), query.lag.unwrap_or(u64::MAX));
    answer(count > 0, format!("{count} readable replicas\n"))
}

fn readable_replicas(snapshot: &Snapshot, lag_bytes_max: u64) -> usize {
    let nodes = snapshot.nodes.iter();
    nodes
        .filter(|n| n.role == Role::Replica && n.unreadable.is_none() && n.lag_bytes <= lag_bytes_max)
        .count()
}
