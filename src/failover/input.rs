//! What the core is told, one thing at a time.

use super::effect::EffectId;
use super::observation::Observation;
use crate::model::{Epoch, Lsn, NodeId, Timeline};

/// One input of `Core::step`.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A probe ended.
    Observation(Observation),
    /// An effect ended, one way or the other. Every effect whose action `expects_outcome` ends exactly once; what comes
    /// later than the core's own deadline for it, or from an abandoned attempt, is dropped.
    EffectDone {
        /// Of which effect.
        id: EffectId,
        /// The epoch that the effect carried.
        epoch: Epoch,
        /// What came of it.
        outcome: Outcome,
    },
    /// An operator asks for something. Answered by exactly one `Action::Answer` with the same id.
    Command {
        /// Chosen by the caller.
        id: CommandId,
        /// What is asked for.
        command: Command,
    },
    /// A connection of the data path to this node failed: probes at once, decides nothing.
    DataPathSuspect(NodeId),
    /// The time that `Core::deadline` named has come.
    Tick,
}

/// Names a command so that its answer finds the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hand a healthy primary's role over, losing and failing nothing.
    Switchover {
        /// To which node; `None` takes the best.
        to: Option<NodeId>,
        /// Only run the checks.
        dry_run: bool,
    },
    /// Replace the primary, healthy or not.
    Failover {
        /// By which node; `None` takes the best.
        to: Option<NodeId>,
        /// Go on with fewer recruits than a loss-free failover needs, or with a node that has less.
        allow_data_loss: bool,
    },
    /// No failover without a person from now on.
    Pause,
    /// Automatic failover again.
    Resume,
    /// Bring this node back now.
    Rejoin(NodeId),
}

/// What came of an effect. Which one an action ends with is written at the action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and there is nothing more to say.
    Done,
    /// A receiver is seen to be gone: what the node holds.
    Recruited(Recruit),
    /// Replay is finished: how far it came.
    Replayed(Lsn),
    /// The node is a primary now.
    Promoted {
        /// Its new timeline.
        timeline: Timeline,
        /// Where the new timeline left the old one.
        fork: Lsn,
    },
    /// The node takes no writes any more: `pg_current_wal_insert_lsn()` read afterwards.
    Fenced(Lsn),
    /// The term row has its quorum: the position after it.
    Established(Lsn),
    /// It did not work (a deadline of the actuator's own included); shown to people, never parsed.
    Failed(String),
    /// It cannot be done here at all (no agent, no privilege); trying again is of no use.
    Unsupported(String),
}

impl Outcome {
    /// In words, for people.
    pub fn words(&self) -> &str {
        match self {
            Self::Done => "done",
            Self::Recruited(_) => "recruited",
            Self::Replayed(_) => "replayed",
            Self::Promoted { .. } => "promoted",
            Self::Fenced(_) => "fenced",
            Self::Established(_) => "established",
            Self::Failed(why) | Self::Unsupported(why) => why,
        }
    }
}

/// A recruited standby: its receiver was seen to be gone, so these positions cannot grow any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recruit {
    /// The greater of the received and the replayed position, read *after* the receiver was seen gone.
    pub received: Lsn,
    /// The replayed position.
    pub replayed: Lsn,
    /// The newest timeline that it has WAL of.
    pub timeline: Timeline,
}
