//! What became of the statements of one fingerprint, counted beside its verdict: so that counting costs no look-up, and
//! what is known of a fingerprint goes when its verdict does.

use std::cell::Cell;
use std::time::Duration;

use super::scan::{Scanner, TokenKind};
use super::verdict::{Reason, Verdict};

/// Longest text of a statement that is shown, in characters.
const TEXT_LEN_MAX: usize = 1_000;

/// Counts of one fingerprint on one worker. Every verdict begins with an empty one; a clone too.
#[derive(Debug, Default)]
pub struct Usage {
    primary: Cell<u64>,
    replicas: Cell<u64>,
    total_us: Cell<u64>,
    slowest_us: Cell<u64>,
    /// Why it was last sent to the primary, and to a replica: the router's words.
    why_primary: Cell<&'static str>,
    why_replica: Cell<&'static str>,
    /// The hash under which the verdict is kept.
    pub(super) kept_under: Cell<u64>,
}

/// What a statement was, never how often it ran: verdicts that say the same are equal.
impl PartialEq for Usage {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Usage {}

impl Clone for Usage {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Usage {
    /// One statement of it was answered: by a replica or not, why there, and after how long.
    #[inline]
    pub fn count(&self, on_replica: bool, why: &'static str, took: Duration) {
        let (count, word) =
            if on_replica { (&self.replicas, &self.why_replica) } else { (&self.primary, &self.why_primary) };
        count.set(count.get() + 1);
        word.set(why);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.total_us.set(self.total_us.get().saturating_add(us));
        self.slowest_us.set(self.slowest_us.get().max(us));
    }

    /// Takes over what the verdict before this one counted.
    pub(super) fn inherit(&self, older: &Self) {
        self.primary.set(self.primary.get() + older.primary.get());
        self.replicas.set(self.replicas.get() + older.replicas.get());
        self.total_us.set(self.total_us.get().saturating_add(older.total_us.get()));
        self.slowest_us.set(self.slowest_us.get().max(older.slowest_us.get()));
        self.why_primary.set(older.why_primary.get());
        self.why_replica.set(older.why_replica.get());
    }

    /// How many were answered.
    pub(super) fn total(&self) -> u64 {
        self.primary.get() + self.replicas.get()
    }
}

/// A fingerprint, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Its text, literals left out.
    pub text: String,
    /// What the verdict says: may it run on any node?
    pub anywhere: bool,
    /// Why.
    pub reason: Option<Reason>,
    /// What caused the reason.
    pub detail: Option<String>,
    /// Statements that ran on the primary.
    pub primary: u64,
    /// And on replicas.
    pub replicas: u64,
    /// Time of all of them together.
    pub total_us: u64,
    /// Of the slowest.
    pub slowest_us: u64,
    /// Why it was last sent to the primary; empty: it was not.
    pub why_primary: &'static str,
    /// Why it was last sent to a replica; empty: it was not.
    pub why_replica: &'static str,
}

impl Used {
    /// How often it ran.
    pub fn count(&self) -> u64 {
        self.primary + self.replicas
    }

    /// Takes in what another worker, or an older state of the catalog, counted of the same text.
    pub fn add(&mut self, other: &Self) {
        self.primary += other.primary;
        self.replicas += other.replicas;
        self.total_us = self.total_us.saturating_add(other.total_us);
        self.slowest_us = self.slowest_us.max(other.slowest_us);
        // Before the catalog was known there was nothing better to say.
        if self.reason.is_none_or(|reason| reason == Reason::NoCatalog) {
            (self.anywhere, self.reason, self.detail) = (other.anywhere, other.reason, other.detail.clone());
        }
        if self.why_primary.is_empty() || self.why_primary == Reason::NoCatalog.as_str() {
            self.why_primary = other.why_primary;
        }
        if self.why_replica.is_empty() {
            self.why_replica = other.why_replica;
        }
    }

    /// What a verdict counted.
    pub(super) fn of(verdict: &Verdict, text: &[u8]) -> Self {
        let usage = &verdict.usage;
        Self {
            text: shown(text),
            anywhere: verdict.place == super::verdict::Place::Anywhere,
            reason: Some(verdict.reason),
            detail: verdict.detail.as_deref().map(str::to_owned),
            primary: usage.primary.get(),
            replicas: usage.replicas.get(),
            total_us: usage.total_us.get(),
            slowest_us: usage.slowest_us.get(),
            why_primary: usage.why_primary.get(),
            why_replica: usage.why_replica.get(),
        }
    }
}

/// A text, or a fingerprint without its first two bytes, as people may read it: without literals and comments. Where it
/// cannot be cut with certainty, what might be a part of a literal is left out.
pub(super) fn shown(text: &[u8]) -> String {
    // A separator of the fingerprint's own, between a word and a number.
    let text: Vec<u8> = text.iter().map(|&byte| if byte == 1 { b' ' } else { byte }).collect();
    let mut out = String::with_capacity(text.len().min(TEXT_LEN_MAX));
    let mut scanner = Scanner::new(&text);
    while let Some(token) = scanner.next() {
        if scanner.doubtful() || token.kind == TokenKind::Broken || out.len() >= TEXT_LEN_MAX {
            out.push_str(" ...");
            break;
        }
        if token.spaced && !out.is_empty() {
            out.push(' ');
        }
        match token.kind {
            TokenKind::String | TokenKind::OtherString | TokenKind::Number => out.push('?'),
            TokenKind::Parameter => out.push_str("$?"),
            _ => {
                let word = String::from_utf8_lossy(text.get(token.start..token.end).unwrap_or_default());
                out.extend(word.chars().take(TEXT_LEN_MAX).filter(|letter| !letter.is_control()));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::sql::{CatalogBuilder, Classifier, Settings};

    use super::*;

    #[test]
    fn literals_never_show_and_names_stay_whole() {
        for (fingerprint, text) in [
            ("select 0 from t0 where a = '' and b = $1", "select ? from t0 where a = ? and b = $?"),
            ("  select x_0,0 -- geheim", "select x_0,?"),
            ("select a\u{1}0, E'geheim', $$geheim$$", "select a ?, ?, ?"),
            ("select 'geheim", "select ..."),
        ] {
            assert_eq!(shown(fingerprint.as_bytes()), text);
        }
    }

    #[test]
    fn statements_are_counted_by_fingerprint_and_outlive_a_learned_verdict() {
        let catalog = CatalogBuilder::new(1, 1).finish();
        let mut classifier = Classifier::new(&Settings::default());
        let first = classifier.classify(b"SELECT 1, 'secret'", &catalog);
        first.usage.count(true, "read", Duration::from_micros(5));
        let second = classifier.classify(b"SELECT 27, 'other'", &catalog);
        second.usage.count(false, "freshness", Duration::from_micros(9));
        classifier.learn_primary(b"SELECT 3, ''", &catalog);
        let used = classifier.used(10);
        assert_eq!(used.len(), 1, "{used:?}");
        let [used] = used.as_slice() else { panic!("one") };
        assert_eq!((used.text.as_str(), used.primary, used.replicas), ("SELECT ?, ?", 1, 1));
        assert_eq!((used.total_us, used.slowest_us), (14, 9));
        assert_eq!((used.why_primary, used.why_replica), ("freshness", "read"));
        assert!(!used.anywhere, "what was learned is what counts now");
    }

    #[test]
    fn what_was_said_before_the_catalog_was_known_does_not_last() {
        let early = Used {
            reason: Some(Reason::NoCatalog),
            why_primary: "no-catalog",
            primary: 3,
            ..Used::default()
        };
        let later = Used {
            reason: Some(Reason::VolatileFunction),
            detail: Some("nextval".to_owned()),
            why_primary: "volatile-function",
            primary: 2,
            ..Used::default()
        };
        for (mut one, other) in [(early.clone(), later.clone()), (later, early)] {
            one.add(&other);
            assert_eq!((one.primary, one.reason), (5, Some(Reason::VolatileFunction)));
            assert_eq!((one.why_primary, one.detail.as_deref()), ("volatile-function", Some("nextval")));
        }
    }

    #[test]
    fn a_text_that_is_kept_whole_shows_no_literal() {
        let catalog = CatalogBuilder::new(1, 1).finish();
        let mut classifier = Classifier::new(&Settings::default());
        for text in ["SELECT 'geheim' 'nis'", "SELECT nextval('geheim')", "SELECT E'geheim\\'"] {
            let verdict = classifier.classify(text.as_bytes(), &catalog);
            verdict.usage.count(false, "write", Duration::ZERO);
            let shown = classifier.text_of(&verdict);
            assert!(shown.contains("SELECT") && !shown.contains("geheim"), "{shown}");
        }
        assert!(
            classifier.used(10).iter().all(|used| !used.text.contains("geheim")),
            "{:?}",
            classifier.used(10)
        );
    }
}
