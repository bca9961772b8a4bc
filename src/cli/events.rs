//! `primacy events`: the last events, oldest first.

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use super::screen::{Cell, Screen, Tone};
use super::watch::{self, WatchArgs};
use crate::admin::json::EventReport;

/// Arguments of `primacy events`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many at most.
    #[arg(long, short = 'n', default_value_t = 30, value_name = "N")]
    last: usize,
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let screen = Screen::stdout();
    watch::run(args.watch, &screen, || {
        let events: Vec<EventReport> = client.get("/api/v1/events")?;
        let last = events.get(events.len().saturating_sub(args.last)..).unwrap_or_default();
        if args.watch.json {
            return Ok(format!("{}\n", serde_json::json!(last)));
        }
        Ok(screen.table(&["AT", "KIND", "NODE", "WHAT"], &last.iter().map(row).collect::<Vec<_>>()))
    })
}

fn row(event: &EventReport) -> Vec<Cell> {
    vec![
        Cell::toned(event.at.replace('T', " "), Tone::Dim),
        Cell::toned(&event.kind, tone(&event.kind)),
        Cell::new(event.node.as_deref().unwrap_or("-")),
        Cell::new(&event.text),
    ]
}

/// How much an event matters.
pub(super) fn tone(kind: &str) -> Tone {
    match kind {
        "alarm" | "abandoned" => Tone::Bad,
        "node-down" | "held" | "warning" | "refused" => Tone::Warn,
        "primary-changed" | "node-up" => Tone::Good,
        _ => Tone::Plain,
    }
}
