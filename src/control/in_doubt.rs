//! Commits in doubt: transactions whose COMMIT was sent and whose answer may never come.
//!
//! The data path enters a transaction id before its COMMIT goes out and leaves it when the answer is there. In a
//! failover every id that is still entered is asked for on the candidate *before* it is promoted (later the ids are
//! used again and the answer would lie). The answers are shown once the new epoch is published: had the attempt been
//! given up, another candidate might have answered differently.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::model::Epoch;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is committed on the new primary.
    Committed,
    /// It is not there and never will be.
    Aborted,
    /// PostgreSQL itself cannot know any more.
    Unknown,
}

impl Fate {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
        }
    }

    /// From `pg_xact_status` on a standby that is about to be promoted: what is still in progress there will never end.
    pub(crate) fn from_status(word: &str) -> Self {
        match word {
            "committed" => Self::Committed,
            "aborted" | "in progress" | "never arrived" => Self::Aborted,
            _ => Self::Unknown,
        }
    }
}

/// The transactions in doubt of one proxy. Bounded by the number of server connections, each of which commits one
/// transaction at a time.
#[derive(Clone, Debug, Default)]
pub struct InDoubt(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    next: u64,
    entries: HashMap<u64, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    xid: u64,
    answer: Option<(Epoch, Fate)>,
}

impl InDoubt {
    /// Enters a transaction (`pg_current_xact_id_if_assigned()`); call before its COMMIT is sent, keep the doubt until
    /// the answer is there.
    pub fn enter(&self, xid: u64) -> Doubt {
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        book.entries.insert(number, Entry { xid, answer: None });
        Doubt { book: self.clone(), number }
    }

    /// How many are entered.
    pub fn len(&self) -> usize {
        self.book().entries.len()
    }

    /// Whether none is entered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Actuator only: the transaction ids that are entered now.
    pub(crate) fn asked(&self) -> Vec<u64> {
        self.book().entries.values().map(|entry| entry.xid).collect()
    }

    /// Actuator only: what a candidate of `epoch` says. Replaces what a candidate of an earlier attempt said.
    pub(crate) fn answer(&self, epoch: Epoch, fates: &[(u64, Fate)]) {
        let fates: HashMap<u64, Fate> = fates.iter().copied().collect();
        for entry in self.book().entries.values_mut() {
            if let Some(fate) = fates.get(&entry.xid) {
                entry.answer = Some((epoch, *fate));
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One transaction in doubt; dropping it says that its answer has come.
#[derive(Debug)]
pub struct Doubt {
    book: InDoubt,
    number: u64,
}

impl Doubt {
    /// What became of it, by the candidate that became the primary of `epoch`: pass the epoch of a snapshot that is
    /// published. `Unknown` where that one was not asked (it was entered too late, or another made the promotion).
    pub fn fate(&self, epoch: Epoch) -> Fate {
        let book = self.book.book();
        match book.entries.get(&self.number).and_then(|entry| entry.answer) {
            Some((of, fate)) if of == epoch => fate,
            _ => Fate::Unknown,
        }
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        self.book.book().entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_the_epoch_that_asked() {
        let doubts = InDoubt::default();
        let doubt = doubts.enter(700);
        let late = doubts.enter(701);
        assert_eq!(doubts.asked().len(), 2);
        doubts.answer(Epoch(2), &[(700, Fate::Aborted)]);
        doubts.answer(Epoch(3), &[(700, Fate::Committed)]);
        assert_eq!(doubt.fate(Epoch(2)), Fate::Unknown, "the attempt of epoch 2 was given up");
        assert_eq!(doubt.fate(Epoch(3)), Fate::Committed);
        assert_eq!(late.fate(Epoch(3)), Fate::Unknown);
        drop((doubt, late));
        assert!(doubts.is_empty());
    }

    #[test]
    fn what_had_not_ended_on_the_candidate_never_happened() {
        assert_eq!(Fate::from_status("committed"), Fate::Committed);
        for word in ["aborted", "in progress", "never arrived"] {
            assert_eq!(Fate::from_status(word), Fate::Aborted);
        }
        assert_eq!(Fate::from_status("too old"), Fate::Unknown);
    }
}
