//! Starting the control plane's tasks: each has a name in the log and ends with its owner.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// A running task; dropping it ends the task at its next wait.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Waits until it has ended by itself. Cancellation ends the task.
    pub(crate) async fn ended(mut self) {
        // An error means that it was ended or has panicked: it does not run any more either way.
        drop((&mut self.0).await);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts `future` under a span of that name and node. The task lives as long as the handle.
#[must_use = "the task ends when the handle is dropped"]
pub(crate) fn spawn<F>(name: &'static str, node: &str, future: F) -> Task
where
    F: Future<Output = ()> + Send + 'static,
{
    let span = tracing::debug_span!("task", name, node);
    Task(tokio::spawn(future.instrument(span)))
}

/// The same for a connection's driver, whose owner ends it by dropping the client.
pub(crate) fn spawn_driver<F>(name: &'static str, node: &str, future: F) -> tokio::task::JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let span = tracing::debug_span!("task", name, node);
    tokio::spawn(future.instrument(span))
}

/// The same for a task that ends by itself soon and that nobody waits for.
pub(crate) fn spawn_detached<F>(name: &'static str, node: &str, future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let span = tracing::debug_span!("task", name, node);
    drop(tokio::spawn(future.instrument(span)));
}
