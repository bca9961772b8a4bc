//! How to reach each node: its address and TLS towards it, by `NodeId`. Replaced whole by a reload; nodes keep their
//! places and new ones come behind them, so an id means the same node for as long as the program runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::settings::Node;
use super::tls::ServerTlsConfig;
use crate::model::NodeId;
use crate::tls::TlsError;

/// How to reach one node.
#[derive(Clone, Debug)]
pub struct NodeLink {
    /// The node as configured.
    pub node: Arc<Node>,
    /// TLS towards it.
    pub tls: Arc<ServerTlsConfig>,
}

impl NodeLink {
    /// Every node's, its certificates read.
    ///
    /// # Errors
    /// Where a certificate cannot be used.
    pub fn all(nodes: &[Node]) -> Result<Vec<Self>, TlsError> {
        let link = |node: &Node| {
            Ok(Self { node: Arc::new(node.clone()), tls: Arc::new(ServerTlsConfig::load(&node.tls)?) })
        };
        nodes.iter().map(link).collect()
    }
}

/// All nodes.
#[derive(Debug)]
pub struct Links(ArcSwap<Vec<NodeLink>>);

impl Links {
    /// These.
    pub fn new(links: Vec<NodeLink>) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(links)))
    }

    /// One node's.
    pub fn get(&self, node: NodeId) -> Option<NodeLink> {
        self.0.load().get(node.index()).cloned()
    }

    /// A node's name.
    pub fn name(&self, node: NodeId) -> Option<Arc<str>> {
        self.0.load().get(node.index()).map(|link| Arc::clone(&link.node.name))
    }

    /// All of them, by `NodeId`.
    pub fn load(&self) -> Arc<Vec<NodeLink>> {
        self.0.load_full()
    }

    /// Takes others over.
    pub fn replace(&self, links: Vec<NodeLink>) {
        self.0.store(Arc::new(links));
    }
}
