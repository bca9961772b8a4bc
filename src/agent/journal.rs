//! What the agent knows from one start to the next: whose data it keeps, what it is doing, and its lease.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::control::store::{Store, StoreError};

/// The journal's document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Notes {
    /// The cluster that the data directory belongs to, by its system identifier.
    pub(super) system_id: Option<u64>,
    /// What is being done, in words; still there after the agent died in the middle of it.
    pub(super) doing: Option<String>,
    /// The epoch of the last lease; `None`: there never was one.
    pub(super) leased: Option<u64>,
    /// The server was stopped because its lease had run out.
    pub(super) fenced: bool,
}

/// The journal on disk. One agent per directory.
#[derive(Debug)]
pub(super) struct Journal {
    store: Store,
    notes: Mutex<Notes>,
}

impl Journal {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Store::open(dir)?;
        let notes = store.load()?.unwrap_or_default();
        Ok(Self { store, notes: Mutex::new(notes) })
    }

    pub(super) fn notes(&self) -> Notes {
        self.lock().clone()
    }

    /// Changes the notes; on disk when it returns. Nothing has changed where it fails.
    pub(super) fn change(&self, change: impl FnOnce(&mut Notes)) -> Result<(), StoreError> {
        let mut notes = self.lock();
        let mut changed = notes.clone();
        change(&mut changed);
        if changed != *notes {
            self.store.save(&changed)?;
            *notes = changed;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
