//! Servers that primacy may start and stop itself: what the actuator asks of whoever can (the demo, an agent).
//!
//! SQL can promote, repoint and fence, but it can neither start a server that is down nor rewind one that has diverged.
//! Without an implementation of this trait such a node is reported as needing a person.

use std::future::Future;
use std::pin::Pin;

use crate::model::{NodeId, Secret, Timeline};

/// The future of a trait method.
pub type LocalFuture<'a> = Pin<Box<dyn Future<Output = Result<(), LocalError>> + Send + 'a>>;

/// Why a local deed failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
    /// It cannot be done for this node at all.
    #[error("{0}")]
    Unsupported(String),
}

/// Whom a node is to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Which node.
    pub node: NodeId,
    /// `primary_conninfo` for it.
    pub conninfo: Secret,
    /// `primary_slot_name` for it; `None`: no slot.
    pub slot: Option<String>,
}

/// What has to be done about the history of a node that comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// It may have parted from the upstream's: it is rewound. `false`: it is a prefix of that.
    pub rewind: bool,
    /// The node may have made this timeline on its own. A rewind cannot tell that from the upstream's timeline of the same
    /// number, so it is done only if the node's files show that it never began one.
    pub twin: Option<Timeline>,
}

/// Deeds on servers of this machine (or of an agent beside them).
pub trait LocalServers: Send + Sync {
    /// Whether anything can be done to this node.
    fn serves(&self, node: NodeId) -> bool;

    /// Makes a standby of `upstream` of the node, whatever it is now: stops it if it runs, fits its history to the
    /// upstream's, starts it. A new copy is made only where whoever owns the server allows it.
    fn rejoin<'a>(&'a self, node: NodeId, upstream: &'a Upstream, fit: Fit) -> LocalFuture<'a>;

    /// Restarts a node as a standby of `upstream`. `immediate`: without a shutdown checkpoint, whose record would be WAL
    /// that the new primary does not have.
    fn restart_as_replica<'a>(
        &'a self,
        node: NodeId,
        upstream: &'a Upstream,
        immediate: bool,
    ) -> LocalFuture<'a>;

    /// Stops a node.
    fn stop(&self, node: NodeId) -> LocalFuture<'_>;

    /// Starts a node that has crashed, as it is. `Unsupported` for one that was stopped in order: somebody wanted that. And
    /// for one that may have made the timeline `twin`, or a later one, on its own: see [`Fit::twin`].
    fn start(&self, node: NodeId, twin: Option<Timeline>) -> LocalFuture<'_>;
}
