//! What a statement is, remembered by its text: the classifier's word, with the catalog facts of the moment.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::model::Consistency;
use crate::proxy::catalog::Facts;
use crate::sql::{self, Catalog, Classifier, Hint, Place, Reason};

/// Texts that are remembered; beyond it all are forgotten.
const TEXTS_MAX: usize = 1000;

/// Longer texts are judged each time.
const TEXT_LEN_MAX: usize = 8 * 1024;

/// What counts of a verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) place: Place,
    pub(super) reason: Reason,
    pub(super) hint: Option<Hint>,
    pub(super) consistency: Option<Consistency>,
    pub(super) controls_transactions: bool,
}

impl Judged {
    /// A read.
    pub(super) const READ: Self = Self {
        place: Place::Anywhere,
        reason: Reason::Read,
        hint: None,
        consistency: None,
        controls_transactions: false,
    };

    /// Whether it may run on a replica.
    pub(super) fn anywhere(self) -> bool {
        self.hint.map_or(self.place == Place::Anywhere, |hint| hint == Hint::Replica)
    }
}

/// Judges texts of one database.
#[derive(Debug)]
pub(super) struct Judge {
    facts: Arc<Facts>,
    known: Mutex<Known>,
}

/// Judgements, and the facts that they rest on.
#[derive(Debug, Default)]
struct Known {
    catalog: Option<Arc<Catalog>>,
    texts: HashMap<Box<str>, Judged>,
    /// Refused by a replica once; whatever the facts say.
    writes: HashMap<Box<str>, ()>,
}

impl Judge {
    pub(super) fn new(facts: Arc<Facts>) -> Self {
        Self { facts, known: Mutex::default() }
    }

    /// What this text is.
    pub(super) fn judge(&self, text: &str) -> Judged {
        let catalog = Arc::clone(&self.facts.load());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.catalog.as_ref().is_some_and(|of| Arc::ptr_eq(of, &catalog)) {
            known.texts.clear();
            known.catalog = Some(Arc::clone(&catalog));
        }
        if let Some(judged) = known.texts.get(text) {
            return *judged;
        }
        let verdict = Classifier::new(&sql::Settings::default()).classify(text.as_bytes(), &catalog);
        let mut judged = Judged {
            place: verdict.place,
            reason: verdict.reason,
            hint: verdict.hint,
            consistency: verdict.consistency,
            controls_transactions: verdict.kind.controls_transactions(),
        };
        if known.writes.contains_key(text) {
            (judged.place, judged.reason) = (Place::Primary, Reason::Learned);
        }
        if text.len() <= TEXT_LEN_MAX {
            if known.texts.len() >= TEXTS_MAX {
                known.texts.clear();
            }
            known.texts.insert(text.into(), judged);
        }
        judged
    }

    /// A replica refused it: from now on it is the primary's.
    pub(super) fn learn_primary(&self, text: &str) -> Judged {
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.writes.len() >= TEXTS_MAX {
                known.writes.clear();
            }
            known.writes.insert(text.into(), ());
            known.texts.clear();
        }
        Judged { hint: None, place: Place::Primary, reason: Reason::Learned, ..self.judge(text) }
    }
}
