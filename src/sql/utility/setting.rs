//! SET, RESET and SHOW.

use std::sync::Arc;

use super::super::calls::is_session_setting;
use super::super::outcome::Outcome;
use super::super::scan::TokenKind;
use super::super::verdict::{BeginMode, Kind, Moving, PinCause, SessionEffect};
use super::super::words::{Words, string_value};
use super::{set_effect, transaction};

/// Settings that last as long as the transaction: `SET transaction_read_only = on` is SET TRANSACTION READ ONLY.
const TRANSACTION_SETTINGS: [&str; 3] =
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

/// Judges SET; `whole` is the statement, `words` stands behind its keyword.
pub(super) fn set(whole: Words<'_>, mut words: Words<'_>) -> Option<Outcome> {
    if words.eat_all(&["session", "characteristics", "as", "transaction"]) {
        return characteristics(&mut words);
    }
    let local = words.eat("local");
    if !local && words.sees("session") {
        let mut ahead = words;
        ahead.advance();
        // `SET SESSION x = 1`; what follows SESSION may be AUTHORIZATION, which is looked at below.
        if !ahead.sees("authorization") {
            words = ahead;
        }
    }
    let outcome = if words.eat("transaction") {
        if words.sees("snapshot") {
            return Some(Outcome::session(Kind::Plain));
        }
        return Some(Outcome::session(Kind::SetTransaction(transaction::modes(&mut words)?)));
    } else if words.eat("constraints") {
        return Some(Outcome::session(Kind::Plain));
    } else if words.eat_all(&["session", "authorization"]) {
        return Some(session_authorization(whole, &mut words, local));
    } else {
        assignment(whole, &mut words)?
    };
    let mut outcome = outcome;
    if local {
        outcome.effects.clear();
    }
    // Tables made on a search path that begins with pg_temp are temporary without saying so.
    if whole.source().is_none_or(|text| text.to_ascii_lowercase().contains("pg_temp")) {
        outcome = Outcome { moving: Moving::Never, ..outcome.pinned(PinCause::TemporaryTable) };
    }
    Some(outcome)
}

/// A setting like any other, except that it takes the role back too. For one transaction it is another matter: what
/// becomes of the role at its end is not known here.
fn session_authorization(whole: Words<'_>, words: &mut Words<'_>, local: bool) -> Outcome {
    let outcome = Outcome::session(Kind::Plain);
    if local {
        return outcome.pinned(PinCause::SessionAuthorization);
    }
    if words.sees("default") {
        return reset_session_authorization();
    }
    let effect = whole.source().map_or(SessionEffect::Pin(PinCause::SessionAuthorization), |sql| {
        set_effect("session_authorization", sql)
    });
    outcome.with_effect(SessionEffect::Reset(Arc::from("role"))).with_effect(effect)
}

fn reset_session_authorization() -> Outcome {
    Outcome::session(Kind::Plain)
        .with_effect(SessionEffect::Reset(Arc::from("role")))
        .with_effect(SessionEffect::Reset(Arc::from("session_authorization")))
}

/// `name TO value` and the forms with a syntax of their own.
fn assignment(whole: Words<'_>, words: &mut Words<'_>) -> Option<Outcome> {
    let name = if words.eat_all(&["time", "zone"]) {
        if words.sees("local") {
            return Some(reset_of("timezone"));
        }
        "timezone".to_owned()
    } else if words.eat_all(&["xml", "option"]) {
        "xmloption".to_owned()
    } else if let Some(name) = own_syntax(words) {
        name
    } else {
        let name = setting_name(words)?;
        if !(words.eat("to") || words.eat_operator("=")) {
            return None;
        }
        name
    };
    if let Some(own) = name.strip_prefix("primacy.") {
        let value = if words.sees("default") { None } else { Some(Arc::from(value(words)?)) };
        return Some(Outcome::session(Kind::SetPrimacy(Arc::from(own), value)));
    }
    if TRANSACTION_SETTINGS.contains(&name.as_str()) {
        return Some(Outcome::session(Kind::SetTransaction(transaction_setting(&name, words)?)));
    }
    if words.sees("default") || (name == "client_encoding" && words.at_end()) {
        return Some(reset_of(&name).again());
    }
    if words.at_end() {
        return None;
    }
    if name == "seed" {
        // Random numbers go on from it: setting it again elsewhere would begin anew.
        return Some(Outcome::session(Kind::Plain).pinned(PinCause::UnknownSetting));
    }
    if name == "session_authorization" {
        return Some(Outcome::session(Kind::Plain).pinned(PinCause::SessionAuthorization));
    }
    let effect =
        whole.source().map_or(SessionEffect::Pin(PinCause::UnknownSetting), |sql| set_effect(&name, sql));
    let outcome = Outcome::session(Kind::Plain).with_effect(effect);
    // The seed is used up by what follows it.
    Some(if name == "seed" { outcome } else { outcome.again() })
}

/// `SET NAMES v`, `SET ROLE v`, `SET SCHEMA v`, `SET SEED v`: without TO or `=`, which would make them plain names.
fn own_syntax(words: &mut Words<'_>) -> Option<String> {
    let mut ahead = *words;
    let keyword = ahead.name()?;
    let name = match keyword.as_str() {
        "names" => "client_encoding",
        "role" => "role",
        "schema" => "search_path",
        "seed" => "seed",
        _ => return None,
    };
    let mut value = ahead;
    let plain = value.eat("to") || value.eat_operator("=") || value.eat_punctuation(b'.');
    if plain || (ahead.at_end() && keyword != "names") {
        return None;
    }
    *words = ahead;
    Some(name.to_owned())
}

/// A setting's name in lower case; letters' case never matters in one, not even within quotes.
fn setting_name(words: &mut Words<'_>) -> Option<String> {
    let mut name = words.name()?;
    while words.eat_punctuation(b'.') {
        name.push('.');
        name.push_str(&words.name()?);
    }
    name.make_ascii_lowercase();
    Some(name)
}

/// The value as a person means it: a string without its quotes, anything else as it stands.
fn value(words: &mut Words<'_>) -> Option<String> {
    let rest = words.rest();
    match rest.tokens {
        [only] if only.kind == TokenKind::String => string_value(*only, rest.text),
        [] => None,
        _ => rest.source().map(str::to_owned),
    }
}

fn transaction_setting(name: &str, words: &mut Words<'_>) -> Option<BeginMode> {
    let value = value(words)?.to_ascii_lowercase();
    let on = || match value.as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Some(true),
        "off" | "false" | "no" | "0" | "f" | "n" => Some(false),
        _ => None,
    };
    let mut mode = BeginMode::default();
    match name {
        "transaction_read_only" => mode.read_only = Some(on()?),
        "transaction_deferrable" => mode.deferrable = on()?,
        _ => {
            mode.isolation_given = true;
            mode.serializable = value == "serializable";
        }
    }
    Some(mode)
}

/// `SET SESSION CHARACTERISTICS AS TRANSACTION ...`: the settings `default_transaction_*`, one effect each.
fn characteristics(words: &mut Words<'_>) -> Option<Outcome> {
    let start = words.rest();
    let mode = transaction::modes(words)?;
    let mut outcome = Outcome::session(Kind::Plain);
    let mut set = |name: &str, modes: &str| {
        let sql = format!("SET SESSION CHARACTERISTICS AS TRANSACTION {modes}");
        outcome.effects.push(set_effect(name, &sql));
    };
    if mode.isolation_given {
        set("default_transaction_isolation", &format!("ISOLATION LEVEL {}", last_isolation(start)?));
    }
    if let Some(read_only) = mode.read_only {
        set("default_transaction_read_only", if read_only { "READ ONLY" } else { "READ WRITE" });
    }
    if start.mentions("deferrable") {
        set("default_transaction_deferrable", if mode.deferrable { "DEFERRABLE" } else { "NOT DEFERRABLE" });
    }
    Some(outcome)
}

fn last_isolation(mut words: Words<'_>) -> Option<&'static str> {
    let mut level = None;
    while !words.at_end() {
        if words.eat("serializable") {
            level = Some("SERIALIZABLE");
        } else if words.eat("repeatable") {
            level = Some("REPEATABLE READ");
        } else if words.eat("committed") {
            level = Some("READ COMMITTED");
        } else if words.eat("uncommitted") {
            level = Some("READ UNCOMMITTED");
        } else {
            words.advance();
        }
    }
    level
}

fn reset_of(name: &str) -> Outcome {
    Outcome::session(Kind::Plain).with_effect(SessionEffect::Reset(Arc::from(name)))
}

/// Judges RESET.
pub(super) fn reset(mut words: Words<'_>) -> Option<Outcome> {
    let outcome = Outcome::session(Kind::Plain);
    if words.eat("all") {
        return Some(outcome.with_effect(SessionEffect::ResetAll));
    }
    if words.eat_all(&["session", "authorization"]) {
        return Some(reset_session_authorization());
    }
    if words.eat_all(&["transaction", "isolation", "level"]) {
        return Some(outcome);
    }
    if words.eat_all(&["time", "zone"]) {
        return Some(reset_of("timezone"));
    }
    let name = setting_name(&mut words)?;
    match name.strip_prefix("primacy.") {
        Some(own) => Some(Outcome::session(Kind::SetPrimacy(Arc::from(own), None))),
        None if name == "session_authorization" => Some(reset_session_authorization()),
        None => Some(reset_of(&name)),
    }
}

/// Judges SHOW: a setting that the session brings along is the same everywhere, others belong to one server.
pub(super) fn show(mut words: Words<'_>) -> Option<Outcome> {
    let name = if words.eat_all(&["time", "zone"]) {
        "timezone".to_owned()
    } else if words.eat_all(&["transaction", "isolation", "level"]) {
        "transaction_isolation".to_owned()
    } else if words.eat_all(&["session", "authorization"]) {
        "session_authorization".to_owned()
    } else {
        setting_name(&mut words)?
    };
    if let Some(own) = name.strip_prefix("primacy.") {
        return Some(Outcome::session(Kind::ShowPrimacy(Arc::from(own))));
    }
    if is_session_setting(&name) {
        return Some(Outcome::read());
    }
    Some(Outcome::primary(super::super::verdict::Reason::NodeLocal).with_detail(&name))
}
