//! Sockets and threads of the data path: binds, starts the workers, stops them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::accept;
use super::catalog::CatalogHub;
use super::gate::Gates;
use super::links::Links;
use super::login::LoginContext;
use super::settings::Settings;
use super::stream::set_options;
use super::worker::{Command, Shared, Worker};
use crate::clock;
use crate::control::Board;
use crate::observe::Metrics;
use crate::route;

/// A worker's stack. The parser is kept from recursing deep, by limits that are meant for a quarter of this; what is not used
/// takes address space only.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// How often a worker looks at its time limits.
const TICK: Duration = Duration::from_millis(100);

/// How often it is looked whether the clients have left.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ticks between two looks at idle server connections.
const REAP_TICKS: u32 = 10;

/// Commands that wait for a worker at most.
const COMMANDS_MAX: usize = 1024;

/// The sockets, bound and listening.
#[derive(Debug)]
pub struct Sockets {
    tcp: Vec<std::net::TcpListener>,
    unix: Option<(std::os::unix::net::UnixListener, PathBuf)>,
}

/// Listening sockets that were opened before this process began: by the primacy whose place it takes, or by the service
/// manager. Those that the configuration names are used; nobody who connects meanwhile is refused.
#[derive(Debug, Default)]
pub struct Inherited {
    /// TCP.
    pub tcp: Vec<std::net::TcpListener>,
    /// Unix.
    pub unix: Vec<std::os::unix::net::UnixListener>,
}

impl Inherited {
    /// The one that listens there, made ready.
    pub fn tcp_at(&mut self, address: SocketAddr) -> Option<std::net::TcpListener> {
        let place =
            self.tcp.iter().position(|listener| listener.local_addr().is_ok_and(|at| at == address))?;
        let listener = self.tcp.swap_remove(place);
        listener.set_nonblocking(true).is_ok().then_some(listener)
    }

    /// Says which of them are of no use here.
    pub fn warn_of_the_rest(self) {
        for address in self.tcp.iter().filter_map(|listener| listener.local_addr().ok()) {
            tracing::warn!(%address, "a listening socket was handed over that the configuration does not name: it is closed");
        }
    }

    fn unix_at(&mut self, path: &Path) -> Option<std::os::unix::net::UnixListener> {
        let is_there = |listener: &std::os::unix::net::UnixListener| {
            listener.local_addr().is_ok_and(|at| at.as_pathname() == Some(path))
        };
        let place = self.unix.iter().position(is_there)?;
        let listener = self.unix.swap_remove(place);
        listener.set_nonblocking(true).is_ok().then_some(listener)
    }
}

/// A socket that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address.
    #[error("cannot listen on {address}; is another server there? set `listen` (or --listen)")]
    Tcp {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A Unix socket.
    #[error("cannot listen on {}; see `unix_socket_dir`", path.display())]
    Unix {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Sockets {
    /// Binds every address of the settings that is not inherited.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn bind(settings: &Settings, inherited: &mut Inherited) -> Result<Self, BindError> {
        let mut tcp = Vec::with_capacity(settings.listen.len());
        for &address in &settings.listen {
            let bound = match inherited.tcp_at(address) {
                Some(listener) => Ok(listener),
                None => bind_tcp(address),
            };
            tcp.push(bound.map_err(|source| BindError::Tcp { address, source })?);
        }
        let unix = match (&settings.unix_socket_dir, settings.listen.first()) {
            (Some(dir), Some(address)) => {
                let path = dir.join(format!(".s.PGSQL.{}", address.port()));
                let bound = match inherited.unix_at(&path) {
                    Some(listener) => Ok(listener),
                    None => bind_unix(&path),
                };
                let listener = bound.map_err(|source| BindError::Unix { path: path.clone(), source })?;
                Some((listener, path))
            }
            _ => None,
        };
        Ok(Self { tcp, unix })
    }

    /// The TCP addresses, with the ports that the system chose where zero was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// All of them, to be handed over.
    pub fn handles(&self) -> Vec<BorrowedFd<'_>> {
        let unix = self.unix.iter().map(|(listener, _)| listener.as_fd());
        self.tcp.iter().map(AsFd::as_fd).chain(unix).collect()
    }

    fn try_clone(&self) -> io::Result<Self> {
        let tcp = self.tcp.iter().map(std::net::TcpListener::try_clone).collect::<io::Result<_>>()?;
        let unix = match &self.unix {
            Some((listener, path)) => Some((listener.try_clone()?, path.clone())),
            None => None,
        };
        Ok(Self { tcp, unix })
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    set_options(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// A socket file that nobody listens on is what a crash has left, and is replaced; one in use is not.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    // As PostgreSQL's own: everybody may connect, signing in decides.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What the data path is made of.
#[derive(Debug)]
pub struct Parts {
    /// Settings.
    pub settings: Arc<Settings>,
    /// Routing settings.
    pub route: Arc<route::Settings>,
    /// Classifier settings.
    pub sql: crate::sql::Settings,
    /// Topology.
    pub board: Arc<Board>,
    /// Catalog facts.
    pub catalogs: Arc<CatalogHub>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Sign-in.
    pub login: Arc<LoginContext>,
    /// How to reach the nodes.
    pub links: Arc<Links>,
}

/// How the process ends: when the clients that are there are sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At once.
    Now,
    /// When their transactions have ended, or the drain limit is reached.
    Transactions,
    /// They leave when they like.
    Clients,
    /// Another process has taken this one's place: they leave when they like, within the limit for that.
    HandedOver,
}

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    /// What they share.
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    running: Arc<AtomicUsize>,
    unix_path: Option<PathBuf>,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the system gives no thread or no descriptor.
    pub fn start(parts: Parts, sockets: &Sockets) -> io::Result<Self> {
        let count = parts.settings.workers.max(1) as usize;
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(COMMANDS_MAX)).unzip();
        let shared = Arc::new(Shared {
            board: parts.board,
            catalogs: parts.catalogs,
            metrics: parts.metrics,
            verifiers: Arc::clone(&parts.login.verifiers),
            clients: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            workers: senders,
            links: parts.links,
            route: arc_swap::ArcSwap::new(parts.route),
            settings: arc_swap::ArcSwap::new(parts.settings),
            gates: Gates::default(),
            console: OnceLock::new(),
        });
        let running = Arc::new(AtomicUsize::new(count));
        let mut threads = Vec::with_capacity(count);
        for (index, commands) in receivers.into_iter().enumerate() {
            let start = Start {
                index,
                shared: Arc::clone(&shared),
                sockets: sockets.try_clone()?,
                sql: parts.sql,
                login: Arc::clone(&parts.login),
                commands,
            };
            let running = Arc::clone(&running);
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).stack_size(STACK_BYTES);
            let thread = thread.spawn(move || {
                if let Err(error) = run_worker(start) {
                    tracing::error!(%error, "a worker could not start");
                }
                running.fetch_sub(1, Ordering::SeqCst);
            })?;
            threads.push(thread);
        }
        let unix_path = sockets.unix.as_ref().map(|(_, path)| path.clone());
        Ok(Self { shared, threads, running, unix_path })
    }

    /// The Unix socket's file is another process's from now on.
    pub fn leave_socket_file(&mut self) {
        self.unix_path = None;
    }

    /// Connections now, over all workers.
    pub fn connections(&self) -> u32 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// No new clients; those who are here stay as long as they like, guests of the console aside.
    pub async fn close_door(&mut self) {
        self.remove_socket_file();
        self.shared.tell(|| Command::CloseDoor).await;
    }

    /// No new clients; those who are here leave when no transaction is open.
    pub async fn drain(&self) {
        self.shared.tell(|| Command::Drain).await;
    }

    /// Ends; whoever is still here is cut off.
    pub async fn stop(mut self) {
        if self.running.load(Ordering::SeqCst) > 0 {
            tracing::warn!("the rest of the clients are closed");
            self.shared.tell(|| Command::Stop).await;
            self.ended(Duration::from_secs(2)).await;
        }
        self.remove_socket_file();
        for thread in self.threads {
            if self.running.load(Ordering::SeqCst) == 0 && thread.join().is_err() {
                tracing::error!("a worker ended with a panic");
            }
        }
    }

    fn remove_socket_file(&mut self) {
        if let Some(path) = self.unix_path.take()
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, "the Unix socket's file was gone already");
        }
    }

    /// Waits until all workers have ended; `false` where that takes longer than `limit`.
    pub async fn ended(&self, limit: Duration) -> bool {
        let wait = async {
            while self.running.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}

struct Start {
    index: usize,
    shared: Arc<Shared>,
    sockets: Sockets,
    sql: crate::sql::Settings,
    login: Arc<LoginContext>,
    commands: mpsc::Receiver<Command>,
}

/// Whom a worker waits for before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// It goes on.
    Nobody,
    /// Sessions with a transaction.
    Transactions,
    /// Everybody, on every worker; who is signing in among them.
    Clients,
}

impl Leaving {
    fn is_over(self, worker: &Worker) -> bool {
        match self {
            Self::Nobody => false,
            Self::Transactions => worker.session_count() == 0,
            Self::Clients => worker.shared.connections.load(Ordering::Relaxed) == 0,
        }
    }
}

fn run_worker(start: Start) -> io::Result<()> {
    // A local runtime and not a `LocalSet`, which puts a second queue, a lock and a wake-up of its own before each poll.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(work(start))
}

async fn work(start: Start) -> io::Result<()> {
    let Start { index, shared, sockets, sql, login, mut commands } = start;
    let worker = Worker::new(index, shared, &sql);
    worker.pace.begin(clock::now());
    let mut accepting = Vec::new();
    for listener in sockets.tcp {
        let listener = TcpListener::from_std(listener)?;
        accepting.push(spawn_local(accept::tcp(Rc::clone(&worker), listener, Arc::clone(&login))));
    }
    if let Some((listener, _)) = sockets.unix {
        let listener = UnixListener::from_std(listener)?;
        accepting.push(spawn_local(accept::unix(Rc::clone(&worker), listener, Arc::clone(&login))));
    }
    let following = spawn_local(follow(Rc::clone(&worker)));
    let ticking = spawn_local(tick(Rc::clone(&worker)));
    let mut leaving = Leaving::Nobody;
    loop {
        if leaving.is_over(&worker) {
            break;
        }
        let command = if leaving == Leaving::Nobody {
            commands.recv().await
        } else {
            match tokio::time::timeout(LOOK_EVERY, commands.recv()).await {
                Ok(command) => command,
                Err(_) => continue,
            }
        };
        match command {
            Some(Command::Cancel { pid, secret }) => {
                if let Some(cancelling) = super::cancel::request(&worker, pid, &secret) {
                    spawn_local(cancelling);
                }
            }
            Some(Command::Reload) => worker.reload(),
            Some(Command::Pulse(alive)) => {
                // An error: who asked has waited too long.
                alive.send(()).ok();
            }
            Some(Command::Report(want, asker)) => {
                // Whoever asked may have given up.
                drop(asker.send(worker.report(want)));
            }
            Some(Command::Gates) => worker.follow_gates(),
            Some(Command::Reconnect(database)) => worker.reconnect(database.as_deref()),
            Some(Command::Kill(victim)) => worker.kill(&victim),
            Some(Command::Drain) => {
                leaving = Leaving::Transactions;
                accepting.iter().for_each(tokio::task::JoinHandle::abort);
                accepting.clear();
                worker.drain();
            }
            Some(Command::CloseDoor) => {
                leaving = Leaving::Clients;
                accepting.iter().for_each(tokio::task::JoinHandle::abort);
                accepting.clear();
                worker.drain_console();
            }
            Some(Command::Stop) | None => break,
        }
    }
    following.abort();
    ticking.abort();
    Ok(())
}

async fn follow(worker: Rc<Worker>) {
    let mut changes = worker.board().changes();
    let mut news = worker.board().suspicions().news();
    worker.follow_topology();
    loop {
        tokio::select! {
            Ok(()) = changes.changed() => worker.follow_topology(),
            Ok(()) = news.changed() => worker.wake_kept_back(),
            else => return,
        }
    }
}

async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks = 0u32;
    loop {
        interval.tick().await;
        let now = clock::now();
        worker.tick(now);
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(REAP_TICKS) {
            worker.reap(now);
        }
    }
}
