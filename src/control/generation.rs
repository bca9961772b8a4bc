//! The control plane's runs: each has one set of settings and one decision core.
//!
//! A reload ends one run between two decisions, while nothing is under way, and begins the next with what the journal
//! says, as a restart of primacy would; only that nothing is published before the new core has heard the nodes, so that
//! the data path goes on with the topology that it has.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use super::actuator::Actuator;
use super::agents::{self, Agents};
use super::conductor::{Conductor, INPUTS_MAX, State};
use super::journal::Journal;
use super::link::{Target, chain};
use super::local::LocalServers;
use super::monitor::{self, Watch};
use super::operator::Request;
use super::settings::{NodeSettings, Settings};
use super::{Board, ControlError, barrier, sampler};
use crate::clock;
use crate::failover::{self, Core, Member, Record};

/// Why other settings were not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReconfigureError {
    /// They cannot be used.
    #[error("the control plane cannot use it: {0}")]
    Unusable(String),
    /// The primary may not go.
    #[error("node {name} is the primary; hand its role over first: `primacy switchover`")]
    RemovesPrimary {
        /// Its name.
        name: Arc<str>,
    },
    /// Something is under way.
    #[error("the cluster is being changed ({state}); try again when `primacy status` says steady")]
    Busy {
        /// The core's state.
        state: &'static str,
    },
    /// The control plane is stopping.
    #[error("primacy is stopping")]
    Stopping,
}

/// What all runs share.
pub(super) struct House {
    pub(super) board: Arc<Board>,
    pub(super) local: Option<Arc<dyn LocalServers>>,
    pub(super) journal: Arc<Journal>,
    /// Settings of the present run.
    pub(super) settings: Arc<ArcSwap<Settings>>,
}

/// A run that could begin.
pub(super) struct Prepared {
    pub(super) settings: Arc<Settings>,
    /// Otherwise the servers are looked at and nothing is done to them: another process decides, and is followed.
    pub(super) decides: bool,
    targets: Vec<Target>,
    watch: Arc<Watch>,
    actuator: Arc<Actuator>,
    agents: Option<Agents>,
}

/// The answer to a wish for other settings.
pub(super) type ReconfigureReply = oneshot::Sender<Result<(), ReconfigureError>>;

/// A run that waits for the present one to have nothing under way.
pub(super) struct Successor {
    pub(super) prepared: Box<Prepared>,
    pub(super) until: std::time::Instant,
    pub(super) reply: ReconfigureReply,
}

/// How long a reload waits for what is under way.
pub(super) const SETTLE_MAX: Duration = Duration::from_secs(10);

impl Prepared {
    /// Reads certificates; opens no connection.
    pub(super) fn new(house: &House, settings: Arc<Settings>, decides: bool) -> Result<Self, ControlError> {
        let targets = Target::all(&settings)?;
        let watch = Watch::new(settings.nodes.len(), settings.failover.probe_interval);
        let (board, journal) = (house.board.clone(), house.journal.clone());
        // A process that only watches leaves the agents to the one that decides.
        let agents = if decides { Agents::new(&settings)? } else { None };
        let by_agents = || agents.clone().map(|agents| Arc::new(agents) as Arc<dyn LocalServers>);
        let local = house.local.clone().or_else(by_agents);
        let actuator =
            Actuator::new(settings.clone(), &targets, board, watch.clone(), journal)?.with_local(local);
        Ok(Self { settings, decides, targets, watch, actuator: Arc::new(actuator), agents })
    }
}

/// One run after the other, until `stop` comes.
pub(super) async fn run(
    house: Arc<House>,
    first: (Prepared, Option<Record>),
    mut requests: mpsc::Receiver<Request>,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    let (mut prepared, mut record) = first;
    let mut is_first = true;
    loop {
        let Prepared { settings, decides, targets, watch, actuator, agents } = prepared;
        let failover = if decides { settings.failover.clone() } else { watching(&settings.failover) };
        let core = Core::new(failover, members(&settings), record, clock::now());
        let (outcomes, inputs) = mpsc::channel(INPUTS_MAX);
        let is_present = |target: &Target| settings.node(target.id).is_some_and(|node| !node.removed);
        let (present, removed): (Vec<_>, Vec<_>) = targets.iter().cloned().partition(is_present);
        let mut tasks = monitor::spawn(&settings, &present, &house.board, &watch, &outcomes);
        let leaving: Vec<Target> = removed.into_iter().filter(|target| core.hears(target.id)).collect();
        let probers = monitor::probers(&settings, &leaving, &house.board, &watch, &outcomes);
        let leaving = leaving.iter().map(|target| target.id).zip(probers).collect();
        tasks.extend(sampler::spawn(&present, &house.board, settings.sample_every));
        tasks.push(barrier::spawn(&targets, &house.board));
        tasks.extend(agents.map(|agents| agents::lease(agents, house.board.clone())));
        let state = State::new(settings.nodes.len(), !is_first, leaving);
        let conductor =
            Conductor { core, settings, decides, house: house.clone(), watch, actuator, outcomes, state };
        let Some(next) = conductor.run(inputs, &mut requests, stop.as_mut()).await else { return };
        drop(tasks);
        let next = succeed(&house, next);
        (prepared, record) = next;
        is_first = false;
    }
}

/// The next run's parts, and what it has to know of the present one.
fn succeed(house: &House, mut next: Successor) -> (Prepared, Option<Record>) {
    let settings = next.prepared.settings.clone();
    house.journal.rename(settings.nodes.iter().map(|node| node.name.clone()).collect());
    let mut answer = Ok(());
    if next.prepared.decides
        && let Err(error) = house.journal.reopen(settings.state_dir.as_deref())
    {
        answer = Err(ReconfigureError::Unusable(chain(&error)));
        next.prepared.decides = false;
    }
    let record = house.journal.record().unwrap_or_else(|error| {
        // Its own names are all there: removed nodes keep their places.
        tracing::error!(%error, "the journal cannot be read back");
        None
    });
    if !next.prepared.decides {
        house.journal.release();
    }
    let nodes: Vec<&str> = settings.present().filter_map(|id| Some(&*settings.node(id)?.name)).collect();
    let decides = next.prepared.decides;
    tracing::info!(nodes = nodes.join(", "), decides, "control plane goes on with other settings");
    house.settings.store(settings);
    if next.reply.send(answer).is_err() {
        tracing::debug!("whoever asked for other settings has gone");
    }
    (*next.prepared, record)
}

/// The core's settings for a process that follows the decisions of another.
fn watching(settings: &failover::Settings) -> failover::Settings {
    failover::Settings {
        automatic: false,
        manage_sync_names: false,
        receiver_timeout: None,
        arm_standby_signal: false,
        auto_rejoin: false,
        ..settings.clone()
    }
}

pub(super) fn members(settings: &Settings) -> Vec<Member> {
    settings.nodes.iter().map(NodeSettings::member).collect()
}
