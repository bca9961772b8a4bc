//! The core itself: one input at a time goes in, effects come out.

use std::time::{Duration, Instant};

use super::effect::{Action, Effect};
use super::input::Input;
use super::journal::Record;
use super::rule::RuleId;
use super::settings::{Member, Settings};
use super::status::{Phase, Status};
use super::view;
use super::world::World;
use crate::model::Snapshot;

/// The decision core of one cluster.
#[derive(Clone, Debug)]
pub struct Core {
    world: World,
}

impl Core {
    /// A core that knows nothing yet but what an earlier run wrote down. Call `step` with `Input::Tick` at once.
    pub fn new(settings: Settings, nodes: Vec<Member>, restored: Option<Record>, now: Instant) -> Self {
        let _ = now;
        Self { world: World::new(settings, nodes, restored) }
    }

    /// Takes one input in; returns what has to be done now. Inputs may come in any order; `now` must not go back.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        if let Input::Observation(observation) = input
            && let Some(node) = self.world.node_mut(observation.node)
        {
            node.observe(observation);
        }
        self.publish(now);
        self.world.take_effects()
    }

    /// When `step` wants to be called with `Input::Tick` if nothing else comes before; `None`: not at all.
    pub fn deadline(&self) -> Option<Instant> {
        self.world.next_overdue()
    }

    /// How often every node should be probed now.
    pub fn probe_interval(&self) -> Duration {
        self.world.settings.probe_interval
    }

    /// The topology as it was last published, or as it is seen before the first `step`.
    pub fn snapshot(&self) -> Snapshot {
        match &self.world.published {
            Some((_, snapshot)) => snapshot.clone(),
            None => view::snapshot(&self.world, 0),
        }
    }

    /// How often each rule has decided something.
    pub fn rule_counts(&self) -> impl Iterator<Item = (RuleId, u64)> + '_ {
        self.world.ruled.iter().map(|(rule, count)| (*rule, *count))
    }

    /// The core for people.
    pub fn status(&self) -> Status {
        Status {
            phase: Phase::Discovering,
            rule: RuleId::D1e,
            reason: String::new(),
            service: self.world.service,
            epoch: self.world.epoch(),
            primary: self.world.primary(),
            automatic: !self.world.paused,
            cohort: self.world.record.as_ref().map(|record| record.cohort.clone()),
            recruits_needed: 0,
            standings: self.world.nodes.iter().map(|node| node.standing).collect(),
            alarms: self.world.alarms.clone(),
        }
    }

    fn publish(&mut self, now: Instant) {
        let world = &mut self.world;
        let version = world.published.as_ref().map_or(0, |(_, old)| old.version) + 1;
        let new = view::snapshot(world, version);
        let due = match &world.published {
            None => true,
            Some((at, old)) => {
                view::differs(old, &new)
                    || (now.saturating_duration_since(*at) >= world.settings.publish_interval
                        && old.nodes != new.nodes)
            }
        };
        if due {
            world.published = Some((now, new.clone()));
            world.tell(RuleId::V1a, Action::Publish(new));
        }
    }
}
