//! The cluster that everything runs against: a primary and two replicas with pgbench's tables.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use primacy::postgres::{Cluster, ClusterSpec, Durability, Installation, Search, Step, Watchdog};
use tokio::process::Command;

use super::Outcome;
use super::arguments::Arguments;

const LIMIT: Duration = Duration::from_secs(60);

const CERTIFICATE: &str = "bench.crt";
const KEY: &str = "bench.key";

/// The servers, stopped and removed by `clear`, or by the watchdog if this program is killed.
pub(crate) struct Stage {
    servers: Cluster,
    installation: Arc<Installation>,
    dir: PathBuf,
    _watchdog: Watchdog,
}

impl Stage {
    /// Builds it.
    pub(crate) async fn build(arguments: &Arguments) -> Outcome<Self> {
        let installation = Arc::new(Search { given: None, path: path_variable(), major: None }.run().await?);
        let dir = tempfile::Builder::new().prefix("primacy-bench-").tempdir()?.keep();
        installation.account.own(&dir)?;
        let watchdog = Watchdog::over(&dir)?;
        if arguments.tls {
            make_certificate(&dir)?;
            for file in [CERTIFICATE, KEY] {
                installation.account.own(&dir.join(file))?;
            }
        }
        let in_dir = |file: &str| dir.join(file).display().to_string();
        let tls = [
            ("ssl".to_owned(), "on".to_owned()),
            ("ssl_cert_file".to_owned(), in_dir(CERTIFICATE)),
            ("ssl_key_file".to_owned(), in_dir(KEY)),
        ];
        let settings = [
            // What is measured is the way to the server, not its disks.
            ("fsync", "off"),
            ("shared_buffers", "256MB"),
            ("max_connections", "400"),
            ("max_wal_size", "1GB"),
        ];
        let spec = ClusterSpec {
            dir: dir.clone(),
            ports: free_ports(3)?,
            durability: Durability::Async,
            sync: false,
            settings: settings
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .chain(tls.into_iter().filter(|_| arguments.tls))
                .collect(),
            init_args: Vec::new(),
        };
        let servers = Cluster::describe(&installation, &spec);
        let stage = Self { servers, installation, dir, _watchdog: watchdog };
        stage.servers.open(&spec, &|step: &Step<'_>| eprintln!("bench: {step}")).await?;
        stage.fill(arguments.scale).await?;
        Ok(stage)
    }

    async fn fill(&self, scale: u32) -> Outcome<()> {
        eprintln!("bench: filling pgbench's tables, scale {scale}");
        let mut command = self.client_program("pgbench", self.primary_port());
        command.args(["--initialize", "--quiet", "--scale", &scale.to_string()]);
        let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
        if !done.success() {
            return Err("pgbench could not fill its tables".into());
        }
        Ok(())
    }

    /// A client program of PostgreSQL, about to connect to a port of this machine as the role `app`.
    pub(crate) fn client_program(&self, name: &str, port: u16) -> Command {
        let beside = self.installation.bin_dir.join(name);
        let mut command = Command::new(if beside.exists() { beside } else { PathBuf::from(name) });
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).env("PGSSLMODE", "disable");
        command.env("PGUSER", "app").env("PGPASSWORD", "app").env("PGDATABASE", "app");
        command.stdin(Stdio::null());
        command
    }

    /// The certificate and key of the servers; there with `--tls`.
    pub(crate) fn certificate(&self) -> (PathBuf, PathBuf) {
        (self.dir.join(CERTIFICATE), self.dir.join(KEY))
    }

    pub(crate) fn primary_port(&self) -> u16 {
        self.servers.nodes().first().map_or(0, primacy::postgres::Instance::port)
    }

    pub(crate) fn servers(&self) -> &Cluster {
        &self.servers
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a directory that the servers' account may write to.
    pub(crate) fn open_dir(&self, name: &str) -> Outcome<PathBuf> {
        let dir = self.dir.join(name);
        self.installation.account.create_dir(&dir)?;
        Ok(dir)
    }

    /// The account that servers and PgBouncer run as.
    pub(crate) fn account(&self) -> &str {
        self.installation.account.name()
    }

    pub(crate) fn version(&self) -> &str {
        &self.installation.version.text
    }

    /// Stops the servers and removes everything.
    pub(crate) async fn clear(self) -> Outcome<()> {
        self.servers.stop(LIMIT).await?;
        std::fs::remove_dir_all(&self.dir)?;
        Ok(())
    }
}

/// RSA of 2048 bits, as Debian's own and most authorities' certificates are.
fn make_certificate(dir: &Path) -> Outcome<()> {
    let mut command = std::process::Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    command.args(["-keyout", KEY, "-out", CERTIFICATE]).current_dir(dir).stderr(Stdio::null());
    if !command.status()?.success() {
        return Err("openssl could not make a certificate".into());
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a program of its own: it reads its environment here")]
fn path_variable() -> Option<std::ffi::OsString> {
    std::env::var_os("PATH")
}

/// Ports that nobody listens on now.
pub(crate) fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    let listeners: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(listeners.iter().map(|l| l.local_addr().map(|address| address.port())).collect::<Result<_, _>>()?)
}
