//! Takes a stopped server's history back to where it is a prefix of another's (pg_rewind).
//!
//! Broken off in its middle pg_rewind leaves blocks of two histories behind, which nothing can tell from a good data
//! directory, not even pg_rewind itself when it is run again. So a mark stands while it writes, and what has the mark
//! is never started. Whatever can fail before it writes anything is done before the mark is set: the recovery of a
//! crashed server, and the comparison of the two histories.

use std::path::Path;
use std::time::Duration;

use super::command::run;
use super::instance::{Conf, with_password};
use super::process::conf_argument;
use super::{ControlData, Instance, PostgresError, Remote};

impl Instance {
    /// Makes this stopped server's history a prefix of the server's at `source` (whose role may read files).
    /// `true`: it had diverged.
    pub async fn rewind(&self, source: &Remote, sync: bool, limit: Duration) -> Result<bool, PostgresError> {
        self.recover_alone(limit).await?;
        self.run_rewind(source, (sync, true), limit).await?;
        let mark = self.rewind_mark();
        self.write_owned(mark, "")?;
        flush(mark)?;
        // What it found is said on stderr by some versions and on stdout by others; the files tell for sure:
        // a rewind leaves a backup_label behind, to recover from.
        self.run_rewind(source, (sync, false), limit).await?;
        self.forget_rewind()?;
        Ok(self.data_dir().join("backup_label").exists())
    }

    /// Whether a rewind was broken off: the data directory is neither here nor there, and must not be started.
    pub fn is_half_rewound(&self) -> bool {
        self.rewind_mark().exists()
    }

    pub(super) fn forget_rewind(&self) -> Result<(), PostgresError> {
        let mark = self.rewind_mark();
        match std::fs::remove_file(mark) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(PostgresError::File { doing: "remove", path: mark.to_path_buf(), source })
            }
            _ => Ok(()),
        }
    }

    async fn run_rewind(
        &self,
        source: &Remote,
        (sync, only_look): (bool, bool),
        limit: Duration,
    ) -> Result<(), PostgresError> {
        let mut command = self.tool("pg_rewind");
        command.arg("--target-pgdata").arg(self.data_dir()).arg("--no-ensure-shutdown");
        command.arg(format!("--source-server={}", source.conninfo));
        if only_look {
            command.arg("--dry-run");
        }
        if !sync {
            command.arg("--no-sync");
        }
        with_password(&mut command, source);
        run(command, limit).await.map(drop)
    }

    /// Recovers a crashed data directory without taking a single connection, as pg_rewind needs it and would do by itself.
    async fn recover_alone(&self, limit: Duration) -> Result<(), PostgresError> {
        if ControlData::read(self.installation(), self.data_dir()).await?.shut_down {
            return Ok(());
        }
        let standby = self.is_standby();
        // A server for one user refuses to be a standby. Should we die here it is a primary that was not started, as
        // it would be after any crash.
        self.unfollow()?;
        let mut command = self.tool("postgres");
        command.args(["--single", "-F", "-D"]).arg(self.data_dir());
        if let Conf::Theirs { config_file: Some(file), .. } = self.conf() {
            command.arg("-c").arg(conf_argument(file));
        }
        command.arg("template1");
        let recovered = run(command, limit).await;
        if standby {
            self.write_owned(&self.data_dir().join("standby.signal"), "")?;
        }
        recovered.map(drop)
    }
}

/// Makes a new file durable, its name included.
fn flush(file: &Path) -> Result<(), PostgresError> {
    let flushed = |path: &Path| std::fs::File::open(path).and_then(|file| file.sync_all());
    let dir = file.parent().unwrap_or(file);
    let done = flushed(file).and_then(|()| flushed(dir));
    done.map_err(|source| PostgresError::File { doing: "flush", path: file.to_path_buf(), source })
}
