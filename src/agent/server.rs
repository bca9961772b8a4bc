//! The agent's HTTP server: one request per connection, known clients only, limits before work.
//!
//! The token is looked at before anything of the body is read. Nothing is kept open: who has nothing to ask has no place.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::keeper::Keeper;
use crate::control::agents::api::{
    AgentStatus, BODY_BYTES_MAX, DeedReport, Kind, LeaseRequest, PREFIX, Refusal, RejoinRequest,
    StartRequest, StopRequest,
};
use crate::model::Secret;

/// Connections at one time; the next one is closed.
const CONNECTIONS_MAX: usize = 32;

/// For the handshake, for the head of a request, and for its body.
const PATIENCE: Duration = Duration::from_secs(5);

/// After an error of the listener: it may be out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts and serves, for ever.
pub(super) async fn serve(listener: &TcpListener, acceptor: Option<&TlsAcceptor>, keeper: &Arc<Keeper>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let router = router(Arc::clone(keeper));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, "too many connections: closed one");
            continue;
        };
        let (router, acceptor) = (router.clone(), acceptor.cloned());
        tokio::spawn(async move {
            if let Err(error) = converse(stream, acceptor, router).await {
                tracing::debug!(%peer, error, "a connection ended early");
            }
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router) -> Result<(), String> {
    let Some(acceptor) = acceptor else { return answer(stream, router).await };
    let shaken = timeout(PATIENCE, acceptor.accept(stream)).await;
    let stream = shaken.map_err(|_elapsed| "no TLS handshake in time".to_owned())?;
    answer(stream.map_err(|error| error.to_string())?, router).await
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
) -> Result<(), String> {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
    served.map_err(|error| error.to_string())
}

fn router(keeper: Arc<Keeper>) -> Router {
    let version_1 = Router::new()
        .route("/status", get(status))
        .route("/start", post(start))
        .route("/stop", post(stop))
        .route("/restart", post(restart))
        .route("/rejoin", post(rejoin))
        .route("/lease", post(lease));
    Router::new()
        .nest(PREFIX, version_1)
        .fallback(unknown)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(&keeper), guard))
        .with_state(keeper)
}

/// Who may ask, and how much.
async fn guard(State(keeper): State<Arc<Keeper>>, request: Request, next: Next) -> Response {
    if let Some(token) = &keeper.settings().token
        && !has_token(token, request.headers())
    {
        tracing::warn!(path = request.uri().path(), "a request without the right token");
        return refusal(Kind::Unauthorized, "this needs the agent's token: Authorization: Bearer TOKEN");
    }
    let (head, body) = request.into_parts();
    match timeout(PATIENCE, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(_)) => refusal(Kind::Malformed, "the body is longer than 64 KiB, or broke off"),
        Err(_elapsed) => refusal(Kind::Malformed, "the body did not come in time"),
    }
}

/// Takes as long for a token that is nearly right as for one that is not.
fn has_token(token: &Secret, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.strip_prefix("Bearer ").unwrap_or_default();
    given.as_bytes().ct_eq(token.reveal().as_bytes()).into()
}

async fn status(State(keeper): State<Arc<Keeper>>) -> Json<AgentStatus> {
    Json(keeper.status())
}

async fn start(State(keeper): State<Arc<Keeper>>, Json(request): Json<StartRequest>) -> Response {
    report(keeper.start(request).await)
}

async fn stop(State(keeper): State<Arc<Keeper>>, Json(request): Json<StopRequest>) -> Response {
    report(keeper.stop(request.stop).await)
}

async fn restart(State(keeper): State<Arc<Keeper>>, Json(request): Json<StopRequest>) -> Response {
    report(keeper.restart(request.stop).await)
}

async fn rejoin(State(keeper): State<Arc<Keeper>>, Json(request): Json<RejoinRequest>) -> Response {
    report(keeper.rejoin(request).await)
}

async fn lease(State(keeper): State<Arc<Keeper>>, Json(request): Json<LeaseRequest>) -> Response {
    report(keeper.renew(request.epoch))
}

async fn unknown() -> Response {
    refusal(Kind::Malformed, "no such address; the API is under /v1")
}

fn report(done: Result<String, Refusal>) -> Response {
    match done {
        Ok(message) => Json(DeedReport { message }).into_response(),
        Err(Refusal { error, message }) => refusal(error, &message),
    }
}

fn refusal(error: Kind, message: &str) -> Response {
    let status = match error {
        Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Busy => StatusCode::CONFLICT,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
    };
    (status, Json(Refusal { error, message: message.to_owned() })).into_response()
}
