//! `primacy history`: every change of primary, with the time that each step took.

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use super::screen::{Cell, Screen, Tone};
use super::watch::{self, WatchArgs};
use crate::admin::json::ChangeReport;
use crate::admin::report::took_ms;

/// Arguments of `primacy history`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let screen = Screen::stdout();
    watch::run(args.watch, &screen, || {
        if args.watch.json {
            let changes: serde_json::Value = client.get("/api/v1/history")?;
            return Ok(format!("{changes}\n"));
        }
        Ok(text(&client.get::<Vec<ChangeReport>>("/api/v1/history")?, &screen))
    })
}

fn text(changes: &[ChangeReport], screen: &Screen) -> String {
    if changes.is_empty() {
        return "no change of primary since the journal began\n".to_owned();
    }
    let header = ["WHEN", "EPOCH", "CAUSE", "RULE", "FROM", "TO", "TIMELINE", "TOOK", "STEPS (ms)"];
    screen.table(&header, &changes.iter().map(row).collect::<Vec<_>>())
}

fn row(change: &ChangeReport) -> Vec<Cell> {
    let to = change.to.as_ref().map_or_else(|| Cell::toned("given up", Tone::Bad), Cell::new);
    vec![
        Cell::new(change.at.replace('T', " ")),
        Cell::number(change.epoch.to_string()),
        Cell::new(&change.cause),
        Cell::new(&change.rule),
        Cell::new(change.from.as_deref().unwrap_or("-")),
        to,
        Cell::number(change.timeline.to_string()),
        Cell::number(format!("{:.0} ms", took_ms(change))),
        Cell::new(story(change)),
    ]
}

fn story(change: &ChangeReport) -> String {
    let steps = change.steps.iter().map(|step| format!("{} {:.0}", step.step, step.after_ms));
    let mut parts = vec![steps.collect::<Vec<_>>().join(", ")];
    if let Some(lost) = &change.lost {
        parts.push(format!("lost WAL from {} to {} of timeline {}", lost.after, lost.seen, lost.timeline));
    }
    if !change.abandoned.is_empty() {
        parts.push(format!("given up: {}", change.abandoned));
    }
    parts.join("; ")
}
