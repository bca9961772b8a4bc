//! Catalog facts per database: loaded through primacy's own role, published to the workers, kept fresh.
//!
//! A worker reads the facts by an atomic load per statement. Where they are stale it reads "nothing known", which sends
//! everything that needs facts to the primary until they are loaded anew.

mod known;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::Stream;
use super::links::Links;
use super::query::{self, QueryError};
use super::server::{self, ConnectError, Credential, SignIn};
use super::settings::Service;
use crate::clock;
use crate::control::Board;
use crate::model::{NodeId, SqlState};
use crate::sql::catalog::{CHANGE_SQL, LOAD_SQL};
use crate::sql::{Catalog, CatalogBuilder, CatalogRowError};
pub use known::Facts;

/// All databases that clients have asked for.
#[derive(Debug)]
pub struct CatalogHub {
    databases: Mutex<HashMap<Arc<str>, Arc<Facts>>>,
    board: Arc<Board>,
    links: Arc<Links>,
    service: Service,
    runtime: tokio::runtime::Handle,
    reading: Reading,
    /// One more with every catalog that is loaded, whatever its database.
    generation: Arc<AtomicU64>,
}

/// How facts are asked for.
#[derive(Debug)]
pub struct Reading {
    /// Changes made elsewhere are looked for this often.
    pub poll: Duration,
    /// Volatile functions that are believed to read only, with commas between them.
    pub read_functions: Arc<str>,
}

/// Most databases whose facts are kept; clients of further ones read on the primary.
const DATABASES_MAX: usize = 1000;

impl CatalogHub {
    /// A hub whose loaders run on `runtime`.
    pub fn new(
        board: Arc<Board>,
        links: Arc<Links>,
        service: Service,
        runtime: tokio::runtime::Handle,
        reading: Reading,
    ) -> Arc<Self> {
        Arc::new(Self {
            databases: Mutex::default(),
            board,
            links,
            service,
            runtime,
            reading,
            generation: Arc::default(),
        })
    }

    /// The facts of a database. The first call starts its loader.
    pub fn facts(self: &Arc<Self>, database: &Arc<str>) -> Arc<Facts> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = databases.get(database) {
            return Arc::clone(facts);
        }
        let id = databases.len() as u64 + 1;
        let nobody_loads = databases.len() >= DATABASES_MAX;
        let facts = Arc::new(Facts::new(database, (id, nobody_loads), &self.generation));
        if !nobody_loads {
            databases.insert(Arc::clone(database), Arc::clone(&facts));
            let (hub, loaded) = (Arc::clone(self), Arc::clone(&facts));
            self.runtime.spawn(async move { hub.keep(loaded).await });
        }
        facts
    }

    /// The one database that clients use, where there is exactly one besides `service`.
    pub fn only_database(&self, service: &str) -> Option<Arc<str>> {
        let databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let mut there = databases.values().filter(|facts| *facts.database != *service && !facts.is_absent());
        let only = there.next()?;
        there.next().is_none().then(|| Arc::clone(&only.database))
    }

    /// Keeps the facts of one database, for as long as the program runs.
    async fn keep(self: Arc<Self>, facts: Arc<Facts>) {
        let mut from_replica = true;
        let mut epoch = self.board.snapshot().epoch;
        loop {
            let mut served = false;
            let Err(error) = self.serve(&facts, from_replica, &mut served).await else {
                from_replica = true;
                continue;
            };
            debug!(database = %facts.database, %error, "catalog facts cannot be asked for here");
            match error {
                // What is known stays true; the primary tells the rest for a while.
                CatalogError::Behind => from_replica = false,
                // The replica may not have heard of it yet.
                ref error if from_replica && error.says_absent() => from_replica = false,
                // Nor does a query that replay has cancelled, or a connection that is lost, make anything known untrue. Where
                // the next connection does not serve at once, changes made elsewhere would go unnoticed.
                CatalogError::Query(_) | CatalogError::Timeout(_) | CatalogError::Unreadable if served => {}
                // Without a primary nothing is defined, so that replicas go on to serve reads by what is known; with another
                // one there may be something that nobody has told of.
                CatalogError::NoPrimary if self.board.snapshot().epoch == epoch => {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                error => {
                    from_replica = true;
                    epoch = self.board.snapshot().epoch;
                    facts.clear(error.says_absent());
                    let absent = facts.is_absent();
                    tokio::time::sleep(if absent { ABSENT_RETRY_AFTER } else { RETRY_AFTER }).await;
                }
            }
        }
    }

    /// Loads and reloads over one connection, until it breaks; over one to the primary, for a while.
    /// `served` is set once it has been told whether anything has changed.
    async fn serve(&self, facts: &Facts, from_replica: bool, served: &mut bool) -> Result<(), CatalogError> {
        let until = clock::now() + PRIMARY_STAY;
        let (node, mut stream) = self.connect(&facts.database, from_replica).await?;
        let epoch = self.board.snapshot().epoch;
        let mut stamp = None;
        loop {
            let snapshot = self.board.snapshot().clone();
            let primary = snapshot.writable_primary().ok_or(CatalogError::NoPrimary)?;
            let usable = snapshot.node(node).is_some_and(|view| view.unreadable.is_none());
            if snapshot.epoch != epoch {
                return Err(CatalogError::NoPrimary);
            }
            if !usable {
                return Err(CatalogError::Unreadable);
            }
            let before = facts.seen();
            if node != primary {
                self.caught_up(node).await?;
            } else if clock::now() > until {
                return Ok(());
            }
            let now = timeout(STAMP_LIMIT, query::rows(&mut stream, CHANGE_SQL)).await??.0;
            if stamp.as_ref() != Some(&now) || facts.load().is_empty() {
                let began = clock::now();
                let catalog = self.read(facts, &mut stream).await?;
                let took = clock::now().duration_since(began);
                debug!(database = %facts.database, ms = took.as_millis(), "catalog facts loaded");
                if facts.publish(catalog, before) {
                    stamp = Some(now);
                    *served = true;
                    facts.rest(took * PAUSE).await;
                }
            }
            if facts.seen() == before {
                // The time limit is the bound within which changes made elsewhere are noticed.
                facts.await_change(self.reading.poll).await;
            }
        }
    }

    async fn read(&self, facts: &Facts, stream: &mut Stream) -> Result<Catalog, CatalogError> {
        let (rows, _) = timeout(LOAD_LIMIT, query::rows(stream, LOAD_SQL)).await??;
        let generation = facts.next_generation();
        let mut builder = CatalogBuilder::new(facts.id, generation);
        for row in &rows {
            let mut columns = [""; 6];
            for (column, value) in columns.iter_mut().zip(row) {
                *column = value.as_deref().unwrap_or_default();
            }
            builder.add(columns)?;
        }
        Ok(builder.finish())
    }

    /// Waits until the replica shows what was committed before now: the DDL that a client has just been told of.
    async fn caught_up(&self, node: NodeId) -> Result<(), CatalogError> {
        let ticket = self.board.ticket();
        let waiting = async {
            loop {
                let mut moved = self.board.want_positions();
                let (sample, position) = self.board.sample();
                if sample >= ticket && self.board.replayed(node) >= position {
                    return;
                }
                if moved.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        timeout(BEHIND_LIMIT, waiting).await.map_err(|_elapsed| CatalogError::Behind)
    }

    /// A connection to a replica where there is one: a query of this length on the primary keeps VACUUM there from
    /// removing, and from marking as visible to all, what was changed meanwhile.
    async fn connect(&self, database: &str, from_replica: bool) -> Result<(NodeId, Stream), CatalogError> {
        let snapshot = self.board.snapshot().clone();
        let primary = snapshot.writable_primary().ok_or(CatalogError::NoPrimary)?;
        let mut replicas =
            snapshot.nodes.iter().filter(|node| node.id != primary && node.unreadable.is_none());
        let replica = replicas.next().filter(|_| from_replica).map(|node| node.id);
        let node = replica.unwrap_or(primary);
        let link = self.links.get(node).ok_or(CatalogError::NoPrimary)?;
        let credential = Credential::Password(self.service.password.clone());
        // Compiling a query that runs once takes longer than running it.
        let read_functions = ("primacy.read_functions", &*self.reading.read_functions);
        let startup = [("application_name", "primacy catalog"), ("jit", "off"), read_functions]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let who = SignIn { user: &self.service.user, database, startup: &startup, credential: &credential };
        let connected = server::connect(&link.node, &link.tls, &who, CONNECT_LIMIT).await?;
        Ok((node, connected.stream))
    }
}

/// After a load the next one waits so many times as long as that took.
const PAUSE: u32 = 4;
/// So long a replica may take to show the last change; then the primary is asked instead, for `PRIMARY_STAY`.
const BEHIND_LIMIT: Duration = Duration::from_secs(1);
const PRIMARY_STAY: Duration = Duration::from_secs(30);
/// Where there is nobody to ask, so long nobody is asked.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// So long nobody asks again for a database that is not there: a name with a typo is asked for until the end.
const ABSENT_RETRY_AFTER: Duration = Duration::from_secs(1);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const STAMP_LIMIT: Duration = Duration::from_secs(10);
const LOAD_LIMIT: Duration = Duration::from_secs(30);

/// Why facts could not be had.
#[derive(Debug, thiserror::Error)]
enum CatalogError {
    #[error("there is no primary, or it has changed")]
    NoPrimary,
    #[error("the node that is asked serves no reads any more")]
    Unreadable,
    #[error("the replica that is asked is behind")]
    Behind,
    #[error("no answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Query(#[from] QueryError),
    #[error("{0}")]
    Row(#[from] CatalogRowError),
}

impl CatalogError {
    fn says_absent(&self) -> bool {
        matches!(self, Self::Connect(ConnectError::Refused { sqlstate, .. }) if *sqlstate == SqlState::INVALID_CATALOG_NAME)
    }
}
