//! Revocation: standbys stop receiving, finish replaying, and say what became of the commits in doubt.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::{Actuator, DeedError, POLL};
use crate::clock;
use crate::control::conninfo::Conninfo;
use crate::control::hands::{Change, Lease, alter};
use crate::control::in_doubt::Fate;
use crate::failover::{Outcome, Recruit};
use crate::model::{Epoch, Lsn, NodeId, Secret, Timeline};

/// Ends the sessions whose snapshot or lock keeps the startup process from replaying. The lock that it waits for is in
/// `pg_locks` (`pg_blocking_pids` does not know that process); whose snapshot it waits for is not shown anywhere, so every
/// session that has one is meant.
const TERMINATE_CONFLICTS: &str = "\
WITH startup AS (
  SELECT pid, wait_event_type, wait_event FROM pg_stat_activity WHERE backend_type = 'startup'
), me AS (
  SELECT rolsuper FROM pg_roles WHERE rolname = current_user
), blocker AS (
  SELECT h.pid FROM startup s
  JOIN pg_locks w ON w.pid = s.pid AND NOT w.granted
  JOIN pg_locks h ON h.granted AND h.pid <> w.pid AND h.locktype = w.locktype
    AND (h.database, h.relation, h.classid, h.objid) IS NOT DISTINCT FROM (w.database, w.relation, w.classid, w.objid)
)
SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a, startup s, me
WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
  AND CASE
    WHEN s.wait_event_type = 'Lock' THEN a.pid IN (SELECT pid FROM blocker)
    WHEN s.wait_event_type = 'BufferPin' OR s.wait_event LIKE 'RecoveryConflict%' THEN a.xact_start IS NOT NULL
    -- PostgreSQL 13 waits for snapshots without saying so.
    WHEN s.wait_event IS NULL AND current_setting('server_version_num')::int < 140000 THEN a.backend_xmin IS NOT NULL
    ELSE false
  END
  AND (me.rolsuper OR NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = a.usesysid))";

const RESUME_REPLAY: &str = "SELECT pg_wal_replay_resume() WHERE pg_is_wal_replay_paused()";

/// How far replay is, whether it waits for more WAL, whether there is any, and the longest that it waits before it looks into
/// `pg_wal` again, in milliseconds.
const REPLAY_STATE: &str = "\
SELECT pg_last_wal_replay_lsn()::text, coalesce((SELECT wait_event IN ('RecoveryWalStream', 'RecoveryWalAll',
  'RecoveryRetrieveRetryInterval') FROM pg_stat_activity WHERE backend_type = 'startup'), false),
  pg_is_in_recovery(),
  (extract(epoch FROM current_setting('wal_retrieve_retry_interval')::interval) * 1000)::bigint";

pub(super) const RELOAD: &str = "SELECT pg_reload_conf()";

/// The startup process is woken where it waits at the end of its WAL; by then it has looked into `pg_wal` again.
const LOOKED_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Fates of transactions as a standby knows them. An id at or past the snapshot's `xmax` has not ended there: what is
/// not there when the standby is promoted never happened.
const FATES: &str = "\
SELECT x, CASE
    WHEN x::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) THEN 'never arrived'
    ELSE coalesce(pg_xact_status(x::xid8), 'too old')
  END
FROM unnest($1::text[]) x";

/// What a standby is and follows, before its receiver is stopped.
const BEFORE_STOP: &str = "\
SELECT pg_is_in_recovery(), current_setting('primary_conninfo'), current_setting('restore_command'),
  (SELECT received_tli FROM pg_stat_wal_receiver), CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END";

/// Whether a standby receives, or may still begin to. A receiver that has just died by itself comes back under the old setting
/// until the server has read the new one, and one that still connects is shown among the processes only.
const RECEIVES: &str = "\
SELECT current_setting('primary_conninfo') <> '' OR EXISTS (SELECT FROM pg_stat_wal_receiver)
  OR EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'walreceiver')";

/// Where a standby without a receiver stands; whether it has one again.
const POSITION: &str = "\
SELECT pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text,
  greatest((SELECT timeline_id FROM pg_control_checkpoint()),
    (SELECT min_recovery_end_timeline FROM pg_control_recovery())),
  EXISTS (SELECT FROM pg_stat_wal_receiver)
    OR EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'walreceiver')";

const RECOVERING: &str = "SELECT pg_is_in_recovery()";

/// What is prepared before it is needed.
pub(super) const STATEMENTS: [&str; 6] = [BEFORE_STOP, RECEIVES, POSITION, REPLAY_STATE, FATES, RECOVERING];

impl Actuator {
    /// Has a standby stop receiving and waits until it is seen to have stopped. The reload alone is no fence (T1).
    pub(super) async fn stop_receiver(&self, node: NodeId) -> Result<Outcome, DeedError> {
        let hand = self.hand(node)?;
        let lease = hand.lease().await?;
        let row = lease.query_one(&lease.prepare(BEFORE_STOP).await?, &[]).await?;
        if !row.try_get::<_, bool>(0)? {
            return Err(DeedError::State("is no standby".into()));
        }
        let conninfo = Secret::new(row.try_get::<_, String>(1)?);
        let restore_command: String = row.try_get(2)?;
        let receiving: Option<i32> = row.try_get(3)?;
        let paused: Option<bool> = row.try_get(4)?;
        let mut changes = vec![Change::set("primary_conninfo", "")];
        {
            let mut remembered = hand.remembered();
            if let Some(own) =
                Conninfo::parse(conninfo.reveal()).ok().filter(|own| own.value("user").is_some())
            {
                remembered.conninfo = Some(own);
            }
            if !restore_command.is_empty() {
                remembered.restore_command = Some(Secret::new(restore_command));
                changes.push(Change::set("restore_command", ""));
            }
        }
        alter(&lease, &changes).await?;
        if paused == Some(true) {
            // It may have lost its receiver by itself. Candidate or follower, it has to replay: paused, it would neither
            // notice whom it is pointed to nor acknowledge anything to the new primary.
            lease.batch_execute(RESUME_REPLAY).await?;
        }
        let receives = lease.prepare(RECEIVES).await?;
        while lease.query_one(&receives, &[]).await?.try_get(0)? {
            tokio::time::sleep(POLL).await;
        }
        let received_on = Timeline(receiving.and_then(|tli| u32::try_from(tli).ok()).unwrap_or(0));
        let recruit = position(&lease, self.watch.timeline(node).max(received_on)).await?;
        lease.done();
        Ok(Outcome::Recruited(recruit))
    }

    /// Ends the sessions that keep a standby's replay from going on.
    pub(super) async fn terminate_conflicts(&self, node: NodeId) -> Result<Outcome, DeedError> {
        let lease = self.hand(node)?.lease().await?;
        self.end_conflicts(node, &lease).await?;
        lease.done();
        Ok(Outcome::Done)
    }

    async fn end_conflicts(&self, node: NodeId, client: &Client) -> Result<(), DeedError> {
        let ended: i64 = client.query_one(TERMINATE_CONFLICTS, &[]).await?.try_get(0)?;
        if ended > 0 {
            tracing::info!(node = %self.settings.name(node), ended, "sessions in conflict with recovery were ended");
        }
        Ok(())
    }

    /// Resumes a paused replay: while it is paused the receiver goes on.
    pub(super) async fn resume_replay(&self, node: NodeId) -> Result<Outcome, DeedError> {
        let lease = self.hand(node)?.lease().await?;
        lease.batch_execute(RESUME_REPLAY).await?;
        lease.done();
        Ok(Outcome::Done)
    }

    /// Waits until a standby has replayed what it received. Where replay stands still, what keeps it is ended: the
    /// receiver may have stopped on its own account while replay still waited for a session.
    pub(super) async fn finish_replay(&self, node: NodeId, target: Lsn) -> Result<Outcome, DeedError> {
        let lease = self.hand(node)?.lease().await?;
        let question = lease.prepare(REPLAY_STATE).await?;
        let patience = self.settings.failover.conflict_after;
        let (mut at, mut moved) = (Lsn::ZERO, clock::now());
        let mut idle: Option<(Lsn, Instant)> = None;
        loop {
            let row = lease.query_one(&question, &[]).await?;
            if !row.try_get::<_, bool>(2)? {
                return Err(DeedError::State("is no standby".into()));
            }
            let replayed = lsn(row.try_get(0)?)?;
            if replayed >= target {
                lease.done();
                return Ok(Outcome::Replayed(replayed));
            }
            // What was received may end within a record, which is nobody's commit. But a standby whose receiver has just ended
            // may also wait before it reads what that has written: at its end is only who stands there for longer than that
            // wait takes, or has been woken from it.
            let now = clock::now();
            idle = match (row.try_get::<_, bool>(1)?, idle) {
                (false, _) => None,
                (true, Some((at, since))) if at == replayed => {
                    let interval =
                        Duration::from_millis(u64::try_from(row.try_get::<_, i64>(3)?).unwrap_or(0));
                    if now.duration_since(since) > interval.min(LOOKED_AGAIN_AFTER) {
                        lease.done();
                        return Ok(Outcome::Replayed(replayed));
                    }
                    idle
                }
                (true, _) => {
                    lease.batch_execute(RELOAD).await?;
                    Some((replayed, clock::now()))
                }
            };
            if replayed > at {
                (at, moved) = (replayed, now);
            } else if now.duration_since(moved) >= patience {
                moved = now;
                self.end_conflicts(node, &lease).await?;
                lease.batch_execute(RESUME_REPLAY).await?;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a standby has everything up to `target` on its disk.
    pub(super) async fn catch_up(&self, node: NodeId, target: Lsn) -> Result<Outcome, DeedError> {
        let lease = self.hand(node)?.lease().await?;
        let question = lease
            .prepare(
                "SELECT pg_is_in_recovery(), greatest((SELECT flushed_lsn FROM pg_stat_wal_receiver), \
                 pg_last_wal_replay_lsn())::text",
            )
            .await?;
        loop {
            let row = lease.query_one(&question, &[]).await?;
            if !row.try_get::<_, bool>(0)? {
                return Err(DeedError::State("is no standby".into()));
            }
            if lsn(row.try_get(1)?)? >= target {
                lease.done();
                return Ok(Outcome::Done);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks the candidate what became of the commits in doubt. After its promotion the answers would lie: transaction
    /// ids that never reached it are used again (T3).
    pub(super) async fn resolve_in_doubt(
        &self,
        candidate: NodeId,
        epoch: Epoch,
    ) -> Result<Outcome, DeedError> {
        let doubts = self.board.in_doubt();
        let asked = doubts.asked();
        if asked.is_empty() {
            return Ok(Outcome::Done);
        }
        let lease = self.hand(candidate)?.lease().await?;
        let (fates, recovering) = tokio::try_join!(lease.prepare(FATES), lease.prepare(RECOVERING))?;
        let xids: Vec<String> = asked.iter().map(u64::to_string).collect();
        // One after the other in one round trip: a standby still *after* it answered was one when it did.
        let params: [&(dyn ToSql + Sync); 1] = [&xids];
        let (rows, recovering) =
            tokio::try_join!(lease.query(&fates, &params), lease.query_one(&recovering, &[]))?;
        if !recovering.try_get::<_, bool>(0)? {
            return Err(DeedError::State("is a primary already".into()));
        }
        lease.done();
        let mut fates = Vec::with_capacity(rows.len());
        for row in rows {
            let (xid, word): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            if let Ok(xid) = xid.parse() {
                fates.push((xid, Fate::from_status(word)));
            }
        }
        doubts.answer(epoch, &fates);
        tracing::info!(asked = asked.len(), answered = fates.len(), "commits in doubt were resolved");
        Ok(Outcome::Done)
    }
}

/// Where a standby without a receiver stands. Its received position cannot grow any more.
async fn position(lease: &Lease, known: Timeline) -> Result<Recruit, DeedError> {
    let row = lease.query_one(&lease.prepare(POSITION).await?, &[]).await?;
    if row.try_get::<_, bool>(3)? {
        return Err(DeedError::State("its receiver came back".into()));
    }
    let (received, replayed) = (lsn(row.try_get(0)?)?, lsn(row.try_get(1)?)?);
    let timeline: Option<i32> = row.try_get(2)?;
    let timeline = Timeline(timeline.and_then(|tli| u32::try_from(tli).ok()).unwrap_or(0));
    Ok(Recruit { received: received.max(replayed), replayed, timeline: timeline.max(known) })
}

/// A position as the servers write it; none is before every other.
pub(super) fn lsn(text: Option<&str>) -> Result<Lsn, DeedError> {
    text.map_or(Ok(Lsn::ZERO), |text| text.parse().map_err(|error| DeedError::State(format!("{error}"))))
}
