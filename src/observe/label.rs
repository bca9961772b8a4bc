//! The enums that counters are indexed by: every value has a place in a table and a word for output.

use crate::route::RouteReason;
use crate::sql::{PinCause, Reason};

/// An enum that counts can be kept by.
pub trait Label: Copy + 'static {
    /// Every value, each at its own index.
    const ALL: &'static [Self];
    /// The place in `ALL`.
    fn index(self) -> usize;
    /// The word for output.
    fn word(self) -> &'static str;
}

/// Declares an enum of plain values with a word each, as a [`Label`].
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$value_doc])* $value,)*
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)*];

            fn index(self) -> usize {
                self as usize
            }

            fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)*
                }
            }
        }
    };
}

labels! {
    /// How a wait ended: for a primary, for a server connection, for a replica to catch up.
    WaitEnd {
        /// What was waited for came.
        Served = "served",
        /// The time was up.
        TimedOut = "timed-out",
        /// There were too many waiting already.
        Refused = "refused",
        /// The client went away.
        Abandoned = "abandoned",
    }
}

labels! {
    /// Why a statement was run again without the client seeing it.
    Retry {
        /// A replica refused it (25006, or "cannot ... during recovery"): run on the primary.
        RefusedByReplica = "refused-by-replica",
        /// A recovery conflict before the first row.
        RecoveryConflict = "recovery-conflict",
        /// The server connection broke before anything was forwarded.
        ConnectionLost = "connection-lost",
        /// A server connection that had been idle turned out to be dead.
        StaleConnection = "stale-connection",
        /// The primary was lost, and the write is known to have been undone.
        RolledBack = "rolled-back",
        /// The primary was lost in a transaction, which was run again as a whole.
        Replayed = "replayed",
    }
}

labels! {
    /// Who an error came from.
    Origin {
        /// A server, passed through.
        Server = "server",
        /// primacy itself.
        Proxy = "proxy",
    }
}

labels! {
    /// Why a client was not let in.
    SignInRefusal {
        /// Wrong password, unknown role.
        Credentials = "credentials",
        /// Too many clients.
        Limit = "limit",
        /// It took too long.
        Timeout = "timeout",
        /// It broke the protocol.
        Protocol = "protocol",
        /// TLS is required and was not used, or failed.
        Tls = "tls",
        /// No server could be asked.
        Unavailable = "unavailable",
    }
}

labels! {
    /// How a change of primary came about, and whether it succeeded.
    ChangeOfPrimary {
        /// On evidence.
        Failover = "failover",
        /// A person asked for a failover.
        Commanded = "commanded",
        /// A person asked for a switchover.
        Switchover = "switchover",
        /// Somebody else promoted a node.
        Adopted = "adopted",
        /// Begun and given up.
        Abandoned = "abandoned",
    }
}

impl Label for Reason {
    const ALL: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Label for PinCause {
    const ALL: &'static [Self] = &[
        Self::TemporaryTable,
        Self::Listen,
        Self::AdvisoryLock,
        Self::HoldCursor,
        Self::SqlPrepare,
        Self::Load,
        Self::UnknownSetting,
        Self::SessionAuthorization,
        Self::Sequence,
        Self::SessionMode,
        Self::Replication,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

const ROUTE_REASONS: [RouteReason; 12] = [
    RouteReason::Hint,
    RouteReason::Transaction,
    RouteReason::ReadOnlyTransaction,
    RouteReason::OptimisticTransaction,
    RouteReason::MovedTransaction,
    RouteReason::Serializable,
    RouteReason::SplittingOff,
    RouteReason::NoReplica,
    RouteReason::Freshness,
    RouteReason::Share,
    RouteReason::Pinned,
    RouteReason::Observed,
];

impl Label for RouteReason {
    const ALL: &'static [Self] = &{
        let mut all = [Self::Pinned; Reason::ALL.len() + ROUTE_REASONS.len()];
        let mut index = 0;
        while index < Reason::ALL.len() {
            all[index] = Self::Verdict(Reason::ALL[index]);
            index += 1;
        }
        let mut other = 0;
        while other < ROUTE_REASONS.len() {
            all[index + other] = ROUTE_REASONS[other];
            other += 1;
        }
        all
    };

    fn index(self) -> usize {
        let after_verdicts = match self {
            Self::Verdict(reason) => return reason.index(),
            Self::Hint => 0,
            Self::Transaction => 1,
            Self::ReadOnlyTransaction => 2,
            Self::OptimisticTransaction => 3,
            Self::MovedTransaction => 4,
            Self::Serializable => 5,
            Self::SplittingOff => 6,
            Self::NoReplica => 7,
            Self::Freshness => 8,
            Self::Share => 9,
            Self::Pinned => 10,
            Self::Observed => 11,
        };
        Reason::ALL.len() + after_verdicts
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// The class of a SQLSTATE: its first two characters (PostgreSQL manual, appendix A). Errors are counted by it, because
/// a peer could make up codes without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorClass(u8);

const CLASSES: [&str; 41] = [
    "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22", "23", "24", "25",
    "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54",
    "55", "57", "58", "F0", "HV", "P0", "XX",
];
/// Classes that PostgreSQL does not name.
const OTHER_CLASS: u8 = 41;

impl ErrorClass {
    /// The class of a code.
    pub fn of(code: crate::model::SqlState) -> Self {
        let class = CLASSES.iter().zip(0..).find(|(class, _)| class.as_bytes() == &code.0[..2]);
        Self(class.map_or(OTHER_CLASS, |(_, index)| index))
    }
}

impl Label for ErrorClass {
    const ALL: &'static [Self] = &{
        let mut all = [Self(0); CLASSES.len() + 1];
        let mut index = 0;
        while index <= OTHER_CLASS {
            all[index as usize] = Self(index);
            index += 1;
        }
        all
    };

    fn index(self) -> usize {
        usize::from(self.0)
    }

    fn word(self) -> &'static str {
        CLASSES.get(usize::from(self.0)).copied().unwrap_or("other")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::SqlState;

    fn every_index_is_its_place<T: Label>() {
        for (place, value) in T::ALL.iter().enumerate() {
            assert_eq!(value.index(), place, "{}", value.word());
        }
        let words: HashSet<_> = T::ALL.iter().map(|value| value.word()).collect();
        assert_eq!(words.len(), T::ALL.len());
    }

    #[test]
    fn every_label_has_its_own_place_and_word() {
        every_index_is_its_place::<Reason>();
        every_index_is_its_place::<RouteReason>();
        every_index_is_its_place::<PinCause>();
        every_index_is_its_place::<WaitEnd>();
        every_index_is_its_place::<Retry>();
        every_index_is_its_place::<ErrorClass>();
        every_index_is_its_place::<ChangeOfPrimary>();
    }

    #[test]
    fn codes_have_their_class() {
        assert_eq!(ErrorClass::of(SqlState::READ_ONLY_SQL_TRANSACTION).word(), "25");
        assert_eq!(ErrorClass::of(SqlState::INTERNAL_ERROR).word(), "XX");
        assert_eq!(ErrorClass::of(SqlState(*b"99999")).word(), "other");
    }
}
