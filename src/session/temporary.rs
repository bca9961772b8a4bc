//! Temporary objects: which names mean something in this session only, and which statements must therefore run where
//! the session is tied to.
//!
//! A temporary relation hides a permanent one of its name. A read that mentions no such name, and calls nothing whose
//! own text might, reads the same on a replica, tied session or not. Names are looked for everywhere in the text, in
//! strings too ('name'::regclass), and whatever might look a name up that is put together elsewhere (a parameter, a
//! concatenation) or ask the catalog what a name means stays with the session. A name goes only when its relation was dropped
//! outside of a transaction, or one that it is a part of: one too many costs a read on the primary, one too few would be an
//! answer from the wrong table.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashSet;
use rustc_hash::FxBuildHasher;

use super::effects::is_doubtful;
use super::hiding::Hiding;
use super::machine::{Machine, Tx};
use super::pins::Pins;
use super::plan::Plan;
use crate::sql::{self, Catalog, Change, Kind, PinCause, Place, Reason, SessionEffect, Verdict};

/// Names told one from the other; with more of them everything is tied.
const NAMES_MAX: usize = 1_000;

/// Longer names are cut: what they stand for is not looked for.
const NAME_BYTES_MAX: usize = 63;

/// Causes that do not change what a read gives that mentions nothing of theirs. Locks and notifications are no such
/// causes: who holds one, or got one, wants to see what others did before.
const LEAVABLE: [PinCause; 4] =
    [PinCause::TemporaryTable, PinCause::HoldCursor, PinCause::SqlPrepare, PinCause::Sequence];

/// The temporary relations of a session.
#[derive(Debug, Default)]
pub(super) struct Temporary {
    /// In lower case, whatever they are.
    pub(super) names: HashSet<Vec<u8>, FxBuildHasher>,
    /// Which goes with which when that is dropped: part and whole, while nothing was done that may have parted them.
    parts: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) hiding: Hiding,
    /// Permanent relations may have temporary children, and so show more than they are.
    pub(super) inherits: bool,
    /// There may be others.
    unknown: bool,
    /// Two of them may stand under one name.
    mixed: bool,
}

impl Temporary {
    pub(super) fn add(&mut self, name: &Arc<str>) {
        let mut words = sql::all_words(name.as_bytes());
        // What is no word would not be found as one.
        self.unknown |= words.next().map(<[u8]>::len) != Some(name.len()) || self.names.len() >= NAMES_MAX;
        let folded = name.to_ascii_lowercase();
        self.mixed |= *folded != **name;
        // What had this name before, and was undone perhaps, was a part of something else.
        self.parts.retain(|(part, _)| *part != *folded.as_bytes());
        self.names.insert(folded.into_bytes());
    }

    /// Notes the names that an executed statement gave to temporary relations. `tied`: there have been some before.
    fn note(&mut self, verdict: &Verdict, mut tied: bool) {
        let (mut named, mut made) = (0, 0);
        let mut wholes: Vec<&Arc<str>> = Vec::new();
        if !leaves_together(verdict) {
            self.parts.clear();
        }
        for effect in &verdict.effects {
            match effect {
                SessionEffect::Temporary(name) => {
                    self.add(name);
                    named += 1;
                    let part = name.to_ascii_lowercase().into_bytes();
                    let whole = |whole: &Arc<str>| whole.to_ascii_lowercase().into_bytes();
                    self.parts.extend(wholes.drain(..).map(|of| (part.clone(), whole(of))));
                    self.parts.truncate(NAMES_MAX);
                }
                // A permanent parent has parents of its own, whose names are not known.
                SessionEffect::TemporaryChildOf(parent) => {
                    let own = self.names.contains(parent.to_ascii_lowercase().as_bytes());
                    self.inherits |= !own;
                }
                SessionEffect::TemporaryPartOf(whole) => wholes.push(whole),
                SessionEffect::Pin(PinCause::TemporaryTable) => {
                    made += 1;
                    tied = true;
                }
                SessionEffect::MayBeTemporary(name) if tied => self.add(name),
                SessionEffect::MayShowTemporary(relation) if tied => {
                    let own = |name: &Arc<str>| self.names.contains(name.to_ascii_lowercase().as_bytes());
                    self.unknown |= relation.is_none();
                    self.inherits |= relation.as_ref().is_some_and(own);
                }
                SessionEffect::Ddl(Change::Anything) if tied => self.unknown = true,
                // What code makes is not known; a statement that defines something has said what it may be.
                SessionEffect::Ddl(Change::Relations) if tied && !defines(verdict) => self.unknown = true,
                _ => {}
            }
        }
        self.unknown |= made > named;
    }

    /// Whether none is left after this one was dropped, and what is known to go with it.
    fn remove(&mut self, name: &str) -> bool {
        if self.mixed || !self.names.remove(name.as_bytes()) {
            return false;
        }
        let mut gone = vec![name.as_bytes().to_vec()];
        while let Some(whole) = gone.pop() {
            self.parts.retain(|(part, of)| {
                let goes = *of == whole && self.names.remove(part);
                if goes {
                    gone.push(part.clone());
                }
                !goes && *part != whole
            });
        }
        self.names.is_empty() && !self.unknown && !self.inherits
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether what the statement gives may depend on them.
    fn concern(&self, text: &[u8], verdict: &Verdict, catalog: &Catalog) -> bool {
        let mut word = Vec::new();
        let mut may_depend = || {
            sql::all_words(text).any(|found| {
                word.clear();
                word.extend(found.iter().map(u8::to_ascii_lowercase));
                word.len() > NAME_BYTES_MAX || sql::looks_names_up(&word) || self.names.contains(&word)
            })
        };
        self.unknown
            || verdict.own_code
            || ((self.inherits || may_depend()) && !self.leaves_alone(text, verdict, catalog))
    }
}

impl Machine {
    /// Notes the names that an executed statement gave to temporary relations.
    pub(super) fn note_temporary(&mut self, verdict: &Verdict) {
        self.temporary.note(verdict, self.pins.contains(PinCause::TemporaryTable));
    }

    /// What was dropped outside of a transaction block stays so; the last temporary relation no longer ties the session.
    pub(super) fn drop_temporaries(&mut self, executed: &[Rc<Verdict>]) {
        if !self.pins.contains(PinCause::TemporaryTable) || is_doubtful(executed) {
            return;
        }
        for effect in executed.iter().flat_map(|verdict| verdict.effects.iter()) {
            if let SessionEffect::Dropped(name) = effect
                && self.temporary.remove(name)
            {
                self.temporary.clear();
                self.pins.remove(PinCause::TemporaryTable);
            }
        }
    }

    /// Notes what a statement of the batch needs of the connection that the session is tied to.
    pub(super) fn note_tied(&self, text: &[u8], verdict: &Verdict, catalog: &Catalog, plan: &mut Plan) {
        let tied = self.pins.contains(PinCause::TemporaryTable);
        plan.definitions.note(text, verdict, tied, &self.temporary);
        if !plan.tied && tied {
            plan.tied = self.temporary.concern(text, verdict, catalog);
        }
    }

    /// Whether a batch may run on a replica although the session is tied to a connection, which waits meanwhile.
    pub(super) fn may_leave(&self, plan: &Plan) -> bool {
        plan.place == Place::Anywhere
            && !plan.tied
            && !self.watches_counters
            && plan.reads
            && self.tx == Tx::None
            && self.relay.is_idle()
            && only(self.pins, &LEAVABLE)
    }

    /// Whether the batch in flight runs beside the connection that the session is tied to.
    pub fn set_beside(&mut self, beside: bool) {
        self.beside = beside;
    }
}

/// Whether it is one statement that creates or alters something.
fn defines(verdict: &Verdict) -> bool {
    verdict.reason == Reason::Write && matches!(verdict.detail.as_deref(), Some("create" | "alter"))
}

/// Whether a statement leaves parts and wholes as they were: none that alters a relation, and none that runs what is not
/// known.
fn leaves_together(verdict: &Verdict) -> bool {
    const HARMLESS: [&str; 6] = ["create", "drop", "insert", "update", "delete", "merge"];
    match verdict.kind {
        _ if verdict.own_code => false,
        Kind::Several | Kind::Block => verdict.place == Place::Anywhere,
        // The session's own relations are not among the facts.
        Kind::Plain => match verdict.reason {
            Reason::Write => verdict.detail.as_deref().is_some_and(|detail| HARMLESS.contains(&detail)),
            Reason::UnknownRelation => true,
            _ => verdict.place == Place::Anywhere,
        },
        _ => true,
    }
}

fn only(pins: Pins, causes: &[PinCause]) -> bool {
    !pins.is_empty() && pins.iter().all(|cause| causes.contains(&cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{CatalogBuilder, Classifier, Settings};

    /// The names after these statements, each outside of a transaction; none where the session is free.
    fn left_after(statements: &[&str]) -> Option<Vec<String>> {
        let mut classifier = Classifier::new(&Settings::default());
        let mut facts = CatalogBuilder::new(1, 1);
        facts.add(["f", "public", "own", "0", "255", "vo"]).unwrap();
        let facts = facts.finish();
        let (mut temporary, mut tied) = (Temporary::default(), false);
        for text in statements {
            let verdict = classifier.classify(text.as_bytes(), &facts);
            temporary.note(&verdict, tied);
            tied |= verdict.effects.contains(&SessionEffect::Pin(PinCause::TemporaryTable));
            for effect in &verdict.effects {
                if let SessionEffect::Dropped(name) = effect {
                    tied &= !temporary.remove(name);
                }
            }
        }
        let mut names: Vec<String> =
            temporary.names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.sort();
        tied.then_some(names)
    }

    const WHOLE: &str = "CREATE TEMP TABLE p (a int, b int) PARTITION BY LIST (a)";
    const PART: &str = "CREATE TEMP TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (b)";
    const PART_OF_PART: &str = "CREATE TEMP TABLE p11 PARTITION OF pg_temp.p1 DEFAULT";
    const NOT_EXISTS: &str = "CREATE TEMP TABLE IF NOT EXISTS p1 PARTITION OF p DEFAULT";

    #[test]
    fn what_is_dropped_takes_its_parts_along() {
        let gone: &[&[&str]] = &[
            &["CREATE TEMP TABLE t (a int)", "DROP TABLE t"],
            &[WHOLE, PART, "DROP TABLE p"],
            &[
                WHOLE,
                PART,
                "INSERT INTO p VALUES (1, 1)",
                "CREATE INDEX ON p (a)",
                "SELECT * FROM p",
                "DROP TABLE p",
            ],
            &[WHOLE, PART, "CREATE TEMP TABLE p11 PARTITION OF p1 DEFAULT", "DROP TABLE p"],
            &["CREATE TEMP TABLE p (a int)", "CREATE TEMP TABLE c () INHERITS (p)", "DROP TABLE p CASCADE"],
            &[WHOLE, "CREATE TEMP TABLE q (a int)", PART, "DROP TABLE q, p"],
        ];
        for statements in gone {
            assert_eq!(left_after(statements), None, "{statements:?}");
        }
    }

    #[test]
    fn what_may_have_been_parted_stays() {
        let left: &[(&[&str], &[&str])] = &[
            (&[WHOLE, PART, "DROP TABLE p1"], &["p"]),
            (&[WHOLE, PART, "ALTER TABLE p DETACH PARTITION p1", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, "ALTER TABLE p1 RENAME TO x", "DROP TABLE p"], &["p1", "x"]),
            (&[WHOLE, PART, "DO $$ BEGIN PERFORM 1; END $$", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, "CALL anything()", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, "SELECT anything()", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, "SELECT own() FROM p", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, "INSERT INTO p SELECT own(), 2", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, "CREATE TABLE x AS SELECT own()", "DROP TABLE x, p"], &["p1"]),
            (&[WHOLE, PART, "EXECUTE anything", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, "ALTER TABLE p DETACH PARTITION p1; SELECT 1", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, "CREATE TEMP TABLE p1 (a int)", NOT_EXISTS, "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, "CREATE TEMP TABLE p1 (a int)", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, "DROP TABLE public.p"], &["p", "p1"]),
            (&[WHOLE, PART, "DROP TABLE p1", "CREATE TEMP TABLE p1 (a int)", "DROP TABLE p"], &["p1"]),
            (&[WHOLE, PART, PART_OF_PART, "DROP TABLE p"], &["p11"]),
            (&["CREATE TEMP TABLE c () INHERITS (permanent)", "DROP TABLE permanent CASCADE"], &["c"]),
            (
                &[
                    "CREATE TEMP TABLE p (a int)",
                    "CREATE TEMP TABLE \"P1\" () INHERITS (p)",
                    "DROP TABLE p CASCADE",
                ],
                &["p", "p1"],
            ),
        ];
        for (statements, names) in left {
            assert_eq!(left_after(statements).unwrap_or_default(), *names, "{statements:?}");
        }
    }
}
