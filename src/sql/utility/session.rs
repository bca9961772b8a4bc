//! Statements about what lives in a session: prepared statements, notifications, cursors, code blocks, locks.

use std::sync::Arc;

use super::super::catalog::Change;
use super::super::outcome::Outcome;
use super::super::scan::{Scanner, Token, TokenKind};
use super::super::verdict::{Kind, PinCause, Reason, SessionEffect};
use super::super::words::Words;

/// Views and functions that show what a session has prepared and opened.
pub(in crate::sql) const STATEMENT_LISTS: [&str; 4] =
    ["pg_prepared_statements", "pg_prepared_statement", "pg_cursors", "pg_cursor"];

/// Judges the statement whose keyword stands before `words`. `None`: it goes on as none does.
pub(super) fn recognise(keyword: &str, mut words: Words<'_>) -> Option<Outcome> {
    let plain = Outcome::session(Kind::Plain);
    Some(match keyword {
        "prepare" if words.sees("transaction") => {
            words.advance();
            // `PREPARE transaction AS ...` prepares a statement of that name.
            let string =
                words.peek().is_some_and(|t| matches!(t.kind, TokenKind::String | TokenKind::OtherString));
            if string { Outcome::session(Kind::PrepareTransaction) } else { prepared("transaction") }
        }
        "prepare" => prepared(&words.name()?),
        "deallocate" => deallocate(&mut words)?,
        "listen" => match words.name().filter(|_| words.at_end()) {
            Some(channel) => plain.with_effect(SessionEffect::Listen(Arc::from(channel))),
            None => plain.pinned(PinCause::Listen),
        },
        "unlisten" if words.eat_operator("*") => plain.with_effect(SessionEffect::Unpin(PinCause::Listen)),
        "unlisten" => match words.name() {
            Some(channel) => plain.with_effect(SessionEffect::Unlisten(Arc::from(channel))),
            None => plain,
        },
        "load" => plain.pinned(PinCause::Load),
        "discard" => discard(&mut words)?,
        "declare" if hold(words) => plain.pinned(PinCause::HoldCursor),
        "close" if words.eat("all") => plain.with_effect(SessionEffect::Unpin(PinCause::HoldCursor)),
        "do" => code_block(words),
        "call" => Outcome::primary(Reason::VolatileFunction).with_detail("call"),
        "lock" => Outcome::primary(Reason::Locks).with_detail("lock"),
        _ => plain,
    })
}

fn prepared(name: &str) -> Outcome {
    Outcome::session(Kind::Plain).with_effect(SessionEffect::PrepareSql(Arc::from(name)))
}

fn deallocate(words: &mut Words<'_>) -> Option<Outcome> {
    let mut ahead = *words;
    if ahead.eat("prepare") && !ahead.at_end() {
        *words = ahead;
    }
    let effect = if words.eat("all") {
        SessionEffect::DeallocateAll
    } else {
        SessionEffect::Deallocate(Arc::from(words.name()?))
    };
    Some(Outcome::session(Kind::Plain).with_effect(effect))
}

fn discard(words: &mut Words<'_>) -> Option<Outcome> {
    let outcome = Outcome::session(Kind::Plain);
    if words.eat("all") {
        return Some(outcome.with_effect(SessionEffect::DiscardAll));
    }
    if words.eat_any(&["temp", "temporary"]) {
        return Some(outcome.with_effect(SessionEffect::DiscardTemp));
    }
    if words.eat("sequences") {
        return Some(outcome.with_effect(SessionEffect::DiscardSequences));
    }
    words.eat("plans").then_some(outcome)
}

/// WITH HOLD stands before FOR.
fn hold(mut words: Words<'_>) -> bool {
    while !words.at_end() && !words.sees("for") {
        if words.eat_all(&["with", "hold"]) {
            return true;
        }
        words.advance();
    }
    false
}

/// DO: its body is read for what it may leave in the session. Code that it builds as a string (EXECUTE) or calls in
/// functions is not seen.
fn code_block(words: Words<'_>) -> Outcome {
    let mut outcome = Outcome::primary(Reason::VolatileFunction).with_detail("do");
    for token in words.tokens {
        if matches!(token.kind, TokenKind::String | TokenKind::OtherString) {
            body_effects(token.bytes(words.text), &mut outcome.effects);
        }
    }
    outcome
}

pub(super) fn body_effects(literal: &[u8], effects: &mut Vec<SessionEffect>) {
    let body = unquoted(literal);
    let tokens: Vec<Token> = Scanner::new(body).collect();
    let words = Words::new(body, &tokens);
    let mut note = |effect: SessionEffect| {
        if !effects.contains(&effect) {
            effects.push(effect);
        }
    };
    for at in 0..tokens.len() {
        let mut here = Words::new(body, tokens.get(at..).unwrap_or_default());
        let first = at == 0
            || tokens.get(at - 1).is_some_and(|t| {
                t.kind == TokenKind::Semicolon
                    || [&b"begin"[..], b"then", b"else", b"loop"]
                        .iter()
                        .any(|word| t.bytes(body).eq_ignore_ascii_case(word))
            });
        if here.sees_any(&["temp", "temporary", "pg_temp"]) {
            note(SessionEffect::Pin(PinCause::TemporaryTable));
        } else if here.sees_any(&["set_config", "setseed"])
            || (first && here.eat("set") && !here.sees("local"))
        {
            note(SessionEffect::Pin(PinCause::UnknownSetting));
        } else if here.sees_any(&["currval", "lastval"]) {
            note(SessionEffect::AsksSequences);
        } else if here.sees("deallocate") || here.sees_any(&STATEMENT_LISTS) {
            note(SessionEffect::TouchesStatements);
        } else if first && here.sees("listen") {
            note(SessionEffect::Pin(PinCause::Listen));
        } else if first && here.sees("load") {
            note(SessionEffect::Pin(PinCause::Load));
        } else if first
            && here.eat_any(&["create", "alter", "drop", "execute"])
            && !here.sees_any(&["temp", "temporary"])
        {
            // What it is of, is not read from here: of the database's own objects nothing is known.
            note(SessionEffect::Ddl(Change::OwnCode));
            note(SessionEffect::Ddl(Change::Relations));
        }
    }
    let locks = [
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
    ];
    if locks.iter().any(|lock| words.mentions(lock)) {
        note(SessionEffect::Pin(PinCause::AdvisoryLock));
    }
}

/// The inside of a dollar-quoted or plain string.
fn unquoted(literal: &[u8]) -> &[u8] {
    let delimiter = match literal.first() {
        Some(b'$') => literal.iter().skip(1).position(|&b| b == b'$').map_or(0, |at| at + 2),
        Some(b'\'') => 1,
        _ => 2,
    };
    let end = literal.len().saturating_sub(if literal.first() == Some(&b'$') { delimiter } else { 1 });
    literal.get(delimiter..end).unwrap_or_default()
}
