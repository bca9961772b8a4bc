//! What goes over the wire between primacy and an agent, version 1 (`proto-notes/agent.md`).

use serde::{Deserialize, Serialize};

/// Where version 1 lives.
pub const PREFIX: &str = "/v1";

/// Longest body of a request or an answer.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// `POST /v1/rejoin`: make a standby of the server, whatever it is now.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejoinRequest {
    /// Whom it follows: a connection string without a password.
    pub conninfo: String,
    /// The password in it.
    #[serde(default)]
    pub password: Option<String>,
    /// Its replication slot there.
    #[serde(default)]
    pub slot: Option<String>,
    /// Whether its history is taken back to the upstream's first.
    pub rewind: bool,
    /// The number of a timeline that the server may have made on its own: it is rewound only if its files rule out that it
    /// began this one or a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<u32>,
    /// How a running server is stopped.
    pub stop: Stop,
}

impl std::fmt::Debug for RejoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("RejoinRequest");
        shown.field("conninfo", &self.conninfo).field("rewind", &self.rewind).finish_non_exhaustive()
    }
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// Sessions are ended, a shutdown checkpoint is written.
    #[default]
    Fast,
    /// At once.
    Immediate,
}

/// `POST /v1/start`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartRequest {
    /// Not where somebody has stopped it in order.
    pub only_crashed: bool,
    /// Not where its files do not rule out that it began this timeline, or a later one, on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<u32>,
}

/// `POST /v1/stop` and `POST /v1/restart`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// How.
    pub stop: Stop,
}

/// `POST /v1/lease`: the server is the primary of this epoch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// primacy's own count of primaries.
    pub epoch: u64,
}

/// What became of a request that was to change something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeedReport {
    /// In words.
    pub message: String,
}

/// Why a request was refused or failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of no it is.
    pub error: Kind,
    /// In words, with what to do.
    pub message: String,
}

/// Kinds of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Tried, and did not work; may work later.
    Failed,
    /// Something else is being done to the server.
    Busy,
    /// Not allowed or not possible here: a person has to act.
    Forbidden,
    /// The request makes no sense.
    Malformed,
    /// Token or certificate.
    Unauthorized,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The node's name by the agent's configuration.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// `running`, `stopped`, `crashed`, `half-rewound`, `half-copied`.
    pub server: String,
    /// Whether it starts as a standby.
    pub standby: bool,
    /// Whose data it has; `None`: there is none.
    pub system_id: Option<u64>,
    /// What is being done to it, or was when the agent died.
    pub doing: Option<String>,
    /// Whether it was stopped because its lease ran out.
    pub fenced: bool,
    /// Whether it may be copied anew.
    pub reclone: bool,
}
