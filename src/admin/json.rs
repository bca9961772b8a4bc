//! What the API says, as types: written by the server, read by the command line. Fields are added, never renamed or removed.

use serde::{Deserialize, Serialize};

/// `GET /api/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// primacy's version.
    pub version: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Whether statements for the primary go out: `open`, `held` or `read-only`.
    pub service: String,
    /// The primary's name.
    pub primary: Option<String>,
    /// One more at every change of primary.
    pub epoch: u64,
    /// The timeline of this epoch.
    pub timeline: u32,
    /// The cluster's identity; a number too large for JavaScript, so a string.
    pub system_id: Option<String>,
    /// What the failover core is doing.
    pub phase: String,
    /// Why, in words; empty in peace.
    pub reason: String,
    /// Whether automatic failover is on.
    pub automatic: bool,
    /// `quorum` or `async`; empty until the cohort is known.
    pub durability: String,
    /// How many replicas must have a commit; zero with `async`.
    pub sync_replicas: u64,
    /// How many nodes a failover needs to recruit now.
    pub recruits_needed: u64,
    /// What a person should know now.
    pub alarms: Vec<String>,
    /// Clients connected.
    pub clients: u64,
    /// Transactions until now.
    pub transactions: u64,
    /// The nodes, in the order of the configuration.
    pub nodes: Vec<NodeReport>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// `primary`, `replica` or `unknown`.
    pub role: String,
    /// What it is to this epoch: `member`, `vetting`, `quarantined`, ...
    pub standing: String,
    /// Whether it may serve reads.
    pub readable: bool,
    /// Why not.
    pub unreadable: Option<String>,
    /// Its zone; empty where not configured.
    pub zone: String,
    /// Its share of reads.
    pub weight: u32,
    /// Timeline it was last seen on.
    pub timeline: u32,
    /// Received (replica) or flushed (primary) position.
    pub received: String,
    /// Replayed (replica) or inserted (primary) position.
    pub replayed: String,
    /// Bytes behind the primary.
    pub lag_bytes: u64,
    /// Milliseconds behind the primary.
    pub lag_ms: u64,
    /// `server_version_num`; zero while unknown.
    pub server_version: u32,
    /// Server connections open.
    pub connections: u64,
    /// Of those, lent to sessions.
    pub leased: u64,
    /// Requests sent there until now.
    pub requests: u64,
}

/// One element of `GET /api/v1/history`: a change of primary, or the attempt at one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangeReport {
    /// Its epoch.
    pub epoch: u64,
    /// When it ended, UTC.
    pub at: String,
    /// `failover`, `commanded`, `switchover` or `adopted`.
    pub cause: String,
    /// The rule of the core that confirmed it.
    pub rule: String,
    /// The primary before.
    pub from: Option<String>,
    /// The primary after; none where the attempt was abandoned.
    pub to: Option<String>,
    /// The timeline after.
    pub timeline: u32,
    /// Where it left the one before.
    pub fork: String,
    /// From the first sign of trouble (or the command) to the last step.
    pub took_ms: f64,
    /// Each step.
    pub steps: Vec<StepReport>,
    /// Bytes of WAL of the old primary that the new one does not have; none where nothing was lost.
    pub lost_bytes: Option<u64>,
    /// Why it was given up.
    pub abandoned: Option<String>,
}

/// A step of a change of primary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// `held`, `confirmed`, `recruited`, ...
    pub step: String,
    /// Since the first sign of trouble (or the command).
    pub after_ms: f64,
}

/// One element of `GET /api/v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventReport {
    /// Counted from one.
    pub number: u64,
    /// When, UTC.
    pub at: String,
    /// What kind.
    pub kind: String,
    /// The node that it is about.
    pub node: Option<String>,
    /// What happened.
    pub text: String,
}

/// `POST /api/v1/switchover`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchoverRequest {
    /// The node to become primary; the best one where absent.
    pub to: Option<String>,
    /// Only run the checks.
    pub dry_run: bool,
}

/// `POST /api/v1/failover`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailoverRequest {
    /// The node to become primary; the best one where absent.
    pub to: Option<String>,
    /// Go on where acknowledged writes may be lost.
    pub allow_data_loss: bool,
}

/// `POST /api/v1/rejoin`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejoinRequest {
    /// The node to bring back.
    pub node: String,
}

/// `POST /api/v1/explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The text.
    pub sql: String,
    /// The database whose catalog decides; the service role's where absent.
    #[serde(default)]
    pub database: Option<String>,
}

/// What would happen to a text, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainReport {
    /// `anywhere` or `primary`: where it may run.
    pub place: String,
    /// Why.
    pub reason: String,
    /// What caused the reason (a function, a relation, the parser's complaint).
    pub detail: Option<String>,
    /// The node that a new session would be sent to now; none where it would wait.
    pub node: Option<String>,
    /// That node's role.
    pub role: Option<String>,
    /// Why that node.
    pub route: String,
    /// A routing hint in its comments.
    pub hint: Option<String>,
    /// Statements in the text.
    pub statements: u32,
    /// What it does to the session.
    pub effects: Vec<String>,
}

/// What came of a command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandReport {
    /// Whether it was done.
    pub done: bool,
    /// What was done, or why not and what to do.
    pub message: String,
    /// For a reload: the keys that changed, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// For a reload: the keys that wait for a restart, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
}

impl CommandReport {
    /// Done.
    pub fn done(message: impl Into<String>) -> Self {
        Self { done: true, message: message.into(), ..Self::default() }
    }

    /// Not done.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }
}
