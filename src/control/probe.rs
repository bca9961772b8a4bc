//! The question that primacy asks every server again and again, and its answer as a value.
//!
//! One statement for primaries and replicas, right for PostgreSQL 13 to 18, so that all facts of an answer belong to
//! one moment. The answer travels as one JSON text: the names below are the names in the statement.

use std::num::ParseIntError;
use std::time::Duration;

use serde::Deserialize;
use tokio_postgres::Statement;

use super::conninfo::Conninfo;
use super::link::{Link, LinkError, within};
use crate::failover::{Facts, Receiver, Sender, SyncState};
use crate::model::{Lsn, NodeId, ParseLsnError, SystemId, Timeline};

/// The statement. Positions that exist only in one of the two roles stand in `CASE`: asking a primary's on a replica
/// is an error.
pub(crate) const SQL: &str = "\
SELECT row_to_json(f)::text FROM (SELECT
  pg_is_in_recovery() AS in_recovery,
  (SELECT system_identifier::text FROM pg_control_system()) AS system_id,
  current_setting('server_version_num')::int AS version,
  current_setting('synchronous_standby_names') AS sync_names,
  current_setting('default_transaction_read_only') = 'on' AS read_only,
  (extract(epoch FROM current_setting('wal_receiver_timeout')::interval) * 1000)::bigint AS receiver_timeout_ms,
  current_setting('primary_conninfo') <> '' AS follows,
  (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started_micros,
  (SELECT timeline_id FROM pg_control_checkpoint()) AS checkpoint_timeline,
  (SELECT min_recovery_end_timeline FROM pg_control_recovery()) AS recovery_timeline,
  CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END AS wal_file,
  CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn()::text END AS inserted,
  CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn()::text END AS flushed,
  pg_last_wal_receive_lsn()::text AS received,
  pg_last_wal_replay_lsn()::text AS replayed,
  CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END AS replay_paused,
  (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint AS replay_age_ms,
  (SELECT row_to_json(r) FROM (SELECT status, flushed_lsn::text AS flushed, received_tli AS timeline,
      (extract(epoch FROM clock_timestamp() - last_msg_receipt_time) * 1000)::bigint AS silent_ms,
      sender_host AS host, sender_port AS port, conninfo
    FROM pg_stat_wal_receiver) r) AS receiver,
  CASE WHEN NOT pg_is_in_recovery() THEN
    (SELECT json_agg(s) FROM (SELECT application_name AS name, state, sync_state,
      flush_lsn::text AS flushed FROM pg_stat_replication LIMIT 64) s)
  END AS senders
) f";

/// Asks, within `deadline`. `statement` is `prepare`d on the same link; `upstream` finds the node that listens at a
/// host and port.
pub(crate) async fn ask(
    link: &Link,
    statement: &Statement,
    deadline: Duration,
    upstream: &impl Fn(&str, u16) -> Option<NodeId>,
) -> Result<Facts, LinkError> {
    let row = within(deadline, link.client().query_one(statement, &[])).await?;
    let text: &str = row.try_get(0)?;
    read(text, upstream)
}

/// Prepares the question on a link, within `deadline`.
pub(crate) async fn prepare(link: &Link, deadline: Duration) -> Result<Statement, LinkError> {
    within(deadline, link.client().prepare(SQL)).await
}

#[derive(Deserialize)]
struct Written {
    in_recovery: bool,
    system_id: String,
    version: u32,
    sync_names: String,
    read_only: bool,
    receiver_timeout_ms: i64,
    follows: bool,
    started_micros: i64,
    checkpoint_timeline: Option<u32>,
    recovery_timeline: Option<u32>,
    wal_file: Option<String>,
    inserted: Option<String>,
    flushed: Option<String>,
    received: Option<String>,
    replayed: Option<String>,
    replay_paused: Option<bool>,
    replay_age_ms: Option<i64>,
    receiver: Option<WrittenReceiver>,
    senders: Option<Vec<WrittenSender>>,
}

#[derive(Deserialize)]
struct WrittenReceiver {
    status: Option<String>,
    timeline: Option<u32>,
    silent_ms: Option<i64>,
    host: Option<String>,
    port: Option<u16>,
    conninfo: Option<String>,
}

#[derive(Deserialize)]
struct WrittenSender {
    name: Option<String>,
    state: Option<String>,
    sync_state: Option<String>,
    flushed: Option<String>,
}

fn read(text: &str, upstream: &impl Fn(&str, u16) -> Option<NodeId>) -> Result<Facts, LinkError> {
    let unexpected = |detail: String| LinkError::Answer { detail };
    let written: Written = serde_json::from_str(text).map_err(|error| unexpected(error.to_string()))?;
    // The server shows the unsigned number as a signed one.
    let system_id: i64 =
        written.system_id.parse().map_err(|error: ParseIntError| unexpected(error.to_string()))?;
    let receiver = written.receiver.map(|receiver| read_receiver(receiver, upstream));
    let senders =
        written.senders.unwrap_or_default().into_iter().map(read_sender).collect::<Result<_, _>>()?;
    let known =
        [written.checkpoint_timeline, written.recovery_timeline, receiver.as_ref().map(|r| r.timeline.0)];
    let replayed = lsn(written.replayed.as_deref())?;
    let standby = |position: Option<Lsn>| position.filter(|_| written.in_recovery);
    Ok(Facts {
        system_id: SystemId(system_id.cast_unsigned()),
        server_version: written.version,
        started_micros: written.started_micros,
        in_recovery: written.in_recovery,
        timeline: timeline(written.wal_file.as_deref(), known),
        inserted: lsn(written.inserted.as_deref())?,
        flushed: lsn(written.flushed.as_deref())?,
        // After a restart the received position is empty, and a receiver starts at the beginning of a segment: what
        // was replayed had been received in any case.
        received: standby(lsn(written.received.as_deref())?.max(replayed)),
        replayed: standby(replayed),
        replay_age: written.replay_age_ms.map(millis),
        receiver,
        senders,
        sync_names: written.sync_names,
        read_only: written.read_only,
        replay_paused: written.replay_paused.unwrap_or(false),
        receiver_timeout: millis(written.receiver_timeout_ms),
        follows: written.follows,
    })
}

fn read_receiver(written: WrittenReceiver, upstream: &impl Fn(&str, u16) -> Option<NodeId>) -> Receiver {
    let conninfo = written.conninfo.as_deref().and_then(|text| Conninfo::parse(text).ok());
    Receiver {
        streaming: written.status.as_deref() == Some("streaming"),
        upstream: written.host.zip(written.port).and_then(|(host, port)| upstream(&host, port)),
        message_age: written.silent_ms.map(millis),
        timeline: Timeline(written.timeline.unwrap_or(0)),
        name: conninfo.and_then(|conninfo| conninfo.value("application_name").map(str::to_owned)),
    }
}

fn read_sender(written: WrittenSender) -> Result<Sender, LinkError> {
    let sync = match written.sync_state.as_deref() {
        Some("sync") => SyncState::Sync,
        Some("quorum") => SyncState::Quorum,
        Some("potential") => SyncState::Potential,
        _ => SyncState::Async,
    };
    Ok(Sender {
        name: written.name.unwrap_or_default(),
        streaming: written.state.as_deref() == Some("streaming"),
        sync,
        flushed: lsn(written.flushed.as_deref())?,
    })
}

/// A primary's timeline is the beginning of its WAL file's name; a standby's is the newest of what it knows: the
/// checkpoint's alone is behind until the next restart point.
fn timeline(wal_file: Option<&str>, known: [Option<u32>; 3]) -> Timeline {
    let written = wal_file.and_then(|name| name.get(..8)).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    Timeline(written.or_else(|| known.into_iter().flatten().max()).unwrap_or(0))
}

fn millis(value: i64) -> Duration {
    // Negative where the clocks of two servers disagree.
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

fn lsn(text: Option<&str>) -> Result<Option<Lsn>, LinkError> {
    text.map(str::parse)
        .transpose()
        .map_err(|error: ParseLsnError| LinkError::Answer { detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICA: &str = r#"{"in_recovery":true,"system_id":"7512345678901234567","version":150018,
        "sync_names":"ANY 1 (a,b)","read_only":false,"receiver_timeout_ms":1000,"follows":true,
        "started_micros":1700000000000000,"checkpoint_timeline":1,"recovery_timeline":2,"wal_file":null,
        "inserted":null,"flushed":null,"received":"0/3000000","replayed":"0/3000148","replay_paused":true,
        "replay_age_ms":-4,"receiver":{"status":"streaming","timeline":3,"silent_ms":12,"host":"10.0.0.1",
        "port":5432,"conninfo":"user=r password=******** application_name='it''s' host=10.0.0.1"},
        "senders":null}"#;

    fn nowhere(_: &str, _: u16) -> Option<NodeId> {
        None
    }

    #[test]
    fn a_replica_is_on_the_newest_timeline_it_knows_and_received_what_it_replayed() {
        let facts =
            read(REPLICA, &|host, port| (host == "10.0.0.1" && port == 5432).then_some(NodeId(4))).unwrap();
        assert_eq!(facts.timeline, Timeline(3));
        assert_eq!(facts.received, facts.replayed);
        assert_eq!(facts.replay_age, Some(Duration::ZERO));
        assert!(facts.replay_paused);
        let receiver = facts.receiver.unwrap();
        assert!(receiver.streaming);
        assert_eq!(receiver.upstream, Some(NodeId(4)));
    }

    #[test]
    fn a_primary_is_on_the_timeline_of_its_wal_file() {
        let text = r#"{"in_recovery":false,"system_id":"-5","version":130000,"sync_names":"","read_only":false,
            "receiver_timeout_ms":0,"follows":false,"started_micros":1,
            "checkpoint_timeline":1,"recovery_timeline":0,"wal_file":"0000000A00000000000000FF","inserted":"1/10",
            "flushed":"1/8","received":"0/1","replayed":"0/1","replay_paused":null,"replay_age_ms":null,
            "receiver":null,"senders":[{"name":"b","state":"catchup","sync_state":"quorum","flushed":null}]}"#;
        let facts = read(text, &nowhere).unwrap();
        assert_eq!(facts.timeline, Timeline(10));
        assert_eq!(facts.inserted, Some(Lsn(0x1_0000_0010)));
        assert_eq!(facts.received, None, "what was replayed before the promotion is of no interest");
        assert_eq!(facts.system_id, SystemId(u64::MAX - 4));
        assert_eq!(facts.senders[0].sync, SyncState::Quorum);
        assert!(!facts.senders[0].streaming);
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for text in ["", "{}", "[]", &REPLICA.replace("0/3000148", "zero"), &REPLICA.replace("751", "x")] {
            assert!(matches!(read(text, &nowhere), Err(LinkError::Answer { .. })), "{text}");
        }
    }
}
