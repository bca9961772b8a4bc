//! What configuration says about routing.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Consistency;
use crate::sql::Hint;

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
    /// On a replica until the first statement that is no read, where READ COMMITTED allows it.
    Optimistic,
}

impl TransactionRouting {
    /// The word for configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Optimistic => "optimistic",
        }
    }
}

/// What differs for some sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Sessions of this role; `None`: of every role.
    pub user: Option<Arc<str>>,
    /// Sessions in this database; `None`: in every database.
    pub database: Option<Arc<str>>,
    /// What their reads promise.
    pub consistency: Option<Consistency>,
    /// Where their statements go that carry no hint.
    pub hint: Option<Hint>,
    /// Where their read-write transactions run.
    pub transactions: Option<TransactionRouting>,
    /// How long their reads wait.
    pub causal_wait: Option<Duration>,
}

impl Override {
    fn concerns(&self, user: &str, database: &str) -> bool {
        self.user.as_deref().is_none_or(|name| name == user)
            && self.database.as_deref().is_none_or(|name| name == database)
    }
}

/// Settings of the routing room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Off: everything goes to the primary.
    pub splitting: bool,
    /// Everything goes to the primary, and what splitting would have done is counted.
    pub observe: bool,
    /// What reads promise.
    pub consistency: Consistency,
    /// Whether reads may run on the primary.
    pub primary_reads: PrimaryReads,
    /// Where read-write transactions run.
    pub transactions: TransactionRouting,
    /// How long a read may wait until a replica has caught up with the session, before the primary serves it.
    pub causal_wait: Duration,
    /// Where statements go that carry no hint, and whose session asks for nothing else; `None`: by their content.
    pub hint: Option<Hint>,
    /// What differs for some sessions; the last one that concerns a session counts.
    pub overrides: Vec<Override>,
    /// The proxy's own zone; nodes of the same zone are preferred. Empty: no preference.
    pub zone: Arc<str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            splitting: true,
            observe: false,
            consistency: Consistency::default(),
            primary_reads: PrimaryReads::default(),
            transactions: TransactionRouting::default(),
            causal_wait: Duration::from_millis(10),
            hint: None,
            overrides: Vec::new(),
            zone: Arc::from(""),
        }
    }
}

impl Settings {
    /// The settings that hold for sessions of this role in this database.
    pub fn for_session(self: &Arc<Self>, user: &str, database: &str) -> Arc<Self> {
        let mut own = Arc::clone(self);
        for over in self.overrides.iter().filter(|over| over.concerns(user, database)) {
            let settings = Arc::make_mut(&mut own);
            settings.consistency = over.consistency.unwrap_or(settings.consistency);
            settings.hint = over.hint.or(settings.hint);
            settings.transactions = over.transactions.unwrap_or(settings.transactions);
            settings.causal_wait = over.causal_wait.unwrap_or(settings.causal_wait);
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_override_that_concerns_a_session_counts() {
        let over = |user: Option<&str>, database: Option<&str>, consistency| Override {
            user: user.map(Arc::from),
            database: database.map(Arc::from),
            consistency: Some(consistency),
            ..Override::default()
        };
        let overrides = vec![
            over(None, Some("reports"), Consistency::Eventual),
            over(Some("clerk"), None, Consistency::Strict),
            over(Some("clerk"), Some("ledger"), Consistency::Global),
        ];
        let settings = Arc::new(Settings { overrides, ..Settings::default() });
        let of = |user, database| settings.for_session(user, database).consistency;
        assert_eq!(of("app", "app"), Consistency::Session);
        assert_eq!(of("app", "reports"), Consistency::Eventual);
        assert_eq!(of("clerk", "reports"), Consistency::Strict);
        assert_eq!(of("clerk", "ledger"), Consistency::Global);
        assert!(
            Arc::ptr_eq(&settings, &settings.for_session("app", "app")),
            "nothing is copied for the others"
        );
    }
}
