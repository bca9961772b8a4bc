//! What the core tells people: its phase, the standing of the nodes, alarms and refusals.

use std::fmt;
use std::time::Duration;

use super::journal::Cohort;
use super::rule::RuleId;
use crate::model::{Epoch, NodeId, Service, Timeline};

/// Where the core is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Start: who is the primary?
    Discovering,
    /// All is well.
    Steady,
    /// The primary is suspected; writes are held.
    Suspect,
    /// Getting the right to promote and making the intent durable.
    Locking,
    /// Stopping the standbys' receivers.
    Recruiting,
    /// Replay, commits in doubt, followers repointed.
    Resolving,
    /// `pg_promote`.
    Promoting,
    /// Waiting for the term row's quorum.
    Establishing,
    /// A switchover before anything was recruited.
    Switching,
    /// Making a new epoch (opened or adopted) or an abandoned attempt durable.
    Recording,
    /// The new epoch serves; nodes are being brought back.
    Rejoining,
    /// There is no primary to be had.
    ReadOnly,
}

impl Phase {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discovering => "discovering",
            Self::Steady => "steady",
            Self::Suspect => "suspect",
            Self::Locking => "locking",
            Self::Recruiting => "recruiting",
            Self::Resolving => "resolving",
            Self::Promoting => "promoting",
            Self::Establishing => "establishing",
            Self::Switching => "switching",
            Self::Recording => "recording",
            Self::Rejoining => "rejoining",
            Self::ReadOnly => "read-only",
        }
    }
}

/// What a node is to this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It never answered in this epoch.
    Unseen,
    /// The primary, or a vetted follower.
    Member,
    /// Follows under its neutral name, to be vetted.
    Vetting,
    /// Being brought back.
    Rejoining,
    /// Not to be trusted: claims to be a primary, or has diverged.
    Quarantined,
    /// Of another cluster.
    Foreign,
}

impl Standing {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Member => "member",
            Self::Vetting => "vetting",
            Self::Rejoining => "rejoining",
            Self::Quarantined => "quarantined",
            Self::Foreign => "foreign",
        }
    }
}

/// Something a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Contradictory evidence.
    UnreachablePrimary {
        /// Which.
        primary: NodeId,
    },
    /// It lives, but we cannot sign in.
    PrimaryRefusesUs {
        /// Which.
        primary: NodeId,
    },
    /// Several primaries at start.
    AmbiguousPrimary {
        /// Which.
        claimants: Vec<NodeId>,
    },
    /// None at start.
    NoPrimary,
    /// A failover that is needed is not done.
    FailoverRefused(Refusal),
    /// An attempt was given up.
    AttemptAbandoned {
        /// Which.
        epoch: Epoch,
        /// Why.
        why: String,
    },
    /// A second primary.
    FalsePrimary {
        /// Which.
        node: NodeId,
        /// On which timeline.
        timeline: Timeline,
    },
    /// Another cluster's node.
    ForeignNode {
        /// Which.
        node: NodeId,
    },
    /// It needs a person.
    NeedsPerson {
        /// Which.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// The promotion waits for its quorum.
    NoQuorumYet {
        /// Which.
        primary: NodeId,
        /// Why.
        why: String,
    },
    /// A setting of a node could not be made.
    SettingFailed {
        /// Where.
        node: NodeId,
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A setting of a node was made again and again, and something else is in force there.
    SettingOverridden {
        /// Where.
        node: NodeId,
        /// What.
        what: &'static str,
    },
    /// The journal cannot be written: nothing is changed while that is so.
    JournalFailed {
        /// Why.
        why: String,
    },
    /// Fewer standbys than wanted have to have a commit, because no more are there.
    Degraded {
        /// How many.
        standbys: usize,
        /// How many are wanted.
        wanted: usize,
    },
    /// Soft durability: something may be lost.
    WritesLost {
        /// At least how many.
        bytes: u64,
    },
}

impl Alarm {
    /// In words, with the nodes' names.
    pub fn describe(&self, name: impl Fn(NodeId) -> String) -> String {
        match self {
            Self::UnreachablePrimary { primary } => {
                let primary = name(*primary);
                format!(
                    "the primary {primary} does not answer us, but replicas still hear it: nothing is promoted"
                )
            }
            Self::PrimaryRefusesUs { primary } => {
                format!("the primary {} refuses our sign-in: nothing is promoted", name(*primary))
            }
            Self::AmbiguousPrimary { claimants } => {
                let names: Vec<String> = claimants.iter().map(|node| name(*node)).collect();
                let names = names.join(", ");
                format!("nothing proves which node is the primary (claimed by {names}): writes are refused")
            }
            Self::NoPrimary => "no node is a primary: writes are refused until one is promoted".to_owned(),
            Self::FailoverRefused(why) => format!("no failover: {why}"),
            Self::AttemptAbandoned { epoch, why } => {
                format!("the attempt of epoch {epoch} was given up: {why}")
            }
            Self::FalsePrimary { node, timeline } => {
                let node = name(*node);
                format!(
                    "{node} claims to be a primary on timeline {timeline} and is not the recorded one: quarantined"
                )
            }
            Self::ForeignNode { node } => format!("{} belongs to another cluster", name(*node)),
            Self::NeedsPerson { node, why } => {
                format!("{} cannot be brought back without a person: {why}", name(*node))
            }
            Self::NoQuorumYet { primary, why } => {
                format!("the new primary {} waits for its quorum: {why}", name(*primary))
            }
            Self::SettingFailed { node, what, why } => format!("{what} failed on {}: {why}", name(*node)),
            Self::SettingOverridden { node, what } => {
                let node = name(*node);
                format!(
                    "{what} has no effect on {node}: another value is in force there (set on its command line, or by \
                     another primacy?)"
                )
            }
            Self::JournalFailed { why } => format!("the journal cannot be written: {why}"),
            Self::Degraded { standbys, wanted } => format!(
                "commits count when {standbys} replicas have them instead of {wanted}: no more replicas are there, and \
                 there is no automatic failover that is sure to lose nothing"
            ),
            Self::WritesLost { bytes } => {
                format!("{bytes} bytes of WAL that the old primary had written are not on the new one")
            }
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(|node| format!("node {}", node.0)))
    }
}

/// Why a failover, switchover or other command is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Fewer than needed.
    #[error(
        "{have} of the {need} nodes needed to be sure that no acknowledged write is lost can be recruited"
    )]
    NotEnoughRecruits {
        /// Recruited or reachable.
        have: usize,
        /// Needed.
        need: usize,
    },
    /// Nobody to promote.
    #[error("no node can be promoted: {why}")]
    NoCandidate {
        /// Why.
        why: String,
    },
    /// Too many lately.
    #[error("too many automatic failovers on soft evidence; the next one is possible in {} s", .wait.as_secs())]
    RateLimited {
        /// How long still.
        wait: Duration,
    },
    /// Paused.
    #[error("automatic failover is paused")]
    Paused,
    /// Done, and not durable: a restart would not know of it.
    #[error("{done} now, but a restart of primacy would forget it: the journal cannot be written: {why}")]
    NotKept {
        /// What is done.
        done: &'static str,
        /// Why it is not durable.
        why: String,
    },
    /// Something else is going on.
    #[error("{} is in progress", .phase.as_str())]
    Busy {
        /// What.
        phase: Phase,
    },
    /// No such node.
    #[error("no such node")]
    UnknownNode,
    /// It is the primary already.
    #[error("the node is the primary already")]
    AlreadyPrimary,
    /// A check failed.
    #[error("{0}")]
    Check(String),
    /// It was begun and given up.
    #[error("given up: {0}")]
    Abandoned(String),
    /// There is nobody who could.
    #[error("not possible here: {0}")]
    Unsupported(String),
}

/// The core at one moment, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it is.
    pub phase: Phase,
    /// The rule that brought it there.
    pub rule: RuleId,
    /// Why it is there, in words; empty in peace.
    pub reason: String,
    /// What the data path is told.
    pub service: Service,
    /// The epoch that is served.
    pub epoch: Epoch,
    /// Its primary.
    pub primary: Option<NodeId>,
    /// Whether automatic failover is on.
    pub automatic: bool,
    /// Whose acknowledgements count, once known.
    pub cohort: Option<Cohort>,
    /// How many recruits a failover needs now.
    pub recruits_needed: usize,
    /// What each node is, by `NodeId`.
    pub standings: Vec<Standing>,
    /// What people were told and is still so.
    pub alarms: Vec<Alarm>,
}
