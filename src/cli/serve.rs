//! `primacy serve`: the proxy, until it is told to stop.

use std::path::PathBuf;

use super::failure::Failure;
use crate::app;
use crate::config::{self, Overrides};

/// Arguments of `primacy serve`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["config", "node"])))]
pub(super) struct Args {
    /// The configuration (config/primacy.toml explains every key).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A PostgreSQL server, instead of a configuration; once per server. The first URL names primacy's own role.
    #[arg(long, value_name = "URL")]
    node: Vec<String>,
    /// With --node: where applications connect, instead of 127.0.0.1:6432.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    listen: Vec<String>,
    /// With --node: the HTTP address, instead of 127.0.0.1:6433; "off" for none.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    admin: Option<String>,
    /// With --node: where the journal of changes of primary lives.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state_dir: Option<PathBuf>,
    /// Take the place of the primacy that runs with the same state_dir, if there is one: its listening sockets, then the
    /// right to decide. It serves its clients until they leave. (SIGUSR2 to the running one does the same.)
    #[arg(long)]
    takeover: bool,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let Args { config, node, listen, admin, state_dir, takeover } = args;
    let settings = match config {
        Some(file) => config::load(&file)?,
        None => config::from_nodes_with(&node, &Overrides { listen, admin, state_dir })?,
    };
    Ok(app::serve(settings, takeover)?)
}
