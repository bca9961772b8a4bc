//! Health checks for load balancers and orchestrators: the status code is the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::server::Shared;
use crate::model::{NodeView, Role};

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

/// Reads are served, by whichever node.
pub(super) async fn read_only(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<ReplicaQuery>,
) -> Answer {
    let Some(lag) = query.bounds() else { return unreadable_lag() };
    let snapshot = shared.context.board.snapshot();
    let count = snapshot.nodes.iter().filter(|node| node.unreadable.is_none() && lag.holds(node)).count();
    answer(count > 0, format!("{count} readable nodes\n"))
}

#[derive(Deserialize)]
pub(super) struct ReplicaQuery {
    /// Only replicas at most so far behind: bytes (`1048576`, `16MB`) as Patroni has it, or a time (`500ms`, `2s`).
    lag: Option<String>,
}

/// How far behind a node may be.
struct LagBounds {
    bytes: u64,
    time: Duration,
}

impl LagBounds {
    fn holds(&self, node: &NodeView) -> bool {
        node.lag_bytes <= self.bytes && node.lag <= self.time
    }
}

impl ReplicaQuery {
    /// `None`: what was asked is neither bytes nor a time.
    fn bounds(&self) -> Option<LagBounds> {
        let unlimited = LagBounds { bytes: u64::MAX, time: Duration::MAX };
        let Some(text) = self.lag.as_deref() else { return Some(unlimited) };
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let bytes = |shift: u32| Some(LagBounds { bytes: number.checked_mul(1 << shift)?, ..unlimited });
        let time = |each: Duration| {
            let time = each.checked_mul(u32::try_from(number).ok()?)?;
            Some(LagBounds { bytes: u64::MAX, time })
        };
        match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => bytes(0),
            "k" | "kb" | "kib" => bytes(10),
            "m" | "mb" | "mib" => bytes(20),
            "g" | "gb" | "gib" => bytes(30),
            "t" | "tb" | "tib" => bytes(40),
            "ms" => time(Duration::from_millis(1)),
            "s" => time(Duration::from_secs(1)),
            "min" => time(Duration::from_secs(60)),
            _ => None,
        }
    }
}

fn unreadable_lag() -> Answer {
    (StatusCode::BAD_REQUEST, "lag: bytes (1048576, 16MB) or a time (500ms, 2s)\n".into())
}

/// A replica serves reads; with `?lag=` one that is at most so far behind.
pub(super) async fn replica(State(shared): State<Arc<Shared>>, Query(query): Query<ReplicaQuery>) -> Answer {
    let Some(lag) = query.bounds() else { return unreadable_lag() };
    let snapshot = shared.context.board.snapshot();
    let readable =
        |node: &&NodeView| node.role == Role::Replica && node.unreadable.is_none() && lag.holds(node);
    let count = snapshot.nodes.iter().filter(readable).count();
    answer(count > 0, format!("{count} readable replicas\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_bytes_or_a_time() {
        let bounds = |text: &str| {
            let query = ReplicaQuery { lag: Some(text.to_owned()) };
            query.bounds().map(|lag| (lag.bytes, lag.time))
        };
        assert_eq!(bounds("10"), Some((10, Duration::MAX)));
        assert_eq!(bounds("16MB"), Some((16 << 20, Duration::MAX)));
        assert_eq!(bounds("250ms"), Some((u64::MAX, Duration::from_millis(250))));
        for wrong in ["", "fast", "10 parsecs", "-1", "99999999999999999999"] {
            assert_eq!(bounds(wrong), None, "{wrong}");
        }
    }
}
