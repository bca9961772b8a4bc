//! Suspect: a probe of the primary failed. Writes are held while the evidence is looked at.

use std::time::Instant;

use super::attempt::{Attempt, enough, recruitable};
use super::candidate::Wish;
use super::claims;
use super::evidence::{Verdict, judge};
use super::history::{Cause, Step};
use super::lock::Locking;
use super::read_only::ReadOnly;
use super::record::Recording;
use super::rule::RuleId;
use super::state::State;
use super::status::{Alarm, Refusal};
use super::steady::Steady;
use super::world::World;
use crate::model::Service;

/// Awaits evidence one way or the other.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    /// The first sign of trouble: older answers prove nothing.
    since: Instant,
    held: Instant,
    rule: RuleId,
}

impl Suspect {
    pub(super) fn begin(world: &mut World, now: Instant, rule: RuleId) -> State {
        let primary = world.primary().and_then(|id| world.node(id));
        let since = primary.and_then(|node| node.failing_since).unwrap_or(now);
        world.service = Service::Held;
        world.decided(rule);
        world.probe_all(RuleId::R1h);
        Self { since, held: now, rule }.on(world, now)
    }

    pub(super) fn on(mut self, world: &mut World, now: Instant) -> State {
        if let Some((node, rule)) = claims::adoptable(world) {
            return Recording::begin(world, now, node, rule);
        }
        match judge(world, now, self.since) {
            Verdict::Alive => {
                world.decided(RuleId::R1a);
                Steady::resume(world, now, RuleId::R1a)
            }
            Verdict::Wait { rule, .. } => {
                self.rule = rule;
                if now >= self.since + world.settings.detect_timeout || rule != RuleId::R1d {
                    // A receiver may outlive its primary by a few milliseconds, which is nothing to tell people.
                    warn(world, rule);
                }
                State::Suspect(self)
            }
            Verdict::Gone { rule, soft } => match permit(world, now, rule, soft) {
                Ok(()) => Locking::begin(world, now, self.attempt(world, rule, now)),
                Err(why) => ReadOnly::begin(world, now, why, None),
            },
        }
    }

    fn attempt(&self, world: &World, rule: RuleId, now: Instant) -> Attempt {
        let mut attempt = against_the_primary(world, rule, self.since, now);
        attempt.mark(Step::Held, self.held);
        attempt
    }

    pub(super) fn deadline(&self, world: &World, now: Instant) -> Option<Instant> {
        match judge(world, now, self.since) {
            Verdict::Wait { until, .. } => until,
            Verdict::Alive | Verdict::Gone { .. } => Some(now),
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn rule(&self) -> RuleId {
        self.rule
    }
}

/// A fresh attempt to replace the primary of the record.
pub(super) fn against_the_primary(world: &World, rule: RuleId, since: Instant, now: Instant) -> Attempt {
    let from = world.primary().unwrap_or(crate::model::NodeId(0));
    Attempt::new(from, Cause::Failover, rule, since, now)
}

/// Tells people what is strange about the evidence.
pub(super) fn warn(world: &mut World, rule: RuleId) {
    let Some(primary) = world.primary() else { return };
    match rule {
        RuleId::R1d => world.raise(rule, Alarm::UnreachablePrimary { primary }),
        RuleId::R1j => world.raise(rule, Alarm::PrimaryRefusesUs { primary }),
        _ => {}
    }
}

/// Whether an automatic failover may be begun now. Notes it where soft evidence is rationed.
pub(super) fn permit(world: &mut World, now: Instant, rule: RuleId, soft: bool) -> Result<(), Refusal> {
    let verdict = may(world, now, soft);
    match verdict {
        Ok(()) => {
            if soft {
                world.flaps.push_back(now);
            }
            world.clear_alarms(|alarm| matches!(alarm, Alarm::FailoverRefused(_)));
            Ok(())
        }
        Err(why) => {
            let by = match &why {
                Refusal::Paused => RuleId::R10d,
                Refusal::RateLimited { .. } => RuleId::R10a,
                _ => RuleId::R3d,
            };
            world.decided(rule);
            let told = |alarm: &Alarm| {
                matches!(alarm, Alarm::FailoverRefused(old)
                    if std::mem::discriminant(old) == std::mem::discriminant(&why))
            };
            if !world.alarms.iter().any(told) {
                world.clear_alarms(|alarm| matches!(alarm, Alarm::FailoverRefused(_)));
                world.raise(by, Alarm::FailoverRefused(why.clone()));
            }
            Err(why)
        }
    }
}

fn may(world: &mut World, now: Instant, soft: bool) -> Result<(), Refusal> {
    if world.paused {
        return Err(Refusal::Paused);
    }
    if world.alarms.iter().any(|alarm| matches!(alarm, Alarm::JournalFailed { .. })) {
        // Nothing could be intended; that it is possible again is found out by saving what is known.
        return Err(Refusal::Check("the journal cannot be written".into()));
    }
    enough(world, Wish::default(), &recruitable(world))?;
    if soft && world.holds(RuleId::R10a) {
        let (window, interval) = (world.settings.flap_window, world.settings.flap_interval);
        world.flaps.retain(|at| now.saturating_duration_since(*at) < window);
        let spaced = world.flaps.back().map(|last| *last + interval);
        let rationed = (world.flaps.len() >= world.settings.flap_max)
            .then(|| world.flaps.front().map(|first| *first + window))
            .flatten();
        if let Some(free) = spaced.max(rationed).filter(|free| *free > now) {
            return Err(Refusal::RateLimited { wait: free.saturating_duration_since(now) });
        }
    }
    Ok(())
}
