//! What a worker is told from outside: by another worker, by a reload, by a person.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::gate::Victim;
use super::report::{Want, WorkerReport};

/// What a worker is told from outside.
#[derive(Debug)]
pub enum Command {
    /// A client of yours wants its statement cancelled.
    Cancel {
        /// The process id that it was given.
        pid: i32,
        /// Its secret.
        secret: Box<[u8]>,
    },
    /// Settings have changed.
    Reload,
    /// Somebody wants to know what the worker has: its clients, pools and counts.
    Report(Want, oneshot::Sender<WorkerReport>),
    /// Databases were paused, resumed, disabled or enabled.
    Gates,
    /// Server connections of this database (or all) are not to be used again.
    Reconnect(Option<Arc<str>>),
    /// The sessions of this database (or all), or of this process id, end now.
    Kill(Victim),
    /// Accept no more; let transactions finish; end.
    Drain,
    /// Say that you are there.
    Pulse(tokio::sync::oneshot::Sender<()>),
    /// Accept no more; end when the clients of all workers have gone by themselves.
    CloseDoor,
    /// End now.
    Stop,
}
