//! Recording: a primary that was found, or that others promoted, becomes durable before anything is sent to it.

use std::time::Instant;

use super::care;
use super::effect::{Action, EffectId};
use super::history::{Cause, HistoryEntry};
use super::input::Outcome;
use super::journal::Record;
use super::nodes::Node;
use super::observation::Facts;
use super::quorum::cohort_of;
use super::rule::RuleId;
use super::state::{Event, State};
use super::status::{Alarm, Standing};
use super::steady::Steady;
use super::world::{Order, World};
use crate::model::{Lsn, NodeId, Service};

/// Awaits the journal.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    rule: RuleId,
    wait: Result<EffectId, Instant>,
    entry: Option<HistoryEntry>,
}

impl Recording {
    /// This node is the primary of a new epoch: found at the start, or promoted by others.
    pub(super) fn begin(world: &mut World, now: Instant, primary: NodeId, rule: RuleId) -> State {
        let Some(facts) = world.node(primary).and_then(Node::facts).cloned() else {
            return State::Discovering(super::discover::Discovering::again(now, rule));
        };
        let entry = adopt(world, primary, &facts, rule);
        world.service = Service::Held;
        world.decided(rule);
        let mut state = Self { rule, wait: Err(now), entry };
        state.ask(world, now);
        State::Recording(state)
    }

    pub(super) fn on(mut self, world: &mut World, now: Instant, event: &Event) -> State {
        if let Event::Done { id, outcome } = event
            && self.wait == Ok(*id)
        {
            if *outcome == Outcome::Done {
                if let Some(entry) = self.entry {
                    world.tell(self.rule, Action::RecordHistory(entry));
                }
                world.clear_alarms(|alarm| !matches!(alarm, Alarm::NeedsPerson { .. }));
                return Steady::resume(world, now, self.rule);
            }
            world.service = Service::ReadOnly;
            world.raise(RuleId::R7a, Alarm::JournalFailed { why: outcome.words().to_owned() });
            self.wait = Err(now + world.settings.retry_after);
        }
        self.ask(world, now);
        State::Recording(self)
    }

    fn ask(&mut self, world: &mut World, now: Instant) {
        if !matches!(self.wait, Err(at) if now >= at) {
            return;
        }
        if let Some(record) = world.record.clone() {
            let (epoch, limit) = (record.epoch, world.settings.effect_timeout);
            let order = Order::new(RuleId::R7a, limit, Action::WriteJournal(record));
            self.wait = Ok(world.ask(now, epoch, order));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.wait.err()
    }

    pub(super) fn rule(&self) -> RuleId {
        self.rule
    }
}

/// The record of the new epoch; the history entry where there was another primary before.
fn adopt(world: &mut World, primary: NodeId, facts: &Facts, rule: RuleId) -> Option<HistoryEntry> {
    let old = world.record.take();
    let epoch = world.next_epoch();
    let cohort = cohort_of(&facts.sync_names, &world.nodes, primary);
    // Where the timelines parted is not known. Its position now is past that: positions of older epochs are clamped too
    // late rather than too early, which costs a wait and shows nothing stale.
    let fork = if old.is_some() { facts.applied() } else { Lsn::ZERO };
    let mut displaced = old.as_ref().map(|record| record.displaced.clone()).unwrap_or_default();
    displaced.extend(old.as_ref().map(|record| record.primary));
    displaced.retain(|node| *node != primary);
    let mut twins = old.as_ref().map(|record| record.twins.clone()).unwrap_or_default();
    twins.retain(|twin| twin.node != primary);
    displaced.sort_unstable();
    displaced.dedup();
    world.record = Some(Record {
        epoch,
        promised: epoch,
        system_id: facts.system_id,
        primary,
        timeline: facts.timeline,
        fork,
        // Nothing was written by us; whoever streams at its present position has all that matters.
        term_row: facts.position(),
        cohort,
        cohort_next: None,
        displaced,
        twins,
        fenced: Vec::new(),
        intent: None,
        paused: world.paused,
    });
    world.trail.clear();
    for node in &mut world.nodes {
        node.care = care::Care::in_new_epoch(node.id == primary);
        node.standing = if node.id == primary { Standing::Member } else { Standing::Unseen };
    }
    old.map(|old| HistoryEntry {
        epoch,
        cause: Cause::Adopted,
        rule,
        from: Some(old.primary),
        to: Some(primary),
        timeline: facts.timeline,
        fork,
        steps: Vec::new(),
        lost: None,
        abandoned: String::new(),
    })
}
