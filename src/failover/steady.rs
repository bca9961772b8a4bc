//! Steady: there is a primary and it answers. Nodes are looked after, claims are watched.

use std::time::Instant;

use super::care;
use super::claims;
use super::establish::Establishing;
use super::evidence::is_failure;
use super::journal::Record;
use super::nodes::ReachKind;
use super::record::Recording;
use super::rule::RuleId;
use super::state::State;
use super::status::Alarm;
use super::suspect::{Suspect, warn};
use super::world::World;
use crate::model::Service;

/// Awaits trouble.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    rule: RuleId,
}

impl Steady {
    /// Writes go out (again).
    pub(super) fn resume(world: &mut World, now: Instant, rule: RuleId) -> State {
        if world.record.as_ref().is_some_and(|record| record.term_row == Record::NO_TERM_ROW) {
            return Establishing::again(world, now);
        }
        if matches!(rule, RuleId::D1a | RuleId::D1b | RuleId::D1c) {
            care::note_cascades(world);
        }
        world.service = Service::Open;
        world.clear_alarms(|alarm| {
            matches!(
                alarm,
                Alarm::UnreachablePrimary { .. } | Alarm::FailoverRefused(_) | Alarm::AttemptAbandoned { .. }
            )
        });
        care::refresh(world, now);
        State::Steady(Self { rule })
    }

    pub(super) fn on(self, world: &mut World, now: Instant) -> State {
        let Some(primary) = world.primary().and_then(|id| world.node(id)) else { return State::Steady(self) };
        let reach = primary.last.map(|last| last.reach);
        if is_failure(world, primary) {
            return Suspect::begin(world, now, RuleId::R1h);
        }
        if matches!(reach, Some(ReachKind::AuthFailed | ReachKind::Other)) {
            warn(world, RuleId::R1j);
        } else {
            world.clear_alarms(|alarm| matches!(alarm, Alarm::PrimaryRefusesUs { .. }));
        }
        if let Some((node, rule)) = claims::adoptable(world) {
            return Recording::begin(world, now, node, rule);
        }
        care::tend(world, now);
        State::Steady(self)
    }

    pub(super) fn rule(self) -> RuleId {
        self.rule
    }
}
