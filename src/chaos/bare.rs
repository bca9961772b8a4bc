//! The floor: how long a replica takes from `kill -9` of its primary to its first write when somebody who knew of it sends
//! `pg_promote` at once, and nothing else is done: nobody held, nobody asked, no quorum.
//!
//! In two ways. `pg_promote()` as people and scripts call it waits in the server, which looks every 100 ms
//! (`WAITS_PER_SECOND` in its source); who has it not wait and looks every millisecond sees what the promotion itself takes.
//!
//! A pair of servers of its own, beside the cluster under test, so that both are measured on the same machine in the same
//! minutes.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tokio_postgres::Client;

use crate::clock;
use crate::model::NodeId;
use crate::postgres::{
    Cluster, ClusterSpec, Durability, Installation, PostgresError, Rejoin, Step, Watchdog,
};

const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(1);

/// How it is waited for the end of a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As `pg_promote()` does by itself.
    Server,
    /// By a question each millisecond.
    Polled,
}

/// The pair.
#[derive(Debug)]
pub struct Bare {
    cluster: Cluster,
    primary: u16,
    // Dropped last: ends what is left, and removes the directory.
    _watchdog: Watchdog,
}

impl Bare {
    /// Builds it.
    pub async fn open(installation: &Arc<Installation>, ports: [u16; 2]) -> Result<Self, PostgresError> {
        let dir = installation.account.temporary_dir("primacy-bare-")?;
        let watchdog = Watchdog::over(&dir)?;
        let spec = ClusterSpec {
            dir,
            ports: ports.to_vec(),
            durability: Durability::Async,
            sync: false,
            settings: Vec::new(),
            init_args: Vec::new(),
        };
        let cluster = Cluster::describe(installation, &spec);
        cluster.open(&spec, &|_: &Step<'_>| {}).await?;
        let client = cluster.superuser_on(cluster.node(NodeId(0))?, LIMIT).await?;
        sql(client.batch_execute("CREATE TABLE written (n bigint)").await)?;
        Ok(Self { cluster, primary: 0, _watchdog: watchdog })
    }

    /// Kills the primary, promotes the replica, writes; the time from the first to the last. The pair is whole afterwards.
    pub async fn measure(&mut self, wait: Wait) -> Result<Duration, PostgresError> {
        let (old, new) = (NodeId(self.primary), NodeId(1 - self.primary));
        let replica = self.cluster.superuser_on(self.cluster.node(new)?, LIMIT).await?;
        self.catch_up(old, &replica).await?;
        let Some(postmaster) = self.cluster.node(old)?.running() else {
            return Err(PostgresError::Interrupted { reason: "the bare primary does not run".to_owned() });
        };
        let begun = clock::now();
        // One that has ended meanwhile is as dead.
        kill(postmaster, Signal::SIGKILL).ok();
        let promote = match wait {
            Wait::Server => "SELECT pg_promote()",
            Wait::Polled => "SELECT pg_promote(false)",
        };
        sql(replica.batch_execute(promote).await)?;
        while sql(replica.query_one("SELECT pg_is_in_recovery()", &[]).await)?.get(0) {
            tokio::time::sleep(POLL).await;
        }
        sql(replica.batch_execute("INSERT INTO written VALUES (1)").await)?;
        let took = clock::now().duration_since(begun);
        self.primary = new.0;
        let name = self.cluster.node(old)?.name().to_owned();
        self.cluster.rejoin(old, new, &Rejoin { application_name: name, rewind: true, twin: None }).await?;
        Ok(took)
    }

    /// Waits until the replica has everything, as the candidate of a failover has.
    async fn catch_up(&self, old: NodeId, replica: &Client) -> Result<(), PostgresError> {
        let primary = self.cluster.superuser_on(self.cluster.node(old)?, LIMIT).await?;
        sql(primary.batch_execute("INSERT INTO written VALUES (0); CHECKPOINT").await)?;
        let position = "SELECT pg_current_wal_insert_lsn()::text";
        let position: String = sql(primary.query_one(position, &[]).await)?.get(0);
        let seen = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}', false)");
        let deadline = clock::now() + LIMIT;
        while !sql(replica.query_one(&seen, &[]).await)?.get::<_, bool>(0) && clock::now() < deadline {
            tokio::time::sleep(POLL * 10).await;
        }
        Ok(())
    }
}

fn sql<T>(done: Result<T, tokio_postgres::Error>) -> Result<T, PostgresError> {
    done.map_err(|source| PostgresError::Sql { name: "bare".to_owned(), doing: "measuring", source })
}
