//! `primacy reload`: read the configuration again.

use std::time::Duration;

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use super::screen::Screen;
use crate::admin::json::CommandReport;

/// Arguments of `primacy reload`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let report: CommandReport =
        client.post("/api/v1/reload", &serde_json::json!({}), Duration::from_secs(60))?;
    let screen = Screen::stdout();
    // The message says the same in one line, for the log.
    if report.changed.is_empty() && report.needs_restart.is_empty() {
        screen.line(&report.message)?;
    }
    for change in &report.changed {
        screen.line(&format!("changed  {change}"))?;
    }
    for change in &report.needs_restart {
        screen.line(&format!("needs a restart  {change}"))?;
    }
    for node in &report.departed {
        screen.line(&format!("removed  {node}"))?;
    }
    Ok(())
}
