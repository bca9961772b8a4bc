//! Nodes that claim to be a primary and are not the recorded one: believed, or put into quarantine (rules 8 and 9).

use super::evidence::is_recorded;
use super::nodes::Node;
use super::rule::RuleId;
use super::world::World;
use crate::model::NodeId;

/// A node that others have promoted and that is to be the primary from now on.
///
/// Its newer timeline proves the promotion. It is not believed while the recorded primary still has its quorum of
/// followers: then somebody promoted a node that nobody follows, and adopting it would lose what is acknowledged
/// meanwhile. Nor is one believed that an abandoned attempt of ours may have promoted.
pub(super) fn adoptable(world: &World) -> Option<(NodeId, RuleId)> {
    let record = world.record.as_ref()?;
    if world.holds(RuleId::R9b) && primary_has_its_quorum(world) {
        return None;
    }
    let newer = |node: &&Node| {
        // The recorded primary itself among them: it may have crashed into a standby and been promoted again.
        !record.displaced.contains(&node.id)
            && !node.member.removed
            && node.primary(record.system_id).is_some_and(|facts| facts.timeline > record.timeline)
    };
    let newest = world.nodes.iter().filter(newer).max_by_key(|node| node.timeline())?;
    Some((newest.id, RuleId::R9a))
}

/// Whether the recorded primary answers as such and enough standbys still stream from it.
pub(super) fn primary_has_its_quorum(world: &World) -> bool {
    let Some(record) = world.record.as_ref() else { return false };
    let Some(facts) = world.node(record.primary).and_then(Node::facts) else { return false };
    let named = |name: &str| world.nodes.iter().any(|node| node.member.name.eq_ignore_ascii_case(name));
    let streaming = facts.senders.iter().filter(|sender| sender.streaming && named(&sender.name)).count();
    is_recorded(world, facts) && streaming >= record.cohort.standbys.max(1)
}
