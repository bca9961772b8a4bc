//! The one task that owns the decision core: inputs in, effects out, one after another.
//!
//! It never waits for a deed: effects run as tasks of their own and their outcomes come back as inputs. It publishes
//! the snapshots, answers the operators, and writes the log lines that an operator needs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};

use super::actuator::Actuator;
use super::generation::{House, Prepared, ReconfigureError, ReconfigureReply, SETTLE_MAX, Successor};
use super::link::chain;
use super::monitor::Watch;
use super::operator::{CommandError, Reconfiguration, Request, advice};
use super::report::{Change, LostReport, NodeReport, QuorumReport, StatusReport, StepReport, timestamp};
use super::settings::Settings;
use super::task::{self, Task};
use crate::clock;
use crate::failover::{
    Action, Alarm, CommandId, Core, Effect, EffectId, Facts, HistoryEntry, Input, Outcome, Phase, Reach,
    Refusal, Status, SyncState,
};
use crate::model::{NodeId, Snapshot};

/// Inputs that wait at one time; probers wait beyond it.
pub(crate) const INPUTS_MAX: usize = 256;

/// However soon the core wants to be called again, others get their turn in between.
const TICK_MIN: Duration = Duration::from_millis(1);

/// At the end the history's last entry gets this long to be written.
const RECORDING_MAX: Duration = Duration::from_secs(1);

/// Why a command was not done, or what was done.
type CommandReply = oneshot::Sender<Result<String, CommandError>>;

/// Owns the core.
pub(crate) struct Conductor {
    pub(crate) core: Core,
    pub(crate) settings: Arc<Settings>,
    pub(crate) decides: bool,
    pub(crate) house: Arc<House>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) actuator: Arc<Actuator>,
    pub(crate) outcomes: mpsc::Sender<Input>,
    pub(crate) state: State,
}

/// What the conductor remembers for people and for the tasks that it started.
#[derive(Default)]
pub(crate) struct State {
    nodes: Vec<Seen>,
    deeds: HashMap<EffectId, Task>,
    recording: Option<Task>,
    commands: HashMap<CommandId, CommandReply>,
    next_command: u64,
    told: Option<Told>,
    /// The run with other settings that follows.
    successor: Option<Successor>,
    /// An earlier run has published what is known; nothing replaces it before the nodes were heard.
    quiet: bool,
    /// Probers of nodes that are not configured any more and whose acknowledgements still count.
    leaving: Vec<(NodeId, Task)>,
}

/// The newest answer of a node.
#[derive(Clone, Debug, Default)]
struct Seen {
    reach: Option<&'static str>,
    facts: Option<Box<Facts>>,
    answered: Option<Instant>,
}

/// What the log said last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    status: Status,
}

impl State {
    /// `quiet`: an earlier run has published something already.
    pub(crate) fn new(nodes: usize, quiet: bool, leaving: Vec<(NodeId, Task)>) -> Self {
        Self { nodes: vec![Seen::default(); nodes], quiet, leaving, ..Self::default() }
    }
}

impl Conductor {
    /// Runs until `stop` comes, or until a run with other settings may begin.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        requests: &mut mpsc::Receiver<Request>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Option<Successor> {
        let actuator = self.actuator.clone();
        let _warming = task::spawn("warm", "", async move { actuator.keep_warm().await });
        self.warm_all();
        self.step(Input::Tick);
        loop {
            let tick = self.core.deadline().map(|at| at.max(clock::now() + TICK_MIN));
            let tick = async {
                match tick {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.as_mut() => {
                    self.state.successor = None;
                    break;
                }
                input = inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => break,
                },
                Some(request) = requests.recv() => self.serve(request),
                () = tick => self.step(Input::Tick),
            }
            self.refuse_late_successor();
            if self.state.successor.is_some() && self.is_settled() {
                break;
            }
        }
        if let Some(recording) = self.state.recording.take() {
            // A timeout: the history's last entry is not worth more delay.
            drop(tokio::time::timeout(RECORDING_MAX, recording.ended()).await);
        }
        self.state.successor.take()
    }

    /// Whether this run could end here and lose nothing: what the next one needs is in the journal.
    fn is_settled(&self) -> bool {
        let phase = self.core.status().phase;
        let resting = matches!(phase, Phase::Steady | Phase::ReadOnly | Phase::Discovering);
        resting && self.state.deeds.is_empty() && self.state.commands.is_empty()
    }

    fn refuse_late_successor(&mut self) {
        if let Some(late) = self.state.successor.take_if(|successor| successor.until <= clock::now()) {
            let state = self.core.status().phase.as_str();
            // An error: who asked does not wait any more.
            drop(late.reply.send(Err(ReconfigureError::Busy { state })));
        }
    }

    /// Prepares a run with other settings; it begins when this one has nothing under way.
    fn prepare(&mut self, change: Reconfiguration, reply: ReconfigureReply) {
        let decides = change.decides.unwrap_or(self.decides);
        let settings = change.settings.unwrap_or_else(|| self.settings.clone());
        let removed = |id: &NodeId| settings.node(*id).is_none_or(|node| node.removed);
        let refusal = match self.core.status().primary.filter(removed) {
            Some(primary) => ReconfigureError::RemovesPrimary { name: self.settings.name(primary) },
            None => match Prepared::new(&self.house, settings, decides) {
                Ok(prepared) if self.state.successor.is_none() => {
                    let (prepared, until) = (Box::new(prepared), clock::now() + SETTLE_MAX);
                    self.state.successor = Some(Successor { prepared, until, reply });
                    return;
                }
                Ok(_) => ReconfigureError::Busy { state: "another reload is under way" },
                Err(error) => ReconfigureError::Unusable(chain(&error)),
            },
        };
        // An error: who asked does not wait any more.
        drop(reply.send(Err(refusal)));
    }

    fn take(&mut self, input: Input) {
        match &input {
            Input::Observation(observation) => {
                self.note(observation.node, &observation.reach, observation.answered);
            }
            Input::EffectDone { id, .. } => drop(self.state.deeds.remove(id)),
            _ => {}
        }
        self.step(input);
    }

    fn step(&mut self, input: Input) {
        for effect in self.core.step(clock::now(), input) {
            self.carry_out(effect);
        }
        self.watch.set_pace(self.core.probe_interval());
        self.state.leaving.retain(|(node, _prober)| self.core.hears(*node));
        self.tell();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect.action {
            Action::Publish(snapshot) => self.publish(snapshot),
            // What a session has met is looked into over a fresh connection by the prober itself.
            Action::Probe(node) => self.watch.call(node),
            Action::Raise(alarm) => {
                tracing::warn!(
                    rule = effect.rule.as_str(),
                    epoch = effect.epoch.0,
                    "{}",
                    self.in_words(&alarm)
                );
            }
            Action::RecordHistory(entry) => self.record(&entry),
            Action::Answer { command, result } => self.answer(command, result),
            _ if !self.decides => self.leave_undone(&effect),
            _ => {
                let id = effect.id;
                let deed = self.actuator.start(effect, self.outcomes.clone());
                self.state.deeds.insert(id, deed);
            }
        }
    }

    /// Who only watches writes down what it has found, in memory, and leaves every deed to whoever decides.
    fn leave_undone(&self, effect: &Effect) {
        let outcome = match effect.action {
            Action::WriteJournal(_) => Outcome::Done,
            _ => Outcome::Unsupported("this process only watches".to_owned()),
        };
        let done = Input::EffectDone { id: effect.id, epoch: effect.epoch, outcome };
        if self.outcomes.try_send(done).is_err() {
            // The core gives an effect up by itself when its time is over.
            tracing::debug!("an answer to the core was lost");
        }
    }

    fn publish(&mut self, snapshot: Snapshot) {
        // With a journal the nodes are heard within `discover_timeout`; without one there is nothing better to show.
        let unheard = self.core.status().phase == Phase::Discovering && self.core.record().is_some();
        self.state.quiet &= unheard;
        if !self.state.quiet {
            self.house.board.publish(snapshot);
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            // An error: who asked does not wait any more.
            Request::Status(reply) => drop(reply.send(self.report())),
            Request::Reconfigure { change, reply } => self.prepare(change, reply),
            Request::Command { command, reply } => {
                let id = CommandId(self.state.next_command);
                self.state.next_command += 1;
                // Who asked and for which node is in the audit's line; this has the core's numbers.
                tracing::debug!(?command, "asked by an operator");
                self.state.commands.insert(id, reply);
                self.step(Input::Command { id, command });
            }
        }
    }

    fn answer(&mut self, command: CommandId, result: Result<String, Refusal>) {
        let result = result.map_err(|refusal| CommandError::Refused {
            text: format!("{refusal}{}", advice(&refusal)),
            refusal,
        });
        match &result {
            Ok(done) => tracing::info!("{done}"),
            Err(error) => tracing::warn!("command not done: {error}"),
        }
        if let Some(reply) = self.state.commands.remove(&command) {
            drop(reply.send(result));
        }
    }

    fn record(&mut self, entry: &HistoryEntry) {
        let change = self.change(entry);
        let (journal, before) = (self.house.journal.clone(), self.state.recording.take());
        self.state.recording = Some(task::spawn("history", "", async move {
            // Dropping the handle of the last one would end it before it has written.
            let _before = before;
            if let Err(error) = journal.remember(change).await {
                tracing::error!(error = chain(&error), "the history was not written");
            }
        }));
    }

    /// Has connections to all nodes ready for what may come.
    fn warm_all(&self) {
        self.settings.present().for_each(|node| self.actuator.warm(node));
    }

    // ---- what people are told --------------------------------------------------------------------------------

    /// The core speaks of nodes by number; people know names.
    fn in_words(&self, alarm: &Alarm) -> String {
        alarm.describe(|node| self.settings.name(node).to_string())
    }

    /// One line when a node comes, goes or changes its role.
    fn note(&mut self, node: NodeId, reach: &Reach, answered: Instant) {
        let name = self.settings.name(node);
        if self.settings.node(node).is_none_or(|node| node.removed) {
            return;
        }
        let Some(seen) = self.state.nodes.get_mut(node.index()) else { return };
        let before = seen.reach.replace(reach.as_str());
        let Reach::Answered(facts) = reach else {
            if before != Some(reach.as_str()) {
                tracing::warn!(node = %name, why = reach.as_str(), error = self.watch.error(node), "node is down");
            }
            return;
        };
        let role = if facts.in_recovery { "replica" } else { "primary" };
        let role_changed = seen.facts.as_ref().is_some_and(|old| old.in_recovery != facts.in_recovery);
        let timeline = facts.timeline.0;
        seen.facts = Some(facts.clone());
        seen.answered = Some(answered);
        if before != Some(reach.as_str()) {
            tracing::info!(node = %name, role, timeline, "node is up");
            self.actuator.warm(node);
        } else if role_changed {
            tracing::info!(node = %name, role, timeline, "node changed its role");
        }
    }

    /// One line when the core's state, the service or the primary changes.
    fn tell(&mut self) {
        let status = self.core.status();
        let told = Told { status };
        if self.state.told.as_ref() == Some(&told) {
            return;
        }
        let before = self.state.told.replace(told).map(|told| told.status);
        let Some(Told { status }) = &self.state.told else { return };
        let (state, rule) = (status.phase.as_str(), status.rule.as_str());
        let (service, epoch) = (status.service.as_str(), status.epoch.0);
        let primary = status.primary.map(|node| self.settings.name(node)).unwrap_or_default();
        let standing = |status: &Status, node: NodeId| status.standings.get(node.index()).copied();
        for node in self.settings.present() {
            let now = standing(status, node);
            if before.as_ref().is_some_and(|before| standing(before, node) != now) {
                let standing = now.map_or("", super::super::failover::Standing::as_str);
                tracing::info!(node = %self.settings.name(node), standing, "node's standing changed");
            }
        }
        let head =
            |status: &Status| (status.phase, status.service, status.primary, status.epoch, status.automatic);
        if before.as_ref().map(head) != Some(head(status)) {
            let reason = &status.reason;
            let automatic = status.automatic;
            tracing::info!(state, service, epoch, %primary, rule, reason, automatic, "state changed");
            if status.phase == Phase::Suspect {
                self.warm_all();
            }
        }
    }

    fn report(&self) -> StatusReport {
        let status = self.core.status();
        let snapshot = self.core.snapshot();
        let name = |node: NodeId| self.settings.name(node).to_string();
        StatusReport {
            state: status.phase.as_str().into(),
            rule: status.rule.as_str().into(),
            reason: status.reason.clone(),
            service: status.service.as_str().into(),
            epoch: status.epoch.0,
            timeline: snapshot.timeline.0,
            primary: status.primary.map(name),
            system_id: snapshot.system_id.map(|id| id.to_string()),
            automatic: status.automatic,
            journal_durable: self.house.journal.is_durable(),
            quorum: status.cohort.as_ref().map(|cohort| QuorumReport {
                size: cohort.size,
                standbys: cohort.standbys,
                members: cohort.members.iter().map(|node| name(*node)).collect(),
                recruits_needed: status.recruits_needed,
            }),
            alarms: status.alarms.iter().map(|alarm| self.in_words(alarm)).collect(),
            nodes: self.settings.present().map(|node| self.node_report(node, &status)).collect(),
        }
    }

    fn node_report(&self, node: NodeId, status: &Status) -> NodeReport {
        let snapshot = self.core.snapshot();
        let name = self.settings.name(node);
        let seen = self.state.nodes.get(node.index()).cloned().unwrap_or_default();
        let mut report = NodeReport {
            name: name.to_string(),
            standing: status.standings.get(node.index()).map(|s| s.as_str().to_owned()).unwrap_or_default(),
            reach: seen.reach.unwrap_or("unseen").to_owned(),
            error: self.watch.error(node),
            sync_state: self.sync_state(&name, status.primary),
            answered_ms_ago: seen.answered.map(|at| whole_millis(clock::now().saturating_duration_since(at))),
            ..NodeReport::default()
        };
        let receiver = seen.facts.and_then(|facts| facts.receiver).filter(|receiver| receiver.streaming);
        report.streams_from = receiver
            .and_then(|receiver| receiver.upstream)
            .map(|upstream| self.settings.name(upstream).to_string());
        if let Some(view) = snapshot.node(node) {
            report.address = view.address.to_string();
            report.role = view.role.as_str().into();
            report.readable = view.unreadable.is_none();
            report.unreadable = view.unreadable.map(|why| why.as_str().to_owned());
            report.timeline = view.timeline.0;
            report.received = view.received.to_string();
            report.replayed = self.house.board.replayed(node).max(view.replayed).to_string();
            report.lag_bytes = view.lag_bytes;
            report.lag_ms = whole_millis(view.lag);
            report.zone = view.zone.to_string();
            report.weight = view.weight;
            report.server_version = view.server_version;
        }
        report
    }

    /// What the primary's list of standbys says of that name.
    fn sync_state(&self, name: &str, primary: Option<NodeId>) -> Option<String> {
        let primary = self.state.nodes.get(primary?.index())?.facts.as_ref()?;
        let sender = primary.senders.iter().find(|sender| sender.name.eq_ignore_ascii_case(name))?;
        let word = match sender.sync {
            SyncState::Async => "async",
            SyncState::Potential => "potential",
            SyncState::Sync => "sync",
            SyncState::Quorum => "quorum",
        };
        Some(word.to_owned())
    }

    fn change(&self, entry: &HistoryEntry) -> Change {
        let name = |node: NodeId| self.settings.name(node).to_string();
        Change {
            at: timestamp(clock::wall()),
            epoch: entry.epoch.0,
            cause: entry.cause.as_str().into(),
            rule: entry.rule.as_str().into(),
            from: entry.from.map(name),
            to: entry.to.map(name),
            timeline: entry.timeline.0,
            fork: entry.fork.to_string(),
            steps: entry
                .steps
                .iter()
                .map(|step| StepReport {
                    step: step.step.as_str().into(),
                    after_ms: (step.after.as_secs_f64() * 10_000.0).round() / 10.0,
                })
                .collect(),
            lost: entry.lost.map(|lost| LostReport {
                timeline: lost.timeline.0,
                after: lost.after.to_string(),
                seen: lost.seen.to_string(),
            }),
            abandoned: entry.abandoned.clone(),
        }
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
