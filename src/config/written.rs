//! The configuration as it is written: one struct per table of the TOML file, every key optional.
//!
//! Unknown keys are refused here; what the values mean is `resolve`'s business. Every key is explained in
//! `config/primacy.toml`, and a test holds that file to this list.

mod operating;

use std::path::PathBuf;

use serde::Deserialize;

pub(super) use operating::{Admin, Console, Log};

use super::units::{WrittenDuration, WrittenSize};
use crate::model::Secret;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Document {
    /// Addresses to listen on.
    pub(super) listen: Option<OneOrMany>,
    /// Directory of the Unix socket.
    pub(super) unix_socket_dir: Option<PathBuf>,
    /// Threads that serve clients.
    pub(super) workers: Option<i64>,
    /// `transaction` or `session`.
    pub(super) pool_mode: Option<String>,
    /// Directory of the journal.
    pub(super) state_dir: Option<PathBuf>,
    /// The servers.
    pub(super) nodes: Vec<Node>,
    /// primacy's own role.
    pub(super) service: Service,
    /// The role that replicas stream with.
    pub(super) replication: Replication,
    /// Where verifiers come from.
    pub(super) auth: Auth,
    /// Who may try to sign in, from where, and how.
    pub(super) hba: Vec<HbaRule>,
    /// Networks of balancers that name their clients.
    pub(super) proxy_protocol: Option<OneOrMany>,
    /// Limits on server connections.
    pub(super) pool: Pool,
    /// Limits on clients.
    pub(super) limits: Limits,
    /// TLS towards clients.
    pub(super) tls: Tls,
    /// Which node serves what.
    pub(super) routing: Routing,
    /// Watching and failing over.
    pub(super) failover: Failover,
    /// The HTTP address.
    pub(super) admin: Admin,
    /// The log.
    pub(super) log: Log,
    /// The console.
    pub(super) console: Console,
}

/// A string or a list of strings.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub(super) enum OneOrMany {
    /// A string.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl OneOrMany {
    /// As a list.
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A string that is not shown.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "String")]
pub(super) struct WrittenSecret(pub Secret);

impl From<String> for WrittenSecret {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

/// One `[[nodes]]` entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Node {
    /// Unique name.
    pub(super) name: Option<String>,
    /// `postgres://host:port`, instead of host and port.
    pub(super) url: Option<WrittenSecret>,
    /// Host, address, or the directory of a Unix socket.
    pub(super) host: Option<String>,
    /// Port.
    pub(super) port: Option<i64>,
    /// libpq's word.
    pub(super) sslmode: Option<String>,
    /// libpq's word.
    pub(super) sslnegotiation: Option<String>,
    /// Trusted authorities.
    pub(super) sslrootcert: Option<PathBuf>,
    /// Revoked certificates.
    pub(super) sslcrl: Option<PathBuf>,
    /// Our certificate.
    pub(super) sslcert: Option<PathBuf>,
    /// Its key.
    pub(super) sslkey: Option<PathBuf>,
    /// libpq's word.
    pub(super) channel_binding: Option<String>,
    /// Where the other servers reach it.
    pub(super) replication_address: Option<String>,
    /// Availability zone.
    pub(super) zone: Option<String>,
    /// Share of reads.
    pub(super) weight: Option<i64>,
    /// Preference at a promotion.
    pub(super) priority: Option<i64>,
    /// Taken out by a person.
    pub(super) disabled: Option<bool>,
    /// URL of the agent beside it.
    pub(super) agent: Option<String>,
    /// What the agent's requests bring.
    pub(super) agent_token: Option<WrittenSecret>,
    /// A file with it.
    pub(super) agent_token_file: Option<PathBuf>,
    /// An environment variable with it.
    pub(super) agent_token_env: Option<String>,
    /// Authorities that sign agents' certificates.
    pub(super) agent_ca_file: Option<PathBuf>,
    /// Our own certificate towards it.
    pub(super) agent_cert_file: Option<PathBuf>,
    /// Its key.
    pub(super) agent_key_file: Option<PathBuf>,
}

/// `[service]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Service {
    /// Role.
    pub(super) user: Option<String>,
    /// Its password.
    pub(super) password: Option<WrittenSecret>,
    /// A file with it.
    pub(super) password_file: Option<PathBuf>,
    /// An environment variable with it.
    pub(super) password_env: Option<String>,
    /// A systemd credential with it.
    pub(super) password_credential: Option<String>,
    /// A command that prints it.
    pub(super) password_command: Option<Vec<String>>,
    /// Database.
    pub(super) database: Option<String>,
}

/// `[replication]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Replication {
    /// Role.
    pub(super) user: Option<String>,
    /// Its password.
    pub(super) password: Option<WrittenSecret>,
    /// A file with it.
    pub(super) password_file: Option<PathBuf>,
    /// An environment variable with it.
    pub(super) password_env: Option<String>,
    /// A systemd credential with it.
    pub(super) password_credential: Option<String>,
    /// A command that prints it.
    pub(super) password_command: Option<Vec<String>>,
    /// Whether primacy makes replication slots.
    pub(super) slots: Option<bool>,
}

/// `[auth]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Auth {
    /// Query for verifiers.
    pub(super) query: Option<String>,
    /// How long an answer is used.
    pub(super) cache: Option<WrittenDuration>,
    /// From when on a newer one is asked for.
    pub(super) recheck: Option<WrittenDuration>,
    /// File of users, instead or before.
    pub(super) users_file: Option<PathBuf>,
    /// A `pg_hba.conf`.
    pub(super) hba_file: Option<PathBuf>,
    /// A `pg_ident.conf`.
    pub(super) ident_file: Option<PathBuf>,
    /// What identities of the outside may use which roles.
    pub(super) maps: Vec<Mapping>,
}

/// One `[[auth.maps]]` entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mapping {
    /// The map.
    pub(super) map: Option<String>,
    /// A certificate's or an account's name.
    pub(super) identity: Option<String>,
    /// The role.
    pub(super) user: Option<String>,
}

/// One `[[hba]]` entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HbaRule {
    /// `local`, `host`, `hostssl` or `hostnossl`.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    /// Databases.
    pub(super) database: Option<OneOrMany>,
    /// Roles.
    pub(super) user: Option<OneOrMany>,
    /// Addresses and networks.
    pub(super) address: Option<OneOrMany>,
    /// The method.
    pub(super) method: Option<String>,
    /// `verify-ca` or `verify-full`.
    pub(super) clientcert: Option<String>,
    /// `CN`, `DN` or `SAN`.
    pub(super) clientname: Option<String>,
    /// A map's name.
    pub(super) map: Option<String>,
}

/// `[pool]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Pool {
    /// Most connections.
    pub(super) default_pool_size: Option<i64>,
    /// Kept while idle.
    pub(super) min_pool_size: Option<i64>,
    pub(super) fresh_connections: Option<bool>,
    /// Longest wait for one.
    pub(super) query_wait_timeout: Option<WrittenDuration>,
    /// Waiting at one time.
    pub(super) max_waiting: Option<i64>,
    /// Closed when idle so long.
    pub(super) server_idle_timeout: Option<WrittenDuration>,
    /// Closed when so old.
    pub(super) server_lifetime: Option<WrittenDuration>,
    /// To open and sign in.
    pub(super) server_connect_timeout: Option<WrittenDuration>,
}

/// `[limits]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    /// Clients.
    pub(super) max_client_conn: Option<i64>,
    /// Of one address.
    pub(super) max_clients_per_address: Option<i64>,
    /// Of one role.
    pub(super) max_clients_per_user: Option<i64>,
    /// Of one database.
    pub(super) max_clients_per_database: Option<i64>,
    /// Longest delay of a refusal.
    pub(super) auth_delay: Option<WrittenDuration>,
    /// From accept to signed in.
    pub(super) client_login_timeout: Option<WrittenDuration>,
    /// Longest message before sign-in.
    pub(super) max_login_message: Option<WrittenSize>,
    /// Longest batch looked at whole.
    pub(super) max_batch: Option<WrittenSize>,
    /// Prepared statements of one client.
    pub(super) max_client_prepared: Option<i64>,
    /// Bytes of them.
    pub(super) max_client_prepared_bytes: Option<WrittenSize>,
    /// Prepared statements on one server connection.
    pub(super) max_prepared_statements: Option<i64>,
    /// Idle clients.
    pub(super) client_idle_timeout: Option<WrittenDuration>,
    /// Clients that do not read.
    pub(super) client_write_timeout: Option<WrittenDuration>,
    /// Clients idle in a transaction.
    pub(super) idle_transaction_timeout: Option<WrittenDuration>,
    /// Running transactions at a stop.
    pub(super) drain_timeout: Option<WrittenDuration>,
    /// Clients that stay after an upgrade.
    pub(super) handover_timeout: Option<WrittenDuration>,
}

/// `[tls]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    /// libpq's word.
    pub(super) sslmode: Option<String>,
    /// Certificate chain.
    pub(super) cert_file: Option<PathBuf>,
    /// Its key.
    pub(super) key_file: Option<PathBuf>,
    /// Authorities of client certificates.
    pub(super) ca_file: Option<PathBuf>,
    /// Revoked client certificates.
    pub(super) crl_file: Option<PathBuf>,
}

/// `[routing]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Routing {
    /// Reads to replicas.
    pub(super) splitting: Option<bool>,
    /// `split` or `observe`.
    pub(super) mode: Option<String>,
    /// What reads promise.
    pub(super) consistency: Option<String>,
    /// Wait for a replica to catch up.
    pub(super) causal_wait: Option<WrittenDuration>,
    /// Reads on the primary.
    pub(super) primary_reads: Option<String>,
    /// Where transactions run.
    pub(super) transactions: Option<String>,
    /// Lag limit in time.
    pub(super) max_lag: Option<WrittenDuration>,
    /// Lag limit in bytes.
    pub(super) max_lag_bytes: Option<WrittenSize>,
    /// Functions that only read.
    pub(super) read_functions: Option<OneOrMany>,
    /// The proxy's zone.
    pub(super) zone: Option<String>,
    /// Least time between samples.
    pub(super) sample_interval: Option<WrittenDuration>,
    /// Longest text that is parsed.
    pub(super) max_parse: Option<WrittenSize>,
    /// Verdicts kept.
    pub(super) verdict_cache: Option<i64>,
    /// Bytes of them.
    pub(super) verdict_cache_bytes: Option<WrittenSize>,
    /// What differs for some sessions.
    pub(super) sessions: Vec<SessionRouting>,
}

/// `[[routing.sessions]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SessionRouting {
    /// Of this role.
    pub(super) user: Option<String>,
    /// In this database.
    pub(super) database: Option<String>,
    /// What reads promise.
    pub(super) consistency: Option<String>,
    /// Where statements without a hint go.
    pub(super) route: Option<String>,
    /// Where transactions run.
    pub(super) transactions: Option<String>,
    /// Wait for a replica to catch up.
    pub(super) causal_wait: Option<WrittenDuration>,
}

/// `[failover]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Failover {
    /// Promote without being asked.
    pub(super) automatic: Option<bool>,
    /// `quorum` or `async`.
    pub(super) durability: Option<String>,
    /// Replicas that must have a commit.
    pub(super) sync_replicas: Option<i64>,
    /// `wait` or `degrade`.
    pub(super) on_lost_quorum: Option<String>,
    /// Replicas that must have a commit even then.
    pub(super) min_sync: Option<i64>,
    /// How long commits wait before.
    pub(super) degrade_after: Option<WrittenDuration>,
    /// Whether `synchronous_standby_names` is primacy's to set.
    pub(super) manage_sync_names: Option<bool>,
    /// Between two probes.
    pub(super) probe_interval: Option<WrittenDuration>,
    /// Silence that makes evidence.
    pub(super) detect_timeout: Option<WrittenDuration>,
    /// For a server that restarts.
    pub(super) restart_grace: Option<WrittenDuration>,
    /// Commits that stand still.
    pub(super) stall_timeout: Option<WrittenDuration>,
    /// For the receivers to stop.
    pub(super) recruit_timeout: Option<WrittenDuration>,
    /// For the candidate to replay.
    pub(super) replay_timeout: Option<WrittenDuration>,
    /// For `pg_promote`.
    pub(super) promote_timeout: Option<WrittenDuration>,
    /// For transactions to end before a switchover.
    pub(super) switchover_drain: Option<WrittenDuration>,
    /// `wal_receiver_timeout` on the nodes.
    pub(super) wal_receiver_timeout: Option<WrittenDuration>,
    /// Failovers on silence alone, per hour.
    pub(super) max_soft_per_hour: Option<i64>,
    /// Between two of them.
    pub(super) soft_interval: Option<WrittenDuration>,
    /// Bring returning nodes back.
    pub(super) rejoin: Option<bool>,
    /// For a rejoin.
    pub(super) rejoin_timeout: Option<WrittenDuration>,
    /// Restart a fenced former primary through SQL.
    pub(super) restart_by_sql: Option<bool>,
    /// Keep `standby.signal` on the primary.
    pub(super) arm_standby_signal: Option<bool>,
    /// Learn the ids of transactions with their commits.
    pub(super) resolve_commits: Option<bool>,
    /// Transactions are run again on the new primary.
    pub(super) replay: Option<String>,
    /// Bytes of one.
    pub(super) replay_max_bytes: Option<WrittenSize>,
    /// Batches of one.
    pub(super) replay_max_statements: Option<i64>,
    /// Statements wait for a primary.
    pub(super) hold_timeout: Option<WrittenDuration>,
    /// Number of them.
    pub(super) max_held: Option<i64>,
    /// Bytes of them.
    pub(super) max_held_bytes: Option<WrittenSize>,
}

impl Node {
    /// A node of which only the URL is known.
    pub(super) fn from_url(url: &str) -> Self {
        Self { url: Some(WrittenSecret(Secret::new(url))), ..Self::default() }
    }
}
