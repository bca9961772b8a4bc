//! Runs PostgreSQL's programs: as the right account, with a clean environment, within a time limit.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Account, PostgresError};

/// How much of a program's output goes into an error.
const OUTPUT_TAIL_BYTES: usize = 2048;

/// What libpq would otherwise take from our caller's environment: a stray `PGHOST` must not redirect a base backup.
const LIBPQ_VARIABLES: [&str; 24] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGAPPNAME",
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLROOTCERT",
    "PGREQUIREPEER",
    "PGGSSENCMODE",
    "PGCHANNELBINDING",
    "PGTARGETSESSIONATTRS",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGTZ",
    "PGDATA",
];

/// The version of a set of programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// 15 in 15.18.
    pub major: u32,
    /// What `postgres --version` prints after the name, for people.
    pub text: String,
}

/// One set of PostgreSQL programs and the account that runs them.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The directory with `postgres`, `initdb`, `pg_basebackup`, `pg_rewind`.
    pub bin_dir: PathBuf,
    /// Their version.
    pub version: Version,
    /// Who runs them.
    pub account: Account,
}

impl Installation {
    /// The path of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// A command for one of its programs, ready for arguments.
    pub(super) fn command(&self, name: &str) -> Command {
        prepare(&self.account, Command::new(self.program(name)))
    }
}

/// Account, environment and working directory that every program gets.
pub(super) fn prepare(account: &Account, mut command: Command) -> Command {
    account.apply(&mut command);
    for name in LIBPQ_VARIABLES {
        command.env_remove(name);
    }
    // Messages in English, since a few of them are looked at; a directory that every account may be in.
    command.env("LC_ALL", "C").env("TZ", "UTC").current_dir("/").stdin(Stdio::null());
    command
}

/// Runs a program to its end and returns what it wrote to stdout. Dropping the future ends the program.
pub(super) async fn run(mut command: Command, limit: Duration) -> Result<String, PostgresError> {
    let program = PathBuf::from(command.as_std().get_program());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child =
        command.spawn().map_err(|source| PostgresError::Spawn { program: program.clone(), source })?;
    let output = match tokio::time::timeout(limit, child.wait_with_output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(PostgresError::Spawn { program, source }),
        Err(_elapsed) => return Err(PostgresError::ProgramTooSlow { program, limit }),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Err(PostgresError::ProgramFailed {
        program,
        status: output.status,
        output: tail(said, OUTPUT_TAIL_BYTES),
    })
}

/// The last whole lines of `text`, at most `bytes_max` bytes of it.
pub(super) fn tail(text: &[u8], bytes_max: usize) -> String {
    let cut = text.len().saturating_sub(bytes_max);
    let rest = text.get(cut..).unwrap_or_default();
    let from = if cut == 0 { 0 } else { rest.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1) };
    String::from_utf8_lossy(rest.get(from..).unwrap_or_default()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_keeps_the_last_whole_lines() {
        assert_eq!(tail(b"one\ntwo\nthree\n", 100), "one\ntwo\nthree");
        assert_eq!(tail(b"one\ntwo\nthree\n", 8), "three");
        assert_eq!(tail(b"", 8), "");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_at_its_limit() {
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        let error = run(sleep, Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, PostgresError::ProgramTooSlow { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_failure_carries_what_the_program_said() {
        let mut ls = Command::new("ls");
        ls.arg("/no/such/place").env("LC_ALL", "C");
        let error = run(ls, Duration::from_secs(10)).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/place"), "{error}");
    }
}
