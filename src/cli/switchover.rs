//! `primacy switchover`: hand a healthy primary's role over.

use std::time::Duration;

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use super::screen::Screen;
use crate::admin::json::{CommandReport, SwitchoverRequest};

/// Every step of it has a limit of its own in the proxy; this one is beyond their sum.
const SWITCHOVER_MAX: Duration = Duration::from_secs(600);

/// Arguments of `primacy switchover`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node to become primary; the best one where absent.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Only check whether it would work.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let request = SwitchoverRequest { to: args.to.clone(), dry_run: args.dry_run };
    let report: CommandReport = client.post("/api/v1/switchover", &request, SWITCHOVER_MAX)?;
    Ok(Screen::stdout().line(&report.message)?)
}
