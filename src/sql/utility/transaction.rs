//! BEGIN, COMMIT, ROLLBACK, savepoints, and the modes of a transaction.

use std::sync::Arc;

use super::super::outcome::Outcome;
use super::super::verdict::{BeginMode, Kind, Reason};
use super::super::words::Words;

/// Judges the statement whose keyword stands before `words`. `None`: it goes on as none does.
pub(super) fn recognise(keyword: &str, mut words: Words<'_>) -> Option<Outcome> {
    let kind = match keyword {
        "start" => {
            if !words.eat("transaction") {
                return None;
            }
            Kind::Begin(modes(&mut words)?)
        }
        "begin" => {
            words.eat_any(&["work", "transaction"]);
            Kind::Begin(modes(&mut words)?)
        }
        "commit" | "rollback" if words.eat("prepared") => {
            return Some(Outcome::primary(Reason::Write).with_detail("two-phase commit"));
        }
        "commit" | "end" => Kind::Commit { chain: chain(&mut words)? },
        "savepoint" => Kind::Savepoint(last_name(&mut words)?),
        "release" => {
            eat_savepoint_word(&mut words);
            Kind::Release(last_name(&mut words)?)
        }
        _ => rollback(&mut words)?,
    };
    let again = matches!(kind, Kind::Savepoint(_) | Kind::Release(_) | Kind::RollbackTo(_));
    let outcome = words.at_end().then(|| Outcome::session(kind))?;
    Some(if again { outcome.again() } else { outcome })
}

fn rollback(words: &mut Words<'_>) -> Option<Kind> {
    words.eat_any(&["work", "transaction"]);
    if words.eat("to") {
        eat_savepoint_word(words);
        return Some(Kind::RollbackTo(last_name(words)?));
    }
    Some(Kind::Rollback { chain: chain(words)? })
}

/// SAVEPOINT before the name is optional, and a savepoint may be called "savepoint".
fn eat_savepoint_word(words: &mut Words<'_>) {
    let mut ahead = *words;
    if ahead.eat("savepoint") && !ahead.at_end() {
        *words = ahead;
    }
}

fn last_name(words: &mut Words<'_>) -> Option<Arc<str>> {
    words.name().map(Arc::from)
}

/// `[WORK | TRANSACTION] [AND [NO] CHAIN]`.
fn chain(words: &mut Words<'_>) -> Option<bool> {
    words.eat_any(&["work", "transaction"]);
    if words.at_end() || words.eat_all(&["and", "no", "chain"]) {
        return Some(false);
    }
    words.eat_all(&["and", "chain"]).then_some(true)
}

/// The modes up to the end of the statement; where one is given twice the last one counts, as in PostgreSQL.
pub(super) fn modes(words: &mut Words<'_>) -> Option<BeginMode> {
    let mut mode = BeginMode::default();
    while !words.at_end() {
        if words.eat_all(&["isolation", "level"]) {
            mode.isolation_given = true;
            mode.serializable = isolation(words)?;
        } else if words.eat_all(&["read", "only"]) {
            mode.read_only = Some(true);
        } else if words.eat_all(&["read", "write"]) {
            mode.read_only = Some(false);
        } else if words.eat_all(&["not", "deferrable"]) {
            mode.deferrable = false;
        } else if words.eat("deferrable") {
            mode.deferrable = true;
        } else {
            return None;
        }
        if words.eat_punctuation(b',') && words.at_end() {
            return None;
        }
    }
    Some(mode)
}

/// Whether the level is SERIALIZABLE.
fn isolation(words: &mut Words<'_>) -> Option<bool> {
    if words.eat("serializable") {
        return Some(true);
    }
    let others = [["repeatable", "read"], ["read", "committed"], ["read", "uncommitted"]];
    others.iter().any(|level| words.eat_all(level)).then_some(false)
}
