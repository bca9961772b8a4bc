//! A cluster from copies of one stopped data directory: quicker than initdb and base backups, for tests above all.

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::process::Command;

use super::command::{prepare, run};
use super::{Cluster, Instance, PostgresError, Progress};

const COPY_LIMIT: Duration = Duration::from_secs(120);

impl Cluster {
    /// Fills every node's data directory with a copy of `template`, a cleanly stopped server's, and starts them all.
    /// A copy of a stopped primary is a base backup as good as any: the nodes share its identity and its history.
    pub async fn open_copies(&self, template: &Path, progress: Progress<'_>) -> Result<(), PostgresError> {
        let Some((primary, replicas)) = self.nodes().split_first() else { return Ok(()) };
        let account = &primary.installation().account;
        account.create_dir(self.dir())?;
        account.create_dir(&self.dir().join("sockets"))?;
        account.can_enter(self.dir())?;
        try_join_all(self.nodes().iter().map(|node| copy(template, node))).await?;
        for replica in replicas {
            let upstream = Self::replication_from(primary, replica.name());
            replica.follow(&upstream.with_password(), Some(replica.name()))?;
        }
        self.write_marker(primary)?;
        self.resume(progress).await
    }
}

async fn copy(template: &Path, node: &Instance) -> Result<(), PostgresError> {
    let mut command = prepare(&node.installation().account, Command::new("cp"));
    command.arg("-a").arg(template).arg(node.data_dir());
    run(command, COPY_LIMIT).await?;
    node.write_conf()
}
