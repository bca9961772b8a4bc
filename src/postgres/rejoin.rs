//! Brings a node back into its cluster as a replica of the present primary.
//!
//! A former primary's history may have gone on where the present one's forked off; pg_rewind takes that part back.
//! Under which name it returns is the caller's choice: under its own a diverged standby would falsely
//! acknowledge commits, because the first reply of a walreceiver claims its replay position whatever its timeline.

use std::time::Duration;

use tokio_postgres::Client;

use super::cluster::{SQL_LIMIT, START_LIMIT};
use super::sql::within;
use super::{Cluster, Instance, PostgresError, StopMode};
use crate::model::NodeId;

const REWIND_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How a node comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejoin {
    /// The `application_name` that it streams under: a neutral one, until it is vetted.
    pub application_name: String,
    /// Whether its history is fitted to the primary's first. Without it the node is stopped at once, so that it
    /// writes no shutdown checkpoint, which would put a fenced and caught up former primary ahead of the fork.
    pub rewind: bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejoined {
    /// Whether it had diverged, and was taken back or copied anew.
    pub rewound: bool,
}

impl Cluster {
    /// Stops `node` if it runs, takes its history back where asked to, and starts it as a standby of `upstream`.
    ///
    /// A data directory whose rewind is interrupted may be beyond repair, so the work goes on when the future is
    /// dropped; the next call for the node, and `stop`, wait for it.
    pub async fn rejoin(
        &self,
        node: NodeId,
        upstream: NodeId,
        how: &Rejoin,
    ) -> Result<Rejoined, PostgresError> {
        let busy = self.busy(node)?.lock_owned().await;
        let (cluster, how) = (self.clone(), how.clone());
        let work = tokio::spawn(async move {
            let rejoined = cluster.rejoin_to(cluster.node(node)?, cluster.node(upstream)?, &how).await;
            drop(busy);
            rejoined
        });
        work.await.unwrap_or_else(|ended| Err(PostgresError::Interrupted { reason: ended.to_string() }))
    }

    /// Starts `node` as it is, if it crashed; `false`: it was stopped in order, or runs.
    pub async fn start_crashed(&self, node: NodeId, limit: Duration) -> Result<bool, PostgresError> {
        let _busy = self.busy(node)?.lock_owned().await;
        let node = self.node(node)?;
        if !node.has_crashed() {
            return Ok(false);
        }
        node.start(limit).await?;
        Ok(true)
    }

    pub(super) async fn rejoin_to(
        &self,
        node: &Instance,
        upstream: &Instance,
        how: &Rejoin,
    ) -> Result<Rejoined, PostgresError> {
        let mode = if how.rewind { StopMode::Fast } else { StopMode::Immediate };
        if node.stop(mode, STOP_LIMIT / 2).await.is_err() {
            node.kill(STOP_LIMIT / 2).await?;
        }
        node.end_orphans().await;
        let source = self.superuser_on(upstream, SQL_LIMIT).await?;
        self.create_slots(upstream, &source).await?;
        let rewound = if node.is_half_rewound() {
            self.copy_anew(node, upstream).await?;
            true
        } else {
            how.rewind && self.rewind(node, upstream, &source).await?
        };
        // A rewind has brought the source's configuration with it.
        node.write_conf()?;
        drop_slots(node)?;
        let conninfo = Self::replication_from(upstream, &how.application_name).with_password();
        node.follow(&conninfo, Some(node.name()))?;
        node.start(START_LIMIT).await?;
        let client = self.superuser_on(node, SQL_LIMIT).await?;
        self.create_slots(node, &client).await?;
        Ok(Rejoined { rewound })
    }

    /// What an interrupted rewind has left is of no use any more; it is a copy of the same cluster that was made here.
    async fn copy_anew(&self, node: &Instance, upstream: &Instance) -> Result<(), PostgresError> {
        let path = node.data_dir().to_path_buf();
        let removed = std::fs::remove_dir_all(&path);
        removed.map_err(|source| PostgresError::File { doing: "remove", path, source })?;
        let source = Self::replication_from(upstream, node.name());
        node.base_backup(&source, node.name(), self.sync(), REWIND_LIMIT).await?;
        node.forget_rewind()
    }

    async fn rewind(
        &self,
        node: &Instance,
        upstream: &Instance,
        source: &Client,
    ) -> Result<bool, PostgresError> {
        // Before PostgreSQL 16 pg_rewind takes a server promoted a moment ago for one on its old timeline, until a
        // checkpoint has written the new one to its control file.
        within(upstream.name(), "a checkpoint", SQL_LIMIT, source.batch_execute("CHECKPOINT")).await?;
        // Single-user recovery, which pg_rewind runs after a crash, refuses to run in a standby.
        node.unfollow()?;
        node.rewind(&Self::rewind_from(upstream), self.sync(), REWIND_LIMIT).await
    }
}

/// Removes a stopped server's slots: they date from when it was the primary, and a standby never advances them, so
/// they would keep its log for ever. They are made anew after the start.
fn drop_slots(node: &Instance) -> Result<(), PostgresError> {
    let dir = node.data_dir().join("pg_replslot");
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let path = entry.path();
        std::fs::remove_dir_all(&path).map_err(|source| PostgresError::File {
            doing: "remove",
            path,
            source,
        })?;
    }
    Ok(())
}
