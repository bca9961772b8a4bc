//! `primacy demo`: a primary, its replicas and the proxy before them, from the PostgreSQL installed here.
//!
//! stdout gets one line, when it serves; the steps go to stderr. Whatever ends it (Ctrl-C, SIGTERM, `--for`, an
//! error), the servers are stopped and a temporary directory is removed. A directory that was given stays, and the
//! next demo in it resumes the cluster; it even finds servers that a killed demo left running.

mod config;
mod place;
mod service;

use std::future::Future;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use tokio::sync::{oneshot, watch};

use super::failure::Failure;
use crate::clock;
use crate::postgres::{Cluster, ClusterSpec, Durability, PostgresError, Search, Step};
use place::Place;

/// The servers get this long to stop, and the proxy to drain.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A primary, its replicas and primacy in front of them, on this machine
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Where everything lives; kept, and resumed by the next demo [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Number of PostgreSQL servers: one primary, the others replicas
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = RangedU64ValueParser::<u16>::new().range(1..=9))]
    pub nodes: u16,
    /// Where applications connect to
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6432")]
    pub listen: SocketAddr,
    /// Where the HTTP API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6433")]
    pub admin: SocketAddr,
    /// Port of the first server; the others follow
    #[arg(long, value_name = "PORT", default_value_t = 6441, value_parser = clap::value_parser!(u16).range(1..))]
    pub base_port: u16,
    /// What a commit waits for: one replica beside the primary, or nobody
    #[arg(long, value_enum, value_name = "MODE", default_value = "quorum")]
    pub durability: DurabilityArg,
    /// Directory of PostgreSQL's server programs [default: searched for]
    #[arg(long, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// The proxy reaches the nodes through these ports of this machine, in their order: something stands in between
    #[arg(long, value_name = "PORT", hide = true)]
    pub via: Vec<u16>,
    /// Stop by itself after so many seconds of service
    #[arg(long = "for", value_name = "SECONDS")]
    pub for_seconds: Option<u64>,
}

/// `--durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DurabilityArg {
    /// One replica has it on disk
    Quorum,
    /// The primary alone has it
    Async,
}

impl From<DurabilityArg> for Durability {
    fn from(arg: DurabilityArg) -> Self {
        match arg {
            DurabilityArg::Quorum => Self::Quorum,
            DurabilityArg::Async => Self::Async,
        }
    }
}

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A local server could not be had.
    #[error(transparent)]
    Servers(#[from] PostgresError),
    /// Somebody else listens there.
    #[error("{address} is in use (another demo, perhaps): choose another address with {option}")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
        /// The option that changes it.
        option: &'static str,
    },
    /// Another demo is at work there.
    #[error("another demo runs in {}: stop it, or choose another directory with --dir", dir.display())]
    DirInUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The ports of the nodes run over the end or into one another.
    #[error(
        "ports from {base_port} on do not fit: choose a lower --base-port, apart from --listen and --admin"
    )]
    Ports {
        /// `--base-port`.
        base_port: u16,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// The verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The proxy could not start, or failed.
    #[error("the proxy ended: {0}")]
    Proxy(String),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

/// What the proxy and its control plane need from the demo to run in this process.
#[derive(Debug)]
pub struct Handover {
    /// The configuration, as `primacy serve --config` would read it.
    pub config_file: PathBuf,
    /// The servers, in the configuration's order: what was killed can be started again and rewound.
    pub cluster: Arc<Cluster>,
    /// To be sent once clients can be served.
    pub ready: oneshot::Sender<()>,
    /// Becomes true when the proxy is to stop.
    pub stop: watch::Receiver<bool>,
}

/// Runs the demo; `serve` runs proxy and control plane until `Handover::stop` says so or they fail.
pub async fn run<S, F>(args: DemoArgs, path: Option<std::ffi::OsString>, serve: S) -> Result<(), DemoError>
where
    S: FnOnce(Handover) -> F,
    F: Future<Output = Result<(), String>>,
{
    let signals = Signals::new().map_err(DemoError::Signals)?;
    run_until(args, path, serve, signals.come()).await
}

/// The command: `run` with the real proxy.
pub(super) fn run_here(args: DemoArgs) -> Result<(), Failure> {
    #[expect(clippy::disallowed_methods, reason = "where programs are is the environment's to say")]
    let path = std::env::var_os("PATH");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(run(args, path, service::serve))?)
}

/// `run`, with whatever ends it early in place of signals.
async fn run_until<S, F>(
    args: DemoArgs,
    path: Option<std::ffi::OsString>,
    serve: S,
    ended: impl Future<Output = ()>,
) -> Result<(), DemoError>
where
    S: FnOnce(Handover) -> F,
    F: Future<Output = Result<(), String>>,
{
    let begun = clock::now();
    let ports = args.ports()?;
    check_address(args.listen, "--listen")?;
    check_address(args.admin, "--admin")?;
    let major = args.dir.as_deref().and_then(Cluster::major_on_disk);
    let installation = Arc::new(Search { given: args.pg_bin.clone(), path, major }.run().await?);
    say(begun, &format!("PostgreSQL {} in {}", installation.version.text, installation.bin_dir.display()));
    let place = Place::choose(args.dir.as_deref(), &installation.account)?;
    let spec = ClusterSpec {
        dir: place.dir().to_path_buf(),
        ports,
        durability: args.durability.into(),
        sync: false,
        settings: Vec::new(),
        init_args: Vec::new(),
    };
    let demo = Demo { cluster: Arc::new(Cluster::describe(&installation, &spec)), args, place, begun };
    let outcome = demo.go(&spec, serve, ended).await;
    let stopped = demo.stop().await;
    outcome.and(stopped)
}

impl DemoArgs {
    fn ports(&self) -> Result<Vec<u16>, DemoError> {
        let failed = DemoError::Ports { base_port: self.base_port };
        let end = self.base_port.checked_add(self.nodes - 1);
        let ports: Vec<u16> = end.map(|end| (self.base_port..=end).collect()).unwrap_or_default();
        let taken = ports.contains(&self.listen.port()) || ports.contains(&self.admin.port());
        if ports.is_empty() || taken || self.listen == self.admin { Err(failed) } else { Ok(ports) }
    }
}

/// A demo under way.
struct Demo {
    args: DemoArgs,
    cluster: Arc<Cluster>,
    place: Place,
    begun: Instant,
}

impl Demo {
    /// From nothing to the end of the service. Servers may be left running.
    async fn go<S, F>(
        &self,
        spec: &ClusterSpec,
        serve: S,
        ended: impl Future<Output = ()>,
    ) -> Result<(), DemoError>
    where
        S: FnOnce(Handover) -> F,
        F: Future<Output = Result<(), String>>,
    {
        tokio::pin!(ended);
        let progress = |step: &Step<'_>| say(self.begun, &step.to_string());
        tokio::select! {
            opened = self.open(spec, &progress) => opened?,
            () = &mut ended => return Ok(()),
        }
        let config_file = self.place.dir().join("primacy.toml");
        config::write(&config_file, &self.args, &self.cluster)?;
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopping) = watch::channel(false);
        let handover = Handover { config_file, cluster: self.cluster.clone(), ready, stop: stopping };
        let serving = serve(handover);
        tokio::pin!(serving);
        tokio::select! {
            outcome = &mut serving => return outcome.map_err(DemoError::Proxy),
            () = self.serve_until(is_ready, &mut ended) => {}
        }
        say(self.begun, "stopping");
        stop.send_replace(true);
        match tokio::time::timeout(STOP_LIMIT, serving).await {
            Ok(outcome) => outcome.map_err(DemoError::Proxy),
            // Its clients lose their connections when the program ends a moment later.
            Err(_elapsed) => Ok(()),
        }
    }

    /// Builds or resumes the cluster. What a failed build has made so far goes away again.
    async fn open(
        &self,
        spec: &ClusterSpec,
        progress: &(dyn Fn(&Step<'_>) + Send + Sync),
    ) -> Result<(), DemoError> {
        if !Cluster::exists_in(self.place.dir()) {
            self.cluster.check_free()?;
            self.place.mark_unfinished();
        }
        self.cluster.open(spec, progress).await?;
        self.place.mark_finished();
        Ok(())
    }

    /// Says that it serves once it does, and waits for the end.
    async fn serve_until(&self, is_ready: oneshot::Receiver<()>, ended: impl Future<Output = ()>) {
        let service = async {
            if is_ready.await.is_err() {
                // The proxy is ending by itself; its outcome is what counts.
                return std::future::pending().await;
            }
            self.announce();
            match self.args.for_seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = service => {}
            () = ended => {}
        }
    }

    fn announce(&self) {
        let url = url(self.args.listen);
        let dir = self.place.dir().display();
        say(self.begun, &format!("connect with: psql {url}"));
        say(
            self.begun,
            &format!(
                "superuser postgres/postgres; HTTP on http://{}; configuration {dir}/primacy.toml",
                self.args.admin
            ),
        );
        // After a resume it may be any of them.
        if let Ok(primary) = self.cluster.primary_on_disk().and_then(|id| self.cluster.node(id)) {
            let pid_file = primary.data_dir().join("postmaster.pid");
            say(self.begun, &format!("kill the primary with: kill -9 $(head -n 1 {})", pid_file.display()));
        }
        let mut out = std::io::stdout().lock();
        // Nobody may be reading; the demo serves all the same.
        writeln!(out, "ready {url}").and_then(|()| out.flush()).ok();
    }

    async fn stop(&self) -> Result<(), DemoError> {
        if self.place.is_temporary() {
            return Ok(self.cluster.kill(STOP_LIMIT).await?);
        }
        let stopped = self.cluster.stop(STOP_LIMIT).await;
        if self.place.is_unfinished() {
            self.cluster.discard_unfinished()?;
        }
        Ok(stopped?)
    }
}

/// Whether the proxy will be able to listen there: better said now than after the servers were built.
fn check_address(address: SocketAddr, option: &'static str) -> Result<(), DemoError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(DemoError::AddressInUse { address, option })
        }
        Err(source) => Err(DemoError::File { doing: "listen on", path: address.to_string().into(), source }),
    }
}

/// Where a client on this machine connects to.
fn url(listen: SocketAddr) -> String {
    let host = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let (user, password) = Cluster::APP;
    format!("postgres://{user}:{password}@{}/{user}", SocketAddr::new(host, listen.port()))
}

/// One line of progress.
fn say(begun: Instant, what: &str) {
    let seconds = clock::now().duration_since(begun).as_secs_f32();
    // Progress that nobody reads is no reason to stop.
    writeln!(std::io::stderr(), "{seconds:6.2} s  {what}").ok();
}

/// What ends the demo from outside.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn come(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
