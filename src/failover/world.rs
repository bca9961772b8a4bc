//! What every state of the core shares: settings, nodes, the record, and the book of effects in flight.
//!
//! States ask for effects here and nowhere else, so that each has a number, an epoch, a rule and a deadline.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::cohort::Coverage;
use super::effect::{Action, Effect, EffectId};
use super::input::{CommandId, Outcome};
use super::journal::{Intent, Record};
use super::nodes::{Node, Trail};
use super::rule::RuleId;
use super::settings::{Member, Settings, node_ids};
use super::status::{Alarm, Refusal, Standing};
use crate::model::{Epoch, NodeId, Service, Snapshot, SystemId};

/// Effects in flight; more than this at once is a mistake of ours, and the oldest are given up.
const PENDING_MAX: usize = 1024;

/// The shared part of the core.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) nodes: Vec<Node>,
    /// What is durable, or about to be; `None` until a primary was found.
    pub(super) record: Option<Record>,
    /// Highest epoch ever used, abandoned attempts included.
    pub(super) promised: Epoch,
    pub(super) paused: bool,
    /// What the data path is told about writes.
    pub(super) service: Service,
    pub(super) trail: Trail,
    /// When a standby was last seen to have received more.
    pub(super) progress_at: Option<Instant>,
    /// What is known of the standbys that have to acknowledge.
    pub(super) coverage: Coverage,
    /// When automatic failovers on soft evidence were begun.
    pub(super) flaps: VecDeque<Instant>,
    pub(super) alarms: Vec<Alarm>,
    /// The `WriteJournal` of `save` in flight, and when a failed one is tried again.
    save: Option<EffectId>,
    /// The commands that are done, and answered once that is durable: with these words.
    done: Vec<(CommandId, &'static str)>,
    pub(super) save_again: Option<Instant>,
    pub(super) published: Option<(Instant, Snapshot)>,
    /// How often each rule decided something.
    pub(super) ruled: BTreeMap<RuleId, u64>,
    pending: BTreeMap<EffectId, Pending>,
    next_id: u64,
    out: Vec<Effect>,
}

/// An effect whose outcome is awaited.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) epoch: Epoch,
    pub(super) action: Action,
    pub(super) deadline: Instant,
}

impl World {
    pub(super) fn new(settings: Settings, members: Vec<Member>, record: Option<Record>) -> Self {
        let mut nodes: Vec<Node> =
            node_ids(members.len()).zip(members).map(|(id, member)| Node::new(id, member)).collect();
        for node in &mut nodes {
            if record.as_ref().is_some_and(|record| record.primary == node.id) {
                node.standing = Standing::Member;
            }
            node.fenced = record.as_ref().is_some_and(|record| record.fenced.contains(&node.id));
        }
        Self {
            paused: !settings.automatic || record.as_ref().is_some_and(|record| record.paused),
            settings,
            nodes,
            promised: record.as_ref().map_or(Epoch(0), |record| record.promised.max(record.epoch)),
            record,
            service: Service::Held,
            trail: Trail::default(),
            progress_at: None,
            coverage: Coverage::default(),
            flaps: VecDeque::new(),
            alarms: Vec::new(),
            save: None,
            done: Vec::new(),
            save_again: None,
            published: None,
            ruled: BTreeMap::new(),
            pending: BTreeMap::new(),
            next_id: 0,
            out: Vec::new(),
        }
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.index())
    }

    /// How many nodes are configured now.
    pub(super) fn present(&self) -> usize {
        self.nodes.iter().filter(|node| !node.member.removed).count()
    }

    /// Whether this node is listened to. One that is not configured any more is, as long as its acknowledgements count: it
    /// may be the only standby that has a commit.
    pub(super) fn hears(&self, id: NodeId) -> bool {
        let listed = || super::attempt::cohorts(self).any(|cohort| cohort.members.contains(&id));
        self.node(id).is_some_and(|node| !node.member.removed || (listed() && self.holds(RuleId::Q1g)))
    }

    /// What removed nodes said before their acknowledgements ceased to count is worth nothing from then on.
    pub(super) fn forget_removed(&mut self) {
        for id in node_ids(self.nodes.len()) {
            if !self.hears(id)
                && let Some(node) = self.node_mut(id).filter(|node| node.last.is_some())
            {
                *node = Node::new(id, node.member.clone());
            }
        }
    }

    /// The primary of the record.
    pub(super) fn primary(&self) -> Option<NodeId> {
        self.record.as_ref().map(|record| record.primary)
    }

    pub(super) fn system_id(&self) -> Option<SystemId> {
        self.record.as_ref().map(|record| record.system_id)
    }

    /// The epoch that is served.
    pub(super) fn epoch(&self) -> Epoch {
        self.record.as_ref().map_or(Epoch(0), |record| record.epoch)
    }

    /// Whether the rule is in force; only a test switches one off.
    pub(super) fn holds(&self, rule: RuleId) -> bool {
        self.settings.without != Some(rule)
    }

    /// Counts a decision.
    pub(super) fn decided(&mut self, rule: RuleId) {
        *self.ruled.entry(rule).or_default() += 1;
    }

    // ---- effects -----------------------------------------------------------------------------------------------

    /// Asks for an effect without an outcome.
    pub(super) fn tell(&mut self, rule: RuleId, action: Action) {
        let epoch = self.epoch();
        self.emit(epoch, rule, None, action);
    }

    /// Asks for an effect whose outcome is awaited for at most `limit`.
    pub(super) fn ask(&mut self, now: Instant, epoch: Epoch, ordered: Order) -> EffectId {
        let Order { rule, limit, action } = ordered;
        if let Action::FenceOld(node) | Action::Quiesce(node) = action
            && let Some(node) = self.node_mut(node)
        {
            node.fenced = true;
        }
        let id = self.emit(epoch, rule, Some(limit), action.clone());
        self.pending.insert(id, Pending { epoch, action, deadline: now + limit });
        if self.pending.len() > PENDING_MAX {
            self.pending.pop_first();
        }
        id
    }

    fn emit(&mut self, epoch: Epoch, rule: RuleId, limit: Option<Duration>, action: Action) -> EffectId {
        self.next_id += 1;
        let id = EffectId(self.next_id);
        self.decided(rule);
        self.out.push(Effect { id, epoch, rule, limit, action });
        id
    }

    /// Asks for a probe of every node.
    pub(super) fn probe_all(&mut self, rule: RuleId) {
        for id in node_ids(self.nodes.len()) {
            self.tell(rule, Action::Probe(id));
        }
    }

    /// The effect that ended; `None` where it is not awaited (any more).
    pub(super) fn settle(&mut self, id: EffectId, epoch: Epoch) -> Option<Pending> {
        if self.pending.get(&id).is_none_or(|pending| pending.epoch != epoch) {
            self.decided(RuleId::R7d);
            return None;
        }
        self.pending.remove(&id)
    }

    /// An effect whose deadline has passed, taken out of the book.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<(EffectId, Pending)> {
        let id = self.pending.iter().find(|(_, pending)| pending.deadline <= now).map(|(id, _)| *id)?;
        self.pending.remove(&id).map(|pending| (id, pending))
    }

    /// Whether the outcome of this effect is still awaited.
    pub(super) fn awaits(&self, id: EffectId) -> bool {
        self.pending.contains_key(&id)
    }

    /// When the next effect is given up.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.deadline).min()
    }

    /// Everything asked for since the last call.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out)
    }

    // ---- journal -------------------------------------------------------------------------------------------------

    /// An epoch that was never used before.
    pub(super) fn next_epoch(&mut self) -> Epoch {
        self.promised = self.promised.next();
        self.promised
    }

    /// Notes what is about to be done; the record to be made durable before it is.
    pub(super) fn intend(&mut self, intent: Intent) -> Option<Record> {
        let (promised, paused) = (self.promised, self.paused);
        let record = self.record.as_mut()?;
        record.intent = Some(intent);
        record.promised = promised;
        record.paused = paused;
        Some(record.clone())
    }

    /// Makes the record durable in its own time: for facts that a restart could find out again.
    pub(super) fn save(&mut self, now: Instant, rule: RuleId) {
        let (promised, paused) = (self.promised, self.paused);
        let Some(record) = self.record.as_mut() else { return };
        record.promised = promised;
        record.paused = paused;
        let action = Action::WriteJournal(record.clone());
        let (epoch, limit) = (self.promised, self.settings.effect_timeout);
        self.save = Some(self.ask(now, epoch, Order::new(rule, limit, action)));
        self.save_again = None;
    }

    /// The same for what a person has asked for, who is answered when it would survive a restart, or told that it would not.
    pub(super) fn save_for(&mut self, now: Instant, command: CommandId, done: &'static str) {
        if self.record.is_none() {
            // The first record will have it. There is none before a primary was found.
            let words = format!("{done}; it is written down as soon as a primary is found");
            return self.tell(RuleId::C1a, Action::Answer { command, result: Ok(words) });
        }
        self.done.push((command, done));
        self.save(now, RuleId::C1a);
    }

    /// Whether a `save` is on its way, or failed and has to be tried again.
    pub(super) fn saving(&self) -> bool {
        self.save.is_some() || self.save_again.is_some()
    }

    /// Takes note of the end of a `save`; a failed one is tried again.
    pub(super) fn saved(&mut self, now: Instant, id: EffectId, outcome: &Outcome) {
        if self.save != Some(id) {
            return;
        }
        self.save = None;
        for (command, done) in std::mem::take(&mut self.done) {
            let result = match outcome {
                Outcome::Done => Ok(done.to_owned()),
                _ => Err(Refusal::NotKept { done, why: outcome.words().to_owned() }),
            };
            self.tell(RuleId::C1a, Action::Answer { command, result });
        }
        if *outcome == Outcome::Done {
            self.clear_alarms(|alarm| matches!(alarm, Alarm::JournalFailed { .. }));
        } else {
            self.save_again = Some(now + self.settings.retry_after);
            self.raise(RuleId::R7a, Alarm::JournalFailed { why: outcome.words().to_owned() });
        }
    }

    // ---- alarms --------------------------------------------------------------------------------------------------

    /// Tells people, once.
    pub(super) fn raise(&mut self, rule: RuleId, alarm: Alarm) {
        if !self.alarms.contains(&alarm) {
            self.alarms.push(alarm.clone());
            self.tell(rule, Action::Raise(alarm));
        }
    }

    /// What matches is over.
    pub(super) fn clear_alarms(&mut self, over: impl Fn(&Alarm) -> bool) {
        self.alarms.retain(|alarm| !over(alarm));
    }
}

/// An effect to be asked for.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) rule: RuleId,
    pub(super) limit: Duration,
    pub(super) action: Action,
}

impl Order {
    pub(super) fn new(rule: RuleId, limit: Duration, action: Action) -> Self {
        Self { rule, limit, action }
    }
}
