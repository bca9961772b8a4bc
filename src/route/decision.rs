//! The question that the session machine asks and the answer that it gets.

use crate::model::{Consistency, Lsn, NodeId};
use crate::sql::{Hint, Place, Reason};

/// What a session has to see in its next read. Positions are of the snapshot's epoch; a change of epoch clamps them
/// to the fork before they are asked about.
///
/// A *ticket* stands for "the primary's insert position at a moment after this write was acknowledged": the shared
/// sampler counts the samples that it asks for, and the ticket is the number of the first one asked for later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// At least this position.
    at: Lsn,
    /// And at least the position that this sample (or any later one) will show; zero: none.
    ticket: u64,
}

impl Floor {
    /// Nothing yet.
    pub const NONE: Self = Self { at: Lsn::ZERO, ticket: 0 };

    /// At least this position.
    pub fn at(position: Lsn) -> Self {
        Self { at: position, ..Self::NONE }
    }

    /// At least the position that this sample will show.
    pub fn ticket(number: u64) -> Self {
        Self { ticket: number, ..Self::NONE }
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { at: self.at.max(other.at), ticket: self.ticket.max(other.ticket) }
    }

    /// With the ticket turned into a position where this sample covers it.
    #[must_use]
    pub fn settled(self, (number, position): (u64, Lsn)) -> Self {
        if self.ticket == 0 || number < self.ticket { self } else { Self::at(self.at.max(position)) }
    }

    /// After a change of primary: positions count up to the fork, and an open ticket is drawn anew.
    #[must_use]
    pub fn clamped(self, fork: Lsn, ticket: u64) -> Self {
        Self { at: self.at.min(fork), ticket: if self.ticket == 0 { 0 } else { ticket } }
    }

    /// The position, once no sample is awaited any more.
    pub fn position(self) -> Option<Lsn> {
        (self.ticket == 0).then_some(self.at)
    }

    /// Whether a node that has replayed this far shows it.
    pub fn is_covered(self, replayed: Lsn, sample: (u64, Lsn)) -> bool {
        self.settled(sample).position().is_some_and(|position| replayed >= position)
    }
}

/// What is known about positions at the moment of the decision; read from the board's atomics.
#[derive(Clone, Copy, Debug)]
pub struct Positions<'a> {
    /// Number of the newest completed sample of the primary's insert position, and what it showed.
    pub sample: (u64, Lsn),
    /// Last known replayed position per node, by `NodeId`; it only grows within an epoch.
    pub replayed: &'a [Lsn],
    /// The position that was last waited for in vain: until some replica has it, waiting is of no use.
    pub missed: Lsn,
}

/// What the transaction that the session is in says about the next statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transaction {
    /// None open: every statement is its own.
    #[default]
    None,
    /// Opened, deferred, nothing sent yet.
    Deferred {
        /// Declared READ ONLY.
        read_only: bool,
        /// SERIALIZABLE.
        serializable: bool,
        /// READ COMMITTED, and the next statement leaves nothing behind that could not be repeated elsewhere.
        movable: bool,
        /// It has been on a replica before.
        moved: bool,
    },
}

/// One question to the router. A session inside a running transaction or pinned does not ask: its node is given.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What the classifier says.
    pub place: Place,
    /// Why, for the decision's reason.
    pub verdict_reason: Reason,
    /// From a comment, else from the session's `primacy.route`, else from configuration.
    pub hint: Option<Hint>,
    /// The transaction.
    pub transaction: Transaction,
    /// What the statement's comment or the session asks for instead of the configured promise.
    pub consistency: Option<Consistency>,
    /// What any other node than `home` has to show.
    pub floor: Floor,
    /// The replica that served the session's last read, while nothing newer was seen elsewhere: it may serve again
    /// without a check of positions.
    pub home: Option<NodeId>,
    /// The session has waited for positions long enough: decide without waiting.
    pub waited: bool,
    /// A node that has just failed this very request; not to be asked again.
    pub avoid: Option<NodeId>,
}

/// Why a request goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteReason {
    /// The verdict says so (see its own reason).
    Verdict(Reason),
    /// A hint said so.
    Hint,
    /// Inside a transaction that runs on the primary.
    Transaction,
    /// Inside a READ ONLY transaction.
    ReadOnlyTransaction,
    /// Inside a transaction that has not written yet.
    OptimisticTransaction,
    /// Inside a transaction that has left its replica, in order to write for example.
    MovedTransaction,
    /// SERIALIZABLE transactions run on the primary.
    Serializable,
    /// Splitting is off.
    SplittingOff,
    /// It would have gone to a replica, and splitting is only observed.
    Observed,
    /// No replica may serve reads.
    NoReplica,
    /// No replica has yet what the session has seen.
    Freshness,
    /// The primary takes its share of reads.
    Share,
    /// The session is tied to its connection.
    Pinned,
}

impl RouteReason {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verdict(reason) => reason.as_str(),
            Self::Hint => "hint",
            Self::Transaction => "transaction",
            Self::ReadOnlyTransaction => "read-only-transaction",
            Self::OptimisticTransaction => "optimistic-transaction",
            Self::MovedTransaction => "moved-transaction",
            Self::Serializable => "serializable",
            Self::SplittingOff => "splitting-off",
            Self::Observed => "would-go-to-replica",
            Self::NoReplica => "no-replica",
            Self::Freshness => "freshness",
            Self::Share => "share",
            Self::Pinned => "pinned",
        }
    }
}

/// The router's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run it on the primary (or hold it until there is one).
    Primary(RouteReason),
    /// Run it on this replica.
    Replica(NodeId, RouteReason),
    /// A replica will probably have what the session must see within `causal_wait`: wait for positions to move, then
    /// ask again; with `waited` when the time is up.
    WaitForReplica,
    /// `primary_reads = never` and no replica may serve: fail after the hold.
    Nowhere,
}
