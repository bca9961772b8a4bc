//! Makes a standby of a server, whatever it is now: stop, take its history back or copy it anew, follow, start.
//!
//! The demo and the agent do it with this same code; they differ in whose configuration the server has, and in whether it
//! may be copied anew.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::instance::Conf;
use super::{Instance, PostgresError, Remote, StopMode};
use crate::model::{Secret, Timeline};

/// What counts as configuration in a data directory (its own server's certificates and keys too).
const CONF_EXTENSIONS: [&str; 5] = ["conf", "crt", "key", "pem", "crl"];

/// How a server comes back.
#[derive(Clone, Debug)]
pub struct Comeback {
    /// Its `primary_conninfo`.
    pub follow: Secret,
    /// Its `primary_slot_name`.
    pub slot: Option<String>,
    /// How a running server is stopped.
    pub stop: StopMode,
    /// Whether its history is taken back first, and from where: the role must be able to read files.
    pub rewind: Option<Remote>,
    /// The number of a timeline that it may have made on its own, under which the other server has another history:
    /// pg_rewind compares numbers only, so it is used only if the files show that this server never began one.
    pub twin: Option<Timeline>,
    /// Where a new copy may be taken from, where a rewind is not possible. `None`: it may not.
    pub copy: Option<Remote>,
    /// The cluster that it belongs to, for a new copy; `None` where that is known otherwise.
    pub system_id: Option<u64>,
    /// Whether rewinds and copies are flushed to disk as a whole.
    pub sync: bool,
    /// How long each step may take.
    pub limits: Limits,
}

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To stop in order; afterwards it is killed.
    pub stop: Duration,
    /// To recover and accept connections.
    pub start: Duration,
    /// For pg_rewind.
    pub rewind: Duration,
    /// For a new copy.
    pub copy: Duration,
}

/// What came to be of its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fitted {
    /// There was nothing to do.
    AsItWas,
    /// It was taken back, or copied anew.
    Changed,
}

impl Instance {
    /// Makes a standby of it; `true`: it had diverged, and was taken back or copied anew.
    ///
    /// Not cancellation-safe: a rewind that is dropped is broken off. Run it where nobody drops it.
    pub async fn come_back(&self, how: &Comeback) -> Result<bool, PostgresError> {
        self.halt(how.stop, how.limits.stop).await?;
        if !self.is_half_rewound() && !self.is_half_copied() {
            self.keep_conf()?;
        }
        let fitted = self.fit(how).await?;
        // A rewind or a copy has brought the other server's configuration with it.
        self.write_conf()?;
        if fitted == Fitted::Changed {
            self.put_conf_back()?;
        }
        self.drop_slots()?;
        self.follow(&how.follow, how.slot.as_deref())?;
        self.start(how.limits.start).await?;
        Ok(fitted == Fitted::Changed)
    }

    /// Stops it, by force where it must be, with everything that works in its data directory.
    pub(super) async fn halt(&self, mode: StopMode, limit: Duration) -> Result<(), PostgresError> {
        if self.stop(mode, limit / 2).await.is_err() {
            self.kill(limit / 2).await?;
        }
        self.end_orphans().await;
        Ok(())
    }

    /// Fits its history to the primary's.
    async fn fit(&self, how: &Comeback) -> Result<Fitted, PostgresError> {
        if self.is_half_copied() {
            self.finish_copy()?;
            return Ok(Fitted::Changed);
        }
        let why = if self.is_half_rewound() {
            PostgresError::HalfRewound { name: self.name().to_owned() }
        } else if !self.data_dir().join("PG_VERSION").exists() {
            PostgresError::File {
                doing: "find a cluster in",
                path: self.data_dir().to_path_buf(),
                source: std::io::ErrorKind::NotFound.into(),
            }
        } else if let Some(timeline) = how.twin
            && let Err(why) = self.has_not_begun(timeline).await
        {
            why
        } else {
            let Some(source) = &how.rewind else { return Ok(Fitted::AsItWas) };
            match self.rewind(source, how.sync, how.limits.rewind).await {
                Ok(false) => return Ok(Fitted::AsItWas),
                Ok(true) => return Ok(Fitted::Changed),
                Err(why) => why,
            }
        };
        let Some(source) = &how.copy else { return Err(self.without_copy(why)) };
        let from = (how.slot.as_deref(), how.sync);
        self.copy_anew(source, from, how.system_id, how.limits.copy).await?;
        Ok(Fitted::Changed)
    }

    /// Whether the files of this stopped standby rule out that it began this timeline, or a later one. Nothing is written on a
    /// timeline before it has a segment, whose name begins with its number. A promotion makes that first, then takes the
    /// standby's signal away, then writes the history file (`StartupXLOG` in PostgreSQL 15).
    pub async fn has_not_begun(&self, timeline: Timeline) -> Result<(), PostgresError> {
        // Nobody is left who could begin it after the look.
        self.end_orphans().await;
        let dir = self.data_dir().join("pg_wal");
        let entries = fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.map_err(failed("read", &dir))?;
        // The name of a segment and of a history file begins with the timeline.
        let of = |entry: &fs::DirEntry| u32::from_str_radix(entry.file_name().to_str()?.get(..8)?, 16).ok();
        if self.is_standby() && entries.iter().filter_map(of).all(|number| number < timeline.0) {
            return Ok(());
        }
        Err(PostgresError::PerhapsPromoted { name: self.name().to_owned(), timeline: timeline.0 })
    }

    /// Why it does not come back, where only a new copy would help.
    fn without_copy(&self, why: PostgresError) -> PostgresError {
        if self.is_half_rewound() || !self.data_dir().join("PG_VERSION").exists() {
            PostgresError::CopyForbidden { name: self.name().to_owned(), why: why.to_string() }
        } else {
            // Perhaps the primary could not be reached: the next attempt may do.
            why
        }
    }

    /// Removes a stopped server's slots: they date from when it was the primary, and a standby never advances them, so
    /// they would keep its log for ever. They are made anew after the start.
    fn drop_slots(&self) -> Result<(), PostgresError> {
        let dir = self.data_dir().join("pg_replslot");
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(|source| PostgresError::File {
                doing: "remove",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// Copies its owner's configuration out of the data directory, where it is its owner's.
    fn keep_conf(&self) -> Result<(), PostgresError> {
        let Conf::Theirs { kept, .. } = self.conf() else { return Ok(()) };
        let found = conf_files(self.data_dir());
        if found.is_empty() {
            // Nothing here yet, or not any more: what was kept before is the better copy.
            return Ok(());
        }
        match fs::remove_dir_all(kept) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("remove", kept)(error));
            }
            _ => {}
        }
        for name in found {
            copy(&self.data_dir().join(&name), &kept.join(&name))?;
        }
        Ok(())
    }

    /// And back.
    fn put_conf_back(&self) -> Result<(), PostgresError> {
        let Conf::Theirs { kept, .. } = self.conf() else { return Ok(()) };
        for name in conf_files(kept) {
            let file = self.data_dir().join(&name);
            copy(&kept.join(&name), &file)?;
            self.installation().account.own(&file)?;
        }
        Ok(())
    }
}

/// The configuration files of a directory and of its `conf.d`, relative to it.
fn conf_files(dir: &Path) -> Vec<PathBuf> {
    let within = |below: &str| {
        let entries = fs::read_dir(dir.join(below)).into_iter().flatten().flatten();
        let below = PathBuf::from(below);
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())).filter_map(move |entry| {
            let name = below.join(entry.file_name());
            let known = name.extension().is_some_and(|end| CONF_EXTENSIONS.iter().any(|known| end == *known));
            known.then_some(name)
        })
    };
    within("").chain(within("conf.d")).collect()
}

/// Copies a file that may hold a key: nobody else may read it at any moment.
fn copy(from: &Path, to: &Path) -> Result<(), PostgresError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(dir) = to.parent().filter(|dir| !dir.exists()) {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed("protect", dir))?;
    }
    let text = fs::read(from).map_err(failed("read", from))?;
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
    opened.and_then(|mut file| file.write_all(&text)).map_err(failed("write", to))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PostgresError + use<> {
    let path = path.to_path_buf();
    move |source| PostgresError::File { doing, path, source }
}
