//! Switchover: a healthy primary hands its role over. Hold, drain, quiesce, catch up; from there it is the path of every
//! change of primary. Abandoned at any step, the old primary goes on.

use std::time::Instant;

use super::attempt::{Attempt, GivenUp, enough, give_up, recruitable};
use super::effect::{Action, EffectId};
use super::evidence::is_failure;
use super::history::{Cause, Step};
use super::input::{CommandId, Outcome};
use super::journal::IntentPhase;
use super::lock::Locking;
use super::nodes::Node;
use super::rule::RuleId;
use super::state::{Event, State};
use super::status::{Refusal, Standing};
use super::view;
use super::world::{Order, World};
use crate::model::{NodeId, Service};

/// Before anything is recruited.
#[derive(Clone, Debug)]
pub(super) struct Switching {
    attempt: Attempt,
    target: NodeId,
    step: SwitchStep,
}

#[derive(Clone, Copy, Debug)]
enum SwitchStep {
    /// Side by side; what is done is `None`.
    Draining {
        journal: Option<EffectId>,
        drain: Option<EffectId>,
    },
    Quiescing(EffectId),
    CatchingUp(EffectId),
}

/// Who would take over, or why nobody can (S1a).
pub(super) fn check(world: &World, to: Option<NodeId>) -> Result<NodeId, Refusal> {
    let primary = world.primary().and_then(|id| world.node(id)).ok_or(Refusal::UnknownNode)?;
    if primary.facts().is_none() {
        return Err(Refusal::Check("the primary does not answer".into()));
    }
    if to == Some(primary.id) {
        return Err(Refusal::AlreadyPrimary);
    }
    let target = match to {
        Some(id) => world.node(id).ok_or(Refusal::UnknownNode)?,
        None => best(world)
            .ok_or(Refusal::NoCandidate { why: "no replica streams and may be promoted".into() })?,
    };
    if let Some(why) = view::unreadable(world, target) {
        return Err(Refusal::Check(format!("{} is {}", target.member.name, why.as_str())));
    }
    if target.standing != Standing::Member {
        return Err(Refusal::Check(format!("{} is {}", target.member.name, target.standing.as_str())));
    }
    enough(world, super::candidate::Wish::default(), &recruitable(world))?;
    Ok(target.id)
}

fn best(world: &World) -> Option<&Node> {
    let fit = |node: &&Node| {
        Some(node.id) != world.primary()
            && node.standing == Standing::Member
            && node.member.priority > 0
            && view::unreadable(world, node).is_none()
    };
    world.nodes.iter().filter(fit).max_by_key(|node| {
        let position = node.facts().map(super::observation::Facts::position);
        (node.member.priority, position, std::cmp::Reverse(node.id))
    })
}

impl Switching {
    /// Holds writes and begins to drain; `target` has passed the checks.
    pub(super) fn begin(world: &mut World, now: Instant, target: NodeId, command: CommandId) -> State {
        let from = world.primary().unwrap_or(target);
        let mut attempt = Attempt::new(from, Cause::Switchover, RuleId::S1b, now, now);
        attempt.epoch = world.next_epoch();
        attempt.command = Some(command);
        attempt.wish.target = Some(target);
        attempt.mark(Step::Held, now);
        world.service = Service::Held;
        if let Some(record) = world.record.as_mut().filter(|record| !record.fenced.contains(&from)) {
            // Durable with the intent: whatever becomes of us, somebody has to let it take writes again.
            record.fenced.push(from);
        }
        let intent = attempt.intent(IntentPhase::Switching, Some(target));
        let limit = world.settings.effect_timeout;
        let journal = world.intend(intent).map(|record| {
            attempt.ask(world, now, Order::new(RuleId::R7a, limit, Action::WriteJournal(record)))
        });
        let limit = world.settings.drain_timeout;
        // The actuator's own limit ends it; ours only guards against an actuator that does not.
        let order = Order::new(RuleId::S1b, limit * 2, Action::DrainClients { limit });
        let drain = Some(attempt.ask(world, now, order));
        State::Switching(Self { attempt, target, step: SwitchStep::Draining { journal, drain } })
    }

    pub(super) fn on(mut self, world: &mut World, now: Instant, event: &Event) -> State {
        let failing = world.node(self.attempt.from).is_none_or(|node| is_failure(world, node));
        if failing {
            return self.abandon(world, now, "the primary does not answer any more".into());
        }
        if let Event::Done { id, outcome } = event
            && let Err(why) = self.settled(world, now, *id, outcome)
        {
            return self.abandon(world, now, why);
        }
        if let SwitchStep::CatchingUp(id) = self.step
            && !world.awaits(id)
        {
            world.decided(RuleId::S1d);
            return Locking::begin(world, now, self.attempt);
        }
        State::Switching(self)
    }

    fn settled(
        &mut self,
        world: &mut World,
        now: Instant,
        id: EffectId,
        outcome: &Outcome,
    ) -> Result<(), String> {
        match (&mut self.step, outcome) {
            (SwitchStep::Draining { journal, drain }, Outcome::Done)
                if [*journal, *drain].contains(&Some(id)) =>
            {
                if *journal == Some(id) {
                    *journal = None;
                } else {
                    *drain = None;
                    self.attempt.mark(Step::Drained, now);
                }
            }
            (SwitchStep::Draining { journal, drain }, failed) if [*journal, *drain].contains(&Some(id)) => {
                return Err(failed.words().to_owned());
            }
            (SwitchStep::Quiescing(awaited), Outcome::Fenced(position)) if *awaited == id => {
                self.attempt.floor = *position;
                self.attempt.mark(Step::Quiesced, now);
                let action = Action::CatchUp { node: self.target, target: *position };
                let order = Order::new(RuleId::S1d, world.settings.catch_up_timeout, action);
                self.step = SwitchStep::CatchingUp(self.attempt.ask(world, now, order));
            }
            (SwitchStep::Quiescing(awaited), failed) if *awaited == id => {
                return Err(failed.words().to_owned());
            }
            (SwitchStep::CatchingUp(awaited), failed) if *awaited == id && *failed != Outcome::Done => {
                return Err(failed.words().to_owned());
            }
            _ => {}
        }
        if let SwitchStep::Draining { journal: None, drain: None } = self.step {
            let order =
                Order::new(RuleId::S1c, world.settings.effect_timeout, Action::Quiesce(self.attempt.from));
            self.step = SwitchStep::Quiescing(self.attempt.ask(world, now, order));
        }
        Ok(())
    }

    fn abandon(self, world: &mut World, now: Instant, why: String) -> State {
        give_up(world, now, self.attempt, GivenUp { rule: RuleId::S1e, why: Refusal::Check(why) })
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.attempt
    }
}
