//! Statements that change the catalog.

use std::sync::Arc;

use super::super::outcome::Outcome;
use super::super::verdict::{PinCause, Reason, SessionEffect};
use super::super::words::Words;
use super::scope::{self, Known};

/// Judges the statement whose keyword stands before `words`.
pub(super) fn recognise(keyword: &str, mut words: Words<'_>, known: &Known<'_>) -> Outcome {
    let changes = scope::changes(keyword, words, known).into_iter().map(SessionEffect::Ddl);
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
            let name = temporary_name(words).map(SessionEffect::Temporary);
            return name.into_iter().fold(outcome.pinned(PinCause::TemporaryTable), Outcome::with_effect);
        }
    }
    outcome.effects.extend(changes);
    outcome
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
