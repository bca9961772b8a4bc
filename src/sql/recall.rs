//! Recognises a text that differs from an earlier one in the digits of whole numbers only, by comparing the two: a
//! driver without parameters sends the same few statements again and again, and most of their literals are keys.
//!
//! In: a text and the state of a catalog. Out: the verdict that the earlier text had. Two texts that match here have the
//! same fingerprint: what is left out of the comparison are tokens that consist of nothing but digits, and what follows
//! one is the same in both, so that the lexer ends it in the same place. Bounded in entries and bytes.

use std::hash::Hasher;
use std::rc::Rc;

use rustc_hash::FxHasher;

use super::scan::{Scanner, TokenKind};
use super::verdict::Verdict;

/// Places that a text may be kept in, given its beginning.
const WAYS: usize = 4;

/// Sets of such places.
const SETS: usize = 64;

/// Longest text that is kept, in bytes.
const TEXT_LEN_MAX: usize = 1024;

/// One text of so many takes the place of another.
const SELDOM: u32 = 16;

/// Bytes of a text that choose its set, at most: those before its first digit.
const BEGINNING_LEN: usize = 24;

/// After so many recognitions a text is looked up again, so that the cache of verdicts knows what is in use.
const RECOGNITIONS_MAX: u8 = 200;

/// Texts that were seen lately. One per classifier.
pub(super) struct Recall {
    places: Vec<Option<Seen>>,
    /// Texts that were to be kept, so far.
    turn: u32,
}

impl std::fmt::Debug for Recall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recall").field("seen", &self.places.iter().flatten().count()).finish_non_exhaustive()
    }
}

impl Recall {
    pub(super) fn new() -> Self {
        let mut places = Vec::new();
        places.resize_with(SETS * WAYS, || None);
        Self { places, turn: 0 }
    }

    /// The verdict on a text that differs from this one in numbers only.
    #[inline]
    pub(super) fn find(&mut self, text: &[u8], state: (u64, u64)) -> Option<Rc<Verdict>> {
        let seen =
            self.set(text).iter_mut().flatten().find(|seen| seen.state == state && seen.is_like(text))?;
        if seen.recognitions >= RECOGNITIONS_MAX {
            return None;
        }
        seen.recognitions += 1;
        Some(Rc::clone(&seen.verdict))
    }

    /// Keeps a text whose fingerprint has this verdict. Texts that are recognised stay, and where there is no free place
    /// only one in some takes that of another: to keep a text costs more than to look it up.
    pub(super) fn keep(&mut self, text: &[u8], state: (u64, u64), verdict: &Rc<Verdict>) {
        if text.len() > TEXT_LEN_MAX {
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let set = self.set(text);
        if let Some(seen) =
            set.iter_mut().flatten().find(|seen| seen.state.0 == state.0 && seen.is_like(text))
        {
            (seen.state, seen.verdict, seen.recognitions) = (state, Rc::clone(verdict), 1);
            return;
        }
        let unused = |place: &Option<Seen>| place.as_ref().is_none_or(|seen| seen.recognitions == 0);
        let mut free = set.iter().position(Option::is_none);
        if free.is_none() && turn.is_multiple_of(SELDOM) {
            free = set.iter().position(unused);
            if free.is_none() {
                // Whoever is not recognised until it is the next one's turn makes room for it.
                set.iter_mut().flatten().for_each(|seen| seen.recognitions = 0);
            }
        }
        if let Some(place) = free.and_then(|at| set.get_mut(at)) {
            *place = Some(Seen::new(text, state, verdict));
        }
    }

    /// Forgets everything: verdicts have changed.
    pub(super) fn clear(&mut self) {
        self.places.iter_mut().for_each(|place| *place = None);
    }

    #[inline]
    fn set(&mut self, text: &[u8]) -> &mut [Option<Seen>] {
        let beginning = text.get(..BEGINNING_LEN).unwrap_or(text);
        let len = beginning.iter().position(u8::is_ascii_digit).unwrap_or(beginning.len());
        let mut hasher = FxHasher::default();
        hasher.write(beginning.get(..len).unwrap_or_default());
        let index = usize::try_from(hasher.finish() >> 32).unwrap_or(0) % SETS;
        self.places.get_mut(index * WAYS..(index + 1) * WAYS).unwrap_or_default()
    }
}

/// One text.
struct Seen {
    /// Without its numbers.
    text: Box<[u8]>,
    /// Where in what is left each number stood.
    numbers: Box<[usize]>,
    state: (u64, u64),
    verdict: Rc<Verdict>,
    recognitions: u8,
}

impl Seen {
    fn new(text: &[u8], state: (u64, u64), verdict: &Rc<Verdict>) -> Self {
        let (mut rest, mut numbers, mut from) = (Vec::with_capacity(text.len()), Vec::new(), 0);
        for token in Scanner::new(text) {
            if token.kind == TokenKind::Number && token.bytes(text).iter().all(u8::is_ascii_digit) {
                rest.extend_from_slice(text.get(from..token.start).unwrap_or_default());
                numbers.push(rest.len());
                from = token.end;
            }
        }
        rest.extend_from_slice(text.get(from..).unwrap_or_default());
        Self {
            text: rest.into(),
            numbers: numbers.into(),
            state,
            verdict: Rc::clone(verdict),
            recognitions: 0,
        }
    }

    #[inline]
    fn is_like(&self, text: &[u8]) -> bool {
        let (mut rest, mut from) = (text, 0);
        for &number in &self.numbers {
            let Some(behind) = self.text.get(from..number).and_then(|piece| rest.strip_prefix(piece)) else {
                return false;
            };
            let digits = behind.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(behind.len());
            if digits == 0 {
                return false;
            }
            rest = behind.get(digits..).unwrap_or_default();
            from = number;
        }
        self.text.get(from..) == Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::fingerprint::Fingerprint;
    use crate::sql::{CatalogBuilder, Classifier, Settings};

    fn seen(text: &str) -> Seen {
        let catalog = CatalogBuilder::new(1, 1).finish();
        let verdict = Classifier::new(&Settings::default()).classify(text.as_bytes(), &catalog);
        Seen::new(text.as_bytes(), (1, 1), &verdict)
    }

    fn fingerprint(text: &[u8]) -> (Vec<u8>, bool) {
        let mut fingerprint = Fingerprint::default();
        fingerprint.compute(text);
        (fingerprint.bytes().to_vec(), fingerprint.exact)
    }

    #[test]
    fn numbers_may_differ_and_nothing_else_may() {
        let kept = seen("SELECT a1, 5.5 FROM t WHERE id = 42 AND n IN (1, 2);");
        assert!(kept.is_like(b"SELECT a1, 5.5 FROM t WHERE id = 7 AND n IN (100, 0);"));
        for other in [
            "SELECT a2, 5.5 FROM t WHERE id = 42 AND n IN (1, 2);",
            "SELECT a1, 6.5 FROM t WHERE id = 42 AND n IN (1, 2);",
            "SELECT a1, 5.5 FROM t WHERE id = 4x AND n IN (1, 2);",
            "SELECT a1, 5.5 FROM t WHERE id = 42.0 AND n IN (1, 2);",
            "SELECT a1, 5.5 FROM t WHERE id =  AND n IN (1, 2);",
            "SELECT a1, 5.5 FROM t WHERE id = 42 AND n IN (1, 2);2",
            "SELECT a1, 5.5 FROM t WHERE id = 42 AND n IN (1, 2)",
        ] {
            assert!(!kept.is_like(other.as_bytes()), "{other}");
        }
        assert!(!seen("SELECT '1', $1, E'2', $$3$$ -- 4").is_like(b"SELECT '2', $1, E'2', $$3$$ -- 4"));
        assert!(!seen("SELECT $1").is_like(b"SELECT $2"));
        assert!(!seen("SELECT 1 -- 1").is_like(b"SELECT 1 -- 2"));
    }

    #[test]
    fn what_is_learned_of_a_text_is_what_counts_from_then_on() {
        let catalog = CatalogBuilder::new(1, 1).finish();
        let mut classifier = Classifier::new(&Settings::default());
        for _ in 0..600 {
            assert_eq!(classifier.classify(b"SELECT 1", &catalog).place, crate::sql::Place::Anywhere);
        }
        classifier.learn_primary(b"SELECT 2", &catalog);
        for _ in 0..600 {
            assert_eq!(classifier.classify(b"SELECT 3", &catalog).place, crate::sql::Place::Primary);
        }
        let later = CatalogBuilder::new(1, 2).finish();
        assert_eq!(classifier.classify(b"SELECT 3", &later).place, crate::sql::Place::Anywhere);
        assert_eq!(classifier.stats().hits, 1199, "all but the first of each state of the catalog");
    }

    #[test]
    fn places_are_bounded_and_what_is_recognised_stays() {
        let catalog = CatalogBuilder::new(1, 1).finish();
        let verdict = Classifier::new(&Settings::default()).classify(b"SELECT 1", &catalog);
        let mut recall = Recall::new();
        recall.keep(b"SELECT column_of_many_letters, 1", (1, 1), &verdict);
        let mut looked_up = 0;
        for n in 0..1000 {
            if recall.find(b"SELECT column_of_many_letters, 7", (1, 1)).is_none() {
                looked_up += 1;
                recall.keep(b"SELECT column_of_many_letters, 7", (1, 1), &verdict);
            }
            let text = format!("SELECT column_of_many_letters_{n}x");
            recall.keep(text.as_bytes(), (1, 1), &verdict);
        }
        assert!((1..=5).contains(&looked_up), "now and then, for the cache's sake: {looked_up}");
        assert!(recall.places.iter().flatten().count() <= WAYS);
        assert!(recall.find(b"SELECT column_of_many_letters, 7", (2, 1)).is_none(), "another database");
        recall.clear();
        assert_eq!(recall.places.iter().flatten().count(), 0);
    }

    proptest! {
        /// Whatever the text is made of: one that is taken for another has its fingerprint.
        #[test]
        fn texts_that_are_alike_have_one_fingerprint(
            pieces in proptest::collection::vec("[ a-eE$.x'\"\\\\+*/;,()\\-:\n]{0,3}|/\\*|\\*/|--|e'|\\$a\\$|in \\(", 0..12),
            one in proptest::collection::vec("[0-9]{1,3}", 12),
            other in proptest::collection::vec("[0-9]{1,3}", 12),
        ) {
            let text = |numbers: &[String]| -> String {
                pieces.iter().zip(numbers).flat_map(|(piece, number)| [piece.as_str(), number]).collect()
            };
            let (one, other) = (text(&one), text(&other));
            if seen(&one).is_like(other.as_bytes()) {
                prop_assert_eq!(fingerprint(one.as_bytes()), fingerprint(other.as_bytes()), "{} / {}", one, other);
            }
        }
    }
}
