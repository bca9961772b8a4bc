//! Cancel requests: from a client's key to the server connection that runs its statement at this moment.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use super::handle::Kick;
use super::pool::ServerConn;
use super::worker::Worker;
use crate::model::NodeId;

/// Carries a client's cancel request out. A wrong key is ignored without a word, as PostgreSQL does (manual, 55.2.8).
pub fn request(worker: &Rc<Worker>, pid: i32, secret: &[u8]) -> Option<impl Future<Output = ()> + use<>> {
    let handle = worker.session(pid)?;
    if !bool::from(subtle::ConstantTimeEq::ct_eq(&*handle.secret, secret)) {
        return None;
    }
    let Some(held) = handle.held() else {
        // Not on a server: waiting for one, or idle.
        handle.kick(Kick::Cancel);
        return None;
    };
    if handle.is_committing() {
        // Cancelled while it waits for synchronous replicas, a commit would look like a success that it is not
        // (manual, 27.2.8). COMMIT has nothing else that would be worth cancelling.
        return None;
    }
    let link = worker.shared.links.get(held.node)?;
    held.cancels.set(held.cancels.get() + 1);
    worker.meter.cancelled();
    Some(async move {
        let sent = super::server::cancel(&link.node, &link.tls, held.key.0, &held.key.1);
        if !matches!(tokio::time::timeout(Duration::from_secs(5), sent).await, Ok(Ok(()))) {
            tracing::debug!(node = %link.node.name, "a cancel request did not reach its server");
        }
        held.cancels.set(held.cancels.get().saturating_sub(1));
    })
}

/// Stops what a session that has gone left running.
pub fn spawn(worker: &Rc<Worker>, node: NodeId, key: (i32, Rc<[u8]>)) {
    let Some(link) = worker.shared.links.get(node) else { return };
    tokio::task::spawn_local(async move {
        let sent = super::server::cancel(&link.node, &link.tls, key.0, &key.1);
        drop(tokio::time::timeout(Duration::from_secs(5), sent).await);
    });
}

/// Waits until no cancel request is under way against a connection.
pub async fn settled(conn: &ServerConn) {
    while conn.cancels.get() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
