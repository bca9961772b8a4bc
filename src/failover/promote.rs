//! Promoting: from the moment the candidate is told, the old primary cannot simply go on.

use std::time::Instant;

use super::attempt::Attempt;
use super::effect::{Action, EffectId};
use super::establish::{Crowned, Establishing};
use super::history::Step;
use super::input::Outcome;
use super::nodes::Node;
use super::resolve::{choose_again, is_lost};
use super::rule::RuleId;
use super::state::{Event, State};
use super::world::{Order, World};
use crate::model::{Lsn, NodeId, Timeline};

/// Awaits the promotion.
#[derive(Clone, Debug)]
pub(super) struct Promoting {
    attempt: Attempt,
    candidate: NodeId,
    replayed: Lsn,
    awaited: EffectId,
}

impl Promoting {
    /// `candidate` comes with the position up to which it has replayed.
    pub(super) fn begin(
        world: &mut World,
        now: Instant,
        mut attempt: Attempt,
        candidate: (NodeId, Lsn),
    ) -> State {
        let (candidate, replayed) = candidate;
        attempt.promoted.insert(candidate);
        let action = Action::Promote { node: candidate, poll: world.settings.promote_poll };
        let order = Order::new(RuleId::R6b, world.settings.promote_timeout, action);
        let awaited = attempt.ask(world, now, order);
        State::Promoting(Self { attempt, candidate, replayed, awaited })
    }

    pub(super) fn on(mut self, world: &mut World, now: Instant, event: &Event) -> State {
        let failure = match event {
            Event::Done { id, outcome } if *id == self.awaited => match outcome {
                Outcome::Promoted { timeline, fork } => {
                    self.attempt.mark(Step::Promoted, now);
                    let crowned = Crowned { node: self.candidate, timeline: *timeline, fork: *fork };
                    return Establishing::begin(world, now, self.attempt, crowned);
                }
                other => Some(other.words().to_owned()),
            },
            _ if is_lost(world, now, self.candidate) => Some("it does not answer any more".to_owned()),
            _ => None,
        };
        let Some(why) = failure else { return State::Promoting(self) };
        if let Some(timeline) = half_promoted(world, self.candidate) {
            // The answer was lost, the promotion was not.
            self.attempt.mark(Step::Promoted, now);
            let crowned = Crowned { node: self.candidate, timeline, fork: self.replayed };
            return Establishing::begin(world, now, self.attempt, crowned);
        }
        choose_again(world, now, self.attempt, self.candidate, &why)
    }

    pub(super) fn deadline(&self, world: &World) -> Option<Instant> {
        let node = world.node(self.candidate)?;
        node.failing_since.map(|since| since + world.settings.detect_timeout)
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.attempt
    }
}

/// The timeline of a node that answers as a primary on a newer timeline than the record's.
pub(super) fn half_promoted(world: &World, node: NodeId) -> Option<Timeline> {
    let cluster = world.system_id()?;
    let facts = world.node(node).and_then(|node: &Node| node.primary(cluster))?;
    let newer = world.record.as_ref().is_some_and(|record| facts.timeline > record.timeline);
    newer.then_some(facts.timeline)
}
