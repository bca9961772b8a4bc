//! Statements that change the catalog.

use super::super::outcome::Outcome;
use super::super::verdict::{PinCause, Reason, SessionEffect};
use super::super::words::Words;

/// Judges the statement whose keyword stands before `words`.
pub(super) fn recognise(keyword: &str, mut words: Words<'_>) -> Outcome {
    let outcome = Outcome::primary(Reason::Write).with_detail(keyword);
    match keyword {
        "create" => {
            words.eat_all(&["or", "replace"]);
            words.eat_any(&["local", "global"]);
            // A temporary object belongs to the session; the facts that others are routed by do not change.
            if words.sees_any(&["temp", "temporary"]) || words.mentions("pg_temp") {
                outcome.pinned(PinCause::TemporaryTable)
            } else {
                outcome.with_effect(SessionEffect::Ddl)
            }
        }
        "comment" | "security" => outcome,
        "alter" if words.sees("system") => outcome,
        _ => outcome.with_effect(SessionEffect::Ddl),
    }
}
