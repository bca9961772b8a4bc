//! The configuration of `primacy agent`: a file of its own, beside one server (`config/agent.toml`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::check::Checker;
use super::problem::ConfigProblems;
use super::secrets::{self, Source};
use super::units::WrittenDuration;
use super::written::WrittenSecret;
use super::{document, read_text, unreadable};
use crate::agent::{Role, Settings, Tls};
use crate::postgres::Limits;

/// The file as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    node: Option<String>,
    listen: Option<String>,
    data_dir: Option<PathBuf>,
    config_file: Option<PathBuf>,
    pg_bin: Option<PathBuf>,
    log_file: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    token: Option<WrittenSecret>,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    reclone: Option<bool>,
    fence_after: Option<WrittenDuration>,
    tls: WrittenTls,
    source: WrittenSource,
    limits: WrittenLimits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the names of the keys, as everywhere in configurations")]
struct WrittenTls {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenSource {
    user: Option<String>,
    password: Option<WrittenSecret>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    database: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenLimits {
    stop: Option<WrittenDuration>,
    start: Option<WrittenDuration>,
    rewind: Option<WrittenDuration>,
    reclone: Option<WrittenDuration>,
}

/// Reads an agent's file. With the settings come what is allowed and still unwise.
pub fn load_agent(file: &Path) -> Result<(Settings, Vec<String>), ConfigProblems> {
    let text = read_text(file).map_err(|error| unreadable(file, &error))?;
    parse_agent(&text, file)
}

fn parse_agent(text: &str, file: &Path) -> Result<(Settings, Vec<String>), ConfigProblems> {
    let (document, places, problems) = document::read(text);
    if document::is_unread(&problems) {
        return Err(ConfigProblems { file: Some(file.to_owned()), problems });
    }
    let mut check = Checker::new(places, problems);
    let base = file.parent().unwrap_or(Path::new(""));
    let settings = resolve(&document, base, &mut check);
    let (problems, warnings) = check.finish();
    if problems.is_empty() {
        Ok((settings, warnings))
    } else {
        Err(ConfigProblems { file: Some(file.to_owned()), problems })
    }
}

fn resolve(document: &Document, base: &Path, check: &mut Checker) -> Settings {
    let data_dir = required("data_dir", document.data_dir.as_deref(), base, check);
    let state_dir = required("state_dir", document.state_dir.as_deref(), base, check);
    if state_dir.starts_with(&data_dir) && !data_dir.as_os_str().is_empty() {
        let hint = "a rewind or a new copy would remove it";
        check.problem("state_dir", "a directory within data_dir", "a directory elsewhere", Some(hint));
    }
    let node = document.node.clone().unwrap_or_default();
    if node.is_empty() {
        check.problem("node", "missing", "the node's name, as in primacy's configuration", None);
    }
    let path = |file: &Option<PathBuf>| file.as_deref().map(|file| base.join(file));
    let token_file = path(&document.token_file);
    let source = Source {
        key: "token",
        plain: document.token.as_ref(),
        file: token_file.as_deref(),
        variable: document.token_env.as_deref(),
        credential: None,
        command: None,
    };
    let token = secrets::read(check, &source);
    let tls = tls(&document.tls, base, check);
    let listen = listen(document.listen.as_deref(), tls.is_some(), check);
    if token.is_none() && tls.as_ref().is_none_or(|tls| tls.ca_file.is_none()) {
        let hint = "openssl rand -hex 32 > FILE; chmod 600 FILE; then token_file = \"FILE\"";
        check.problem("token", "missing", "a token, or tls.ca_file for clients' certificates", Some(hint));
    }
    let fence = (Duration::from_secs(2), Duration::from_secs(86_400));
    Settings {
        node: node.into(),
        listen,
        config_file: path(&document.config_file),
        pg_bin: path(&document.pg_bin),
        log_file: path(&document.log_file).unwrap_or_else(|| state_dir.join("postgresql.log")),
        data_dir,
        state_dir,
        token,
        tls,
        reclone: document.reclone.unwrap_or(false),
        source: role(&document.source, base, check),
        source_database: document.source.database.as_deref().unwrap_or("postgres").into(),
        limits: limits(&document.limits, check),
        fence_after: document
            .fence_after
            .filter(|written| !written.0.is_zero())
            .map(|written| check.duration("fence_after", Some(written), fence.0, fence.0..=fence.1)),
    }
}

fn required(key: &str, written: Option<&Path>, base: &Path, check: &mut Checker) -> PathBuf {
    if written.is_none() {
        check.problem(key, "missing", "a directory", None);
    }
    written.map(|path| base.join(path)).unwrap_or_default()
}

fn listen(written: Option<&str>, secure: bool, check: &mut Checker) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], 6434));
    let Some(written) = written else { return default };
    let Ok(address) = written.parse::<SocketAddr>() else {
        let allowed = "an IP address of this machine and a port, like \"10.0.0.1:6434\"";
        check.problem("listen", format!("found {written:?}"), allowed, None);
        return default;
    };
    if !secure && !address.ip().is_loopback() {
        let hint = "requests carry the token and passwords: give [tls] a certificate";
        check.problem("listen", "an address for other machines without TLS", "127.0.0.1", Some(hint));
    }
    address
}

fn tls(written: &WrittenTls, base: &Path, check: &mut Checker) -> Option<Tls> {
    let path = |file: &Option<PathBuf>| file.as_deref().map(|file| base.join(file));
    let ca_file = path(&written.ca_file);
    match (path(&written.cert_file), path(&written.key_file)) {
        (Some(cert_file), Some(key_file)) => {
            let files = [("tls.cert_file", Some(&cert_file)), ("tls.key_file", Some(&key_file))];
            for (key, file) in files.into_iter().chain([("tls.ca_file", ca_file.as_ref())]) {
                if let Some(file) = file {
                    check.readable(key, file);
                }
            }
            Some(Tls { cert_file, key_file, ca_file })
        }
        (None, None) if ca_file.is_none() => None,
        _ => {
            check.problem("tls.cert_file", "incomplete", "cert_file and key_file", None);
            None
        }
    }
}

fn role(written: &WrittenSource, base: &Path, check: &mut Checker) -> Option<Role> {
    let file = written.password_file.as_deref().map(|file| base.join(file));
    let source = Source {
        key: "source.password",
        plain: written.password.as_ref(),
        file: file.as_deref(),
        variable: written.password_env.as_deref(),
        credential: None,
        command: None,
    };
    let password = secrets::read(check, &source);
    match (&written.user, password) {
        (Some(user), password) => {
            Some(Role { user: user.as_str().into(), password: password.unwrap_or_default() })
        }
        (None, None) => None,
        (None, Some(_)) => {
            check.problem("source.user", "a password without a role", "a role's name", None);
            None
        }
    }
}

fn limits(written: &WrittenLimits, check: &mut Checker) -> Limits {
    let day = Duration::from_secs(86_400);
    let mut limit = |key: &str, written, default_s| {
        check.duration(key, written, Duration::from_secs(default_s), Duration::from_secs(1)..=day)
    };
    Limits {
        stop: limit("limits.stop", written.stop, 60),
        start: limit("limits.start", written.start, 600),
        rewind: limit("limits.rewind", written.rewind, 3_600),
        copy: limit("limits.reclone", written.reclone, 43_200),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        let parsed = parse_agent(text, Path::new("agent.toml"));
        parsed.map(|(settings, _)| settings).map_err(|problems| problems.to_string())
    }

    const LEAST: &str = "node = 'n1'\ndata_dir = '/d'\nstate_dir = '/s'\ntoken = 't'\n";

    #[test]
    fn the_least_is_enough_and_allows_little() {
        let settings = parse(LEAST).unwrap();
        assert!(settings.listen.ip().is_loopback() && !settings.reclone && settings.fence_after.is_none());
        assert_eq!(settings.log_file, Path::new("/s/postgresql.log"));
    }

    #[test]
    fn what_would_be_unsafe_is_refused_by_name() {
        for (more, word) in [
            ("listen = '10.0.0.1:6434'", "without TLS"),
            ("state_dir = '/d/s'", "within data_dir"),
            ("token = ''\n[tls]\nca_file = 'x'", "tls.cert_file"),
            ("[source]\npassword = 'p'", "source.user"),
            ("fence_after = '1ms'", "fence_after"),
            ("reclon = true", "did you mean `reclone`?"),
        ] {
            let key = more.split(' ').next().unwrap();
            let least: String =
                LEAST.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
            let problem = parse(&format!("{least}\n{more}\n")).unwrap_err();
            assert!(problem.contains(word), "{more}: {problem}");
        }
        let problems = parse("").unwrap_err();
        for key in ["node", "data_dir", "state_dir", "token"] {
            assert!(problems.contains(key), "{problems}");
        }
    }

    #[test]
    fn the_reference_is_valid_and_complete() {
        let text = include_str!("../../config/agent.toml");
        let settings = parse(text).unwrap();
        assert_eq!(&*settings.node, "n1");
        let unknown = toml::from_str::<Document>("no_such_key = 1").unwrap_err();
        let keys = unknown.message().split('`').skip(1).step_by(2).filter(|key| *key != "no_such_key");
        for key in keys {
            let named = text.contains(&format!("{key} = ")) || text.contains(&format!("[{key}]"));
            assert!(named, "{key} is missing in config/agent.toml");
        }
    }
}
