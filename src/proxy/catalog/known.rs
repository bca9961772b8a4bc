//! The facts of one database as sessions see them: published by the loader, doubted by every definition that is seen, waited
//! for where nothing is known.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::debug;

use crate::sql::{Catalog, Change};

/// Changes that wait for facts before these have to be asked for again.
const CHANGES_MAX: usize = 10_000;

/// So long the first clients of a database wait for its facts, while these are being loaded.
const FIRST_LIMIT: Duration = Duration::from_secs(2);

/// The facts of one database.
#[derive(Debug)]
pub struct Facts {
    pub(super) id: u64,
    pub(super) database: Arc<str>,
    catalog: ArcSwap<Catalog>,
    seen: Mutex<Seen>,
    /// One more with every state of any database's facts.
    generation: Arc<AtomicU64>,
    /// Wakes the loader.
    wake: Notify,
    /// Wakes those who wait for facts.
    loaded: Notify,
    /// Waiting for facts is of no use: they cannot be had, or somebody has waited for them in vain.
    late: AtomicBool,
    /// The primary says that there is no such database.
    absent: AtomicBool,
}

/// The changes that the proxy has seen since the facts were last asked for.
#[derive(Debug, Default)]
struct Seen {
    /// Numbers the changes.
    count: u64,
    /// Each with its number.
    changes: Vec<(u64, Change)>,
    /// The last one that may have touched anything: facts that were asked for before it are worth nothing.
    worthless_until: u64,
}

impl Seen {
    fn note(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.count += 1;
            if change == Change::Anything || self.changes.len() >= CHANGES_MAX {
                self.nothing_known();
            }
            self.changes.push((self.count, change));
        }
    }

    /// Facts that were asked for before now, and what has changed since, are worth nothing.
    fn nothing_known(&mut self) {
        self.worthless_until = self.count;
        self.changes.clear();
    }
}

impl Facts {
    /// Of the database of this name, whose `id` no other has. `late`: nobody loads them.
    pub(super) fn new(database: &Arc<str>, (id, late): (u64, bool), generation: &Arc<AtomicU64>) -> Self {
        Self {
            id,
            database: Arc::clone(database),
            catalog: ArcSwap::from_pointee(Catalog::empty_for(id)),
            seen: Mutex::default(),
            generation: Arc::clone(generation),
            wake: Notify::new(),
            loaded: Notify::new(),
            late: AtomicBool::new(late),
            absent: AtomicBool::new(false),
        }
    }

    /// The facts now.
    #[inline]
    pub fn load(&self) -> arc_swap::Guard<Arc<Catalog>> {
        self.catalog.load()
    }

    /// DDL was committed: what it touches is not known until the facts are loaded again.
    pub fn take(&self, changes: Vec<Change>) {
        let mut seen = self.lock();
        let now = self.catalog.load();
        // Where nothing is known already, the changes wait for the facts that are being asked for: not even one definition
        // right behind the other keeps those from being published.
        let catalog = now.after(&changes, self.next_generation());
        if catalog.is_empty() && !now.is_empty() {
            debug!(database = %self.database, ?changes, "nothing is known until the facts are loaded");
            seen.nothing_known();
        }
        self.catalog.store(Arc::new(catalog));
        seen.note(changes);
        drop(seen);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Nobody can be asked now, or (`absent`) there is no such database: nothing is known, and who waits for facts waits in
    /// vain.
    pub(super) fn clear(&self, absent: bool) {
        self.absent.store(absent, Ordering::Relaxed);
        self.late.store(true, Ordering::Relaxed);
        let seen = self.lock();
        let now = self.catalog.load();
        if !now.is_empty() {
            self.catalog.store(Arc::new(now.unknown(self.next_generation())));
        }
        drop(seen);
        self.loaded.notify_waiters();
    }

    /// Whether facts that are missing now are likely to be there soon.
    pub fn are_coming(&self) -> bool {
        !self.late.load(Ordering::Relaxed) && self.load().is_empty()
    }

    /// Waits, for a while, until it is known for the first time what statements leave in their sessions. Before, those that
    /// call functions tie their sessions.
    pub async fn await_first(&self) {
        if !self.load().knows_what_calls_leave() && self.are_coming() {
            self.await_loaded(FIRST_LIMIT).await;
        }
    }

    /// Whether the primary has said that there is no such database.
    pub fn is_absent(&self) -> bool {
        self.absent.load(Ordering::Relaxed)
    }

    /// Waits for facts, so long at most. `false`: there are none yet. Who waits in vain spares others the wait, until facts
    /// have been loaded.
    pub async fn await_loaded(&self, limit: Duration) -> bool {
        let loaded = async {
            loop {
                let mut loaded = std::pin::pin!(self.loaded.notified());
                loaded.as_mut().enable();
                if !self.load().is_empty() || self.is_absent() {
                    return;
                }
                loaded.await;
            }
        };
        let there = timeout(limit, loaded).await.is_ok() && !self.is_absent();
        if !there {
            self.late.store(true, Ordering::Relaxed);
        }
        there
    }

    /// Waits, so that where one definition follows another, loading is not all that the server does; but not while nothing
    /// is known.
    pub(super) async fn rest(&self, pause: Duration) {
        let unknown = async {
            while !self.load().is_empty() {
                self.wake.notified().await;
            }
        };
        drop(timeout(pause, unknown).await);
    }

    /// Waits for a definition to be seen, so long at most.
    pub(super) async fn await_change(&self, limit: Duration) {
        drop(timeout(limit, self.wake.notified()).await);
    }

    /// The number of the last change that was seen.
    pub(super) fn seen(&self) -> u64 {
        self.lock().count
    }

    /// Publishes what was asked for when `before` was the last change seen, with what was seen since.
    pub(super) fn publish(&self, catalog: Catalog, before: u64) -> bool {
        let mut seen = self.lock();
        seen.changes.retain(|(number, _)| *number > before);
        if seen.worthless_until > before {
            return false;
        }
        let catalog = if seen.changes.is_empty() {
            catalog
        } else {
            catalog.after(seen.changes.iter().map(|(_, change)| change), self.next_generation())
        };
        if catalog.is_empty() {
            seen.worthless_until = seen.count;
        }
        self.catalog.store(Arc::new(catalog));
        self.late.store(false, Ordering::Relaxed);
        self.absent.store(false, Ordering::Relaxed);
        self.loaded.notify_waiters();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::CatalogBuilder;

    fn facts() -> Facts {
        Facts::new(&Arc::from("app"), (1, false), &Arc::default())
    }

    fn loaded(facts: &Facts) -> Catalog {
        CatalogBuilder::new(1, facts.next_generation()).finish()
    }

    #[test]
    fn one_definition_behind_the_other_does_not_keep_facts_from_being_published() {
        let facts = facts();
        facts.take(vec![Change::Anything]);
        let before = facts.seen();
        facts.take(vec![Change::Readable(Arc::from("made_while_loading"))]);
        assert!(facts.load().is_empty());
        assert!(facts.publish(loaded(&facts), before));
        assert!(!facts.load().is_empty());
    }

    #[test]
    fn facts_that_were_asked_for_before_anything_may_have_changed_are_not_published() {
        let facts = facts();
        let before = facts.seen();
        facts.take(vec![Change::Anything]);
        assert!(!facts.publish(loaded(&facts), before));
        assert!(facts.publish(loaded(&facts), facts.seen()));
        assert!(!facts.load().is_empty());
        facts.take(vec![Change::Anything]);
        assert!(facts.load().is_empty());
    }

    #[tokio::test]
    async fn who_waits_in_vain_spares_others_the_wait_until_facts_are_loaded() {
        let facts = facts();
        assert!(facts.are_coming());
        assert!(!facts.await_loaded(Duration::from_millis(1)).await);
        assert!(!facts.are_coming());
        facts.publish(loaded(&facts), 0);
        assert!(facts.await_loaded(Duration::from_secs(10)).await);
        facts.take(vec![Change::Anything]);
        assert!(facts.are_coming());
    }
}
