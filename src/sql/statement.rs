//! From a text to its verdict: cut into statements, each dispatched on its leading keyword, put together.

use super::calls;
use super::catalog::Catalog;
use super::moment;
use super::outcome::Outcome;
use super::query;
use super::scan::{Scanner, Token, TokenKind};
use super::settings::Settings;
use super::utility::{self, scope::Known};
use super::verdict::{Alone, Kind, Moving, PinCause, Place, Reason, SessionEffect, Shows, Verdict};
use super::words::Words;

/// EXPLAIN and COPY wrap another statement; PostgreSQL's grammar nests them at most this deep.
const WRAPPERS_MAX: u32 = 2;

/// A verdict, and whether it holds for this text's literals only.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) by_literal: bool,
}

/// What a statement is judged by, besides its tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'c> {
    pub(super) catalog: &'c Catalog,
    /// Set where the text must not be parsed: it is too large, or its bytes or literals have two readings.
    pub(super) unparsable: Option<(Reason, &'static str)>,
    /// It is planned and not run: what it calls that is volatile is not called, and planning calls nothing else.
    pub(super) planned: bool,
}

/// Tokens of a text that are kept, whatever else it is: each takes more memory than the byte that it may come from.
const TOKENS_KEPT_MAX: usize = 1_000_000;

/// Judges a whole text.
pub(super) fn judge(text: &[u8], catalog: &Catalog, settings: &Settings) -> Judgement {
    let mut scanner = Scanner::new(text);
    let tokens: Vec<Token> = scanner.by_ref().take(TOKENS_KEPT_MAX).collect();
    let (hint, consistency) = (scanner.hint(), scanner.consistency());
    let broken = tokens.last().is_some_and(|token| token.kind == TokenKind::Broken);
    let outcomes = if tokens.len() == TOKENS_KEPT_MAX {
        // What is not looked at may do anything to the session.
        let unseen = Outcome::primary(Reason::TooLarge).with_detail("more tokens than are looked at");
        let unseen = unseen.with_effect(SessionEffect::AsksSequences).pinned(PinCause::UnknownSetting);
        vec![Outcome { own_code: true, ..unseen }]
    } else if broken {
        // PostgreSQL refuses the whole text before it runs any of it, so nothing in it has an effect.
        vec![Outcome::primary(Reason::Unparsed).with_detail("unterminated literal or comment")]
    } else {
        let unparsable = unparsable(text, &tokens, scanner.doubtful(), settings);
        let context = Context { catalog, unparsable, planned: false };
        split(text, &tokens).into_iter().map(|words| judge_statement(words, &context, 0)).collect()
    };
    let by_literal = outcomes.iter().any(|outcome| outcome.by_literal);
    let mut verdict = Verdict { hint, consistency, ..combine(outcomes) };
    let words = Words::new(text, &tokens);
    verdict.shows_statements = shows_statements(words, &verdict);
    verdict.either_protocol = verdict.alone != Alone::Unknown
        && !verdict.shows_statements
        && !scanner.doubtful()
        && !catalog.answers_by_rules()
        && !words.mentions_name("pg_settings");
    if scanner.doubtful() {
        // What is set may be another value than the one read here.
        for effect in verdict.effects.iter_mut().filter(|effect| matches!(effect, SessionEffect::Set { .. }))
        {
            *effect = SessionEffect::Pin(PinCause::UnknownSetting);
        }
    }
    Judgement { verdict, by_literal }
}

/// Whether it may show what the session has prepared and opened: by name, by a view of the database's own (which is known to
/// differ from node to node), in code of its own, or in a statement that was prepared before.
fn shows_statements(words: Words<'_>, verdict: &Verdict) -> bool {
    let builtin = |detail: &str| detail.starts_with("pg_") || detail.starts_with("inet_");
    let view = verdict.reason == Reason::NodeLocal
        && !words.sees("show")
        && !verdict.detail.as_deref().is_some_and(builtin);
    view || verdict.effects.contains(&SessionEffect::TouchesStatements)
        || words.mentions("execute")
        || utility::session::STATEMENT_LISTS.iter().any(|name| words.mentions_name(name))
}

/// Most joins that the parser is given. It recurses from each into the next where no condition stands between, and counts that
/// for no limit: some hundreds end the program. Whether one stands there is not seen without parsing (`AS on`).
const JOINS_MAX: usize = 64;

fn unparsable(
    text: &[u8],
    tokens: &[Token],
    doubtful: bool,
    settings: &Settings,
) -> Option<(Reason, &'static str)> {
    if std::str::from_utf8(text).is_err() {
        return Some((Reason::Unparsed, "not UTF-8"));
    }
    if doubtful {
        return Some((Reason::Unparsed, "a backslash before a quote depends on standard_conforming_strings"));
    }
    if tokens.iter().any(|token| token.kind == TokenKind::EscapedWord) {
        return Some((Reason::Unparsed, "identifier with Unicode escapes"));
    }
    if text.len() > settings.text_bytes_max {
        return Some((Reason::TooLarge, "longer than the parser is given"));
    }
    if tokens.len() > settings.tokens_max {
        return Some((Reason::TooLarge, "more tokens than the parser is given"));
    }
    if depth(tokens) > settings.depth_max {
        return Some((Reason::TooLarge, "deeper than the parser is given"));
    }
    let words = Words::new(text, tokens);
    if words.count("join") > JOINS_MAX {
        return Some((Reason::TooLarge, "more joins than the parser is given"));
    }
    None
}

fn depth(tokens: &[Token]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for token in tokens {
        match token.kind {
            TokenKind::Punctuation(b'(' | b'[') => now += 1,
            TokenKind::Punctuation(b')' | b']') => now = now.saturating_sub(1),
            _ => {}
        }
        most = most.max(now);
    }
    most
}

fn combine(outcomes: Vec<Outcome>) -> Verdict {
    let statements = u32::try_from(outcomes.len()).unwrap_or(u32::MAX);
    let own_code = outcomes.iter().any(|outcome| outcome.own_code);
    let verdict = |place, reason, kind, detail, effects: Vec<_>| Verdict {
        place,
        reason,
        detail,
        kind,
        hint: None,
        consistency: None,
        moving: Moving::Never,
        alone: Alone::Unknown,
        either_protocol: false,
        effects: effects.into_boxed_slice(),
        own_code,
        shows: Shows::Anything,
        shows_statements: false,
        statements,
        usage: super::usage::Usage::default(),
    };
    let mut outcomes = outcomes.into_iter();
    let Some(first) = outcomes.next() else {
        return verdict(Place::Anywhere, Reason::Empty, Kind::Empty, None, Vec::new());
    };
    if statements == 1 {
        let (moving, alone, shows) = (first.moving, first.alone, first.shows);
        return Verdict {
            moving,
            alone,
            shows,
            ..verdict(first.place, first.reason, first.kind, first.detail, first.effects)
        };
    }
    let mut effects = Vec::new();
    let mut primary = None;
    let mut kind = Kind::Several;
    let mut moving = Moving::Free;
    for outcome in std::iter::once(first).chain(outcomes) {
        effects.extend(outcome.effects);
        if outcome.moving != Moving::Free {
            moving = Moving::Never;
        }
        if outcome.kind.controls_transactions() {
            kind = Kind::Block;
        }
        if outcome.place == Place::Primary && primary.is_none() {
            primary = Some(outcome.detail);
        }
    }
    match primary {
        None => Verdict { moving, ..verdict(Place::Anywhere, Reason::Read, kind, None, effects) },
        Some(detail) => verdict(Place::Primary, Reason::Several, kind, detail, effects),
    }
}

/// Cuts a text at the semicolons that stand outside brackets and outside SQL function bodies (BEGIN ATOMIC ... END);
/// empty statements are left out. Where brackets do not close, PostgreSQL refuses the whole text.
fn split<'t>(text: &'t [u8], tokens: &'t [Token]) -> Vec<Words<'t>> {
    let mut statements = Vec::new();
    let (mut start, mut brackets, mut blocks) = (0, 0_usize, 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Punctuation(b'(' | b'[') => brackets += 1,
            TokenKind::Punctuation(b')' | b']') => brackets = brackets.saturating_sub(1),
            TokenKind::Word => blocks = blocks_after(blocks, text, tokens, at),
            TokenKind::Semicolon if brackets == 0 && blocks == 0 => {
                statements.push(tokens.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    statements.push(tokens.get(start..).unwrap_or_default());
    statements
        .into_iter()
        .filter(|tokens| !tokens.is_empty())
        .map(|tokens| Words::new(text, tokens))
        .collect()
}

/// How many blocks are open behind the word at `at`. CASE counts inside of a block only, because it ends with END too.
fn blocks_after(blocks: usize, text: &[u8], tokens: &[Token], at: usize) -> usize {
    let is = |at: usize, word: &str| {
        tokens
            .get(at)
            .is_some_and(|t| t.kind == TokenKind::Word && t.bytes(text).eq_ignore_ascii_case(word.as_bytes()))
    };
    if (is(at, "begin") && is(at + 1, "atomic")) || (blocks > 0 && is(at, "case")) {
        blocks + 1
    } else if is(at, "end") {
        blocks.saturating_sub(1)
    } else {
        blocks
    }
}

/// Judges one statement.
pub(super) fn judge_statement(words: Words<'_>, context: &Context<'_>, wrappers: u32) -> Outcome {
    let Some(keyword) = words.keyword() else {
        // A query may begin with a bracket; nothing else begins with anything but a keyword.
        let bracket = words.peek().is_some_and(|token| token.kind == TokenKind::Punctuation(b'('));
        return if bracket { query::judge(words, context) } else { Outcome::primary(Reason::Unparsed) };
    };
    let keyword = String::from_utf8_lossy(keyword).to_ascii_lowercase();
    match keyword.as_str() {
        "select" | "with" | "values" | "table" => query::judge(words, context),
        "insert" | "update" | "delete" | "merge" if context.planned => query::judge_planned(words, context),
        "insert" | "update" | "delete" | "merge" => write(words, context, &keyword),
        "explain" if wrappers < WRAPPERS_MAX => explain(words, context, wrappers).alone(Alone::Unknown),
        "copy" if wrappers < WRAPPERS_MAX => copy(words, context, wrappers).alone(Alone::Unknown),
        "declare" if wrappers < WRAPPERS_MAX => declare(words, context, wrappers).alone(Alone::Unknown),
        _ => match recognise(&keyword, words, context) {
            Some(outcome) => add_calls(outcome, words, context),
            None => Outcome::primary(Reason::Unparsed).with_detail(&keyword),
        },
    }
}

fn recognise(keyword: &str, words: Words<'_>, context: &Context<'_>) -> Option<Outcome> {
    let reads = |query: Words<'_>| {
        let outcome = judge_statement(query, context, WRAPPERS_MAX);
        outcome.place == Place::Anywhere
            && outcome.kind == Kind::Plain
            && outcome.effects.is_empty()
            && !outcome.own_code
    };
    let computes = |expression: Words<'_>| {
        let Some(source) = expression.source() else { return false };
        let text = format!("SELECT 1 WHERE {source}");
        let tokens: Vec<Token> = Scanner::new(text.as_bytes()).collect();
        let query = Words::new(text.as_bytes(), &tokens);
        reads(query) && !moment::is_shown(query, context.catalog)
    };
    utility::recognise(
        keyword,
        words,
        &Known { catalog: context.catalog, reads: &reads, computes: &computes },
    )
}

/// A statement that writes: only what the functions it calls do to the session is of interest.
fn write(words: Words<'_>, context: &Context<'_>, keyword: &str) -> Outcome {
    let calls = calls::find(words, context.catalog);
    let mut outcome = Outcome::primary(Reason::Write).with_detail(keyword).alone(Alone::Change);
    outcome.effects = calls.effects;
    outcome.own_code = calls.own_code;
    outcome.by_literal = calls.by_literal;
    outcome
}

/// Adds what the functions called by a utility statement do to the session. Statements that define something call
/// nothing now: their bodies and expressions run later.
fn add_calls(mut outcome: Outcome, words: Words<'_>, context: &Context<'_>) -> Outcome {
    let runs_now = words.sees_any(&["call", "execute", "declare", "prepare"])
        || (words.sees("create") && !words.mentions("function") && !words.mentions("procedure"));
    if runs_now && outcome.kind == Kind::Plain {
        let calls = calls::find(words, context.catalog);
        outcome.effects.extend(calls.effects);
        outcome.own_code |= calls.own_code;
        outcome.by_literal |= calls.by_literal;
    }
    outcome
}

/// A cursor without HOLD exists inside of a transaction only, where it reads as its query does; alone it fails
/// everywhere.
fn declare(words: Words<'_>, context: &Context<'_>, wrappers: u32) -> Outcome {
    let mut query = words;
    while !query.at_end() && !query.eat("for") {
        query.advance();
    }
    let hold = recognise("declare", words, context).filter(|outcome| !outcome.effects.is_empty());
    match hold {
        Some(outcome) => add_calls(outcome, words, context),
        // The cursor stays where its transaction is.
        None => Outcome { moving: Moving::Never, ..judge_statement(query.rest(), context, wrappers + 1) },
    }
}

/// EXPLAIN reads where the explained statement reads; without ANALYZE nothing is run.
fn explain(mut words: Words<'_>, context: &Context<'_>, wrappers: u32) -> Outcome {
    words.advance();
    let (mut analyze, mut by_literal) = (false, false);
    let mut ahead = words;
    if ahead.eat_punctuation(b'(')
        && !ahead.sees_any(&["select", "with", "values", "table"])
        && ahead.peek().is_some_and(|token| token.kind != TokenKind::Punctuation(b'('))
    {
        analyze = explain_options(&mut ahead);
        // An option may be given as a literal: ANALYZE 0.
        by_literal = true;
        words = ahead;
    } else {
        loop {
            if words.eat_any(&["analyze", "analyse"]) {
                analyze = true;
            } else if !words.eat("verbose") {
                break;
            }
        }
    }
    let context = Context { planned: !analyze, ..*context };
    let mut inner =
        Outcome { shows: Shows::Anything, ..judge_statement(words.rest(), &context, wrappers + 1) };
    if inner.kind != Kind::Plain {
        return Outcome::primary(Reason::Unparsed).with_detail("explain");
    }
    if !analyze {
        inner.effects.clear();
    }
    inner.by_literal |= by_literal;
    inner
}

/// Passes `ANALYZE, BUFFERS off, ...)`; whether the statement is run.
fn explain_options(words: &mut Words<'_>) -> bool {
    let mut analyze = false;
    while !words.at_end() && !words.eat_punctuation(b')') {
        let escaped = words.peek().is_some_and(|token| token.kind == TokenKind::EscapedWord);
        // Between quotes it is the same option.
        let name = words.name();
        if name.is_none() {
            words.advance();
        }
        if escaped || matches!(name.as_deref(), Some("analyze" | "analyse")) {
            let off = words.eat_any(&["false", "off"])
                || words.peek().is_some_and(|t| matches!(t.bytes(words.text), b"0" | b"'off'" | b"'false'"));
            analyze = !off;
        }
    }
    analyze
}

/// COPY reads where it sends a query or a relation to the client; a file or a program belongs to one server.
fn copy(mut words: Words<'_>, context: &Context<'_>, wrappers: u32) -> Outcome {
    let whole = words;
    words.advance();
    let source = if words.eat_punctuation(b'(') { copy_query(&mut words) } else { None };
    let outcome = match source {
        Some(query) => Outcome { shows: Shows::Anything, ..judge_statement(query, context, wrappers + 1) },
        None => query::judge_copied_relation(&mut words, context),
    };
    if words.eat("to") {
        if !words.eat("stdout") {
            return Outcome::primary(Reason::NodeLocal).with_detail("copy to a file or program");
        }
        return if outcome.kind == Kind::Plain { outcome } else { Outcome::primary(Reason::Unparsed) };
    }
    let reason = if whole.mentions("from") { Reason::Write } else { Reason::Unparsed };
    Outcome::primary(reason).with_detail("copy")
}

/// The tokens within the brackets; moves behind them.
fn copy_query<'t>(words: &mut Words<'t>) -> Option<Words<'t>> {
    let inside = words.rest();
    let mut depth = 1_usize;
    let mut length = 0;
    while let Some(token) = words.advance() {
        match token.kind {
            TokenKind::Punctuation(b'(') => depth += 1,
            TokenKind::Punctuation(b')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return inside.tokens.get(..length).map(|tokens| Words::new(inside.text, tokens));
        }
        length += 1;
    }
    None
}
