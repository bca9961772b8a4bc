//! Whose acknowledgements count: `synchronous_standby_names` is kept right through joins, losses and changes of primary.
//!
//! In: what the primary and its standbys say. Out: the text for each node, and the cohorts of the record. A commit that was
//! acknowledged under one text is safe only where enough recruits for *that* text are found, so a text is noted durably
//! before it is made, and the one before it counts until the standbys of the new one have all that it let through.

use std::time::{Duration, Instant};

use super::effect::Action;
use super::journal::Cohort;
use super::nodes::{FENCE_MARK, Node};
use super::observation::Facts;
use super::quorum::{self, cohort_of};
use super::rule::RuleId;
use super::settings::Degrade;
use super::status::{Alarm, Standing};
use super::world::{Order, World};
use crate::model::{Lsn, NodeId};

/// Within this time after a new text can be seen in force every process of the server has it. What was acknowledged under
/// the old one is below the position that is read afterwards.
const SETTLE: Duration = Duration::from_millis(50);

/// While the standbys are not seen to have everything, the primary is asked this often.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What is known of the standbys that have to acknowledge.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    /// Since when fewer acknowledge than have to.
    short_since: Option<Instant>,
    /// The cohort that is in force and is to replace the one before.
    new: Option<NewCohort>,
}

/// A cohort that was seen in force.
#[derive(Clone, Debug)]
struct NewCohort {
    cohort: Cohort,
    since: Instant,
    /// Nothing that was acknowledged under the old text is past this.
    floor: Option<Lsn>,
    asked: Instant,
}

// ---- what is in force ------------------------------------------------------------------------------------------

/// Takes note of whose acknowledgements count on the primary now.
pub(super) fn watch(world: &mut World, now: Instant) {
    let Some(primary) = world.primary() else { return };
    let Some(node) = world.node(primary) else { return };
    let Some(facts) = node.facts().filter(|facts| !facts.in_recovery).cloned() else { return };
    watch_shortage(world, now, &facts);
    let cohort = cohort_of(&facts.sync_names, &world.nodes, primary);
    // Whether another text is on its way to the server, and this one already accounted for.
    let changing = text_for(world, primary).is_some_and(|wanted| wanted != facts.sync_names);
    let Some(record) = world.record.as_mut() else { return };
    match &record.cohort_next {
        None if record.cohort == cohort => {
            world.coverage.new = None;
            return;
        }
        Some(next) if *next == cohort => {}
        _ if changing && quorum::both(&record.cohort, &cohort) == record.cohort => return,
        // Somebody else has changed it, or one change has overtaken another.
        _ => {
            if let Some(next) = record.cohort_next.take() {
                record.cohort = quorum::both(&record.cohort, &next);
            }
            record.cohort_next = Some(cohort);
            world.save(now, RuleId::Q1b);
            return;
        }
    }
    if covers(world, now, &cohort, &facts) || !world.holds(RuleId::Q1e) {
        world.coverage.new = None;
        if let Some(record) = world.record.as_mut() {
            (record.cohort, record.cohort_next) = (cohort, None);
        }
        world.save(now, RuleId::Q1e);
    }
}

/// Whether enough standbys of the cohort in force have all that was acknowledged before it was.
fn covers(world: &mut World, now: Instant, cohort: &Cohort, facts: &Facts) -> bool {
    if cohort.standbys == 0 {
        return true;
    }
    let Some(sent) = world
        .primary()
        .and_then(|id| world.node(id))
        .and_then(|node| node.seen.as_ref())
        .map(|seen| seen.sent)
    else {
        return false;
    };
    if world.coverage.new.as_ref().is_none_or(|new| new.cohort != *cohort) {
        world.coverage.new = Some(NewCohort { cohort: cohort.clone(), since: now, floor: None, asked: now });
    }
    let Some(new) = world.coverage.new.as_mut() else { return false };
    if new.floor.is_none() && sent >= new.since + SETTLE {
        new.floor = Some(facts.applied());
    }
    let floor = new.floor;
    let covered = floor.is_some_and(|floor| has(world, cohort, facts, floor) >= cohort.standbys);
    ask_again(world, now, covered);
    covered
}

/// Has the primary asked soon, as long as something is missing.
fn ask_again(world: &mut World, now: Instant, covered: bool) {
    let Some(primary) = world.primary() else { return };
    let Some(new) = world.coverage.new.as_mut().filter(|_| !covered) else { return };
    let due = if new.floor.is_none() { new.since + SETTLE } else { new.asked + ASK_EVERY };
    if now >= due && now >= new.asked + ASK_EVERY {
        new.asked = now;
        world.tell(RuleId::Q1e, Action::Probe(primary));
    }
}

/// How many standbys of this cohort have flushed up to `floor`.
fn has(world: &World, cohort: &Cohort, facts: &Facts, floor: Lsn) -> usize {
    let has = |node: &&Node| {
        cohort.members.contains(&node.id)
            && node.standing == Standing::Member
            && facts.senders.iter().any(|sender| {
                sender.streaming
                    && sender.name.eq_ignore_ascii_case(&node.member.name)
                    && sender.flushed >= Some(floor)
            })
    };
    world.nodes.iter().filter(has).count()
}

/// A new primary brings its own text: until it is seen what is in force, both cohorts count (Q1b).
pub(super) fn expect(world: &mut World) {
    world.coverage = Coverage::default();
    let Some(primary) = world.primary() else { return };
    let seen = world.node(primary).map(|node| node.sync_names.clone());
    let Some(text) = text_for(world, primary).or(seen) else { return };
    let cohort = cohort_of(&text, &world.nodes, primary);
    let Some(record) = world.record.as_mut() else { return };
    if let Some(next) = record.cohort_next.take_if(|next| *next != cohort) {
        record.cohort = quorum::both(&record.cohort, &next);
    }
    if record.cohort != cohort {
        record.cohort_next = Some(cohort);
    }
}

// ---- what is wanted --------------------------------------------------------------------------------------------

/// The text that this node should have; `None` where that is not for us to say. A fence is undone in any case.
fn text_for(world: &World, id: NodeId) -> Option<String> {
    let node = world.node(id)?;
    let full = world.settings.durability.standbys_for(world.present());
    let managed = world.settings.manage_sync_names && full > 0 && world.present() > 1;
    // Whoever becomes the primary begins with the whole quorum, whatever the present one has to do without.
    let standbys = if world.primary() == Some(id) { standbys_now(world, full) } else { full };
    let marked = node.facts().is_some_and(|facts| facts.sync_names.contains(FENCE_MARK));
    let own = marked.then(|| node.sync_names.clone());
    if managed { Some(quorum::text(standbys, &world.nodes)) } else { own }
}

/// A candidate that was fenced once takes writes again, and has the right names before its first commit.
pub(super) fn prepare(world: &World, candidate: NodeId) -> Vec<Action> {
    let Some(facts) = world.node(candidate).and_then(Node::facts) else { return Vec::new() };
    let unfence = facts.read_only.then_some(Action::Unfence(candidate));
    let text = text_for(world, candidate).filter(|text| facts.sync_names != *text);
    unfence.into_iter().chain(text.map(|text| Action::SetSyncNames { node: candidate, text })).collect()
}

/// The same text on every node (Q1a), and on the primary only when enough standbys are there to acknowledge.
pub(super) fn sync_names(world: &mut World, now: Instant, id: NodeId) -> Option<Order> {
    let text = text_for(world, id)?;
    let facts = world.node(id).and_then(Node::facts)?;
    if facts.sync_names == text {
        return None;
    }
    let marked = facts.sync_names.contains(FENCE_MARK);
    let primary = world.primary()?;
    let cohort = cohort_of(&text, &world.nodes, id);
    let in_force = cohort_of(&facts.sync_names, &world.nodes, id);
    let limit = world.settings.effect_timeout;
    let fewer = id == primary && cohort.standbys < in_force.standbys && world.coverage.short_since.is_some();
    let rule = if fewer { RuleId::Q1f } else { RuleId::Q1a };
    let order = Order::new(rule, limit, Action::SetSyncNames { node: id, text });
    if id != primary {
        return Some(order);
    }
    let ready = world.nodes.iter().filter(|node| node.id != primary && acknowledges(node)).count();
    // With the mark of a fence nothing is acknowledged at all: it cannot get worse.
    if ready < cohort.standbys && !marked {
        return None;
    }
    if !world.holds(RuleId::Q1b) {
        return Some(order);
    }
    // Both cohorts count, durably, before the text is changed (Q1b).
    let record = world.record.as_mut()?;
    if record.cohort_next.as_ref() != Some(&cohort) {
        if let Some(next) = record.cohort_next.take() {
            record.cohort = quorum::both(&record.cohort, &next);
        }
        record.cohort_next = Some(cohort);
        world.save(now, RuleId::Q1b);
    }
    (!world.saving()).then_some(order)
}

fn acknowledges(node: &Node) -> bool {
    let streams = |facts: &Facts| {
        facts.receiver.as_ref().is_some_and(|receiver| {
            receiver.streaming && receiver.name.as_deref().is_none_or(|name| name == &*node.member.name)
        })
    };
    node.standing == Standing::Member && node.facts().is_some_and(streams)
}

// ---- too few are there -----------------------------------------------------------------------------------------

/// How many standbys must have a commit on the primary now, of the `full` number that is wanted.
fn standbys_now(world: &World, full: usize) -> usize {
    let Some(Degrade { standbys_min, .. }) = world.settings.degrade else { return full };
    let least = usize::from(standbys_min).min(full);
    let Some(facts) = world.primary().and_then(|id| world.node(id)).and_then(Node::facts) else {
        return full;
    };
    let in_force = quorum::parse(&facts.sync_names).standbys;
    let marked = facts.sync_names.contains(FENCE_MARK);
    let there = present(world, facts);
    if there >= full || marked || facts.in_recovery {
        full
    } else if there < in_force {
        // Commits wait; how long still?
        if is_short(world) { there.max(least) } else { in_force.min(full) }
    } else {
        there.max(least)
    }
}

/// Standbys that keep up with the primary, as it sees them itself. A standby that only we cannot reach is among them.
fn present(world: &World, facts: &Facts) -> usize {
    let Some(primary) = world.primary().and_then(|id| world.node(id)).and_then(|node| node.seen.as_ref())
    else {
        return 0;
    };
    let patience = world.settings.detect_timeout;
    let keeps_up = |flushed: Option<Lsn>| {
        let since = flushed.map(|flushed| world.trail.behind_since(flushed, primary.answered));
        since.is_some_and(|since| {
            since.is_none_or(|since| primary.answered.saturating_duration_since(since) < patience)
        })
    };
    let here = |node: &&Node| {
        let mut rows = facts.senders.iter().filter(|s| s.name.eq_ignore_ascii_case(&node.member.name));
        node.standing == Standing::Member && rows.any(|row| row.streaming && keeps_up(row.flushed))
    };
    let others = world.nodes.iter().filter(|node| Some(node.id) != world.primary());
    others.filter(here).count()
}

fn is_short(world: &World) -> bool {
    let Some(Degrade { after, .. }) = world.settings.degrade else { return false };
    let Some(since) = world.coverage.short_since else { return false };
    let seen = world.primary().and_then(|id| world.node(id)).and_then(|node| node.seen.as_ref());
    seen.is_some_and(|seen| seen.sent >= since + after)
}

/// Notes since when commits wait for standbys that are not there, and tells people what holds instead.
fn watch_shortage(world: &mut World, now: Instant, facts: &Facts) {
    if world.settings.degrade.is_none() {
        return;
    }
    let in_force = quorum::parse(&facts.sync_names).standbys;
    let there = present(world, facts);
    let since = world.coverage.short_since.take();
    if there < in_force {
        world.coverage.short_since = Some(since.unwrap_or(now));
    }
    let wanted = world.settings.durability.standbys_for(world.present());
    let degraded =
        in_force < wanted && world.record.as_ref().is_some_and(|record| record.cohort_next.is_none());
    world.clear_alarms(
        |alarm| matches!(alarm, Alarm::Degraded { standbys, .. } if !degraded || *standbys != in_force),
    );
    if degraded {
        world.raise(RuleId::Q1f, Alarm::Degraded { standbys: in_force, wanted });
    }
}
