//! What the API says, as types: written by the server, read by the command line. Fields are added, never renamed or removed.

use serde::{Deserialize, Serialize};

pub use crate::control::report::{
    Change as ChangeReport, LostReport, NodeReport, QuorumReport, StatusReport as ClusterReport, StepReport,
};

/// `GET /api/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// primacy's version.
    pub version: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Clients connected.
    pub clients: u64,
    /// Transactions until now.
    pub transactions: u64,
    /// What goes to which node, in the order of the configuration.
    pub traffic: Vec<TrafficReport>,
    /// The cluster; its fields stand beside the others.
    #[serde(flatten)]
    pub cluster: ClusterReport,
}

/// What goes to one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// Its name.
    pub node: String,
    /// Server connections open.
    pub connections: u64,
    /// Of those, lent to sessions.
    pub leased: u64,
    /// Requests sent there until now.
    pub requests: u64,
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
    /// Whose functions and relations decided.
    #[serde(default)]
    pub database: String,
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
    /// Inside of a transaction that reads on a replica until it writes: what becomes of it.
    #[serde(default)]
    pub optimistic: String,
    /// What a person can do so that it may run on a replica; empty where it may.
    #[serde(default)]
    pub change: String,
}

/// `GET /api/v1/series`: the last ten minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeriesReport {
    /// Milliseconds between two samples.
    pub every_ms: u64,
    /// The nodes' names, in the order of each sample's `nodes`.
    pub nodes: Vec<String>,
    /// Oldest first.
    pub samples: Vec<Sample>,
}

/// One moment. Counts grow from the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// When, UTC.
    pub at: String,
    /// Transactions until then.
    pub transactions: u64,
    /// Clients connected.
    pub clients: u64,
    /// Statements that wait for a primary.
    pub holds: u64,
    /// For a server connection.
    pub pool_waits: u64,
    /// For a replica to catch up.
    pub freshness_waits: u64,
    /// What half of the statements since the sample before took at most; none where there were none.
    pub p50_ms: Option<f64>,
    /// And all but one in a hundred.
    pub p99_ms: Option<f64>,
    /// Whether statements for the primary go out.
    pub service: String,
    /// The primary's name.
    pub primary: Option<String>,
    /// By node.
    pub nodes: Vec<NodeSample>,
    /// Requests until then, by the router's reason.
    pub reasons: std::collections::BTreeMap<String, u64>,
}

/// One node at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSample {
    /// Requests sent there until then.
    pub requests: u64,
    /// Server connections open.
    pub connections: u64,
    /// Of those, lent.
    pub leased: u64,
    /// Bytes behind the primary.
    pub lag_bytes: u64,
    /// Time behind.
    pub lag_ms: u64,
}

/// `GET /api/v1/sessions`: pools, pins, waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionsReport {
    /// By database, role and node.
    pub pools: Vec<PoolSummary>,
    /// Sessions that are tied to a server connection.
    pub pins: Vec<PinReport>,
    /// Clients whose statements wait, the longest first.
    pub waits: Vec<WaitReport>,
}

/// One node's part of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolSummary {
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The node.
    pub node: String,
    /// Connections open.
    pub connections: u32,
    /// Of those, idle.
    pub idle: u32,
    /// Statements that wait for one.
    pub waiting: u32,
}

/// A session that is tied to a server connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PinReport {
    /// Its process id.
    pub client: i32,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The node.
    pub node: Option<String>,
    /// By what.
    pub cause: String,
}

/// A client whose statement waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitReport {
    /// Its process id.
    pub client: i32,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// For how long.
    pub waited_ms: u64,
}

/// `GET /api/v1/routes`: where statements go, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutesReport {
    /// Different statements that are known at the moment.
    pub fingerprints: usize,
    /// Reads that replicas served.
    pub reads_on_replicas: u64,
    /// Reads that the primary served.
    pub reads_on_primary: u64,
    /// With `routing.mode = "observe"`: reads that would have gone to a replica.
    pub would_go_to_replica: u64,
    /// The most frequent statements.
    pub statements: Vec<StatementReport>,
    /// The most frequent reads that stayed on the primary.
    pub reads: Vec<ReadReport>,
}

/// The statements of one fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatementReport {
    /// The text, literals left out.
    pub statement: String,
    /// How often it ran.
    pub count: u64,
    /// Of that on the primary.
    pub primary: u64,
    /// And on replicas.
    pub replicas: u64,
    /// Why it was last sent to the primary.
    pub why_primary: String,
    /// Why it was last sent to a replica.
    pub why_replica: String,
    /// What the verdict says of it.
    pub reason: String,
    /// What caused that.
    pub detail: Option<String>,
    /// Time of all of them.
    pub total_ms: f64,
    /// Time of one.
    pub mean_ms: f64,
    /// Time of the slowest.
    pub slowest_ms: f64,
}

/// A read that stayed on the primary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadReport {
    /// The text, literals left out.
    pub statement: String,
    /// How often it ran on the primary.
    pub count: u64,
    /// Why.
    pub reason: String,
    /// What caused that.
    pub detail: Option<String>,
    /// What would change it.
    pub change: String,
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
    /// For a reload: nodes that are not configured any more, and whether they may be switched off, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departed: Vec<String>,
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
