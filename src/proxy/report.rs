//! What the workers have at this moment, for people: clients, pools, server connections, counts, statements.
//!
//! A worker answers between two polls of its sessions, from what it has in memory; whoever asks puts the answers together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::counts::Counted;
use super::handle::{Doing, Handle, Held};
use super::worker::{Command, Shared, Worker};
use crate::clock;
use crate::model::NodeId;
pub use crate::route::RouteReason;
pub use crate::sql::{CacheStats, Reason, Used};

/// Statements that one worker tells of: its most frequent ones.
pub const STATEMENTS_MAX: usize = 1_000;

/// How long a worker gets to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What somebody wants to know of. A worker serves nobody while it answers, so only what is wanted is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Clients, pools, server connections, counts.
    Sessions,
    /// Statements by fingerprint.
    Statements,
}

/// What one worker has.
#[derive(Clone, Debug, Default)]
pub struct WorkerReport {
    /// Its clients.
    pub clients: Vec<ClientReport>,
    /// Its pools, by node.
    pub pools: Vec<PoolReport>,
    /// Its server connections.
    pub servers: Vec<ServerReport>,
    /// Counts by database.
    pub databases: BTreeMap<Arc<str>, Counted>,
    /// Statements by fingerprint.
    pub statements: Vec<Used>,
    /// The cache of verdicts.
    pub verdicts: CacheStats,
    /// Statements that wait for a primary, and their bytes.
    pub holds: (u32, u64),
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientReport {
    /// Its process id.
    pub pid: i32,
    /// The role.
    pub user: Arc<str>,
    /// The database.
    pub database: Arc<str>,
    /// What it calls itself.
    pub application_name: String,
    /// Where it comes from.
    pub peer: Option<SocketAddr>,
    /// Where it came to.
    pub local: Option<SocketAddr>,
    /// Whether it uses TLS.
    pub tls: bool,
    /// The value of `replication`.
    pub replication: Option<String>,
    /// It is a client of the console.
    pub is_console: bool,
    /// When it signed in.
    pub connected_at: SystemTime,
    /// What it does.
    pub doing: Doing,
    /// For how long, to a tenth of a second.
    pub since: Duration,
    /// The node whose connection it holds, and the process id there.
    pub server: Option<(NodeId, i32)>,
    /// What ties it to that connection.
    pub pins: Vec<&'static str>,
}

/// One node's part of one pool.
#[derive(Clone, Debug)]
pub struct PoolReport {
    /// The database.
    pub database: Arc<str>,
    /// The role.
    pub user: Arc<str>,
    /// The node.
    pub node: NodeId,
    /// Connections, idle and lent.
    pub total: u32,
    /// Idle ones.
    pub idle: u32,
    /// Statements waiting.
    pub waiting: u32,
}

/// One server connection.
#[derive(Clone, Debug)]
pub struct ServerReport {
    /// The database.
    pub database: Arc<str>,
    /// The role.
    pub user: Arc<str>,
    /// The node.
    pub node: NodeId,
    /// The process id there.
    pub pid: i32,
    /// The client that holds it; `None`: idle.
    pub client: Option<i32>,
    /// The name that the client that holds it goes by.
    pub application_name: String,
    /// When it was opened.
    pub opened_at: SystemTime,
    /// When it was last lent or given back.
    pub used_at: SystemTime,
    /// Whether it is encrypted.
    pub tls: bool,
    /// It is closed when it comes back: a person asked for new ones.
    pub close_needed: bool,
}

impl Worker {
    /// What it has now.
    pub fn report(&self, want: Want) -> WorkerReport {
        let mut report = match want {
            Want::Sessions => self.report_sessions(),
            Want::Statements => WorkerReport::default(),
        };
        let classifier = self.classifier.borrow();
        report.verdicts = classifier.stats();
        if want == Want::Statements {
            report.statements = classifier.used(STATEMENTS_MAX);
        }
        report
    }

    fn report_sessions(&self) -> WorkerReport {
        let now = clock::now();
        let at = Moment { now, wall: clock::wall() };
        let sessions = self.sessions.borrow();
        let mut report = WorkerReport { holds: self.holds.get(), ..WorkerReport::default() };
        for (_, handle) in sessions.iter() {
            let held = handle.held();
            report.servers.extend(held.as_ref().map(|held| self.lent(handle, held, &at)));
            report.clients.push(client(handle, held.as_ref(), now));
        }
        for pool in self.pools() {
            for node in
                (0..self.shared.links.load().len()).filter_map(|index| u16::try_from(index).ok()).map(NodeId)
            {
                let figures = pool.figures(node);
                let (database, user) = (Arc::clone(&pool.database), Arc::clone(&pool.user));
                report.servers.extend(pool.idle(node).into_iter().map(|conn| ServerReport {
                    database: Arc::clone(&database),
                    user: Arc::clone(&user),
                    node,
                    pid: conn.pid,
                    client: None,
                    application_name: String::new(),
                    opened_at: at.wall_of(conn.opened),
                    used_at: at.wall_of(conn.since),
                    tls: conn.tls,
                    close_needed: false,
                }));
                let (total, idle, waiting) = (figures.total, figures.idle, figures.waiting);
                report.pools.push(PoolReport { database, user, node, total, idle, waiting });
            }
        }
        for (name, database) in self.databases.borrow().iter() {
            report.databases.insert(Arc::clone(name), database.counts.now());
        }
        report
    }
}

/// One moment on both clocks.
struct Moment {
    now: Instant,
    wall: SystemTime,
}

impl Moment {
    fn wall_of(&self, then: Instant) -> SystemTime {
        self.wall.checked_sub(self.now.saturating_duration_since(then)).unwrap_or(self.wall)
    }
}

fn client(handle: &Handle, held: Option<&Held>, now: Instant) -> ClientReport {
    let (doing, since) = handle.doing();
    let who = &handle.who;
    ClientReport {
        pid: handle.pid,
        user: Arc::clone(&who.user),
        database: Arc::clone(&who.database),
        application_name: who.application_name.to_string(),
        peer: who.peer,
        local: who.local,
        tls: who.tls,
        replication: who.replication.as_deref().map(str::to_owned),
        is_console: who.is_console,
        connected_at: who.since,
        doing,
        since: now.saturating_duration_since(since),
        server: held.map(|held| (held.node, held.key.0)),
        pins: handle.pins().iter().map(crate::sql::PinCause::as_str).collect(),
    }
}

impl Worker {
    fn lent(&self, handle: &Handle, held: &Held, at: &Moment) -> ServerReport {
        ServerReport {
            database: Arc::clone(&handle.who.database),
            user: Arc::clone(&handle.who.user),
            node: held.node,
            pid: held.key.0,
            client: Some(handle.pid),
            application_name: handle.who.application_name.to_string(),
            opened_at: at.wall_of(held.opened),
            used_at: at.wall_of(handle.doing().1),
            tls: held.tls,
            close_needed: self.is_outdated(&handle.who, held.opened),
        }
    }
}

impl Shared {
    /// What all workers have now. A worker that does not answer in time is left out.
    pub async fn report(&self, want: Want) -> Vec<WorkerReport> {
        let asking = self.workers.iter().map(|worker| async move {
            let (asker, answer) = oneshot::channel();
            worker.send(Command::Report(want, asker)).await.ok()?;
            tokio::time::timeout(ANSWER_MAX, answer).await.ok()?.ok()
        });
        join_all(asking).await.into_iter().flatten().collect()
    }

    /// Tells every worker; one that has ended needs no telling.
    pub async fn tell(&self, make: impl Fn() -> Command) {
        for worker in &self.workers {
            if worker.send(make()).await.is_err() {
                tracing::debug!("a worker has ended already");
            }
        }
    }
}
