//! What changes something: each handler turns a request into one command and the core's answer into JSON.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::json::{CommandReport, ExplainRequest, FailoverRequest, RejoinRequest, SwitchoverRequest};
use super::operator::CommandError;
use super::server::{Shared, failure};
use crate::failover::Command;
use crate::model::{NodeId, Snapshot};
use crate::observe::EventKind;

type Body<T> = Result<Json<T>, JsonRejection>;

pub(super) async fn switchover(State(shared): State<Arc<Shared>>, body: Body<SwitchoverRequest>) -> Response {
    let SwitchoverRequest { to, dry_run } = match given(body) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    match node_named(&shared, to.as_deref()) {
        Ok(to) => run(&shared, "switchover", Command::Switchover { to, dry_run }).await,
        Err(refusal) => refusal,
    }
}

pub(super) async fn failover(State(shared): State<Arc<Shared>>, body: Body<FailoverRequest>) -> Response {
    let FailoverRequest { to, allow_data_loss } = match given(body) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    match node_named(&shared, to.as_deref()) {
        Ok(to) => run(&shared, "failover", Command::Failover { to, allow_data_loss }).await,
        Err(refusal) => refusal,
    }
}

pub(super) async fn pause(State(shared): State<Arc<Shared>>) -> Response {
    run(&shared, "pause", Command::Pause).await
}

pub(super) async fn resume(State(shared): State<Arc<Shared>>) -> Response {
    run(&shared, "resume", Command::Resume).await
}

pub(super) async fn rejoin(State(shared): State<Arc<Shared>>, body: Body<RejoinRequest>) -> Response {
    let RejoinRequest { node } = match given(body) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    match node_named(&shared, Some(&node)) {
        Ok(Some(node)) => run(&shared, "rejoin", Command::Rejoin(node)).await,
        Ok(None) => failure(StatusCode::NOT_FOUND, "no node was named"),
        Err(refusal) => refusal,
    }
}

pub(super) async fn reload(State(shared): State<Arc<Shared>>) -> Response {
    match shared.context.operator.reload().await {
        Ok(report) => (status_of(&report), Json(report)).into_response(),
        Err(error) => refused(&error),
    }
}

pub(super) async fn explain(State(shared): State<Arc<Shared>>, body: Body<ExplainRequest>) -> Response {
    let request = match given(body) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    match shared.context.operator.explain(request).await {
        Ok(report) => Json(report).into_response(),
        Err(error) => refused(&error),
    }
}

async fn run(shared: &Shared, verb: &str, command: Command) -> Response {
    let context = &shared.context;
    context.events.record(EventKind::Command, None, &format!("{verb} was asked for on the HTTP address"));
    match context.operator.command(command).await {
        Ok(message) => Json(CommandReport::done(message)).into_response(),
        Err(error) => refused(&error),
    }
}

#[expect(clippy::result_large_err, reason = "the refusal is the response itself, made once")]
fn given<T>(body: Body<T>) -> Result<T, Response> {
    match body {
        Ok(Json(request)) => Ok(request),
        Err(rejection) => Err(failure(rejection.status(), &rejection.body_text())),
    }
}

#[expect(clippy::result_large_err, reason = "the refusal is the response itself, made once")]
fn node_named(shared: &Shared, name: Option<&str>) -> Result<Option<NodeId>, Response> {
    let Some(name) = name else { return Ok(None) };
    let snapshot = shared.context.board.snapshot();
    match snapshot.nodes.iter().find(|node| &*node.name == name) {
        Some(node) => Ok(Some(node.id)),
        None => Err(failure(StatusCode::NOT_FOUND, &no_such_node(name, &snapshot))),
    }
}

fn no_such_node(name: &str, snapshot: &Snapshot) -> String {
    let name: String = name.chars().take(80).collect();
    let names: Vec<&str> = snapshot.nodes.iter().map(|node| &*node.name).collect();
    format!("there is no node {name:?}; the nodes are {}", names.join(", "))
}

fn refused(error: &CommandError) -> Response {
    let status = match error {
        CommandError::Refused(_) => StatusCode::CONFLICT,
        CommandError::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
        CommandError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    failure(status, &error.to_string())
}

fn status_of(report: &CommandReport) -> StatusCode {
    if report.done { StatusCode::OK } else { StatusCode::CONFLICT }
}
