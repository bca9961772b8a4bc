//! Catalog facts per database: loaded through primacy's own role, published to the workers, kept fresh.
//!
//! A worker reads the facts by an atomic load per statement. Where they are stale it reads "nothing known", which sends
//! everything that needs facts to the primary until they are loaded anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::debug;

use super::Stream;
use super::pool::NodeLink;
use super::query::{self, QueryError};
use super::server::{self, ConnectError, Credential, SignIn};
use super::settings::Service;
use crate::control::Board;
use crate::model::NodeId;
use crate::sql::catalog::{CHANGE_SQL, LOAD_SQL};
use crate::sql::{Catalog, CatalogBuilder, CatalogRowError};

/// The facts of one database.
#[derive(Debug)]
pub struct Facts {
    id: u64,
    database: Arc<str>,
    catalog: ArcSwap<Catalog>,
    /// One more with every change that the proxy has seen; what was loaded before it is not published.
    changes: AtomicU64,
    wake: Notify,
}

impl Facts {
    /// The facts now.
    #[inline]
    pub fn load(&self) -> arc_swap::Guard<Arc<Catalog>> {
        self.catalog.load()
    }

    /// DDL was committed: nothing is known until the facts are loaded again.
    pub fn invalidate(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.clear();
        self.wake.notify_one();
    }

    fn clear(&self) {
        self.catalog.store(Arc::new(Catalog::empty_for(self.id)));
    }

    /// Publishes what was loaded, unless a change was seen since `seen`.
    fn publish(&self, catalog: Catalog, seen: u64) -> bool {
        if self.changes.load(Ordering::SeqCst) != seen {
            return false;
        }
        self.catalog.store(Arc::new(catalog));
        // A change between the look and the store would be overwritten: look again.
        let current = self.changes.load(Ordering::SeqCst) == seen;
        if !current {
            self.clear();
        }
        current
    }
}

/// All databases that clients have asked for.
#[derive(Debug)]
pub struct CatalogHub {
    databases: Mutex<HashMap<Arc<str>, Arc<Facts>>>,
    board: Arc<Board>,
    links: Vec<NodeLink>,
    service: Service,
    runtime: tokio::runtime::Handle,
    poll: Duration,
    /// One more with every catalog that is loaded, whatever its database.
    generation: AtomicU64,
}

/// Most databases whose facts are kept; clients of further ones read on the primary.
const DATABASES_MAX: usize = 1000;

impl CatalogHub {
    /// A hub whose loaders run on `runtime` and look for changes made elsewhere every `poll`.
    pub fn new(
        board: Arc<Board>,
        links: Vec<NodeLink>,
        service: Service,
        runtime: tokio::runtime::Handle,
        poll: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            databases: Mutex::default(),
            board,
            links,
            service,
            runtime,
            poll,
            generation: AtomicU64::new(0),
        })
    }

    /// The facts of a database. The first call starts its loader.
    pub fn facts(self: &Arc<Self>, database: &Arc<str>) -> Arc<Facts> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = databases.get(database) {
            return Arc::clone(facts);
        }
        let id = databases.len() as u64 + 1;
        let facts = Arc::new(Facts {
            id,
            database: Arc::clone(database),
            catalog: ArcSwap::from_pointee(Catalog::empty_for(id)),
            changes: AtomicU64::new(0),
            wake: Notify::new(),
        });
        if databases.len() < DATABASES_MAX {
            databases.insert(Arc::clone(database), Arc::clone(&facts));
            let (hub, loaded) = (Arc::clone(self), Arc::clone(&facts));
            self.runtime.spawn(async move { hub.keep(loaded).await });
        }
        facts
    }

    /// Keeps the facts of one database, for as long as the program runs.
    async fn keep(self: Arc<Self>, facts: Arc<Facts>) {
        loop {
            if let Err(error) = self.serve(&facts).await {
                debug!(database = %facts.database, %error, "catalog facts are not available");
            }
            facts.clear();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Loads and reloads over one connection, until it breaks.
    async fn serve(&self, facts: &Facts) -> Result<(), CatalogError> {
        let (node, mut stream) = self.connect(&facts.database).await?;
        let mut stamp = None;
        loop {
            if self.board.snapshot().writable_primary() != Some(node) {
                return Err(CatalogError::NoPrimary);
            }
            let seen = facts.changes.load(Ordering::SeqCst);
            let now = timeout(STAMP_LIMIT, query::rows(&mut stream, CHANGE_SQL)).await??.0;
            if stamp.as_ref() != Some(&now) || facts.load().is_empty() {
                let catalog = self.read(facts, &mut stream).await?;
                if facts.publish(catalog, seen) {
                    stamp = Some(now);
                }
            }
            if facts.changes.load(Ordering::SeqCst) == seen {
                // The time limit is the bound within which changes made elsewhere are noticed.
                drop(timeout(self.poll, facts.wake.notified()).await);
            }
        }
    }

    async fn read(&self, facts: &Facts, stream: &mut Stream) -> Result<Catalog, CatalogError> {
        let (rows, _) = timeout(LOAD_LIMIT, query::rows(stream, LOAD_SQL)).await??;
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
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

    /// A connection to the primary: a replica could be behind the DDL that a client has just been told of.
    async fn connect(&self, database: &str) -> Result<(NodeId, Stream), CatalogError> {
        let primary = self.board.snapshot().writable_primary().ok_or(CatalogError::NoPrimary)?;
        let link = self.links.get(primary.index()).ok_or(CatalogError::NoPrimary)?;
        let credential = Credential::Password(self.service.password.clone());
        let startup = [("application_name".to_owned(), "primacy catalog".to_owned())];
        let who = SignIn { user: &self.service.user, database, startup: &startup, credential: &credential };
        let connected = server::connect(&link.node, &link.tls, &who, CONNECT_LIMIT).await?;
        Ok((primary, connected.stream))
    }
}

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const STAMP_LIMIT: Duration = Duration::from_secs(10);
const LOAD_LIMIT: Duration = Duration::from_secs(30);

/// Why facts could not be had.
#[derive(Debug, thiserror::Error)]
enum CatalogError {
    #[error("there is no primary")]
    NoPrimary,
    #[error("no answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Query(#[from] QueryError),
    #[error("{0}")]
    Row(#[from] CatalogRowError),
}
