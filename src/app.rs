//! Composition root: settings in, running tasks out. The only module that knows every room.
//!
//! The main thread runs the control plane on a runtime of its own, so that load on the data path does not delay a
//! probe; each worker of the data path is a thread with a single-threaded runtime.

mod explain;
mod host;
mod operator;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, watch};

use crate::admin::json::CommandReport;
use crate::admin::{self, AdminContext, Hooks, LiveOperator};
use crate::config::Settings;
use crate::console::{self, Shutdown};
use crate::control::{self, Board, ControlError, ControlHandle, LocalServers, OwnCluster};
use crate::model::Service;
use crate::observe::{Events, LogHandle, Metrics};
use crate::postgres::Cluster;
use crate::proxy::auth::{Verifiers, VerifiersError};
use crate::proxy::catalog::CatalogHub;
use crate::proxy::listener::{BindError, Ending, Parts, Sockets, Workers};
use crate::proxy::login::LoginContext;
use crate::proxy::pool::NodeLink;
use crate::proxy::tls::{ClientTlsConfig, ServerTlsConfig};
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
    /// Threads, signals, runtime.
    #[error("the system refused a thread, a signal or a runtime")]
    Io(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT, on a runtime of its own.
///
/// # Errors
/// Where it cannot start.
pub fn serve(settings: Settings) -> Result<(), ServeError> {
    let log = crate::observe::log::init(&settings.observe).ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut proxy = Proxy::start(settings, None, log).await?;
        proxy.until_stopped().await?;
        proxy.stop().await;
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
    stop: watch::Sender<bool>,
    control_ended: tokio::task::JoinHandle<()>,
    addresses: Vec<std::net::SocketAddr>,
}

/// What a reload needs.
#[derive(Debug)]
struct Running {
    settings: Mutex<Settings>,
    shared: Arc<crate::proxy::worker::Shared>,
    sql: crate::sql::Settings,
    login: Arc<LoginContext>,
    server_tls: Arc<[ServerTlsConfig]>,
    log: Option<LogHandle>,
    console: Arc<ArcSwap<console::Settings>>,
    /// What was changed on the console since the file was read.
    by_hand: Mutex<std::collections::BTreeMap<String, String>>,
    /// Somebody asked for the end, and how.
    end: watch::Sender<Option<Shutdown>>,
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
        let events = events_from(log.as_ref());
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        // Addresses first: what is taken is said before anything else is touched.
        let sockets = Sockets::bind(&settings.proxy)?;
        let admin_listener = match settings.admin.listen {
            Some(address) => Some(admin::bind(address).await?),
            None => None,
        };
        let links = links(&settings)?;
        let client_tls = ClientTlsConfig::load(&settings.proxy.client_tls)?;
        let board = Board::new(control::first_snapshot(&settings.control));
        let names = settings.proxy.nodes.iter().map(|node| Arc::clone(&node.name)).collect();
        let metrics = Metrics::new(names, settings.proxy.workers.max(1) as usize);
        let (stop, stopped) = watch::channel(false);
        let (control, control_ended) =
            control::run(settings.control.clone(), Arc::clone(&board), local, until(stopped.clone()))?;

        let service = settings.proxy.service.clone();
        let runtime = tokio::runtime::Handle::current();
        let catalogs = CatalogHub::new(Arc::clone(&board), links.clone(), service, runtime, CATALOG_POLL);
        let server_tls: Arc<[ServerTlsConfig]> = links.iter().map(|link| (*link.tls).clone()).collect();
        let verifiers = Verifiers::new(&settings.proxy, Arc::clone(&server_tls), Arc::clone(&board))?;
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
        let admin_settings = settings.admin.clone();
        let running = Arc::new(Running {
            sql: settings.sql,
            console: Arc::new(ArcSwap::from_pointee(settings.console.clone())),
            settings: Mutex::new(settings),
            shared: Arc::clone(&workers.shared),
            login,
            server_tls,
            log,
            end: watch::Sender::new(None),
            by_hand: Mutex::default(),
        });
        let hooks: Arc<dyn Hooks> = Arc::<Running>::clone(&running);
        let operator = Arc::new(LiveOperator { control: control.clone(), hooks });
        let context = AdminContext { board: Arc::clone(&board), metrics, events, operator };
        open_console(&context, &running, stopped.clone());
        if let Some(listener) = admin_listener {
            serve_http(listener, admin_settings, context, stopped);
        }
        Ok(Self { board, workers, control, running, stop, control_ended, addresses })
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
                let whole = snapshot.nodes.iter().all(|node| node.unreadable.is_none());
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

    /// Waits for SIGTERM or SIGINT; reloads at SIGHUP.
    ///
    /// # Errors
    /// Where the system gives no signals.
    pub async fn until_stopped(&mut self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup: Signal = signal(SignalKind::hangup())?;
        let mut end = self.running.end.subscribe();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = end.wait_for(Option::is_some) => break,
                _ = hangup.recv() => match self.running.reload_file().await {
                    Ok(report) => tracing::info!("{}", report.message),
                    Err(text) => tracing::error!("not reloaded: {text}"),
                },
            }
        }
        tracing::info!("stopping: no new clients, running transactions finish");
        Ok(())
    }

    /// Drains the clients, then ends the control plane.
    pub async fn stop(self) {
        let how = match *self.running.end.borrow() {
            Some(Shutdown::Now) => Ending::Now,
            Some(Shutdown::WaitForClients) => Ending::Clients,
            Some(Shutdown::WaitForServers) | None => Ending::Transactions,
        };
        self.workers.end(how).await;
        self.stop.send_replace(true);
        drop(self.control);
        drop(tokio::time::timeout(Duration::from_secs(2), self.control_ended).await);
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

/// Serves the HTTP API until it is told to stop.
fn serve_http(
    listener: tokio::net::TcpListener,
    settings: admin::Settings,
    context: AdminContext,
    stopped: watch::Receiver<bool>,
) {
    let serving = admin::serve(listener, settings, context, until(stopped));
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the HTTP API ended");
        }
    });
}

impl Running {
    /// Reads the configuration again and takes over what can change while running.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed then.
    async fn reload_file(&self) -> Result<CommandReport, String> {
        let report = self.try_reload().await;
        self.shared.metrics.reloaded(report.is_ok());
        report
    }

    async fn try_reload(&self) -> Result<CommandReport, String> {
        let mut settings = self.settings.lock().await;
        let crate::config::Origin::File(file) = &settings.origin else {
            return Err("there is no configuration file: the nodes were given on the command line".to_owned());
        };
        let new = crate::config::load(file).map_err(|problems| problems.to_string())?;
        self.by_hand.lock().await.clear();
        self.take_over(&mut settings, new).await
    }

    /// Puts in force what of new settings needs no restart.
    async fn take_over(&self, settings: &mut Settings, new: Settings) -> Result<CommandReport, String> {
        let change = crate::config::diff(settings, &new);
        let certificates = read_certificates(settings, &new)?;
        self.shared.route.store(Arc::new(new.route.clone()));
        let mut proxy = new.proxy.clone();
        // What a restart is needed for stays as it is.
        proxy.listen.clone_from(&settings.proxy.listen);
        proxy.nodes.clone_from(&settings.proxy.nodes);
        proxy.workers = settings.proxy.workers;
        self.shared.settings.store(Arc::new(proxy.clone()));
        let (client_tls, server_tls) = certificates;
        self.login.reload(&proxy, client_tls);
        for (old, new) in self.server_tls.iter().zip(&server_tls) {
            old.replace_by(new);
        }
        for worker in &self.shared.workers {
            if worker.send(crate::proxy::worker::Command::Reload).await.is_err() {
                return Err("primacy is stopping".to_owned());
            }
        }
        if let Some(log) = &self.log {
            log.set_level(&new.observe.level).map_err(|error| error.to_string())?;
        }
        settings.proxy = proxy;
        settings.route = new.route;
        settings.observe = new.observe;
        self.console.store(Arc::new(new.console.clone()));
        settings.console = new.console;
        Ok(report(&change))
    }
}

/// Certificates, keys and lists of revoked ones, read again although their names are the same: what is wrong with them is
/// told before anything is taken over.
fn read_certificates(
    old: &Settings,
    new: &Settings,
) -> Result<(ClientTlsConfig, Vec<ServerTlsConfig>), String> {
    let told = |error: TlsError| match std::error::Error::source(&error) {
        Some(why) => format!("{error}: {why}"),
        None => error.to_string(),
    };
    let client = ClientTlsConfig::load(&new.proxy.client_tls).map_err(told)?;
    // The nodes themselves stay as they are until a restart.
    let servers = old.proxy.nodes.iter().map(|node| ServerTlsConfig::load(&node.tls));
    Ok((client, servers.collect::<Result<_, _>>().map_err(told)?))
}

/// The ring of events, fed by the log.
fn events_from(log: Option<&LogHandle>) -> Arc<Events> {
    let events = Events::new(EVENTS_MAX);
    if let Some(log) = log {
        log.remember(&events);
    }
    events
}

fn report(change: &crate::config::Reload) -> CommandReport {
    let lines =
        |changes: &[crate::config::Change]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (changed, needs_restart) = (lines(&change.changed), lines(&change.needs_restart));
    let message = match (changed.len(), needs_restart.len()) {
        (0, 0) => "reloaded: nothing has changed".to_owned(),
        (_, 0) => format!("reloaded: {}", changed.join("; ")),
        (0, _) => format!("nothing taken over; needs a restart: {}", needs_restart.join("; ")),
        _ => format!("reloaded: {}; needs a restart: {}", changed.join("; "), needs_restart.join("; ")),
    };
    CommandReport { done: true, message, changed, needs_restart }
}

fn links(settings: &Settings) -> Result<Vec<NodeLink>, TlsError> {
    let link = |node: &crate::proxy::settings::Node| {
        Ok(NodeLink { node: Arc::new(node.clone()), tls: Arc::new(ServerTlsConfig::load(&node.tls)?) })
    };
    settings.proxy.nodes.iter().map(link).collect()
}

/// Ready when `stopped` says so, or nobody can say it any more.
async fn until(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}
