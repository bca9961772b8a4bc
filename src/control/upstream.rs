//! Which node a replica streams from: host and port of its `primary_conninfo` against the configured addresses.
//!
//! People write the same server in several ways, so where the words differ the resolved addresses are compared.
//! Names are resolved in the background, at most every minute; a probe never waits for it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::settings::NodeSettings;
use super::task;
use crate::clock;
use crate::model::{Address, NodeId};

/// How long resolved names are used.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);

/// How many addresses of one name are kept.
const ADDRESSES_MAX: usize = 16;

/// The configured nodes by host and port.
#[derive(Debug)]
pub(crate) struct Upstreams {
    places: Vec<Place>,
    resolved_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Place {
    node: NodeId,
    host: String,
    port: u16,
    addresses: Arc<Mutex<Vec<IpAddr>>>,
}

impl Upstreams {
    pub(crate) fn new(nodes: &[NodeSettings]) -> Self {
        let mut places = Vec::new();
        for (number, node) in (0..=u16::MAX).zip(nodes) {
            for address in [Some(&node.address), node.replication_address.as_ref()].into_iter().flatten() {
                let (host, port) = match address {
                    Address::Tcp { host, port } => (host.clone(), *port),
                    Address::Unix { dir, port } => (dir.display().to_string(), *port),
                };
                let addresses = Arc::new(Mutex::new(host.parse().into_iter().collect()));
                places.push(Place { node: NodeId(number), host, port, addresses });
            }
        }
        Self { places, resolved_at: Mutex::new(None) }
    }

    /// The node that listens there, where that is known.
    pub(crate) fn node_at(&self, host: &str, port: u16) -> Option<NodeId> {
        let mut at_port = self.places.iter().filter(|place| place.port == port);
        if let Some(place) = at_port.clone().find(|place| place.host.eq_ignore_ascii_case(host)) {
            return Some(place.node);
        }
        let ip: Option<IpAddr> = host.parse().ok();
        let known = |place: &&Place| {
            let addresses = place.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            ip.is_some_and(|ip| addresses.contains(&ip))
        };
        at_port.find(known).map(|place| place.node)
    }

    /// Some replica streams from an address that is not known: names are resolved anew soon.
    pub(crate) fn wants_names(&self) {
        let now = clock::now();
        let mut resolved_at = self.resolved_at.lock().unwrap_or_else(PoisonError::into_inner);
        if resolved_at.is_some_and(|at| now.duration_since(at) < RESOLVE_EVERY) {
            return;
        }
        *resolved_at = Some(now);
        for place in &self.places {
            if place.host.starts_with('/') || place.host.parse::<IpAddr>().is_ok() {
                continue;
            }
            let (host, port, slot) = (place.host.clone(), place.port, place.addresses.clone());
            task::spawn_detached("resolve", &place.host, async move {
                if let Ok(found) = tokio::net::lookup_host((host.as_str(), port)).await {
                    let found = found.map(|address| address.ip()).take(ADDRESSES_MAX).collect();
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = found;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> NodeSettings {
        NodeSettings::new(host, Address::Tcp { host: host.into(), port })
    }

    #[test]
    fn a_node_is_found_by_its_words_and_port() {
        let upstreams = Upstreams::new(&[node("10.0.0.1", 5432), node("db2", 5432), node("10.0.0.1", 5433)]);
        assert_eq!(upstreams.node_at("10.0.0.1", 5433), Some(NodeId(2)));
        assert_eq!(upstreams.node_at("DB2", 5432), Some(NodeId(1)));
        assert_eq!(upstreams.node_at("db2", 5433), None);
        assert_eq!(upstreams.node_at("db3", 5432), None);
    }

    #[test]
    fn a_node_is_found_by_where_the_others_reach_it() {
        let mut settings = node("outside", 7000);
        settings.replication_address = Some(Address::Tcp { host: "inside".into(), port: 5432 });
        let upstreams = Upstreams::new(&[settings]);
        assert_eq!(upstreams.node_at("inside", 5432), Some(NodeId(0)));
        assert_eq!(upstreams.node_at("outside", 7000), Some(NodeId(0)));
    }

    #[tokio::test]
    async fn a_name_is_found_by_its_address() {
        let upstreams = Upstreams::new(&[node("localhost", 5432)]);
        assert_eq!(upstreams.node_at("127.0.0.1", 5432), None);
        upstreams.wants_names();
        let found = tokio::time::timeout(Duration::from_secs(5), async {
            while upstreams.node_at("127.0.0.1", 5432).is_none() {
                tokio::task::yield_now().await;
            }
        });
        found.await.unwrap();
    }
}
