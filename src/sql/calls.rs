//! Finds, among the tokens of a statement, what may call a function: names before a bracket, operators, names of
//! types with checks, fields that are functions in disguise. Says what is unsafe on a replica and what the calls do
//! to the session.
//!
//! It looks at tokens and not at a tree, so it cannot miss a call in a clause that the parser reads differently from
//! PostgreSQL. The price is that a column list behind the name of an unsafe function counts as a call.

use super::catalog::{Catalog, FunctionClass};
use super::outcome::cut_detail;
use super::scan::{Token, TokenKind};
use super::verdict::{PinCause, Reason, SessionEffect};
use super::words::{Words, name_of, string_value};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The first thing that a replica cannot do, and its name.
    pub(super) found: Option<(Reason, String)>,
    /// The first such thing that planning runs into: calls of volatile functions and operators are not run by it.
    pub(super) found_planning: Option<(Reason, String)>,
    /// What the calls do to the session.
    pub(super) effects: Vec<SessionEffect>,
    /// It is nothing but settings, given as literals.
    pub(super) only_sets: bool,
    /// It runs code of the database's own.
    pub(super) own_code: bool,
    /// Another literal could have given another answer.
    pub(super) by_literal: bool,
    /// Tokens looked at in search of arguments.
    looked_at: usize,
}

/// Tokens that are looked at in search of arguments, for all calls of a statement together. A statement that the parser is
/// given never needs so many; in a larger one, calls inside of calls would cost the square of its length.
const LOOKED_AT_MAX: usize = 10_000_000;

/// Longest name, in parts, that is followed back to its beginning.
const NAME_PARTS_MAX: usize = 8;

/// Settings that mean the same on every node of a cluster: they come with the session, the role or the database, and
/// the proxy carries them along. Others may differ with each server's configuration file.
const SESSION_SETTINGS: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "extra_float_digits",
    "intervalstyle",
    "is_superuser",
    "role",
    "search_path",
    "server_encoding",
    "server_version",
    "server_version_num",
    "session_authorization",
    "standard_conforming_strings",
    "timezone",
    "transaction_isolation",
    "integer_datetimes",
    "lc_collate",
    "lc_ctype",
    "max_identifier_length",
    "block_size",
    "max_index_keys",
];

/// Whether a setting's value does not depend on the node. Names with a dot are the application's own.
pub(super) fn is_session_setting(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SESSION_SETTINGS.contains(&name.as_str()) || (name.contains('.') && !name.starts_with("primacy."))
}

/// Views and functions of the cumulative statistics that say who is there now, and not what was done.
const NO_COUNTERS: &[&str] = &[
    "pg_stat_activity",
    "pg_stat_gssapi",
    "pg_stat_replication",
    "pg_stat_replication_slots",
    "pg_stat_ssl",
    "pg_stat_subscription",
    "pg_stat_wal_receiver",
    "pg_stat_file",
    "pg_stat_get_activity",
    "pg_stat_get_wal_receiver",
    "pg_stat_get_wal_senders",
    "pg_stat_get_progress_info",
    "pg_stat_get_subscription",
];

/// Whether a name is that of counters of what was done on a node, the session's own doing included.
fn counts_activity(name: &str) -> bool {
    (name.starts_with("pg_stat_") || name.starts_with("pg_statio_"))
        && !name.starts_with("pg_stat_progress_")
        && !name.starts_with("pg_stat_get_backend_")
        && !NO_COUNTERS.contains(&name)
}

/// Looks at one statement.
pub(super) fn find(words: Words<'_>, catalog: &Catalog) -> Calls {
    let mut calls = Calls::default();
    if let Some(effects) = plain_set_config(words) {
        calls.note(Reason::SessionState, "set_config");
        calls.effects = effects;
        // The transaction's own modes are no settings that another transaction could be given later.
        calls.only_sets =
            words.source().is_some_and(|text| !text.to_ascii_lowercase().contains("transaction_"));
        calls.by_literal = true;
        return calls;
    }
    for (at, token) in words.tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Word | TokenKind::QuotedWord => calls.name(words, at, catalog),
            TokenKind::Operator => {
                let operator = String::from_utf8_lossy(token.bytes(words.text));
                calls.own_code |= catalog.operator_runs_own(&operator);
                if catalog.operator_unsafe(&operator) {
                    calls.note_call(Reason::VolatileFunction, &operator);
                }
            }
            _ => {}
        }
    }
    calls
}

impl Calls {
    fn note(&mut self, reason: Reason, detail: &str) {
        if self.found_planning.is_none() {
            self.found_planning = Some((reason, cut_detail(detail).to_string()));
        }
        self.found = self.found.take().or_else(|| self.found_planning.clone());
    }

    fn note_call(&mut self, reason: Reason, detail: &str) {
        if reason != Reason::VolatileFunction {
            return self.note(reason, detail);
        }
        self.found = self.found.take().or_else(|| Some((reason, cut_detail(detail).to_string())));
    }

    fn effect(&mut self, effect: SessionEffect) {
        if !self.effects.contains(&effect) {
            self.effects.push(effect);
        }
    }

    fn name(&mut self, words: Words<'_>, at: usize, catalog: &Catalog) {
        let (text, tokens) = (words.text, words.tokens);
        let is = |at: Option<usize>, byte: u8| {
            at.and_then(|at| tokens.get(at)).is_some_and(|t| t.kind == TokenKind::Punctuation(byte))
        };
        let Some(name) = tokens.get(at).and_then(|token| name_of(*token, text)) else { return };
        if counts_activity(&name) {
            self.effect(SessionEffect::LooksAtCounters);
        }
        let behind_dot = is(at.checked_sub(1), b'.');
        if !is(Some(at + 1), b'(') {
            self.own_code |= catalog.type_runs_own(&name) && may_be_type(words, at);
            self.own_code |= behind_dot && catalog.function(None, &name, 1).runs_own();
            let is_type = catalog.type_unsafe(&name) && may_be_type(words, at);
            if is_type || (behind_dot && catalog.field_unsafe(&name)) {
                self.note(Reason::VolatileFunction, &name);
            }
            return;
        }
        let qualifier = at.checked_sub(2).filter(|_| behind_dot).and_then(|at| tokens.get(at));
        let schema = qualifier.and_then(|token| name_of(*token, text));
        let Some(arguments) = Arguments::behind(words, at + 1, &mut self.looked_at) else {
            // What was not looked into may have done anything.
            self.own_code = true;
            self.note(Reason::TooLarge, &name);
            self.effect(SessionEffect::AsksSequences);
            self.effect(SessionEffect::Pin(PinCause::UnknownSetting));
            return;
        };
        if schema.as_deref().is_none_or(|schema| schema == "pg_catalog") {
            self.builtin(&name, &arguments);
        }
        // The columns of what is inserted into.
        let before = name_begins(words, at).checked_sub(1).and_then(|at| tokens.get(at));
        let class = if before.is_some_and(|token| token.bytes(text).eq_ignore_ascii_case(b"into")) {
            FunctionClass::default()
        } else {
            catalog.function(schema.as_deref(), &name, arguments.count())
        };
        self.own_code |= class.runs_own() || catalog.type_runs_own(&name) || catalog.is_new_function(&name);
        if let Some(reason) = class.reason() {
            self.note_call(reason, &name);
        }
        if class.asks_sequences() {
            self.effect(SessionEffect::AsksSequences);
        }
        if class.touches_statements() {
            self.effect(SessionEffect::TouchesStatements);
        }
        for cause in class.pins() {
            self.effect(SessionEffect::Pin(cause));
        }
        if catalog.type_unsafe(&name) {
            self.note(Reason::VolatileFunction, &name);
        }
    }

    /// The built-in functions that do something to the session, or whose arguments matter.
    fn builtin(&mut self, name: &str, arguments: &Arguments<'_>) {
        match name {
            "set_config" => {
                self.by_literal = true;
                self.note(Reason::SessionState, name);
                if !arguments.literal_true(2) {
                    self.effect(SessionEffect::Pin(PinCause::UnknownSetting));
                }
            }
            "setseed" => {
                self.note(Reason::SessionState, name);
                self.effect(SessionEffect::Pin(PinCause::UnknownSetting));
            }
            "currval" | "lastval" => {
                self.note(Reason::SessionState, name);
                self.effect(SessionEffect::AsksSequences);
            }
            "current_setting" => {
                self.by_literal = true;
                let setting = arguments.string(0);
                if !setting.as_deref().is_some_and(is_session_setting) {
                    self.note(Reason::NodeLocal, &setting.unwrap_or_else(|| name.to_owned()));
                }
            }
            "pg_advisory_lock"
            | "pg_advisory_lock_shared"
            | "pg_try_advisory_lock"
            | "pg_try_advisory_lock_shared" => {
                self.note(Reason::SessionState, name);
                self.effect(SessionEffect::Pin(PinCause::AdvisoryLock));
            }
            "pg_advisory_unlock_all" => {
                self.note(Reason::SessionState, name);
                self.effect(SessionEffect::Unpin(PinCause::AdvisoryLock));
            }
            // The number of times that a lock is held is not known here, so one unlock does not end the pin.
            "pg_advisory_unlock" | "pg_advisory_unlock_shared" => self.note(Reason::SessionState, name),
            _ => {}
        }
    }
}

/// Where the name begins that ends at `at`.
fn name_begins(words: Words<'_>, at: usize) -> usize {
    let dotted = |start: usize| {
        words.tokens.get(start - 1).is_some_and(|token| token.kind == TokenKind::Punctuation(b'.'))
    };
    let mut start = at;
    for _ in 0..NAME_PARTS_MAX {
        if start >= 2 && dotted(start) {
            start -= 2;
        }
    }
    start
}

/// Words behind which an expression begins, and not a type's name.
const BEFORE_EXPRESSIONS: &[&str] = &[
    "select", "distinct", "all", "where", "and", "or", "not", "by", "on", "having", "when", "then", "else",
    "case", "in", "is", "like", "ilike", "to", "between", "limit", "offset", "from", "join", "any", "some",
    "escape", "end",
];

/// Whether the name that ends at `at` stands where a type can: behind `::` or AS, behind a column's name in a column
/// definition, or before a literal. Columns are often called like the domain that they are of.
fn may_be_type(words: Words<'_>, at: usize) -> bool {
    let token = |at: Option<usize>| at.and_then(|at| words.tokens.get(at));
    let start = name_begins(words, at);
    let literal =
        token(Some(at + 1)).is_some_and(|t| matches!(t.kind, TokenKind::String | TokenKind::OtherString));
    let before = token(start.checked_sub(1));
    literal
        || before.is_some_and(|before| match before.kind {
            TokenKind::Operator => before.bytes(words.text) == b"::",
            TokenKind::QuotedWord => true,
            TokenKind::Word => {
                let word = before.bytes(words.text).to_ascii_lowercase();
                !BEFORE_EXPRESSIONS.iter().any(|known| known.as_bytes() == word)
            }
            _ => false,
        })
}

/// The arguments of one call, cut at its commas.
struct Arguments<'t> {
    text: &'t [u8],
    list: Vec<&'t [Token]>,
}

impl<'t> Arguments<'t> {
    /// The arguments behind the bracket at `open`; those beyond the first hundred do not matter (PostgreSQL's limit).
    /// `None`: too much has been looked at already.
    fn behind(words: Words<'t>, open: usize, looked_at: &mut usize) -> Option<Self> {
        const ARGUMENTS_MAX: usize = 101;
        let (mut list, mut start, mut depth) = (Vec::new(), open + 1, 0_usize);
        for (at, token) in words.tokens.iter().enumerate().skip(open + 1) {
            *looked_at += 1;
            if *looked_at > LOOKED_AT_MAX {
                return None;
            }
            let end = match token.kind {
                TokenKind::Punctuation(b'(' | b'[') => {
                    depth += 1;
                    continue;
                }
                TokenKind::Punctuation(b')' | b']') if depth > 0 => {
                    depth -= 1;
                    continue;
                }
                TokenKind::Punctuation(b')') => true,
                TokenKind::Punctuation(b',') if depth == 0 => false,
                _ => continue,
            };
            let argument = words.tokens.get(start..at).unwrap_or_default();
            if !(end && list.is_empty() && argument.is_empty()) {
                list.push(argument);
            }
            start = at + 1;
            if end || list.len() >= ARGUMENTS_MAX {
                break;
            }
        }
        Some(Self { text: words.text, list })
    }

    fn count(&self) -> usize {
        self.list.len()
    }

    /// The value of an argument that is one plain string, with or without a cast behind it.
    fn string(&self, at: usize) -> Option<String> {
        match self.list.get(at)? {
            [only] => string_value(*only, self.text),
            [value, cast, name] if cast.bytes(self.text) == b"::" && name.kind == TokenKind::Word => {
                string_value(*value, self.text)
            }
            _ => None,
        }
    }

    fn literal_bool(&self, at: usize) -> Option<bool> {
        let [only] = self.list.get(at)? else { return None };
        let word = only.bytes(self.text).to_ascii_lowercase();
        match word.as_slice() {
            b"true" | b"'t'" | b"'true'" | b"'on'" | b"'1'" | b"'yes'" => Some(true),
            b"false" | b"'f'" | b"'false'" | b"'off'" | b"'0'" | b"'no'" => Some(false),
            _ => None,
        }
    }

    fn literal_true(&self, at: usize) -> bool {
        self.literal_bool(at) == Some(true)
    }

    /// The arguments as they stand in the text.
    fn source(&self, at: usize) -> Option<&'t str> {
        let argument = self.list.get(at)?;
        Words::new(self.text, argument).source()
    }
}

/// `SELECT set_config('name', 'value', false), ...` and nothing else: the one form whose effect is exactly known,
/// because it is run once. `None` for everything else.
fn plain_set_config(words: Words<'_>) -> Option<Vec<SessionEffect>> {
    let mut words = words;
    if !words.eat("select") {
        return None;
    }
    let (mut effects, mut looked_at) = (Vec::new(), 0);
    loop {
        words.eat_all(&["pg_catalog"]);
        words.eat_punctuation(b'.');
        if !words.eat("set_config") {
            return None;
        }
        let rest = words.rest();
        let arguments = Arguments::behind(rest, 0, &mut looked_at)?;
        let (name, value) = (arguments.string(0)?.to_ascii_lowercase(), arguments.string(1)?);
        let local = arguments.literal_bool(2)?;
        if arguments.count() != 3 || !words.eat_punctuation(b'(') {
            return None;
        }
        while !words.eat_punctuation(b')') {
            words.advance()?;
        }
        if !local {
            effects.extend(set_config_effects(&name, &value, &arguments)?);
        }
        if words.eat("as") {
            words.name()?;
        }
        if words.at_end() {
            return Some(effects);
        }
        if !words.eat_punctuation(b',') {
            return None;
        }
    }
}

fn set_config_effects(name: &str, value: &str, arguments: &Arguments<'_>) -> Option<Vec<SessionEffect>> {
    // Its own function and not SET: a list such as a search path is one string here.
    let sql =
        format!("SELECT pg_catalog.set_config({}, {}, false)", arguments.source(0)?, arguments.source(1)?);
    if name == "session_authorization" {
        return Some(vec![SessionEffect::Pin(PinCause::SessionAuthorization)]);
    }
    let set = super::utility::set_effect(name, &sql);
    // Tables made on a search path that begins with pg_temp are temporary without saying so.
    let temporary = value.contains("pg_temp").then_some(SessionEffect::Pin(PinCause::TemporaryTable));
    Some(std::iter::once(set).chain(temporary).collect())
}
