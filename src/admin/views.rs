//! What can be looked at: status, history, events, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::json::{ChangeReport, EventReport, RoutesReport, SeriesReport, SessionsReport};
use super::report;
use super::server::{Shared, failure};
use super::verbs::refused;
use crate::clock;
use crate::proxy::report::Want;

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let context = &shared.context;
    let uptime = clock::now().saturating_duration_since(shared.started);
    match context.operator.status().await {
        Ok(cluster) => {
            let snapshot = Arc::clone(&context.board.snapshot());
            Json(report::status(cluster, &snapshot, &context.metrics, uptime)).into_response()
        }
        Err(error) => refused(&error),
    }
}

pub(super) async fn history(State(shared): State<Arc<Shared>>) -> Json<Vec<ChangeReport>> {
    Json(shared.context.operator.history())
}

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    /// Only events after this number.
    #[serde(default)]
    after: u64,
}

pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<EventsQuery>,
) -> Json<Vec<EventReport>> {
    Json(shared.context.events.after(query.after).iter().map(report::event).collect())
}

#[derive(Deserialize)]
pub(super) struct RoutesQuery {
    /// Entries of each list at most.
    #[serde(default = "RoutesQuery::top_default")]
    top: usize,
}

impl RoutesQuery {
    fn top_default() -> usize {
        100
    }
}

pub(super) async fn sessions(State(shared): State<Arc<Shared>>) -> Json<SessionsReport> {
    let workers = shared.context.operator.workers(Want::Sessions).await;
    let snapshot = Arc::clone(&shared.context.board.snapshot());
    Json(super::sessions::report(&workers, &snapshot))
}

pub(super) async fn series(State(shared): State<Arc<Shared>>) -> Json<SeriesReport> {
    Json(shared.series.report(&shared.context))
}

/// Statements are shown without their literals, but they are an application's.
pub(super) async fn routes(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<RoutesQuery>,
) -> Json<RoutesReport> {
    let workers = shared.context.operator.workers(Want::Statements).await;
    Json(super::routes::report(&workers, query.top))
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let snapshot = Arc::clone(&shared.context.board.snapshot());
    match shared.context.metrics.render(snapshot) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => failure(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written"),
    }
}
