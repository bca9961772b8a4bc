//! One small JSON document on disk that is either the old one or the new one, whatever happens.
//!
//! In: a value to keep. Out: the same value after a crash at any moment. A new version is written beside the old one,
//! flushed, renamed over it, and the directory flushed. A lock on a second file keeps other processes with the same
//! directory away. Knows nothing about what the document means.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest document that is read or written; more is a sign of damage.
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why the document could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory.
    #[error("{} is in use by another primacy process (lock file {}); give each its own state_dir", dir.display(), lock.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The file whose lock is held.
        lock: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} {}", file.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what primacy wrote.
    #[error("{} is damaged; move it away to start without its history", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The document is larger than it may ever be.
    #[error("{} would have {bytes} bytes, more than the limit of {DOCUMENT_BYTES_MAX}", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

/// The document's place; holds the lock while it lives.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    file: PathBuf,
    draft: PathBuf,
    _lock: Flock<File>,
}

impl Store {
    /// Creates the directory where it is missing and takes the lock. Does not wait for it.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(io_error("create directory", dir))?;
        let lock_file = dir.join("lock");
        let file = private().read(true).write(true).create(true).truncate(false).open(&lock_file);
        let file = file.map_err(io_error("open", &lock_file))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => {
                StoreError::InUse { dir: dir.to_owned(), lock: lock_file.clone() }
            }
            other => io_error("lock", &lock_file)(other.into()),
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            file: dir.join("journal.json"),
            draft: dir.join("journal.new"),
            _lock: lock,
        })
    }

    /// The document as last saved; `None` where there is none yet.
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &self.file)(error)),
        };
        let mut text = Vec::new();
        file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut text).map_err(io_error("read", &self.file))?;
        self.check_size(text.len())?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| StoreError::Damaged { file: self.file.clone(), source })
    }

    /// Replaces the document. When this returns `Ok`, the new one survives a power cut; on an error the old one stands.
    pub(crate) fn save<T: Serialize>(&self, document: &T) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(document)
            .map_err(|source| StoreError::Damaged { file: self.draft.clone(), source })?;
        self.check_size(text.len())?;
        let mut draft = private()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.draft)
            .map_err(io_error("create", &self.draft))?;
        draft.write_all(&text).map_err(io_error("write", &self.draft))?;
        draft.sync_all().map_err(io_error("flush", &self.draft))?;
        fs::rename(&self.draft, &self.file).map_err(io_error("replace", &self.file))?;
        // The rename itself is durable only once the directory is.
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io_error("flush", &self.dir))
    }

    fn check_size(&self, bytes: usize) -> Result<(), StoreError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if bytes > DOCUMENT_BYTES_MAX {
            return Err(StoreError::TooLarge { file: self.file.clone(), bytes });
        }
        Ok(())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn io_error<'a>(doing: &'static str, file: &'a Path) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |source| StoreError::Io { doing, file: file.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_by_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.load::<Vec<u32>>().unwrap(), None);
        store.save(&vec![1, 2]).unwrap();
        store.save(&vec![3]).unwrap();
        drop(store);
        assert_eq!(Store::open(dir.path()).unwrap().load::<Vec<u32>>().unwrap(), Some(vec![3]));
    }

    #[test]
    fn a_second_process_is_refused_while_the_first_lives() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse { .. })));
        drop(first);
        assert!(Store::open(dir.path()).is_ok());
    }

    #[test]
    fn an_unfinished_draft_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(&7).unwrap();
        fs::write(dir.path().join("journal.new"), b"{ half").unwrap();
        assert_eq!(store.load::<u32>().unwrap(), Some(7));
    }

    #[test]
    fn damage_is_reported_not_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::write(dir.path().join("journal.json"), b"{ half").unwrap();
        assert!(matches!(store.load::<u32>(), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_document_beyond_the_limit_is_refused_and_the_old_one_stands() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(&"small").unwrap();
        let large = "x".repeat(usize::try_from(DOCUMENT_BYTES_MAX).unwrap());
        assert!(matches!(store.save(&large), Err(StoreError::TooLarge { .. })));
        assert_eq!(store.load::<String>().unwrap().as_deref(), Some("small"));
    }

    #[test]
    fn a_full_disk_is_an_error_and_the_old_document_stands() {
        // A directory in the draft's place makes the write fail as any other refusal of the system does.
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(&1).unwrap();
        fs::create_dir(dir.path().join("journal.new")).unwrap();
        assert!(matches!(store.save(&2), Err(StoreError::Io { doing: "create", .. })));
        assert_eq!(store.load::<u32>().unwrap(), Some(1));
    }
}
