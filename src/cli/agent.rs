//! `primacy agent`: beside a PostgreSQL server, until it is told to stop. The server goes on then.

use std::path::PathBuf;

use super::failure::Failure;
use crate::{agent, config, observe};

/// Arguments of `primacy agent`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its configuration (config/agent.toml explains every key).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (settings, warnings) = config::load_agent(&args.config)?;
    // Nothing else writes a log in this process; where one is there already it serves as well.
    drop(observe::log::init(&observe::Settings::default()));
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    #[expect(clippy::disallowed_methods, reason = "where programs are is the environment's to say")]
    let path = std::env::var_os("PATH");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let ended = super::ended()?;
        Ok(agent::run(settings, path, ended).await?)
    })
}
