//! `primacy routes`: where statements go and why, and which reads stayed on the primary.

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use super::screen::{Cell, Screen, Tone};
use super::watch::{self, WatchArgs};
use crate::admin::json::{ReadReport, RoutesReport, StatementReport};

/// Longest text of a statement in a table, in characters.
const STATEMENT_LEN: usize = 90;

/// Arguments of `primacy routes`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Entries of each list at most.
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
    top: usize,
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let screen = Screen::stdout();
    let path = format!("/api/v1/routes?top={}", args.top);
    watch::run(args.watch, &screen, || {
        if args.watch.json {
            let report: serde_json::Value = client.get(&path)?;
            return Ok(format!("{report}\n"));
        }
        Ok(text(&client.get(&path)?, &screen))
    })
}

fn text(report: &RoutesReport, screen: &Screen) -> String {
    let mut text = share(report);
    if report.statements.is_empty() {
        return text;
    }
    let header = ["COUNT", "PRIMARY", "REPLICAS", "MEAN", "SLOWEST", "WHY", "STATEMENT"];
    text.push('\n');
    text.push_str(&screen.table(&header, &report.statements.iter().map(statement).collect::<Vec<_>>()));
    if report.reads.is_empty() {
        return text;
    }
    text.push_str("\nReads that stayed on the primary:\n");
    let header = ["COUNT", "WHY", "STATEMENT", "WHAT WOULD CHANGE IT"];
    text.push_str(&screen.table(&header, &report.reads.iter().map(read).collect::<Vec<_>>()));
    text
}

/// The sentence that answers the question.
fn share(report: &RoutesReport) -> String {
    let all = report.reads_on_replicas + report.reads_on_primary;
    let percent = |part: u64| (part * 100).checked_div(all).unwrap_or(0);
    let observed = report.would_go_to_replica;
    if all == 0 {
        return "no reads yet\n".to_owned();
    }
    if observed > 0 {
        return format!(
            "{all} reads, all on the primary; with routing.mode = \"split\" {observed} of them ({} %) would go to replicas\n",
            percent(observed)
        );
    }
    format!(
        "{all} reads: {} % on replicas, {} on the primary; {} different statements\n",
        percent(report.reads_on_replicas),
        report.reads_on_primary,
        report.fingerprints
    )
}

fn statement(one: &StatementReport) -> Vec<Cell> {
    let why = match (one.why_replica.as_str(), one.why_primary.as_str()) {
        ("", primary) => primary.to_owned(),
        (replica, "") => replica.to_owned(),
        (replica, primary) if replica == primary => replica.to_owned(),
        (replica, primary) => format!("{replica}; {primary}"),
    };
    vec![
        Cell::number(one.count.to_string()),
        Cell::number(one.primary.to_string()),
        Cell::number(one.replicas.to_string()),
        Cell::number(format!("{:.2} ms", one.mean_ms)),
        Cell::number(format!("{:.1} ms", one.slowest_ms)),
        Cell::toned(why, if one.primary > one.replicas { Tone::Plain } else { Tone::Good }),
        Cell::new(cut(&one.statement)),
    ]
}

fn read(one: &ReadReport) -> Vec<Cell> {
    let why =
        one.detail.as_ref().map_or_else(|| one.reason.clone(), |what| format!("{}: {what}", one.reason));
    vec![
        Cell::number(one.count.to_string()),
        Cell::toned(cut(&why), Tone::Warn),
        Cell::new(cut(&one.statement)),
        Cell::toned(&one.change, Tone::Dim),
    ]
}

/// A text that fits.
pub(super) fn cut(text: &str) -> String {
    if text.chars().count() <= STATEMENT_LEN {
        return text.to_owned();
    }
    text.chars().take(STATEMENT_LEN - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_answers_the_question() {
        let report = RoutesReport {
            reads_on_replicas: 75,
            reads_on_primary: 25,
            fingerprints: 9,
            ..RoutesReport::default()
        };
        assert_eq!(
            share(&report),
            "100 reads: 75 % on replicas, 25 on the primary; 9 different statements\n"
        );
        let observed =
            RoutesReport { reads_on_primary: 10, would_go_to_replica: 8, ..RoutesReport::default() };
        assert!(share(&observed).contains("8 of them (80 %)"), "{}", share(&observed));
        assert_eq!(share(&RoutesReport::default()), "no reads yet\n");
    }

    #[test]
    fn long_statements_are_cut() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"é".repeat(500));
        assert!(long.chars().count() == STATEMENT_LEN && long.ends_with('…'));
    }
}
