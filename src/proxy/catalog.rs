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
use tracing::{debug, warn};

use super::settings::Service;
use super::pool::NodeLink;
use crate::control::Board;
use crate::model::NodeId;
use crate::sql::Catalog;
use crate::sql::catalog::{CHANGE_SQL, LOAD_SQL};

/// The facts of one database.
#[derive(Debug)]
pub struct Facts {
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
        self.catalog.store(Arc::new(Catalog::empty()));
        self.wake.notify_one();
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
        Arc::new(Self { databases: Mutex::default(), board, links, service, runtime, poll })
    }

    /// The facts of a database. The first call starts its loader.
    pub fn facts(self: &Arc<Self>, database: &Arc<str>) -> Arc<Facts> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = databases.get(database) {
            return Arc::clone(facts);
        }
        let facts = Arc::new(Facts {
            database: Arc::clone(database),
            catalog: ArcSwap::from_pointee(Catalog::empty()),
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
            facts.catalog.store(Arc::new(Catalog::empty()));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Loads and reloads over one connection, until it breaks.
    async fn serve(&self, facts: &Facts) -> Result<(), CatalogError> {
        let client = self.connect(&facts.database).await?;
        let mut stamp = None;
        loop {
            let seen = facts.changes.load(Ordering::SeqCst);
            let now = self.stamp(&client).await?;
            if stamp.as_ref() != Some(&now) || facts.load().is_empty() {
                let catalog = Self::load(&client).await?;
                if facts.changes.load(Ordering::SeqCst) == seen {
                    facts.catalog.store(Arc::new(catalog));
                    stamp = Some(now);
                    if facts.changes.load(Ordering::SeqCst) != seen {
                        facts.catalog.store(Arc::new(Catalog::empty()));
                    }
                }
            }
            if facts.changes.load(Ordering::SeqCst) == seen {
                // The time limit is the bound within which changes made elsewhere are noticed.
                drop(tokio::time::timeout(self.poll, facts.wake.notified()).await);
            }
        }
    }

    async fn stamp(&self, client: &tokio_postgres::Client) -> Result<String, CatalogError> {
        let query = client.simple_query(CHANGE_SQL);
        let messages = tokio::time::timeout(Duration::from_secs(10), query).await??;
        let text = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(text.unwrap_or_default())
    }

    async fn load(client: &tokio_postgres::Client) -> Result<Catalog, CatalogError> {
        let query = client.simple_query(LOAD_SQL);
        let messages = tokio::time::timeout(Duration::from_secs(30), query).await??;
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at)).collect::<Vec<_>>())
            }
            _ => None,
        });
        Ok(Catalog::from_rows(rows))
    }

    /// A connection to the primary: a replica could be behind the DDL that a client has just been told of.
    async fn connect(&self, database: &str) -> Result<tokio_postgres::Client, CatalogError> {
        let primary: NodeId = self.board.snapshot().writable_primary().ok_or(CatalogError::NoPrimary)?;
        let link = self.links.get(primary.index()).ok_or(CatalogError::NoPrimary)?;
        let connecting = super::service::connect(link, &self.service, database);
        let (client, task) = tokio::time::timeout(Duration::from_secs(5), connecting).await??;
        self.runtime.spawn(async move {
            if let Err(error) = task.await {
                warn!(%error, "the connection for catalog facts was lost");
            }
        });
        Ok(client)
    }
}

/// Why facts could not be had.
#[derive(Debug, thiserror::Error)]
enum CatalogError {
    #[error("there is no primary")]
    NoPrimary,
    #[error("no answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("{0}")]
    Postgres(#[from] tokio_postgres::Error),
}
