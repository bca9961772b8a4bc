//! Pools of the application's connections, one per node. A node's pool is made anew with each change of the primary: what
//! was opened to an earlier one is not lent again.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    BuildError, ClientWrapper, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};

use super::{Cluster, ClusterBuilder, ClusterError};
use crate::control::Settings;
use crate::control::link::Target;
use crate::model::{Epoch, NodeId};

/// To open a connection and sign in.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// For a connection of the pool to become free.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// All nodes' pools.
#[derive(Debug)]
pub(super) struct Pools(Vec<NodePool>);

#[derive(Debug)]
struct NodePool {
    target: Target,
    config: tokio_postgres::Config,
    size_max: usize,
    pool: Mutex<(Epoch, Pool)>,
    lent: Arc<AtomicU32>,
}

impl Pools {
    /// Opens nothing yet.
    pub(super) fn new(built: &ClusterBuilder, settings: &Settings) -> Result<Self, ClusterError> {
        let targets = Target::all(settings).map_err(crate::control::ControlError::from)?;
        let pools = targets.into_iter().zip(&built.applications).map(|(target, config)| {
            let pool = build(&target, config, built.pool_size)?;
            Ok(NodePool {
                target,
                config: config.clone(),
                size_max: built.pool_size,
                pool: Mutex::new((Epoch(0), pool)),
                lent: Arc::default(),
            })
        });
        Ok(Self(pools.collect::<Result<_, BuildError>>()?))
    }

    /// Connections that are lent now, by node.
    pub(super) fn load(&self) -> Vec<u32> {
        self.0.iter().map(|node| node.lent.load(Ordering::Relaxed)).collect()
    }

    /// A connection to the node, of this epoch.
    pub(super) async fn lease(&self, node: NodeId, epoch: Epoch) -> Result<Connection, PoolError> {
        let node = self.0.get(node.index()).ok_or(PoolError::Closed)?;
        let object = node.of(epoch).get().await?;
        node.lent.fetch_add(1, Ordering::Relaxed);
        Ok(Connection { object, lent: Arc::clone(&node.lent) })
    }
}

impl NodePool {
    fn of(&self, epoch: Epoch) -> Pool {
        let mut kept = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 < epoch {
            // With nothing in it that was opened before; where that fails the old one is emptied instead.
            match build(&self.target, &self.config, self.size_max) {
                Ok(pool) => std::mem::replace(&mut *kept, (epoch, pool)).1.close(),
                Err(_) => drop(kept.1.retain(|_, _| false)),
            }
        }
        kept.1.clone()
    }
}

fn build(target: &Target, config: &tokio_postgres::Config, size_max: usize) -> Result<Pool, BuildError> {
    let mut config = config.clone();
    config.connect_timeout(CONNECT_MAX).ssl_negotiation(target.config().get_ssl_negotiation());
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Clean };
    Pool::builder(Manager::from_connect(config, target.clone(), recycling))
        .max_size(size_max)
        .create_timeout(Some(CONNECT_MAX))
        .wait_timeout(Some(WAIT_MAX))
        .runtime(Runtime::Tokio1)
        .build()
}

/// A connection that is lent.
#[derive(Debug)]
pub(super) struct Connection {
    object: Object,
    lent: Arc<AtomicU32>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.lent.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.object
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.object
    }
}

/// A connection to the primary, lent until it is dropped.
#[derive(Debug)]
pub struct WriteConnection {
    connection: Connection,
    cluster: Cluster,
}

impl WriteConnection {
    pub(super) fn new(connection: Connection, cluster: Cluster) -> Self {
        Self { connection, cluster }
    }
}

impl Drop for WriteConnection {
    fn drop(&mut self) {
        // What was written on it was acknowledged before now.
        self.cluster.wrote();
    }
}

impl Deref for WriteConnection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.connection
    }
}

impl DerefMut for WriteConnection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.connection
    }
}

/// A connection to read on, lent until it is dropped.
#[derive(Debug)]
pub struct ReadConnection(Connection);

impl ReadConnection {
    /// Read-only on the primary too, so that a mistake shows everywhere and not only where there is a replica.
    pub(super) async fn new(connection: Connection) -> Result<Self, tokio_postgres::Error> {
        connection.batch_execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").await?;
        Ok(Self(connection))
    }
}

impl Deref for ReadConnection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.0
    }
}

impl DerefMut for ReadConnection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.0
    }
}
