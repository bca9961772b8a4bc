//! Establishing: the candidate is a primary, and becomes *the* primary when a small row written on it has its quorum.
//!
//! Its epoch is recorded and shown at once, still held: with it every server connection of the old epoch is closed, so that
//! nothing which an old backend still sends is forwarded (T5). Writes go out when row and record are safe.

use std::time::Instant;

use super::attempt::{Attempt, lossy, lost};
use super::care;
use super::effect::{Action, EffectId};
use super::evidence::{Verdict, judge};
use super::history::{Cause, Step};
use super::input::Outcome;
use super::journal::{IntentPhase, Record};
use super::lock::Locking;
use super::nodes::Node;
use super::rule::RuleId;
use super::state::{Event, State};
use super::status::{Alarm, Standing};
use super::steady::Steady;
use super::upkeep;
use super::world::{Order, World};
use crate::model::{Lsn, NodeId, Service, Timeline};

/// A node that was promoted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowned {
    pub(super) node: NodeId,
    pub(super) timeline: Timeline,
    pub(super) fork: Lsn,
}

/// Awaits the term row's quorum and the journal.
#[derive(Clone, Debug)]
pub(super) struct Establishing {
    attempt: Attempt,
    since: Instant,
    journal: Wait,
    row: Wait,
    /// What may have been lost, to be told when the epoch opens.
    lost: Option<super::history::Lost>,
}

/// An effect that is asked for until it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    For(EffectId),
    Until(Instant),
    Done,
}

impl Establishing {
    pub(super) fn begin(world: &mut World, now: Instant, attempt: Attempt, crowned: Crowned) -> State {
        // With a quorum what the old primary had beyond the fork was never acknowledged.
        let lost = if lossy(world, &attempt) { lost(world, &attempt, crowned.fork) } else { None };
        turn(world, now, &attempt, crowned);
        world.service = Service::Held;
        let mut state = Self { attempt, since: now, journal: Wait::Until(now), row: Wait::Until(now), lost };
        state.ask(world, now);
        state.dispose_of_the_old(world, now);
        State::Establishing(state)
    }

    /// The recorded primary is there and its epoch was never opened: an attempt to replace it was given up.
    pub(super) fn again(world: &mut World, now: Instant) -> State {
        let from = world.primary().unwrap_or(NodeId(0));
        let mut attempt = Attempt::new(from, Cause::Failover, RuleId::R7b, now, now);
        attempt.epoch = world.epoch();
        world.decided(RuleId::R7b);
        world.service = Service::Held;
        let mut state =
            Self { attempt, since: now, journal: Wait::Until(now), row: Wait::Until(now), lost: None };
        state.ask(world, now);
        State::Establishing(state)
    }

    pub(super) fn on(mut self, world: &mut World, now: Instant, event: &Event) -> State {
        if let Event::Done { id, outcome } = event {
            self.settled(world, now, *id, outcome);
        }
        if self.row == Wait::Done && self.journal == Wait::Done {
            return self.open(world, now);
        }
        if let Verdict::Gone { rule, .. } = judge(world, now, self.since) {
            world.decided(RuleId::R10b);
            return Locking::begin(world, now, self.superseded(world, rule, now));
        }
        self.ask(world, now);
        // The row's quorum may need nodes that have to be brought back first.
        care::tend_nodes(world, now);
        upkeep::tend_primary(world, now);
        if world.service == Service::Held && now >= self.since + world.settings.establish_timeout {
            world.service = Service::ReadOnly;
            if let Some(primary) = world.primary() {
                let why = "no quorum for the term row".to_owned();
                world.raise(RuleId::R6c, Alarm::NoQuorumYet { primary, why });
            }
        }
        State::Establishing(self)
    }

    fn settled(&mut self, world: &mut World, now: Instant, id: EffectId, outcome: &Outcome) {
        let again = now + world.settings.conflict_after;
        if self.journal == Wait::For(id) {
            self.journal = if *outcome == Outcome::Done { Wait::Done } else { Wait::Until(again) };
        }
        if self.row == Wait::For(id) {
            self.row = Wait::Until(again);
            if let Outcome::Established(position) = outcome {
                self.row = Wait::Done;
                if let Some(record) = world.record.as_mut() {
                    record.term_row = *position;
                }
            }
        }
    }

    fn ask(&mut self, world: &mut World, now: Instant) {
        let Some(record) = world.record.clone() else { return };
        if matches!(self.journal, Wait::Until(at) if now >= at) {
            let limit = world.settings.effect_timeout;
            let order = Order::new(RuleId::R7a, limit, Action::WriteJournal(record.clone()));
            self.journal = Wait::For(self.attempt.ask(world, now, order));
        }
        if matches!(self.row, Wait::Until(at) if now >= at) {
            let limit = world.settings.term_row_timeout;
            let order = Order::new(RuleId::R6c, limit, Action::WriteTermRow(record.primary));
            self.row = Wait::For(self.attempt.ask(world, now, order));
        }
    }

    /// The old primary: demoted after a switchover, fenced otherwise (which fails where it is dead, and matters to nobody).
    fn dispose_of_the_old(&self, world: &mut World, now: Instant) {
        let (old, limit) = (self.attempt.from, world.settings.effect_timeout);
        let Some(upstream) = world.primary().filter(|primary| *primary != old) else { return };
        if world.node(old).and_then(Node::facts).is_some_and(|facts| facts.in_recovery) {
            // It has stepped down already, and is looked after like any standby.
            return;
        }
        let order = if self.attempt.cause == Cause::Switchover {
            let action = Action::Demote { node: old, upstream, immediate: world.holds(RuleId::S1f) };
            Order::new(RuleId::S1f, world.settings.rejoin_timeout, action)
        } else if world.holds(RuleId::R2a) {
            Order::new(RuleId::R2a, limit, Action::FenceOld(old))
        } else {
            return;
        };
        let id = self.attempt.ask(world, now, order);
        care::assign(world, old, id);
    }

    /// The promoted node died before its epoch was opened: the next attempt replaces it.
    fn superseded(&self, world: &World, rule: RuleId, now: Instant) -> Attempt {
        let from = world.primary().unwrap_or(self.attempt.from);
        let mut next = Attempt::new(from, Cause::Failover, rule, self.attempt.began, now);
        next.steps.clone_from(&self.attempt.steps);
        next.wish.allow_data_loss = self.attempt.wish.allow_data_loss;
        next.command = self.attempt.command;
        next
    }

    fn open(mut self, world: &mut World, now: Instant) -> State {
        self.attempt.mark(Step::Established, now);
        self.attempt.mark(Step::Opened, now);
        let primary = world.primary();
        let mut entry = self.attempt.entry(world, primary, String::new());
        entry.lost = self.lost;
        world.decided(RuleId::R6d);
        world.tell(RuleId::R6d, Action::RecordHistory(entry));
        if let Some(lost) = self.lost {
            let bytes = lost.seen.bytes_since(lost.after);
            world.tell(RuleId::R3f, Action::Raise(Alarm::WritesLost { bytes }));
        }
        if let (Some(command), Some(node)) = (self.attempt.command, primary.and_then(|id| world.node(id))) {
            let words = format!("{} is the primary of epoch {}", node.member.name, world.epoch());
            world.tell(RuleId::C1a, Action::Answer { command, result: Ok(words) });
        }
        if let Some(record) = world.record.as_mut() {
            record.intent = None;
        }
        world.save(now, RuleId::R6d);
        world.clear_alarms(|alarm| !matches!(alarm, Alarm::NeedsPerson { .. } | Alarm::ForeignNode { .. }));
        world.probe_all(RuleId::R6d);
        Steady::resume(world, now, RuleId::R6d)
    }

    pub(super) fn deadline(&self, world: &World, now: Instant) -> Option<Instant> {
        let until = |wait: Wait| if let Wait::Until(at) = wait { Some(at) } else { None };
        let judged = match judge(world, now, self.since) {
            Verdict::Wait { until, .. } => until,
            _ => None,
        };
        let show = (world.service == Service::Held).then(|| self.since + world.settings.establish_timeout);
        [until(self.journal), until(self.row), judged, show, care::deadline(world)]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.attempt
    }
}

/// The record and the standing of the nodes in the new epoch.
fn turn(world: &mut World, now: Instant, attempt: &Attempt, crowned: Crowned) {
    let Some(old) = world.record.clone() else { return };
    let old_timeline = old.timeline;
    // Who was told to promote may have written since it was recruited: what it says then is looked at first.
    let mut ready = super::candidate::followers(&attempt.recruits, crowned.node);
    ready.retain(|node| !attempt.promoted.contains(node));
    let mut displaced = old.displaced.clone();
    displaced.extend(attempt.promoted.iter().chain([&attempt.from, &old.primary]));
    displaced.sort_unstable();
    displaced.dedup();
    displaced.retain(|node| *node != crowned.node);
    world.record = Some(Record {
        epoch: attempt.epoch,
        promised: world.promised,
        primary: crowned.node,
        timeline: crowned.timeline,
        fork: crowned.fork,
        term_row: Record::NO_TERM_ROW,
        displaced,
        intent: Some(attempt.intent(IntentPhase::Promoting, Some(crowned.node))),
        ..old
    });
    if let Some(record) = world.record.as_mut() {
        record.note_twins(
            attempt.strayed(Some(crowned.node), &ready),
            Timeline(old_timeline.0.saturating_add(1)),
        );
        if crowned.timeline <= old_timeline {
            record.note_twins([attempt.from], old_timeline);
        }
    }
    world.trail.clear();
    if let Some(node) = world.node_mut(crowned.node) {
        node.crown(now, crowned.timeline, crowned.fork);
    }
    super::cohort::expect(world);
    for node in &mut world.nodes {
        let member = node.id == crowned.node || (ready.contains(&node.id) && node.id != attempt.from);
        renew(node, member);
    }
}

fn renew(node: &mut Node, member: bool) {
    node.care = care::Care::in_new_epoch(member);
    node.standing = match node.standing {
        Standing::Foreign => Standing::Foreign,
        _ if member => Standing::Member,
        _ => Standing::Unseen,
    };
}
