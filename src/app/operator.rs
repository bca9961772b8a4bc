//! The running proxy, as the HTTP API sees it.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Running;
use crate::admin::json::{ChangeReport, CommandReport, ExplainReport, ExplainRequest};
use crate::admin::{CommandError, Operator};
use crate::control::{self, ControlHandle};
use crate::failover::{Command, Status};

/// Passes operators' requests to the rooms that carry them out.
#[derive(Debug)]
pub(super) struct RunningOperator {
    control: ControlHandle,
    running: Arc<Running>,
}

impl RunningOperator {
    pub(super) fn new(control: ControlHandle, running: Arc<Running>) -> Self {
        Self { control, running }
    }
}

impl Operator for RunningOperator {
    fn status(&self) -> Option<Status> {
        None
    }

    fn history(&self) -> Vec<ChangeReport> {
        Vec::new()
    }

    fn command(&self, command: Command) -> BoxFuture<'_, Result<String, CommandError>> {
        Box::pin(async move { self.control.command(command).await.map_err(refused) })
    }

    fn reload(&self) -> BoxFuture<'_, Result<CommandReport, CommandError>> {
        Box::pin(async move { self.running.reload().await.map(CommandReport::done).map_err(CommandError::Refused) })
    }

    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainReport, CommandError>> {
        Box::pin(async move { Ok(self.running.explain(&request)) })
    }
}

fn refused(error: control::CommandError) -> CommandError {
    match error {
        control::CommandError::Stopping => CommandError::Stopping,
        other => CommandError::Refused(other.to_string()),
    }
}
