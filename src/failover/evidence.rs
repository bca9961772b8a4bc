//! Judges whether the primary is gone. In: what each node last said and when. Out: a verdict with its rule.
//!
//! The replicas are witnesses: a primary that they still hear is not gone, whatever we can or cannot reach.
//! A wrong verdict costs availability only: before anything is promoted enough receivers are seen stopped.

use std::time::{Duration, Instant};

use super::nodes::{Node, ReachKind};
use super::observation::Facts;
use super::rule::RuleId;
use super::world::World;
use crate::model::NodeId;

/// What the evidence says about the primary of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answers as the primary.
    Alive,
    /// Nothing is proven yet; `until` is when time alone may change that.
    Wait { rule: RuleId, until: Option<Instant> },
    /// It is gone. Soft evidence is subject to the rate limit.
    Gone { rule: RuleId, soft: bool },
}

/// Judges the primary of the record. Answers to probes sent before `since` do not prove it alive.
pub(super) fn judge(world: &World, now: Instant, since: Instant) -> Verdict {
    let Some(primary) = world.primary().and_then(|id| world.node(id)) else {
        return Verdict::Wait { rule: RuleId::D1e, until: None };
    };
    if let Some(facts) = primary.facts_since(since) {
        if is_recorded(world, facts) {
            return Verdict::Alive;
        }
        if world.system_id() == Some(facts.system_id) && facts.in_recovery {
            return Verdict::Gone { rule: RuleId::R1g, soft: false };
        }
    }
    let stale = primary.seen.as_ref().is_none_or(|seen| seen.sent < since);
    if primary.facts().is_some() && stale {
        // It answered the last probe, which is older than the question.
        return Verdict::Wait { rule: RuleId::R1h, until: None };
    }
    let failing = primary.failing_since.unwrap_or(since);
    let settings = &world.settings;
    match primary.last.map(|last| last.reach) {
        Some(ReachKind::AuthFailed | ReachKind::Other) => Verdict::Wait { rule: RuleId::R1j, until: None },
        Some(ReachKind::Starting | ReachKind::ShuttingDown) => {
            let until = primary.grace_since.unwrap_or(failing) + settings.restart_grace;
            if now < until {
                return Verdict::Wait { rule: RuleId::R1f, until: Some(until) };
            }
            hard(world, now, failing)
        }
        Some(ReachKind::Refused | ReachKind::Reset) => hard(world, now, failing),
        Some(ReachKind::Timeout) | None => soft(world, now, failing),
        // It answers, as something else than the primary of the record.
        Some(ReachKind::Answered) => hard(world, now, since),
    }
}

/// Whether these facts are those of the primary of the record.
pub(super) fn is_recorded(world: &World, facts: &Facts) -> bool {
    let same = |record: &super::journal::Record| {
        record.system_id == facts.system_id && record.timeline == facts.timeline && !facts.in_recovery
    };
    world.record.as_ref().is_some_and(same)
}

fn hard(world: &World, now: Instant, failing: Instant) -> Verdict {
    let patience = failing + world.settings.detect_timeout;
    match witnesses(world, failing) {
        Witnesses::Hear => contradiction(world, now, failing),
        // A replica that has not been heard since is asked first, but a frozen one must not delay the verdict for long.
        Witnesses::NotAsked if now < patience => Verdict::Wait { rule: RuleId::R1h, until: Some(patience) },
        Witnesses::NotAsked | Witnesses::Silent => Verdict::Gone { rule: RuleId::R1b, soft: false },
    }
}

fn soft(world: &World, now: Instant, failing: Instant) -> Verdict {
    let until = failing + world.settings.detect_timeout;
    if now < until {
        return Verdict::Wait { rule: RuleId::R1h, until: Some(until) };
    }
    if !world.holds(RuleId::R1c) {
        // What a core would do that takes an accepted connection for a sign of life (T10); only a test comes here.
        return Verdict::Wait { rule: RuleId::R1h, until: None };
    }
    match witnesses(world, failing) {
        Witnesses::Hear => contradiction(world, now, failing),
        Witnesses::NotAsked | Witnesses::Silent => Verdict::Gone { rule: RuleId::R1c, soft: true },
    }
}

fn contradiction(world: &World, now: Instant, failing: Instant) -> Verdict {
    if !world.holds(RuleId::R1d) {
        return Verdict::Gone { rule: RuleId::R1b, soft: false };
    }
    let stalled = world.progress_at.max(Some(failing)).unwrap_or(failing) + world.settings.stall_timeout;
    if now >= stalled {
        return Verdict::Gone { rule: RuleId::R1e, soft: true };
    }
    Verdict::Wait { rule: RuleId::R1d, until: Some(stalled) }
}

/// What the replicas say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Witnesses {
    /// One at least still hears the primary.
    Hear,
    /// None hears it, but one that answered before has not been asked since the primary fails.
    NotAsked,
    /// None that can be reached hears it.
    Silent,
}

fn witnesses(world: &World, failing: Instant) -> Witnesses {
    let Some(primary) = world.primary() else { return Witnesses::Silent };
    let mut all_asked = true;
    for node in world.nodes.iter().filter(|node| node.id != primary) {
        // Its newest answer counts even where it is older than the trouble: hearing then proves nothing now.
        match node.facts_since(failing) {
            Some(facts) if hears(world, facts, primary) => return Witnesses::Hear,
            Some(_) => {}
            None => all_asked &= node.facts().is_none(),
        }
    }
    if all_asked { Witnesses::Silent } else { Witnesses::NotAsked }
}

/// Whether this standby's receiver is connected to the primary and was told something lately.
fn hears(world: &World, facts: &Facts, primary: NodeId) -> bool {
    let Some(receiver) = facts.receiver.as_ref() else { return false };
    let on_it = receiver.upstream.is_none_or(|upstream| upstream == primary);
    let silent = receiver.message_age.is_none_or(|age| age >= silence(world, facts));
    receiver.streaming && on_it && !silent
}

/// How old the last message must be to prove silence. An idle receiver asks for a sign of life after half of
/// `wal_receiver_timeout`, so anything younger is normal on an idle cluster.
fn silence(world: &World, facts: &Facts) -> Duration {
    let detect = world.settings.detect_timeout;
    if facts.receiver_timeout.is_zero() {
        // Switched off: only the receiver's end proves anything, or the stall.
        return Duration::MAX;
    }
    detect.max(facts.receiver_timeout / 2 + detect / 6)
}

/// Whether a newest probe of the primary is a reason to hold writes and look closely.
pub(super) fn is_failure(world: &World, node: &Node) -> bool {
    match node.last.map(|last| last.reach) {
        None | Some(ReachKind::AuthFailed | ReachKind::Other) => false,
        Some(ReachKind::Answered) => node.facts().is_some_and(|facts| !is_recorded(world, facts)),
        Some(_) => true,
    }
}
