//! Finds PostgreSQL's server programs on this machine.
//!
//! A directory named by the user is taken as it is; otherwise PATH comes first, because whoever has the server
//! programs there means them, then the newest of what `pg_config` and the distributions' usual places offer.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::command::{prepare, run};
use super::{Account, FindError, Installation, PostgresError, Rejected, Version};

/// Oldest supported major version.
const MAJOR_MIN: u32 = 14;
/// Newest one that primacy was tried with; a newer one is taken only where there is no other.
const MAJOR_MAX: u32 = 18;

const PROGRAMS: [&str; 5] = ["postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata"];

/// Directories with one subdirectory per version, and where in it the programs are.
const USUAL: [(&str, &str, &str); 9] = [
    ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                   // PGDG on Fedora, RHEL
    ("/usr/lib", "postgresql", "bin"),           // openSUSE, Alpine, Gentoo
    ("/usr/libexec", "postgresql", ""),          // Alpine
    ("/opt/homebrew/opt", "postgresql@", "bin"), // Homebrew, Apple silicon
    ("/usr/local/opt", "postgresql@", "bin"),    // Homebrew, Intel
    ("/opt/local/lib", "postgresql", "bin"),     // MacPorts
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/usr/local", "pgsql", "bin"), // built from source
];

const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// What to look for and where.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// A directory that the user named: nothing else is tried.
    pub given: Option<PathBuf>,
    /// The value of PATH.
    pub path: Option<OsString>,
    /// Only this major version will do: a data directory of that version exists.
    pub major: Option<u32>,
}

impl Search {
    /// Searches; the account is chosen here too, because programs that it may not run are of no use.
    pub async fn run(&self) -> Result<Installation, PostgresError> {
        self.run_as(Account::choose()?).await
    }

    /// The same for servers that this account runs.
    pub async fn run_as(&self, account: Account) -> Result<Installation, PostgresError> {
        let mut rejected = Vec::new();
        if let Some(given) = &self.given {
            // `--pg-bin` may name the directory above, as pip-installed distributions suggest.
            let below = given.join("bin");
            let dir = if below.join("postgres").exists() { below } else { given.clone() };
            return match self.inspect(&dir, &account).await {
                Ok(installation) => Ok(installation),
                Err(why) => Err(self.failure(vec![(dir, why)], Vec::new()).into()),
            };
        }
        let on_path: Vec<PathBuf> = self.path.iter().flat_map(std::env::split_paths).collect();
        for dir in on_path.iter().filter(|dir| dir.join("postgres").exists()) {
            match self.inspect(dir, &account).await {
                Ok(installation) => return Ok(installation),
                Err(why) => rejected.push((dir.clone(), why)),
            }
        }
        let mut found = Vec::new();
        for dir in self.candidates(&on_path).await {
            match self.inspect(&dir, &account).await {
                Ok(installation) => found.push(installation),
                Err(why) => rejected.push((dir, why)),
            }
        }
        let newest = found.into_iter().max_by_key(|one| (one.version.major <= MAJOR_MAX, one.version.major));
        newest.ok_or_else(|| self.failure(rejected, searched()).into())
    }

    fn failure(&self, rejected: Vec<(PathBuf, Rejected)>, searched: Vec<String>) -> FindError {
        FindError { given: self.given.clone(), major: self.major, rejected, searched }
    }

    /// Directories that hold a `postgres`, from `pg_config` and the usual places.
    async fn candidates(&self, on_path: &[PathBuf]) -> Vec<PathBuf> {
        let mut dirs = Vec::new();
        if let Some(pg_config) = on_path.iter().map(|dir| dir.join("pg_config")).find(|file| file.exists()) {
            let mut command = Command::new(pg_config);
            command.arg("--bindir");
            // A pg_config that does not work is like none: the usual places are still to come.
            dirs.extend(run(command, VERSION_LIMIT).await.ok().map(|said| PathBuf::from(said.trim())));
        }
        for (parent, prefix, below) in USUAL {
            let Ok(entries) = std::fs::read_dir(parent) else { continue };
            let named = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with(prefix));
            dirs.extend(
                entries.flatten().filter(|e| named(&e.file_name())).map(|entry| entry.path().join(below)),
            );
        }
        dirs.retain(|dir| dir.join("postgres").exists());
        dirs.sort();
        dirs.dedup();
        dirs
    }

    async fn inspect(&self, dir: &Path, account: &Account) -> Result<Installation, Rejected> {
        let lacks: Vec<_> = PROGRAMS.into_iter().filter(|name| !executable(&dir.join(name))).collect();
        if !lacks.is_empty() {
            return Err(Rejected::Lacks(lacks));
        }
        let mut command = prepare(account, Command::new(dir.join("postgres")));
        command.arg("--version");
        let said = match run(command, VERSION_LIMIT).await {
            Ok(said) => said,
            Err(PostgresError::Spawn { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                return Err(Rejected::NotExecutable { user: account.name().to_owned() });
            }
            Err(error) => return Err(Rejected::Unintelligible(error.to_string())),
        };
        let version = parse_version(&said).ok_or_else(|| Rejected::Unintelligible(said.trim().to_owned()))?;
        let wanted = self.major.map_or(version.major >= MAJOR_MIN, |major| version.major == major);
        if !wanted {
            return Err(Rejected::Version(version.major));
        }
        Ok(Installation { bin_dir: dir.to_path_buf(), version, account: account.clone() })
    }
}

fn executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `postgres (PostgreSQL) 19beta1`.
fn parse_version(said: &str) -> Option<Version> {
    let text = said.trim().split_once(") ")?.1;
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    Some(Version { major: digits.parse().ok()?, text: text.to_owned() })
}

/// The places in words, for the error.
fn searched() -> Vec<String> {
    let usual = USUAL.iter().map(|(parent, prefix, below)| {
        let tail = if below.is_empty() { String::new() } else { format!("/{below}") };
        format!("{parent}/{prefix}*{tail}")
    });
    ["PATH".to_owned(), "pg_config --bindir".to_owned()].into_iter().chain(usual).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        let major = |said| parse_version(said).map(|version| version.major);
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18.1\n"), Some(18));
        assert_eq!(major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major("postgres: command not found"), None);
        assert_eq!(major(""), None);
    }

    fn fake_programs(dir: &Path, version: &str) {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let script = dir.join("script");
        std::fs::write(&script, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in PROGRAMS {
            // Copied by another process: a file that a sibling test's fork holds open for writing cannot be run.
            let copied = std::process::Command::new("cp").arg(&script).arg(dir.join(name)).status().unwrap();
            assert!(copied.success());
        }
    }

    #[tokio::test]
    async fn a_named_directory_is_the_only_one_tried() {
        let dir = tempfile::tempdir().unwrap();
        let search = Search { given: Some(dir.path().into()), ..Search::default() };
        let error = search.run().await.unwrap_err().to_string();
        assert!(error.contains("lacks postgres, initdb"), "{error}");
        assert!(error.contains("--pg-bin") && error.contains("apt-get install postgresql"), "{error}");
        fake_programs(dir.path(), "9.6.24");
        let error = search.run().await.unwrap_err().to_string();
        assert!(error.contains("is version 9"), "{error}");
        fake_programs(dir.path(), "16.4");
        assert_eq!(search.run().await.unwrap().version.major, 16);
    }

    #[tokio::test]
    async fn path_wins_and_the_version_of_a_data_directory_binds() {
        let dir = tempfile::tempdir().unwrap();
        fake_programs(dir.path(), "14.2");
        let mut search = Search { path: Some(dir.path().into()), ..Search::default() };
        assert_eq!(search.run().await.unwrap().bin_dir, dir.path());
        search.major = Some(99);
        let error = search.run().await.unwrap_err().to_string();
        assert!(error.contains("PostgreSQL 99") && error.contains("is version 14"), "{error}");
    }
}
