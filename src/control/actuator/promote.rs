//! Promotion: followers are pointed at the candidate, the candidate is promoted, its first write gets its quorum.

use std::time::Duration;

use tokio_postgres::Client;

use super::recruit::lsn;
use super::{Actuator, DeedError};
use crate::control::hands::{Change, alter};
use crate::control::link::{Link, within};
use crate::failover::{FollowerName, Outcome};
use crate::model::{Epoch, NodeId, Timeline};

/// To sign in for the term row.
const OPEN_MAX: Duration = Duration::from_secs(3);

const CREATE_SLOT: &str = "SELECT pg_create_physical_replication_slot($1) \
    WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";

/// Whether it is a standby, has no `restore_command`, its slot, and whether it has stale slots. Keeps the password of the
/// statement to come out of the server's log, as far as our role may.
const BEFORE_REPOINT: &str = "\
SELECT pg_is_in_recovery(), current_setting('restore_command') = '', current_setting('primary_slot_name'),
  EXISTS (SELECT FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active
    AND restart_lsn IS NOT NULL AND slot_name = ANY ($1)),
  (SELECT set_config('log_statement', 'none', false) || set_config('log_min_duration_statement', '-1', false)
    || set_config('log_min_error_statement', 'panic', false)
    FROM pg_roles WHERE rolname = current_user AND rolsuper)";

/// Slots of followers that a standby still has from when it was the primary: it never advances them, so they would keep
/// its WAL for ever.
const DROP_STALE_SLOTS: &str = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
    WHERE slot_type = 'physical' AND NOT active AND restart_lsn IS NOT NULL AND slot_name = ANY ($1) \
    AND pg_is_in_recovery()";

const TERM_TABLE: &str = "\
CREATE SCHEMA IF NOT EXISTS primacy;
CREATE TABLE IF NOT EXISTS primacy.term (
  epoch bigint PRIMARY KEY,
  node text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
)";

const TERM_ROW: &str = "INSERT INTO primacy.term (epoch, node) VALUES ($1, $2) \
    ON CONFLICT (epoch) DO UPDATE SET node = excluded.node, at = excluded.at";

impl Actuator {
    /// Points a standby at `upstream` under that name. Takes effect at once; replay is not waited for.
    pub(super) async fn repoint(
        &self,
        node: NodeId,
        upstream: NodeId,
        name: FollowerName,
    ) -> Result<Outcome, DeedError> {
        let follow = self.upstream(node, upstream, name)?;
        let hand = self.hand(node)?;
        let slots = self.slot_names();
        let look = async {
            let lease = hand.lease().await?;
            let row = lease.query_one(BEFORE_REPOINT, &[&slots]).await?;
            Ok::<_, DeedError>((lease, row))
        };
        let slot = async {
            match &follow.slot {
                Some(slot) if self.make_slot(upstream, slot).await => slot.as_str(),
                _ => "",
            }
        };
        let (looked, slot) = tokio::join!(look, slot);
        let (lease, row) = looked?;
        if !row.try_get::<_, bool>(0)? {
            return Err(DeedError::State("is no standby".into()));
        }
        let mut changes = Vec::with_capacity(3);
        if row.try_get::<_, &str>(2)? != slot {
            changes.push(Change::set("primary_slot_name", slot));
        }
        let restore_command = hand.remembered().restore_command.take();
        if let Some(own) = restore_command.filter(|_| row.try_get(1).unwrap_or(false)) {
            changes.push(Change::Set("restore_command", own));
        }
        changes.push(Change::Set("primary_conninfo", follow.conninfo));
        alter(&lease, &changes).await?;
        if row.try_get(3)? {
            self.drop_stale_slots(&lease).await;
        }
        lease.done();
        Ok(Outcome::Done)
    }

    /// Makes the follower's slot on the server; without one it follows too, only less safely.
    pub(super) async fn make_slot(&self, server: NodeId, slot: &str) -> bool {
        let made = async {
            let lease = self.hand(server)?.lease().await?;
            lease.execute(CREATE_SLOT, &[&slot]).await?;
            lease.done();
            Ok::<_, DeedError>(())
        };
        match tokio::time::timeout(self.settings.failover.repoint_timeout, made).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(node = %self.settings.name(server), slot, %error, "no replication slot");
                false
            }
            Err(_elapsed) => {
                tracing::warn!(node = %self.settings.name(server), slot, "no replication slot: no answer");
                false
            }
        }
    }

    /// Best effort: what is left over costs disk space up to `max_slot_wal_keep_size`, nothing else.
    pub(super) async fn drop_stale_slots(&self, client: &Client) {
        let slots = self.slot_names();
        if let Err(error) = client.execute(DROP_STALE_SLOTS, &[&slots]).await {
            tracing::debug!(%error, "stale slots were not dropped");
        }
    }

    /// The names of all nodes' slots.
    fn slot_names(&self) -> Vec<String> {
        self.settings
            .ids()
            .zip(&self.settings.nodes)
            .map(|(id, node)| super::slot_name(id, &node.name))
            .collect()
    }

    /// Promotes a standby and looks every `poll` until it is a primary. The server's own way of waiting looks only
    /// every 100 ms.
    pub(super) async fn promote(&self, node: NodeId, poll: Duration) -> Result<Outcome, DeedError> {
        let lease = self.hand(node)?.lease().await?;
        lease.batch_execute("SELECT pg_promote(false) WHERE pg_is_in_recovery()").await?;
        let question = lease.prepare("SELECT pg_is_in_recovery()").await?;
        while lease.query_one(&question, &[]).await?.try_get(0)? {
            tokio::time::sleep(poll).await;
        }
        let row = lease
            .query_one(
                "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), \
                 pg_last_wal_replay_lsn()::text",
                &[],
            )
            .await?;
        let digits: &str = row.try_get(0)?;
        let timeline = u32::from_str_radix(digits, 16)
            .map_err(|error| DeedError::State(format!("timeline {digits:?}: {error}")))?;
        let fork = lsn(row.try_get(1)?)?;
        lease.done();
        Ok(Outcome::Promoted { timeline: Timeline(timeline), fork })
    }

    /// Writes the epoch's row on the new primary and waits for its quorum.
    pub(super) async fn write_term_row(&self, node: NodeId, epoch: Epoch) -> Result<Outcome, DeedError> {
        // A connection of its own: it hears the server's warnings, and is closed if the wait is given up.
        let link = Link::open(&self.hand(node)?.target, OPEN_MAX).await?;
        let name = self.settings.name(node);
        let number = i64::try_from(epoch.0).map_err(|error| DeedError::State(error.to_string()))?;
        let write = async {
            let client = link.client();
            client.batch_execute("BEGIN READ WRITE; SET LOCAL synchronous_commit = on").await?;
            // Only where it is missing: making it takes locks and rights that a later row does not need.
            if client.query_opt("SELECT 1 WHERE to_regclass('primacy.term') IS NULL", &[]).await?.is_some() {
                client.batch_execute(TERM_TABLE).await?;
            }
            client.execute(TERM_ROW, &[&number, &&*name]).await?;
            client.batch_execute("COMMIT").await?;
            Ok::<_, tokio_postgres::Error>(())
        };
        // Given up a little before the core gives it up, so that the wait can be ended on the server, too.
        let limit = self.settings.failover.term_row_timeout.mul_f32(0.9);
        let written = within(limit, write).await;
        if link.quorum_wait_cancelled() {
            // The commit stands on this node alone and looks like a success (T4).
            return Err(DeedError::State("the wait for the quorum was cancelled".into()));
        }
        if let Err(error) = written {
            link.cancel(&self.hand(node)?.target).await;
            return Err(error.into());
        }
        let row = link.client().query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
        Ok(Outcome::Established(lsn(row.try_get(0)?)?))
    }
}
