//! `primacy import`: another pooler's configuration as one of primacy's, and what has no counterpart.

use std::path::PathBuf;

use super::failure::Failure;
use super::screen::Screen;
use crate::config::import::{from_pgbouncer, from_pgpool};

/// Arguments of `primacy import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// pgbouncer.ini or pgpool.conf. The configuration goes to stdout, the report to stderr.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose it is, where the file's name does not say.
    #[arg(long, value_name = "POOLER")]
    from: Option<Pooler>,
}

/// Whose configuration is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Pooler {
    /// PgBouncer.
    Pgbouncer,
    /// Pgpool-II.
    Pgpool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let by_name = match args.file.extension().and_then(|extension| extension.to_str()) {
        Some("ini") => Pooler::Pgbouncer,
        _ => Pooler::Pgpool,
    };
    let text = std::fs::read_to_string(&args.file).map_err(|error| Failure::System {
        what: "cannot read the file to import",
        why: format!("{}: {error}", args.file.display()),
    })?;
    let imported = match args.from.unwrap_or(by_name) {
        Pooler::Pgbouncer => from_pgbouncer(&text),
        Pooler::Pgpool => from_pgpool(&text),
    };
    for note in &imported.notes {
        super::screen::complain(note);
    }
    Screen::stdout().line(imported.toml.trim_end())?;
    Ok(())
}
