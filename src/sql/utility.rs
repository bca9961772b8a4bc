//! Utility statements, recognised by their leading keywords from the tokens alone.
//!
//! What a statement does to its session or transaction must never be missed, so this does not depend on what the
//! parser understands. A statement that begins like one of these and goes on as no version of PostgreSQL allows is
//! refused by PostgreSQL; it goes to the primary without an effect.

mod definition;
pub(super) mod scope;
pub(super) mod session;
mod setting;
mod transaction;

use std::sync::Arc;

use super::catalog::Change;
use super::outcome::Outcome;
use super::verdict::{PinCause, Reason, SessionEffect};
use super::words::Words;
use scope::Known;

/// A statement that sets something is kept for replay on other connections up to this length; a longer one pins.
const SET_SQL_BYTES_MAX: usize = 4_096;

/// Judges a utility statement; `keyword` is its first word in lower case. `None`: no statement begins so.
pub(super) fn recognise(keyword: &str, words: Words<'_>, known: &Known<'_>) -> Option<Outcome> {
    let mut behind = words;
    behind.advance();
    let outcome = match keyword {
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            transaction::recognise(keyword, behind)
        }
        "set" => setting::set(words, behind),
        "reset" => setting::reset(behind),
        "show" => setting::show(behind),
        "prepare" | "execute" | "deallocate" | "listen" | "unlisten" | "load" | "discard" | "declare"
        | "fetch" | "move" | "close" | "do" | "call" | "lock" => session::recognise(keyword, behind),
        "create" | "alter" | "drop" | "grant" | "revoke" | "import" | "comment" | "security" | "reassign" => {
            Some(definition::recognise(keyword, behind, known))
        }
        "analyze" | "analyse" | "checkpoint" | "cluster" | "notify" | "refresh" | "reindex" | "truncate"
        | "vacuum" | "repack" => Some(Outcome::primary(Reason::Write).with_detail(keyword)),
        _ => return None,
    };
    let mut outcome = outcome.unwrap_or_else(|| Outcome::primary(Reason::Unparsed).with_detail(keyword));
    // What is set is a literal, and so may be the body of a code block.
    outcome.by_literal |= matches!(keyword, "set" | "do");
    Some(outcome)
}

/// The effect of a statement that sets `name`.
pub(super) fn set_effect(name: &str, sql: &str) -> SessionEffect {
    if sql.len() > SET_SQL_BYTES_MAX {
        return SessionEffect::Pin(PinCause::UnknownSetting);
    }
    SessionEffect::Set { name: Arc::from(name), sql: Arc::from(sql) }
}

/// What an effect holds on the heap.
pub(super) fn effect_bytes(effect: &SessionEffect) -> usize {
    let heap = match effect {
        SessionEffect::Set { name, sql } => name.len() + sql.len(),
        SessionEffect::Reset(name)
        | SessionEffect::PrepareSql(name)
        | SessionEffect::Deallocate(name)
        | SessionEffect::Dropped(name)
        | SessionEffect::Temporary(name)
        | SessionEffect::TemporaryChildOf(name)
        | SessionEffect::TemporaryPartOf(name)
        | SessionEffect::MayBeTemporary(name)
        | SessionEffect::MayShowTemporary(Some(name))
        | SessionEffect::Ddl(
            Change::New(_, name)
            | Change::Readable(name)
            | Change::View(name)
            | Change::Function(name, _)
            | Change::Replaced(_, name),
        ) => name.len(),
        _ => 0,
    };
    size_of::<SessionEffect>() + heap
}
