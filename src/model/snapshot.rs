//! The topology snapshot: what the proxy believes about the cluster at one moment, whole and immutable.
//!
//! `control` publishes it, sessions read it once per decision and never ask anybody else.

use std::sync::Arc;
use std::time::Duration;

use super::{Address, Epoch, Lsn, NodeId, SystemId, Timeline};

/// Most nodes of one cluster, those that were removed since the start among them.
pub const NODES_MAX: usize = 64;

/// What a node is, as it was last seen to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Accepts writes and is the primary of this epoch.
    Primary,
    /// A hot standby.
    Replica,
    /// Not known (never answered yet, or not since it was lost).
    Unknown,
}

impl Role {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether the cluster takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// There is a primary; statements for it go out.
    Open,
    /// The primary is suspected, being replaced or being handed over: statements for it wait (`hold`).
    Held,
    /// There is no primary to be had: statements for it fail after the hold, replicas go on serving reads.
    ReadOnly,
}

impl Service {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Held => "held",
            Self::ReadOnly => "read-only",
        }
    }
}

/// Why a node serves no reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreadable {
    /// It has not answered yet, or not within its deadline.
    Down,
    /// It answers, but is starting, stopping or refusing connections.
    Starting,
    /// It belongs to another cluster (another system identifier).
    OtherCluster,
    /// Not streaming from the primary of this epoch on its timeline: diverged, or cut off (failover.md, T8).
    NotStreaming,
    /// Behind by more than `max_lag_bytes` or `max_lag`.
    Lagging,
    /// Claims to be a primary and is not the recorded one, or returned and is not vetted yet.
    Quarantined,
    /// Taken out by a person.
    Disabled,
    /// Not configured any more. Its place stays empty until a restart, so that the others keep theirs.
    Removed,
}

impl Unreadable {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Starting => "starting",
            Self::OtherCluster => "other-cluster",
            Self::NotStreaming => "not-streaming",
            Self::Lagging => "lagging",
            Self::Quarantined => "quarantined",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
        }
    }
}

/// One node in the snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// Its place in the configuration.
    pub id: NodeId,
    /// Its name, as configured or derived from its address.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// What it is.
    pub role: Role,
    /// `None` where it may serve reads (the primary too), else the reason why not.
    pub unreadable: Option<Unreadable>,
    /// Share of the reads, relative to the others; zero: none.
    pub weight: u32,
    /// Availability zone, empty where not configured.
    pub zone: Arc<str>,
    /// Timeline it was last seen on.
    pub timeline: Timeline,
    /// Received (replica) or flushed (primary) position when last seen.
    pub received: Lsn,
    /// Replayed (replica) or inserted (primary) position when last seen.
    pub replayed: Lsn,
    /// Bytes behind the primary; zero for the primary. A node that does not answer counts as being where it was seen last.
    pub lag_bytes: u64,
    /// Time behind the primary, likewise; zero for the primary and for an idle cluster.
    pub lag: Duration,
    /// `server_version_num`, zero while unknown.
    pub server_version: u32,
}

/// The cluster at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// One more with every snapshot that is published.
    pub version: u64,
    /// One more at every change of primary.
    pub epoch: Epoch,
    /// The timeline of this epoch.
    pub timeline: Timeline,
    /// Where this epoch's timeline left the one before; positions of older epochs are clamped to it.
    pub fork: Lsn,
    /// The cluster's identity, once known.
    pub system_id: Option<SystemId>,
    /// The primary of this epoch; `None` until one was found. While `Held` it may be dead.
    pub primary: Option<NodeId>,
    /// Whether statements for the primary go out.
    pub service: Service,
    /// Every configured node, by `NodeId`.
    pub nodes: Vec<NodeView>,
}

impl Snapshot {
    /// The nodes that are configured now.
    pub fn present(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.iter().filter(|node| node.unreadable != Some(Unreadable::Removed))
    }

    /// The node, if there is one of that id.
    pub fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.nodes.get(id.index())
    }

    /// The primary, when statements for it may go out.
    pub fn writable_primary(&self) -> Option<NodeId> {
        if self.service == Service::Open { self.primary } else { None }
    }
}
