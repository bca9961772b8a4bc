//! Statements that change the catalog.

use std::sync::Arc;

use super::super::catalog::{Change, Object};
use super::super::outcome::Outcome;
use super::super::verdict::{PinCause, Reason, SessionEffect};
use super::super::words::Words;
use super::scope::{self, Known};

/// Judges the statement whose keyword stands before `words`.
pub(super) fn recognise(keyword: &str, mut words: Words<'_>, known: &Known<'_>) -> Outcome {
    let changes = scope::changes(keyword, words, known);
    let mut outcome = Outcome::primary(Reason::Write).with_detail(keyword);
    if words.mentions("currval") || words.mentions("lastval") {
        // In the default of a column, for example: rows that this session inserts will ask.
        outcome = outcome.with_effect(SessionEffect::AsksSequences);
    }
    if keyword == "create" {
        words.eat_all(&["or", "replace"]);
        words.eat_any(&["local", "global"]);
        // A temporary object belongs to the session; the facts that others are routed by do not change.
        if words.sees_any(&["temp", "temporary"]) || words.mentions("pg_temp") {
            if drops_on_commit(words) {
                return outcome.with_effect(SessionEffect::PassingTemporary);
            }
            let name = temporary_name(words).map(SessionEffect::Temporary);
            let children = inherited(words).into_iter().map(SessionEffect::TemporaryChildOf);
            let parts = wholes(words).into_iter().map(SessionEffect::TemporaryPartOf);
            let effects = children.chain(parts).chain(name);
            return effects.fold(outcome.pinned(PinCause::TemporaryTable), Outcome::with_effect);
        }
    }
    if keyword == "drop" {
        outcome.effects.extend(dropped(words).into_iter().map(SessionEffect::Dropped));
    } else {
        outcome.effects.extend(temporary_perhaps(keyword, words, &changes));
    }
    outcome.effects.extend(changes.into_iter().map(SessionEffect::Ddl));
    outcome
}

/// What a definition that does not say so may have to do with temporary relations: a view of one is temporary, and a new name
/// may be that of one. Tables, sequences and materialized views that are not said to be temporary are not.
fn temporary_perhaps(keyword: &str, mut words: Words<'_>, changes: &[Change]) -> Vec<SessionEffect> {
    let creates = keyword == "create";
    if creates && words.sees("rule") && words.mentions("select") {
        // It makes a table a view.
        return vec![SessionEffect::MayShowTemporary(None)];
    }
    words.eat_any(&["unlogged", "foreign"]);
    if creates && words.sees_any(&["table", "sequence", "materialized"]) {
        return Vec::new();
    }
    let named = |change: &Change| match change {
        Change::New(Object::Relation, name)
        | Change::Replaced(Object::Relation, name)
        | Change::View(name) => Some(SessionEffect::MayBeTemporary(Arc::clone(name))),
        _ => None,
    };
    let mut effects: Vec<SessionEffect> = changes.iter().filter_map(named).collect();
    if !creates && words.eat("table") && words.mentions("inherit") {
        words.eat_all(&["if", "exists"]);
        words.eat("only");
        // A temporary child of a permanent table.
        let own = words.qualified_name().and_then(|mut parts| parts.pop());
        effects.push(SessionEffect::MayShowTemporary(own.map(Arc::from)));
    }
    effects
}

/// Whether what is made goes with its transaction. What inherits from it, or it from, does not change that.
fn drops_on_commit(words: Words<'_>) -> bool {
    (0..words.tokens.len()).any(|at| {
        let tail = words.tokens.get(at..).unwrap_or_default();
        Words::new(words.text, tail).eat_all(&["on", "commit", "drop"])
    })
}

/// The names of relations that DROP names without a schema, or in that of temporary ones: there these go first.
fn dropped(mut words: Words<'_>) -> Vec<Arc<str>> {
    let mut names = Vec::new();
    if words.eat_any(&["table", "view", "sequence"]) {
        words.eat_all(&["if", "exists"]);
        while let Some(parts) = words.qualified_name() {
            match parts.as_slice() {
                [name] => names.push(Arc::from(name.as_str())),
                [schema, name] if schema == "pg_temp" => names.push(Arc::from(name.as_str())),
                _ => {}
            }
            if !words.eat_punctuation(b',') {
                break;
            }
        }
    }
    names
}

/// The tables behind INHERITS, with their schemas.
fn inherited(mut words: Words<'_>) -> Vec<Arc<str>> {
    while !words.at_end() && !words.eat("inherits") {
        words.advance();
    }
    let mut parents = Vec::new();
    if words.eat_punctuation(b'(') {
        while let Some(parts) = words.qualified_name() {
            parents.push(Arc::from(parts.join(".")));
            if !words.eat_punctuation(b',') {
                break;
            }
        }
    }
    parents
}

/// The tables with which a new temporary one goes: dropping a table drops its partitions, and its children or nothing. None
/// where the table may have been there before, as something else.
fn wholes(mut words: Words<'_>) -> Vec<Arc<str>> {
    words.eat_any(&["temp", "temporary"]);
    if !words.eat("table") || words.sees("if") {
        return Vec::new();
    }
    let mut wholes = inherited(words);
    words.qualified_name();
    if words.eat_all(&["partition", "of"]) {
        wholes.extend(words.qualified_name().map(|parts| Arc::from(parts.join("."))));
    }
    wholes
}

/// The name of what `CREATE TEMP ...` or `CREATE ... pg_temp.name` makes.
fn temporary_name(mut words: Words<'_>) -> Option<Arc<str>> {
    words.eat_any(&["temp", "temporary"]);
    words.eat("recursive");
    if !words.eat_any(&["table", "view", "sequence"]) {
        return None;
    }
    words.eat_all(&["if", "not", "exists"]);
    words.qualified_name()?.pop().map(Arc::from)
}
