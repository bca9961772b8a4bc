//! A real cluster for one test.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use primacy::model::NodeId;
use primacy::postgres::{self, ClusterSpec, Durability, Installation, Instance, Step, Watchdog};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::certificates::Certificates;
use super::ports::PortLease;
use super::proxy::ProxyBuilder;
use super::template::{data_dir, installation, test_settings};
use super::wait::{LIMIT, eventually};

/// A primary (node 0) and its replicas, ended and removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    installation: Arc<Installation>,
    servers: postgres::Cluster,
    dir: PathBuf,
    _ports: Vec<PortLease>,
    // Dropped last: it ends whatever still runs.
    _watchdog: Watchdog,
}

/// What differs from the usual cluster.
#[derive(Debug)]
pub(crate) struct ClusterBuilder {
    replicas: usize,
    durability: Durability,
    identity: &'static str,
    settings: Vec<(String, String)>,
}

impl ClusterBuilder {
    /// Commits wait for nobody.
    pub(crate) fn asynchronous(mut self) -> Self {
        self.durability = Durability::Async;
        self
    }

    /// Another system identifier than every other test cluster's.
    pub(crate) fn of_another_system(mut self) -> Self {
        self.identity = "other";
        self
    }

    /// One more setting on every server.
    pub(crate) fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Servers that offer TLS, with a certificate for `localhost`.
    pub(crate) fn tls(self, certificates: &Certificates) -> Self {
        self.setting("ssl", "on")
            .setting("ssl_cert_file", &certificates.path("server.crt"))
            .setting("ssl_key_file", &certificates.path("server.key"))
    }

    /// Starts it; all replicas stream when this returns.
    pub(crate) async fn run(self) -> Cluster {
        let installation = installation().await;
        let template = data_dir(&installation, self.identity).await;
        let dir = tempfile::Builder::new().prefix("primacy-it-").tempdir().unwrap().keep();
        installation.account.own(&dir).unwrap();
        let watchdog = Watchdog::over(&dir).unwrap();
        let ports: Vec<PortLease> = (0..=self.replicas).map(|_| PortLease::take()).collect();
        let spec = ClusterSpec {
            dir: dir.clone(),
            ports: ports.iter().map(PortLease::number).collect(),
            durability: self.durability,
            sync: false,
            settings: self.settings,
            init_args: Vec::new(),
        };
        let servers = postgres::Cluster::describe(&installation, &spec);
        servers.open_copies(&template, &|step: &Step<'_>| eprintln!("{step}")).await.unwrap();
        Cluster { installation, servers, dir, _ports: ports, _watchdog: watchdog }
    }
}

impl Cluster {
    /// A primary and `replicas` replicas that stream from it, quorum commit.
    pub(crate) async fn with_replicas(replicas: usize) -> Self {
        Self::builder(replicas).run().await
    }

    /// The same, to be changed first.
    pub(crate) fn builder(replicas: usize) -> ClusterBuilder {
        let settings = test_settings();
        ClusterBuilder { replicas, durability: Durability::Quorum, identity: "usual", settings }
    }

    /// The servers as the room `postgres` knows them.
    pub(crate) fn servers(&self) -> &postgres::Cluster {
        &self.servers
    }

    /// Where PostgreSQL's programs are.
    pub(crate) fn bin_dir(&self) -> &Path {
        &self.installation.bin_dir
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives a file or directory to the servers' account.
    pub(crate) fn own(&self, path: &Path) {
        self.installation.account.own(path).unwrap();
    }

    /// A proxy in front of it.
    pub(crate) fn proxy(&self) -> ProxyBuilder<'_> {
        ProxyBuilder::new(self)
    }

    /// One server.
    pub(crate) fn node(&self, index: usize) -> &Instance {
        self.servers.node(NodeId(u16::try_from(index).unwrap())).unwrap()
    }

    /// psql of the servers' version, with that connection string: what it printed, or its complaint.
    pub(crate) async fn psql(&self, conninfo: &str, sql: &str) -> Result<String, String> {
        let mut command = self.psql_command(&["-X", "-w", "-A", "-t", "-c", sql, conninfo]);
        let ended = tokio::time::timeout(LIMIT, command.output()).await.expect("psql ends").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        if ended.status.success() { Ok(text(ended.stdout)) } else { Err(text(ended.stderr)) }
    }

    /// psql of the servers' version, to be started.
    pub(crate) fn psql_command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = self.program("psql");
        command.args(args);
        // Nothing of whoever runs the tests: neither its service file nor its certificates.
        command.env("HOME", &self.dir).env("PGSSLCERT", "/nonexistent").env_remove("PGSERVICE");
        command
    }

    /// One of PostgreSQL's programs, of the servers' version.
    pub(crate) fn program(&self, name: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.installation.bin_dir.join(name));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// A superuser's connection to the database `app` of one server.
    pub(crate) async fn client(&self, index: usize) -> Client {
        let login = postgres::Login {
            name: self.node(index).name().to_owned(),
            port: self.node(index).port(),
            user: "postgres".into(),
            password: primacy::model::Secret::new("postgres"),
            database: "app".into(),
        };
        // One that is starting says so, and is waited for.
        let admitted = async {
            loop {
                match postgres::connect(&login, LIMIT).await {
                    Ok(client) => return client,
                    Err(error) => assert!(format!("{error:?}").contains("E57P03"), "{error:?}"),
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, admitted).await.expect("the server lets a superuser in")
    }

    /// Runs statements on one server as superuser; the rows of all of them as text, NULL as an empty string.
    pub(crate) async fn sql(&self, index: usize, text: &str) -> Vec<Vec<String>> {
        rows(&self.client(index).await, text)
            .await
            .unwrap_or_else(|error| panic!("node{index}: {text}: {error}"))
    }

    /// The first value that a query gives on one server.
    pub(crate) async fn value(&self, index: usize, text: &str) -> String {
        let rows = self.sql(index, text).await;
        rows.into_iter().flatten().next().unwrap_or_else(|| panic!("node{index}: {text}: no row"))
    }

    /// The running server that is a primary; panics unless there is exactly one.
    pub(crate) async fn primary(&self) -> usize {
        let mut primaries = Vec::new();
        for (index, node) in self.servers.nodes().iter().enumerate() {
            if node.running().is_some() && self.value(index, "SELECT pg_is_in_recovery()").await == "f" {
                primaries.push(index);
            }
        }
        assert_eq!(primaries.len(), 1, "primaries: {primaries:?}");
        primaries[0]
    }

    /// `kill -9` of a postmaster.
    pub(crate) async fn kill(&self, index: usize) {
        self.node(index).kill(LIMIT).await.unwrap();
    }

    /// `kill -9` of the primary's postmaster; which one it was.
    pub(crate) async fn kill_primary(&self) -> usize {
        let primary = self.primary().await;
        self.kill(primary).await;
        primary
    }

    /// Starts a server that was killed.
    pub(crate) async fn start(&self, index: usize) {
        self.node(index).start(LIMIT).await.unwrap();
    }

    /// Freezes every process of a server (`SIGSTOP`).
    pub(crate) fn stop(&self, index: usize) {
        self.node(index).freeze(true);
    }

    /// Wakes them (`SIGCONT`).
    pub(crate) fn cont(&self, index: usize) {
        self.node(index).freeze(false);
    }

    /// A replica goes on receiving, but shows nothing new.
    pub(crate) async fn pause_replay(&self, index: usize) {
        self.sql(index, "SELECT pg_wal_replay_pause()").await;
        eventually(LIMIT, "replay is paused", async || {
            (self.value(index, "SELECT pg_get_wal_replay_pause_state()").await == "paused").then_some(())
        })
        .await;
    }

    /// A paused replica goes on.
    pub(crate) async fn resume_replay(&self, index: usize) {
        self.sql(index, "SELECT pg_wal_replay_resume()").await;
    }

    /// Waits until a replica shows everything that the primary had when this was called.
    pub(crate) async fn caught_up(&self, index: usize, primary: usize) {
        let position = self.value(primary, "SELECT pg_current_wal_insert_lsn()").await;
        let seen = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        let what = format!("node{index} has replayed {position}");
        eventually(LIMIT, &what, async || (self.value(index, &seen).await == "t").then_some(())).await;
    }
}

/// All rows of all statements in `text`.
pub(crate) async fn rows(client: &Client, text: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let mut rows = Vec::new();
    for message in client.simple_query(text).await? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect());
        }
    }
    Ok(rows)
}
