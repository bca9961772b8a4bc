//! Read-only: there is no primary to be had now. Replicas serve reads; every new fact is a reason to try again.

use std::time::Instant;

use super::attempt::{Attempt, put_back};
use super::claims;
use super::establish::{Crowned, Establishing};
use super::evidence::{Verdict, judge};
use super::history::{Cause, Step};
use super::lock::Locking;
use super::nodes::Node;
use super::promote::half_promoted;
use super::record::Recording;
use super::revive;
use super::rule::RuleId;
use super::state::State;
use super::status::Refusal;
use super::steady::Steady;
use super::suspect::{against_the_primary, permit, warn};
use super::world::World;
use crate::model::{Lsn, Service};

/// Awaits a primary, or enough nodes to make one.
#[derive(Clone, Debug)]
pub(super) struct ReadOnly {
    why: Refusal,
    since: Instant,
    retry_at: Instant,
    /// An attempt that has told a node to promote and is not through: only forward, or back where that is proven safe.
    carried: Option<Box<Attempt>>,
}

impl ReadOnly {
    pub(super) fn begin(world: &mut World, now: Instant, why: Refusal, carried: Option<Attempt>) -> State {
        world.service = Service::ReadOnly;
        let retry_at = now + world.settings.attempt_backoff;
        State::ReadOnly(Self { why, since: now, retry_at, carried: carried.map(Box::new) })
    }

    pub(super) fn on(self, world: &mut World, now: Instant) -> State {
        let next = self.decide(world, now);
        if matches!(next, State::ReadOnly(_)) {
            revive::all(world, now);
        }
        next
    }

    fn decide(mut self, world: &mut World, now: Instant) -> State {
        if let Some(crowned) = self.finished_behind_us(world)
            && let Some(mut attempt) = self.carried.take()
        {
            world.decided(RuleId::R7b);
            attempt.mark(Step::Promoted, now);
            attempt.epoch = world.next_epoch();
            return Establishing::begin(world, now, *attempt, crowned);
        }
        if let Some((node, rule)) = claims::adoptable(world) {
            return Recording::begin(world, now, node, rule);
        }
        match judge(world, now, self.since) {
            Verdict::Alive => self.resume(world, now),
            Verdict::Wait { rule, .. } => {
                warn(world, rule);
                State::ReadOnly(self)
            }
            Verdict::Gone { rule, soft } => self.try_again(world, now, rule, soft),
        }
    }

    /// The node that an abandoned attempt told to promote is a primary now. Nobody else was told, and the old primary was not
    /// given anything back, so it holds all that was acknowledged.
    fn finished_behind_us(&self, world: &World) -> Option<Crowned> {
        let attempt = self.carried.as_ref()?;
        let [candidate] = attempt.promoted.iter().copied().collect::<Vec<_>>()[..] else { return None };
        let timeline = half_promoted(world, candidate)?;
        let fork = attempt.recruits.get(&candidate).map_or_else(
            || {
                world
                    .node(candidate)
                    .and_then(Node::facts)
                    .map_or(Lsn::ZERO, super::observation::Facts::applied)
            },
            |recruit| recruit.received,
        );
        Some(Crowned { node: candidate, timeline, fork })
    }

    /// The old primary lives. After a promotion was tried the way is forward, unless the node that was told to promote can get
    /// nothing acknowledged even if it becomes a primary yet.
    fn resume(mut self, world: &mut World, now: Instant) -> State {
        let Some(attempt) = self.carried.take() else { return Steady::resume(world, now, RuleId::R1a) };
        if !may_go_back(world, &attempt) {
            self.carried = Some(attempt);
            return self.try_again(world, now, RuleId::R7c, false);
        }
        world.decided(RuleId::R10c);
        put_back(world, now, &attempt);
        Steady::resume(world, now, RuleId::R10c)
    }

    fn try_again(mut self, world: &mut World, now: Instant, rule: RuleId, soft: bool) -> State {
        if now < self.retry_at {
            return State::ReadOnly(self);
        }
        let Some(attempt) = self.carried.take() else {
            return match permit(world, now, rule, soft) {
                Ok(()) => Locking::begin(world, now, against_the_primary(world, rule, self.since, now)),
                Err(why) => {
                    self.why = why;
                    self.retry_at = now + world.settings.attempt_backoff;
                    State::ReadOnly(self)
                }
            };
        };
        if world.paused && attempt.cause == Cause::Failover {
            self.carried = Some(attempt);
            self.retry_at = now + world.settings.attempt_backoff;
            return State::ReadOnly(self);
        }
        world.decided(RuleId::R7c);
        let mut attempt = *attempt;
        attempt.excluded.clear();
        // A target was a wish about whom to prefer; what counts now is to get a primary at all.
        attempt.wish.target = None;
        attempt.cause = if attempt.cause == Cause::Switchover { Cause::Failover } else { attempt.cause };
        Locking::begin(world, now, attempt)
    }

    pub(super) fn deadline(&self, world: &World, now: Instant) -> Option<Instant> {
        let judged = match judge(world, now, self.since) {
            Verdict::Wait { until, .. } => until,
            Verdict::Alive | Verdict::Gone { .. } => Some(self.retry_at),
        };
        judged.map(|at| at.max(now))
    }

    pub(super) fn why(&self) -> String {
        self.why.to_string()
    }

    /// The rule that forbids a primary.
    pub(super) fn rule(&self) -> RuleId {
        match self.why {
            Refusal::Paused => RuleId::R10d,
            Refusal::RateLimited { .. } => RuleId::R10a,
            Refusal::NoCandidate { .. } => RuleId::R4a,
            Refusal::NotEnoughRecruits { .. } => RuleId::R3d,
            _ => RuleId::R10b,
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Takes the unfinished attempt out, for a person's command to go on with.
    pub(super) fn take_carried(&mut self) -> Option<Attempt> {
        self.carried.take().map(|attempt| *attempt)
    }
}

/// Whether the old primary may go on although others were told to promote: `pg_promote` that was sent cannot be called back,
/// and may come true at any time. It does no harm while those who could acknowledge anything to the new primary are seen
/// stopped, on the old timeline, and have not been turned to it since.
fn may_go_back(world: &World, attempt: &Attempt) -> bool {
    let Some(record) = world.record.as_ref() else { return false };
    let standbys = super::attempt::cohorts(world).map(|cohort| cohort.standbys).min().unwrap_or(0);
    if standbys == 0 || !world.holds(RuleId::R7f) {
        // Nothing binds the two primaries; what counts is that nobody has followed the new one.
        let moved_on = |node: &Node| {
            node.standby(record.system_id).is_some_and(|facts| facts.timeline > record.timeline)
        };
        return !world.nodes.iter().any(moved_on);
    }
    let stopped = |node: &Node| {
        let recruit = attempt.recruits.get(&node.id);
        !attempt.turned.contains(&node.id)
            && recruit.is_some_and(|recruit| recruit.timeline <= record.timeline)
    };
    let others =
        world.nodes.iter().filter(|node| node.id != attempt.from && !attempt.promoted.contains(&node.id));
    others.filter(|node| !stopped(node)).count() < standbys
}
