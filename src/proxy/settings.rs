//! What configuration says about the data path. Resolved by `config`, cannot be invalid.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::hba::{Hba, Network};
use crate::model::{Address, Secret};
use crate::session;
pub use crate::session::ReplayLimits;
use crate::tls::ServerTls;

/// How long a client keeps a server connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// For one transaction.
    #[default]
    Transaction,
    /// Until it disconnects.
    Session,
}

/// `sslmode`'s words towards clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientTlsMode {
    /// TLS is not offered.
    #[default]
    Disable,
    /// Offered, not asked for (`allow` and `prefer`).
    Prefer,
    /// Clients over TCP must use TLS.
    Require,
    /// They must show a certificate from the client authority too (`verify-ca` and `verify-full`).
    VerifyCa,
}

/// TLS towards clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// When TLS is used.
    pub mode: ClientTlsMode,
    /// PEM file with the proxy's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// PEM file with the authorities that sign client certificates; with it clients are asked for one.
    pub ca_file: Option<PathBuf>,
    /// PEM file with lists of revoked client certificates.
    pub crl_file: Option<PathBuf>,
}

/// A configured server, as the data path and the control plane reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique name.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// TLS towards it.
    pub tls: ServerTls,
    /// Availability zone, empty for none.
    pub zone: Arc<str>,
    /// Share of reads relative to others.
    pub weight: u32,
    /// Preference at a promotion among equals: higher first.
    pub priority: i32,
}

/// The role that primacy itself signs in with: to watch, to look verifiers up, to promote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Role name.
    pub user: Arc<str>,
    /// Its password.
    pub password: Secret,
    /// Database to connect to.
    pub database: Arc<str>,
}

/// Where the verifiers of clients' roles come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A query on the servers: parameter $1 is the role name, the answer one row (name, verifier).
    Query {
        /// The text.
        sql: Arc<str>,
        /// How long an answer is used before it must be asked for again.
        cache_for: Duration,
        /// From when on a newer answer is asked for before it is used, where one comes quickly.
        recheck_after: Duration,
        /// A file of roles that is looked into first.
        users_file: Option<PathBuf>,
    },
    /// A file of lines `"user" "verifier or password"` (PgBouncer's userlist.txt format).
    File(PathBuf),
}

/// Limits on server connections, per (node, database, user).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Most server connections at one time.
    pub size_max: u32,
    /// Kept open while idle: opened ahead of need once a client of the role has signed in, and after a failover.
    pub idle_min: u32,
    /// A statement waits this long for a connection, then fails with 57014... see `client_error`.
    pub wait_max: Duration,
    /// Statements waiting at one time, per pool.
    pub waiters_max: u32,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// A connection is closed after this, once it is idle.
    pub lifetime: Duration,
    /// To open and sign in.
    pub connect_timeout: Duration,
    /// A client's first server connection is a new one, while there is room, and is closed when the client leaves.
    pub fresh: bool,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            size_max: 20,
            idle_min: 0,
            wait_max: Duration::from_secs(30),
            waiters_max: 10_000,
            idle_timeout: Duration::from_secs(600),
            lifetime: Duration::from_secs(3600),
            connect_timeout: Duration::from_secs(5),
            fresh: false,
        }
    }
}

/// Limits on clients. Zero durations mean "no limit" where said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients connected at one time; the next one gets 53300.
    pub clients_max: u32,
    /// Connections of one address, signed in or not. 0: no limit, as with the next two.
    pub clients_per_address_max: u32,
    /// Clients of one role.
    pub clients_per_user_max: u32,
    /// Clients of one database.
    pub clients_per_database_max: u32,
    /// Longest time that the answer to a failed sign-in is held back. Zero: never.
    pub auth_delay_max: Duration,
    /// From accept to signed in.
    pub login_timeout: Duration,
    /// Longest message before sign-in, in bytes.
    pub login_message_max: u32,
    /// Longest batch (one simple query, or an extended pipeline up to Sync) that is looked at whole, kept for a second
    /// try and routed by content; larger ones stream to the primary.
    pub batch_max: u32,
    /// Prepared statements of one client.
    pub prepared_max: u32,
    /// Bytes of prepared statements of one client.
    pub prepared_bytes_max: u32,
    /// Prepared statements kept on one server connection; the least recently used is closed beyond it.
    pub server_prepared_max: u32,
    /// A client idle outside a transaction longer than this gets 57P05. Zero: never.
    pub idle_timeout: Duration,
    /// A client idle inside a transaction longer than this gets 25P03. Zero: never.
    pub idle_in_transaction_timeout: Duration,
    /// A client whose results wait and that reads none of them for longer is sent away. Zero: never.
    pub write_timeout: Duration,
    /// Statements for the primary wait this long for one, then fail with 57P03.
    pub hold_timeout: Duration,
    /// Statements that wait for a primary at one time.
    pub holds_max: u32,
    /// Bytes of the statements that wait for a primary at one time.
    pub hold_bytes_max: u64,
    /// On SIGTERM running transactions get this long.
    pub drain_timeout: Duration,
    /// After an upgrade the old process serves its clients for so long.
    pub handover_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_max: 10_000,
            clients_per_address_max: 0,
            clients_per_user_max: 0,
            clients_per_database_max: 0,
            auth_delay_max: Duration::from_secs(5),
            login_timeout: Duration::from_secs(60),
            login_message_max: 64 * 1024,
            batch_max: 64 * 1024,
            prepared_max: 10_000,
            prepared_bytes_max: 16 * 1024 * 1024,
            server_prepared_max: 500,
            idle_timeout: Duration::ZERO,
            idle_in_transaction_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            hold_timeout: Duration::from_secs(10),
            holds_max: 10_000,
            hold_bytes_max: 64 * 1024 * 1024,
            drain_timeout: Duration::from_secs(30),
            handover_timeout: Duration::from_secs(3600),
        }
    }
}

/// Settings of the data path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// TCP addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Directory for the Unix socket `.s.PGSQL.<port of the first address>`.
    pub unix_socket_dir: Option<PathBuf>,
    /// Threads that serve clients; each has its own connections and its part of the pools.
    pub workers: u32,
    /// How long a client keeps a server connection.
    pub pool_mode: PoolMode,
    /// Learn each writing transaction's id with its COMMIT, so that its outcome can be told when the primary is lost
    /// before it answers. Costs the primary one short query per transaction, and the client no round trip.
    pub resolve_commits: bool,
    /// Transactions that are lost with the primary before their COMMIT are run again on the new one, as long as they give
    /// the same results; so many batches and bytes of each are kept. `None`: they are not.
    pub replay: Option<ReplayLimits>,
    /// The servers, by `NodeId`.
    pub nodes: Vec<Node>,
    /// primacy's own role.
    pub service: Service,
    /// Where verifiers come from.
    pub auth: Auth,
    /// Who may try to sign in, from where, and how.
    pub hba: Arc<Hba>,
    /// Balancers whose connections begin with a PROXY header.
    pub balancers: Vec<Network>,
    /// TLS towards clients.
    pub client_tls: ClientTls,
    /// Limits on server connections.
    pub pool: PoolSettings,
    /// Limits on clients.
    pub limits: Limits,
    /// Statements that take at least this long are logged, without their literals. Zero: none.
    pub slow_statement: Duration,
    /// Functions of the databases' own that are marked volatile and believed to read only: names, with their schema or
    /// without, and commas between them.
    pub read_functions: Arc<str>,
}

impl Settings {
    /// What of it every session's machine goes by.
    pub(super) fn machine(&self) -> session::Settings {
        let limits = &self.limits;
        session::Settings {
            session_mode: self.pool_mode == PoolMode::Session,
            prepared_max: limits.prepared_max as usize,
            prepared_bytes_max: limits.prepared_bytes_max as usize,
            server_prepared_max: limits.server_prepared_max as usize,
            settings_bytes_max: 64 * 1024,
            resolve_commits: self.resolve_commits,
            replay: self.replay,
        }
    }
}
