//! A cluster for applications written in Rust, without the proxy between: pools to the primary and its replicas that follow
//! the same topology and the same routing.
//!
//! In: the nodes' URLs. Out: connections (`deadpool-postgres`), or the rows of a statement that was routed by what it is. It
//! only watches: changes of the primary are made by primacy, by Patroni or by a person, and followed within a probe.
//! A statement that is proven to be a read runs on a replica that shows everything that was written through this handle;
//! everything else runs on the primary.

mod judge;
mod pools;
mod settings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio::sync::watch;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::clock;
use crate::control::{self, Board, ControlError, Word};
use crate::model::{Epoch, Lsn, NodeId, SqlState};
use crate::proxy::catalog::{CatalogHub, Reading};
use crate::proxy::links::{Links, NodeLink};
use crate::route::{self, Decision, Floor, Positions, Request, Scene, Transaction};
use crate::tls::TlsError;
use judge::{Judge, Judged};
use pools::Pools;
pub use pools::{ReadConnection, WriteConnection};
pub use settings::{ClusterBuilder, UrlError};

/// How often the catalog is looked at for changes.
const CATALOG_POLL: Duration = Duration::from_secs(2);

/// How often a read is tried elsewhere when its replica is lost or refuses it.
const TRIES_MAX: usize = 3;

/// Why a statement was not run, or what the server said of it.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A node's URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// TLS towards a node.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The servers cannot be watched.
    #[error("the servers cannot be watched")]
    Control(#[from] ControlError),
    /// A pool could not be made.
    #[error("a pool cannot be set up")]
    Build(#[from] deadpool_postgres::BuildError),
    /// There was no primary for so long.
    #[error("no primary took writes within {} ms", waited.as_millis())]
    NoPrimary {
        /// How long was waited.
        waited: Duration,
    },
    /// No connection could be had.
    #[error("no connection to {node}")]
    Pool {
        /// The node.
        node: Arc<str>,
        /// Why.
        source: PoolError,
    },
    /// Transaction control through `query` or `execute`, whose connection goes back after each statement.
    #[error("a transaction needs one connection: use write(), or read(), and begin it there")]
    Transaction,
    /// The statement failed.
    #[error(transparent)]
    Statement(#[from] tokio_postgres::Error),
}

/// A cluster. Cloning it gives another handle on the same pools and the same promise.
#[derive(Clone, Debug)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    board: Arc<Board>,
    pools: Pools,
    judge: Judge,
    route: Arc<route::Settings>,
    hold: Duration,
    /// What every further read has to show.
    floor: Mutex<(Epoch, Floor)>,
    /// Ends the watching with the last handle.
    _stop: watch::Sender<()>,
}

impl Cluster {
    /// Watches these servers (`postgres://user:password@host:port/database`, the same role and database in each) and is
    /// ready once a primary was found. The role needs `pg_monitor`, or see `ClusterBuilder::watch_as`.
    ///
    /// # Errors
    /// A URL that makes no sense, or no primary within the hold's limit.
    pub async fn connect<U: AsRef<str>>(nodes: &[U]) -> Result<Self, ClusterError> {
        ClusterBuilder::new(nodes)?.connect().await
    }

    /// The same, to be changed first.
    ///
    /// # Errors
    /// A URL that makes no sense.
    pub fn builder<U: AsRef<str>>(nodes: &[U]) -> Result<ClusterBuilder, ClusterError> {
        Ok(ClusterBuilder::new(nodes)?)
    }

    /// Starts what was built.
    async fn start(built: ClusterBuilder) -> Result<Self, ClusterError> {
        let settings = built.control();
        let links = Links::new(NodeLink::all(&built.nodes)?);
        let board = Board::new(control::first_snapshot(&settings));
        let (stop, mut stopped) = watch::channel(());
        let ends = async move { while stopped.changed().await.is_ok() {} };
        let pools = Pools::new(&built, &settings)?;
        drop(control::watch(settings, Arc::clone(&board), None, ends)?);
        let runtime = tokio::runtime::Handle::current();
        let reading = Reading { poll: CATALOG_POLL, read_functions: Arc::default() };
        let catalogs = CatalogHub::new(Arc::clone(&board), links, built.service(), runtime, reading);
        let judge = Judge::new(catalogs.facts(&built.database));
        let (route, hold) = (Arc::new(built.route), built.hold);
        let floor = Mutex::new((Epoch(0), Floor::NONE));
        let cluster = Self(Arc::new(Inner { board, pools, judge, route, hold, floor, _stop: stop }));
        cluster.primary().await?;
        Ok(cluster)
    }

    /// A connection to the primary; waits for one while there is none. What is written on it is seen by every later
    /// read through this cluster.
    ///
    /// # Errors
    /// No primary in time, or no connection.
    pub async fn write(&self) -> Result<WriteConnection, ClusterError> {
        let node = self.primary().await?;
        let connection = self.lease(node).await?;
        Ok(WriteConnection::new(connection, self.clone()))
    }

    /// A connection to read on: to a replica that shows everything that was written through this cluster, or to the
    /// primary where there is none. Transactions on it are read-only.
    ///
    /// # Errors
    /// Neither a replica nor a primary in time, or no connection.
    pub async fn read(&self) -> Result<ReadConnection, ClusterError> {
        let mut avoid = None;
        for _ in 1..TRIES_MAX {
            let node = self.place(Judged::READ, avoid).await?;
            match self.lease(node).await {
                Ok(connection) => return Ok(ReadConnection::new(connection).await?),
                Err(ClusterError::Pool { .. }) => avoid = Some(node),
                Err(error) => return Err(error),
            }
        }
        Ok(ReadConnection::new(self.lease(self.primary().await?).await?).await?)
    }

    /// Runs one statement where it belongs and returns its rows. A read whose replica is lost is run again elsewhere; a
    /// write that is lost is not, because it may have happened.
    ///
    /// # Errors
    /// The server's, or no place to run it.
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, ClusterError> {
        let mut judged = self.0.judge.judge(sql);
        if judged.controls_transactions {
            return Err(ClusterError::Transaction);
        }
        let mut avoid = None;
        for left in (0..TRIES_MAX).rev() {
            let node = self.place(judged, avoid).await?;
            let on_replica = self.0.board.snapshot().primary != Some(node);
            let error = match self.run(node, sql, params).await {
                Ok(_) if !on_replica && judged.anywhere() && !self.vouched(node).await? => {
                    avoid = Some(node);
                    continue;
                }
                Ok(rows) => {
                    self.note(on_replica);
                    return Ok(rows);
                }
                Err(error) => error,
            };
            if !on_replica || left == 0 {
                self.note(on_replica);
                return Err(error);
            }
            match &error {
                ClusterError::Statement(refused) if is_read_only(refused) => {
                    judged = self.0.judge.learn_primary(sql);
                }
                ClusterError::Statement(lost) if lost.is_closed() => {
                    self.0.board.suspect(node);
                    avoid = Some(node);
                }
                ClusterError::Pool { .. } => avoid = Some(node),
                _ => return Err(error),
            }
        }
        Err(ClusterError::NoPrimary { waited: self.0.hold })
    }

    /// Runs one statement where it belongs; how many rows it touched.
    ///
    /// # Errors
    /// As `query`.
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, ClusterError> {
        if self.0.judge.judge(sql).anywhere() {
            return Ok(self.query(sql, params).await?.len() as u64);
        }
        if self.0.judge.judge(sql).controls_transactions {
            return Err(ClusterError::Transaction);
        }
        let connection = self.write().await?;
        let statement = connection.prepare_cached(sql).await?;
        Ok(connection.execute(&statement, params).await?)
    }

    /// The name of the primary, where there is one.
    pub fn primary_name(&self) -> Option<Arc<str>> {
        let snapshot = self.0.board.snapshot();
        snapshot.writable_primary().and_then(|node| snapshot.node(node)).map(|node| Arc::clone(&node.name))
    }

    // ---- where -------------------------------------------------------------------------------------------------

    async fn primary(&self) -> Result<NodeId, ClusterError> {
        let mut changes = self.0.board.changes();
        let found = async {
            loop {
                if let Some(primary) = self.0.board.snapshot().writable_primary() {
                    return primary;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let waited = self.0.hold;
        tokio::time::timeout(waited, found).await.map_err(|_late| ClusterError::NoPrimary { waited })
    }

    /// Where it runs: asks the router, and waits for replicas to catch up where that is likely to help.
    async fn place(&self, judged: Judged, avoid: Option<NodeId>) -> Result<NodeId, ClusterError> {
        let until = clock::now() + self.0.route.causal_wait;
        let mut waited = false;
        loop {
            let mut moved = self.0.board.want_positions();
            match self.decide(judged, avoid, waited) {
                Decision::Replica(node, _) => return Ok(node),
                Decision::Primary(_) | Decision::Nowhere => return self.primary().await,
                Decision::WaitForReplica => {
                    let left = until.saturating_duration_since(clock::now());
                    waited = tokio::time::timeout(left, moved.changed()).await.is_err();
                }
            }
        }
    }

    fn decide(&self, judged: Judged, avoid: Option<NodeId>, waited: bool) -> Decision {
        let board = &self.0.board;
        let snapshot = board.snapshot();
        let replayed: Vec<Lsn> = snapshot.nodes.iter().map(|node| board.replayed(node.id)).collect();
        let request = Request {
            place: judged.place,
            verdict_reason: judged.reason,
            hint: judged.hint,
            transaction: Transaction::None,
            consistency: judged.consistency,
            floor: self.floor(snapshot.epoch, snapshot.fork),
            home: None,
            waited,
            avoid,
        };
        let positions = Positions { sample: board.sample(), replayed: &replayed, missed: board.missed() };
        let load = self.0.pools.load();
        let scene = Scene { snapshot: &snapshot, positions, load: &load, settings: &self.0.route };
        route::decide(&request, &scene, &mut fastrand::Rng::new())
    }

    /// Whether what this primary has just said to a read counts: sessions that outlive their server show commits that no
    /// replica has. Waits for the monitor's word where there is a sign that it died.
    async fn vouched(&self, node: NodeId) -> Result<bool, ClusterError> {
        let (board, suspicions) = (&self.0.board, self.0.board.suspicions());
        if !suspicions.stands(node) {
            return Ok(true);
        }
        let visit = suspicions.next_visit(node);
        let (mut news, mut changes) = (suspicions.news(), board.changes());
        let known = async {
            loop {
                if board.snapshot().primary != Some(node) {
                    return false;
                }
                if suspicions.word(node, visit) == Word::Alive {
                    return true;
                }
                tokio::select! {
                    Ok(()) = news.changed() => {}
                    Ok(()) = changes.changed() => {}
                    else => return false,
                }
            }
        };
        let waited = self.0.hold;
        tokio::time::timeout(waited, known).await.map_err(|_late| ClusterError::NoPrimary { waited })
    }

    // ---- what was seen ------------------------------------------------------------------------------------------

    fn floor(&self, epoch: Epoch, fork: Lsn) -> Floor {
        let mut kept = self.0.floor.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != epoch {
            *kept = (epoch, kept.1.clamped(fork, self.0.board.ticket()));
        }
        kept.1 = kept.1.settled(self.0.board.sample());
        kept.1
    }

    /// Something may have been written: later reads have to show it.
    fn wrote(&self) {
        self.0.board.acknowledge();
        let mut kept = self.0.floor.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1 = kept.1.and(Floor::ticket(self.0.board.ticket()));
    }

    fn note(&self, on_replica: bool) {
        if !on_replica {
            self.wrote();
        }
    }

    // ---- connections --------------------------------------------------------------------------------------------

    async fn run(
        &self,
        node: NodeId,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, ClusterError> {
        let connection = self.lease(node).await?;
        let statement = connection.prepare_cached(sql).await?;
        Ok(connection.query(&statement, params).await?)
    }

    async fn lease(&self, node: NodeId) -> Result<pools::Connection, ClusterError> {
        let epoch = self.0.board.snapshot().epoch;
        let leased = self.0.pools.lease(node, epoch).await;
        leased.map_err(|source| {
            self.0.board.suspect(node);
            let snapshot = self.0.board.snapshot();
            let name = snapshot.node(node).map(|node| Arc::clone(&node.name)).unwrap_or_default();
            ClusterError::Pool { node: name, source }
        })
    }
}

/// A replica's refusal of what turned out to be a write: nothing has happened.
fn is_read_only(error: &tokio_postgres::Error) -> bool {
    let code = error.code().and_then(|code| SqlState::from_bytes(code.code().as_bytes()));
    code == Some(SqlState::READ_ONLY_SQL_TRANSACTION)
}
