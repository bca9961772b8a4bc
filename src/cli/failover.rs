//! `primacy failover`: replace the primary now.
//!
//! Losing acknowledged writes is a person's decision: on a terminal it has to be confirmed.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use super::screen::Screen;
use crate::admin::json::{CommandReport, FailoverRequest};

/// Every step of it has a limit of its own in the proxy; this one is beyond their sum.
const FAILOVER_MAX: Duration = Duration::from_secs(600);

/// Arguments of `primacy failover`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node to become primary; the best one where absent.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Go on where acknowledged writes may be lost: too few nodes left, or a node that has less than another.
    #[arg(long)]
    allow_data_loss: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    if args.allow_data_loss && !args.yes && io::stdin().is_terminal() && !confirmed()? {
        return Err(Failure::NotConfirmed);
    }
    let request = FailoverRequest { to: args.to.clone(), allow_data_loss: args.allow_data_loss };
    let report: CommandReport = client.post("/api/v1/failover", &request, FAILOVER_MAX)?;
    Ok(Screen::stdout().line(&report.message)?)
}

fn confirmed() -> Result<bool, Failure> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "Writes that were acknowledged to clients may be lost for good. Go on? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
