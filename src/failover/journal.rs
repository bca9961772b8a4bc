//! What has to survive a restart of primacy: who is the primary, and what was being done about it.

use crate::model::{Epoch, Lsn, NodeId, SystemId, Timeline};

/// The whole journal entry; the newest one wins, older ones are of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The epoch that is served.
    pub epoch: Epoch,
    /// The highest epoch ever used by an attempt, abandoned ones included.
    pub promised: Epoch,
    /// The cluster's identity.
    pub system_id: SystemId,
    /// The primary of `epoch`.
    pub primary: NodeId,
    /// Its timeline.
    pub timeline: Timeline,
    /// Where that timeline left the one before; zero where not known.
    pub fork: Lsn,
    /// Position after the epoch's term row: what a returning node must have before its word counts. `Record::NO_TERM_ROW`
    /// while the row has not got its quorum: such an epoch has never been opened.
    pub term_row: Lsn,
    /// Whose acknowledgements count.
    pub cohort: Cohort,
    /// Cohort that is being changed to: until the change is seen to be in force, both count.
    pub cohort_next: Option<Cohort>,
    /// Nodes that lost the primary's role, or may have been half promoted, and are not vetted since: they are brought back,
    /// and their claims to be a primary are not believed.
    pub displaced: Vec<NodeId>,
    /// Nodes that may have a history of their own under the number of a timeline of ours.
    pub twins: Vec<Twin>,
    /// Nodes that were quiesced for a switchover, and have not been seen to take writes since.
    pub fenced: Vec<NodeId>,
    /// What was being done; `None` in peace.
    pub intent: Option<Intent>,
    /// Whether automatic failover was paused by a person.
    pub paused: bool,
}

/// A node that may have a timeline of the same number as one of ours and another content, which neither PostgreSQL nor
/// `pg_rewind` notices: it was told to promote by an attempt that did not end with it, or was left behind by a candidate
/// that had not heard of its timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Which node.
    pub node: NodeId,
    /// The number.
    pub timeline: Timeline,
}

impl Record {
    /// Notes nodes that may have made a timeline of this number.
    pub(super) fn note_twins(&mut self, nodes: impl IntoIterator<Item = NodeId>, timeline: Timeline) {
        let primary = self.primary;
        let new = nodes.into_iter().filter(|node| *node != primary).map(|node| Twin { node, timeline });
        self.twins.extend(new);
        self.twins.retain(|twin| twin.node != primary);
        self.twins.sort_unstable_by_key(|twin| (twin.node, twin.timeline));
        self.twins.dedup();
    }

    /// Past every position.
    pub const NO_TERM_ROW: Lsn = Lsn(u64::MAX);
}

/// Whose acknowledgements count for a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cohort {
    /// `n`: the primary and every name in `synchronous_standby_names`, those unknown to us included.
    pub size: usize,
    /// `k`: how many standbys must have a commit before it is acknowledged; zero: none.
    pub standbys: usize,
    /// The configured nodes among the cohort.
    pub members: Vec<NodeId>,
}

/// A change of primary that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its epoch.
    pub epoch: Epoch,
    /// How far it may have come.
    pub phase: IntentPhase,
    /// Whom it was about to promote; `None` while recruiting.
    pub candidate: Option<NodeId>,
    /// Whether a person accepted the loss of writes.
    pub allow_data_loss: bool,
}

/// How far a change of primary may have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentPhase {
    /// The old primary may be fenced (switchover).
    Switching,
    /// Receivers may be stopped.
    Recruiting,
    /// The candidate may be promoted.
    Promoting,
}

impl IntentPhase {
    /// The word for logs, the journal and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switching => "switching",
            Self::Recruiting => "recruiting",
            Self::Promoting => "promoting",
        }
    }
}
