//! Discovering: who is the primary? Roles are found out, never configured.
//!
//! With a journal the recorded primary stands unless a newer timeline is proven. Without one the nodes themselves must
//! prove it; where they do not, writes are refused and a person is told, because a wrong guess splits the cluster.

use std::time::Instant;

use super::attempt::Attempt;
use super::claims;
use super::effect::Action;
use super::establish::{Crowned, Establishing};
use super::evidence::is_recorded;
use super::history::Cause;
use super::input::Recruit;
use super::journal::{Intent, IntentPhase, Record};
use super::nodes::Node;
use super::observation::Facts;
use super::promote::half_promoted;
use super::read_only::ReadOnly;
use super::record::Recording;
use super::rule::RuleId;
use super::state::State;
use super::status::{Alarm, Refusal};
use super::steady::Steady;
use super::suspect::Suspect;
use super::world::{Order, World};
use crate::model::{NodeId, Service, Timeline};

/// Awaits word from every node, or the end of its patience.
#[derive(Clone, Copy, Debug)]
pub(super) struct Discovering {
    until: Instant,
    rule: RuleId,
}

impl Discovering {
    pub(super) fn begin(world: &World, now: Instant) -> State {
        let rule = if world.record.is_some() { RuleId::D1g } else { RuleId::D1e };
        State::Discovering(Self { until: now + world.settings.discover_timeout, rule })
    }

    /// Looks again at once.
    pub(super) fn again(now: Instant, rule: RuleId) -> Self {
        Self { until: now, rule }
    }

    pub(super) fn on(mut self, world: &mut World, now: Instant) -> State {
        let all_heard = world.nodes.iter().all(|node| node.last.is_some() || node.member.removed);
        if !all_heard && now < self.until {
            return State::Discovering(self);
        }
        if let Some(record) = world.record.clone() {
            return with_journal(world, now, &record);
        }
        match without_journal(world) {
            Found::Primary(node, rule) => Recording::begin(world, now, node, rule),
            Found::Nobody(rule, alarm) => {
                world.service = Service::ReadOnly;
                self.rule = rule;
                world.clear_alarms(|old| *old != alarm);
                world.raise(rule, alarm);
                State::Discovering(self)
            }
        }
    }

    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        (self.until > now).then_some(self.until)
    }

    pub(super) fn rule(&self) -> RuleId {
        self.rule
    }
}

// ---- with a journal ------------------------------------------------------------------------------------------------

fn with_journal(world: &mut World, now: Instant, record: &Record) -> State {
    if let Some(intent) = &record.intent {
        return take_up(world, now, record, intent);
    }
    if let Some((node, rule)) = claims::adoptable(world) {
        return Recording::begin(world, now, node, rule);
    }
    if recorded_lives(world, record) {
        world.decided(RuleId::D1a);
        return Steady::resume(world, now, RuleId::D1a);
    }
    Suspect::begin(world, now, RuleId::D1g)
}

fn recorded_lives(world: &World, record: &Record) -> bool {
    world.node(record.primary).and_then(Node::facts).is_some_and(|facts| is_recorded(world, facts))
}

/// An earlier run was killed in the middle of an attempt: it is finished or undone.
fn take_up(world: &mut World, now: Instant, record: &Record, intent: &Intent) -> State {
    let begun = |cause: Cause| {
        let mut attempt = Attempt::new(record.primary, cause, RuleId::R7c, now, now);
        attempt.wish.allow_data_loss = intent.allow_data_loss;
        attempt
    };
    match (intent.phase, intent.candidate) {
        (IntentPhase::Promoting, Some(candidate)) => {
            let mut attempt = begun(Cause::Failover);
            attempt.promoted.insert(candidate);
            if candidate == record.primary && recorded_lives(world, record) {
                // Promoted and recorded; only the term row may be missing.
                let crowned = Crowned { node: candidate, timeline: record.timeline, fork: record.fork };
                return finish(world, now, attempt, crowned);
            }
            if let Some(crowned) = promoted(world, candidate) {
                return finish(world, now, attempt, crowned);
            }
            if candidate == record.primary {
                return Suspect::begin(world, now, RuleId::D1g);
            }
            world.decided(RuleId::R7c);
            ReadOnly::begin(world, now, Refusal::Check(RuleId::R7c.text().into()), Some(attempt))
        }
        (phase, _) => {
            if !recorded_lives(world, record) {
                return Suspect::begin(world, now, RuleId::D1g);
            }
            world.decided(RuleId::R7c);
            if phase == IntentPhase::Switching || phase == IntentPhase::Recruiting {
                // It may have been a switchover's: then the primary still takes no writes.
                let limit = world.settings.effect_timeout;
                let order = Order::new(RuleId::S1e, limit, Action::Unfence(record.primary));
                world.ask(now, intent.epoch, order);
            }
            if let Some(record) = world.record.as_mut() {
                record.intent = None;
            }
            world.save(now, RuleId::R7c);
            Steady::resume(world, now, RuleId::R7c)
        }
    }
}

fn promoted(world: &World, candidate: NodeId) -> Option<Crowned> {
    let timeline = half_promoted(world, candidate)?;
    let fork = world.node(candidate).and_then(Node::facts).map(Facts::applied)?;
    Some(Crowned { node: candidate, timeline, fork })
}

fn finish(world: &mut World, now: Instant, mut attempt: Attempt, crowned: Crowned) -> State {
    world.decided(RuleId::R7b);
    // Those who follow the candidate already keep their names; the others are vetted.
    let following = |node: &&Node| {
        let receiver = node.facts().and_then(|facts| facts.receiver.as_ref());
        receiver.is_some_and(|receiver| {
            receiver.streaming
                && receiver.upstream == Some(crowned.node)
                && receiver.timeline == crowned.timeline
        })
    };
    let level = Recruit { received: crowned.fork, replayed: crowned.fork, timeline: crowned.timeline };
    attempt.recruits.insert(crowned.node, level);
    let followers: Vec<NodeId> = world.nodes.iter().filter(following).map(|node| node.id).collect();
    attempt.recruits.extend(followers.into_iter().map(|node| (node, level)));
    attempt.epoch = world.next_epoch();
    Establishing::begin(world, now, attempt, crowned)
}

// ---- without a journal ---------------------------------------------------------------------------------------------

enum Found {
    Primary(NodeId, RuleId),
    Nobody(RuleId, Alarm),
}

fn without_journal(world: &World) -> Found {
    let claimants: Vec<(&Node, &Facts)> = world
        .nodes
        .iter()
        .filter_map(|node| node.facts().filter(|facts| !facts.in_recovery).map(|facts| (node, facts)))
        .collect();
    match claimants[..] {
        [] => Found::Nobody(RuleId::D1e, Alarm::NoPrimary),
        [(node, facts)] => {
            // A standby of the same cluster on a newer timeline has followed another primary: this one is an old one.
            let newer = |other: &Node| {
                other.facts().is_some_and(|standby| {
                    standby.system_id == facts.system_id && standby.timeline > facts.timeline
                })
            };
            if world.nodes.iter().any(newer) {
                return Found::Nobody(RuleId::D1f, Alarm::AmbiguousPrimary { claimants: vec![node.id] });
            }
            Found::Primary(node.id, RuleId::D1b)
        }
        _ => among(world, &claimants),
    }
}

/// Several claim to be the primary: the newest timeline proves it, unless an older one has more followers.
fn among(world: &World, claimants: &[(&Node, &Facts)]) -> Found {
    let ambiguous = || {
        let claimants = claimants.iter().map(|(node, _)| node.id).collect();
        Found::Nobody(RuleId::D1d, Alarm::AmbiguousPrimary { claimants })
    };
    let followers = |id: NodeId| {
        let follows = |node: &&Node| {
            let receiver = node.facts().and_then(|facts| facts.receiver.as_ref());
            receiver.is_some_and(|receiver| receiver.streaming && receiver.upstream == Some(id))
        };
        world.nodes.iter().filter(follows).count()
    };
    let newest = claimants.iter().map(|(_, facts)| facts.timeline).max().unwrap_or(Timeline(0));
    let mut on_newest = claimants.iter().filter(|(_, facts)| facts.timeline == newest);
    let (Some((node, facts)), None) = (on_newest.next(), on_newest.next()) else { return ambiguous() };
    let rivals = || claimants.iter().filter(|(other, _)| other.id != node.id);
    let foreign = rivals().any(|(_, other)| other.system_id != facts.system_id);
    let outdone = rivals().any(|(other, _)| followers(other.id) > followers(node.id));
    if foreign || outdone { ambiguous() } else { Found::Primary(node.id, RuleId::D1c) }
}
