//! `primacy import`: another pooler's configuration as one of primacy's, and what has no counterpart.

use std::path::PathBuf;

use super::failure::Failure;
use super::screen::Screen;
use crate::config::import::{Origin, from_pgbouncer, from_pgpool};

/// Arguments of `primacy import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// pgbouncer.ini or pgpool.conf. The configuration goes to stdout, the report to stderr.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose it is, where the file does not say.
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
    let text = std::fs::read_to_string(&args.file).map_err(|error| Failure::System {
        what: "cannot read the file to import",
        why: format!("{}: {error}", args.file.display()),
    })?;
    // An `.ini` without a section is PgBouncer's still: an included piece.
    let is_ini = args.file.extension().is_some_and(|extension| extension == "ini");
    let imported = match (args.from, Origin::of(&text)) {
        (Some(Pooler::Pgbouncer), _) | (None, Origin::Pgbouncer) => from_pgbouncer(&text),
        (None, Origin::Pgpool) if is_ini => from_pgbouncer(&text),
        (Some(Pooler::Pgpool), _) | (None, Origin::Pgpool) => from_pgpool(&text),
        (None, Origin::Neither) => {
            return Err(Failure::System {
                what: "cannot tell whose configuration it is",
                why: format!(
                    "{}: no [databases] as in pgbouncer.ini, and sections, which pgpool.conf has not; say it with --from",
                    args.file.display()
                ),
            });
        }
    };
    for note in &imported.notes {
        super::screen::complain(note);
    }
    Screen::stdout().line(imported.toml.trim_end())?;
    Ok(())
}
