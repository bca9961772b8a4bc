//! Servers that primacy may start and stop itself: what the actuator asks of whoever can (the demo, an agent).
//!
//! SQL can promote, repoint and fence, but it can neither start a server that is down nor rewind one that has diverged.
//! Without an implementation of this trait such a node is reported as needing a person.

use std::future::Future;
use std::pin::Pin;

use crate::model::{NodeId, Secret};

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

/// Deeds on servers of this machine (or of an agent beside them).
pub trait LocalServers: Send + Sync {
    /// Whether anything can be done to this node.
    fn serves(&self, node: NodeId) -> bool;

    /// Makes a standby of `upstream` of the node, whatever it is now: stops it if it runs, rewinds it if `rewind`, starts
    /// it. Never makes a new copy.
    fn rejoin<'a>(&'a self, node: NodeId, upstream: &'a Upstream, rewind: bool) -> LocalFuture<'a>;

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

    /// Starts a node that has crashed, as it is. `Unsupported` for one that was stopped in order: somebody wanted that.
    fn start(&self, node: NodeId) -> LocalFuture<'_>;
}
