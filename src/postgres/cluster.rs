//! A primary and its replicas in one directory: built once, resumed afterwards.
//!
//! `DIR/nodeI` is a data directory, `DIR/nodeI.log` its log, `DIR/sockets` holds the Unix sockets, and
//! `DIR/cluster.primacy` is written last: it says that the cluster is whole and ours. Every node has a replication
//! slot for every other one, so that any of them can become the primary.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::sql::within;
use super::{ConnInfo, InitOptions, Installation, Instance, Login, Place, PostgresError, Remote, connect};
use crate::model::{NodeId, Secret};

pub(super) const MARKER: &str = "cluster.primacy";
const INIT_LIMIT: Duration = Duration::from_secs(120);
const BACKUP_LIMIT: Duration = Duration::from_secs(120);
/// A start includes recovery, which takes what it takes.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);
pub(super) const SQL_LIMIT: Duration = Duration::from_secs(20);
const STREAMING: &str = "waiting until the replicas stream";
const STREAM_LIMIT: Duration = Duration::from_secs(20);

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// One replica beside the primary has it on disk.
    #[default]
    Quorum,
    /// The primary alone has it: the last moments may be lost with the primary.
    Async,
}

/// A cluster to build or to resume.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Where everything lives.
    pub dir: PathBuf,
    /// The nodes' ports; as many as there are nodes, the first primary's first.
    pub ports: Vec<u16>,
    /// What a commit waits for.
    pub durability: Durability,
    /// Whether initdb, base backups and rewinds are flushed to disk as a whole. Without it a crash of the machine
    /// (not of a server) may cost a data directory; the servers' own fsync is another matter.
    pub sync: bool,
    /// More settings for every server.
    pub settings: Vec<(String, String)>,
    /// More arguments for initdb.
    pub init_args: Vec<String>,
}

/// A step that is done or begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A new data directory is being made.
    Initializing(&'a str),
    /// A copy of the primary is being made.
    Copying(&'a str),
    /// A returning node's history is being fitted to the primary's.
    Rejoining(&'a str),
    /// A server accepts connections.
    Started {
        /// Its name.
        name: &'a str,
        /// Its port.
        port: u16,
        /// Whether it is a standby.
        standby: bool,
    },
    /// A server of an earlier run is there already.
    Found {
        /// Its name.
        name: &'a str,
        /// Its port.
        port: u16,
    },
    /// A dead primary whose replicas run is not started.
    LeftDown(&'a str),
    /// A node that is down and may have to be rewound is not fitted to the history of a primary that runs.
    LeftBehind(&'a str),
    /// The replicas that were started stream.
    Streaming {
        /// How many.
        replicas: usize,
    },
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initializing(name) => write!(f, "{name}: making a new data directory (initdb)"),
            Self::Copying(name) => write!(f, "{name}: taking a base backup of the primary"),
            Self::Rejoining(name) => write!(f, "{name}: fitting it to the primary's history (pg_rewind)"),
            Self::Started { name, port, standby } => {
                let role = if *standby { "replica" } else { "primary" };
                write!(f, "{name}: {role} on port {port}")
            }
            Self::Found { name, port } => write!(f, "{name}: runs already, on port {port}"),
            Self::LeftDown(name) => write!(f, "{name}: dead while its replicas run, left to the failover"),
            Self::LeftBehind(name) => {
                write!(f, "{name}: down since before a promotion, the proxy fits it to the primary's history")
            }
            Self::Streaming { replicas: 1 } => f.write_str("1 replica streams from the primary"),
            Self::Streaming { replicas } => write!(f, "{replicas} replicas stream from the primary"),
        }
    }
}

/// Told about every step.
pub type Progress<'a> = &'a (dyn Fn(&Step<'_>) + Send + Sync);

/// A primary with its replicas on this machine.
#[derive(Clone, Debug)]
pub struct Cluster {
    dir: PathBuf,
    sync: bool,
    nodes: Vec<Instance>,
    /// Per node: held while it is being rejoined or started.
    busy: Vec<Arc<Mutex<()>>>,
}

impl Cluster {
    /// Superuser of every cluster built here, and its password.
    pub const SUPERUSER: (&'static str, &'static str) = ("postgres", "postgres");
    /// Ordinary role that owns the database of the same name, and its password.
    pub const APP: (&'static str, &'static str) = ("app", "app");
    /// Role that replicas stream as, and its password.
    pub const REPLICATION: (&'static str, &'static str) = ("replicator", "replicator");

    /// Describes a cluster without touching anything.
    pub fn describe(installation: &Arc<Installation>, spec: &ClusterSpec) -> Self {
        let names: Vec<String> = (0..spec.ports.len()).map(|index| format!("node{index}")).collect();
        let mut settings =
            vec![("synchronous_standby_names".to_owned(), sync_names(&names, spec.durability))];
        settings.extend(spec.settings.iter().cloned());
        let place = |(name, port): (&String, &u16)| Place {
            name: name.clone(),
            port: *port,
            data_dir: spec.dir.join(name),
            log_file: spec.dir.join(format!("{name}.log")),
            rewind_mark: spec.dir.join(format!("{name}.rewinding")),
            socket_dir: spec.dir.join("sockets"),
        };
        let places = names.iter().zip(&spec.ports).map(place);
        let nodes: Vec<Instance> =
            places.map(|place| Instance::new(installation.clone(), place, settings.clone())).collect();
        let busy = nodes.iter().map(|_| Arc::default()).collect();
        Self { dir: spec.dir.clone(), sync: spec.sync, nodes, busy }
    }

    /// Builds the cluster, or resumes the one that `spec.dir` holds, and returns when all replicas stream.
    ///
    /// After an error servers may be left running: `stop` ends them.
    pub async fn open(&self, spec: &ClusterSpec, progress: Progress<'_>) -> Result<(), PostgresError> {
        let account = &self.installation_of_first()?.account;
        account.create_dir(&self.dir)?;
        account.create_dir(&self.dir.join("sockets"))?;
        account.can_enter(&self.dir)?;
        if self.dir.join(MARKER).exists() {
            self.resume(progress).await
        } else {
            self.build(spec, progress).await
        }
    }

    /// Whether `dir` holds a whole cluster that was built here.
    pub fn exists_in(dir: &Path) -> bool {
        dir.join(MARKER).exists()
    }

    /// Removes the data directories of a build that was broken off. Only for what this very program has just made:
    /// it does nothing to a cluster that was finished once.
    pub fn discard_unfinished(&self) -> Result<(), PostgresError> {
        if Self::exists_in(&self.dir) {
            return Ok(());
        }
        for path in self.nodes.iter().map(|node| node.data_dir().to_path_buf()).filter(|path| path.exists()) {
            let removed = std::fs::remove_dir_all(&path);
            removed.map_err(|source| PostgresError::File { doing: "remove", path, source })?;
        }
        // These go only if nothing is left in them; the logs stay, they may tell why.
        for dir in [self.dir.join("sockets"), self.dir.clone()] {
            std::fs::remove_dir(dir).ok();
        }
        Ok(())
    }

    /// The version of the cluster that `dir` holds, where it holds one.
    pub fn major_on_disk(dir: &Path) -> Option<u32> {
        std::fs::read_to_string(dir.join("node0").join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// The nodes in order of their number.
    pub fn nodes(&self) -> &[Instance] {
        &self.nodes
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..=u16::MAX).map(NodeId).take(self.nodes.len())
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Result<&Instance, PostgresError> {
        let missing = PostgresError::NoSuchNode { index: id.index(), nodes: self.nodes.len() };
        self.nodes.get(id.index()).ok_or(missing)
    }

    /// The directory that it lives in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn sync(&self) -> bool {
        self.sync
    }

    pub(super) fn busy(&self, id: NodeId) -> Result<Arc<Mutex<()>>, PostgresError> {
        let missing = PostgresError::NoSuchNode { index: id.index(), nodes: self.nodes.len() };
        self.busy.get(id.index()).cloned().ok_or(missing)
    }

    /// Kills every server: for a cluster that nobody will start again.
    pub async fn kill(&self, limit: Duration) -> Result<(), PostgresError> {
        join_all(self.nodes.iter().map(|node| node.kill(limit))).await.into_iter().collect()
    }

    /// Stops every server, by force where it must be; tells about the first that would not stop. A node that is being
    /// rejoined is waited for first.
    pub async fn stop(&self, limit: Duration) -> Result<(), PostgresError> {
        let stop = async |(node, busy): (&Instance, &Arc<Mutex<()>>)| {
            let quiet = timeout(limit, busy.lock()).await;
            let stopped = node.stop_surely(limit).await;
            drop(quiet);
            stopped
        };
        join_all(self.nodes.iter().zip(&self.busy).map(stop)).await.into_iter().collect()
    }

    fn installation_of_first(&self) -> Result<&Installation, PostgresError> {
        self.node(NodeId(0)).map(Instance::installation)
    }

    // ---- building ----------------------------------------------------------------------------------------------

    async fn build(&self, spec: &ClusterSpec, progress: Progress<'_>) -> Result<(), PostgresError> {
        self.check_free()?;
        let primary = self.node(NodeId(0))?;
        progress(&Step::Initializing(primary.name()));
        let (user, password) = Self::SUPERUSER;
        let superuser = (user.to_owned(), Secret::new(password));
        let options = InitOptions { superuser, sync: spec.sync, extra: spec.init_args.clone() };
        primary.init(&options, INIT_LIMIT).await?;
        self.hurry(primary)?;
        self.start(primary, progress).await?;
        let client = self.superuser_on(primary, SQL_LIMIT).await?;
        self.create_roles(primary, &client).await?;
        self.create_slots(primary, &client).await?;
        let replicas = self.nodes.iter().skip(1);
        try_join_all(replicas.map(|node| self.build_replica(node, primary, spec.sync, progress))).await?;
        let names: Vec<&str> = self.nodes.iter().skip(1).map(Instance::name).collect();
        self.wait_streaming(primary, &client, &names, progress).await?;
        self.nodes.iter().try_for_each(|node| node.write_conf().and_then(|()| node.reload()))?;
        self.write_marker(primary)
    }

    /// While it is being built, a cluster that is not flushed to disk as a whole has nothing to gain from fsync.
    fn hurry(&self, node: &Instance) -> Result<(), PostgresError> {
        if self.sync { Ok(()) } else { node.write_conf_with(&[("fsync", "off")]) }
    }

    /// Whether there is room for a new cluster: no data directory of that name holds anything.
    pub fn check_free(&self) -> Result<(), PostgresError> {
        match self.nodes.iter().find(|node| !is_free(node.data_dir())) {
            Some(node) => {
                let found = node.name().to_owned();
                Err(PostgresError::NotOurs { dir: self.dir.clone(), found })
            }
            None => Ok(()),
        }
    }

    async fn build_replica(
        &self,
        node: &Instance,
        primary: &Instance,
        sync: bool,
        progress: Progress<'_>,
    ) -> Result<(), PostgresError> {
        progress(&Step::Copying(node.name()));
        let upstream = Self::replication_from(primary, node.name());
        node.base_backup(&Remote::from(&upstream), Some(node.name()), sync, BACKUP_LIMIT).await?;
        self.hurry(node)?;
        node.follow(&upstream.with_password(), Some(node.name()))?;
        self.start(node, progress).await?;
        let client = self.superuser_on(node, SQL_LIMIT).await?;
        self.create_slots(node, &client).await
    }

    pub(super) async fn start(&self, node: &Instance, progress: Progress<'_>) -> Result<(), PostgresError> {
        node.start(START_LIMIT).await?;
        progress(&Step::Started { name: node.name(), port: node.port(), standby: node.is_standby() });
        Ok(())
    }

    async fn create_roles(&self, primary: &Instance, client: &Client) -> Result<(), PostgresError> {
        let (app, app_password) = Self::APP;
        let (repl, repl_password) = Self::REPLICATION;
        // CREATE DATABASE must be alone in its transaction, so these are three statements.
        for statement in [
            format!("CREATE ROLE {repl} LOGIN REPLICATION PASSWORD '{repl_password}'"),
            format!("CREATE ROLE {app} LOGIN PASSWORD '{app_password}'"),
            format!("CREATE DATABASE {app} OWNER {app}"),
        ] {
            within(primary.name(), "creating roles", SQL_LIMIT, client.batch_execute(&statement)).await?;
        }
        Ok(())
    }

    /// A slot on `node` for every other node. On a standby, and on a primary before they are used, they keep nothing.
    pub(super) async fn create_slots(&self, node: &Instance, client: &Client) -> Result<(), PostgresError> {
        for other in self.nodes.iter().filter(|other| other.name() != node.name()) {
            let statement = "SELECT pg_create_physical_replication_slot($1) \
                WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";
            let name = other.name();
            within(node.name(), "creating a slot", SQL_LIMIT, client.execute(statement, &[&name])).await?;
        }
        Ok(())
    }

    /// Waits until the replicas of these names stream.
    pub(super) async fn wait_streaming(
        &self,
        primary: &Instance,
        client: &Client,
        names: &[&str],
        progress: Progress<'_>,
    ) -> Result<(), PostgresError> {
        let all_stream = poll_streaming(primary, client, names);
        timeout(STREAM_LIMIT, all_stream).await.map_err(|_elapsed| PostgresError::SqlTooSlow {
            name: primary.name().to_owned(),
            doing: STREAMING,
            limit: STREAM_LIMIT,
        })??;
        if !names.is_empty() {
            progress(&Step::Streaming { replicas: names.len() });
        }
        Ok(())
    }

    pub(super) fn write_marker(&self, primary: &Instance) -> Result<(), PostgresError> {
        let path = self.dir.join(MARKER);
        let version = &primary.installation().version.text;
        let text = format!("nodes = {}\nversion = \"{version}\"\n", self.nodes.len());
        std::fs::write(&path, text).map_err(|source| PostgresError::File { doing: "write", path, source })
    }

    // ---- connections -------------------------------------------------------------------------------------------

    /// Signs in as the superuser; its statements do not wait for replicas.
    pub async fn superuser_on(&self, node: &Instance, limit: Duration) -> Result<Client, PostgresError> {
        let (user, password) = Self::SUPERUSER;
        let login = Login {
            name: node.name().to_owned(),
            port: node.port(),
            user: user.to_owned(),
            password: Secret::new(password),
            database: "postgres".to_owned(),
        };
        connect(&login, limit).await
    }

    /// What a standby of `upstream` that calls itself `application_name` connects with.
    pub fn replication_from(upstream: &Instance, application_name: &str) -> ConnInfo {
        conn_info(upstream, Self::REPLICATION, application_name)
    }

    /// What pg_rewind reads its source with.
    pub(super) fn rewind_from(upstream: &Instance) -> Remote {
        let conn = conn_info(upstream, Self::SUPERUSER, "primacy-rewind");
        Remote { conninfo: format!("{conn} dbname=postgres"), password: conn.password }
    }
}

async fn poll_streaming(primary: &Instance, client: &Client, names: &[&str]) -> Result<(), PostgresError> {
    let count = "SELECT count(*) FROM pg_stat_replication \
        WHERE state = 'streaming' AND application_name = ANY ($1)";
    loop {
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&names];
        let query = client.query_one(count, &parameters);
        let row = within(primary.name(), STREAMING, SQL_LIMIT, query).await?;
        if usize::try_from(row.get::<_, i64>(0)).is_ok_and(|streaming| streaming >= names.len()) {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn conn_info(upstream: &Instance, (user, password): (&str, &str), application_name: &str) -> ConnInfo {
    ConnInfo {
        host: "127.0.0.1".to_owned(),
        port: upstream.port(),
        user: user.to_owned(),
        password: Secret::new(password),
        application_name: application_name.to_owned(),
    }
}

/// The same text on every node, its own name included (which is harmless): so a new primary waits for its quorum
/// from the first commit on.
fn sync_names(names: &[String], durability: Durability) -> String {
    match durability {
        Durability::Quorum if names.len() > 1 => format!("ANY 1 ({})", names.join(", ")),
        _ => String::new(),
    }
}

fn is_free(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorum_names_every_node_and_one_server_alone_waits_for_nobody() {
        let names: Vec<String> = (0..3).map(|index| format!("node{index}")).collect();
        assert_eq!(sync_names(&names, Durability::Quorum), "ANY 1 (node0, node1, node2)");
        assert_eq!(sync_names(&names, Durability::Async), "");
        assert_eq!(sync_names(&names[..1], Durability::Quorum), "");
    }
}
