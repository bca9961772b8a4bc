//! Configuration: TOML as written -> every room's settings as meant, or all its problems at once.
//!
//! In: a file, or the nodes' URLs from the command line. Out: [`Settings`], which cannot be invalid. Secrets come from
//! the file, from files of their own or from the environment, and are never shown. A reload is the pure difference of
//! two resolved settings ([`diff`]).

mod agent;
mod check;
mod describe;
mod diff;
mod document;
pub mod import;
mod places;
mod problem;
mod resolve;
mod secrets;
mod set;
pub mod units;
pub mod url;
mod written;

use std::path::{Path, PathBuf};

pub use agent::load_agent;
pub use describe::{Item, describe};
pub use diff::{Change, Reload, diff};
pub use places::effective;
pub use problem::{ConfigProblems, Position, Problem};
pub use set::{defaults, load_with};

use crate::{admin, console, control, observe, proxy, route, sql};

/// Largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Everything that was configured, complete and valid.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it came from: what a reload reads again.
    pub origin: Origin,
    /// The data path.
    pub proxy: proxy::Settings,
    /// Routing.
    pub route: route::Settings,
    /// The classifier.
    pub sql: sql::Settings,
    /// The control plane, with the decision core's settings in `failover`.
    pub control: control::Settings,
    /// The HTTP address.
    pub admin: admin::Settings,
    /// The console.
    pub console: console::Settings,
    /// The log.
    pub observe: observe::Settings,
    /// What is allowed and still unwise; for the log at start.
    pub warnings: Vec<String>,
}

/// Where settings came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// `--node URL` on the command line: there is nothing to read again.
    CommandLine,
}

/// What the command line says besides the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// The HTTP address.
    pub admin: Option<String>,
    /// Directory of the journal.
    pub state_dir: Option<PathBuf>,
}

/// Reads a file.
pub fn load(file: &Path) -> Result<Settings, ConfigProblems> {
    let text = read_text(file).map_err(|error| {
        let hint =
            "give the right path with --config, or start without a file: --node URL --node URL".to_owned();
        let mut unreadable = unreadable(file, &error);
        unreadable.problems.iter_mut().for_each(|problem| problem.hint = Some(hint.clone()));
        unreadable
    })?;
    parse(&text, file)
}

fn unreadable(file: &Path, error: &std::io::Error) -> ConfigProblems {
    let problem = Problem {
        key: String::new(),
        position: None,
        found: format!("cannot be read: {error}"),
        allowed: String::new(),
        hint: Some("give the right path with --config".to_owned()),
    };
    ConfigProblems { file: Some(file.to_owned()), problems: vec![problem] }
}

/// Resolves the text of a file; relative paths in it count from the file's directory.
pub fn parse(text: &str, file: &Path) -> Result<Settings, ConfigProblems> {
    let (document, places, problems) = document::read(text);
    if document::is_unread(&problems) {
        return Err(ConfigProblems { file: Some(file.to_owned()), problems });
    }
    let mut check = check::Checker::new(places, problems);
    let base = file.parent().unwrap_or(Path::new(""));
    let settings = resolve::settings(&document, base, &mut check);
    finish(settings, check, Origin::File(file.to_owned()))
}

/// Settings without a file: the nodes' URLs, everything else at its default. primacy's own role, its password and
/// database are the first URL's.
pub fn from_nodes(urls: &[String]) -> Result<Settings, ConfigProblems> {
    from_nodes_with(urls, &Overrides::default())
}

/// The same, with what else the command line says.
pub fn from_nodes_with(urls: &[String], overrides: &Overrides) -> Result<Settings, ConfigProblems> {
    let mut document = written::Document {
        nodes: urls.iter().map(|url| written::Node::from_url(url)).collect(),
        state_dir: overrides.state_dir.clone(),
        ..written::Document::default()
    };
    if !overrides.listen.is_empty() {
        document.listen = Some(written::OneOrMany::Many(overrides.listen.clone()));
    }
    document.admin.listen.clone_from(&overrides.admin);
    let mut check = check::Checker::default();
    let settings = resolve::settings(&document, Path::new(""), &mut check);
    finish(settings, check, Origin::CommandLine)
}

fn finish(settings: Settings, check: check::Checker, origin: Origin) -> Result<Settings, ConfigProblems> {
    let (problems, warnings) = check.finish();
    if problems.is_empty() {
        return Ok(Settings { origin, warnings, ..settings });
    }
    let file = match origin {
        Origin::File(file) => Some(file),
        Origin::CommandLine => None,
    };
    Err(ConfigProblems { file, problems })
}

fn read_text(file: &Path) -> std::io::Result<String> {
    if std::fs::metadata(file)?.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other("larger than 4 MiB"));
    }
    std::fs::read_to_string(file)
}

#[cfg(test)]
mod tests;
