//! Replaces a data directory by a new copy of the primary.
//!
//! The copy is made beside the old data, in a subdirectory, and looked at before anything of the old is touched; then
//! names are exchanged, which the system does at once, and only then the old data goes. So whatever fails, and whenever we
//! die, there is one whole copy. The subdirectory's name says how far it came:
//!
//! ```text
//! primacy.new     the copy is being made; of no use when we die here
//! primacy.ready   it is whole; the old data is being moved to primacy.old
//! primacy.moving  the old data is away; the copy is being moved up
//! primacy.old     what is left of the old data, removed in the end
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ControlData, Instance, PostgresError, Remote};

const NEW: &str = "primacy.new";
const READY: &str = "primacy.ready";
const MOVING: &str = "primacy.moving";
const OLD: &str = "primacy.old";

impl Instance {
    /// Refuses what must not be started: data of two histories, or of two copies.
    pub(super) fn check_whole(&self) -> Result<(), PostgresError> {
        let name = || self.name().to_owned();
        if self.is_half_rewound() {
            Err(PostgresError::HalfRewound { name: name() })
        } else if self.is_half_copied() {
            Err(PostgresError::HalfCopied { name: name() })
        } else {
            Ok(())
        }
    }

    /// Whether a new copy is only partly in place.
    pub fn is_half_copied(&self) -> bool {
        [READY, MOVING].iter().any(|dir| self.data_dir().join(dir).exists())
    }

    /// Replaces the data of this stopped server by a new copy of `source`, which must be of the cluster `system_id`.
    /// `slot` keeps what the copy will need next. Needs room for both.
    pub(super) async fn copy_anew(
        &self,
        source: &Remote,
        (slot, sync): (Option<&str>, bool),
        system_id: Option<u64>,
        limit: Duration,
    ) -> Result<(), PostgresError> {
        self.check_inside()?;
        let new = self.data_dir().join(NEW);
        for left in [&new, &self.data_dir().join(OLD)] {
            remove_dir(left)?;
        }
        self.installation().account.create_dir(&new)?;
        self.base_backup_to(&new, source, (slot, sync), limit).await?;
        let copied = ControlData::read(self.installation(), &new).await?.system_id;
        if let Some(ours) = system_id.filter(|ours| *ours != copied) {
            remove_dir(&new)?;
            return Err(PostgresError::OtherCluster { name: self.name().to_owned(), copied, ours });
        }
        rename(&new, &self.data_dir().join(READY))?;
        self.finish_copy()
    }

    /// Puts a copy that is whole into its place, from wherever that was broken off.
    pub(super) fn finish_copy(&self) -> Result<(), PostgresError> {
        let here = self.data_dir();
        let (ready, moving, old) = (here.join(READY), here.join(MOVING), here.join(OLD));
        if ready.exists() {
            self.installation().account.create_dir(&old)?;
            move_all(here, &old)?;
            rename(&ready, &moving)?;
        }
        if moving.exists() {
            move_all(&moving, here)?;
            std::fs::remove_dir(&moving).map_err(file("remove", &moving))?;
        }
        remove_dir(&old)?;
        // Whatever the old data was, it is gone.
        self.forget_rewind()
    }

    /// A link out of the data directory leads to something that nobody gave us.
    fn check_inside(&self) -> Result<(), PostgresError> {
        let outside = |what| PostgresError::Outside { name: self.name().to_owned(), what };
        let wal = self.data_dir().join("pg_wal");
        if std::fs::symlink_metadata(&wal).is_ok_and(|meta| meta.file_type().is_symlink()) {
            return Err(outside("its WAL (pg_wal is a link)"));
        }
        let spaces = std::fs::read_dir(self.data_dir().join("pg_tblspc"));
        if spaces.is_ok_and(|mut spaces| spaces.next().is_some()) {
            return Err(outside("a tablespace"));
        }
        Ok(())
    }
}

/// Moves everything in `from` to `to` but our own subdirectories; what is there already was moved before.
fn move_all(from: &Path, to: &Path) -> Result<(), PostgresError> {
    let entries = std::fs::read_dir(from).map_err(file("read", from))?;
    for entry in entries {
        let entry = entry.map_err(file("read", from))?;
        let name = entry.file_name();
        if [NEW, READY, MOVING, OLD].iter().any(|ours| name == *ours) {
            continue;
        }
        rename(&entry.path(), &to.join(&name))?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), PostgresError> {
    std::fs::rename(from, to).map_err(file("rename", from))
}

fn remove_dir(dir: &Path) -> Result<(), PostgresError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", dir)(error)),
        _ => Ok(()),
    }
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PostgresError + use<> {
    let path: PathBuf = path.to_path_buf();
    move |source| PostgresError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Account, Installation, Place, Version};
    use super::*;

    fn instance(dir: &Path) -> Instance {
        let version = Version { major: 15, text: "15".into() };
        let installation = Installation { bin_dir: "/nowhere".into(), version, account: Account::Own };
        let place = Place {
            name: "n".into(),
            port: 1,
            data_dir: dir.join("data"),
            log_file: dir.join("log"),
            socket_dir: dir.into(),
            rewind_mark: dir.join("rewinding"),
        };
        Instance::new(Arc::new(installation), place, Vec::new())
    }

    fn put(path: PathBuf, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Whatever was moved already when it was broken off.
    #[test]
    fn a_copy_takes_its_place_from_wherever_it_was_broken_off() {
        for moved in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let node = instance(dir.path());
            let data = node.data_dir();
            // 0: nothing yet; 1: half of the old data; 2: half of the copy; 3: everything but the old data's removal.
            let at = |begun: bool, old: &str| if begun { data.join(OLD).join(old) } else { data.join(old) };
            put(at(moved > 0, "base/1"), "old");
            put(at(moved > 1, "PG_VERSION"), "old");
            let copy = |below: &str, name: &str| data.join(below).join(name);
            match moved {
                0 | 1 => {
                    put(copy(READY, "base/1"), "new");
                    put(copy(READY, "PG_VERSION"), "new");
                }
                2 => {
                    put(data.join("base/1"), "new");
                    put(copy(MOVING, "PG_VERSION"), "new");
                }
                _ => {
                    put(data.join("base/1"), "new");
                    put(data.join("PG_VERSION"), "new");
                }
            }
            put(dir.path().join("rewinding"), "");
            assert_eq!(node.is_half_copied(), moved < 3);
            assert!(node.check_whole().is_err());
            node.finish_copy().unwrap();
            for name in ["base/1", "PG_VERSION"] {
                assert_eq!(std::fs::read_to_string(data.join(name)).unwrap(), "new", "{moved}: {name}");
            }
            let left: Vec<_> = std::fs::read_dir(data).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left.len(), 2, "{left:?}");
            assert!(node.check_whole().is_ok());
        }
    }

    #[test]
    fn what_is_linked_from_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let node = instance(dir.path());
        std::fs::create_dir_all(node.data_dir().join("pg_tblspc")).unwrap();
        assert!(node.check_inside().is_ok());
        std::os::unix::fs::symlink("/nowhere", node.data_dir().join("pg_tblspc/16384")).unwrap();
        assert!(matches!(node.check_inside(), Err(PostgresError::Outside { .. })));
        std::fs::remove_file(node.data_dir().join("pg_tblspc/16384")).unwrap();
        std::os::unix::fs::symlink("/nowhere", node.data_dir().join("pg_wal")).unwrap();
        assert!(matches!(node.check_inside(), Err(PostgresError::Outside { .. })));
    }
}
