//! Carries the decision core's effects out by SQL, and by the local servers where SQL cannot.
//!
//! In: one effect. Out: exactly one `Input::EffectDone` with its number and epoch, at the latest when its limit is
//! over. Effects run beside each other; those that change a node's settings take turns on it (`hands`). Which outcome
//! counts is the core's business: an answer from an older attempt is dropped there.

mod fence;
mod promote;
mod recruit;
mod revive;
mod term;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::hands::{Hand, Turn};
use super::journal::Journal;
use super::link::{LinkError, Target};
use super::local::{Fit, LocalError, LocalServers, Upstream};
use super::monitor::Watch;
use super::settings::Settings;
use super::{Board, task};
use crate::clock;
use crate::failover::{Action, Effect, FollowerName, Input, Outcome};
use crate::model::{Address, NodeId, SqlState};
use crate::tls::ServerTlsMode;

/// How often a state that is being waited for is looked at.
const POLL: Duration = Duration::from_millis(1);

/// The same where it takes longer and the server should not be kept busy with it.
const POLL_SLOW: Duration = Duration::from_millis(20);

/// Everything the deeds need.
pub(crate) struct Actuator {
    settings: Arc<Settings>,
    hands: Vec<Hand>,
    board: Arc<Board>,
    watch: Arc<Watch>,
    journal: Arc<Journal>,
    local: Option<Arc<dyn LocalServers>>,
}

/// Why a deed did not come to its end.
#[derive(Debug, thiserror::Error)]
enum DeedError {
    /// The connection or the server said no.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The node is not in the state that the deed needs.
    #[error("{0}")]
    State(String),
    /// It cannot be done here at all.
    #[error("{0}")]
    Unsupported(String),
}

impl From<tokio_postgres::Error> for DeedError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Link(error.into())
    }
}

impl From<LocalError> for DeedError {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::Failed(why) => Self::State(why),
            LocalError::Unsupported(why) => Self::Unsupported(why),
        }
    }
}

impl DeedError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Link(error) if error.code() == Some(SqlState::INSUFFICIENT_PRIVILEGE) => {
                Outcome::Unsupported(format!("primacy's role may not do it: {error}"))
            }
            Self::Link(_) | Self::State(_) => Outcome::Failed(self.to_string()),
            Self::Unsupported(why) => Outcome::Unsupported(why.clone()),
        }
    }
}

impl Actuator {
    /// For these nodes. Opens no connection yet.
    pub(crate) fn new(
        settings: Arc<Settings>,
        targets: &[Target],
        board: Arc<Board>,
        watch: Arc<Watch>,
        journal: Arc<Journal>,
    ) -> Result<Self, LinkError> {
        let hands = targets.iter().cloned().map(Hand::new).collect::<Result<_, _>>()?;
        Ok(Self { settings, hands, board, watch, journal, local: None })
    }

    /// With servers that can be started and stopped.
    pub(crate) fn with_local(mut self, local: Option<Arc<dyn LocalServers>>) -> Self {
        self.local = local;
        self
    }

    /// Who can start, stop and rewind this node, if anybody here.
    fn local_for(&self, node: NodeId) -> Option<Arc<dyn LocalServers>> {
        self.local.clone().filter(|local| local.serves(node))
    }

    /// Asks for connections to a node that are ready for what may come; somebody has to `keep_warm`.
    pub(crate) fn warm(&self, node: NodeId) {
        if let Some(hand) = self.hands.get(node.index()) {
            hand.warm();
        }
    }

    /// Has connections ready whenever `warm` asks for them. Never ends.
    pub(crate) async fn keep_warm(&self) {
        let present = self.settings.present().filter_map(|node| self.hands.get(node.index()));
        let statements = [recruit::STATEMENTS.as_slice(), promote::STATEMENTS.as_slice()].concat();
        futures_util::future::join_all(present.map(|hand| hand.keep_warm(&statements))).await;
    }

    /// Starts one effect; its outcome goes to `out`. The task ends with the handle.
    pub(crate) fn start(self: &Arc<Self>, effect: Effect, out: mpsc::Sender<Input>) -> task::Task {
        let actuator = self.clone();
        let turn = actuator.turn(&effect.action);
        let name = effect.action.node().map(|node| self.settings.name(node)).unwrap_or_default();
        task::spawn("effect", &name, async move {
            let outcome = actuator.carry_out(&effect, turn).await;
            let done = Input::EffectDone { id: effect.id, epoch: effect.epoch, outcome };
            // The receiver is gone when the control plane is stopping.
            drop(out.send(done).await);
        })
    }

    /// The place of a deed among those that it must not overtake. A promotion that was sent cannot be called back, so it
    /// is not ended by what comes after it.
    fn turn(&self, action: &Action) -> Option<Turn> {
        let hand = self.hands.get(action.node()?.index())?;
        match action {
            Action::StopReceiver(_)
            | Action::Repoint { .. }
            | Action::Demote { .. }
            | Action::Rejoin { .. } => Some(hand.turn_to_follow()),
            Action::Promote { .. } => Some(hand.turn_to_follow().for_good()),
            Action::FenceOld(_)
            | Action::Quiesce(_)
            | Action::Unfence(_)
            | Action::SetSyncNames { .. }
            | Action::SetReceiverTimeout { .. }
            | Action::ArmStandbySignal(_) => Some(hand.turn_to_set()),
            _ => None,
        }
    }

    async fn carry_out(&self, effect: &Effect, mut turn: Option<Turn>) -> Outcome {
        let begun = clock::now();
        let limit = effect.limit.unwrap_or(self.settings.failover.effect_timeout);
        let superseded = turn.as_ref().map(Turn::superseded);
        let superseded = async {
            match superseded {
                Some(superseded) => superseded.await,
                None => std::future::pending().await,
            }
        };
        let work = async {
            if let Some(turn) = &mut turn {
                turn.come().await;
            }
            self.perform(effect).await
        };
        let outcome = tokio::select! {
            ended = tokio::time::timeout(limit, work) => match ended {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => error.outcome(),
                Err(_elapsed) => Outcome::Failed(format!("no result within {} ms", limit.as_millis())),
            },
            () = superseded => Outcome::Failed("a newer step took its place".to_owned()),
        };
        self.report(effect, &outcome, clock::now().duration_since(begun));
        outcome
    }

    /// One line per deed.
    fn report(&self, effect: &Effect, outcome: &Outcome, took: Duration) {
        let step = effect.action.as_str();
        let node = effect.action.node().map(|node| self.settings.name(node)).unwrap_or_default();
        let (rule, epoch) = (effect.rule.as_str(), effect.epoch.0);
        let took_ms = millis(took);
        match outcome {
            // People are told by an alarm, once, however often it is tried.
            Outcome::Failed(why) if matches!(effect.action, Action::WriteJournal(_)) => {
                tracing::debug!(step, rule, epoch, took_ms, why, "step failed");
            }
            Outcome::Failed(why) => {
                tracing::warn!(step, %node, rule, epoch, took_ms, why, "step failed");
            }
            Outcome::Unsupported(why) => {
                tracing::warn!(step, %node, rule, epoch, took_ms, why, "step is not possible here");
            }
            _ if matches!(effect.action, Action::WriteJournal(_) | Action::AcquireRight) => {
                tracing::debug!(step, rule, epoch, took_ms, "step done");
            }
            _ => tracing::info!(step, %node, rule, epoch, took_ms, "step done"),
        }
    }

    async fn perform(&self, effect: &Effect) -> Result<Outcome, DeedError> {
        let epoch = effect.epoch;
        match &effect.action {
            // The first five are carried out where they are given, and nobody waits for them. The right to promote is ours
            // while we live: only one process has the state directory, by its lock file.
            Action::Publish(_)
            | Action::Probe(_)
            | Action::Raise(_)
            | Action::RecordHistory(_)
            | Action::Answer { .. }
            | Action::AcquireRight => Ok(Outcome::Done),
            Action::WriteJournal(record) => {
                let written = self.journal.write(record).await;
                written.map_err(|error| DeedError::State(super::link::chain(&error)))?;
                Ok(Outcome::Done)
            }
            Action::StopReceiver(node) => self.stop_receiver(*node).await,
            Action::TerminateConflicts(node) => self.terminate_conflicts(*node).await,
            Action::ResumeReplay(node) => self.resume_replay(*node).await,
            Action::FinishReplay { node, target } => self.finish_replay(*node, *target).await,
            Action::ResolveInDoubt { candidate } => self.resolve_in_doubt(*candidate, epoch).await,
            Action::Repoint { node, upstream, name } => self.repoint(*node, *upstream, *name).await,
            Action::Promote { node, poll } => self.promote(*node, *poll).await,
            Action::WriteTermRow(node) => self.write_term_row(*node, epoch).await,
            Action::FenceOld(node) => self.fence_old(*node).await,
            Action::Quiesce(node) => self.quiesce(*node).await,
            Action::Unfence(node) => self.unfence(*node).await,
            Action::DrainClients { limit } => self.drain(*limit).await,
            Action::CatchUp { node, target } => self.catch_up(*node, *target).await,
            Action::SetSyncNames { node, text } => self.set_sync_names(*node, text).await,
            Action::SetReceiverTimeout { node, timeout } => self.set_receiver_timeout(*node, *timeout).await,
            Action::ArmStandbySignal(node) => self.arm_standby_signal(*node).await,
            Action::Demote { node, upstream, immediate } => self.demote(*node, *upstream, *immediate).await,
            Action::Rejoin { node, upstream, rewind, twin } => {
                self.rejoin(*node, *upstream, Fit { rewind: *rewind, twin: *twin }).await
            }
            Action::Start { node, twin } => self.start_crashed(*node, *twin).await,
        }
    }

    async fn drain(&self, limit: Duration) -> Result<Outcome, DeedError> {
        if self.board.wait_drained(limit).await {
            return Ok(Outcome::Done);
        }
        let left = self.board.primary_leases();
        Err(DeedError::State(format!("{left} sessions still have a transaction open on the primary")))
    }

    fn hand(&self, node: NodeId) -> Result<&Hand, DeedError> {
        self.hands.get(node.index()).ok_or_else(|| DeedError::State("no such node".into()))
    }

    /// What `node` needs to follow `upstream`: its connection string, and the slot where slots are used.
    fn upstream(&self, node: NodeId, upstream: NodeId, name: FollowerName) -> Result<Upstream, DeedError> {
        let unknown = || DeedError::State("no such node".into());
        let follower = self.settings.node(node).ok_or_else(unknown)?;
        let server = self.settings.node(upstream).ok_or_else(unknown)?;
        // What its owner wrote stays (a password file, certificates, what TLS has to prove); the configured role counts.
        let own = self.hand(node)?.remembered().conninfo.clone();
        let named = own.is_some();
        let mut conninfo = own.unwrap_or_default();
        if !named {
            conninfo.set("sslmode", sslmode_between_servers(server.tls.mode));
        }
        if !named || self.settings.replication.is_some() {
            let role = self.settings.replication();
            conninfo.set("user", &*role.user);
            if !role.password.is_empty() {
                conninfo.set("password", role.password.reveal()).remove("passfile");
            }
        }
        let (host, port) = match server.upstream_address() {
            Address::Tcp { host, port } => (host.clone(), *port),
            Address::Unix { dir, port } => (dir.display().to_string(), *port),
        };
        conninfo.remove("hostaddr").remove("target_session_attrs");
        conninfo.set("host", host).set("port", port.to_string());
        conninfo.set("application_name", name.application_name(&follower.name));
        let slot = self.settings.slots.then(|| slot_name(node, &follower.name));
        Ok(Upstream { node: upstream, conninfo: conninfo.text(), slot })
    }
}

/// The name of a node's replication slot: a slot's name may have lower case letters, digits and underscores only.
fn slot_name(node: NodeId, name: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let slot: String =
        name.to_lowercase().chars().map(|c| if allowed(c) { c } else { '_' }).take(50).collect();
    // Where letters were replaced two names may have become one.
    if slot == name { slot } else { format!("{slot}_{}", node.0) }
}

/// `sslmode` for a server that has never said how it reaches the others. Which file on *its* machine holds the authorities
/// is not known here, and `verify-…` without that file refuses every server; with `require` libpq still checks against its
/// default file where there is one.
fn sslmode_between_servers(mode: ServerTlsMode) -> &'static str {
    match mode {
        ServerTlsMode::VerifyCa | ServerTlsMode::VerifyFull => ServerTlsMode::Require.as_str(),
        mode => mode.as_str(),
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_named_after_their_node() {
        assert_eq!(slot_name(NodeId(0), "n1"), "n1");
        assert_eq!(slot_name(NodeId(3), "Db-1.example"), "db_1_example_3");
        assert_ne!(slot_name(NodeId(1), "a-b"), slot_name(NodeId(2), "a.b"));
        assert!(slot_name(NodeId(9), &"x".repeat(200)).len() < 63);
    }
}
