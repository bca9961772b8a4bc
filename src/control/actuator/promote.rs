//! Promotion: followers are pointed at the candidate, and the candidate is promoted.

use std::time::Duration;

use tokio_postgres::Client;

use super::recruit::{RELOAD, lsn};
use super::{Actuator, DeedError, term};
use crate::control::hands::{Change, Lease, alter};
use crate::control::task;
use crate::failover::{FollowerName, Outcome};
use crate::model::{NodeId, Timeline};

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

const RECOVERING: &str = "SELECT pg_is_in_recovery()";

/// Whether a standby does what it was told: its receiver streams, or it needs none any more. Who may not see that (it takes
/// `pg_read_all_stats`) reads that it does not, and has it told as often as there are reminders, which changes nothing.
const FOLLOWS: &str = "\
SELECT NOT pg_is_in_recovery() OR EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')";

/// When it is looked whether a repointed standby streams. A receiver that only connects may yet fail.
const REMINDERS: [Duration; 4] = [
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];

/// The timeline of a primary, and where its own WAL begins.
const PROMOTED: &str = "\
SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), pg_last_wal_replay_lsn()::text";

/// What is prepared before it is needed.
pub(super) const STATEMENTS: [&str; 5] = [BEFORE_REPOINT, CREATE_SLOT, RECOVERING, FOLLOWS, PROMOTED];

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
            let row = lease.query_one(&lease.prepare(BEFORE_REPOINT).await?, &[&slots]).await?;
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
        task::spawn_detached("remind", &self.settings.name(node), remind(lease));
        Ok(Outcome::Done)
    }

    /// Makes the follower's slot on the server; without one it follows too, only less safely.
    pub(super) async fn make_slot(&self, server: NodeId, slot: &str) -> bool {
        let made = async {
            let lease = self.hand(server)?.lease().await?;
            lease.execute(&lease.prepare(CREATE_SLOT).await?, &[&slot]).await?;
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
    /// every 100 ms. Meanwhile the connection for the term row is opened.
    pub(super) async fn promote(&self, node: NodeId, poll: Duration) -> Result<Outcome, DeedError> {
        let hand = self.hand(node)?;
        let lease = hand.lease().await?;
        let promotion = async {
            let (question, promoted) = tokio::try_join!(lease.prepare(RECOVERING), lease.prepare(PROMOTED))?;
            lease.batch_execute("SELECT pg_promote(false) WHERE pg_is_in_recovery()").await?;
            while lease.query_one(&question, &[]).await?.try_get(0)? {
                tokio::time::sleep(poll).await;
            }
            Ok::<_, DeedError>(lease.query_one(&promoted, &[]).await?)
        };
        let ahead = async {
            if let Ok(link) = term::open(&hand.target).await {
                hand.keep_for_term(link);
            }
            std::future::pending().await
        };
        let row = tokio::select! {
            row = promotion => row?,
            never = ahead => never,
        };
        let digits: &str = row.try_get(0)?;
        let timeline = u32::from_str_radix(digits, 16)
            .map_err(|error| DeedError::State(format!("timeline {digits:?}: {error}")))?;
        let fork = lsn(row.try_get(1)?)?;
        lease.done();
        Ok(Outcome::Promoted { timeline: Timeline(timeline), fork })
    }
}

/// Wakes a standby that was told to follow and does not begin to: one whose receiver was ending just then was seen without any
/// until the next reload, a second later, and after a failed attempt the startup process waits for
/// `wal_retrieve_retry_interval`. A reload ends both, and changes nothing.
async fn remind(lease: Lease) {
    let reminding = async {
        let follows = lease.prepare(FOLLOWS).await?;
        for pause in REMINDERS {
            tokio::time::sleep(pause).await;
            if lease.query_one(&follows, &[]).await?.try_get(0)? {
                break;
            }
            tracing::debug!("a standby is told again whom to follow");
            lease.batch_execute(RELOAD).await?;
        }
        Ok::<_, tokio_postgres::Error>(())
    };
    match reminding.await {
        Ok(()) => lease.done(),
        Err(error) => tracing::debug!(%error, "a standby was not reminded of whom it is to follow"),
    }
}
