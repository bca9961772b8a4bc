//! The demo's directory: one that was given and stays, or a temporary one that goes away with the demo.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{Flock, FlockArg};

use super::DemoError;
use crate::postgres::{Account, Watchdog};

/// Where the demo lives.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    /// Whether what is being built there was begun by this run, and has not been finished.
    unfinished: AtomicBool,
    /// On a directory that was given: a second demo would stop the first one's servers.
    _lock: Option<Flock<File>>,
    /// Over a temporary directory: it ends the servers and removes it, even if we are killed.
    watchdog: Option<Watchdog>,
}

impl Place {
    pub(super) fn choose(given: Option<&Path>, account: &Account) -> Result<Self, DemoError> {
        let unfinished = AtomicBool::new(false);
        if let Some(given) = given {
            let file = |source| DemoError::File { doing: "use", path: given.to_path_buf(), source };
            // Servers and configuration name it, and they work elsewhere.
            let dir = std::path::absolute(given).map_err(file)?;
            // Said before anything is made there.
            account.can_enter(&dir)?;
            account.create_dir(&dir)?;
            let lock = lock(&dir)?;
            return Ok(Self { dir, unfinished, _lock: Some(lock), watchdog: None });
        }
        let dir = account.temporary_dir("primacy-demo-")?;
        let watchdog = Watchdog::over(&dir)?;
        Ok(Self { dir, unfinished, _lock: None, watchdog: Some(watchdog) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.watchdog.is_some()
    }

    pub(super) fn mark_unfinished(&self) {
        self.unfinished.store(true, Ordering::Relaxed);
    }

    pub(super) fn mark_finished(&self) {
        self.unfinished.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed)
    }
}

fn lock(dir: &Path) -> Result<Flock<File>, DemoError> {
    let path = dir.join("demo.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| DemoError::File { doing: "open", path, source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_file, _errno)| DemoError::DirInUse { dir: dir.to_path_buf() })
}
