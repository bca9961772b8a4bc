//! Recruiting: the standbys' receivers are stopped and seen gone, so that the old primary can get no acknowledgement any
//! more and the positions that are compared afterwards cannot grow (rules 3 and 4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::attempt::{Attempt, GivenUp, give_up, holder, overtaken, recruitable};
use super::candidate::{NoCandidate, Runner, Wish, choose};
use super::effect::{Action, EffectId};
use super::history::{Cause, Step};
use super::input::{Outcome, Recruit};
use super::journal::Record;
use super::nodes::Node;
use super::resolve::Resolving;
use super::rule::RuleId;
use super::settings::Durability;
use super::state::{Event, State};
use super::status::Refusal;
use super::world::{Order, World};
use crate::model::NodeId;

/// Awaits the end of the receivers.
#[derive(Clone, Debug)]
pub(super) struct Recruiting {
    attempt: Attempt,
    since: Instant,
    stopping: BTreeMap<NodeId, Stopping>,
    /// Those who answered in this round.
    answered: BTreeSet<NodeId>,
    /// Failed ones, and when they may be tried again.
    failed: BTreeMap<NodeId, Instant>,
    /// Since when those who are recruited are enough.
    enough_since: Option<Instant>,
}

/// One receiver that is being stopped.
#[derive(Clone, Copy, Debug)]
struct Stopping {
    id: EffectId,
    /// When its node's conflicting sessions are ended.
    nudge_at: Instant,
}

impl Recruiting {
    pub(super) fn begin(world: &mut World, now: Instant, attempt: Attempt) -> State {
        let (stopping, failed, answered) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { attempt, since: now, stopping, failed, answered, enough_since: None }.advance(world, now)
    }

    pub(super) fn on(mut self, world: &mut World, now: Instant, event: &Event) -> State {
        if let Some(adopted) = overtaken(world, now, &self.attempt) {
            return adopted;
        }
        if self.attempt.came_back(world) {
            let why = Refusal::Check("the primary is back".into());
            return give_up(world, now, self.attempt, GivenUp { rule: RuleId::R10e, why });
        }
        if let Event::Done { id, outcome } = event {
            self.settled(world, now, *id, outcome);
        }
        self.advance(world, now)
    }

    fn settled(&mut self, world: &mut World, now: Instant, id: EffectId, outcome: &Outcome) {
        let Some(node) = self.stopping.iter().find(|(_, stopping)| stopping.id == id).map(|(node, _)| *node)
        else {
            return;
        };
        self.stopping.remove(&node);
        if let Outcome::Recruited(recruit) = outcome {
            self.attempt.recruits.insert(node, *recruit);
            self.attempt.turned.remove(&node);
            self.attempt.strays.remove(&node);
            self.answered.insert(node);
        } else {
            self.failed.insert(node, now + world.settings.conflict_after);
        }
    }

    fn advance(mut self, world: &mut World, now: Instant) -> State {
        self.recruit(world, now);
        self.nudge(world, now);
        let recruited: Vec<NodeId> = self.attempt.recruits.keys().copied().collect();
        match self.attempt.suffices(world, &recruited) {
            Ok(rule) => {
                let since = *self.enough_since.get_or_insert(now);
                if self.stopping.is_empty() || now >= since + self.linger(world) {
                    world.decided(rule);
                    return self.choose(world, now);
                }
            }
            Err(why) if now >= self.since + world.settings.recruit_timeout => {
                return give_up(world, now, self.attempt, GivenUp { rule: RuleId::R3d, why });
            }
            Err(_) => {}
        }
        State::Recruiting(self)
    }

    /// Stops the receivers of all standbys that can be reached and are not being stopped.
    fn recruit(&mut self, world: &mut World, now: Instant) {
        for node in recruitable(world) {
            let waits = self.failed.get(&node).is_some_and(|retry| now < *retry);
            if waits || self.stopping.contains_key(&node) || self.answered.contains(&node) {
                continue;
            }
            self.failed.remove(&node);
            // An answer to an earlier attempt may be outdated: behind a half promoted node its timeline may have moved on.
            // Only who cannot be asked again keeps it.
            self.attempt.recruits.remove(&node);
            self.attempt.touched.insert(node);
            if !world.holds(RuleId::R3a) {
                self.take_on_trust(world, node);
                continue;
            }
            let left = (self.since + world.settings.recruit_timeout).saturating_duration_since(now);
            if world.node(node).is_some_and(|node| node.member.removed) {
                world.decided(RuleId::Q1g);
            }
            let order = Order::new(RuleId::R3a, left, Action::StopReceiver(node));
            let id = self.attempt.ask(world, now, order);
            self.stopping.insert(node, Stopping { id, nudge_at: now + world.settings.conflict_after });
        }
    }

    /// What a core would do that believes a reload to be a fence; only a test comes here.
    fn take_on_trust(&mut self, world: &World, node: NodeId) {
        let Some(facts) = world.node(node).and_then(Node::facts) else { return };
        let (received, replayed, timeline) = (facts.position(), facts.applied(), facts.timeline);
        self.attempt.recruits.insert(node, Recruit { received, replayed, timeline });
        self.answered.insert(node);
    }

    /// Helps receivers that do not stop.
    fn nudge(&mut self, world: &mut World, now: Instant) {
        let limit = world.settings.effect_timeout;
        let again = world.settings.conflict_after * 5;
        for (node, stopping) in &mut self.stopping {
            if now >= stopping.nudge_at {
                stopping.nudge_at = now + again;
                for action in [Action::TerminateConflicts(*node), Action::ResumeReplay(*node)] {
                    world.ask(now, self.attempt.epoch, Order::new(RuleId::R3c, limit, action));
                }
            }
        }
    }

    /// How long those who still stop are waited for. Where one recruit is enough, more may hold more.
    fn linger(&self, world: &World) -> std::time::Duration {
        let lossy = self.attempt.wish.allow_data_loss || world.settings.durability == Durability::Async;
        if lossy { world.settings.recruit_linger * 10 } else { world.settings.recruit_linger }
    }

    fn choose(mut self, world: &mut World, now: Instant) -> State {
        let compared = self.compared(world);
        let recruits = self.attempt.recruits.iter().filter(|(node, _)| compared.contains(node));
        let runners: Vec<Runner> =
            recruits.map(|(node, recruit)| self.runner(world, *node, *recruit)).collect();
        let chosen = if world.holds(RuleId::R4a) {
            choose(&runners, self.wish(world))
        } else {
            runners.iter().find(|runner| runner.up).map(|runner| runner.node).ok_or(NoCandidate::Nobody)
        };
        let short = |node: &NodeId| {
            let received = self.attempt.recruits.get(node).map(|recruit| recruit.received);
            self.attempt.cause == Cause::Switchover && received < Some(self.attempt.floor)
        };
        match chosen {
            Ok(node) if self.misses_the_epoch(world, node) => {
                let name = world.node(node).map_or("?", |node| &node.member.name);
                let why = Refusal::NoCandidate { why: format!("{name} has nothing of the present epoch") };
                give_up(world, now, self.attempt, GivenUp { rule: RuleId::R4c, why })
            }
            Ok(node) if short(&node) => {
                let why = Refusal::Check("the target lost its lead".into());
                give_up(world, now, self.attempt, GivenUp { rule: RuleId::S1e, why })
            }
            Ok(node) => {
                self.attempt.mark(Step::Recruited, now);
                Resolving::begin(world, now, self.attempt, node)
            }
            // Somebody else who is still stopping, or returns, may do.
            Err(_) if now < self.since + world.settings.recruit_timeout => State::Recruiting(self),
            Err(why) => {
                let why = Refusal::NoCandidate { why: why.words(world) };
                give_up(world, now, self.attempt, GivenUp { rule: RuleId::R4a, why })
            }
        }
    }

    /// The recruits whose positions matter. What a node that is not configured any more has beyond the others was acknowledged
    /// to nobody where they are enough without it.
    fn compared(&self, world: &World) -> Vec<NodeId> {
        let all: Vec<NodeId> = self.attempt.recruits.keys().copied().collect();
        let removed = |node: &NodeId| world.node(*node).is_some_and(|node| node.member.removed);
        let ours: Vec<NodeId> = all.iter().copied().filter(|node| !removed(node)).collect();
        if self.attempt.suffices(world, &ours).is_ok() { ours } else { all }
    }

    /// What is wished for. Where only the recorded primary makes the recruits enough, it is the candidate, even if it has not
    /// replayed yet what it has, and seems to be behind.
    fn wish(&self, world: &World) -> Wish {
        let recruits: Vec<NodeId> = self.attempt.recruits.keys().copied().collect();
        let holder = holder(world, &recruits).filter(|_| self.attempt.promoted.is_empty());
        let Some(holder) = holder else { return self.attempt.wish };
        let others: Vec<NodeId> = recruits.into_iter().filter(|node| *node != holder).collect();
        if self.attempt.suffices(world, &others).is_ok() {
            return self.attempt.wish;
        }
        Wish { target: Some(holder), allow_data_loss: true }
    }

    /// Whether this node has not even heard of the timeline that is to be replaced: everything since its beginning would be
    /// lost, and the new timeline would bear the same number. Only a person decides that.
    fn misses_the_epoch(&self, world: &World, node: NodeId) -> bool {
        let known = self.attempt.recruits.get(&node).map(|recruit| recruit.timeline);
        let opened = world.record.as_ref().filter(|record| record.term_row != Record::NO_TERM_ROW);
        !self.attempt.wish.allow_data_loss && opened.is_some_and(|record| known < Some(record.timeline))
    }

    fn runner(&self, world: &World, node: NodeId, recruit: Recruit) -> Runner {
        let known = world.node(node);
        let member = known.map(|node| &node.member);
        let priority = member.filter(|member| !member.disabled).map_or(0, |member| member.priority);
        let wished = self.attempt.wish.target == Some(node);
        let standby = known.and_then(|node| world.system_id().and_then(|cluster| node.standby(cluster)));
        let ours = member.is_some_and(|member| !member.removed);
        let up = standby.is_some() && ours && !self.attempt.excluded.contains(&node);
        // A person may name a node that is never promoted automatically.
        Runner { node, recruit, priority: if wished { priority.max(1) } else { priority }, up }
    }

    pub(super) fn deadline(&self, world: &World) -> Option<Instant> {
        let nudges = self.stopping.values().map(|stopping| stopping.nudge_at);
        let enough = self.enough_since.map(|since| since + self.linger(world));
        let all = nudges.chain(self.failed.values().copied()).chain(enough);
        all.chain([self.since + world.settings.recruit_timeout]).min()
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.attempt
    }
}

impl NoCandidate {
    fn words(self, world: &World) -> String {
        let name = |node: NodeId| world.node(node).map_or("?", |node| &node.member.name).to_owned();
        match self {
            Self::Nobody => "no recruited node answers and may be promoted".into(),
            Self::Ahead(node) => format!("{} has more than every node that could be promoted", name(node)),
            Self::TargetBehind(node) => format!("{} has more than the node asked for", name(node)),
            Self::TargetUnfit => "the node asked for is not recruited, does not answer or has failed".into(),
        }
    }
}
