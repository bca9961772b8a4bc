//! Resuming a cluster that was built before: who is the primary now, and who must be fitted to its history first.
//!
//! Servers that run are left alone: an earlier program may have been killed and left them. A primary that runs has clients
//! who wait for whoever resumes it, so what takes long is left to be done behind their backs.

use futures_util::future::try_join_all;

use super::cluster::{MARKER, SQL_LIMIT};
use super::{Cluster, Instance, PostgresError, Progress, Rejoin, Step};
use crate::model::{NodeId, Timeline};

impl Cluster {
    pub(super) async fn resume(&self, progress: Progress<'_>) -> Result<(), PostgresError> {
        self.check_marker()?;
        let primary_id = self.primary_on_disk()?;
        let primary = self.node(primary_id)?;
        let running: Vec<NodeId> = self
            .ids()
            .zip(self.nodes())
            .filter(|(_, node)| node.running().is_some())
            .map(|(id, _)| id)
            .collect();
        if !running.is_empty() && !running.contains(&primary_id) {
            // Its replicas live and it is dead: a failover is due, or under way since before an earlier program was
            // killed. To start it now could make two primaries; whoever decides about failovers goes on from here.
            progress(&Step::LeftDown(primary.name()));
            let replicas = self.nodes().iter().filter(|node| node.is_standby());
            return try_join_all(replicas.map(|node| self.bring_up(node, progress))).await.map(drop);
        }
        self.bring_up(primary, progress).await?;
        let client = self.superuser_on(primary, SQL_LIMIT).await?;
        self.create_slots(primary, &client).await?;
        let others = || self.ids().filter(|id| *id != primary_id);
        let behind = |id: &NodeId| {
            running.contains(&primary_id) && !running.contains(id) && self.may_have_diverged(*id, primary)
        };
        for id in others().filter(behind) {
            progress(&Step::LeftBehind(self.node(id)?.name()));
        }
        let kept = || others().filter(|id| !behind(id));
        try_join_all(kept().map(|id| self.resume_replica(id, primary_id, progress))).await?;
        // One that ran already may have been cut off on purpose, in a failover that is still to be finished.
        let started = kept().filter(|id| !running.contains(id));
        let started: Vec<&str> = started.filter_map(|id| self.node(id).ok()).map(Instance::name).collect();
        self.wait_streaming(primary, &client, &started, progress).await
    }

    fn check_marker(&self) -> Result<(), PostgresError> {
        let path = self.dir().join(MARKER);
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| PostgresError::File { doing: "read", path, source })?;
        let wanted = format!("nodes = {}", self.nodes().len());
        match text.lines().find(|line| line.starts_with("nodes")) {
            Some(line) if line == wanted => Ok(()),
            line => Err(PostgresError::Differs {
                dir: self.dir().to_path_buf(),
                has: line.unwrap_or("nothing").into(),
                wanted,
            }),
        }
    }

    /// The node that is not a standby; of several the one with the newest timeline, and of those the one that runs:
    /// the others are former primaries that were never rejoined.
    ///
    /// # Errors
    /// All of them are standbys.
    pub fn primary_on_disk(&self) -> Result<NodeId, PostgresError> {
        let claimants = self.ids().zip(self.nodes()).filter(|(_, node)| !node.is_standby());
        let newest = claimants.max_by_key(|(_, node)| (node.timeline_on_disk(), node.running().is_some()));
        newest.map(|(id, _)| id).ok_or_else(|| PostgresError::NoPrimary { dir: self.dir().to_path_buf() })
    }

    async fn bring_up(&self, node: &Instance, progress: Progress<'_>) -> Result<(), PostgresError> {
        if node.running().is_some() {
            progress(&Step::Found { name: node.name(), port: node.port() });
            return Ok(());
        }
        node.write_conf()?;
        self.start(node, progress).await
    }

    /// A standby on the primary's timeline cannot have diverged; one that missed a promotion may have.
    fn may_have_diverged(&self, id: NodeId, primary: &Instance) -> bool {
        let same =
            |node: &Instance| node.is_standby() && node.timeline_on_disk() == primary.timeline_on_disk();
        !self.node(id).is_ok_and(same)
    }

    async fn resume_replica(
        &self,
        id: NodeId,
        primary_id: NodeId,
        progress: Progress<'_>,
    ) -> Result<(), PostgresError> {
        let (node, primary) = (self.node(id)?, self.node(primary_id)?);
        if self.may_have_diverged(id, primary) {
            progress(&Step::Rejoining(node.name()));
            let how = Rejoin { application_name: node.name().to_owned(), rewind: true, twin: None };
            self.rejoin(id, primary_id, &how).await?;
            progress(&Step::Started { name: node.name(), port: node.port(), standby: true });
            return Ok(());
        }
        if node.running().is_none() {
            let upstream = Self::replication_from(primary, node.name());
            node.follow(&upstream.with_password(), Some(node.name()))?;
        }
        self.bring_up(node, progress).await
    }
}

impl Instance {
    /// The newest timeline that the data directory knows: promotions leave a history file before anything else.
    pub fn timeline_on_disk(&self) -> Timeline {
        let entries = std::fs::read_dir(self.data_dir().join("pg_wal")).into_iter().flatten().flatten();
        let timeline = |name: &str| u32::from_str_radix(name.strip_suffix(".history")?, 16).ok();
        let newest = entries.filter_map(|entry| timeline(entry.file_name().to_str()?)).max();
        Timeline(newest.unwrap_or(1))
    }
}
