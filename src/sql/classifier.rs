//! The classifier of one worker thread: verdicts by fingerprint, parsed once.
//!
//! In: a text and the catalog facts of the session's database. Out: the verdict. A hit costs one pass over the text,
//! one hash and one comparison; it neither parses nor allocates. Bounded in entries and bytes.

use std::collections::hash_map::Entry;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::cache::Cache;
use super::catalog::Catalog;
use super::fingerprint::{Fingerprint, hash};
use super::recall::Recall;
use super::settings::Settings;
use super::statement::{Judgement, judge};
use super::usage::{Used, shown};
use super::verdict::{Kind, Moving, Place, Reason, Verdict};

/// Classifies texts and remembers what it found. One per worker thread: no locks, not shared.
#[derive(Debug)]
pub struct Classifier {
    settings: Settings,
    fingerprint: Fingerprint,
    cache: Cache<Kept>,
    recall: Recall,
    /// Where a text becomes a key; used again for the next one.
    exact: Vec<u8>,
    hits: u64,
    misses: u64,
}

/// How well the cache serves, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Texts whose verdict was kept.
    pub hits: u64,
    /// Texts that were judged anew.
    pub misses: u64,
    /// Verdicts kept now.
    pub entries: usize,
    /// Bytes they hold.
    pub bytes: usize,
}

#[derive(Debug)]
enum Kept {
    /// Every text of this fingerprint has this verdict.
    Shared(Rc<Verdict>),
    /// Literals matter: look under the text itself.
    ByText,
}

impl Classifier {
    /// An empty classifier.
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: *settings,
            fingerprint: Fingerprint::default(),
            cache: Cache::new(settings.cache_entries_max, settings.cache_bytes_max),
            recall: Recall::new(),
            exact: Vec::new(),
            hits: 0,
            misses: 0,
        }
    }

    /// What a text is, in a database of these facts.
    pub fn classify(&mut self, text: &[u8], catalog: &Catalog) -> Rc<Verdict> {
        let state = catalog.state();
        if let Some(verdict) = self.recall.find(text, state) {
            self.hits += 1;
            return verdict;
        }
        if let Some(verdict) = self.find(text, catalog) {
            self.hits += 1;
            return verdict;
        }
        self.misses += 1;
        let judgement = judge(text, catalog, &self.settings);
        let verdict = Rc::new(judgement.verdict);
        self.keep(text, catalog, &verdict, judgement.by_literal);
        verdict
    }

    /// A replica refused this text: from now on its like go to the primary, until the catalog facts change or the
    /// verdict is pushed out of the cache.
    pub fn learn_primary(&mut self, text: &[u8], catalog: &Catalog) {
        let Judgement { verdict, by_literal } = judge(text, catalog, &self.settings);
        self.recall.clear();
        let learned =
            Verdict { place: Place::Primary, reason: Reason::Learned, moving: Moving::Never, ..verdict };
        self.keep(text, catalog, &Rc::new(learned), by_literal);
    }

    /// Drops everything about a database, in whatever state it was.
    pub fn forget(&mut self, catalog_id: u64) {
        self.recall.clear();
        self.cache.forget(catalog_id);
    }

    /// How well the cache serves.
    pub fn stats(&self) -> CacheStats {
        let (entries, bytes) = self.cache.size();
        CacheStats { hits: self.hits, misses: self.misses, entries, bytes }
    }

    /// What became of the statements whose verdicts are kept: of the most frequent ones, those of one text together.
    pub fn used(&self, max: usize) -> Vec<Used> {
        let shared = self.cache.iter().filter_map(|(key, kept)| match kept {
            Kept::Shared(verdict) if verdict.usage.total() > 0 => Some((key, verdict)),
            _ => None,
        });
        let mut most: Vec<(&[u8], &Rc<Verdict>)> = shared.collect();
        most.sort_unstable_by_key(|(_, verdict)| std::cmp::Reverse(verdict.usage.total()));
        let mut used: FxHashMap<String, Used> = FxHashMap::default();
        for (key, verdict) in most.into_iter().take(max) {
            let one = Used::of(verdict, text_in(key));
            match used.entry(one.text.clone()) {
                Entry::Occupied(mut have) => have.get_mut().add(&one),
                Entry::Vacant(free) => {
                    free.insert(one);
                }
            }
        }
        used.into_values().collect()
    }

    /// The text of a verdict's fingerprint, literals left out; empty where it is not kept any more.
    pub fn text_of(&self, verdict: &Rc<Verdict>) -> String {
        let mut kept = self.cache.beside(verdict.usage.kept_under.get());
        let found = kept.find(|(_, kept)| matches!(kept, Kept::Shared(have) if Rc::ptr_eq(have, verdict)));
        found.map(|(key, _)| shown(text_in(key))).unwrap_or_default()
    }

    fn find(&mut self, text: &[u8], catalog: &Catalog) -> Option<Rc<Verdict>> {
        if self.is_too_large(text) {
            return None;
        }
        self.fingerprint.compute(text);
        let state = catalog.state();
        if !self.fingerprint.exact {
            let key = self.fingerprint.bytes();
            match self.cache.find(hash(key, state), state, key)? {
                Kept::Shared(verdict) => {
                    self.recall.keep(text, state, verdict);
                    return Some(Rc::clone(verdict));
                }
                Kept::ByText => {}
            }
        }
        // A text as a key cannot be mistaken for a fingerprint: none begins with a zero byte.
        exact_key(text, &mut self.exact);
        match self.cache.find(hash(&self.exact, state), state, &self.exact)? {
            Kept::Shared(verdict) => Some(Rc::clone(verdict)),
            Kept::ByText => None,
        }
    }

    /// What is not parsed is cheap to judge and large to keep.
    fn is_too_large(&self, text: &[u8]) -> bool {
        text.len() > self.settings.text_bytes_max
    }

    /// Keeps a verdict under the fingerprint that `find` or `keep` computes, or under the text where literals matter.
    fn keep(&mut self, text: &[u8], catalog: &Catalog, verdict: &Rc<Verdict>, by_literal: bool) {
        if self.is_too_large(text) {
            return;
        }
        self.fingerprint.compute(text);
        let state = catalog.state();
        let bytes = verdict_bytes(verdict);
        let inherit = |older: Option<Kept>| {
            if let Some(Kept::Shared(older)) = older {
                verdict.usage.inherit(&older.usage);
            }
        };
        let by_text = self.fingerprint.exact || (by_literal && self.fingerprint.literals);
        if !self.fingerprint.exact {
            let kept = if by_text { (Kept::ByText, 0) } else { (Kept::Shared(Rc::clone(verdict)), bytes) };
            let key = self.fingerprint.bytes();
            let hash = hash(key, state);
            verdict.usage.kept_under.set(hash);
            inherit(self.cache.insert(hash, state, key, kept));
        }
        if by_text {
            exact_key(text, &mut self.exact);
            let kept = (Kept::Shared(Rc::clone(verdict)), bytes);
            let hash = hash(&self.exact, state);
            verdict.usage.kept_under.set(hash);
            inherit(self.cache.insert(hash, state, &self.exact, kept));
        }
    }
}

/// What of a key is text: a fingerprint begins with two bytes of hints, a text that was kept whole with a zero.
fn text_in(key: &[u8]) -> &[u8] {
    let skipped = if key.first() == Some(&0) { 1 } else { 2 };
    key.get(skipped..).unwrap_or_default()
}

fn exact_key(text: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.push(0);
    key.extend_from_slice(text);
}

/// An upper estimate of what a verdict holds on the heap.
fn verdict_bytes(verdict: &Verdict) -> usize {
    let effects: usize = verdict.effects.iter().map(super::utility::effect_bytes).sum();
    let kind = match &verdict.kind {
        Kind::Savepoint(name) | Kind::Release(name) | Kind::RollbackTo(name) | Kind::ShowPrimacy(name) => {
            name.len()
        }
        Kind::SetPrimacy(name, value) => name.len() + value.as_ref().map_or(0, |value| value.len()),
        _ => 0,
    };
    size_of::<Verdict>() + verdict.detail.as_ref().map_or(0, |detail| detail.len()) + kind + effects
}
