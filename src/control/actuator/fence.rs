//! Fences: a node that must not take writes is made to refuse them, as far as it can be reached; and small settings.
//!
//! A fence is a help, not the guarantee: that is the quorum, of which the standbys were taken away before.

use std::time::Duration;

use super::recruit::lsn;
use super::{Actuator, DeedError, POLL, POLL_SLOW};
use crate::control::hands::{Change, Lease, alter};
use crate::failover::Outcome;
use crate::model::NodeId;

/// No standby has this name, so no commit is ever acknowledged.
const FENCED_SYNC_NAMES: &str = "ANY 1 (fenced)";

/// How often a session that opens again after it was ended is ended again.
const END_ROUNDS_MAX: usize = 50;

const END_SESSIONS: &str = "\
SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a, pg_roles me
WHERE me.rolname = current_user AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
  AND a.application_name <> $1
  AND (me.rolsuper OR NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = a.usesysid))";

/// A row while our session has not yet seen the reload that ends the fence.
const STILL_FENCED: &str = "\
SELECT 1 FROM pg_settings
WHERE name = 'default_transaction_read_only' AND setting = 'on' AND sourcefile LIKE '%postgresql.auto.conf'";

impl Actuator {
    /// Keeps a node that is not the recorded primary from taking writes.
    pub(super) async fn fence_old(&self, node: NodeId) -> Result<Outcome, DeedError> {
        let lease = self.hand(node)?.lease().await?;
        let row = lease
            .query_one("SELECT pg_is_in_recovery(), current_setting('synchronous_standby_names')", &[])
            .await?;
        if row.try_get::<_, bool>(0)? {
            let row = lease.query_one("SELECT pg_last_wal_replay_lsn()::text", &[]).await?;
            lease.done();
            return Ok(Outcome::Fenced(lsn(row.try_get(0)?)?));
        }
        let own: &str = row.try_get(1)?;
        if own != FENCED_SYNC_NAMES {
            self.hand(node)?.remembered().sync_names = Some(own.to_owned());
        }
        let changes = [
            Change::set("default_transaction_read_only", "on"),
            Change::set("synchronous_standby_names", FENCED_SYNC_NAMES),
        ];
        alter(&lease, &changes).await?;
        self.stand_still(lease).await
    }

    /// Keeps the primary from taking more writes before a switchover; its standbys go on receiving.
    pub(super) async fn quiesce(&self, node: NodeId) -> Result<Outcome, DeedError> {
        let lease = self.hand(node)?.lease().await?;
        if lease.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get(0)? {
            return Err(DeedError::State("is no primary".into()));
        }
        alter(&lease, &[Change::set("default_transaction_read_only", "on")]).await?;
        self.stand_still(lease).await
    }

    /// Waits until new sessions are read-only, ends the others, and says where the WAL ends then.
    async fn stand_still(&self, lease: Lease) -> Result<Outcome, DeedError> {
        // Our own session learns of the reload from the postmaster, which has reloaded itself before: from then on
        // every new session is read-only.
        while lease.query_one("SHOW default_transaction_read_only", &[]).await?.try_get::<_, &str>(0)? != "on"
        {
            tokio::time::sleep(POLL).await;
        }
        for _ in 0..END_ROUNDS_MAX {
            let ended: i64 = lease
                .query_one(END_SESSIONS, &[&crate::control::link::APPLICATION_NAME])
                .await?
                .try_get(0)?;
            if ended == 0 {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let row = lease.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
        let position = lsn(row.try_get(0)?)?;
        lease.done();
        Ok(Outcome::Fenced(position))
    }

    /// Undoes both fences.
    pub(super) async fn unfence(&self, node: NodeId) -> Result<Outcome, DeedError> {
        let hand = self.hand(node)?;
        let lease = hand.lease().await?;
        let row = lease
            .query_one(
                "SELECT current_setting('default_transaction_read_only'), \
                 current_setting('synchronous_standby_names')",
                &[],
            )
            .await?;
        let mut changes = Vec::with_capacity(2);
        if row.try_get::<_, &str>(0)? == "on" {
            changes.push(Change::Reset("default_transaction_read_only"));
        }
        if row.try_get::<_, &str>(1)? == FENCED_SYNC_NAMES {
            changes.push(match hand.remembered().sync_names.take() {
                Some(own) => Change::set("synchronous_standby_names", own),
                None => Change::Reset("synchronous_standby_names"),
            });
        }
        if !changes.is_empty() {
            alter(&lease, &changes).await?;
            // Statements go out to it as soon as we say that it is done: new sessions must be writable by then. Where the
            // configuration file itself says read-only, that is its owner's wish.
            while lease.query_opt(STILL_FENCED, &[]).await?.is_some() {
                tokio::time::sleep(POLL_SLOW).await;
            }
        }
        lease.done();
        Ok(Outcome::Done)
    }

    /// `synchronous_standby_names`.
    pub(super) async fn set_sync_names(&self, node: NodeId, text: &str) -> Result<Outcome, DeedError> {
        let lease = self.hand(node)?.lease().await?;
        alter(&lease, &[Change::set("synchronous_standby_names", text)]).await?;
        lease.done();
        Ok(Outcome::Done)
    }

    /// `wal_receiver_timeout`.
    pub(super) async fn set_receiver_timeout(
        &self,
        node: NodeId,
        timeout: Duration,
    ) -> Result<Outcome, DeedError> {
        let lease = self.hand(node)?.lease().await?;
        alter(&lease, &[Change::set("wal_receiver_timeout", format!("{}ms", timeout.as_millis()))]).await?;
        lease.done();
        Ok(Outcome::Done)
    }
}
