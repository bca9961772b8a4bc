//! `primacy explain "SQL"`: where a statement goes, and why.

use super::client::{AdminArgs, Client, LOOK};
use super::failure::Failure;
use super::screen::{Cell, Screen, Tone};
use crate::admin::json::{ExplainReport, ExplainRequest};

/// Arguments of `primacy explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The statement.
    sql: String,
    /// The database whose functions and relations decide; where absent the only one that clients
    /// use, or the service role's.
    #[arg(long, short = 'd', value_name = "NAME")]
    database: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let request = ExplainRequest { sql: args.sql.clone(), database: args.database.clone() };
    let screen = Screen::stdout();
    if args.json {
        let report: serde_json::Value = client.post("/api/v1/explain", &request, LOOK)?;
        return Ok(screen.line(&report.to_string())?);
    }
    let report = client.post("/api/v1/explain", &request, LOOK)?;
    Ok(screen.text(&text(&report, &screen))?)
}

fn text(report: &ExplainReport, screen: &Screen) -> String {
    let node = match (&report.node, &report.role) {
        (Some(node), Some(role)) => format!("{node} ({role})"),
        (Some(node), None) => node.clone(),
        (None, _) => "none now: it would wait".to_owned(),
    };
    let detail = report.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let mut lines = vec![
        ("goes to", Cell::toned(node, Tone::Strong)),
        ("because", Cell::new(&report.route)),
        ("database", Cell::new(&report.database)),
        ("statement", Cell::new(format!("{}: {}{detail}", report.place, report.reason))),
    ];
    if let Some(hint) = &report.hint {
        lines.push(("hint", Cell::new(hint)));
    }
    if report.statements != 1 {
        lines.push(("statements", Cell::new(report.statements.to_string())));
    }
    if !report.change.is_empty() {
        lines.push(("would change", Cell::new(&report.change)));
    }
    lines.push(("optimistic", Cell::new(&report.optimistic)));
    lines.extend(report.effects.iter().map(|effect| ("effect", Cell::new(effect))));
    let rows: Vec<Vec<Cell>> =
        lines.iter().map(|(name, value)| vec![Cell::toned(*name, Tone::Dim), value.clone()]).collect();
    screen.rows(&rows)
}
