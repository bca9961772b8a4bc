//! Brings a node back into its cluster as a replica of the present primary.
//!
//! A former primary's history may have gone on where the present one's forked off; pg_rewind takes that part back.
//! Under which name it returns is the caller's choice: under its own a diverged standby would falsely
//! acknowledge commits, because the first reply of a walreceiver claims its replay position whatever its timeline.

use std::time::Duration;

use super::cluster::{SQL_LIMIT, START_LIMIT};
use super::sql::within;
use super::{Cluster, Comeback, Instance, Limits, PostgresError, Remote, StopMode};
use crate::model::{NodeId, Timeline};

const LIMITS: Limits = Limits {
    stop: Duration::from_secs(10),
    start: START_LIMIT,
    rewind: Duration::from_secs(120),
    copy: Duration::from_secs(120),
};

/// How a node comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejoin {
    /// The `application_name` that it streams under: a neutral one, until it is vetted.
    pub application_name: String,
    /// Whether its history is fitted to the primary's first. Without it the node is stopped at once, so that it
    /// writes no shutdown checkpoint, which would put a fenced and caught up former primary ahead of the fork.
    pub rewind: bool,
    /// A timeline that it may have made on its own: see [`Comeback::twin`].
    pub twin: Option<Timeline>,
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

    /// Starts `node` as it is, if it crashed and cannot have begun the timeline `twin`; `false`: it was stopped in order, or
    /// runs.
    pub async fn start_crashed(
        &self,
        node: NodeId,
        twin: Option<Timeline>,
        limit: Duration,
    ) -> Result<bool, PostgresError> {
        let _busy = self.busy(node)?.lock_owned().await;
        let node = self.node(node)?;
        if !node.has_crashed() {
            return Ok(false);
        }
        if let Some(timeline) = twin {
            node.has_not_begun(timeline).await?;
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
        let stop = if how.rewind { StopMode::Fast } else { StopMode::Immediate };
        // First of all: what it may be, a second primary, it is no longer, even where the rest cannot be done.
        node.halt(stop, LIMITS.stop).await?;
        let source = self.superuser_on(upstream, SQL_LIMIT).await?;
        self.create_slots(upstream, &source).await?;
        if how.rewind {
            // Before PostgreSQL 16 pg_rewind takes a server promoted a moment ago for one on its old timeline, until a
            // checkpoint has written the new one to its control file.
            within(upstream.name(), "a checkpoint", SQL_LIMIT, source.batch_execute("CHECKPOINT")).await?;
        }
        let comeback = Comeback {
            follow: Self::replication_from(upstream, &how.application_name).with_password(),
            slot: Some(node.name().to_owned()),
            stop,
            rewind: how.rewind.then(|| Self::rewind_from(upstream)),
            twin: how.twin,
            // It is a copy of the same cluster that was made here, by us and for nobody else.
            copy: Some(Remote::from(&Self::replication_from(upstream, node.name()))),
            system_id: None,
            sync: self.sync(),
            limits: LIMITS,
        };
        let rewound = node.come_back(&comeback).await?;
        let client = self.superuser_on(node, SQL_LIMIT).await?;
        self.create_slots(node, &client).await?;
        Ok(Rejoined { rewound })
    }
}
