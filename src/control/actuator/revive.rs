//! Former primaries become standbys again: armed for a crash, restarted after a switchover, rewound where they diverged.
//!
//! Starting and rewinding is the local servers' work. By SQL alone a *running* server can be made a standby: the
//! standby signal is put into its data directory, and the crash of one of its sessions makes the postmaster restart
//! everything, without the shutdown checkpoint that would be WAL of its own (T9).

use std::sync::Arc;

use super::{Actuator, DeedError, POLL_SLOW};
use crate::control::conninfo::{Conninfo, literal};
use crate::control::hands::{Change, alter, hush};
use crate::control::link::Link;
use crate::control::local::{Fit, LocalServers, Upstream};
use crate::failover::{FollowerName, Outcome};
use crate::model::{Address, NodeId, Timeline};

/// What ends a session as a crash does. The shell's parent is the server process that runs our statement.
const CRASH_OWN_SESSION: &str = "COPY (SELECT) TO PROGRAM 'kill -9 $PPID'";

/// Without anybody beside the server.
const DIED_PROMOTED: &str = "it died while it was being promoted, and nobody here can look at its files: start it, which \
    shows whether it was, or clone it anew";

impl Actuator {
    /// Puts the standby signal on the running primary: after a crash it comes back as a standby of whoever is the
    /// primary then, under its neutral name.
    pub(super) async fn arm_standby_signal(&self, node: NodeId) -> Result<Outcome, DeedError> {
        let conninfo = self.any_primary(node);
        let lease = self.hand(node)?.lease().await?;
        if lease.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get(0)? {
            return Err(DeedError::State("is no primary".into()));
        }
        hush(&lease).await?;
        let changes = [
            Change::Set("primary_conninfo", conninfo.text()),
            Change::set("primary_slot_name", String::new()),
        ];
        alter(&lease, &changes).await?;
        put_signal(&lease).await?;
        lease.done();
        Ok(Outcome::Done)
    }

    /// Makes a fenced primary, of which nobody misses anything, a standby of `upstream`.
    pub(super) async fn demote(
        &self,
        node: NodeId,
        upstream: NodeId,
        immediate: bool,
    ) -> Result<Outcome, DeedError> {
        let follow = self.upstream(node, upstream, FollowerName::Neutral)?;
        if let Some(local) = self.local_for(node) {
            local.restart_as_replica(node, &follow, immediate).await?;
        } else {
            self.crash_into_standby(node, &follow).await?;
        }
        self.tidy(node).await;
        Ok(Outcome::Done)
    }

    /// Brings a node back as a standby of `upstream` under its neutral name.
    pub(super) async fn rejoin(
        &self,
        node: NodeId,
        upstream: NodeId,
        fit: Fit,
    ) -> Result<Outcome, DeedError> {
        if let Some(local) = self.local_for(node) {
            return self.rejoin_locally(local, (node, upstream), fit).await;
        }
        if fit.twin.is_some() {
            return Err(DeedError::Unsupported(DIED_PROMOTED.into()));
        }
        if fit.rewind {
            return Err(DeedError::Unsupported(
                "its history has parted from the primary's, and nobody here can run pg_rewind on it: stop it, rewind \
                 or re-clone it, and start it as a standby"
                    .into(),
            ));
        }
        let lease = self.hand(node)?.lease().await?;
        let standby: bool = lease.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get(0)?;
        lease.done();
        if standby {
            return self.repoint(node, upstream, FollowerName::Neutral).await;
        }
        let follow = self.upstream(node, upstream, FollowerName::Neutral)?;
        self.crash_into_standby(node, &follow).await?;
        self.tidy(node).await;
        Ok(Outcome::Done)
    }

    /// Starts a server that has crashed.
    pub(super) async fn start_crashed(
        &self,
        node: NodeId,
        twin: Option<Timeline>,
    ) -> Result<Outcome, DeedError> {
        let Some(local) = self.local_for(node) else {
            let why = if twin.is_some() { DIED_PROMOTED } else { "nobody here can start it" };
            return Err(DeedError::Unsupported(why.into()));
        };
        local.start(node, twin).await?;
        Ok(Outcome::Done)
    }

    async fn rejoin_locally(
        &self,
        local: Arc<dyn LocalServers>,
        (node, upstream): (NodeId, NodeId),
        fit: Fit,
    ) -> Result<Outcome, DeedError> {
        let follow = self.upstream(node, upstream, FollowerName::Neutral)?;
        if let Some(slot) = &follow.slot {
            self.make_slot(upstream, slot).await;
        }
        if fit.rewind {
            self.checkpoint(upstream).await;
        }
        local.rejoin(node, &follow, fit).await?;
        self.tidy(node).await;
        Ok(Outcome::Done)
    }

    /// Best effort: before PostgreSQL 16 pg_rewind takes a server that was promoted a moment ago for one on its old timeline,
    /// until a checkpoint has written the new one to its control file.
    async fn checkpoint(&self, node: NodeId) {
        let Ok(hand) = self.hand(node) else { return };
        if let Ok(lease) = hand.lease().await
            && lease.batch_execute("CHECKPOINT").await.is_ok()
        {
            lease.done();
        }
    }

    /// By SQL: signal, connection string, and the crash of one session.
    async fn crash_into_standby(&self, node: NodeId, follow: &Upstream) -> Result<(), DeedError> {
        if !self.settings.restart_by_sql {
            return Err(DeedError::Unsupported(
                "nobody here can restart it, and restarting it by SQL is switched off: restart it in immediate mode as \
                 a standby"
                    .into(),
            ));
        }
        let slot = match &follow.slot {
            Some(slot) if self.make_slot(follow.node, slot).await => slot.clone(),
            _ => String::new(),
        };
        let hand = self.hand(node)?;
        let lease = hand.lease().await?;
        let row = lease
            .query_one(
                "SELECT current_setting('restart_after_crash') = 'on', \
                 (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \
                 OR pg_has_role('pg_execute_server_program', 'usage')",
                &[],
            )
            .await?;
        let (restarts, may): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        if !(restarts && may) {
            return Err(DeedError::Unsupported(
                "nobody here can restart it (SQL can where restart_after_crash is on and primacy's role has \
                 pg_execute_server_program and pg_write_server_files)"
                    .into(),
            ));
        }
        hush(&lease).await?;
        let changes = [
            Change::Set("primary_conninfo", follow.conninfo.clone()),
            Change::set("primary_slot_name", slot),
        ];
        alter(&lease, &changes).await?;
        put_signal(&lease).await?;
        // The answer never comes: the session is what crashes.
        drop(lease.batch_execute(CRASH_OWN_SESSION).await);
        drop(lease);
        loop {
            tokio::time::sleep(POLL_SLOW).await;
            let Ok(link) = Link::open(&hand.target, self.settings.failover.detect_timeout).await else {
                continue;
            };
            let standby = link.client().query_one("SELECT pg_is_in_recovery()", &[]).await;
            match standby.map(|row| row.try_get(0)) {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => return Err(DeedError::State("it did not come back as a standby".into())),
                _ => {}
            }
        }
    }

    /// Best effort, once a former primary is a standby.
    async fn tidy(&self, node: NodeId) {
        let Ok(hand) = self.hand(node) else { return };
        if let Ok(lease) = hand.lease().await {
            self.drop_stale_slots(&lease).await;
            lease.done();
        }
    }

    /// A connection string that finds the primary among all the other nodes.
    fn any_primary(&self, node: NodeId) -> Conninfo {
        let others = self.settings.ids().zip(&self.settings.nodes).filter(|(id, _)| *id != node);
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for (_, other) in others {
            let (host, port) = match other.upstream_address() {
                Address::Tcp { host, port } => (host.clone(), *port),
                Address::Unix { dir, port } => (dir.display().to_string(), *port),
            };
            hosts.push(host);
            ports.push(port.to_string());
        }
        let role = self.settings.replication();
        let mut conninfo = Conninfo::default();
        conninfo.set("host", hosts.join(",")).set("port", ports.join(",")).set("user", &*role.user);
        if !role.password.is_empty() {
            conninfo.set("password", role.password.reveal());
        }
        conninfo.set("target_session_attrs", "read-write");
        conninfo.set("application_name", FollowerName::Neutral.application_name(&self.settings.name(node)));
        conninfo
    }
}

/// Writes `standby.signal` into the data directory of the server.
async fn put_signal(client: &tokio_postgres::Client) -> Result<(), DeedError> {
    let row = client.query_one("SELECT current_setting('data_directory') || '/standby.signal'", &[]).await?;
    let file: &str = row.try_get(0)?;
    client.batch_execute(&format!("COPY (SELECT) TO {}", literal(file))).await?;
    Ok(())
}
