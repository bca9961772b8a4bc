//! Watching the servers and acting on them: monitor, actuator, journal, operator commands, and the board that
//! publishes what is known.
//!
//! ```text
//! probers (one per node) -> Observation -> conductor: core.step(now, input) -> effects
//!     -> actuator (SQL, local servers) -> outcome -> back in as input
//!     -> board (snapshot, positions) -> sessions read it
//! ```
//!
//! All of it runs on one thread's runtime if need be. The decision itself is in `failover` and touches nothing.

mod actuator;
pub mod agents;
mod barrier;
pub mod board;
mod conductor;
pub mod conninfo;
mod hands;
pub mod in_doubt;
mod journal;
pub mod link;
pub mod local;
mod monitor;
pub mod operator;
pub mod own_cluster;
mod probe;
pub mod report;
mod rounds;
mod sampler;
pub mod settings;
pub mod store;
mod task;
mod tls;
mod upstream;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use board::Board;
pub use in_doubt::{Doubt, Fate, InDoubt};
pub use journal::JournalError;
pub use local::{LocalError, LocalFuture, LocalServers, Upstream};
pub use operator::{CommandError, ControlHandle};
pub use own_cluster::OwnCluster;
pub use settings::Settings;
pub use store::StoreError;
pub use tls::TlsError;

use crate::clock;
use crate::failover::{Core, Member};
use crate::model::Snapshot;

/// Why the control plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// TLS towards a server could not be prepared.
    #[error("TLS towards the servers cannot be set up")]
    Tls(#[from] TlsError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Agents cannot be talked to.
    #[error("agents cannot be talked to")]
    Agents(#[from] agents::AgentSetupError),
    /// A pool of connections could not be made.
    #[error("connections to the servers cannot be set up")]
    Link(#[from] link::LinkError),
}

/// What is known before anything was looked at: for the board's first snapshot.
pub fn first_snapshot(settings: &Settings) -> Snapshot {
    Core::new(settings.failover.clone(), members(settings), None, clock::now()).snapshot()
}

/// Starts the control plane on the present runtime. It runs until `stop` comes; the join handle ends when all of it has
/// ended. The journal's lock is free once the last `ControlHandle` is gone, too.
pub fn run(
    settings: Settings,
    board: Arc<Board>,
    local: Option<Arc<dyn LocalServers>>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(ControlHandle, JoinHandle<()>), ControlError> {
    let settings = Arc::new(settings);
    let targets = link::Target::all(&settings)?;
    let names = settings.nodes.iter().map(|node| node.name.clone()).collect();
    let (journal, restored) = journal::Journal::open(settings.state_dir.as_deref(), names)?;
    if !journal.is_durable() {
        tracing::warn!(
            "no state_dir: the journal is kept in memory only; a failover that is under way when primacy itself dies is \
             not finished by its next start"
        );
    }
    let journal = Arc::new(journal);
    let core = Core::new(settings.failover.clone(), members(&settings), restored, clock::now());
    let watch = monitor::Watch::new(settings.nodes.len(), core.probe_interval());
    let agents = agents::Agents::new(&settings)?;
    let local = local.or_else(|| agents.clone().map(|agents| Arc::new(agents) as Arc<dyn LocalServers>));
    let actuator =
        actuator::Actuator::new(settings.clone(), &targets, board.clone(), watch.clone(), journal.clone())?
            .with_local(local);
    let (outcomes, inputs) = mpsc::channel(conductor::INPUTS_MAX);
    let (requests, asked) = mpsc::channel(operator::REQUESTS_MAX);
    let handle = ControlHandle::new(requests, settings.clone(), journal.clone());
    let mut tasks = monitor::spawn(&settings, &targets, &board, &watch, &outcomes);
    tasks.extend(sampler::spawn(&targets, &board, settings.sample_every));
    tasks.push(barrier::spawn(&targets, &board));
    tasks.extend(agents.map(|agents| agents::lease(agents, board.clone())));
    let conductor = conductor::Conductor {
        core,
        board,
        watch,
        journal,
        actuator: Arc::new(actuator),
        outcomes,
        state: conductor::State::new(settings.nodes.len()),
        settings,
    };
    let running = tokio::spawn(async move {
        conductor.run(inputs, asked, stop).await;
        drop(tasks);
    });
    Ok((handle, running))
}

fn members(settings: &Settings) -> Vec<Member> {
    settings.nodes.iter().map(settings::NodeSettings::member).collect()
}
