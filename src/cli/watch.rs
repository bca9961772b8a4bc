//! `--json` and `--watch`: one look, or one every second until Ctrl-C.

use std::time::Duration;

use super::failure::Failure;
use super::screen::Screen;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// How a command that looks shows what it sees.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// As JSON; with --watch one value per line.
    #[arg(long)]
    pub(super) json: bool,
    /// Again every second, until Ctrl-C.
    #[arg(long)]
    pub(super) watch: bool,
}

/// Shows what `look` sees.
pub(super) fn run(
    args: WatchArgs,
    screen: &Screen,
    mut look: impl FnMut() -> Result<String, Failure>,
) -> Result<(), Failure> {
    if !args.watch {
        return Ok(screen.text(&look()?)?);
    }
    loop {
        let text = match look() {
            // The proxy may be restarting: whoever watches wants to see it come back.
            Err(failure @ Failure::NoAnswer { .. }) => format!("{failure}\n"),
            other => other?,
        };
        let clear = if screen.is_terminal() && !args.json { "\u{1b}[H\u{1b}[J" } else { "" };
        screen.text(&format!("{clear}{text}"))?;
        #[expect(clippy::disallowed_methods, reason = "a person watches at this pace")]
        std::thread::sleep(EVERY);
    }
}
