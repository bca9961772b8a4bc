//! The door to the console: databases that the proxy itself answers for. Who serves them is handed over at the start;
//! here a client that has signed in is led there, and away again when it has to leave.

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::LocalBoxFuture;

use super::Stream;
use super::handle::{Handle, Kick};
use super::login::Admitted;
use super::worker::Worker;
use crate::clock;
use crate::session::ClientError;

/// A client of the console, signed in; AuthenticationOk has not been said.
#[derive(Debug)]
pub struct Guest {
    /// The connection.
    pub stream: Stream,
    /// What it has sent already.
    pub ahead: Vec<u8>,
    /// The role.
    pub user: Arc<str>,
    /// The settings that it asked for.
    pub params: Vec<(String, String)>,
    /// Process id and secret for its cancel requests.
    pub key: (i32, Box<[u8]>),
    /// Resolves with the reason when the connection has to end.
    pub leave: Leave,
}

/// Tells a guest when to leave.
pub struct Leave(Rc<Handle>);

impl fmt::Debug for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leave")
    }
}

impl Leave {
    /// Waits until the connection has to end. Cancellation-safe.
    pub async fn told(&self) -> ClientError {
        poll_fn(|cx| {
            self.0.register(cx);
            if self.0.has(Kick::Killed) {
                return Poll::Ready(ClientError::Killed);
            }
            if self.0.has(Kick::Drain) {
                return Poll::Ready(ClientError::Drain);
            }
            Poll::Pending
        })
        .await
    }
}

/// Who serves the console.
pub trait Console: fmt::Debug + Send + Sync + 'static {
    /// Whether this is a database of the console.
    fn has_database(&self, name: &str) -> bool;
    /// Whether this role may use it.
    fn admits(&self, user: &str) -> bool;
    /// Serves one guest to its end.
    fn serve(&self, guest: Guest) -> LocalBoxFuture<'static, ()>;
}

/// The console of this database, if it is one.
pub(super) fn of<'w>(worker: &'w Worker, database: &str) -> Option<&'w Arc<dyn Console>> {
    worker.shared.console.get().filter(|console| console.has_database(database))
}

/// Leads an admitted client to the console, or tells it why not.
pub(super) async fn visit(
    console: &Arc<dyn Console>,
    worker: &Rc<Worker>,
    admitted: Admitted,
    handle: Rc<Handle>,
) {
    let who = &handle.who;
    // An exporter comes every few seconds: what it does is told, not that it came.
    tracing::debug!(user = %who.user, peer = ?who.peer, "somebody is on the console");
    worker.meter.client_signed_in();
    handle.set_doing(super::handle::Doing::Idle, clock::now());
    let guest = Guest {
        stream: admitted.stream,
        ahead: admitted.ahead,
        user: Arc::clone(&who.user),
        params: admitted.params,
        key: (handle.pid, handle.secret.clone()),
        leave: Leave(Rc::clone(&handle)),
    };
    console.serve(guest).await;
}
