//! What is remembered of a change of primary, with the time that each step took.

use std::time::Duration;

use super::rule::RuleId;
use crate::model::{Epoch, Lsn, NodeId, Timeline};

/// One change of primary, or the attempt at one. The shell adds the time of day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The epoch of the attempt.
    pub epoch: Epoch,
    /// Why.
    pub cause: Cause,
    /// The rule that confirmed it.
    pub rule: RuleId,
    /// The primary before.
    pub from: Option<NodeId>,
    /// The primary after; `None` where the attempt was abandoned.
    pub to: Option<NodeId>,
    /// The timeline after.
    pub timeline: Timeline,
    /// Where it left the one before.
    pub fork: Lsn,
    /// Each step with the time since the first sign of trouble (or the command).
    pub steps: Vec<StepTime>,
    /// What may have been lost: only in async mode, or where a person allowed it.
    pub lost: Option<Lost>,
    /// Why it was abandoned; empty where it was not.
    pub abandoned: String,
}

/// Why a primary was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The evidence said that it is gone.
    Failover,
    /// A person asked for a failover.
    Commanded,
    /// A person asked for a switchover.
    Switchover,
    /// Somebody else promoted a node.
    Adopted,
}

impl Cause {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Commanded => "commanded",
            Self::Switchover => "switchover",
            Self::Adopted => "adopted",
        }
    }
}

/// A step and when it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// Which.
    pub step: Step,
    /// Since the first sign of trouble (or the command).
    pub after: Duration,
}

/// The steps of a change of primary, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Writes are held.
    Held,
    /// No client has a transaction open (switchover).
    Drained,
    /// The old primary takes no writes (switchover).
    Quiesced,
    /// The evidence is complete.
    Confirmed,
    /// The right to promote is ours and the intent is durable.
    Locked,
    /// Enough receivers are seen stopped.
    Recruited,
    /// The candidate has replayed everything, commits in doubt are resolved.
    Resolved,
    /// The candidate is a primary.
    Promoted,
    /// The term row has its quorum.
    Established,
    /// The new epoch is published.
    Opened,
}

impl Step {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Drained => "drained",
            Self::Quiesced => "quiesced",
            Self::Confirmed => "confirmed",
            Self::Locked => "locked",
            Self::Recruited => "recruited",
            Self::Resolved => "resolved",
            Self::Promoted => "promoted",
            Self::Established => "established",
            Self::Opened => "opened",
        }
    }
}

/// WAL of the old primary that the new one does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The old timeline.
    pub timeline: Timeline,
    /// The last position that the new primary has.
    pub after: Lsn,
    /// The last position that the old primary was seen at; at least this much is gone.
    pub seen: Lsn,
}
