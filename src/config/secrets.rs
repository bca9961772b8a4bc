//! Passwords and tokens: given in the configuration, in a file or in an environment variable; never shown.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::check::Checker;
use super::written::WrittenSecret;
use crate::model::Secret;

/// Largest secret file that is read.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

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
}

/// Finds the secret, where one is given.
pub(super) fn read(check: &mut Checker, source: &Source<'_>) -> Option<Secret> {
    let given = [source.plain.is_some(), source.file.is_some(), source.variable.is_some()];
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
