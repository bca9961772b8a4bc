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
use crate::model::{NodeId, Secret};

const REWIND_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How a node comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejoin {
    /// `primary_conninfo`, with the `application_name` that it streams under: a neutral one, until it is vetted.
    pub conninfo: Secret,
    /// `primary_slot_name`.
    pub slot: Option<String>,
    /// How it is stopped if it runs. `Immediate` writes no shutdown checkpoint, which would put a former primary that
    /// is fenced and caught up ahead of the fork.
    pub stop: StopMode,
    /// Whether its history is fitted to the primary's first.
    pub rewind: bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejoined {
    /// Whether it had diverged and was taken back.
    pub rewound: bool,
}

impl Cluster {
    /// Stops `node` if it runs, takes its history back where asked to, and starts it as a standby of `upstream`.
    ///
    /// Not cancel-safe: a data directory whose rewind is interrupted may be beyond repair. Run it in a task of its own.
    pub async fn rejoin(
        &self,
        node: NodeId,
        upstream: NodeId,
        how: &Rejoin,
    ) -> Result<Rejoined, PostgresError> {
        self.rejoin_to(self.node(node)?, self.node(upstream)?, how).await
    }

    /// How `node` comes back to `upstream` under `application_name`, with its own slot.
    pub fn rejoin_as(node: &Instance, upstream: &Instance, application_name: &str, rewind: bool) -> Rejoin {
        Rejoin {
            conninfo: Self::replication_from(upstream, application_name).with_password(),
            slot: Some(node.name().to_owned()),
            stop: if rewind { StopMode::Fast } else { StopMode::Immediate },
            rewind,
        }
    }

    pub(super) async fn rejoin_to(
        &self,
        node: &Instance,
        upstream: &Instance,
        how: &Rejoin,
    ) -> Result<Rejoined, PostgresError> {
        if node.stop(how.stop, STOP_LIMIT / 2).await.is_err() {
            node.kill(STOP_LIMIT / 2).await?;
        }
        node.end_orphans();
        let source = self.superuser_on(upstream, SQL_LIMIT).await?;
        let rewound = if how.rewind { self.rewind(node, upstream, &source).await? } else { false };
        self.create_slots(upstream, &source).await?;
        // A rewind has brought the source's configuration with it.
        node.write_conf()?;
        drop_slots(node)?;
        node.follow(&how.conninfo, how.slot.as_deref())?;
        node.start(START_LIMIT).await?;
        let client = self.superuser_on(node, SQL_LIMIT).await?;
        self.create_slots(node, &client).await?;
        Ok(Rejoined { rewound })
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
