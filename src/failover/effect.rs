//! What the core wants done. Effects are values; `control` carries them out.
//!
//! Effects run side by side; the core waits for an outcome wherever order matters (intent before deed above all). Two orders
//! are the actuator's. Of *one* node, `StopReceiver`, `Repoint`, `Promote`, `Demote` and `Rejoin` (whom it follows), and likewise
//! `FenceOld`, `Quiesce` and `Unfence` (whether it takes writes), run one after another in the order of their ids, and a newer
//! one ends an older one that still waits (a `Promote` that was sent cannot be ended): otherwise a late stop could undo a
//! repoint, and a late fence could shut a primary that serves. `WriteJournal` runs in the order of ids as well.

use std::time::Duration;

use super::history::HistoryEntry;
use super::input::CommandId;
use super::journal::Record;
use super::rule::RuleId;
use super::status::{Alarm, Refusal};
use crate::model::{Epoch, Lsn, NodeId, Snapshot, Timeline};

/// Numbers effects; never used twice by one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u64);

/// One thing to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Its number.
    pub id: EffectId,
    /// The epoch of the attempt that it belongs to; its outcome has to carry it back.
    pub epoch: Epoch,
    /// The rule that asked for it.
    pub rule: RuleId,
    /// When the core gives it up by itself; `None` where no outcome is expected. The actuator should give up then too.
    pub limit: Option<Duration>,
    /// What to do.
    pub action: Action,
}

/// Under which `application_name` a standby follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerName {
    /// Its own, which stands in `synchronous_standby_names`: its acknowledgements count.
    Own,
    /// `rejoin_<name>`: its acknowledgements count for nothing until it is vetted (T2).
    Neutral,
}

/// What a neutral name begins with.
const NEUTRAL_PREFIX: &str = "rejoin_";

impl FollowerName {
    /// The `application_name` of the node that is configured as `member`.
    pub fn application_name(self, member: &str) -> String {
        match self {
            Self::Own => member.to_owned(),
            Self::Neutral => format!("{NEUTRAL_PREFIX}{member}"),
        }
    }

    /// Whether an `application_name` is the neutral one of `member`.
    pub fn is_neutral(application_name: &str, member: &str) -> bool {
        application_name.strip_prefix(NEUTRAL_PREFIX) == Some(member)
    }
}

/// What to do. "Ends with" names the outcome besides `Failed` and `Unsupported`.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    // ---- no outcome expected --------------------------------------------------------------------------------
    /// Show this to the data path.
    Publish(Snapshot),
    /// Probe this node now, besides the regular probes.
    Probe(NodeId),
    /// Tell people. Given once per change, not per probe.
    Raise(Alarm),
    /// Append to the history.
    RecordHistory(HistoryEntry),
    /// The answer to a command: `Ok` says what was done or (dry run) checked.
    Answer {
        /// Which command.
        command: CommandId,
        /// What came of it.
        result: Result<String, Refusal>,
    },

    // ---- durable intent, exclusive right ---------------------------------------------------------------------
    /// Make this durable (fsync) before answering. Written in the order of the ids: a late older record that overwrote a newer
    /// one would bring a replaced primary back at the next start. Ends with `Done`.
    WriteJournal(Record),
    /// Get the exclusive right to promote in this epoch. `single` has it by its lock file. Ends with `Done`.
    AcquireRight,

    // ---- revocation -------------------------------------------------------------------------------------------
    /// `primary_conninfo = ''`, `restore_command = ''`, reload, then *wait until `pg_stat_wal_receiver` is empty*: the reload
    /// alone is no fence (T1). A node that is no standby must fail. Ends with `Recruited`.
    StopReceiver(NodeId),
    /// End the sessions of this standby whose conflict keeps replay (and so the receiver) from stopping (T1). Ends with `Done`.
    TerminateConflicts(NodeId),
    /// `pg_wal_replay_resume()` if paused (T1). Ends with `Done`.
    ResumeReplay(NodeId),

    // ---- promotion --------------------------------------------------------------------------------------------
    /// Wait until replay has reached `target`, or the startup process has nothing left to replay and waits for WAL (the
    /// last record may be torn, so `target` itself need not be reachable). Ends with `Replayed`.
    FinishReplay {
        /// The candidate.
        node: NodeId,
        /// Its received position.
        target: Lsn,
    },
    /// Ask this standby (`pg_xact_status`) for the outcome of every commit in doubt, there may be none. The answers reach
    /// clients only once a snapshot of this effect's epoch is published *as open*, and are thrown away if that never
    /// happens: another candidate would answer differently. Ends with `Done`.
    ResolveInDoubt {
        /// The candidate, not promoted yet (T3).
        candidate: NodeId,
    },
    /// Set `primary_conninfo` to this upstream and reload; replay is not waited for. Ends with `Done`.
    Repoint {
        /// The standby.
        node: NodeId,
        /// Whom to follow.
        upstream: NodeId,
        /// Under which name.
        name: FollowerName,
    },
    /// `pg_promote(false)`, then poll every `poll` until `pg_is_in_recovery()` is false. Ends with `Promoted`.
    Promote {
        /// The candidate.
        node: NodeId,
        /// How often to look.
        poll: Duration,
    },
    /// Write the epoch's row on the new primary with `synchronous_commit = on`; a cancelled wait for the quorum is a failure,
    /// not a success (T4). Ends with `Established`.
    WriteTermRow(NodeId),

    // ---- fences ----------------------------------------------------------------------------------------------
    /// Keep a node that must not be a primary from taking writes, where it can be reached: `default_transaction_read_only = on`,
    /// `synchronous_standby_names = 'ANY 1 (fenced)'`, reload, terminate client sessions. Ends with `Fenced`.
    FenceOld(NodeId),
    /// Switchover: `default_transaction_read_only = on`, reload, terminate the remaining client sessions, read the insert
    /// position. `synchronous_standby_names` stays as it is. Ends with `Fenced`.
    Quiesce(NodeId),
    /// Undo `Quiesce` or `FenceOld`: an attempt was abandoned, or the node is a proper standby or primary again. Ends with `Done`.
    Unfence(NodeId),
    /// Wait until no client has a transaction open on the primary, or `limit` is over. Ends with `Done`, `Failed` if some are left.
    DrainClients {
        /// How long.
        limit: Duration,
    },

    /// Wait until this standby has received (flushed) `target`. Ends with `Done`.
    CatchUp {
        /// The target of a switchover.
        node: NodeId,
        /// The quiesced primary's last position.
        target: Lsn,
    },

    // ---- care of the nodes -----------------------------------------------------------------------------------
    /// `ALTER SYSTEM SET synchronous_standby_names`, reload. Ends with `Done`.
    SetSyncNames {
        /// Where.
        node: NodeId,
        /// The whole text.
        text: String,
    },
    /// `ALTER SYSTEM SET wal_receiver_timeout`, reload. Ends with `Done`.
    SetReceiverTimeout {
        /// Where.
        node: NodeId,
        /// How long.
        timeout: Duration,
    },
    /// Put `standby.signal` on the running primary, and a multi-host `primary_conninfo` under its *neutral* name. Ends with `Done`.
    ArmStandbySignal(NodeId),
    /// Make a fenced primary that nobody misses anything of a standby of `upstream` under its neutral name: standby signal,
    /// then restart. Ends with `Done`.
    Demote {
        /// The old primary.
        node: NodeId,
        /// The new one.
        upstream: NodeId,
        /// Stopped in immediate mode: the shutdown checkpoint of an orderly stop would be WAL that nobody else has (T9).
        immediate: bool,
    },
    /// Bring a node back as a standby of `upstream` under its neutral name: stop it if it runs, rewind if asked, start.
    /// Ends with `Done`.
    Rejoin {
        /// Which node.
        node: NodeId,
        /// Whom to follow.
        upstream: NodeId,
        /// Whether it may have WAL that the primary does not have.
        rewind: bool,
        /// It was told to promote, and may have made this timeline on its own: it comes back only if its files show that it
        /// did not, nor a later one, or as a new copy where that is allowed (otherwise `Unsupported`).
        twin: Option<Timeline>,
    },
    /// Start a server that has crashed, as it is; one that was stopped in order is left alone (`Unsupported`). Ends with `Done`.
    Start {
        /// Which node.
        node: NodeId,
        /// As for `Rejoin`: it is started only if its files show that it did not begin this timeline, nor a later one.
        twin: Option<Timeline>,
    },
}

impl Action {
    /// Whether the core waits for an `Input::EffectDone`.
    pub fn expects_outcome(&self) -> bool {
        !matches!(
            self,
            Self::Publish(_) | Self::Probe(_) | Self::Raise(_) | Self::RecordHistory(_) | Self::Answer { .. }
        )
    }

    /// The node that it is about, if it is about one.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Probe(node)
            | Self::StopReceiver(node)
            | Self::TerminateConflicts(node)
            | Self::ResumeReplay(node)
            | Self::FinishReplay { node, .. }
            | Self::ResolveInDoubt { candidate: node }
            | Self::CatchUp { node, .. }
            | Self::Repoint { node, .. }
            | Self::Promote { node, .. }
            | Self::WriteTermRow(node)
            | Self::FenceOld(node)
            | Self::Quiesce(node)
            | Self::Unfence(node)
            | Self::SetSyncNames { node, .. }
            | Self::SetReceiverTimeout { node, .. }
            | Self::ArmStandbySignal(node)
            | Self::Start { node, .. }
            | Self::Demote { node, .. }
            | Self::Rejoin { node, .. } => Some(*node),
            Self::Publish(_)
            | Self::Raise(_)
            | Self::RecordHistory(_)
            | Self::Answer { .. }
            | Self::WriteJournal(_)
            | Self::AcquireRight
            | Self::DrainClients { .. } => None,
        }
    }

    /// The word for logs, metrics and output.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Publish(_) => "publish",
            Self::Probe(_) => "probe",
            Self::Raise(_) => "raise",
            Self::RecordHistory(_) => "record-history",
            Self::Answer { .. } => "answer",
            Self::WriteJournal(_) => "write-journal",
            Self::AcquireRight => "acquire-right",
            Self::StopReceiver(_) => "stop-receiver",
            Self::TerminateConflicts(_) => "terminate-conflicts",
            Self::ResumeReplay(_) => "resume-replay",
            Self::FinishReplay { .. } => "finish-replay",
            Self::ResolveInDoubt { .. } => "resolve-in-doubt",
            Self::Repoint { .. } => "repoint",
            Self::Promote { .. } => "promote",
            Self::WriteTermRow(_) => "write-term-row",
            Self::FenceOld(_) => "fence-old",
            Self::Quiesce(_) => "quiesce",
            Self::Unfence(_) => "unfence",
            Self::DrainClients { .. } => "drain-clients",
            Self::CatchUp { .. } => "catch-up",
            Self::SetSyncNames { .. } => "set-sync-names",
            Self::SetReceiverTimeout { .. } => "set-receiver-timeout",
            Self::ArmStandbySignal(_) => "arm-standby-signal",
            Self::Demote { .. } => "demote",
            Self::Rejoin { .. } => "rejoin",
            Self::Start { .. } => "start",
        }
    }
}
