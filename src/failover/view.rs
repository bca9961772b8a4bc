//! What the data path is shown: a pure function of what is known. The data path only reads it.
//!
//! A replica serves reads only while it is proven to belong to this epoch: it streams from this primary on this
//! timeline (a diverged one looks healthy and serves dead rows, T8). While there is no primary to stream from,
//! vetted replicas that are still on the epoch's timeline go on serving reads.

use std::time::{Duration, Instant};

use super::nodes::{Node, ReachKind};
use super::observation::Facts;
use super::rule::RuleId;
use super::status::Standing;
use super::world::World;
use crate::model::{Lsn, NodeId, NodeView, Role, Service, Snapshot, Timeline, Unreadable};

/// The topology as it is seen now.
pub(super) fn snapshot(world: &World, version: u64) -> Snapshot {
    let record = world.record.as_ref();
    Snapshot {
        version,
        epoch: world.epoch(),
        timeline: record.map_or(Timeline(0), |record| record.timeline),
        fork: record.map_or(Lsn::ZERO, |record| record.fork),
        system_id: world.system_id(),
        primary: world.primary(),
        service: world.service,
        nodes: world.nodes.iter().map(|node| node_view(world, node)).collect(),
    }
}

/// Whether two snapshots differ in anything but positions and version.
pub(super) fn differs(old: &Snapshot, new: &Snapshot) -> bool {
    let head = |s: &Snapshot| (s.epoch, s.timeline, s.fork, s.system_id, s.primary, s.service);
    let body = |n: &NodeView| (n.role, n.unreadable, n.timeline, n.server_version);
    head(old) != head(new) || !old.nodes.iter().map(body).eq(new.nodes.iter().map(body))
}

fn node_view(world: &World, node: &Node) -> NodeView {
    let facts = node.seen.as_ref().map(|seen| &seen.facts);
    let (lag_bytes, lag) = lag(world, node);
    NodeView {
        id: node.id,
        name: node.member.name.clone(),
        address: node.member.address.clone(),
        role: role(world, node),
        unreadable: unreadable(world, node),
        weight: node.member.weight,
        zone: node.member.zone.clone(),
        timeline: node.timeline(),
        received: facts.map_or(Lsn::ZERO, Facts::position),
        replayed: facts.map_or(Lsn::ZERO, Facts::applied),
        lag_bytes,
        lag,
        server_version: facts.map_or(0, |facts| facts.server_version),
    }
}

fn role(world: &World, node: &Node) -> Role {
    if world.primary() == Some(node.id) {
        // Dead or alive: it is the primary until another one is recorded.
        return Role::Primary;
    }
    match node.facts() {
        Some(facts) if facts.in_recovery => Role::Replica,
        _ => Role::Unknown,
    }
}

/// Why a node serves no reads.
pub(super) fn unreadable(world: &World, node: &Node) -> Option<Unreadable> {
    if node.member.removed {
        return Some(Unreadable::Removed);
    }
    if node.member.disabled {
        return Some(Unreadable::Disabled);
    }
    let Some(facts) = node.facts() else {
        return Some(match node.last.map(|last| last.reach) {
            Some(ReachKind::Starting | ReachKind::ShuttingDown) => Unreadable::Starting,
            _ => Unreadable::Down,
        });
    };
    if world.system_id().is_some_and(|cluster| cluster != facts.system_id) {
        return Some(Unreadable::OtherCluster);
    }
    if world.primary() == Some(node.id) {
        return if facts.in_recovery { Some(Unreadable::NotStreaming) } else { None };
    }
    if !facts.in_recovery || matches!(node.standing, Standing::Quarantined | Standing::Foreign) {
        return Some(Unreadable::Quarantined);
    }
    if !follows(world, node, facts) {
        return Some(Unreadable::NotStreaming);
    }
    if matches!(node.standing, Standing::Vetting | Standing::Rejoining) {
        return Some(Unreadable::Quarantined);
    }
    let (bytes, time) = lag(world, node);
    let late = world.settings.lag_bytes_max.is_some_and(|max| bytes > max)
        || world.settings.lag_max.is_some_and(|max| time > max);
    late.then_some(Unreadable::Lagging)
}

/// Whether what this standby shows is this epoch's data.
fn follows(world: &World, node: &Node, facts: &Facts) -> bool {
    let Some(record) = world.record.as_ref() else { return false };
    if !world.holds(RuleId::V1b) {
        return true;
    }
    if facts.timeline != record.timeline {
        return false;
    }
    if world.service != Service::Open {
        // After a restart nobody has been vetted yet; who is on the timeline and was never displaced has not diverged.
        return node.standing == Standing::Member || !record.displaced.contains(&node.id);
    }
    streams_from(world, facts, record.primary, world.nodes.len())
}

/// Whether this standby streams from `primary`, directly or through other standbys that do.
fn streams_from(world: &World, facts: &Facts, primary: NodeId, hops: usize) -> bool {
    let Some(receiver) = facts.receiver.as_ref().filter(|receiver| receiver.streaming) else { return false };
    match receiver.upstream {
        // An address that is not configured: another name of the primary. Its timeline was compared already.
        None => true,
        Some(upstream) if upstream == primary => true,
        Some(upstream) => {
            let next = world.node(upstream).and_then(Node::facts);
            hops > 0 && next.is_some_and(|next| streams_from(world, next, primary, hops - 1))
        }
    }
}

/// Bytes and time behind the primary. A node that does not answer is where it was when it did, and the primary goes on.
pub(super) fn lag(world: &World, node: &Node) -> (u64, Duration) {
    if world.primary() == Some(node.id) {
        return (0, Duration::ZERO);
    }
    let Some(seen) = node.seen.as_ref() else { return (0, Duration::ZERO) };
    let primary = world.primary().and_then(|id| world.node(id)).and_then(|node| node.seen.as_ref());
    let bytes = primary.map_or(0, |primary| primary.facts.applied().bytes_since(seen.facts.applied()));
    let (asked, answered) = match primary {
        Some(primary) if node.facts().is_none() => (primary.answered, primary.answered),
        _ => (seen.sent, seen.answered),
    };
    let since = world.trail.behind_since(seen.facts.applied(), asked);
    (bytes, since.map_or(Duration::ZERO, |since: Instant| answered.saturating_duration_since(since)))
}
