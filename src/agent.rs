//! The agent: beside one PostgreSQL server, it does what SQL cannot: start, stop, rewind, copy anew.
//!
//! In: requests of primacy's control plane (`proto-notes/agent.md`), over HTTP with a token or a client's certificate. Out:
//! what became of them. It touches one data directory, the one that its configuration names, and nothing else. What it is
//! doing is in its journal and in marks beside the data, so that killed at any moment it leaves nothing that a later start
//! takes for whole.

mod journal;
mod keeper;
mod lease;
mod server;
mod settings;
mod tls;

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;

pub use keeper::OpenError;
pub use settings::{Role, Settings, Tls};
pub use tls::TlsError;

use keeper::Keeper;

/// Why the agent cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The data directory, its programs, or the journal.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("cannot listen on {address}; is another agent running?")]
    Bind {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Serves until `stop` is ready, and then until nothing is being done to the server any more.
pub async fn run(
    settings: Settings,
    path: Option<std::ffi::OsString>,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let acceptor = settings.tls.as_ref().map(tls::acceptor).transpose()?;
    let address = settings.listen;
    let keeper = Arc::new(Keeper::open(settings, path).await?);
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| AgentError::Bind { address, source })?;
    tracing::info!(%address, node = %keeper.settings().node, "the agent serves");
    tokio::select! {
        () = server::serve(&listener, acceptor.as_ref(), &keeper) => {}
        () = lease::watch(&keeper) => {}
        () = stop => {}
    }
    tracing::info!("stopping");
    // A rewind that is broken off would cost a new copy.
    keeper.quiet().await;
    Ok(())
}
