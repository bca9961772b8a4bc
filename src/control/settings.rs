//! What configuration says about the control plane. Resolved by `config`, cannot be invalid.
//!
//! The facts about servers are the same as the data path's, kept apart so that the two rooms do not import
//! each other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::agents::AgentSettings;
use crate::failover;
use crate::model::{Address, NodeId, Secret};
use crate::tls::ServerTls;

/// A configured server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Unique name; also its `application_name` as a replica, its place in `synchronous_standby_names`
    /// and the name of its replication slot (with letters that a slot may not have replaced).
    pub name: Arc<str>,
    /// Where primacy reaches it.
    pub address: Address,
    /// Where the *other servers* reach it, where that differs from `address`.
    pub replication_address: Option<Address>,
    /// TLS towards it.
    pub tls: ServerTls,
    /// Availability zone, empty for none.
    pub zone: Arc<str>,
    /// Share of reads relative to others.
    pub weight: u32,
    /// Preference at a promotion among equals: higher first. Zero: never promoted without a person.
    pub priority: u32,
    /// Taken out by a person: serves no reads, is not promoted, still counts in the quorum.
    pub disabled: bool,
    /// The agent beside it, where there is one.
    pub agent: Option<AgentSettings>,
}

impl NodeSettings {
    /// A node with everything but its name and address at its default.
    pub fn new(name: impl Into<Arc<str>>, address: Address) -> Self {
        Self {
            name: name.into(),
            address,
            replication_address: None,
            tls: ServerTls::default(),
            zone: "".into(),
            weight: 100,
            priority: 100,
            disabled: false,
            agent: None,
        }
    }

    /// What the decision core needs to know of it.
    pub(crate) fn member(&self) -> failover::Member {
        failover::Member {
            name: self.name.clone(),
            address: self.address.clone(),
            weight: self.weight,
            zone: self.zone.clone(),
            priority: self.priority,
            disabled: self.disabled,
        }
    }

    /// Where the other servers reach it.
    pub fn upstream_address(&self) -> &Address {
        self.replication_address.as_ref().unwrap_or(&self.address)
    }
}

/// A role to sign in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Role name.
    pub user: Arc<str>,
    /// Its password; empty where the server asks for none.
    pub password: Secret,
}

/// Settings of the control plane.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The servers, by `NodeId`.
    pub nodes: Vec<NodeSettings>,
    /// The role that primacy watches and acts with (failover.md section 2 lists its privileges).
    pub service: Credentials,
    /// The database it connects to.
    pub database: Arc<str>,
    /// The role that replicas stream with; the service role where absent.
    pub replication: Option<Credentials>,
    /// The decision core's limits and modes.
    pub failover: failover::Settings,
    /// Directory for the journal and its lock. `None`: kept in memory only, so that a failover interrupted by the
    /// death of primacy itself is not finished by the next start.
    pub state_dir: Option<PathBuf>,
    /// Least time between two samples of the primary's position.
    pub sample_every: Duration,
    /// Whether primacy creates physical replication slots on the primary, one per replica, and has replicas use them.
    pub slots: bool,
    /// Whether a fenced former primary may be restarted by the crash of one of its sessions where nobody here can restart
    /// it otherwise. Needs `pg_execute_server_program` and `pg_write_server_files`.
    pub restart_by_sql: bool,
}

impl Settings {
    /// Settings for `nodes`, watched as `service`, the rest at its default.
    pub fn new(nodes: Vec<NodeSettings>, service: Credentials, failover: failover::Settings) -> Self {
        Self {
            nodes,
            service,
            database: "postgres".into(),
            replication: None,
            failover,
            state_dir: None,
            sample_every: Duration::from_millis(2),
            slots: true,
            restart_by_sql: true,
        }
    }

    /// The role that replicas stream with.
    pub fn replication(&self) -> &Credentials {
        self.replication.as_ref().unwrap_or(&self.service)
    }

    /// The node's settings, if there is one of that id.
    pub fn node(&self, id: NodeId) -> Option<&NodeSettings> {
        self.nodes.get(id.index())
    }

    /// The node's name; its number where there is none of that id.
    pub fn name(&self, id: NodeId) -> Arc<str> {
        self.node(id).map_or_else(|| format!("#{}", id.0).into(), |node| node.name.clone())
    }

    /// The node of that name.
    pub fn by_name(&self, name: &str) -> Option<NodeId> {
        let place = self.nodes.iter().position(|node| &*node.name == name)?;
        u16::try_from(place).ok().map(NodeId)
    }

    /// Every node's id, in order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u16::try_from(self.nodes.len()).unwrap_or(u16::MAX)).map(NodeId)
    }
}
