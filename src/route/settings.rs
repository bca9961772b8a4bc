//! What configuration says about routing.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Consistency;

/// Whether reads may run on the primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PrimaryReads {
    /// Only where no replica is eligible.
    #[default]
    Fallback,
    /// The primary takes its share like a replica.
    Always,
    /// Never: a read without an eligible replica waits, then fails.
    Never,
}

/// Where transactions run that are not declared READ ONLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransactionRouting {
    /// On the primary from the first statement.
    #[default]
    Primary,
}

/// Settings of the routing room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Off: everything goes to the primary.
    pub splitting: bool,
    /// What reads promise.
    pub consistency: Consistency,
    /// Whether reads may run on the primary.
    pub primary_reads: PrimaryReads,
    /// Where read-write transactions run.
    pub transactions: TransactionRouting,
    /// How long a read may wait until a replica has caught up with the session, before the primary serves it.
    pub causal_wait: Duration,
    /// The proxy's own zone; nodes of the same zone are preferred. Empty: no preference.
    pub zone: Arc<str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            splitting: true,
            consistency: Consistency::default(),
            primary_reads: PrimaryReads::default(),
            transactions: TransactionRouting::default(),
            causal_wait: Duration::from_millis(10),
            zone: Arc::from(""),
        }
    }
}
