//! One attempt at a change of primary: what is carried from state to state, and how it is given up.
//!
//! An attempt has an epoch of its own that is never used again, so that answers to an abandoned one are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::candidate::Wish;
use super::effect::{Action, EffectId, FollowerName};
use super::history::{Cause, HistoryEntry, Lost, Step, StepTime};
use super::input::{CommandId, Recruit};
use super::journal::{Cohort, Intent, IntentPhase};
use super::nodes::Node;
use super::quorum;
use super::read_only::ReadOnly;
use super::rule::RuleId;
use super::settings::Durability;
use super::state::State;
use super::status::{Alarm, Refusal, Standing};
use super::steady::Steady;
use super::world::{Order, World};
use crate::model::{Epoch, Lsn, NodeId, Timeline};

/// What is known of an attempt.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) epoch: Epoch,
    pub(super) cause: Cause,
    /// The rule that confirmed it.
    pub(super) rule: RuleId,
    /// The primary that is to be replaced.
    pub(super) from: NodeId,
    /// The first sign of trouble, or the command.
    pub(super) began: Instant,
    /// When it was confirmed: only what was asked after this shows the old primary to be back.
    pub(super) confirmed: Instant,
    pub(super) steps: Vec<StepTime>,
    pub(super) wish: Wish,
    pub(super) command: Option<CommandId>,
    /// Nodes that failed us in this attempt.
    pub(super) excluded: BTreeSet<NodeId>,
    /// Nodes whose receiver was, or may have been, stopped.
    pub(super) touched: BTreeSet<NodeId>,
    /// Nodes whose receiver was seen gone. They stay so until they are repointed, even if they die.
    pub(super) recruits: BTreeMap<NodeId, Recruit>,
    /// Nodes that were pointed to a candidate since they were recruited.
    pub(super) turned: BTreeSet<NodeId>,
    /// Nodes that were told to promote. From then on the old primary cannot simply go on.
    pub(super) promoted: BTreeSet<NodeId>,
    /// Nodes that were turned to one that was told to promote and failed us, and were not recruited again since: they may have
    /// acknowledged something to it.
    pub(super) strays: BTreeSet<NodeId>,
    /// Switchover: what the target must have.
    pub(super) floor: Lsn,
}

impl Attempt {
    pub(super) fn new(from: NodeId, cause: Cause, rule: RuleId, began: Instant, now: Instant) -> Self {
        Self {
            epoch: Epoch(0),
            cause,
            rule,
            from,
            began,
            confirmed: now,
            steps: Vec::new(),
            wish: Wish::default(),
            command: None,
            excluded: BTreeSet::new(),
            touched: BTreeSet::new(),
            recruits: BTreeMap::new(),
            turned: BTreeSet::new(),
            promoted: BTreeSet::new(),
            strays: BTreeSet::new(),
            floor: Lsn::ZERO,
        }
    }

    pub(super) fn mark(&mut self, step: Step, now: Instant) {
        self.steps.push(StepTime { step, after: now.saturating_duration_since(self.began) });
    }

    /// The durable form.
    pub(super) fn intent(&self, phase: IntentPhase, candidate: Option<NodeId>) -> Intent {
        Intent { epoch: self.epoch, phase, candidate, allow_data_loss: self.wish.allow_data_loss }
    }

    pub(super) fn entry(&self, world: &World, to: Option<NodeId>, abandoned: String) -> HistoryEntry {
        let record = world.record.as_ref();
        HistoryEntry {
            epoch: self.epoch,
            cause: self.cause,
            rule: self.rule,
            from: Some(self.from),
            to,
            timeline: record.map_or(Timeline(0), |record| record.timeline),
            fork: record.map_or(Lsn::ZERO, |record| record.fork),
            steps: self.steps.clone(),
            lost: None,
            abandoned,
        }
    }

    /// Nodes that may be on a timeline which a half promoted node has made: that node itself, and whoever was turned to it
    /// and is not among those who are known to follow the new primary.
    pub(super) fn strayed(&self, winner: Option<NodeId>, following: &[NodeId]) -> Vec<NodeId> {
        let half = self.promoted.iter().filter(|node| Some(**node) != winner);
        if half.clone().next().is_none() {
            return Vec::new();
        }
        let turned = self.touched.iter().filter(|node| Some(**node) != winner && !following.contains(node));
        half.chain(turned).copied().collect()
    }

    /// Whether these recruits are enough for it. Once somebody was told to promote, the old primary need not have everything,
    /// and what the half promoted node can have got acknowledged has to be among the recruits, too.
    pub(super) fn suffices(&self, world: &World, recruits: &[NodeId]) -> Result<RuleId, Refusal> {
        let rule = enough_of(world, self.wish, recruits, self.promoted.is_empty())?;
        let standbys = cohorts(world).map(|cohort| cohort.standbys).min().unwrap_or(0);
        if lossy(world, self) || standbys == 0 || self.strays.len() < standbys {
            return Ok(rule);
        }
        let have = recruits.iter().filter(|node| !self.strays.contains(node)).count();
        Err(Refusal::NotEnoughRecruits { have, need: have + self.strays.len() + 1 - standbys })
    }

    /// Asks for an effect of this attempt.
    pub(super) fn ask(&self, world: &mut World, now: Instant, order: Order) -> EffectId {
        world.ask(now, self.epoch, order)
    }

    /// Whether the old primary answers again although nothing was promoted: then it goes on, nothing is lost by that.
    pub(super) fn came_back(&self, world: &World) -> bool {
        let alive = || {
            let node = world.node(self.from);
            node.and_then(|node| node.facts_since(self.confirmed))
                .is_some_and(|facts| super::evidence::is_recorded(world, facts))
        };
        self.cause == Cause::Failover && self.promoted.is_empty() && alive()
    }
}

/// Whether these recruits would be enough, and which rule says so.
pub(super) fn enough(world: &World, wish: Wish, recruits: &[NodeId]) -> Result<RuleId, Refusal> {
    enough_of(world, wish, recruits, true)
}

fn enough_of(world: &World, wish: Wish, recruits: &[NodeId], untried: bool) -> Result<RuleId, Refusal> {
    let have = recruits.len();
    if wish.allow_data_loss || world.settings.durability == Durability::Async {
        let rule = if wish.allow_data_loss { RuleId::R3e } else { RuleId::R3f };
        return if have > 0 { Ok(rule) } else { Err(Refusal::NotEnoughRecruits { have, need: 1 }) };
    }
    if untried && holder(world, recruits).is_some() {
        return Ok(RuleId::R3g);
    }
    for cohort in cohorts(world) {
        let need = if world.holds(RuleId::R3b) { quorum::recruits_needed(cohort) } else { 1 };
        let have = quorum::members_among(cohort, recruits);
        if have < need {
            return Err(Refusal::NotEnoughRecruits { have, need });
        }
    }
    Ok(RuleId::R3b)
}

/// The recorded primary, where it is a standby now and among the recruits: all that was acknowledged is in its own WAL.
pub(super) fn holder(world: &World, recruits: &[NodeId]) -> Option<NodeId> {
    world.primary().filter(|primary| recruits.contains(primary) && world.holds(RuleId::R3g))
}

/// The cohorts that count: while the cohort changes, the old one and the new one (Q1b).
pub(super) fn cohorts(world: &World) -> impl Iterator<Item = &Cohort> {
    world.record.iter().flat_map(|record| std::iter::once(&record.cohort).chain(&record.cohort_next))
}

/// Nodes that could be recruited now: standbys of this cluster that answer.
pub(super) fn recruitable(world: &World) -> Vec<NodeId> {
    let Some(cluster) = world.system_id() else { return Vec::new() };
    world.nodes.iter().filter(|node| node.standby(cluster).is_some()).map(|node| node.id).collect()
}

/// Gives an attempt up. Where nothing was told to promote, what was recruited goes back to the old primary.
pub(super) fn give_up(world: &mut World, now: Instant, attempt: Attempt, end: GivenUp) -> State {
    let GivenUp { rule, why } = end;
    world.decided(rule);
    let entry = attempt.entry(world, None, why.to_string());
    world.tell(rule, Action::RecordHistory(entry));
    world.raise(rule, Alarm::AttemptAbandoned { epoch: attempt.epoch, why: why.to_string() });
    if let Some(command) = attempt.command {
        let result = Err(Refusal::Abandoned(why.to_string()));
        world.tell(RuleId::C1a, Action::Answer { command, result });
    }
    if !attempt.promoted.is_empty() {
        // Its followers may have acknowledged something to a half promoted node: the way is forward.
        let carried = Attempt { command: None, ..attempt };
        return ReadOnly::begin(world, now, why, Some(carried));
    }
    let back = rule == RuleId::R10e || attempt.cause == Cause::Switchover;
    put_back(world, now, &attempt);
    if back { Steady::resume(world, now, rule) } else { ReadOnly::begin(world, now, why, None) }
}

/// Somebody else has promoted a node while this attempt had not yet promoted one: that node is adopted, and nothing is turned
/// back to the old primary, which could get acknowledgements again.
pub(super) fn overtaken(world: &mut World, now: Instant, attempt: &Attempt) -> Option<State> {
    if !attempt.promoted.is_empty() {
        return None;
    }
    let (node, rule) = super::claims::adoptable(world)?;
    let why = "others have promoted a node meanwhile".to_owned();
    let entry = attempt.entry(world, None, why.clone());
    world.tell(rule, Action::RecordHistory(entry));
    if let Some(command) = attempt.command {
        let result = Err(Refusal::Abandoned(why));
        world.tell(RuleId::C1a, Action::Answer { command, result });
    }
    Some(super::record::Recording::begin(world, now, node, rule))
}

/// Why an attempt is given up.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) rule: RuleId,
    pub(super) why: Refusal,
}

/// Everything that was touched goes back to the old primary.
pub(super) fn put_back(world: &mut World, now: Instant, attempt: &Attempt) {
    let limit = world.settings.repoint_timeout;
    for node in attempt.touched.iter().filter(|node| **node != attempt.from).copied().collect::<Vec<_>>() {
        let name = if is_member(world.node(node)) { FollowerName::Own } else { FollowerName::Neutral };
        let action = Action::Repoint { node, upstream: attempt.from, name };
        attempt.ask(world, now, Order::new(RuleId::R10c, limit, action));
    }
    if attempt.cause == Cause::Switchover {
        let limit = world.settings.effect_timeout;
        attempt.ask(world, now, Order::new(RuleId::S1e, limit, Action::Unfence(attempt.from)));
    }
    if let Some(record) = world.record.as_mut() {
        record.intent = None;
        let number = Timeline(record.timeline.0.saturating_add(1));
        record.note_twins(attempt.strayed(None, &[]), number);
        for node in &attempt.promoted {
            if !record.displaced.contains(node) {
                record.displaced.push(*node);
            }
        }
    }
    world.save(now, RuleId::R10c);
}

fn is_member(node: Option<&Node>) -> bool {
    node.is_some_and(|node| node.standing == Standing::Member)
}

/// Whether this attempt may lose acknowledged writes.
pub(super) fn lossy(world: &World, attempt: &Attempt) -> bool {
    attempt.wish.allow_data_loss || world.settings.durability == Durability::Async
}

/// What the new primary does not have of the old one's WAL, as far as it was seen.
pub(super) fn lost(world: &World, attempt: &Attempt, fork: Lsn) -> Option<Lost> {
    let seen = world.node(attempt.from)?.seen.as_ref()?;
    let tail = seen.facts.position();
    (tail > fork && !seen.facts.in_recovery).then_some(Lost {
        timeline: seen.facts.timeline,
        after: fork,
        seen: tail,
    })
}
