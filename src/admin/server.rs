//! The HTTP server: routes, guards, answers.
//!
//! The page itself shows nothing that it has not asked for, so it is open. What only looks is a GET. What changes something is a POST of JSON and passes `guard`. The health checks and the
//! metrics say little and are asked by name from load balancers, so they are open.

use std::future::{Future, IntoFuture as _};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use super::door::{Door, Role};
use super::guard::{self, Asker, Keys};
use super::json::CommandReport;
use super::limit::{Limited, Peer};
use super::operator::Operator;
use super::series::Series;
use super::settings::Settings;
use super::{checks, follow, page, verbs, views};
use crate::clock;
use crate::control::Board;
use crate::observe::{Events, Metrics};

/// Longest body of a request.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What the API looks at and acts through.
#[derive(Clone, Debug)]
pub struct AdminContext {
    /// The topology.
    pub board: Arc<Board>,
    /// The counts.
    pub metrics: Arc<Metrics>,
    /// The last events.
    pub events: Arc<Events>,
    /// The running proxy.
    pub operator: Arc<dyn Operator>,
}

/// What every handler sees.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) context: AdminContext,
    pub(super) settings: Settings,
    pub(super) started: Instant,
    pub(super) series: Series,
}

/// Opens the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// The HTTP address cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for the HTTP API; is another primacy running? set admin.listen (or --admin)"
)]
pub struct BindError {
    /// Which.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Serves until `shutdown` is ready; requests that are under way are finished. Over TLS where there is a door for it.
pub async fn serve(
    (listener, door): (TcpListener, Option<Door>),
    settings: Settings,
    context: AdminContext,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let follower = follow::changes_of_primary(context.clone());
    let shared = Arc::new(Shared { context, settings, started: clock::now(), series: Series::default() });
    let sampled = Arc::clone(&shared);
    let service = router(shared).into_make_service_with_connect_info::<Peer>();
    let server =
        axum::serve(Limited::new(listener, door), service).with_graceful_shutdown(shutdown).into_future();
    tokio::select! {
        served = server => served,
        () = follower => Ok(()),
        () = sampled.series.keep(&sampled.context) => Ok(()),
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let page = Router::new()
        .route("/", get(page::page))
        .layer(map_response(async |response| with_headers(response)));
    let statements = Router::new()
        .route("/api/v1/routes", get(views::routes))
        .layer(from_fn_with_state(Arc::clone(&shared), guard_statements));
    let looking = Router::new()
        .route("/api/v1/status", get(views::status))
        .route("/api/v1/history", get(views::history))
        .route("/api/v1/events", get(views::events))
        .route("/api/v1/sessions", get(views::sessions))
        .route("/api/v1/series", get(views::series))
        .layer(from_fn_with_state(Arc::clone(&shared), guard_looking));
    let changing = Router::new()
        .route("/api/v1/switchover", post(verbs::switchover))
        .route("/api/v1/failover", post(verbs::failover))
        .route("/api/v1/pause", post(verbs::pause))
        .route("/api/v1/resume", post(verbs::resume))
        .route("/api/v1/rejoin", post(verbs::rejoin))
        .route("/api/v1/reload", post(verbs::reload))
        .route("/api/v1/explain", post(verbs::explain))
        .layer(from_fn_with_state(Arc::clone(&shared), guard_changing));
    let open = Router::new()
        .route("/metrics", get(views::metrics))
        .route("/health", get(checks::health))
        .route("/liveness", get(checks::health))
        .route("/ready", get(checks::ready))
        .route("/readiness", get(checks::ready))
        .route("/primary", get(checks::primary))
        .route("/read-write", get(checks::primary))
        .route("/replica", get(checks::replica))
        .route("/read-only", get(checks::read_only));
    page.merge(looking)
        .merge(statements)
        .merge(changing)
        .merge(open)
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

impl Shared {
    fn keys(&self) -> Keys<'_> {
        let Settings { listen: _, token, stats_token, tls } = &self.settings;
        let (admins, lookers) =
            tls.as_ref().map_or((false, false), |tls| (!tls.admins.is_empty(), !tls.lookers.is_empty()));
        Keys { token: token.as_ref(), stats_token: stats_token.as_ref(), admins, lookers }
    }
}

async fn guard_looking(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match guard::may_look(shared.keys(), peer.asks(request.headers())) {
        Ok(()) => with_headers(next.run(request).await),
        Err(refused) => failure(refused.status(), &refused.to_string()),
    }
}

async fn guard_statements(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match guard::may_read_statements(shared.keys(), peer.asks(request.headers())) {
        Ok(()) => with_headers(next.run(request).await),
        Err(refused) => failure(refused.status(), &refused.to_string()),
    }
}

async fn guard_changing(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let verdict = guard::may_change(shared.keys(), peer.asks(request.headers()));
    let Peer { address, visitor } = peer;
    match verdict {
        Ok(()) => {
            // Who did what, from where, and what came of it: also where nothing came of it.
            let command = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let admin = visitor.filter(|visitor| visitor.role == Some(Role::Admin));
            let who = match &admin {
                Some(visitor) => &*visitor.name,
                None if shared.settings.token.is_some() => "token",
                None => "this machine",
            };
            let response = next.run(request).await;
            let status = response.status().as_u16();
            tracing::info!(target: "primacy::audit", %command, who, peer = %address, status, "a command on the HTTP address");
            with_headers(response)
        }
        Err(refused) => {
            tracing::warn!(peer = %address, path = request.uri().path(), %refused, "refused a request on the HTTP address");
            failure(refused.status(), &refused.to_string())
        }
    }
}

impl Peer {
    fn asks<'a>(&'a self, headers: &'a HeaderMap) -> Asker<'a> {
        Asker { headers, peer: self.address, visitor: self.visitor.as_ref() }
    }
}

/// Answers are of this moment, and are what they say they are.
fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

async fn unknown() -> Response {
    failure(StatusCode::NOT_FOUND, "no such address; the API is under /api/v1")
}

/// A refusal in the same form as a command's.
pub(super) fn failure(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(CommandReport::refused(message))).into_response()
}
