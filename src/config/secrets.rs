//! Passwords and tokens: given in the configuration, in a file, in an environment variable, as a credential of systemd or
//! by a command; never shown.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::check::Checker;
use super::written::WrittenSecret;
use crate::model::Secret;

/// Largest secret file that is read.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A command has this long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// The ways to give one secret.
#[derive(Debug)]
pub(super) struct Source<'w> {
    /// The key that holds it; `_file` and `_env` are put behind.
    pub(super) key: &'w str,
    /// In the configuration.
    pub(super) plain: Option<&'w WrittenSecret>,
    /// In a file.
    pub(super) file: Option<&'w Path>,
    /// In an environment variable.
    pub(super) variable: Option<&'w str>,
    /// In a credential that systemd hands over.
    pub(super) credential: Option<&'w str>,
    /// Printed by a command: program and arguments.
    pub(super) command: Option<&'w [String]>,
}

/// Finds the secret, where one is given.
pub(super) fn read(check: &mut Checker, source: &Source<'_>) -> Option<Secret> {
    let given = [
        source.plain.is_some(),
        source.file.is_some(),
        source.variable.is_some(),
        source.credential.is_some(),
        source.command.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        check.problem(
            source.key,
            "given in several ways",
            "one of them",
            Some("keep the file or the variable"),
        );
        return None;
    }
    if let Some(file) = source.file {
        return from_file(check, &format!("{}_file", source.key), file);
    }
    if let Some(variable) = source.variable {
        return from_environment(check, &format!("{}_env", source.key), variable);
    }
    if let Some(name) = source.credential {
        return from_credential(check, &format!("{}_credential", source.key), name);
    }
    if let Some(command) = source.command {
        return from_command(check, &format!("{}_command", source.key), command);
    }
    source.plain.map(|secret| secret.0.clone())
}

fn from_file(check: &mut Checker, key: &str, file: &Path) -> Option<Secret> {
    let text = fs::metadata(file).and_then(|about| {
        if about.permissions().mode() & 0o077 != 0 {
            let warning = format!("{key}: {} can be read by others; run: chmod 600 {0}", file.display());
            check.warnings.push(warning);
        }
        if about.len() > SECRET_BYTES_MAX {
            return Err(std::io::Error::other("larger than 64 KiB"));
        }
        fs::read_to_string(file)
    });
    match text {
        Ok(text) => {
            let line = text.lines().next().unwrap_or_default();
            if line.is_empty() {
                check.problem(
                    key,
                    format!("{} is empty", file.display()),
                    "a file with the secret in its first line",
                    None,
                );
            }
            Some(Secret::new(line))
        }
        Err(error) => {
            let found = format!("cannot read {}: {error}", file.display());
            check.problem(key, found, "a readable file with the secret in its first line", None);
            None
        }
    }
}

/// A file in the directory that systemd makes for the service alone (`LoadCredential=`).
fn from_credential(check: &mut Checker, key: &str, name: &str) -> Option<Secret> {
    #[expect(clippy::disallowed_methods, reason = "configuration is where the environment is read")]
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY");
    let plain_name = !name.is_empty() && !name.contains('/') && name != "..";
    match dir.filter(|_| plain_name) {
        Some(dir) => from_file(check, key, &Path::new(&dir).join(name)),
        None if plain_name => {
            let hint = "LoadCredential= in the unit's file hands credentials over";
            check.problem(key, "CREDENTIALS_DIRECTORY is not set", "a service of systemd", Some(hint));
            None
        }
        None => {
            check.problem(key, format!("found {name:?}"), "the name of a credential", None);
            None
        }
    }
}

/// The first line that a command prints within its time.
fn from_command(check: &mut Checker, key: &str, command: &[String]) -> Option<Secret> {
    let mut complain = |found: String| {
        check.problem(key, found, "a command that prints the secret within 10 s", None);
        None
    };
    let Some((program, arguments)) = command.split_first() else { return complain("no command".to_owned()) };
    let mut running = Command::new(program);
    running.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = match running.spawn() {
        Ok(child) => child,
        Err(error) => return complain(format!("cannot run {program}: {error}")),
    };
    let (told, hears) = mpsc::channel();
    let output = child.stdout.take();
    // Read apart, so that a command that never ends can be ended.
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(String::new());
        let read = output.map(|output| output.take(SECRET_BYTES_MAX).read_to_string(&mut text));
        drop(told.send(matches!(read, Some(Ok(_))).then_some(text)));
    });
    let text = hears.recv_timeout(COMMAND_TIMEOUT).ok().flatten();
    if text.is_none() {
        drop(child.kill());
    }
    let ended = child.wait();
    let line = text.as_ref().and_then(|text| text.lines().next()).unwrap_or_default();
    match ended {
        Ok(status) if status.success() && !line.is_empty() => Some(Secret::new(line)),
        Ok(status) if !status.success() => complain(format!("{program} ended with {status}")),
        _ => complain(format!("{program} printed nothing")),
    }
}

fn from_environment(check: &mut Checker, key: &str, variable: &str) -> Option<Secret> {
    #[expect(clippy::disallowed_methods, reason = "configuration is where the environment is read")]
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        check.problem(
            key,
            format!("the environment variable {variable} is not set"),
            "a variable that is set",
            None,
        );
    }
    value.map(Secret::new)
}
