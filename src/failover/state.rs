//! The states of the core, one struct each; this file only joins them.

use std::time::Instant;

use super::discover::Discovering;
use super::effect::EffectId;
use super::establish::Establishing;
use super::input::Outcome;
use super::lock::Locking;
use super::promote::Promoting;
use super::read_only::ReadOnly;
use super::record::Recording;
use super::recruit::Recruiting;
use super::resolve::Resolving;
use super::rule::RuleId;
use super::status::Phase;
use super::steady::Steady;
use super::suspect::Suspect;
use super::switch::Switching;
use super::world::World;

/// What happened, after the shared part has taken note of it.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// An awaited effect ended, or was given up.
    Done { id: EffectId, outcome: Outcome },
    /// Something was seen, or time has passed.
    Look,
}

/// Where the core is.
#[derive(Clone, Debug)]
pub(super) enum State {
    Discovering(Discovering),
    Recording(Recording),
    Steady(Steady),
    Suspect(Suspect),
    Locking(Locking),
    Recruiting(Recruiting),
    Resolving(Resolving),
    Promoting(Promoting),
    Establishing(Establishing),
    Switching(Switching),
    ReadOnly(ReadOnly),
}

impl State {
    /// Takes an event in and says where that leads.
    pub(super) fn on(self, world: &mut World, now: Instant, event: &Event) -> Self {
        match self {
            Self::Discovering(state) => state.on(world, now),
            Self::Recording(state) => state.on(world, now, event),
            Self::Steady(state) => state.on(world, now),
            Self::Suspect(state) => state.on(world, now),
            Self::Locking(state) => state.on(world, now, event),
            Self::Recruiting(state) => state.on(world, now, event),
            Self::Resolving(state) => state.on(world, now, event),
            Self::Promoting(state) => state.on(world, now, event),
            Self::Establishing(state) => state.on(world, now, event),
            Self::Switching(state) => state.on(world, now, event),
            Self::ReadOnly(state) => state.on(world, now),
        }
    }

    /// When time alone may change something.
    pub(super) fn deadline(&self, world: &World, now: Instant) -> Option<Instant> {
        match self {
            Self::Discovering(state) => state.deadline(now),
            Self::Recording(state) => state.deadline(),
            Self::Steady(_) => super::care::deadline(world),
            Self::Suspect(state) => state.deadline(world, now),
            Self::Recruiting(state) => state.deadline(world),
            Self::Resolving(state) => state.deadline(),
            Self::Promoting(state) => state.deadline(world),
            Self::Establishing(state) => state.deadline(world, now),
            Self::ReadOnly(state) => state.deadline(world, now),
            // Their effects have deadlines of their own.
            Self::Locking(_) | Self::Switching(_) => None,
        }
    }

    pub(super) fn phase(&self, world: &World) -> Phase {
        match self {
            Self::Discovering(_) => Phase::Discovering,
            Self::Recording(_) => Phase::Recording,
            Self::Steady(_) if super::care::busy(world) => Phase::Rejoining,
            Self::Steady(_) => Phase::Steady,
            Self::Suspect(_) => Phase::Suspect,
            Self::Locking(_) => Phase::Locking,
            Self::Recruiting(_) => Phase::Recruiting,
            Self::Resolving(_) => Phase::Resolving,
            Self::Promoting(_) => Phase::Promoting,
            Self::Establishing(_) => Phase::Establishing,
            Self::Switching(_) => Phase::Switching,
            Self::ReadOnly(_) => Phase::ReadOnly,
        }
    }

    /// The rule that brought it here, and why, in words.
    pub(super) fn reason(&self) -> (RuleId, String) {
        match self {
            Self::Discovering(state) => (state.rule(), state.rule().text().to_owned()),
            Self::Recording(state) => (state.rule(), state.rule().text().to_owned()),
            Self::Steady(state) => (state.rule(), String::new()),
            Self::Suspect(state) => (state.rule(), state.rule().text().to_owned()),
            Self::Locking(state) => (state.attempt().rule, state.attempt().rule.text().to_owned()),
            Self::Recruiting(state) => (state.attempt().rule, state.attempt().rule.text().to_owned()),
            Self::Resolving(state) => (state.attempt().rule, state.attempt().rule.text().to_owned()),
            Self::Promoting(state) => (state.attempt().rule, state.attempt().rule.text().to_owned()),
            Self::Establishing(state) => (state.attempt().rule, state.attempt().rule.text().to_owned()),
            Self::Switching(state) => (state.attempt().rule, state.attempt().rule.text().to_owned()),
            Self::ReadOnly(state) => (state.rule(), state.why()),
        }
    }
}
