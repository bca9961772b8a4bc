//! What configuration says about the HTTP address.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::model::Secret;

/// Settings of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Requests that change something must carry it (`Authorization: Bearer ...`); `None`: no token is asked for.
    pub token: Option<Secret>,
    /// Requests that only look must carry it, or the other one; `None`: looking is open. Health checks and metrics always are.
    pub stats_token: Option<Secret>,
    /// HTTPS instead of HTTP.
    pub tls: Option<Tls>,
}

/// TLS at the HTTP address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with our certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with its key.
    pub key_file: PathBuf,
    /// Authorities of visitors' certificates; nobody is asked for one where absent.
    pub ca_file: Option<PathBuf>,
    /// Lists of revoked ones.
    pub crl_file: Option<PathBuf>,
    /// Whose certificates do what the token does: common names or whole distinguished names.
    pub admins: Vec<String>,
    /// Whose certificates do what the token for looking does.
    pub lookers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 6433)));
        Self { listen, token: None, stats_token: None, tls: None }
    }
}
