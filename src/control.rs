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
mod generation;
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
pub mod suspicion;
mod task;
mod tls;
mod upstream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use board::Board;
pub use generation::ReconfigureError;
pub use in_doubt::{Doubt, Fate, InDoubt};
pub use journal::JournalError;
pub use local::{Fit, LocalError, LocalFuture, LocalServers, Upstream};
pub use operator::{CommandError, ControlHandle};
pub use own_cluster::OwnCluster;
pub use settings::Settings;
pub use store::StoreError;
pub use suspicion::Word;
pub use tls::TlsError;

use crate::clock;
use crate::failover::{Core, Record};
use crate::model::Snapshot;
use generation::{House, Prepared, members};

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

/// Watches the servers, follows whoever changes the primary, and keeps the board, without doing anything to a server: for
/// processes that leave the decisions to another. `known` is what is known of the cluster already.
pub fn watch(
    settings: Settings,
    board: Arc<Board>,
    known: Option<Record>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<JoinHandle<()>, ControlError> {
    let settings = Arc::new(Settings { state_dir: None, ..settings });
    let names = settings.nodes.iter().map(|node| node.name.clone()).collect();
    let (journal, _) = journal::Journal::open(None, names)?;
    let house = Arc::new(House {
        board,
        local: None,
        journal: Arc::new(journal),
        settings: Arc::new(ArcSwap::new(settings.clone())),
    });
    let first = Prepared::new(&house, settings, false)?;
    // Nobody asks a watcher for anything: the sender lives as long as it does, so that its end is not taken for one.
    let (nobody, asked) = mpsc::channel(1);
    Ok(tokio::spawn(async move {
        generation::run(house, (first, known), asked, stop).await;
        drop(nobody);
    }))
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
    let names = settings.nodes.iter().map(|node| node.name.clone()).collect();
    let (journal, restored) = journal::Journal::open(settings.state_dir.as_deref(), names)?;
    if !journal.is_durable() {
        tracing::warn!(
            "no state_dir: the journal is kept in memory only; a failover that is under way when primacy itself dies is \
             not finished by its next start"
        );
    }
    let settings = Arc::new(settings);
    let house = Arc::new(House {
        board,
        local,
        journal: Arc::new(journal),
        settings: Arc::new(ArcSwap::new(settings.clone())),
    });
    let first = Prepared::new(&house, settings, true)?;
    let (requests, asked) = mpsc::channel(operator::REQUESTS_MAX);
    let handle = ControlHandle::new(requests, house.settings.clone(), house.journal.clone());
    let running = tokio::spawn(generation::run(house, (first, restored), asked, stop));
    Ok((handle, running))
}
