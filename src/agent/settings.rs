//! What configuration says about an agent. Resolved by `config`, cannot be invalid.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Secret;
use crate::postgres::Limits;

/// An agent's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name, as in primacy's configuration.
    pub node: Arc<str>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The data directory that it was given.
    pub data_dir: PathBuf,
    /// The server's configuration file, where that is not in the data directory.
    pub config_file: Option<PathBuf>,
    /// PostgreSQL's server programs; searched for where absent.
    pub pg_bin: Option<PathBuf>,
    /// What a server that the agent starts writes to stdout and stderr.
    pub log_file: PathBuf,
    /// The journal, and copies of the server's configuration.
    pub state_dir: PathBuf,
    /// What requests have to bring; `None`: a client's certificate is asked for instead.
    pub token: Option<Secret>,
    /// TLS; `None` on the loopback only.
    pub tls: Option<Tls>,
    /// Whether the data directory may be replaced by a new copy of the primary.
    pub reclone: bool,
    /// The role that pg_rewind reads the primary's files as; the replication role where absent.
    pub source: Option<Role>,
    /// The database that it connects to for that.
    pub source_database: Arc<str>,
    /// How long each step may take.
    pub limits: Limits,
    /// A primary without a lease for so long is stopped; `None`: never.
    pub fence_after: Option<Duration>,
}

/// A role to sign in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub user: Arc<str>,
    /// Its password; empty for none.
    pub password: Secret,
}

/// The agent's side of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with its key.
    pub key_file: PathBuf,
    /// PEM file with the authorities that sign clients' certificates; then each client has to show one.
    pub ca_file: Option<PathBuf>,
}
