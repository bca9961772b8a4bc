//! The cluster under test: a `primacy demo` in a process of its own, reached by its clients through its port and by the
//! faults through the servers' processes and the relays between it and them.
//!
//! Whatever ends this program, the demo and its servers are ended and the directory is removed.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bare::Bare;
use super::relay::Relay;
use crate::admin::json::{ChangeReport, StatusReport};
use crate::clock;
use crate::model::Secret;
use crate::postgres::{
    Cluster, ClusterSpec, Durability, Installation, Instance, Login, PostgresError, Search, Watchdog, connect,
};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
const HTTP_LIMIT: Duration = Duration::from_secs(2);

/// What to build.
#[derive(Clone, Debug)]
pub struct ArenaSpec {
    /// The program whose `demo` is tested.
    pub program: PathBuf,
    /// Number of servers.
    pub nodes: u16,
    /// What a commit waits for.
    pub durability: Durability,
    /// Directory of PostgreSQL's server programs.
    pub pg_bin: Option<PathBuf>,
    /// The value of PATH.
    pub path: Option<std::ffi::OsString>,
}

/// Why there is no arena, or no more.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// PostgreSQL.
    #[error(transparent)]
    Servers(#[from] PostgresError),
    /// Files, ports, processes.
    #[error("cannot {doing}")]
    System {
        /// The verb.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Somebody ended it before there was anything to judge.
    #[error("ended before the cluster served")]
    Ended,
    /// The demo ended, or did not serve in time.
    #[error("the demo does not serve; it said last: {last}")]
    Demo {
        /// The end of its output.
        last: String,
    },
}

fn system(doing: &'static str) -> impl FnOnce(io::Error) -> ArenaError {
    move |source| ArenaError::System { doing, source }
}

/// The cluster, its proxy and the network between them.
#[derive(Debug)]
pub struct Arena {
    spec: ArenaSpec,
    installation: Arc<Installation>,
    listen: SocketAddr,
    admin: SocketAddr,
    base_port: u16,
    cluster: Cluster,
    relays: Vec<Relay>,
    demo: Option<Child>,
    // Dropped last: ends what is left, and removes the directory.
    _watchdog: Watchdog,
}

impl Arena {
    /// Builds it; returns when it serves.
    pub async fn open(spec: ArenaSpec) -> Result<Self, ArenaError> {
        let search = Search { given: spec.pg_bin.clone(), path: spec.path.clone(), major: None };
        let installation: Arc<Installation> = Arc::new(search.run().await?);
        let dir = installation.account.temporary_dir("primacy-chaos-")?;
        let watchdog = Watchdog::over(&dir)?;
        let base_port = free_row(spec.nodes).map_err(system("find free ports"))?;
        let cluster = Cluster::describe(
            &installation,
            &ClusterSpec {
                dir: dir.clone(),
                ports: (base_port..base_port + spec.nodes).collect(),
                durability: spec.durability,
                sync: false,
                settings: Vec::new(),
                init_args: Vec::new(),
            },
        );
        let mut relays = Vec::new();
        for node in cluster.nodes() {
            let server = SocketAddr::from((Ipv4Addr::LOCALHOST, node.port()));
            relays.push(Relay::open(server).await.map_err(system("open a relay"))?);
        }
        let [listen, admin] = free_pair().map_err(system("find free ports"))?;
        let mut arena = Self {
            spec,
            installation,
            listen,
            admin,
            base_port,
            cluster,
            relays,
            demo: None,
            _watchdog: watchdog,
        };
        arena.start_demo().await?;
        Ok(arena)
    }

    /// Two servers beside it, for comparison.
    pub async fn bare_pair(&self) -> Result<Bare, ArenaError> {
        let first = free_row(2).map_err(system("find free ports"))?;
        Ok(Bare::open(&self.installation, [first, first + 1]).await?)
    }

    /// How its clients connect.
    pub fn config(&self) -> tokio_postgres::Config {
        let (user, password) = Cluster::APP;
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.listen.port()).user(user).password(password).dbname(user);
        config.application_name("primacy-chaos").connect_timeout(Duration::from_secs(10));
        config
    }

    /// The servers.
    pub fn nodes(&self) -> &[Instance] {
        self.cluster.nodes()
    }

    /// Signs in on a server itself.
    pub async fn superuser_on(&self, node: usize) -> Result<tokio_postgres::Client, ArenaError> {
        let node =
            self.nodes().get(node).ok_or_else(|| system("find a node")(io::ErrorKind::NotFound.into()))?;
        Ok(self.cluster.superuser_on(node, HTTP_LIMIT).await?)
    }

    /// Signs in on a server itself, to the clients' tables.
    pub async fn app_on(&self, node: usize) -> Result<tokio_postgres::Client, ArenaError> {
        let node =
            self.nodes().get(node).ok_or_else(|| system("find a node")(io::ErrorKind::NotFound.into()))?;
        let (user, password) = Cluster::APP;
        let login = Login {
            name: node.name().to_owned(),
            port: node.port(),
            user: user.to_owned(),
            password: Secret::new(password),
            database: user.to_owned(),
        };
        Ok(connect(&login, HTTP_LIMIT).await?)
    }

    /// The network between the proxy and a server.
    pub fn relay(&self, node: usize) -> Option<&Relay> {
        self.relays.get(node)
    }

    /// Starts the demo, or resumes it after it was killed.
    pub async fn start_demo(&mut self) -> Result<(), ArenaError> {
        let home = self.cluster.dir().join("proxy");
        std::fs::create_dir_all(&home).map_err(system("make a directory"))?;
        let log = home.join("demo.log");
        let open = || File::options().create(true).append(true).open(&log).map_err(system("open a log file"));
        let ready = home.join("ready");
        let out = File::create(&ready).map_err(system("open a file"))?;
        let mut command = Command::new(&self.spec.program);
        command.arg("demo").arg("--dir").arg(self.cluster.dir());
        command.args(["--nodes", &self.spec.nodes.to_string(), "--listen", &self.listen.to_string()]);
        command.args(["--admin", &self.admin.to_string(), "--base-port", &self.base_port.to_string()]);
        command.args([
            "--durability",
            if self.spec.durability == Durability::Quorum { "quorum" } else { "async" },
        ]);
        if let Some(dir) = &self.spec.pg_bin {
            command.arg("--pg-bin").arg(dir);
        }
        for relay in &self.relays {
            command.args(["--via", &relay.port().to_string()]);
        }
        command.current_dir(&home).process_group(0);
        command.stdin(Stdio::null()).stdout(out).stderr(open()?);
        let child = command.spawn().map_err(system("start the demo"))?;
        // The watchdog ends what works in a directory with its process id in it.
        std::fs::write(home.join("demo.pid"), format!("{}\n", child.id())).map_err(system("write a file"))?;
        let child = self.demo.insert(child);
        let deadline = clock::now() + START_LIMIT;
        loop {
            let said = std::fs::read_to_string(&ready).unwrap_or_default();
            if said.starts_with("ready ") && said.ends_with('\n') {
                return Ok(());
            }
            let ended = child.try_wait().map_err(system("look after the demo"))?.is_some();
            if ended || clock::now() > deadline {
                return Err(ArenaError::Demo { last: last_lines(&log) });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills the proxy (the demo's process) without a word. The servers go on.
    pub fn kill_demo(&mut self) -> Result<(), ArenaError> {
        let Some(mut demo) = self.demo.take() else { return Ok(()) };
        demo.kill().and_then(|()| demo.wait()).map_err(system("kill the demo"))?;
        Ok(())
    }

    /// Stops it as Ctrl-C would.
    pub async fn stop(&mut self) -> Result<(), ArenaError> {
        let Some(demo) = &mut self.demo else { return Ok(()) };
        let pid = i32::try_from(demo.id()).map_or(Pid::from_raw(0), Pid::from_raw);
        if pid.as_raw() > 1 {
            kill(pid, Signal::SIGTERM)
                .or_else(gone)
                .map_err(|errno| system("stop the demo")(errno.into()))?;
        }
        let deadline = clock::now() + STOP_LIMIT;
        while demo.try_wait().map_err(system("wait for the demo"))?.is_none() {
            if clock::now() > deadline {
                return self.kill_demo();
            }
            tokio::time::sleep(POLL).await;
        }
        self.demo = None;
        Ok(())
    }

    /// What the proxy says of the cluster; `None` where it does not answer.
    pub async fn status(&self) -> Option<StatusReport> {
        self.get("/api/v1/status").await
    }

    /// Every change of primary until now.
    pub async fn history(&self) -> Option<Vec<ChangeReport>> {
        self.get("/api/v1/history").await
    }

    /// Asks the proxy for a switchover; what it answers.
    pub async fn switchover(&self) -> Result<(), String> {
        let url = format!("http://{}/api/v1/switchover", self.admin);
        let asked = tokio::task::spawn_blocking(move || {
            let mut answer =
                agent(START_LIMIT).post(&url).send_json(serde_json::json!({})).map_err(|e| e.to_string())?;
            let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(text) }
        });
        asked.await.map_err(|error| error.to_string())?
    }

    async fn get<T: serde::de::DeserializeOwned + Send + 'static>(&self, path: &str) -> Option<T> {
        let url = format!("http://{}{path}", self.admin);
        let asked = tokio::task::spawn_blocking(move || {
            agent(HTTP_LIMIT).get(&url).call().ok()?.body_mut().read_json().ok()
        });
        asked.await.ok()?
    }

    /// The primary by its number, as the proxy sees it.
    pub async fn primary(&self) -> Option<usize> {
        let primary = self.status().await?.cluster.primary?;
        self.nodes().iter().position(|node| node.name() == primary)
    }

    /// Counts the primaries.
    pub async fn epoch(&self) -> Option<u64> {
        Some(self.status().await?.cluster.epoch)
    }

    /// Whether everything is as it was before anything was done to it: a primary that serves, and all others readable
    /// replicas of it, by what they have said not longer ago than `since`.
    pub async fn is_whole(&self, since: Duration) -> bool {
        let fresh = |ago: Option<u64>| ago.is_some_and(|ago| u128::from(ago) < since.as_millis());
        let Some(status) = self.status().await else { return false };
        let cluster = status.cluster;
        cluster.service == "open"
            && cluster.state == "steady"
            && cluster.primary.is_some()
            && cluster.nodes.len() == self.nodes().len()
            && cluster.nodes.iter().all(|node| node.readable && fresh(node.answered_ms_ago))
    }

    /// Copies what tells the story of the run: the output of the demo and the logs of the servers.
    pub fn keep_logs(&self, to: &Path) -> io::Result<()> {
        std::fs::create_dir_all(to)?;
        let dir = self.cluster.dir();
        std::fs::copy(dir.join("proxy").join("demo.log"), to.join("demo.log"))?;
        for node in self.nodes() {
            std::fs::copy(node.log_file(), to.join(format!("{}.log", node.name())))?;
        }
        Ok(())
    }

    /// The last lines of the demo's output.
    pub fn demo_log(&self) -> String {
        last_lines(&self.cluster.dir().join("proxy").join("demo.log"))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // Its servers are the watchdog's.
        self.kill_demo().ok();
    }
}

fn gone(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::ESRCH { Ok(()) } else { Err(errno) }
}

fn agent(limit: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .new_agent()
}

fn last_lines(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join(" | ")
}

/// Two free ports. Somebody may take them before the demo does; that is said by the demo.
fn free_pair() -> io::Result<[SocketAddr; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?, second.local_addr()?])
}

/// The first of a row of free ports.
fn free_row(count: u16) -> io::Result<u16> {
    const ATTEMPTS: usize = 100;
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let base = fastrand::u16(10_000..30_000);
        let taken: io::Result<Vec<TcpListener>> =
            (base..base + count).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        match taken {
            Ok(_) => return Ok(base),
            Err(error) => last = error,
        }
    }
    Err(last)
}
