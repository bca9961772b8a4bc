//! `primacy top`: one terminal screen of nodes, pools, routes, statements and events, live.
//!
//! The keyboard and the proxy are asked in turn on one thread; what is drawn is a pure function of what was last heard.

mod draw;
mod heard;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use crate::clock;
use heard::Heard;

/// Between two looks at the proxy.
const EVERY: Duration = Duration::from_secs(1);

/// Arguments of `primacy top`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
}

/// What the person at the keyboard wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wish {
    /// Statements by their time, not by how often they run.
    slowest_first: bool,
    /// Reads that stayed on the primary, not all statements.
    reads: bool,
    /// Nothing moves.
    frozen: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::NoTerminal);
    }
    // Asked once before the screen is taken: what is wrong with the address stays readable.
    let mut heard = Heard::default();
    heard.listen(&client)?;
    // Puts the terminal back in a panic too.
    let mut terminal = ratatui::try_init()?;
    let outcome = watch(&client, &mut heard, &mut terminal);
    ratatui::try_restore()?;
    outcome
}

fn watch(client: &Client, heard: &mut Heard, terminal: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
    let mut wish = Wish::default();
    let mut asked = clock::now();
    loop {
        terminal.draw(|frame| draw::draw(frame, heard, wish))?;
        let left = EVERY.saturating_sub(clock::now().duration_since(asked));
        if event::poll(left)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => match pressed(key, wish) {
                    Some(next) => wish = next,
                    None => return Ok(()),
                },
                _ => {}
            }
            continue;
        }
        asked = clock::now();
        if !wish.frozen {
            match heard.listen(client) {
                Ok(()) => heard.silence = None,
                // The proxy may be restarting: whoever watches wants to see it come back.
                Err(failure) => heard.silence = Some(failure.to_string()),
            }
        }
    }
}

/// What a key does; `None`: it ends.
fn pressed(key: KeyEvent, wish: Wish) -> Option<Wish> {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => None,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => None,
        KeyCode::Char('s') => Some(Wish { slowest_first: !wish.slowest_first, ..wish }),
        KeyCode::Char('r') => Some(Wish { reads: !wish.reads, ..wish }),
        KeyCode::Char(' ') => Some(Wish { frozen: !wish.frozen, ..wish }),
        _ => Some(wish),
    }
}

#[cfg(test)]
mod tests;
