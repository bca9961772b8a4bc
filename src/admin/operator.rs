//! What the API needs from the running proxy, as one trait: the composition root implements it, tests fake it.

use std::fmt;

use futures_util::future::BoxFuture;

use super::json::{ChangeReport, CommandReport, ExplainReport, ExplainRequest};
use crate::failover::{Command, Status};

/// The running proxy, as an operator sees it.
pub trait Operator: fmt::Debug + Send + Sync + 'static {
    /// What the failover core is doing; `None` before its first word.
    fn status(&self) -> Option<Status>;

    /// Every remembered change of primary, oldest first.
    fn history(&self) -> Vec<ChangeReport>;

    /// Asks the failover core for something and waits for its answer.
    fn command(&self, command: Command) -> BoxFuture<'_, Result<String, CommandError>>;

    /// Reads the configuration again.
    fn reload(&self) -> BoxFuture<'_, Result<CommandReport, CommandError>>;

    /// Says where a text would go and why.
    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainReport, CommandError>>;
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It is not possible now; says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// No answer in time; it may still be going on.
    #[error("no answer in time: it may still be going on; see `primacy status`")]
    NoAnswer,
    /// primacy is stopping.
    #[error("primacy is stopping")]
    Stopping,
}
