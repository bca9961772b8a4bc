//! The agents beside the servers, as the control plane uses them: the same deeds as on servers of this machine, over HTTP.
//!
//! A node without an agent is one that nobody here can start or rewind; what SQL can do is done by SQL then.

pub mod api;
mod client;

use std::sync::Arc;
use std::time::Duration;

use self::api::{Kind, LeaseRequest, RejoinRequest, StartRequest, Stop, StopRequest};
use self::client::{AgentClient, CallError};
use super::conninfo::Conninfo;
use super::local::{Fit, LocalError, LocalFuture, LocalServers, Upstream};
use super::settings::Settings;
use super::{Board, task};
use crate::model::{NodeId, Timeline};

pub use client::AgentSetupError;

/// Between two renewals of the primary's lease.
const RENEWAL: Duration = Duration::from_millis(500);

/// A renewal that takes longer is as good as none.
const RENEWAL_LIMIT: Duration = Duration::from_secs(2);

/// Longest wait for a deed; the decision core's own limits end it sooner.
const DEED_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where an agent is, and how it knows us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// `host:port`, for messages and to connect to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS; `None`: plain HTTP, to this machine only.
    pub tls: Option<AgentTls>,
    /// The token.
    pub token: Option<crate::model::Secret>,
}

/// TLS towards an agent: its certificate is always checked, name and authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentTls {
    /// PEM file with the authorities; the system's where absent.
    pub ca_file: Option<std::path::PathBuf>,
    /// PEM files with our own certificate chain and its key.
    pub own: Option<(std::path::PathBuf, std::path::PathBuf)>,
}

/// Every node's agent, where it has one.
#[derive(Clone, Debug)]
pub struct Agents(Arc<[Option<AgentClient>]>);

impl Agents {
    /// Reads certificates; connects to nobody. `None`: no node has an agent.
    pub fn new(settings: &Settings) -> Result<Option<Self>, AgentSetupError> {
        let client =
            |node: &super::settings::NodeSettings| node.agent.as_ref().map(AgentClient::new).transpose();
        let clients: Vec<_> = settings.nodes.iter().map(client).collect::<Result<_, _>>()?;
        Ok(clients.iter().any(Option::is_some).then(|| Self(clients.into())))
    }

    fn of(&self, node: NodeId) -> Result<&AgentClient, LocalError> {
        let none = || LocalError::Unsupported("it has no agent that could do it".to_owned());
        self.0.get(node.index()).and_then(Option::as_ref).ok_or_else(none)
    }

    async fn post<R: serde::Serialize>(
        &self,
        node: NodeId,
        path: &str,
        request: &R,
    ) -> Result<(), LocalError> {
        self.of(node)?.post(path, request, DEED_LIMIT).await.map_err(LocalError::from)
    }

    fn come_back<'a>(
        &'a self,
        node: NodeId,
        upstream: &'a Upstream,
        (fit, stop): (Fit, Stop),
    ) -> LocalFuture<'a> {
        Box::pin(async move {
            let unreadable = |_| LocalError::Failed("its connection string cannot be read".to_owned());
            let mut conninfo = Conninfo::parse(upstream.conninfo.reveal()).map_err(unreadable)?;
            let password = conninfo.value("password").map(str::to_owned);
            conninfo.remove("password");
            let conninfo = conninfo.text().reveal().to_owned();
            let slot = upstream.slot.clone();
            let (rewind, twin) = (fit.rewind, fit.twin.map(|timeline| timeline.0));
            let request = RejoinRequest { conninfo, password, slot, rewind, twin, stop };
            self.post(node, "rejoin", &request).await
        })
    }
}

impl LocalServers for Agents {
    fn serves(&self, node: NodeId) -> bool {
        self.of(node).is_ok()
    }

    fn rejoin<'a>(&'a self, node: NodeId, upstream: &'a Upstream, fit: Fit) -> LocalFuture<'a> {
        // Without a rewind a shutdown checkpoint would be WAL of its own.
        self.come_back(node, upstream, (fit, if fit.rewind { Stop::Fast } else { Stop::Immediate }))
    }

    fn restart_as_replica<'a>(
        &'a self,
        node: NodeId,
        upstream: &'a Upstream,
        immediate: bool,
    ) -> LocalFuture<'a> {
        self.come_back(node, upstream, (Fit::default(), if immediate { Stop::Immediate } else { Stop::Fast }))
    }

    fn stop(&self, node: NodeId) -> LocalFuture<'_> {
        Box::pin(async move { self.post(node, "stop", &StopRequest::default()).await })
    }

    fn start(&self, node: NodeId, twin: Option<Timeline>) -> LocalFuture<'_> {
        let request = StartRequest { only_crashed: true, twin: twin.map(|timeline| timeline.0) };
        Box::pin(async move { self.post(node, "start", &request).await })
    }
}

impl From<CallError> for LocalError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { kind: Kind::Forbidden | Kind::Unauthorized | Kind::Malformed, .. } => {
                Self::Unsupported(error.to_string())
            }
            _ => Self::Failed(super::link::chain(&error)),
        }
    }
}

/// Renews the lease of the primary for as long as it is one that takes writes.
pub(super) fn lease(agents: Agents, board: Arc<Board>) -> task::Task {
    task::spawn("lease", "", async move {
        let mut problem = None;
        loop {
            tokio::time::sleep(RENEWAL).await;
            let (primary, epoch) = {
                let snapshot = board.snapshot();
                (snapshot.writable_primary(), snapshot.epoch.0)
            };
            let Some(primary) = primary else { continue };
            let Ok(agent) = agents.of(primary) else { continue };
            let renewed = agent.post("lease", &LeaseRequest { epoch }, RENEWAL_LIMIT).await;
            let now = renewed.as_ref().err().map(ToString::to_string);
            if now != problem {
                if let Some(why) = &now {
                    tracing::warn!(node = primary.0, why, "the primary's lease was not renewed");
                } else {
                    tracing::info!(node = primary.0, "the primary's lease is renewed");
                }
                problem = now;
            }
        }
    })
}
