//! The real program in front of a test cluster.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::{Client, NoTls};
use toml::{Table, Value};

use super::cluster::Cluster;
use super::ports::PortLease;
use super::wait::{LIMIT, eventually};

/// A proxy that is to be started.
#[derive(Debug)]
pub(crate) struct ProxyBuilder<'a> {
    cluster: &'a Cluster,
    port: PortLease,
    admin: PortLease,
    config: Table,
}

/// A running proxy, ended with the test.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Child,
    port: PortLease,
    admin: PortLease,
    dir: PathBuf,
}

impl<'a> ProxyBuilder<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        let (port, admin) = (PortLease::take(), PortLease::take());
        let config = config(cluster, port.number(), admin.number());
        Self { cluster, port, admin, config }
    }

    /// Changes one key, named with its tables: `routing.consistency`.
    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let mut path: Vec<&str> = key.split('.').collect();
        let last = path.pop().unwrap();
        let mut table = &mut self.config;
        for name in path {
            let inner = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
            table = inner.as_table_mut().unwrap_or_else(|| panic!("{name} of {key} is no table"));
        }
        table.insert(last.to_owned(), value.into());
        self
    }

    /// Changes one key of every node.
    pub(crate) fn set_nodes(mut self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let nodes = self.config.get_mut("nodes").and_then(Value::as_array_mut).unwrap();
        for node in nodes {
            node.as_table_mut().unwrap().insert(key.to_owned(), value.clone());
        }
        self
    }

    /// Only these servers are configured.
    pub(crate) fn nodes(mut self, indices: &[usize]) -> Self {
        self.config.insert("nodes".into(), nodes(self.cluster, indices));
        self
    }

    /// Changes one key of one node.
    pub(crate) fn set_node(mut self, node: usize, key: &str, value: &str) -> Self {
        let nodes = self.config.get_mut("nodes").and_then(Value::as_array_mut).unwrap();
        nodes[node].as_table_mut().unwrap().insert(key.to_owned(), value.into());
        self
    }

    /// Starts it and returns when it serves a query.
    pub(crate) async fn run(self) -> Proxy {
        let mut proxy = self.start();
        proxy.serves().await;
        proxy
    }

    /// Starts it and returns at once: for proxies that cannot serve.
    pub(crate) fn start(self) -> Proxy {
        // A directory per proxy, named by its port: several may stand before one cluster.
        let dir = self.cluster.dir().join(format!("proxy-{}", self.port.number()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("primacy.toml"), toml::to_string(&self.config).unwrap()).unwrap();
        let process = spawn(&dir);
        Proxy { process, port: self.port, admin: self.admin, dir }
    }
}

fn spawn(dir: &PathBuf) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.args(["serve", "--config", "primacy.toml"]).current_dir(dir).stdin(Stdio::null());
    let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    // The cluster's watchdog ends what such files name.
    std::fs::write(dir.join("proxy.pid"), format!("{}\n", process.id())).unwrap();
    process
}

/// The configuration that every test proxy starts from.
fn config(cluster: &Cluster, port: u16, admin: u16) -> Table {
    let mut table = toml::toml! {
        state_dir = "state"
        [service]
        user = "postgres"
        password = "postgres"
        [replication]
        user = "replicator"
        password = "replicator"
        [log]
        level = "debug"
    };
    let all: Vec<usize> = (0..cluster.servers().nodes().len()).collect();
    table.insert("nodes".into(), nodes(cluster, &all));
    table.insert("listen".into(), format!("127.0.0.1:{port}").into());
    let admin = Table::from_iter([("listen".to_owned(), Value::from(format!("127.0.0.1:{admin}")))]);
    table.insert("admin".into(), admin.into());
    table
}

/// `[[nodes]]` for these servers.
fn nodes(cluster: &Cluster, indices: &[usize]) -> Value {
    let node = |index: &usize| {
        let node = cluster.node(*index);
        let port = i64::from(node.port());
        let table = toml::toml! { host = "127.0.0.1" }
            .into_iter()
            .chain([("name".into(), node.name().into()), ("port".into(), port.into())]);
        Value::Table(table.collect())
    };
    Value::Array(indices.iter().map(node).collect())
}

impl Proxy {
    /// Its configuration names only these servers from the next reload on.
    pub(crate) fn with_nodes(&self, cluster: &Cluster, indices: &[usize]) -> &Self {
        self.edit(|table| table.insert("nodes".into(), nodes(cluster, indices)));
        self
    }

    /// Another value of one top-level key in its configuration file; what stood there.
    pub(crate) fn with(&self, key: &str, value: impl Into<Value>) -> Option<Value> {
        self.edit(|table| table.insert(key.to_owned(), value.into()))
    }

    /// One top-level key less in its configuration file.
    pub(crate) fn without(&self, key: &str) -> Option<Value> {
        self.edit(|table| table.remove(key))
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let file = self.dir.join("primacy.toml");
        let mut table: Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        let changed = change(&mut table);
        std::fs::write(file, toml::to_string(&table).unwrap()).unwrap();
        changed
    }

    /// Ends the process that has taken this one's place.
    pub(crate) async fn stop_successor(&self, cluster: &Cluster) {
        let pid = *self.successors().last().expect("one was started");
        kill(pid, Signal::SIGTERM).unwrap();
        let gone = async || self.program(cluster, &["status"]).await.err();
        eventually(LIMIT, "the successor has ended", gone).await;
    }

    /// Processes that were started to take this one's place, and run: they are nobody's children when it is gone.
    fn successors(&self) -> Vec<Pid> {
        let log = self.log();
        let started = log.split("started to take this process's place").skip(1);
        let pids = started
            .filter_map(|rest| rest.split("pid=").nth(1)?.split_whitespace().next()?.parse::<i32>().ok());
        let dir = std::fs::canonicalize(&self.dir).ok();
        let ours = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/cwd")).ok() == dir && dir.is_some();
        pids.filter(ours).map(Pid::from_raw).collect()
    }

    /// `primacy reload`: what it printed, or its complaint.
    pub(crate) async fn reload(&self, cluster: &Cluster) -> Result<String, String> {
        self.program(cluster, &["reload"]).await
    }

    /// The program's command line against this proxy: what it printed, or its complaint.
    pub(crate) async fn program(&self, cluster: &Cluster, args: &[&str]) -> Result<String, String> {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_primacy"));
        command.args(args).env("PRIMACY_ADMIN", self.admin()).env("HOME", cluster.dir());
        let ended = tokio::time::timeout(LIMIT, command.output()).await.expect("it ends").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if ended.status.success() { Ok(text(ended.stdout)) } else { Err(text(ended.stderr)) }
    }

    /// A URL through it; the password is the role's name, as everywhere in test clusters.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}:{user}@127.0.0.1:{}/{database}", self.port.number())
    }

    /// The port that clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where its HTTP API listens.
    pub(crate) fn admin(&self) -> String {
        format!("127.0.0.1:{}", self.admin.number())
    }

    /// What `/metrics` shows now.
    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await
    }

    /// What its HTTP API answers there.
    pub(crate) async fn get(&self, path: &str) -> String {
        let address = format!("http://{}{path}", self.admin());
        let asked = tokio::task::spawn_blocking(move || {
            ureq::get(&address).call().unwrap().body_mut().read_to_string().unwrap()
        });
        asked.await.unwrap()
    }

    /// A client of the role and the database `app`.
    pub(crate) async fn client(&self) -> Client {
        self.connect(&self.url("app", "app")).await.unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// A client by URL.
    pub(crate) async fn connect(&self, url: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Statements that went to the first node and to the others, by the proxy's own counters.
    pub(crate) async fn served(&self) -> (u64, u64) {
        let text = self.metrics().await;
        let (mut first, mut others) = (0, 0);
        for line in text.lines().filter(|line| line.starts_with("primacy_routes_total{")) {
            let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            if line.contains("node0") { first += count } else { others += count }
        }
        (first, others)
    }

    /// Where its configuration lies.
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has written to stdout and stderr.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// A signal, e.g. SIGHUP.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// SIGTERM; how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        eventually(LIMIT, "the proxy has ended", async || process.try_wait().unwrap()).await
    }

    /// Starts it again after `kill` or `terminate`, on the same ports and state, and waits until it serves.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(&self.dir);
        self.serves().await;
    }

    async fn serves(&mut self) {
        let url = self.url("app", "app");
        let (process, log) = (&mut self.process, self.dir.join("log"));
        let log = || std::fs::read_to_string(&log).unwrap_or_default();
        let serves = eventually(LIMIT, "the proxy serves", async || {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("the proxy ended ({status}) before it served:\n{}", log());
            }
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.ok()?;
            let connection = tokio::spawn(connection);
            let answer = client.simple_query("SELECT 1").await.ok().map(drop);
            connection.abort();
            answer
        });
        serves.await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        for pid in self.successors() {
            kill(pid, Signal::SIGKILL).ok();
        }
        if std::thread::panicking() {
            eprintln!("---- the proxy's log ----\n{}", self.log());
        }
    }
}
