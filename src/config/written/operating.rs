//! The tables for those who look after the proxy: how they reach it, and what it tells them.

use std::path::PathBuf;

use serde::Deserialize;

use super::WrittenSecret;
use crate::config::units::WrittenDuration;

/// `[admin]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Admin {
    /// Address.
    pub(in crate::config) listen: Option<String>,
    /// Bearer token.
    pub(in crate::config) token: Option<WrittenSecret>,
    /// Bearer token for those who only look.
    pub(in crate::config) stats_token: Option<WrittenSecret>,
    /// A file with it.
    pub(in crate::config) stats_token_file: Option<PathBuf>,
    /// An environment variable with it.
    pub(in crate::config) stats_token_env: Option<String>,
    /// A systemd credential with it.
    pub(in crate::config) stats_token_credential: Option<String>,
    /// A command that prints it.
    pub(in crate::config) stats_token_command: Option<Vec<String>>,
    /// A file with the token.
    pub(in crate::config) token_file: Option<PathBuf>,
    /// An environment variable with it.
    pub(in crate::config) token_env: Option<String>,
    /// A systemd credential with it.
    pub(in crate::config) token_credential: Option<String>,
    /// A command that prints it.
    pub(in crate::config) token_command: Option<Vec<String>>,
    /// HTTPS: certificate chain.
    pub(in crate::config) tls_cert_file: Option<PathBuf>,
    /// Its key.
    pub(in crate::config) tls_key_file: Option<PathBuf>,
    /// Authorities of visitors' certificates.
    pub(in crate::config) tls_ca_file: Option<PathBuf>,
    /// Revoked ones.
    pub(in crate::config) tls_crl_file: Option<PathBuf>,
    /// Whose certificates may do everything.
    pub(in crate::config) tls_admins: Option<Vec<String>>,
    /// Whose certificates may look.
    pub(in crate::config) tls_stats: Option<Vec<String>>,
}

/// `[log]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Log {
    /// Level or filter.
    pub(in crate::config) level: Option<String>,
    /// `text` or `json`.
    pub(in crate::config) format: Option<String>,
    /// Statements that take as long are logged.
    pub(in crate::config) slow_statement: Option<WrittenDuration>,
    /// Who is told of statements.
    pub(in crate::config) otlp_endpoint: Option<String>,
    /// A share of those that do not say themselves.
    pub(in crate::config) otlp_share: Option<f64>,
}

/// `[console]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Console {
    /// Databases that are the console.
    pub(in crate::config) databases: Option<Vec<String>>,
    /// Roles that may do everything there.
    pub(in crate::config) admin_users: Option<Vec<String>>,
    /// Roles that may look.
    pub(in crate::config) stats_users: Option<Vec<String>>,
}
