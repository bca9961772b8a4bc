//! What configuration says about the HTTP address.

use std::net::SocketAddr;

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
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 6433))), token: None, stats_token: None }
    }
}
