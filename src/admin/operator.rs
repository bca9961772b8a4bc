//! What the API needs from the running proxy, as one trait: the control plane's handle and the composition root's two
//! hooks implement it, tests fake it.

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::json::{ChangeReport, ClusterReport, CommandReport, ExplainReport, ExplainRequest};
use crate::control::{self, ControlHandle};
use crate::proxy::report::{Want, WorkerReport};

/// The answer to a command: what was done, in words.
pub type Done = Result<String, CommandError>;

/// The running proxy, as an operator sees it. Nodes are named, never numbered.
pub trait Operator: fmt::Debug + Send + Sync + 'static {
    /// The cluster now.
    fn status(&self) -> BoxFuture<'_, Result<ClusterReport, CommandError>>;
    /// Every remembered change of primary, oldest first.
    fn history(&self) -> Vec<ChangeReport>;
    /// Hands a healthy primary's role over.
    fn switchover(&self, to: Option<String>, dry_run: bool) -> BoxFuture<'_, Done>;
    /// Replaces the primary.
    fn failover(&self, to: Option<String>, allow_data_loss: bool) -> BoxFuture<'_, Done>;
    /// No failover without a person from now on.
    fn pause(&self) -> BoxFuture<'_, Done>;
    /// Automatic failover again.
    fn resume(&self) -> BoxFuture<'_, Done>;
    /// Brings a node back.
    fn rejoin(&self, node: String) -> BoxFuture<'_, Done>;
    /// Reads the configuration again.
    fn reload(&self) -> BoxFuture<'_, Result<CommandReport, CommandError>>;
    /// Says where a text would go and why.
    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainReport, CommandError>>;
    /// What the data path's workers have now.
    fn workers(&self, want: Want) -> BoxFuture<'_, Vec<WorkerReport>>;
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No node has that name; says which there are.
    #[error("{0}")]
    UnknownNode(String),
    /// It is not possible now; says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// primacy is stopping.
    #[error("primacy is stopping")]
    Stopping,
}

impl From<control::CommandError> for CommandError {
    fn from(error: control::CommandError) -> Self {
        match error {
            control::CommandError::UnknownNode { .. } => Self::UnknownNode(error.to_string()),
            control::CommandError::Refused { text, .. } => Self::Refused(text),
            control::CommandError::Stopping => Self::Stopping,
        }
    }
}

/// What only the composition root can do.
pub trait Hooks: fmt::Debug + Send + Sync + 'static {
    /// Reads the configuration again and puts in force what can be.
    fn reload(&self) -> BoxFuture<'_, Result<CommandReport, CommandError>>;
    /// Says where a text would go and why.
    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainReport, CommandError>>;
    /// What the data path's workers have now.
    fn workers(&self, want: Want) -> BoxFuture<'_, Vec<WorkerReport>>;
}

/// The operator's view of a running proxy.
#[derive(Clone, Debug)]
pub struct LiveOperator {
    /// The control plane.
    pub control: ControlHandle,
    /// The rest.
    pub hooks: Arc<dyn Hooks>,
}

impl Operator for LiveOperator {
    fn status(&self) -> BoxFuture<'_, Result<ClusterReport, CommandError>> {
        async { Ok(self.control.status().await?) }.boxed()
    }

    fn history(&self) -> Vec<ChangeReport> {
        self.control.history()
    }

    fn switchover(&self, to: Option<String>, dry_run: bool) -> BoxFuture<'_, Done> {
        async move { Ok(self.control.switchover(to.as_deref(), dry_run).await?) }.boxed()
    }

    fn failover(&self, to: Option<String>, allow_data_loss: bool) -> BoxFuture<'_, Done> {
        async move { Ok(self.control.failover(to.as_deref(), allow_data_loss).await?) }.boxed()
    }

    fn pause(&self) -> BoxFuture<'_, Done> {
        async { Ok(self.control.pause().await?) }.boxed()
    }

    fn resume(&self) -> BoxFuture<'_, Done> {
        async { Ok(self.control.resume().await?) }.boxed()
    }

    fn rejoin(&self, node: String) -> BoxFuture<'_, Done> {
        async move { Ok(self.control.rejoin(&node).await?) }.boxed()
    }

    fn reload(&self) -> BoxFuture<'_, Result<CommandReport, CommandError>> {
        self.hooks.reload()
    }

    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainReport, CommandError>> {
        self.hooks.explain(request)
    }

    fn workers(&self, want: Want) -> BoxFuture<'_, Vec<WorkerReport>> {
        self.hooks.workers(want)
    }
}
