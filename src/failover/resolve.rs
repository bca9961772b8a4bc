//! Resolving: before the candidate is promoted it replays all it received, tells the outcome of the commits in doubt (after
//! the promotion transaction ids are used again and the answer would lie), and the followers are turned to it.

use std::collections::BTreeSet;
use std::time::Instant;

use super::attempt::{Attempt, GivenUp, give_up, overtaken};
use super::candidate::followers;
use super::cohort;
use super::effect::{Action, EffectId, FollowerName};
use super::history::Step;
use super::input::Outcome;
use super::journal::IntentPhase;
use super::lock::Locking;
use super::nodes::{Node, ReachKind};
use super::promote::Promoting;
use super::rule::RuleId;
use super::state::{Event, State};
use super::status::Refusal;
use super::world::{Order, World};
use crate::model::{Lsn, NodeId};

/// Awaits what runs side by side: the journal, the candidate's replay and answers, its settings.
#[derive(Clone, Debug)]
pub(super) struct Resolving {
    attempt: Attempt,
    candidate: NodeId,
    journal: Option<EffectId>,
    /// First the replay, then the commits in doubt.
    candidate_work: Option<EffectId>,
    resolved: bool,
    replayed: Lsn,
    /// Settings of the candidate that are being made: it has to have them with its first commit.
    settings: BTreeSet<EffectId>,
    /// When the promotion goes ahead without them: nothing is acknowledged by the wrong nodes because of that, only later.
    settings_until: Instant,
}

impl Resolving {
    pub(super) fn begin(world: &mut World, now: Instant, mut attempt: Attempt, candidate: NodeId) -> State {
        world.decided(RuleId::R4a);
        let intent = attempt.intent(IntentPhase::Promoting, Some(candidate));
        let limit = world.settings.effect_timeout;
        let record = world.intend(intent);
        let journal = record.map(|record| {
            attempt.ask(world, now, Order::new(RuleId::R7a, limit, Action::WriteJournal(record)))
        });
        let target = attempt.recruits.get(&candidate).map_or(Lsn::ZERO, |recruit| recruit.received);
        let replay = Action::FinishReplay { node: candidate, target };
        let limit = world.settings.replay_timeout;
        let replay = attempt.ask(world, now, Order::new(RuleId::R4b, limit, replay));
        let unresolved = world.holds(RuleId::R5a);
        // Nobody waits for them: by the time the candidate is a primary they have turned, and one that has not is looked after.
        repoint_followers(world, now, &mut attempt, candidate);
        let mut settings = BTreeSet::new();
        for action in cohort::prepare(world, candidate) {
            let order = Order::new(RuleId::Q1a, world.settings.repoint_timeout, action);
            settings.insert(attempt.ask(world, now, order));
        }
        State::Resolving(Self {
            attempt,
            candidate,
            journal,
            candidate_work: Some(replay),
            resolved: !unresolved,
            replayed: target,
            settings,
            settings_until: now + world.settings.repoint_timeout,
        })
    }

    pub(super) fn on(mut self, world: &mut World, now: Instant, event: &Event) -> State {
        if let Some(adopted) = overtaken(world, now, &self.attempt) {
            return adopted;
        }
        if self.attempt.came_back(world) {
            let why = Refusal::Check("the primary is back".into());
            return give_up(world, now, self.attempt, GivenUp { rule: RuleId::R10e, why });
        }
        if let Event::Done { id, outcome } = event
            && let Err(why) = self.settled(world, now, *id, outcome)
        {
            return choose_again(world, now, self.attempt, self.candidate, &why);
        }
        if is_lost(world, now, self.candidate) {
            return choose_again(world, now, self.attempt, self.candidate, "it does not answer any more");
        }
        let set = self.settings.is_empty() || now >= self.settings_until;
        let durable = self.journal.is_none() || !world.holds(RuleId::R7a);
        if durable && self.resolved && set {
            self.attempt.mark(Step::Resolved, now);
            return Promoting::begin(world, now, self.attempt, (self.candidate, self.replayed));
        }
        State::Resolving(self)
    }

    fn settled(
        &mut self,
        world: &mut World,
        now: Instant,
        id: EffectId,
        outcome: &Outcome,
    ) -> Result<(), String> {
        if self.settings.remove(&id) {
            return Ok(());
        }
        if self.journal == Some(id) {
            self.journal = None;
            let done = *outcome == Outcome::Done;
            return if done { Ok(()) } else { Err(format!("the journal: {}", outcome.words())) };
        }
        if self.candidate_work != Some(id) {
            return Ok(());
        }
        match outcome {
            Outcome::Replayed(position) => {
                self.replayed = *position;
                let limit = world.settings.effect_timeout;
                let action = Action::ResolveInDoubt { candidate: self.candidate };
                self.candidate_work =
                    Some(self.attempt.ask(world, now, Order::new(RuleId::R5a, limit, action)));
                Ok(())
            }
            Outcome::Done => {
                self.candidate_work = None;
                self.resolved = true;
                Ok(())
            }
            other => Err(other.words().to_owned()),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.settings.is_empty()).then_some(self.settings_until)
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.attempt
    }
}

/// Tells the others to follow the candidate.
fn repoint_followers(world: &mut World, now: Instant, attempt: &mut Attempt, candidate: NodeId) {
    let limit = world.settings.repoint_timeout;
    let ready = if world.holds(RuleId::R6a) {
        followers(&attempt.recruits, candidate)
    } else {
        attempt.recruits.keys().copied().filter(|node| *node != candidate).collect()
    };
    let up = |world: &World, node: NodeId| world.node(node).is_some_and(|node| node.facts().is_some());
    for node in ready.into_iter().filter(|node| *node != attempt.from) {
        if up(world, node) {
            attempt.turned.insert(node);
            let action = Action::Repoint { node, upstream: candidate, name: FollowerName::Own };
            attempt.ask(world, now, Order::new(RuleId::R6a, limit, action));
        }
    }
}

/// Whether this node is gone for good as far as an attempt can wait: refused, or silent past the timeout.
pub(super) fn is_lost(world: &World, now: Instant, node: NodeId) -> bool {
    let Some(node) = world.node(node) else { return true };
    let silent = node.failing_since.is_some_and(|since| now >= since + world.settings.detect_timeout);
    silent || matches!(node.last.map(|last| last.reach), Some(ReachKind::Refused))
}

/// The candidate failed us: a second failure is an ordinary event (rule 10).
pub(super) fn choose_again(
    world: &mut World,
    now: Instant,
    mut attempt: Attempt,
    failed: NodeId,
    why: &str,
) -> State {
    let name = world.node(failed).map_or_else(String::new, |node: &Node| node.member.name.to_string());
    let why = format!("{name}: {why}");
    attempt.excluded.insert(failed);
    if attempt.promoted.contains(&failed) {
        attempt.strays.extend(&attempt.turned);
    }
    if attempt.excluded.len() >= world.nodes.len() || attempt.wish.target == Some(failed) {
        let why = Refusal::NoCandidate { why };
        return give_up(world, now, attempt, GivenUp { rule: RuleId::R10b, why });
    }
    world.decided(RuleId::R10b);
    Locking::begin(world, now, attempt)
}
