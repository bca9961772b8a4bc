//! The shell around the core: probes, effects with latencies and failures, the journal, clients. And the checker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use simulation::failover::{
    Action, Command, CommandId, Core, Durability, EffectId, Facts, FollowerName, HistoryEntry, Input, Member,
    Observation, Reach, Receiver, Record, RuleId, Sender, Settings, Standing, SyncState,
};
use simulation::model::{Address, Epoch, Lsn, NodeId, Service, Snapshot, SystemId, Timeline};

use super::cluster::{Cluster, Pending, Released};

/// How long a machine is paused.
pub(crate) const PAUSE_MS: u64 = 2_000;

/// An effect that is being carried out.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: EffectId,
    pub(crate) epoch: Epoch,
    pub(crate) action: Action,
    /// Done no sooner.
    pub(crate) at: u64,
    /// Given up by the actuator.
    pub(crate) until: u64,
    pub(crate) begun: bool,
    /// The term row's id.
    pub(crate) row: Option<u64>,
}

/// A probe under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probing {
    sent: u64,
    at: u64,
    /// When it was sent, by the proxy's clock.
    asked: Instant,
}

/// What may go wrong besides the servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odds {
    /// Per mille of effects that fail at once.
    pub(crate) effect_fails: u32,
    /// Per mille of effects that are very slow.
    pub(crate) effect_slow: u32,
    /// Whether an agent can restart nodes.
    pub(crate) agent: bool,
    /// Whether it can rewind them.
    pub(crate) rewinds: bool,
    /// Clients that bypass the proxy.
    pub(crate) direct_clients: bool,
}

#[derive(Clone)]
pub(crate) struct Shell {
    pub(crate) cluster: Cluster,
    pub(crate) core: Core,
    pub(crate) rng: Rng,
    pub(crate) odds: Odds,
    pub(crate) history: Vec<HistoryEntry>,
    pub(crate) violations: Vec<String>,
    pub(crate) acked: Vec<(u64, usize)>,
    pub(crate) acked_by_proxy: u64,
    pub(crate) snapshot: Snapshot,
    pub(crate) trace: Vec<String>,
    pub(crate) tracing: bool,
    pub(crate) answers: Vec<(u64, Result<String, String>)>,
    pub(crate) steps: u64,
    /// Counts what the core asked for and what came of it.
    pub(crate) moves: u64,
    pub(crate) rules: BTreeMap<&'static str, u64>,
    /// How long the journal's disk takes.
    pub(crate) journal_ms: u64,
    /// Who was shown as the primary of an epoch.
    pub(crate) primaries: BTreeMap<u64, NodeId>,
    pub(crate) resolved: Vec<(Epoch, usize)>,
    /// Commits whose wait for the quorum was cancelled.
    pub(crate) cancelled: BTreeSet<u64>,
    /// The proxy is dead until then.
    pub(crate) proxy_down_until: Option<u64>,
    pub(crate) settings: Settings,
    pub(crate) members: Vec<Member>,
    pub(crate) base: Instant,
    pub(crate) journal: Option<Record>,
    pub(crate) journal_id: EffectId,
    pub(crate) runs: Vec<Run>,
    pub(crate) probes: Vec<Option<Probing>>,
    pub(crate) next_probe: Vec<u64>,
    pub(crate) first_ack_of: BTreeMap<u32, u64>,
    /// The proxy's process stands still until then, and its clock jumps.
    pub(crate) proxy_frozen_until: u64,
    /// What probes had found when the proxy froze.
    arrived: Vec<(usize, Instant, Reach)>,
    /// For so many milliseconds the proxy's clock has stood still (T14).
    pub(crate) clock_behind: u64,
    /// It does so while the proxy is frozen.
    clock_stands: bool,
    /// Statements that a proxy had sent before it died: the servers go on with them for a moment.
    pub(crate) ghosts: Vec<Run>,
    /// The proxy is killed at this step of its core, before or after what the step asks for is begun.
    pub(crate) crash_at: Option<(u64, Crash)>,
}

/// When exactly the proxy dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The step's effects are never begun.
    Before,
    /// They were begun, and what was sent to the servers may yet be carried out.
    After,
    /// It does not die: its machine is paused for seconds, after which its clock has jumped, or has stood still (T14).
    /// Meanwhile somebody starts the old primary.
    Pause { clock_stands: bool },
}

impl Shell {
    pub(crate) fn new(nodes: usize, seed: u64, settings: Settings, odds: Odds) -> Self {
        let base = simulation::clock::now();
        let members: Vec<Member> = (0..nodes)
            .map(|i| {
                Member::new(&Cluster::name(i), Address::Tcp { host: "sim".into(), port: 5000 + i as u16 })
            })
            .collect();
        let standbys = settings.durability.standbys_for(nodes);
        let names: Vec<String> = (0..nodes).map(Cluster::name).collect();
        let text =
            if standbys > 0 { format!("ANY {standbys} ({})", names.join(", ")) } else { String::new() };
        let core = Core::new(settings.clone(), members.clone(), None, base);
        Self {
            snapshot: core.snapshot(),
            cluster: Cluster::new(nodes, &text),
            core,
            rng: Rng::with_seed(seed),
            odds,
            history: Vec::new(),
            violations: Vec::new(),
            acked: Vec::new(),
            acked_by_proxy: 0,
            trace: Vec::new(),
            tracing: false,
            answers: Vec::new(),
            steps: 0,
            moves: 0,
            rules: BTreeMap::new(),
            journal_ms: 0,
            primaries: BTreeMap::new(),
            resolved: Vec::new(),
            cancelled: BTreeSet::new(),
            proxy_down_until: None,
            settings,
            members,
            base,
            journal: None,
            journal_id: EffectId::default(),
            runs: Vec::new(),
            probes: vec![None; nodes],
            next_probe: vec![0; nodes],
            first_ack_of: BTreeMap::new(),
            proxy_frozen_until: 0,
            arrived: Vec::new(),
            clock_behind: 0,
            clock_stands: false,
            ghosts: Vec::new(),
            crash_at: None,
        }
    }

    fn instant(&self, at: u64) -> Instant {
        self.base + Duration::from_millis(at - self.clock_behind)
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.tracing {
            let line = format!("{:>6} {}", self.cluster.now, text());
            self.trace.push(line);
        }
    }

    /// One millisecond.
    pub(crate) fn tick(&mut self) {
        self.tick_servers();
        self.tick_proxy();
    }

    /// Of the servers, and of what was sent to them.
    pub(crate) fn tick_servers(&mut self) {
        self.cluster.now += 1;
        if self.cluster.now.is_multiple_of(5) {
            (0..self.cluster.nodes.len()).for_each(|i| self.cluster.haunt(i));
        }
        let released = self.cluster.tick();
        for one in released {
            self.acknowledged(one);
        }
    }

    /// Of the proxy.
    pub(crate) fn tick_proxy(&mut self) {
        self.haunt();
        if self.cluster.now < self.proxy_frozen_until {
            self.clock_behind += u64::from(self.clock_stands);
            return;
        }
        match self.proxy_down_until {
            Some(until) if self.cluster.now < until => return,
            Some(_) => self.restart_proxy(),
            None => {}
        }
        for (i, sent, reach) in std::mem::take(&mut self.arrived) {
            self.saw(i, sent, reach);
        }
        self.clients();
        self.probe();
        self.carry_out();
        if self.core.deadline().is_some_and(|at| at <= self.instant(self.cluster.now)) {
            self.feed(Input::Tick);
        }
    }

    pub(crate) fn feed(&mut self, input: Input) {
        self.steps += 1;
        let now = self.instant(self.cluster.now);
        match &input {
            Input::Observation(o) if !matches!(o.reach, Reach::Answered(_)) => {
                self.note(|| format!("<- {:?} {}", o.node, o.reach.as_str()));
            }
            Input::EffectDone { id, outcome, .. } => self.note(|| format!("<- {id:?} {outcome:?}")),
            Input::Command { command, .. } => self.note(|| format!("<- {command:?}")),
            _ => {}
        }
        let before = self.core.status().phase;
        let effects = self.core.step(now, input);
        let crash = self.crash_at.filter(|(step, _)| *step == self.steps).map(|(_, crash)| crash);
        if crash == Some(Crash::Before) {
            return self.kill_proxy(30);
        }
        let status = self.core.status();
        if status.phase != before {
            self.note(|| {
                format!(
                    "   {} -> {} ({}) {}",
                    before.as_str(),
                    status.phase.as_str(),
                    status.rule,
                    status.reason
                )
            });
        }
        for effect in effects {
            self.begin(effect);
        }
        match crash {
            Some(Crash::After) => self.kill_proxy(30),
            Some(Crash::Pause { clock_stands }) => {
                self.freeze_proxy(PAUSE_MS);
                self.clock_stands = clock_stands;
                self.cluster.start(0, 600);
            }
            _ => {}
        }
    }

    // ---- probes ------------------------------------------------------------------------------------------------

    fn probe(&mut self) {
        let now = self.cluster.now;
        for i in 0..self.cluster.nodes.len() {
            match self.probes[i] {
                None if self.next_probe[i] <= now => {
                    let takes = if self.reachable(i) { 1 } else { self.fails_after(i) };
                    let asked = self.instant(now);
                    self.probes[i] = Some(Probing { sent: now, at: now + takes, asked });
                }
                Some(probing) if probing.at <= now => {
                    self.probes[i] = None;
                    let interval = self.core.probe_interval().as_millis() as u64;
                    self.next_probe[i] = now.max(probing.sent + interval);
                    let reach = self.reach(i);
                    self.saw(i, probing.asked, reach);
                }
                _ => {}
            }
        }
    }

    fn saw(&mut self, i: usize, sent: Instant, reach: Reach) {
        let answered = self.instant(self.cluster.now);
        self.feed(Input::Observation(Observation { node: NodeId(i as u16), sent, answered, reach }));
    }

    pub(crate) fn reachable(&self, i: usize) -> bool {
        self.cluster.serves(i) && self.cluster.linked(i, self.cluster.proxy())
    }

    fn fails_after(&self, i: usize) -> u64 {
        let n = &self.cluster.nodes[i];
        let silent = n.frozen || !self.cluster.linked(i, self.cluster.proxy());
        if silent { self.settings.detect_timeout.as_millis() as u64 } else { 1 }
    }

    fn reach(&self, i: usize) -> Reach {
        let n = &self.cluster.nodes[i];
        if !self.cluster.linked(i, self.cluster.proxy()) || n.frozen {
            return Reach::Timeout;
        }
        if !n.up {
            return Reach::Refused;
        }
        if n.starting_until > self.cluster.now {
            return Reach::Starting;
        }
        Reach::Answered(Box::new(self.facts(i)))
    }

    fn facts(&self, i: usize) -> Facts {
        let n = &self.cluster.nodes[i];
        let written = Lsn(n.wal.len() as u64);
        let receiver = n.rx.map(|rx| Receiver {
            streaming: rx.streaming,
            upstream: Some(NodeId(rx.from as u16)),
            message_age: Some(Duration::from_millis(self.cluster.now - rx.last_message)),
            timeline: Timeline(n.timeline),
            name: Some(if rx.own {
                Cluster::name(i)
            } else {
                FollowerName::Neutral.application_name(&Cluster::name(i))
            }),
        });
        let senders = self.cluster.nodes.iter().enumerate().filter_map(|(j, other)| {
            let rx = other.rx.filter(|rx| rx.from == i)?;
            let name = if rx.own {
                Cluster::name(j)
            } else {
                FollowerName::Neutral.application_name(&Cluster::name(j))
            };
            let flushed = Some(Lsn(other.wal.len() as u64));
            Some(Sender { name, streaming: rx.streaming, sync: SyncState::Quorum, flushed })
        });
        Facts {
            system_id: SystemId(7),
            server_version: 150_018,
            started_micros: n.started as i64,
            in_recovery: n.in_recovery,
            timeline: Timeline(n.timeline),
            inserted: (!n.in_recovery).then_some(written),
            flushed: (!n.in_recovery).then_some(written),
            received: n.in_recovery.then_some(written),
            replayed: n.in_recovery.then_some(Lsn(n.replayed as u64)),
            replay_age: None,
            receiver,
            senders: senders.collect(),
            sync_names: n.sync_text.clone(),
            read_only: n.read_only,
            replay_paused: false,
            receiver_timeout: Duration::from_millis(n.receiver_timeout_ms),
            follows: n.upstream.is_some(),
        }
    }

    // ---- proxy -------------------------------------------------------------------------------------------------

    /// The proxy dies: effects that were sent go on at the servers, their answers find nobody.
    pub(crate) fn kill_proxy(&mut self, down: u64) {
        self.note(|| "** the proxy is killed".into());
        self.proxy_down_until = Some(self.cluster.now + down);
        self.proxy_frozen_until = 0;
        self.arrived.clear();
        let runs = std::mem::take(&mut self.runs);
        // A statement that has reached a server is carried out whoever waits for its answer, and so is a write to the disk.
        let (now, dice) = (self.cluster.now, &mut self.rng);
        self.ghosts.extend(runs.into_iter().filter(|run| run.at <= now + 5 && dice.bool()).map(|run| {
            let until = run.until.min(now + 25);
            Run { until, ..run }
        }));
        self.probes.fill(None);
        self.next_probe.fill(0);
    }

    /// The proxy's process stands still: the world goes on, then its clock has jumped.
    pub(crate) fn freeze_proxy(&mut self, ms: u64) {
        self.note(|| "** the proxy freezes".into());
        self.proxy_frozen_until = self.cluster.now + ms;
        for i in 0..self.probes.len() {
            if let Some(probing) = self.probes[i].take() {
                self.arrived.push((i, probing.asked, self.reach(i)));
            }
        }
    }

    fn restart_proxy(&mut self) {
        self.proxy_down_until = None;
        let now = self.instant(self.cluster.now);
        self.count_rules();
        self.journal_id = EffectId::default();
        self.core = Core::new(self.settings.clone(), self.members.clone(), self.journal.clone(), now);
        self.snapshot = self.core.snapshot();
        self.note(|| "** the proxy is back".into());
        self.feed(Input::Tick);
    }

    /// Adds up what the rules of this core have decided.
    pub(crate) fn count_rules(&mut self) {
        for (rule, count) in self.core.rule_counts() {
            *self.rules.entry(rule.as_str()).or_default() += count;
        }
    }

    fn clients(&mut self) {
        if self.cluster.now.is_multiple_of(5)
            && let Some(primary) = self.snapshot.writable_primary()
            && self.reachable(primary.index())
        {
            let epoch = Some(self.snapshot.epoch.0);
            self.cluster.commit(primary.index(), epoch);
        }
        if self.odds.direct_clients && self.cluster.now.is_multiple_of(7) {
            for i in 0..self.cluster.nodes.len() {
                self.cluster.commit(i, None);
            }
        }
    }

    // ---- checker -----------------------------------------------------------------------------------------------

    fn acknowledged(&mut self, released: Released) {
        let Released { node, timeline, pending } = released;
        let holds = |rule| self.settings.without != Some(rule);
        if pending.cancelled {
            self.cancelled.insert(pending.id);
            // Its notice is read: what looks like success is none. A client that bypasses the proxy has to read it itself.
            if pending.epoch.is_none() || holds(RuleId::R6c) {
                return;
            }
        }
        if let Some(epoch) = pending.epoch {
            // The proxy forwards an answer only on a connection of the epoch that it serves.
            let alive = self.proxy_down_until.is_none() && self.cluster.linked(node, self.cluster.proxy());
            if (epoch != self.snapshot.epoch.0 && holds(RuleId::R2a)) || !alive {
                return;
            }
            self.acked_by_proxy += 1;
        }
        self.acked.push((pending.id, node));
        self.count_copies(pending, node);
        if pending.epoch.is_none() && self.settings.durability == Durability::Async {
            // Without a quorum nothing keeps an old primary from telling its own clients what it likes.
            return;
        }
        let newer = self.first_ack_of.iter().find(|(t, at)| **t > timeline && **at < pending.appended);
        if let Some((newer, at)) = newer {
            let (id, now) = (pending.id, self.cluster.now);
            self.violations.push(format!(
                "two primaries: n{node} acknowledged {id} on timeline {timeline} at {now}, timeline {newer} since {at}"
            ));
        }
        self.first_ack_of.entry(timeline).or_insert(self.cluster.now);
    }

    /// At the moment of its acknowledgement a commit is on the primary and on k standbys.
    fn count_copies(&mut self, pending: Pending, node: usize) {
        // As many as the text asked for when it was acknowledged: fewer where degrading is allowed.
        let full = self.settings.durability.standbys_for(self.cluster.nodes.len());
        let asked = Cluster::needs(&self.cluster.nodes[node].sync_text).unwrap_or(full);
        let wanted = 1 + if self.settings.degrade.is_some() { asked } else { full };
        let has =
            |n: &super::cluster::Node| n.wal.get(pending.position - 1).is_some_and(|r| r.id == pending.id);
        let copies = self.cluster.nodes.iter().filter(|n| has(n)).count();
        if copies < wanted {
            let now = self.cluster.now;
            self.violations.push(format!(
                "n{node} acknowledged {} at {now} with {copies} copies of {wanted}",
                pending.id
            ));
        }
    }

    /// Nodes that the data path would read dead rows from: readable, and not on the primary's history.
    pub(crate) fn dead_rows(&self) -> Vec<usize> {
        let Some(primary) = self.snapshot.primary else { return Vec::new() };
        let truth = &self.cluster.nodes[primary.index()].wal;
        let readable = self.snapshot.nodes.iter().filter(|n| n.unreadable.is_none() && n.id != primary);
        let dead = |i: usize| {
            let wal = &self.cluster.nodes[i].wal;
            wal.iter().zip(truth).any(|(a, b)| a != b) || wal.len() > truth.len() + 400
        };
        readable.map(|n| n.id.index()).filter(|i| dead(*i)).collect()
    }

    /// What was acknowledged and is not on the primary.
    pub(crate) fn lost(&self) -> Vec<(u64, usize)> {
        let Some(primary) = self.snapshot.primary else { return self.acked.clone() };
        let there: std::collections::HashSet<u64> =
            self.cluster.nodes[primary.index()].wal.iter().map(|r| r.id).collect();
        self.acked.iter().filter(|(id, _)| !there.contains(id)).copied().collect()
    }

    /// Why the cluster is not whole, or `None`.
    pub(crate) fn unsettled(&self) -> Option<String> {
        if self.proxy_down_until.is_some() {
            return Some("the proxy is down".into());
        }
        let status = self.core.status();
        if self.snapshot.service != Service::Open {
            return Some(format!("service {} ({})", self.snapshot.service.as_str(), status.reason));
        }
        let primary = self.snapshot.primary?.index();
        for (i, n) in self.cluster.nodes.iter().enumerate().filter(|(i, _)| *i != primary) {
            // Without a quorum a standby may hang on another one.
            let cascade = self.settings.durability == Durability::Async;
            let follows = n.rx.is_some_and(|rx| rx.streaming && (rx.from == primary && rx.own || cascade));
            if !follows && self.odds.agent {
                return Some(format!("n{i} does not follow n{primary}: {:?}", status.standings[i]));
            }
        }
        None
    }

    /// A person clones nodes anew that nothing else can bring back, and says so.
    pub(crate) fn person(&mut self) {
        let (Some(record), Some(primary)) = (self.core.record(), self.snapshot.primary) else { return };
        let Some(twin) = record.twins.iter().map(|twin| twin.node).find(|node| *node != primary) else {
            return;
        };
        if self.core.status().standings[twin.index()] != Standing::Quarantined {
            return;
        }
        self.note(|| format!("** a person clones {twin:?} anew"));
        let (i, from) = (twin.index(), primary.index());
        self.cluster.kill(i);
        let source = self.cluster.nodes[from].clone();
        let n = &mut self.cluster.nodes[i];
        (n.wal, n.replayed, n.timeline) = (source.wal, source.replayed, source.timeline);
        (n.in_recovery, n.upstream, n.own) = (true, Some(from), false);
        self.cluster.start(i, 100);
        let now = self.instant(self.cluster.now);
        let said = self.facts(i);
        let (node, reach) = (twin, Reach::Answered(Box::new(said)));
        self.feed(Input::Observation(Observation { node, sent: now, answered: now, reach }));
        let command = Command::Rejoin(twin);
        self.feed(Input::Command { id: CommandId(2), command });
    }

    pub(crate) fn durability(&self) -> Durability {
        self.settings.durability
    }
}
