//! Locking: the right to promote, then the durable intent. Nothing is touched before both are there (rule 7).

use std::time::Instant;

use super::attempt::{Attempt, GivenUp, give_up, overtaken};
use super::effect::{Action, EffectId};
use super::history::Step;
use super::input::Outcome;
use super::journal::IntentPhase;
use super::recruit::Recruiting;
use super::rule::RuleId;
use super::state::{Event, State};
use super::status::{Alarm, Refusal};
use super::world::{Order, World};
use crate::model::Service;

/// Awaits the right to promote, then the journal.
#[derive(Clone, Debug)]
pub(super) struct Locking {
    attempt: Attempt,
    awaited: EffectId,
    right: bool,
}

impl Locking {
    /// Begins an attempt, under an epoch that was never used before.
    pub(super) fn begin(world: &mut World, now: Instant, mut attempt: Attempt) -> State {
        // A switchover has its epoch already, and has touched nothing that an earlier answer could speak of.
        if attempt.epoch != world.promised || !attempt.touched.is_empty() {
            attempt.epoch = world.next_epoch();
        }
        attempt.confirmed = now;
        attempt.mark(Step::Confirmed, now);
        world.service = Service::Held;
        world.decided(attempt.rule);
        let limit = world.settings.effect_timeout;
        let awaited = attempt.ask(world, now, Order::new(RuleId::R7a, limit, Action::AcquireRight));
        State::Locking(Self { attempt, awaited, right: false })
    }

    pub(super) fn on(self, world: &mut World, now: Instant, event: &Event) -> State {
        if let Some(adopted) = overtaken(world, now, &self.attempt) {
            return adopted;
        }
        if self.attempt.came_back(world) {
            let why = Refusal::Check("the primary is back".into());
            return give_up(world, now, self.attempt, GivenUp { rule: RuleId::R10e, why });
        }
        match event {
            Event::Done { id, outcome } if *id == self.awaited => self.settled(world, now, outcome),
            _ => State::Locking(self),
        }
    }

    fn settled(mut self, world: &mut World, now: Instant, outcome: &Outcome) -> State {
        let Outcome::Done = outcome else {
            let what = if self.right { "the journal" } else { "the right to promote" };
            let why = format!("{what}: {}", outcome.words());
            if self.right {
                world.raise(RuleId::R7a, Alarm::JournalFailed { why: outcome.words().to_owned() });
            }
            return give_up(
                world,
                now,
                self.attempt,
                GivenUp { rule: RuleId::R10b, why: Refusal::Check(why) },
            );
        };
        if self.right {
            self.attempt.mark(Step::Locked, now);
            return Recruiting::begin(world, now, self.attempt);
        }
        let intent = self.attempt.intent(IntentPhase::Recruiting, None);
        let Some(record) = world.intend(intent) else {
            let why = Refusal::Check("no record".into());
            return give_up(world, now, self.attempt, GivenUp { rule: RuleId::R10b, why });
        };
        let limit = world.settings.effect_timeout;
        self.right = true;
        self.awaited =
            self.attempt.ask(world, now, Order::new(RuleId::R7a, limit, Action::WriteJournal(record)));
        if !world.holds(RuleId::R7a) {
            return Recruiting::begin(world, now, self.attempt);
        }
        State::Locking(self)
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.attempt
    }
}
