//! Care of the nodes while there is a primary: who is a member, who is vetted, who is brought back, who is in quarantine.
//!
//! A node counts for the quorum by its name. A diverged one acknowledges falsely in the first moment of its connection
//! (T2), so whoever returns follows under a neutral name until its timeline and position are seen to be right.

use std::time::{Duration, Instant};

use super::effect::{Action, EffectId, FollowerName};
use super::input::{CommandId, Outcome};
use super::journal::Record;
use super::nodes::{Node, ReachKind};
use super::observation::Facts;
use super::revive;
use super::rule::RuleId;
use super::settings::node_ids;
use super::status::{Alarm, Refusal, Standing};
use super::twins;
use super::upkeep;
use super::world::{Order, World};
use crate::model::NodeId;

/// A member whose receiver is missing may be reconnecting by itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// Repoints in vain before a node is taken to have diverged.
const REPOINTS_MAX: u32 = 3;

/// What is being done about one node.
#[expect(clippy::struct_excessive_bools, reason = "each was done or was not, in any combination")]
#[derive(Clone, Debug, Default)]
pub(super) struct Care {
    /// The one thing that is being done to it.
    pub(super) job: Option<EffectId>,
    /// The run of its server that was known when the job began.
    run: Option<i64>,
    /// Not before this.
    pub(super) retry_at: Option<Instant>,
    /// It was vetted in this epoch, or was level with the candidate: it follows under its own name.
    pub(super) own_name: bool,
    repoints: u32,
    /// It hung on another standby when primacy started: somebody wants it so.
    cascades: bool,
    /// It was turned to this epoch's primary.
    pub(super) turned: bool,
    absent_since: Option<Instant>,
    renamed_at: Option<Instant>,
    fenced: bool,
    /// Not possible here: a person has to act.
    hopeless: bool,
    /// Nobody here can start it, or may.
    pub(super) unstartable: bool,
    command: Option<CommandId>,
    pub(super) upkeep: upkeep::Upkeep,
}

impl Care {
    /// A new epoch: everything is looked at afresh.
    pub(super) fn in_new_epoch(own_name: bool) -> Self {
        Self { own_name, ..Self::default() }
    }
}

/// Primacy has just started: a standby that hangs on another one may stay there.
pub(super) fn note_cascades(world: &mut World) {
    let primary = world.primary();
    for node in &mut world.nodes {
        let receiver = node.facts().and_then(|facts| facts.receiver.as_ref());
        node.care.cascades = receiver.is_some_and(|receiver| {
            receiver.streaming && receiver.upstream.is_some() && receiver.upstream != primary
        });
    }
}

/// A primary is back or new: what was put off is looked at again.
pub(super) fn refresh(world: &mut World, now: Instant) {
    for node in &mut world.nodes {
        node.care.retry_at = None;
        node.care.repoints = 0;
        node.care.absent_since = None;
        if node.care.upkeep.retry_at.is_some_and(|at| at <= now) {
            node.care.upkeep.retry_at = None;
        }
    }
}

/// Somebody else has asked for something about this node: nothing more until that is through.
pub(super) fn assign(world: &mut World, node: NodeId, job: EffectId) {
    if let Some(node) = world.node_mut(node) {
        node.care.run = node.seen.as_ref().map(|seen| seen.facts.started_micros);
        node.care.job = Some(job);
    }
}

/// Whether nodes are being brought back.
pub(super) fn busy(world: &World) -> bool {
    world.nodes.iter().any(|node| matches!(node.standing, Standing::Vetting | Standing::Rejoining))
}

/// When time alone may change something.
pub(super) fn deadline(world: &World) -> Option<Instant> {
    let timers = |node: &Node| {
        let absent = node.care.absent_since.map(|since| since + PATIENCE);
        [node.care.retry_at, absent, node.care.upkeep.retry_at]
    };
    world.nodes.iter().flat_map(timers).flatten().min()
}

/// Looks after every node and its settings.
pub(super) fn tend(world: &mut World, now: Instant) {
    tend_nodes(world, now);
    upkeep::tend(world, now);
}

/// Looks after every node.
pub(super) fn tend_nodes(world: &mut World, now: Instant) {
    for id in node_ids(world.nodes.len()) {
        if let Some(node) = world.node_mut(id)
            && node.care.retry_at.is_some_and(|at| at <= now)
        {
            node.care.retry_at = None;
        }
        if world.primary() != Some(id) {
            tend_node(world, now, id);
        }
    }
}

fn tend_node(world: &mut World, now: Instant, id: NodeId) {
    let Some(record) = world.record.clone() else { return };
    let Some(node) = world.node(id).filter(|node| node.is_ours()) else { return };
    let node_is_free = node.care.job.is_none();
    let idle = node_is_free && node.care.retry_at.is_none();
    let Some(facts) = node.facts().cloned() else {
        if idle && stays_down(node, &record, now) {
            bring_back(world, now, id, (RuleId::R8a, true));
        } else {
            revive::one(world, now, id);
        }
        return;
    };
    revive::runs(world, id);
    if facts.system_id != record.system_id {
        stand(world, id, Standing::Foreign);
        world.raise(RuleId::R8d, Alarm::ForeignNode { node: id });
    } else if !facts.in_recovery {
        stand(world, id, Standing::Quarantined);
        if node_is_free {
            world.raise(RuleId::R8d, Alarm::FalsePrimary { node: id, timeline: facts.timeline });
        }
        let by_others = facts.timeline > record.timeline && !record.displaced.contains(&id);
        if by_others {
            keep_out(world, now, id, idle);
        } else if twins::is_one(world, &record, id, &facts) {
            let fenced = world.node(id).is_some_and(|node| node.care.fenced);
            if idle && !fenced {
                expel(world, now, id);
            }
            twins::forbid(world, id);
        } else if idle {
            expel(world, now, id);
        }
    } else {
        tend_standby(world, now, id, &facts);
    }
}

/// A displaced primary that does not run: it is brought back, unlike a replica, which somebody may have stopped on purpose.
fn stays_down(node: &Node, record: &Record, now: Instant) -> bool {
    let down = matches!(node.last.map(|last| last.reach), Some(ReachKind::Refused | ReachKind::Reset));
    let long = node.failing_since.is_some_and(|since| now >= since + PATIENCE);
    record.displaced.contains(&node.id) && down && long
}

/// Somebody promoted this node on purpose, while the recorded primary has its quorum (otherwise it would be adopted). It is
/// fenced once the primary is known to live *after* this was seen, and never rewound: its WAL may be what a person wants.
fn keep_out(world: &mut World, now: Instant, id: NodeId, idle: bool) {
    let sent = |node: &Node| node.seen.as_ref().map(|seen| seen.sent);
    let claimed = world.node(id).and_then(sent);
    let confirmed = world.primary().and_then(|primary| world.node(primary)).and_then(sent) > claimed;
    let fenced = world.node(id).is_some_and(|node| node.care.fenced);
    if idle && confirmed && !fenced {
        let order = Order::new(RuleId::R8d, world.settings.effect_timeout, Action::FenceOld(id));
        set_job(world, now, id, order);
    }
    needs_person(world, id, "it was promoted by others onto a newer timeline".into());
}

/// A second primary is fenced where it can be reached, and brought back.
fn expel(world: &mut World, now: Instant, id: NodeId) {
    let fenced = world.node(id).is_some_and(|node| node.care.fenced);
    if fenced {
        bring_back(world, now, id, (RuleId::R8d, true));
    } else {
        let order = Order::new(RuleId::R8d, world.settings.effect_timeout, Action::FenceOld(id));
        set_job(world, now, id, order);
    }
}

fn tend_standby(world: &mut World, now: Instant, id: NodeId, facts: &Facts) {
    let Some(record) = world.record.clone() else { return };
    if twins::is_one(world, &record, id, facts) {
        twins::forbid(world, id);
        return;
    }
    // Whose acknowledgements are to count has to stream from the primary itself; any other may stay where somebody put it.
    let counts = record.cohort.standbys > 0 && record.cohort.members.contains(&id);
    let may_cascade =
        (!counts || !world.holds(RuleId::R8i)) && world.node(id).is_some_and(|node| node.care.cascades);
    match attachment(world, &record, facts, may_cascade) {
        Attachment::Cascading => settle_as(world, now, id, Standing::Member),
        Attachment::Direct => vet(world, now, id, facts),
        Attachment::None => attach(world, now, id, facts),
    }
}

/// How a standby hangs on the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attachment {
    Direct,
    /// Through another standby; it never counts for a quorum (T15).
    Cascading,
    None,
}

fn attachment(world: &World, record: &Record, facts: &Facts, may_cascade: bool) -> Attachment {
    let Some(receiver) = facts.receiver.as_ref() else { return Attachment::None };
    if !receiver.streaming || receiver.timeline != record.timeline || facts.timeline != record.timeline {
        return Attachment::None;
    }
    match receiver.upstream {
        None => Attachment::Direct,
        Some(upstream) if upstream == record.primary => Attachment::Direct,
        Some(upstream) => {
            let up = world.node(upstream).is_some_and(|node| node.standing == Standing::Member);
            if up && may_cascade { Attachment::Cascading } else { Attachment::None }
        }
    }
}

/// It streams from the primary on its timeline: vetted once it is past the term row.
fn vet(world: &mut World, now: Instant, id: NodeId, facts: &Facts) {
    let (Some(record), Some(node)) = (world.record.as_ref(), world.node(id)) else { return };
    // Before the term row has its quorum (which may depend on this very node) being past the fork has to do.
    let past = if record.term_row == Record::NO_TERM_ROW {
        facts.position() > record.fork
    } else {
        facts.position() >= record.term_row
    };
    let past = past || !world.holds(RuleId::R8b);
    let name = facts.receiver.as_ref().and_then(|receiver| receiver.name.as_deref());
    let own = name.is_none_or(|name| name == &*node.member.name);
    // Without a quorum the name somebody else gave it is as good as any.
    let neutral = name.is_some_and(|name| FollowerName::is_neutral(name, &node.member.name));
    let named = own || (!counts(world) && !neutral);
    // The next probe but one shows the new name; until then it is not asked for again.
    let asked = node.care.renamed_at.is_some_and(|at| now < at + PATIENCE);
    let idle = node.care.job.is_none() && !asked;
    if past {
        world.decided(RuleId::R8b);
        settle_as(world, now, id, Standing::Member);
    } else if node.standing != Standing::Member {
        stand(world, id, Standing::Vetting);
    }
    if past && !named && idle {
        if let Some(node) = world.node_mut(id) {
            node.care.renamed_at = Some(now);
        }
        repoint(world, now, id, (RuleId::R8b, FollowerName::Own));
    }
}

/// Whether acknowledgements of standbys count for commits here, or are about to.
fn counts(world: &World) -> bool {
    let wanted = world.settings.durability.standbys_for(world.present()) > 0;
    wanted || world.record.as_ref().is_some_and(|record| record.cohort.standbys > 0)
}

fn settle_as(world: &mut World, now: Instant, id: NodeId, standing: Standing) {
    stand(world, id, standing);
    if let Some(node) = world.node_mut(id) {
        let care = &mut node.care;
        care.own_name = true;
        (care.repoints, care.absent_since, care.hopeless) = (0, None, false);
    }
    if let Some(record) = world.record.as_mut() {
        // Not made durable at once: a restart finds it out again.
        record.displaced.retain(|displaced| *displaced != id);
        if record.twins.iter().any(|twin| twin.node == id) {
            record.twins.retain(|twin| twin.node != id);
            world.save(now, RuleId::R8g);
        }
    }
    world.clear_alarms(|alarm| match alarm {
        Alarm::NeedsPerson { node, .. } | Alarm::FalsePrimary { node, .. } => *node == id,
        _ => false,
    });
}

/// It does not stream from the primary.
fn attach(world: &mut World, now: Instant, id: NodeId, facts: &Facts) {
    let (Some(record), Some(node)) = (world.record.clone(), world.node_mut(id)) else { return };
    if node.care.job.is_some() || node.care.retry_at.is_some() {
        return;
    }
    let member = node.standing == Standing::Member;
    let absent = *node.care.absent_since.get_or_insert(now);
    if member && now < absent + PATIENCE {
        return;
    }
    node.care.absent_since = None;
    let forked = facts.timeline < record.timeline && record.fork.0 > 0 && facts.position() > record.fork;
    let in_vain = node.care.repoints >= REPOINTS_MAX;
    if facts.timeline > record.timeline && !record.displaced.contains(&id) {
        // It followed somebody else's primary. What it holds may be what a person wants.
        needs_person(world, id, "it follows another primary on a newer timeline".into());
        if let Some(node) = world.node_mut(id) {
            node.care.retry_at = Some(now + PATIENCE);
        }
        return;
    }
    if (forked || facts.timeline > record.timeline || in_vain) && world.holds(RuleId::R8c) {
        stand(world, id, Standing::Quarantined);
        bring_back(world, now, id, (RuleId::R8c, true));
        return;
    }
    let known = member || world.node(id).is_some_and(|node| node.care.own_name);
    let own = known || undisturbed(world, &record, id, facts) || !world.holds(RuleId::R8a);
    let name = if own { FollowerName::Own } else { FollowerName::Neutral };
    if !own {
        stand(world, id, Standing::Vetting);
    }
    if let Some(node) = world.node_mut(id) {
        node.care.repoints += 1;
    }
    repoint(world, now, id, (RuleId::R8a, name));
}

/// A node of this very timeline that has nothing which the primary does not have: it missed no change of primary, so it
/// cannot have diverged. An attempt that was given up, or primacy's restart, left it without a primary.
fn undisturbed(world: &World, record: &Record, id: NodeId, facts: &Facts) -> bool {
    let primary = world.node(record.primary).and_then(|node| node.seen.as_ref());
    let behind = primary.is_some_and(|primary| facts.position() <= primary.facts.position());
    facts.timeline == record.timeline && behind && !record.displaced.contains(&id)
}

fn repoint(world: &mut World, now: Instant, node: NodeId, how: (RuleId, FollowerName)) {
    let Some(upstream) = world.primary() else { return };
    let (rule, name) = how;
    if !world.settings.auto_rejoin && name == FollowerName::Neutral {
        needs_person(world, node, "automatic rejoin is off".into());
        return;
    }
    if let Some(node) = world.node_mut(node) {
        node.care.turned = true;
    }
    let limit = world.settings.repoint_timeout;
    set_job(world, now, node, Order::new(rule, limit, Action::Repoint { node, upstream, name }));
}

fn bring_back(world: &mut World, now: Instant, node: NodeId, why: (RuleId, bool)) {
    let hopeless = world.node(node).is_none_or(|node| node.care.hopeless);
    let Some(upstream) = world.primary().filter(|_| !hopeless) else { return };
    if !world.settings.auto_rejoin {
        needs_person(world, node, "automatic rejoin is off".into());
        return;
    }
    let (rule, rewind) = why;
    let twin = world.record.as_ref().and_then(|record| twins::first(record, node));
    let twin = twin.filter(|_| world.holds(RuleId::R8g));
    if let Some(node) = world.node_mut(node).filter(|_| twin.is_none()) {
        // Asked alone says nothing of a twin: it may be started by others, as what it is.
        node.care.turned = true;
    }
    let limit = world.settings.rejoin_timeout;
    stand(world, node, Standing::Rejoining);
    set_job(world, now, node, Order::new(rule, limit, Action::Rejoin { node, upstream, rewind, twin }));
}

/// A person asks for it; the answer is given when it is through.
pub(super) fn rejoin(world: &mut World, now: Instant, id: NodeId, command: CommandId) -> Result<(), Refusal> {
    let upstream = world.primary().ok_or(Refusal::UnknownNode)?;
    if id == upstream {
        return Err(Refusal::AlreadyPrimary);
    }
    let node = world.node_mut(id).ok_or(Refusal::UnknownNode)?;
    if node.care.job.is_some() {
        return Err(Refusal::Check("something is being done to the node already".into()));
    }
    if node.standing == Standing::Foreign {
        return Err(Refusal::Check("the node belongs to another cluster".into()));
    }
    let is_primary = node.facts().is_some_and(|facts| !facts.in_recovery);
    let name = node.member.name.clone();
    let twin = world.record.as_ref().is_some_and(|record| twins::timeline(record, id).is_some());
    if twin && is_primary {
        let why =
            format!("{name} may have another history under the number of the timeline: clone it anew first");
        return Err(Refusal::Check(why));
    }
    if let Some(record) = world.record.as_mut() {
        // The person who asks vouches for it.
        record.twins.retain(|twin| twin.node != id);
    }
    let Some(node) = world.node_mut(id) else { return Err(Refusal::UnknownNode) };
    node.care.hopeless = false;
    node.care.turned = true;
    node.care.command = Some(command);
    let limit = world.settings.rejoin_timeout;
    stand(world, id, Standing::Rejoining);
    let action = Action::Rejoin { node: id, upstream, rewind: true, twin: None };
    set_job(world, now, id, Order::new(RuleId::C1a, limit, action));
    Ok(())
}

pub(super) fn set_job(world: &mut World, now: Instant, node: NodeId, order: Order) {
    let epoch = world.epoch();
    let id = world.ask(now, epoch, order);
    assign(world, node, id);
}

/// Takes note of the end of a job, whatever the core is doing meanwhile.
pub(super) fn settled(world: &mut World, now: Instant, id: EffectId, ended: (&Action, &Outcome)) {
    let (action, outcome) = ended;
    upkeep::settled(world, now, id, ended);
    let soon = now + PATIENCE;
    let later = now + world.settings.retry_after;
    let Some(node) = world.nodes.iter_mut().find(|node| node.care.job == Some(id)) else { return };
    let node_id = node.id;
    node.care.job = None;
    node.care.absent_since = None;
    let command = node.care.command.take();
    if let Some(command) = command {
        let result = match outcome {
            Outcome::Done => Ok(format!("{} follows and is being vetted", node.member.name)),
            Outcome::Unsupported(why) => Err(Refusal::Unsupported(why.clone())),
            other => Err(Refusal::Abandoned(other.words().to_owned())),
        };
        world.tell(RuleId::C1a, Action::Answer { command, result });
    }
    let of_twin =
        matches!(action, Action::Rejoin { twin: Some(_), .. } | Action::Start { twin: Some(_), .. });
    if of_twin && *outcome == Outcome::Done {
        twins::disproved(world, now, node_id);
    }
    let Some(node) = world.node_mut(node_id) else { return };
    match (action, outcome) {
        (Action::FenceOld(_), Outcome::Fenced(_)) => node.care.fenced = true,
        (Action::Repoint { .. } | Action::Start { .. }, Outcome::Done) => node.care.retry_at = Some(soon),
        (Action::Start { twin, .. }, Outcome::Unsupported(why)) => {
            node.care.unstartable = true;
            if twin.is_some() {
                needs_person(world, node_id, why.clone());
            }
        }
        (_, Outcome::Done) => {
            // A probe may have seen its new run before the job's own end was heard: then it is not starting any more.
            let run = node.facts().map(|facts| facts.started_micros);
            if run.is_none() || run == node.care.run {
                node.restarted(now);
            }
            (node.care.own_name, node.care.fenced, node.care.repoints) = (false, false, 0);
            node.standing = Standing::Vetting;
        }
        (Action::Demote { .. }, _) => node.care.retry_at = Some(soon),
        (_, Outcome::Unsupported(why)) => {
            node.care.hopeless = true;
            needs_person(world, node_id, why.clone());
        }
        (_, failed) => {
            node.care.retry_at = Some(later);
            let why = failed.words().to_owned();
            if matches!(action, Action::Rejoin { .. } | Action::Start { .. }) {
                needs_person(world, node_id, why);
            }
        }
    }
}

pub(super) fn needs_person(world: &mut World, id: NodeId, why: String) {
    let streams = world.node(id).is_some_and(|node| node.standing == Standing::Member);
    if !streams {
        stand(world, id, Standing::Quarantined);
    }
    world.clear_alarms(
        |alarm| matches!(alarm, Alarm::NeedsPerson { node, why: old } if *node == id && *old != why),
    );
    world.raise(RuleId::R8f, Alarm::NeedsPerson { node: id, why });
}

pub(super) fn stand(world: &mut World, id: NodeId, standing: Standing) {
    if let Some(node) = world.node_mut(id) {
        node.standing = standing;
    }
}
