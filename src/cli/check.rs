//! `primacy check`: is the configuration valid, can every node be reached, what would not work?
//!
//! Asks every node for facts (`facts`), judges them together (`judge`, pure), prints what it found. Changes nothing.

mod facts;
mod judge;

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::failure::Failure;
use super::screen::{Cell, Screen, Tone};
use crate::config::{self, Settings};
use facts::NodeAnswer;

/// Arguments of `primacy check`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["config", "node"])))]
pub(super) struct Args {
    /// The configuration (config/primacy.toml explains every key).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A PostgreSQL server, instead of a configuration; once per server.
    #[arg(long, value_name = "URL")]
    node: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Works, but not all of it or not for long.
    Warning,
    /// Would not work.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    /// The node, or the part of the configuration.
    subject: String,
    /// What was found.
    text: String,
    /// What to do about it.
    hint: Option<String>,
    /// Statements that mend it, to be run on the primary as a superuser.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sql: Vec<String>,
}

impl Finding {
    fn ok(subject: &str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.to_owned(), text: text.into(), hint: None, sql: Vec::new() }
    }

    fn warning(subject: &str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            subject: subject.to_owned(),
            text: text.into(),
            hint: Some(hint.into()),
            sql: Vec::new(),
        }
    }

    fn error(subject: &str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Error, ..Self::warning(subject, text, hint) }
    }

    fn mended_by(self, sql: Vec<String>) -> Self {
        Self { sql, ..self }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let settings = match &args.config {
        Some(file) => config::load(file)?,
        None => config::from_nodes(&args.node)?,
    };
    let mut findings = machine(&settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::System { what: "cannot start", why: error.to_string() })?;
    let answers: Vec<NodeAnswer> = runtime.block_on(facts::ask_all(&settings));
    findings.extend(judge::judge(&settings, &answers));
    show(&findings, args.json)?;
    match findings.iter().filter(|finding| finding.level == Level::Error).count() {
        0 => Ok(()),
        errors => Err(Failure::Checks { errors }),
    }
}

fn show(findings: &[Finding], json: bool) -> io::Result<()> {
    let screen = Screen::stdout();
    if json {
        return screen.line(&serde_json::json!({ "findings": findings }).to_string());
    }
    let rows: Vec<Vec<Cell>> = findings
        .iter()
        .map(|finding| {
            let level = match finding.level {
                Level::Ok => Cell::toned("ok", Tone::Good),
                Level::Warning => Cell::toned("warning", Tone::Warn),
                Level::Error => Cell::toned("error", Tone::Bad),
            };
            let hint = finding.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            vec![level, Cell::new(&finding.subject), Cell::new(format!("{}{hint}", finding.text))]
        })
        .collect();
    screen.text(&screen.rows(&rows))?;
    let sql: Vec<&str> = findings.iter().flat_map(|finding| &finding.sql).map(String::as_str).collect();
    if sql.is_empty() {
        return Ok(());
    }
    screen.text(&format!("\nRun this on the primary, as a superuser:\n\n{}\n", sql.join("\n")))
}

/// What can be said without asking a node.
fn machine(settings: &Settings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = settings
        .warnings
        .iter()
        .map(|text| Finding { hint: None, ..Finding::warning("config", text, "") })
        .collect();
    let addresses = settings.proxy.listen.iter().map(|address| ("listen", *address));
    for (key, address) in addresses.chain(settings.admin.listen.map(|address| ("admin.listen", address))) {
        findings.push(match std::net::TcpListener::bind(address) {
            Ok(_listener) => Finding::ok(key, format!("{address} is free")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::warning(
                key,
                format!("{address} is taken"),
                "fine if that is primacy itself, running",
            ),
            Err(error) => Finding::error(
                key,
                format!("{address}: {error}"),
                "give an address of this machine and a free port",
            ),
        });
    }
    if let Some(dir) = &settings.control.state_dir {
        findings.push(state_dir(dir));
    }
    findings
}

fn state_dir(dir: &Path) -> Finding {
    let existing = dir.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("."));
    match tempfile::tempfile_in(existing) {
        Ok(_file) => Finding::ok("state_dir", format!("{} can be written", dir.display())),
        Err(error) => Finding::error(
            "state_dir",
            format!("{} cannot be written: {error}", dir.display()),
            "create it for the user that runs primacy, or set state_dir",
        ),
    }
}
