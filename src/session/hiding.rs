//! Look-ups in the catalog from a session with temporary relations: which of them give the same on a replica.
//!
//! Replicas have the same rows of the catalog, but no temporary schema on their search path. So what is given by number or name,
//! is permanent, and is made of nothing temporary, is called the same there unless something temporary hides something
//! permanent: then one says `t` and the other `public.t`. That nothing does is shown by the facts, which know the names of
//! all that is permanent; that nothing permanent is made of temporary things (a column of a table's type, the default of
//! one) by what the session has defined since it has any. One definition that may have to do with both, or code that may have
//! run some, and look-ups stay where they are until the temporary relations are gone together.

use rustc_hash::FxHashSet;

use super::temporary::Temporary;
use crate::sql::catalog::may_be_of;
use crate::sql::{self, Catalog, Kind, Place, Reason, SessionEffect, Shows, Verdict};

/// What is known of the temporary relations of a session besides their names.
#[derive(Debug, Default)]
pub(super) struct Hiding {
    /// Names of their indexes and the like, where these do not follow from theirs.
    names: FxHashSet<Vec<u8>>,
    /// Something permanent may be made of something temporary, or have been given such a name.
    entangled: bool,
}

impl Hiding {
    /// Something runs that is not looked at.
    pub(super) fn unseen(&mut self) {
        self.entangled = true;
    }
}

/// What the statements of a batch define, noted when they are judged: what of it fails has been noted needlessly.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    /// Something permanent may be made of something temporary from now on, or the other way round.
    entangled: bool,
    /// Names of temporary indexes and the like that do not follow from their table's.
    names: Vec<Vec<u8>>,
    /// The text that was looked at last.
    last: Option<Box<[u8]>>,
}

/// Behind these words stands a name that a definition gives to something that is no table.
const BEFORE_NAMES: [&str; 5] = ["constraint", "index", "to", "name", "exists"];

/// Words that may stand between.
const BETWEEN: [&str; 5] = ["concurrently", "if", "not", "exists", "on"];

impl Definitions {
    /// Something runs that was not looked at.
    pub(super) fn unseen(&mut self) {
        self.entangled = true;
    }

    /// Notes what a text may define, in a session of these temporary relations.
    pub(super) fn note(&mut self, text: &[u8], verdict: &Verdict, tied: bool, own: &Temporary) {
        let makes = verdict.effects.iter().any(|effect| matches!(effect, SessionEffect::Temporary(_)));
        if keeps_apart(text, verdict) || !(tied || makes || verdict.statements > 1 || self.last.is_some()) {
            if !keeps_apart(text, verdict) {
                self.last = Some(text.into());
            }
            return;
        }
        // What an earlier statement of the batch makes has not been noted yet.
        self.entangled |= self.last.as_deref().is_some_and(|last| last != text);
        self.last = Some(text.into());
        let defines = verdict.statements == 1
            && !verdict.own_code
            && verdict.reason == Reason::Write
            && matches!(verdict.detail.as_deref(), Some("create" | "alter" | "into"));
        if !defines {
            self.entangled |= tied || makes;
            return;
        }
        let words: Vec<Vec<u8>> = sql::all_words(text).map(<[u8]>::to_ascii_lowercase).collect();
        if makes || changes_own(&words, own) {
            self.names.extend(given_names(&words));
        } else {
            self.entangled |= words.iter().any(|word| own.may_meet(word));
        }
    }
}

impl Temporary {
    /// Takes in what a batch defines.
    pub(super) fn define(&mut self, definitions: Definitions) {
        self.hiding.entangled |= definitions.entangled || self.hiding.names.len() > OTHERS_MAX;
        if !self.hiding.entangled {
            self.hiding.names.extend(definitions.names);
        }
    }

    /// Whether a look-up gives on a replica what it gives here: nothing that it may show or look up has to do with a temporary
    /// relation, or is hidden by one.
    pub(super) fn leaves_alone(&self, text: &[u8], verdict: &Verdict, catalog: &Catalog) -> bool {
        let Shows::Given { children, .. } = verdict.shows else { return false };
        let entangled = self.hiding.entangled || (children && self.inherits);
        !entangled
            && catalog.is_as_loaded()
            && sql::gives_only(
                text,
                verdict.shows,
                |number| catalog.is_permanent(number),
                |word| self.all().any(|own| may_be_of(word, own)),
            )
            && !self.all().any(|own| catalog.may_be_hidden_by(own))
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().chain(&self.hiding.names).map(Vec::as_slice)
    }

    /// Whether what goes with a relation of this name may be called like something temporary.
    fn may_meet(&self, word: &[u8]) -> bool {
        self.all().any(|own| may_be_of(word, own) || may_be_of(own, word))
    }
}

/// Names that were given, noted before everything is taken to be entangled.
const OTHERS_MAX: usize = 1_000;

/// Whether a statement neither defines anything nor runs what may.
fn keeps_apart(text: &[u8], verdict: &Verdict) -> bool {
    const HARMLESS: [&str; 17] = [
        "insert",
        "update",
        "delete",
        "merge",
        "drop",
        "truncate",
        "analyze",
        "vacuum",
        "comment",
        "grant",
        "revoke",
        "copy",
        "notify",
        "reindex",
        "cluster",
        "refresh",
        "checkpoint",
    ];
    const BUILT_IN: [&str; 5] = ["nextval", "setval", "currval", "lastval", "setseed"];
    let detail = verdict.detail.as_deref().unwrap_or_default();
    match verdict.kind {
        _ if verdict.place == Place::Anywhere => true,
        _ if verdict.own_code => false,
        Kind::Several | Kind::Block => false,
        Kind::Plain => match verdict.reason {
            Reason::Write => HARMLESS.contains(&detail),
            Reason::VolatileFunction => detail.starts_with("pg_") || BUILT_IN.contains(&detail),
            Reason::SessionState => {
                sql::all_words(text).next().is_some_and(|first| !first.eq_ignore_ascii_case(b"execute"))
            }
            Reason::UnknownRelation
            | Reason::UnreadableRelation
            | Reason::NodeLocal
            | Reason::Locks
            | Reason::WritingCte => true,
            _ => false,
        },
        _ => true,
    }
}

/// Whether it is a temporary relation that is altered or gets an index.
fn changes_own(words: &[Vec<u8>], own: &Temporary) -> bool {
    let mut words = words.iter().map(Vec::as_slice);
    let index = match words.next() {
        Some(b"create") => words.find(|word| *word != b"unique") == Some(b"index"),
        Some(b"alter") if words.next() == Some(b"table") => false,
        _ => return false,
    };
    let target = if index {
        words.find(|word| *word == b"on").and_then(|_| words.find(|word| *word != b"only"))
    } else {
        words.find(|word| ![b"if".as_slice(), b"exists", b"only"].contains(word))
    };
    target.is_some_and(|target| own.names.contains(target))
}

/// The names that a definition may give to what goes with a table.
fn given_names(words: &[Vec<u8>]) -> impl Iterator<Item = Vec<u8>> {
    let is_one_of = |word: &[u8], list: &[&str]| list.iter().any(|one| one.as_bytes() == word);
    let starts =
        (0..words.len()).filter(move |at| words.get(*at).is_some_and(|w| is_one_of(w, &BEFORE_NAMES)));
    starts.filter_map(move |at| {
        let behind = words.get(at + 1..).unwrap_or_default();
        behind.iter().find(|word| !is_one_of(word, &BETWEEN)).cloned()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sql::{CatalogBuilder, Classifier, Settings};

    /// Whether these statements, in a session that has a temporary table `mine`, entangle; and the names that they give.
    fn noted(statements: &[&str]) -> (bool, Vec<String>) {
        let mut facts = CatalogBuilder::new(1, 1);
        facts.add(["f", "public", "runs", "0", "255", "vo"]).unwrap();
        facts.add(["f", "pg_catalog", "nextval", "0", "255", "v"]).unwrap();
        facts.add(["r", "public", "kept", "0", "0", "s"]).unwrap();
        let (mut own, facts) = (Temporary::default(), facts.finish());
        own.add(&Arc::from("mine"));
        let mut definitions = Definitions::default();
        for text in statements {
            let verdict = Classifier::new(&Settings::default()).classify(text.as_bytes(), &facts);
            definitions.note(text.as_bytes(), &verdict, true, &own);
        }
        own.define(definitions);
        let mut names: Vec<String> =
            own.hiding.names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.sort();
        (own.hiding.entangled, names)
    }

    #[test]
    fn what_may_make_one_of_the_other_is_noted() {
        for statements in [
            &["CREATE TABLE x (a mine)"][..],
            &["CREATE TABLE x (a mine[], b _mine)"],
            &["CREATE TABLE x (a int DEFAULT nextval('mine_id_seq'))"],
            &["CREATE TABLE x AS SELECT m FROM mine m"],
            &["SELECT m INTO x FROM mine m"],
            &["CREATE VIEW x AS SELECT NULL::mine"],
            &["CREATE FUNCTION x() RETURNS mine LANGUAGE sql AS 'SELECT NULL'"],
            &["CREATE POLICY x ON kept USING (EXISTS (SELECT FROM mine))"],
            &["CREATE INDEX mine_pkey ON kept (v)"],
            &["CREATE INDEX x ON kept ((v::mine))"],
            &["ALTER TABLE kept ADD COLUMN a mine"],
            &["ALTER TABLE kept RENAME TO mine"],
            &["ALTER INDEX mine_pkey RENAME TO kept"],
            &["CREATE TABLE x (a int); SELECT 1"],
            &["CREATE TABLE x (a int)", "CREATE TABLE y (a int)"],
            &["SELECT runs()"],
            &["INSERT INTO kept SELECT runs()"],
            &["DO $$ BEGIN PERFORM 1; END $$"],
            &["CALL anything()"],
            &["SELECT anything()"],
            &["EXECUTE anything"],
        ] {
            assert!(noted(statements).0, "{statements:?}");
        }
    }

    #[test]
    fn what_keeps_them_apart_is_let_be() {
        for (statement, names) in [
            ("CREATE TABLE x (a int)", &[][..]),
            ("CREATE TABLE min (a int)", &[]),
            ("CREATE INDEX x ON kept (v)", &[]),
            ("INSERT INTO kept SELECT v FROM mine", &[]),
            ("SELECT nextval('s')", &[]),
            ("DROP TABLE mine", &[]),
            ("ANALYZE mine", &[]),
            ("SET search_path = public", &[]),
            ("BEGIN", &[]),
            ("CREATE TEMP TABLE other (a mine)", &[]),
            ("CREATE TEMP TABLE other (a int CONSTRAINT one UNIQUE)", &["one"]),
            ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS one ON ONLY mine (v)", &["one"]),
            ("ALTER TABLE IF EXISTS mine ADD CONSTRAINT one UNIQUE (v)", &["mine", "one"]),
            ("ALTER TABLE mine RENAME CONSTRAINT one TO two", &["one", "two"]),
        ] {
            assert_eq!(
                noted(&[statement]),
                (false, names.iter().map(|n| (*n).to_owned()).collect()),
                "{statement}"
            );
        }
    }
}
