//! What people and programs ask of the control plane: a handle that can be cloned and sent anywhere.
//!
//! Every command is answered once, with its final result or with what stands in its way.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use super::generation::{ReconfigureError, ReconfigureReply};
use super::journal::Journal;
use super::report::{Change, StatusReport};
use super::settings::Settings;
use crate::failover::{Command, Refusal};
use crate::model::NodeId;

/// Requests that wait at one time.
pub(crate) const REQUESTS_MAX: usize = 64;

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No node has that name.
    #[error("there is no node {name:?}; the nodes are {}", known.join(", "))]
    UnknownNode {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The decision core refused it or gave it up.
    #[error("{text}")]
    Refused {
        /// Why, with what to do where something can be done; names instead of numbers.
        text: String,
        /// Why, as a value.
        refusal: Refusal,
    },
    /// The control plane is stopping.
    #[error("primacy is stopping")]
    Stopping,
}

/// What the conductor is asked.
#[derive(Debug)]
pub(crate) enum Request {
    Status(oneshot::Sender<StatusReport>),
    Command { command: Command, reply: oneshot::Sender<Result<String, CommandError>> },
    Reconfigure { change: Reconfiguration, reply: ReconfigureReply },
}

/// What the next run of the control plane is to be like; what is not said stays.
#[derive(Debug, Default)]
pub(crate) struct Reconfiguration {
    pub(crate) settings: Option<Arc<Settings>>,
    pub(crate) decides: Option<bool>,
}

/// The control plane, as others talk to it.
#[derive(Clone, Debug)]
pub struct ControlHandle {
    requests: mpsc::Sender<Request>,
    settings: Arc<ArcSwap<Settings>>,
    journal: Arc<Journal>,
}

impl ControlHandle {
    pub(crate) fn new(
        requests: mpsc::Sender<Request>,
        settings: Arc<ArcSwap<Settings>>,
        journal: Arc<Journal>,
    ) -> Self {
        Self { requests, settings, journal }
    }

    /// The cluster now.
    pub async fn status(&self) -> Result<StatusReport, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Status(reply)).await?;
        answer.await.map_err(|_gone| CommandError::Stopping)
    }

    /// The changes of primary, oldest first.
    pub fn history(&self) -> Vec<Change> {
        self.journal.history()
    }

    /// Hands a healthy primary's role over; nothing is lost, nothing fails. `to`: a node's name, or the best.
    pub async fn switchover(&self, to: Option<&str>, dry_run: bool) -> Result<String, CommandError> {
        let to = to.map(|name| self.node(name)).transpose()?;
        self.command(Command::Switchover { to, dry_run }).await
    }

    /// Replaces the primary, healthy or not.
    pub async fn failover(&self, to: Option<&str>, allow_data_loss: bool) -> Result<String, CommandError> {
        let to = to.map(|name| self.node(name)).transpose()?;
        self.command(Command::Failover { to, allow_data_loss }).await
    }

    /// No failover without a person from now on.
    pub async fn pause(&self) -> Result<String, CommandError> {
        self.kept(Command::Pause).await
    }

    /// Automatic failover again.
    pub async fn resume(&self) -> Result<String, CommandError> {
        self.kept(Command::Resume).await
    }

    /// A command whose effect is to outlive this process.
    async fn kept(&self, command: Command) -> Result<String, CommandError> {
        let done = self.command(command).await?;
        // Without a directory the journal is in memory, and everything in it counts as written.
        Ok(if self.journal.is_durable() {
            done
        } else {
            format!("{done}, until primacy is restarted: there is no state_dir")
        })
    }

    /// Takes other settings over, as soon as nothing is under way. Nodes keep their places; those that are gone are marked
    /// as removed.
    pub async fn reconfigure(&self, settings: Settings) -> Result<(), ReconfigureError> {
        let settings = Some(Arc::new(settings));
        self.change(Reconfiguration { settings, ..Reconfiguration::default() }).await
    }

    /// Leaves the decisions, and the journal, to another process, as soon as nothing is under way; follows it from then on.
    pub async fn release(&self) -> Result<(), ReconfigureError> {
        self.change(Reconfiguration { decides: Some(false), ..Reconfiguration::default() }).await
    }

    /// Takes the decisions back.
    pub async fn reacquire(&self) -> Result<(), ReconfigureError> {
        self.change(Reconfiguration { decides: Some(true), ..Reconfiguration::default() }).await
    }

    async fn change(&self, change: Reconfiguration) -> Result<(), ReconfigureError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Reconfigure { change, reply };
        self.requests.send(request).await.map_err(|_gone| ReconfigureError::Stopping)?;
        answer.await.map_err(|_gone| ReconfigureError::Stopping)?
    }

    /// Brings a node back now.
    pub async fn rejoin(&self, node: &str) -> Result<String, CommandError> {
        let node = self.node(node)?;
        self.command(Command::Rejoin(node)).await
    }

    fn node(&self, name: &str) -> Result<NodeId, CommandError> {
        let settings = self.settings.load();
        settings.by_name(name).ok_or_else(|| CommandError::UnknownNode {
            name: name.to_owned(),
            known: settings.present().map(|node| settings.name(node).to_string()).collect(),
        })
    }

    async fn command(&self, command: Command) -> Result<String, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Command { command, reply }).await?;
        answer.await.map_err(|_gone| CommandError::Stopping)?
    }

    async fn ask(&self, request: Request) -> Result<(), CommandError> {
        self.requests.send(request).await.map_err(|_gone| CommandError::Stopping)
    }
}

/// What a person can do about a refusal.
pub(crate) fn advice(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotEnoughRecruits { .. } => {
            "; start more of the nodes, or accept the loss of writes with `primacy failover --allow-data-loss`"
        }
        Refusal::NotKept { .. } => "; it is tried again, and `primacy status` says when that has helped",
        Refusal::Paused => "; `primacy resume` switches it on",
        Refusal::Busy { .. } => "; try again when it is done (`primacy status`)",
        _ => "",
    }
}
