//! Servers that crashed and are needed: a replica, and the primary when no other can be promoted. They are started as they
//! are, where somebody can (the demo, an agent); one that was stopped in order is left alone.
//!
//! A displaced primary is none of these: started as it is it would be a second primary, so it is rejoined instead.

use std::time::{Duration, Instant};

use super::care;
use super::effect::Action;
use super::nodes::{Node, ReachKind};
use super::rule::RuleId;
use super::settings::node_ids;
use super::twins;
use super::world::{Order, World};
use crate::model::NodeId;

/// Whoever is in charge of the server may start it himself, or have restarted it just now.
const PATIENCE: Duration = Duration::from_secs(2);

/// There is no primary to be had: any server that comes back helps, the old primary most of all.
pub(super) fn all(world: &mut World, now: Instant) {
    for id in node_ids(world.nodes.len()) {
        if let Some(node) = world.node_mut(id)
            && node.care.retry_at.is_some_and(|at| at <= now)
        {
            node.care.retry_at = None;
        }
        one(world, now, id);
    }
}

/// Starts this server, if it crashed and is nobody's to bring back otherwise.
pub(super) fn one(world: &mut World, now: Instant, id: NodeId) {
    let Some(record) = &world.record else { return };
    let displaced = record.displaced.contains(&id);
    // One that died while it was promoted may be a primary by now; whoever starts it looks at its files first.
    let twin = twins::first(record, id).filter(|_| world.holds(RuleId::R8g));
    let Some(node) = world.node(id) else { return };
    let free = node.care.job.is_none() && node.care.retry_at.is_none() && !node.care.unstartable;
    if displaced || !free || !stays_down(node, now) || !world.holds(RuleId::R8h) {
        return;
    }
    let limit = world.settings.rejoin_timeout;
    care::set_job(world, now, id, Order::new(RuleId::R8h, limit, Action::Start { node: id, twin }));
}

/// It runs: whoever stopped it has changed his mind.
pub(super) fn runs(world: &mut World, id: NodeId) {
    if let Some(node) = world.node_mut(id) {
        node.care.unstartable = false;
    }
}

fn stays_down(node: &Node, now: Instant) -> bool {
    let down = matches!(node.last.map(|last| last.reach), Some(ReachKind::Refused | ReachKind::Reset));
    down && node.failing_since.is_some_and(|since| now >= since + PATIENCE)
}
