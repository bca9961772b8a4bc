//! `primacy rejoin NODE`: bring a node back as a replica.

use std::time::Duration;

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use super::screen::Screen;
use crate::admin::json::{CommandReport, RejoinRequest};

/// A rewind may have much to read.
const REJOIN_MAX: Duration = Duration::from_secs(3_600);

/// Arguments of `primacy rejoin`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node's name.
    node: String,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let request = RejoinRequest { node: args.node.clone() };
    let report: CommandReport = client.post("/api/v1/rejoin", &request, REJOIN_MAX)?;
    Ok(Screen::stdout().line(&report.message)?)
}
