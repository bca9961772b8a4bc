//! Settings of the nodes that the core keeps as they have to be: whose acknowledgements count (`cohort` says what), how soon
//! silence is noticed, and the standby signal that makes a crashed primary come back as a standby.

use std::time::Instant;

use super::cohort;
use super::effect::{Action, EffectId};
use super::input::Outcome;
use super::nodes::FENCE_MARK;
use super::rule::RuleId;
use super::settings::node_ids;
use super::status::{Alarm, Standing};
use super::world::{Order, World};
use crate::model::NodeId;

/// A failed setting is tried again after this many `retry_after`: it will hardly work by itself.
const RETRIES_APART: u32 = 12;

/// A setting that was made so often and is still not in force is overridden by somebody.
const FRUITLESS_MAX: u32 = 3;

/// From then on it is made again after `RETRIES_APART` times `retry_after`, and each time twice as late, so often.
const DOUBLINGS_MAX: u32 = 4;

/// What is being set on one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Upkeep {
    job: Option<EffectId>,
    pub(super) retry_at: Option<Instant>,
    hopeless: bool,
    armed: bool,
    /// The setting that was made last and has not been seen in force, and how often in a row it was made.
    made: Option<(Action, u32)>,
}

/// Keeps the settings of every node.
pub(super) fn tend(world: &mut World, now: Instant) {
    cohort::watch(world, now);
    for id in node_ids(world.nodes.len()) {
        tend_node(world, now, id);
    }
}

/// Keeps the settings of the primary: before its epoch is opened, while the others have more urgent things done to them.
pub(super) fn tend_primary(world: &mut World, now: Instant) {
    cohort::watch(world, now);
    if let Some(primary) = world.primary() {
        tend_node(world, now, primary);
    }
}

fn tend_node(world: &mut World, now: Instant, id: NodeId) {
    note_effect(world, id);
    let Some(node) = world.node_mut(id) else { return };
    if node.member.removed {
        return;
    }
    let upkeep = &mut node.care.upkeep;
    if upkeep.retry_at.is_some_and(|at| at <= now) {
        upkeep.retry_at = None;
    }
    if upkeep.job.is_some() || upkeep.retry_at.is_some() || upkeep.hopeless {
        return;
    }
    if let Some(order) = next_order(world, now, id) {
        let epoch = world.epoch();
        let job = world.ask(now, epoch, order);
        if let Some(node) = world.node_mut(id) {
            node.care.upkeep.job = Some(job);
        }
    }
}

/// Forgets a setting that is seen in force.
fn note_effect(world: &mut World, id: NodeId) {
    let Some(node) = world.node(id) else { return };
    let (Some((made, _)), Some(facts)) = (&node.care.upkeep.made, node.facts()) else { return };
    let in_force = match made {
        Action::SetSyncNames { text, .. } => facts.sync_names == *text,
        Action::SetReceiverTimeout { timeout, .. } => facts.receiver_timeout == *timeout,
        _ => true,
    };
    if in_force {
        if let Some(node) = world.node_mut(id) {
            node.care.upkeep.made = None;
        }
        world.clear_alarms(|alarm| matches!(alarm, Alarm::SettingOverridden { node, .. } if *node == id));
    }
}

fn next_order(world: &mut World, now: Instant, id: NodeId) -> Option<Order> {
    let node = world.node(id)?;
    let facts = node.facts()?;
    let is_primary = world.primary() == Some(id);
    if world.system_id() != Some(facts.system_id) || (!is_primary && !facts.in_recovery) {
        return None;
    }
    let limit = world.settings.effect_timeout;
    if let Some(timeout) = world.settings.receiver_timeout.filter(|wanted| *wanted != facts.receiver_timeout)
    {
        return Some(Order::new(RuleId::Q1c, limit, Action::SetReceiverTimeout { node: id, timeout }));
    }
    let trusted = is_primary || node.standing == Standing::Member;
    let marked = facts.sync_names.contains(FENCE_MARK);
    if facts.read_only && trusted && (node.fenced || marked) {
        return Some(Order::new(RuleId::R8b, limit, Action::Unfence(id)));
    }
    if marked && !trusted {
        return None;
    }
    let armed = node.care.upkeep.armed || !world.settings.arm_standby_signal || !is_primary;
    if let Some(order) = cohort::sync_names(world, now, id) {
        return Some(order);
    }
    (!armed).then(|| Order::new(RuleId::R8e, limit, Action::ArmStandbySignal(id)))
}

/// Takes note of the end of a setting.
pub(super) fn settled(world: &mut World, now: Instant, id: EffectId, ended: (&Action, &Outcome)) {
    let (action, outcome) = ended;
    let soon = now + world.settings.probe_interval * 2;
    // As long as it is fenced the primary takes no writes: that is tried again and again.
    let urgent = matches!(action, Action::Unfence(_));
    let apart = world.settings.retry_after * RETRIES_APART;
    let later = if urgent { soon } else { now + apart };
    let Some(node) = world.nodes.iter_mut().find(|node| node.care.upkeep.job == Some(id)) else { return };
    let (at, what) = (node.id, action.as_str());
    let upkeep = &mut node.care.upkeep;
    upkeep.job = None;
    match outcome {
        Outcome::Done => {
            upkeep.armed |= matches!(action, Action::ArmStandbySignal(_));
            let times = upkeep.made_again(action);
            // The next probe shows the new value; until then it is not set again. Where it never shows, somebody else's
            // value counts, and making it twice a second would only wear that server's files out.
            upkeep.retry_at = match times.checked_sub(FRUITLESS_MAX) {
                None => Some(soon),
                Some(more) => Some(now + apart * 2_u32.pow(more.min(DOUBLINGS_MAX))),
            };
            world.clear_alarms(|alarm| {
                matches!(alarm, Alarm::SettingFailed { node, what: failed, .. } if (*node, *failed) == (at, what))
            });
            if times >= FRUITLESS_MAX {
                world.raise(RuleId::Q1d, Alarm::SettingOverridden { node: at, what });
            }
        }
        failed => {
            if matches!(failed, Outcome::Unsupported(_)) {
                upkeep.hopeless = true;
            } else {
                upkeep.retry_at = Some(later);
            }
            let alarm = Alarm::SettingFailed { node: at, what, why: failed.words().to_owned() };
            world.raise(RuleId::Q1a, alarm);
        }
    }
}

impl Upkeep {
    /// A setting was made; how often in a row.
    fn made_again(&mut self, action: &Action) -> u32 {
        if !matches!(action, Action::SetSyncNames { .. } | Action::SetReceiverTimeout { .. }) {
            return 0;
        }
        let times = match &self.made {
            Some((before, times)) if before == action => times.saturating_add(1),
            _ => 1,
        };
        self.made = Some((action.clone(), times));
        times
    }
}
