//! The local servers of a cluster that primacy itself runs (the demo, chaos, tests).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::conninfo::Conninfo;
use super::link::chain;
use super::local::{Fit, LocalError, LocalFuture, LocalServers, Upstream};
use crate::model::{NodeId, Timeline};
use crate::postgres::{Cluster, PostgresError, Rejoin, StopMode};

/// To stop or start one server.
const LIMIT: Duration = Duration::from_secs(60);

/// The servers of one cluster on this machine; the nodes' order is the same as in the configuration.
#[derive(Clone, Debug)]
pub struct OwnCluster(pub Arc<Cluster>);

impl LocalServers for OwnCluster {
    fn serves(&self, node: NodeId) -> bool {
        self.0.node(node).is_ok()
    }

    fn rejoin<'a>(&'a self, node: NodeId, upstream: &'a Upstream, fit: Fit) -> LocalFuture<'a> {
        let conninfo = Conninfo::parse(upstream.conninfo.reveal());
        let name = conninfo.ok().and_then(|conninfo| conninfo.value("application_name").map(str::to_owned));
        let upstream = upstream.node;
        local(async move {
            let (rewind, twin) = (fit.rewind, fit.twin);
            let how = Rejoin { application_name: name.unwrap_or_default(), rewind, twin };
            self.0.rejoin(node, upstream, &how).await.map(drop)
        })
    }

    fn restart_as_replica<'a>(
        &'a self,
        node: NodeId,
        upstream: &'a Upstream,
        immediate: bool,
    ) -> LocalFuture<'a> {
        if immediate {
            // Without a rewind the server is stopped at once, without a shutdown checkpoint.
            return self.rejoin(node, upstream, Fit::default());
        }
        Box::pin(async move {
            self.stop(node).await?;
            self.rejoin(node, upstream, Fit::default()).await
        })
    }

    fn stop(&self, node: NodeId) -> LocalFuture<'_> {
        local(async move { self.0.node(node)?.stop(StopMode::Fast, LIMIT).await.map(drop) })
    }

    fn start(&self, node: NodeId, twin: Option<Timeline>) -> LocalFuture<'_> {
        Box::pin(async move {
            match self.0.start_crashed(node, twin, LIMIT).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(LocalError::Unsupported("it was stopped in order".to_owned())),
                Err(error @ PostgresError::PerhapsPromoted { .. }) => {
                    Err(LocalError::Unsupported(chain(&error)))
                }
                Err(error) => Err(LocalError::Failed(chain(&error))),
            }
        })
    }
}

fn local<'a>(deed: impl Future<Output = Result<(), PostgresError>> + Send + 'a) -> LocalFuture<'a> {
    Box::pin(async move { deed.await.map_err(|error| LocalError::Failed(chain(&error))) })
}
