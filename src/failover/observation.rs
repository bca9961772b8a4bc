//! What a prober learned about one node, with the moments that bound its age.
//!
//! A probe is SQL on a *fresh* connection with a deadline: a frozen server still accepts TCP connections (T10).

use std::time::{Duration, Instant};

use crate::model::{Lsn, NodeId, SystemId, Timeline};

/// One probe of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Which node.
    pub node: NodeId,
    /// Before the first byte was sent: everything it says is at least this fresh.
    pub sent: Instant,
    /// When the answer was complete, or the probe was given up.
    pub answered: Instant,
    /// What came of it.
    pub reach: Reach,
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// SQL was answered.
    Answered(Box<Facts>),
    /// The connection was refused: nobody listens. Not the same as dead (T5).
    Refused,
    /// The connection was reset or closed before an answer.
    Reset,
    /// Nothing of it was heard: no answer within the deadline, no route to the host, or its name does not resolve (the
    /// name of a container goes with the container).
    Timeout,
    /// 57P03: starting up, or in crash recovery.
    Starting,
    /// 57P01, 57P02: shutting down, or a server process crashed.
    ShuttingDown,
    /// The server answered and would not sign us in: it lives, nothing else is known.
    AuthFailed,
    /// The server answered with another error (too many connections, say): it lives, nothing else is known.
    Other,
}

impl Reach {
    /// The word for logs, metrics and output.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Starting => "starting",
            Self::ShuttingDown => "shutting-down",
            Self::AuthFailed => "auth-failed",
            Self::Other => "other",
        }
    }
}

/// What a node says about itself.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own that the server tells")]
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// `pg_control_system()`.
    pub system_id: SystemId,
    /// `server_version_num`.
    pub server_version: u32,
    /// `pg_postmaster_start_time()`, in microseconds since 1970; tells a restart from a pause.
    pub started_micros: i64,
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// Primary: its timeline. Standby: the newest of `received_tli` and the control file's.
    pub timeline: Timeline,
    /// Primary: `pg_current_wal_insert_lsn()`.
    pub inserted: Option<Lsn>,
    /// Primary: `pg_current_wal_flush_lsn()`.
    pub flushed: Option<Lsn>,
    /// Standby: the greater of `pg_last_wal_receive_lsn()` and `pg_last_wal_replay_lsn()`: the first is reset to the
    /// start of a segment when streaming begins anew.
    pub received: Option<Lsn>,
    /// Standby: `pg_last_wal_replay_lsn()`.
    pub replayed: Option<Lsn>,
    /// Standby: age of `pg_last_xact_replay_timestamp()`.
    pub replay_age: Option<Duration>,
    /// Standby: its row of `pg_stat_wal_receiver`.
    pub receiver: Option<Receiver>,
    /// Rows of `pg_stat_replication`.
    pub senders: Vec<Sender>,
    /// `synchronous_standby_names` as set.
    pub sync_names: String,
    /// `default_transaction_read_only`.
    pub read_only: bool,
    /// `pg_is_wal_replay_paused()`.
    pub replay_paused: bool,
    /// `wal_receiver_timeout`; zero where it is off.
    pub receiver_timeout: Duration,
    /// Whether `primary_conninfo` is set; a recruited standby has none.
    pub follows: bool,
}

impl Facts {
    /// A standby's received or a primary's flushed position.
    pub fn position(&self) -> Lsn {
        let position = if self.in_recovery { self.received.max(self.replayed) } else { self.flushed };
        position.unwrap_or(Lsn::ZERO)
    }

    /// A standby's replayed or a primary's inserted position.
    pub fn applied(&self) -> Lsn {
        let position = if self.in_recovery { self.replayed } else { self.inserted.max(self.flushed) };
        position.unwrap_or(Lsn::ZERO)
    }
}

/// A standby's WAL receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// `status = 'streaming'`.
    pub streaming: bool,
    /// The configured node that it is connected to; `None` where it is none of them.
    pub upstream: Option<NodeId>,
    /// Age of `last_msg_receipt_time` by the standby's clock; `None` before the first message.
    pub message_age: Option<Duration>,
    /// `received_tli`.
    pub timeline: Timeline,
    /// `application_name` in its conninfo.
    pub name: Option<String>,
}

/// One row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sender {
    /// `application_name`.
    pub name: String,
    /// `state = 'streaming'`.
    pub streaming: bool,
    /// `sync_state`.
    pub sync: SyncState,
    /// `flush_lsn`.
    pub flushed: Option<Lsn>,
}

/// `sync_state` of a walsender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// Counts for no commit.
    Async,
    /// Would count if a synchronous one went away.
    Potential,
    /// Counts for every commit.
    Sync,
    /// One of those of which enough must have a commit.
    Quorum,
}
