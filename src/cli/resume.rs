//! `primacy resume`: automatic failover on.

use super::client::{AdminArgs, Client, LOOK};
use super::failure::Failure;
use super::screen::Screen;
use crate::admin::json::CommandReport;

/// Arguments of `primacy resume`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let report: CommandReport = client.post("/api/v1/resume", &serde_json::json!({}), LOOK)?;
    Ok(Screen::stdout().line(&report.message)?)
}
