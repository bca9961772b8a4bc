//! What of the running proxy only the composition root can do for the HTTP API.

use futures_util::future::BoxFuture;

use super::Running;
use crate::admin::json::{CommandReport, ExplainReport, ExplainRequest};
use crate::admin::{CommandError, Hooks};
use crate::proxy::report::{Want, WorkerReport};

impl Hooks for Running {
    fn reload(&self) -> BoxFuture<'_, Result<CommandReport, CommandError>> {
        Box::pin(async move { self.reload_file().await.map_err(CommandError::Refused) })
    }

    fn workers(&self, want: Want) -> BoxFuture<'_, Vec<WorkerReport>> {
        Box::pin(self.shared.report(want))
    }

    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainReport, CommandError>> {
        Box::pin(async move { self.explain_text(&request).await })
    }
}
