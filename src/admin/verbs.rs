//! What changes something: each handler turns a request into one command and the core's answer into JSON.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::json::{CommandReport, ExplainRequest, FailoverRequest, RejoinRequest, SwitchoverRequest};
use super::operator::{CommandError, Done};
use super::server::{Shared, failure};
use crate::observe::EventKind;

type Body<T> = Result<Json<T>, JsonRejection>;

pub(super) async fn switchover(State(shared): State<Arc<Shared>>, body: Body<SwitchoverRequest>) -> Response {
    match given(body) {
        Ok(SwitchoverRequest { to, dry_run }) => {
            if !dry_run {
                shared.note("switchover", to.as_deref());
            }
            answer(shared.context.operator.switchover(to, dry_run).await)
        }
        Err(refusal) => refusal,
    }
}

pub(super) async fn failover(State(shared): State<Arc<Shared>>, body: Body<FailoverRequest>) -> Response {
    match given(body) {
        Ok(FailoverRequest { to, allow_data_loss }) => {
            shared.note(
                if allow_data_loss { "failover allowing data loss" } else { "failover" },
                to.as_deref(),
            );
            answer(shared.context.operator.failover(to, allow_data_loss).await)
        }
        Err(refusal) => refusal,
    }
}

pub(super) async fn pause(State(shared): State<Arc<Shared>>) -> Response {
    shared.note("pause", None);
    answer(shared.context.operator.pause().await)
}

pub(super) async fn resume(State(shared): State<Arc<Shared>>) -> Response {
    shared.note("resume", None);
    answer(shared.context.operator.resume().await)
}

pub(super) async fn rejoin(State(shared): State<Arc<Shared>>, body: Body<RejoinRequest>) -> Response {
    match given(body) {
        Ok(RejoinRequest { node }) => {
            shared.note("rejoin", Some(&node));
            answer(shared.context.operator.rejoin(node).await)
        }
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

impl Shared {
    /// Who reads the log or the events later wants to know that a person was at work.
    fn note(&self, verb: &str, node: Option<&str>) {
        let node: Option<String> = node.map(|node| node.chars().take(80).collect());
        let text = format!("{verb} was asked for on the HTTP address");
        self.context.events.record(EventKind::Command, node.as_deref(), &text);
    }
}

fn answer(done: Done) -> Response {
    match done {
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

pub(super) fn refused(error: &CommandError) -> Response {
    let status = match error {
        CommandError::UnknownNode(_) => StatusCode::NOT_FOUND,
        CommandError::Refused(_) => StatusCode::CONFLICT,
        CommandError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    failure(status, &error.to_string())
}

fn status_of(report: &CommandReport) -> StatusCode {
    if report.done { StatusCode::OK } else { StatusCode::CONFLICT }
}
