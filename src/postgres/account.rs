//! Who runs the servers. PostgreSQL refuses to run as root, so root hands its servers to an unprivileged account.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use tokio::process::Command;

use super::PostgresError;

/// The account that server programs run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// Our own: we are not root.
    Own,
    /// We are root; the programs run as this user.
    Other {
        /// Its name, for messages.
        name: String,
        /// User id.
        uid: u32,
        /// Its primary group.
        gid: u32,
        /// Its home: libpq in a server looks there for certificates, and may not enter root's.
        home: PathBuf,
    },
}

impl Account {
    /// Our own account, or for root the user `postgres` where it exists, else `nobody`.
    pub fn choose() -> Result<Self, PostgresError> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(Self::other)
            .ok_or(PostgresError::NoAccount)
    }

    /// The account of this user, for root.
    pub fn of_user(uid: u32) -> Result<Self, PostgresError> {
        let user = User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
        user.map(Self::other).ok_or(PostgresError::NoSuchUser { uid })
    }

    fn other(user: User) -> Self {
        Self::Other { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
    }

    /// The name for messages.
    pub fn name(&self) -> &str {
        match self {
            Self::Own => "this user",
            Self::Other { name, .. } => name,
        }
    }

    /// Makes `command` run as this account (without any of root's groups).
    pub(super) fn apply(&self, command: &mut Command) {
        if let Self::Other { uid, gid, home, .. } = self {
            command.uid(*uid).gid(*gid).env("HOME", home);
        }
    }

    /// Gives a file or directory to this account.
    pub fn own(&self, path: &Path) -> Result<(), PostgresError> {
        let Self::Other { uid, gid, .. } = self else { return Ok(()) };
        chown(path, Some(*uid), Some(*gid)).map_err(|source| PostgresError::File {
            doing: "change the owner of",
            path: path.to_path_buf(),
            source,
        })
    }

    /// Makes a directory that belongs to this account and that others may not enter, unless it exists.
    pub fn create_dir(&self, path: &Path) -> Result<(), PostgresError> {
        let failed = |doing| move |source| PostgresError::File { doing, path: path.to_path_buf(), source };
        if path.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(path).map_err(failed("create"))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed("protect"))?;
        self.own(path)
    }

    /// Makes a new directory for a cluster that will be thrown away, where this account may enter: root's own place for
    /// temporary files may be closed to others.
    pub fn temporary_dir(&self, prefix: &str) -> Result<PathBuf, PostgresError> {
        let own = std::env::temp_dir();
        let usable = |dir: &&Path| dir.is_dir() && self.can_enter(dir).is_ok();
        let places = [own.as_path(), Path::new("/tmp"), Path::new("/var/tmp")];
        let Some(parent) = places.into_iter().find(usable) else {
            // The error says what is in the way.
            self.can_enter(&own)?;
            return Err(PostgresError::File {
                doing: "use",
                path: own,
                source: std::io::ErrorKind::NotADirectory.into(),
            });
        };
        let made = tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
        let made = made.map_err(|source| PostgresError::File {
            doing: "make a directory in",
            path: parent.to_path_buf(),
            source,
        })?;
        self.own(made.path())?;
        Ok(made.keep())
    }

    /// Whether this account can reach `dir`: every directory down to it must let it in.
    /// Access lists and the like are not looked at; the programs' own errors tell about those.
    pub fn can_enter(&self, dir: &Path) -> Result<(), PostgresError> {
        let Self::Other { name, uid, gid, .. } = self else { return Ok(()) };
        let mut way: Vec<&Path> = dir.ancestors().collect();
        way.reverse();
        for step in way {
            let Ok(meta) = std::fs::metadata(step) else { continue };
            let (owner, group) = (meta.uid() == *uid, meta.gid() == *gid);
            let bit = if owner {
                0o100
            } else if group {
                0o010
            } else {
                0o001
            };
            if meta.is_dir() && meta.mode() & bit == 0 {
                return Err(PostgresError::NoEntry { user: name.clone(), path: step.to_path_buf() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_directory_on_the_way_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let (name, home) = ("stranger".into(), "/nonexistent".into());
        let stranger = Account::Other { name, uid: 4_000_001, gid: 4_000_001, home };
        std::fs::set_permissions(outer.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let error = stranger.can_enter(&inner).unwrap_err();
        assert!(matches!(&error, PostgresError::NoEntry { path, .. } if path == outer.path()), "{error}");
        std::fs::set_permissions(outer.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o711)).unwrap();
        stranger.can_enter(&inner).unwrap();
    }
}
