//! Nodes that may have another history under the number of a timeline that ours contains too: whoever was told to promote and
//! was given up may have made that timeline on its own, and nothing that it says can tell the two apart. The files of a
//! server that is down can: nothing is written on a timeline before it has a segment of its own.

use std::time::Instant;

use super::care;
use super::journal::Record;
use super::observation::Facts;
use super::rule::RuleId;
use super::status::Standing;
use super::world::World;
use crate::model::{NodeId, Timeline};

/// Whether this node may have a history of its own under the number of the primary's timeline: it was told to promote, and
/// is on that timeline although nobody has turned it to the primary in this epoch.
pub(super) fn is_one(world: &World, record: &Record, id: NodeId, facts: &Facts) -> bool {
    let turned = world.node(id).is_some_and(|node| node.care.turned || node.care.own_name);
    let same = timeline(record, id) == Some(facts.timeline) && (!turned || !facts.in_recovery);
    same && world.holds(RuleId::R8g)
}

/// The number that this node may have used on its own, and that our history contains too.
pub(super) fn timeline(record: &Record, id: NodeId) -> Option<Timeline> {
    let twins = record.twins.iter().filter(|twin| twin.node == id && twin.timeline <= record.timeline);
    twins.map(|twin| twin.timeline).max()
}

/// The earliest timeline that this node may have made on its own.
pub(super) fn first(record: &Record, id: NodeId) -> Option<Timeline> {
    record.twins.iter().filter(|twin| twin.node == id).map(|twin| twin.timeline).min()
}

/// Its files have shown that it was never promoted, or it is a new copy: it follows our history.
pub(super) fn disproved(world: &mut World, now: Instant, id: NodeId) {
    if let Some(record) = world.record.as_mut() {
        record.twins.retain(|twin| twin.node != id);
        world.save(now, RuleId::R8g);
    }
}

/// It is left alone until a person has cloned it anew.
pub(super) fn forbid(world: &mut World, id: NodeId) {
    care::stand(world, id, Standing::Quarantined);
    world.decided(RuleId::R8g);
    care::needs_person(
        world,
        id,
        "it may have another history under the number of the timeline: clone it anew".into(),
    );
}
