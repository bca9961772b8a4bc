//! What a cluster handle is built from: URLs, and what differs from the usual.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, ClusterError};
use crate::control::{self, settings as watched};
use crate::failover::{self, Durability};
use crate::model::{Address, Consistency, Secret};
use crate::proxy::settings::{Node, Service};
use crate::route;
use crate::tls::{ServerTls, ServerTlsMode};
use tokio_postgres::config::{Host, SslMode};

/// Connections to one node, unless it is said otherwise.
const POOL_SIZE: usize = 16;

/// A URL that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// There is none.
    #[error("no node was given")]
    None,
    /// It is not a connection URL.
    #[error("node {number}: not a URL like postgres://user:password@host:5432/database")]
    Syntax {
        /// Which, from one on.
        number: usize,
        /// What the parser says.
        source: tokio_postgres::Error,
    },
    /// It names no host, or several.
    #[error("node {number}: a URL names one host; give one URL per server")]
    Host {
        /// Which, from one on.
        number: usize,
    },
    /// It names no role.
    #[error("node {number}: the URL names no user")]
    User {
        /// Which, from one on.
        number: usize,
    },
}

/// A cluster handle that is to be made.
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    pub(super) nodes: Vec<Node>,
    pub(super) applications: Vec<tokio_postgres::Config>,
    pub(super) database: Arc<str>,
    pub(super) route: route::Settings,
    pub(super) hold: Duration,
    pub(super) pool_size: usize,
    watcher: watched::Credentials,
}

impl ClusterBuilder {
    /// From one URL per node.
    pub(super) fn new<U: AsRef<str>>(urls: &[U]) -> Result<Self, UrlError> {
        let mut nodes = Vec::with_capacity(urls.len());
        let mut applications: Vec<tokio_postgres::Config> = Vec::with_capacity(urls.len());
        for (number, url) in (1..).zip(urls) {
            let config: tokio_postgres::Config =
                url.as_ref().parse().map_err(|source| UrlError::Syntax { number, source })?;
            nodes.push(node(number, &config)?);
            applications.push(config);
        }
        let first = applications.first().ok_or(UrlError::None)?;
        let user = first.get_user().ok_or(UrlError::User { number: 1 })?;
        let password = first.get_password().map(String::from_utf8_lossy).unwrap_or_default();
        let watcher = watched::Credentials { user: user.into(), password: Secret::new(password) };
        let database = first.get_dbname().unwrap_or(user).into();
        let (route, hold) = (route::Settings::default(), Duration::from_secs(30));
        Ok(Self { nodes, applications, database, route, hold, pool_size: POOL_SIZE, watcher })
    }

    /// Watches the servers as another role than the application's: it needs `pg_monitor`, which the application may not have.
    #[must_use]
    pub fn watch_as(mut self, user: &str, password: &str) -> Self {
        self.watcher = watched::Credentials { user: user.into(), password: Secret::new(password) };
        self
    }

    /// What reads promise; `Consistency::Session` unless it is said otherwise: what was written through this cluster is seen.
    #[must_use]
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.route.consistency = consistency;
        self
    }

    /// How long is waited for a primary while there is none; 30 s unless it is said otherwise.
    #[must_use]
    pub fn hold_timeout(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Most connections to one node; 16 unless it is said otherwise.
    #[must_use]
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(1);
        self
    }

    /// Replicas of this zone are read on first.
    #[must_use]
    pub fn zone(mut self, zone: &str) -> Self {
        self.route.zone = zone.into();
        self
    }

    /// Begins to watch; ready once a primary was found.
    ///
    /// # Errors
    /// No primary within the hold's limit.
    pub async fn connect(self) -> Result<Cluster, ClusterError> {
        Cluster::start(self).await
    }

    pub(super) fn service(&self) -> Service {
        let watched::Credentials { user, password } = self.watcher.clone();
        Service { user, password, database: Arc::clone(&self.database) }
    }

    pub(super) fn control(&self) -> control::Settings {
        let nodes = self.nodes.iter().map(|node| watched::NodeSettings {
            tls: node.tls.clone(),
            ..watched::NodeSettings::new(Arc::clone(&node.name), node.address.clone())
        });
        // Who only watches sets nothing, so what a commit waits for is not its business.
        let failover = failover::Settings { durability: Durability::Async, ..failover::Settings::default() };
        let settings = control::Settings::new(nodes.collect(), self.watcher.clone(), failover);
        control::Settings { database: Arc::clone(&self.database), ..settings }
    }
}

fn node(number: usize, config: &tokio_postgres::Config) -> Result<Node, UrlError> {
    let [host] = config.get_hosts() else { return Err(UrlError::Host { number }) };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let address = match host {
        Host::Tcp(host) => Address::Tcp { host: host.clone(), port },
        Host::Unix(dir) => Address::Unix { dir: dir.clone(), port },
    };
    let mode = match config.get_ssl_mode() {
        SslMode::Disable => ServerTlsMode::Disable,
        SslMode::Require => ServerTlsMode::Require,
        // A word that tokio-postgres learns later is read as its default.
        _ => ServerTlsMode::Prefer,
    };
    Ok(Node {
        name: address.to_string().into(),
        address,
        tls: ServerTls { mode, ..ServerTls::default() },
        zone: "".into(),
        weight: 100,
        priority: 0,
    })
}
