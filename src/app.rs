//! Composition root: settings in, running tasks out. The only module that knows every room.
//!
//! The main thread runs the control plane on a runtime of its own, so that load on the data path does not delay a
//! probe; each worker of the data path is a thread with a single-threaded runtime.

mod ending;
mod explain;
mod handover;
mod host;
mod notify;
mod operator;
mod reload;
mod traces;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, watch};

use handover::Takeover;
pub use handover::{Handover, TakeoverError};
use traces::Carrier;

use crate::admin::door::Door;
use crate::admin::{self, AdminContext, Hooks, LiveOperator};
use crate::config::Settings;
use crate::console;
use crate::control::{self, Board, ControlError, ControlHandle, LocalServers, OwnCluster};
use crate::model::Service;
use crate::observe::trace::Traces;
use crate::observe::{Events, LogHandle, Metrics};
use crate::postgres::Cluster;
use crate::proxy::auth::{Verifiers, VerifiersError};
use crate::proxy::catalog::{CatalogHub, Reading};
use crate::proxy::links::{Links, NodeLink};
use crate::proxy::listener::{BindError, Ending, Inherited, Parts, Sockets, Workers};
use crate::proxy::login::LoginContext;
use crate::proxy::tls::ClientTlsConfig;
use crate::tls::TlsError;

/// How often catalogs are looked at for changes that were made elsewhere.
const CATALOG_POLL: Duration = Duration::from_secs(2);

/// Events that are remembered.
const EVENTS_MAX: usize = 1000;

/// Why the program could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A client address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP address cannot be had.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// Certificates or keys.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The way to verifiers.
    #[error(transparent)]
    Auth(#[from] VerifiersError),
    /// The control plane.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The primacy before this one.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// Threads, signals, runtime.
    #[error("the system refused a thread, a signal or a runtime")]
    Io(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT, or until another process has taken its place and its clients have left.
///
/// # Errors
/// Where it cannot start.
pub fn serve(settings: Settings, takeover: bool) -> Result<(), ServeError> {
    let log = crate::observe::log::init(&settings.observe).ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut before, inherited) = Takeover::begin(takeover, &settings)?;
        if let Some(before) = &mut before {
            before.control(&settings)?;
        }
        let mut proxy = Proxy::start_with(settings, None, log, inherited).await?;
        if let Some(before) = before {
            before.serves()?;
        }
        let handover = proxy.offer_handover();
        let watchdog = notify::ready(&proxy);
        let ending = proxy.until_stopped(handover).await?;
        proxy.end(ending, Some(watchdog)).await;
        Ok(())
    })
}

/// A running proxy: control plane, workers, HTTP API.
#[derive(Debug)]
pub struct Proxy {
    board: Arc<Board>,
    workers: Workers,
    control: ControlHandle,
    running: Arc<Running>,
    /// Until the end begins.
    sockets: Option<Arc<handover::Offered>>,
    stop: watch::Sender<bool>,
    http: watch::Sender<bool>,
    control_ended: tokio::task::JoinHandle<()>,
    addresses: Vec<std::net::SocketAddr>,
}

/// What a reload needs.
#[derive(Debug)]
struct Running {
    settings: Mutex<Settings>,
    shared: Arc<crate::proxy::worker::Shared>,
    control: ControlHandle,
    login: Arc<LoginContext>,
    sql: crate::sql::Settings,
    log: Option<LogHandle>,
    /// Where another process may ask to take over.
    state_dir: Option<std::path::PathBuf>,
    console: Arc<ArcSwap<console::Settings>>,
    /// What was changed on the console since the file was read.
    by_hand: Mutex<std::collections::BTreeMap<String, String>>,
    /// Somebody asked for the end, and how.
    end: watch::Sender<Option<Ending>>,
}

impl Proxy {
    /// Starts everything on the present runtime (control) and on threads of its own (data path).
    ///
    /// # Errors
    /// An address that is taken, a certificate that cannot be read, a journal that is locked.
    pub async fn start(
        settings: Settings,
        local: Option<Arc<dyn LocalServers>>,
        log: Option<LogHandle>,
    ) -> Result<Self, ServeError> {
        Self::start_with(settings, local, log, Inherited::default()).await
    }

    /// The same, with listening sockets that others have opened.
    async fn start_with(
        settings: Settings,
        local: Option<Arc<dyn LocalServers>>,
        log: Option<LogHandle>,
        mut inherited: Inherited,
    ) -> Result<Self, ServeError> {
        let events = events_from(log.as_ref());
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        // Addresses first: what is taken is said before anything else is touched.
        let sockets = Sockets::bind(&settings.proxy, &mut inherited)?;
        let (admin_listener, admin_socket) = admin_sockets(&settings, &mut inherited).await?;
        inherited.warn_of_the_rest();
        let links = Links::new(NodeLink::all(&settings.proxy.nodes)?);
        let client_tls = ClientTlsConfig::load(&settings.proxy.client_tls)?;
        let admin_door = settings.admin.tls.as_ref().map(Door::open).transpose()?;
        let board = Board::new(control::first_snapshot(&settings.control));
        let names = settings.proxy.nodes.iter().map(|node| Arc::clone(&node.name)).collect();
        let metrics = Metrics::new(names, settings.proxy.workers.max(1) as usize);
        if let Some(traces) = settings.observe.traces.clone() {
            let (told, carrier) = (Traces::new(traces.share), Carrier::new(traces.collector)?);
            metrics.trace_to(told.0);
            tokio::spawn(carrier.carry(told.1));
        }
        let (stop, stopped) = watch::channel(false);
        let (control, control_ended) =
            control::run(settings.control.clone(), Arc::clone(&board), local, until(stopped.clone()))?;

        let service = settings.proxy.service.clone();
        let runtime = tokio::runtime::Handle::current();
        let read_functions = Arc::clone(&settings.proxy.read_functions);
        let reading = Reading { poll: CATALOG_POLL, read_functions };
        let catalogs = CatalogHub::new(Arc::clone(&board), Arc::clone(&links), service, runtime, reading);
        let verifiers = Verifiers::new(&settings.proxy, Arc::clone(&links), Arc::clone(&board))?;
        let login = Arc::new(LoginContext::new(&settings.proxy, client_tls, Arc::new(verifiers)));
        let parts = Parts {
            settings: Arc::new(settings.proxy.clone()),
            route: Arc::new(settings.route.clone()),
            sql: settings.sql,
            board: Arc::clone(&board),
            catalogs,
            metrics: Arc::clone(&metrics),
            login: Arc::clone(&login),
            links,
        };
        let workers = Workers::start(parts, &sockets)?;
        let addresses = sockets.addresses();
        for address in &addresses {
            tracing::info!(%address, "listening for clients");
        }
        let (admin_settings, state_dir) = (settings.admin.clone(), settings.control.state_dir.clone());
        let running = Arc::new(Running {
            sql: settings.sql,
            console: Arc::new(ArcSwap::from_pointee(settings.console.clone())),
            settings: Mutex::new(settings),
            shared: Arc::clone(&workers.shared),
            control: control.clone(),
            login,
            log,
            state_dir,
            end: watch::Sender::new(None),
            by_hand: Mutex::default(),
        });
        let hooks: Arc<dyn Hooks> = Arc::<Running>::clone(&running);
        let operator = Arc::new(LiveOperator { control: control.clone(), hooks });
        let context = AdminContext { board: Arc::clone(&board), metrics, events, operator };
        open_console(&context, &running, stopped.clone());
        let (http, http_stopped) = watch::channel(false);
        if let Some(listener) = admin_listener {
            serve_http((listener, admin_door), admin_settings, context, http_stopped);
        }
        let sockets = Some(Arc::new(handover::Offered { sockets, admin: admin_socket }));
        Ok(Self { board, workers, control, running, sockets, stop, http, control_ended, addresses })
    }

    /// The same before servers of our own, which the control plane may also start, stop and rewind.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_before(
        cluster: Arc<Cluster>,
        settings: Settings,
        log: Option<LogHandle>,
    ) -> Result<Self, ServeError> {
        Self::start(settings, Some(Arc::new(OwnCluster(cluster))), log).await
    }

    /// Where clients connect.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        &self.addresses
    }

    /// The control plane.
    pub fn control(&self) -> &ControlHandle {
        &self.control
    }

    /// Waits until statements for the primary go out and every configured replica may serve reads.
    ///
    /// # Errors
    /// Where that does not come within `limit`.
    pub async fn ready(&self, limit: Duration) -> Result<(), tokio::time::error::Elapsed> {
        let mut changes = self.board.changes();
        let all = async {
            loop {
                let snapshot = self.board.snapshot().clone();
                let whole = snapshot.present().all(|node| node.unreadable.is_none());
                if snapshot.service == Service::Open && whole {
                    return;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(limit, all).await
    }

    /// Waits for SIGTERM or SIGINT, or until another process has taken over; reloads at SIGHUP, begins an upgrade at SIGUSR2.
    ///
    /// # Errors
    /// Where the system gives no signals.
    pub async fn until_stopped(&mut self, handover: handover::Handover) -> io::Result<Ending> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup: Signal = signal(SignalKind::hangup())?;
        let mut upgrade = signal(SignalKind::user_defined2())?;
        let mut done = Box::pin(handover.done());
        let mut end = self.running.end.subscribe();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = &mut done => {
                    tracing::info!("another process has taken over");
                    return Ok(Ending::HandedOver);
                }
                _ = upgrade.recv() => handover::start_successor(),
                asked = end.wait_for(Option::is_some) => {
                    return Ok(asked.ok().and_then(|asked| *asked).unwrap_or(Ending::Transactions));
                }
                _ = hangup.recv() => match self.running.reload_file().await {
                    Ok(report) => tracing::info!("{}", report.message),
                    Err(text) => tracing::error!("not reloaded: {text}"),
                },
            }
        }
        tracing::info!("stopping: no new clients, running transactions finish");
        Ok(Ending::Transactions)
    }
}

/// Opens the console, and keeps its averages until it is told to stop.
fn open_console(context: &AdminContext, running: &Arc<Running>, stopped: watch::Receiver<bool>) {
    let host: Arc<dyn console::Host> = Arc::<Running>::clone(running);
    let shared = Arc::clone(&running.shared);
    let room = console::Room::new(context.clone(), shared, host, Arc::clone(&running.console));
    if running.shared.console.set(Arc::new(room.clone())).is_err() {
        tracing::error!("there are two consoles");
    }
    tokio::spawn(async move {
        tokio::select! {
            () = room.keep_averages() => {}
            () = until(stopped) => {}
        }
    });
}

/// The HTTP address's socket, to listen on and to hand over.
async fn admin_sockets(
    settings: &Settings,
    inherited: &mut Inherited,
) -> Result<(Option<tokio::net::TcpListener>, Option<std::net::TcpListener>), ServeError> {
    let Some(address) = settings.admin.listen else { return Ok((None, None)) };
    let bound = match inherited.tcp_at(address) {
        Some(listener) => listener,
        None => admin::bind(address).await?.into_std()?,
    };
    Ok((Some(tokio::net::TcpListener::from_std(bound.try_clone()?)?), Some(bound)))
}

/// Serves the HTTP API until it is told to stop.
fn serve_http(
    way: (tokio::net::TcpListener, Option<Door>),
    settings: admin::Settings,
    context: AdminContext,
    stopped: watch::Receiver<bool>,
) {
    let serving = admin::serve(way, settings, context, until(stopped));
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the HTTP API ended");
        }
    });
}

/// The ring of events, fed by the log.
fn events_from(log: Option<&LogHandle>) -> Arc<Events> {
    let events = Events::new(EVENTS_MAX);
    if let Some(log) = log {
        log.remember(&events);
    }
    events
}

/// Ready when `stopped` says so, or nobody can say it any more.
async fn until(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}
