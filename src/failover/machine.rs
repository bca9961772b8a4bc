//! The core itself: one input at a time goes in, effects come out.

use std::time::{Duration, Instant};

use super::attempt::cohorts;
use super::care;
use super::command;
use super::discover::Discovering;
use super::effect::{Action, Effect, EffectId};
use super::input::{Input, Outcome};
use super::journal::Record;
use super::observation::Observation;
use super::quorum::recruits_needed;
use super::rule::RuleId;
use super::settings::{Durability, Member, Settings};
use super::state::{Event, State};
use super::status::{Phase, Status};
use super::view;
use super::world::World;
use crate::model::{Epoch, NodeId, Snapshot};

/// State changes within one step; more would be a loop of ours, which must not become the shell's.
const TURNS_MAX: usize = 16;

/// The least time between two calls that `deadline` asks for, for the same reason.
const TICK_MIN: Duration = Duration::from_millis(1);

/// At first the suspicion is as a rule a crash: within milliseconds the replicas have lost their receivers, and each of
/// those milliseconds all clients wait. Later on nothing is gained by asking that often.
const HASTE: Duration = Duration::from_millis(100);
const HASTE_INTERVAL: Duration = Duration::from_millis(2);

/// The decision core of one cluster.
#[derive(Clone, Debug)]
pub struct Core {
    world: World,
    /// Taken out only while a step runs.
    state: Option<State>,
    now: Instant,
}

impl Core {
    /// A core that knows nothing yet but what an earlier run wrote down. Call `step` with `Input::Tick` at once.
    pub fn new(settings: Settings, nodes: Vec<Member>, restored: Option<Record>, now: Instant) -> Self {
        let world = World::new(settings, nodes, restored);
        let state = Some(Discovering::begin(&world, now));
        Self { world, state, now }
    }

    /// Takes one input in; returns what has to be done now. Inputs may come in any order; `now` must not go back.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        let now = now.max(self.now);
        self.now = now;
        match input {
            Input::Observation(observation) => self.observe(now, observation),
            Input::EffectDone { id, epoch, outcome } => self.done(now, id, epoch, outcome),
            Input::DataPathSuspect(node) => self.world.tell(RuleId::R1i, Action::Probe(node)),
            Input::Command { id, command } => {
                if let Some(state) = self.state.take() {
                    self.state = Some(command::obey(state, &mut self.world, now, id, &command));
                }
            }
            Input::Tick => {}
        }
        self.expire(now);
        self.turn(now, &Event::Look);
        self.world.forget_removed();
        self.publish(now);
        self.world.take_effects()
    }

    /// When `step` wants to be called with `Input::Tick` if nothing else comes before; `None`: not at all.
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.state.as_ref().and_then(|state| state.deadline(&self.world, self.now));
        let next = [state, self.world.next_overdue(), self.world.save_again].into_iter().flatten().min()?;
        Some(next.max(self.now + TICK_MIN))
    }

    /// How often every node should be probed now.
    pub fn probe_interval(&self) -> Duration {
        match self.state {
            Some(State::Steady(_) | State::Discovering(_) | State::Recording(_)) | None => {
                self.world.settings.probe_interval
            }
            Some(State::ReadOnly(_)) => self.world.settings.probe_interval / 2,
            Some(State::Suspect(ref suspect)) if self.now < suspect.since() + HASTE => {
                self.world.settings.probe_interval_suspect.min(HASTE_INTERVAL)
            }
            _ => self.world.settings.probe_interval_suspect,
        }
    }

    /// The topology as it was last published, or as it is seen before the first `step`.
    pub fn snapshot(&self) -> Snapshot {
        match &self.world.published {
            Some((_, snapshot)) => snapshot.clone(),
            None => view::snapshot(&self.world, 0),
        }
    }

    /// What is durable, or about to be; `None` until a primary was found.
    pub fn record(&self) -> Option<&Record> {
        self.world.record.as_ref()
    }

    /// Whether this node has to be probed: one that is not configured any more has, as long as its acknowledgements count.
    pub fn hears(&self, node: NodeId) -> bool {
        self.world.hears(node)
    }

    /// How often each rule has decided something.
    pub fn rule_counts(&self) -> impl Iterator<Item = (RuleId, u64)> + '_ {
        self.world.ruled.iter().map(|(rule, count)| (*rule, *count))
    }

    /// The core for people.
    pub fn status(&self) -> Status {
        let world = &self.world;
        let phase = self.state.as_ref().map_or(Phase::Discovering, |state| state.phase(world));
        let (rule, reason) = self.state.as_ref().map_or((RuleId::D1e, String::new()), State::reason);
        let needed = match world.settings.durability {
            Durability::Async => 1,
            Durability::Quorum { .. } => cohorts(world).map(recruits_needed).max().unwrap_or(0),
        };
        Status {
            phase,
            rule,
            reason,
            service: world.service,
            epoch: world.epoch(),
            primary: world.primary(),
            automatic: !world.paused,
            cohort: world.record.as_ref().map(|record| record.cohort.clone()),
            recruits_needed: needed,
            standings: world.nodes.iter().map(|node| node.standing).collect(),
            alarms: world.alarms.clone(),
        }
    }

    fn observe(&mut self, now: Instant, observation: Observation) {
        let world = &mut self.world;
        let (id, answered) = (observation.node, observation.answered);
        if !world.hears(id) {
            return;
        }
        let before = world.node(id).and_then(|node| node.seen.as_ref()).map(|seen| seen.facts.position());
        if !world.node_mut(id).is_some_and(|node| node.observe(observation)) {
            return;
        }
        let is_primary = world.primary() == Some(id);
        if let Some(facts) = world.node(id).and_then(|node| node.facts()) {
            let (position, applied, in_recovery) = (facts.position(), facts.applied(), facts.in_recovery);
            if is_primary && !in_recovery {
                world.trail.add(answered, applied);
            }
            if in_recovery && before.is_some_and(|before| position > before) {
                world.progress_at = Some(answered);
            }
        }
        self.turn(now, &Event::Look);
    }

    fn done(&mut self, now: Instant, id: EffectId, epoch: Epoch, outcome: Outcome) {
        if let Some(pending) = self.world.settle(id, epoch) {
            self.ended(now, id, &pending.action, outcome);
        }
    }

    /// Effects without an answer by their deadline have failed.
    fn expire(&mut self, now: Instant) {
        while let Some((id, pending)) = self.world.overdue(now) {
            self.world.decided(RuleId::R7e);
            let outcome = Outcome::Failed(format!("no answer from {} in time", pending.action.as_str()));
            self.ended(now, id, &pending.action, outcome);
        }
        if self.world.save_again.is_some_and(|at| at <= now) {
            self.world.save(now, RuleId::R7e);
        }
    }

    fn ended(&mut self, now: Instant, id: EffectId, action: &Action, outcome: Outcome) {
        self.world.saved(now, id, &outcome);
        if let (Action::Unfence(node), Outcome::Done) = (action, &outcome)
            && let Some(node) = self.world.node_mut(*node)
        {
            node.fenced = false;
            let id = node.id;
            if let Some(record) = self.world.record.as_mut() {
                record.fenced.retain(|fenced| *fenced != id);
            }
        }
        care::settled(&mut self.world, now, id, (action, &outcome));
        self.turn(now, &Event::Done { id, outcome });
    }

    /// Hands the event to the state, then lets new states look around until nothing changes any more.
    fn turn(&mut self, now: Instant, event: &Event) {
        let mut event = event.clone();
        for _ in 0..TURNS_MAX {
            let Some(state) = self.state.take() else { return };
            let before = state.phase(&self.world);
            let after = state.on(&mut self.world, now, &event);
            let settled = after.phase(&self.world) == before;
            self.state = Some(after);
            if settled {
                return;
            }
            event = Event::Look;
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

#[cfg(test)]
mod tests;
