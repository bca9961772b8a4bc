//! What a statement that defines something changes in the facts that others are routed by.
//!
//! Decided from the leading keywords. What is not known here may change anything. The rules rest on this: facts are the
//! worst of all that a name may mean, so that dropping and renaming away leave them true.

use std::sync::Arc;

use super::super::catalog::{Catalog, Change, Leaves, Object, Relation};
use super::super::lookups::looks_names_up;
use super::super::scan::TokenKind;
use super::super::words::Words;
use super::session::body_effects;

/// Objects that say nothing about whether a query is a read.
const HARMLESS: &[&str] = &[
    "access",
    "collation",
    "conversion",
    "database",
    "default",
    "event",
    "group",
    "index",
    "language",
    "large",
    "publication",
    "role",
    "rule",
    "server",
    "statistics",
    "subscription",
    "system",
    "tablespace",
    "text",
    "transform",
    "trigger",
    "user",
];

/// What the statement is judged with.
#[derive(Clone, Copy)]
pub(in crate::sql) struct Known<'a> {
    pub(in crate::sql) catalog: &'a Catalog,
    /// Whether a query is a read that any node can serve.
    pub(in crate::sql) reads: &'a dyn Fn(Words<'_>) -> bool,
    /// Whether an expression is nothing but a read that any node can serve at any time.
    pub(in crate::sql) computes: &'a dyn Fn(Words<'_>) -> bool,
}

/// The changes of the statement whose keyword stands before `words`.
pub(super) fn changes(keyword: &str, words: Words<'_>, known: &Known<'_>) -> Vec<Change> {
    match keyword {
        "create" => created(words, known),
        "alter" => altered(words, known),
        "import" => vec![Change::Anything],
        // What is dropped is found nowhere; who may do what, and what is said about it, no fact tells.
        _ => Vec::new(),
    }
}

fn created(mut words: Words<'_>, known: &Known<'_>) -> Vec<Change> {
    let replace = words.eat_all(&["or", "replace"]);
    words.eat_any(&["local", "global"]);
    let unlogged = words.eat("unlogged");
    words.eat_any(&["recursive", "constraint", "unique", "trusted", "materialized"]);
    words.eat("procedural");
    let Some(what) = words.name() else { return vec![Change::Anything] };
    match what.as_str() {
        "foreign" if words.eat("table") => table(words, true, known),
        // A foreign-data wrapper.
        "foreign" => Vec::new(),
        "table" => table(words, unlogged, known),
        "view" => view(words, replace, known),
        "sequence" => named(&mut words, |name| Change::New(Object::Relation, name)),
        "function" | "procedure" | "aggregate" => function(words, replace),
        "operator" => operator(words),
        // A range type brings functions of its name.
        "type" => {
            let types = named(&mut { words }, |name| Change::New(Object::Type, name));
            types.into_iter().chain(named(&mut words, |name| Change::New(Object::Function, name))).collect()
        }
        "domain" => named(&mut words, |name| Change::New(Object::Type, name)),
        "policy" => policy(words, known),
        "rule" if words.mentions("select") => vec![Change::Relations],
        "schema" => elements(words, known),
        "cast" => cast(words, known.catalog),
        what if HARMLESS.contains(&what) => Vec::new(),
        _ => vec![Change::Anything],
    }
}

/// One change about the object whose name comes next, perhaps behind IF NOT EXISTS.
fn named(words: &mut Words<'_>, change: impl FnOnce(Arc<str>) -> Change) -> Vec<Change> {
    words.eat_all(&["if", "not", "exists"]);
    vec![name(words).map_or(Change::Anything, change)]
}

fn name(words: &mut Words<'_>) -> Option<Arc<str>> {
    words.qualified_name()?.pop().map(Arc::from)
}

/// A table is readable everywhere, unless it is unlogged or foreign, or has columns whose values run functions.
fn table(mut words: Words<'_>, unreadable: bool, known: &Known<'_>) -> Vec<Change> {
    let inherits = words.mentions("inherits") || (words.mentions("partition") && words.mentions("of"));
    if unreadable && inherits {
        // Whoever reads the parent reads this.
        return vec![Change::Relations];
    }
    // One that exists already is not made.
    let doubtful = unreadable
        || words.sees("if")
        || shows_names(words)
        || has_strange_types(words, known.catalog)
        || has_strange_columns(words, known);
    named(
        &mut words,
        |name| {
            if doubtful { Change::New(Object::Relation, name) } else { Change::Readable(name) }
        },
    )
}

/// Whether the table may get columns from elsewhere whose values run functions: those of a query, a type, another table.
fn has_strange_columns(mut words: Words<'_>, known: &Known<'_>) -> bool {
    if words.mentions("like") || words.mentions("inherits") {
        return true;
    }
    words.qualified_name();
    if words.eat_all(&["partition", "of"]) {
        return !words.qualified_name().is_some_and(|parent| is_readable(&parent, known.catalog));
    }
    if words.sees("of") {
        return true;
    }
    let mut depth = 0_usize;
    while let Some(token) = words.peek() {
        match token.kind {
            TokenKind::Punctuation(b'(') => depth += 1,
            TokenKind::Punctuation(b')') => depth = depth.saturating_sub(1),
            _ if depth == 0 && words.eat("as") => return !(known.reads)(words.rest()),
            _ => {}
        }
        words.advance();
    }
    false
}

fn is_readable(parts: &[String], catalog: &Catalog) -> bool {
    let mut parts = parts.iter().rev();
    let (name, schema) = (parts.next(), parts.next());
    name.is_some_and(|name| catalog.relation(schema.map(String::as_str), name) == Relation::Readable)
}

/// Whether what is read of the new relation may be what a name means in the session that reads it.
fn shows_names(mut words: Words<'_>) -> bool {
    while !words.at_end() {
        match words.name() {
            Some(name) if looks_names_up(name.as_bytes()) => return true,
            Some(_) => {}
            None => drop(words.advance()),
        }
    }
    false
}

fn has_strange_types(words: Words<'_>, catalog: &Catalog) -> bool {
    let mut rest = words;
    while !rest.at_end() {
        match rest.name() {
            Some(name) if catalog.type_unsafe(&name) => return true,
            Some(_) => {}
            None => drop(rest.advance()),
        }
    }
    false
}

fn view(mut words: Words<'_>, replace: bool, known: &Known<'_>) -> Vec<Change> {
    let exists = words.eat_all(&["if", "not", "exists"]);
    let Some(name) = name(&mut words) else { return vec![Change::Anything] };
    if replace {
        return vec![Change::Replaced(Object::Relation, name)];
    }
    while !words.at_end() && !words.eat("as") {
        words.advance();
    }
    let readable = !exists && !shows_names(words) && (known.reads)(words.rest());
    vec![if readable { Change::View(name) } else { Change::New(Object::Relation, name) }]
}

fn function(mut words: Words<'_>, replace: bool) -> Vec<Change> {
    let Some(name) = name(&mut words) else { return vec![Change::Anything] };
    let mut effects = Vec::new();
    for token in words.tokens {
        if matches!(token.kind, TokenKind::String | TokenKind::OtherString) {
            body_effects(token.bytes(words.text), &mut effects);
        }
    }
    let new = Change::Function(Arc::clone(&name), Leaves::of(&effects));
    if replace { vec![Change::Replaced(Object::Function, name), new] } else { vec![new] }
}

fn operator(words: Words<'_>) -> Vec<Change> {
    if words.sees_any(&["class", "family"]) {
        return Vec::new();
    }
    let symbol = words.tokens.iter().find(|token| token.kind == TokenKind::Operator);
    let symbol = symbol.map(|token| String::from_utf8_lossy(token.bytes(words.text)));
    vec![symbol.map_or(Change::Anything, |symbol| Change::New(Object::Operator, Arc::from(&*symbol)))]
}

/// `... POLICY name ON table ... USING (expression)`: reading the table runs that, and nothing else of it.
fn policy(mut words: Words<'_>, known: &Known<'_>) -> Vec<Change> {
    while !words.at_end() && !words.eat("on") {
        words.advance();
    }
    let table = named(&mut words, |name| Change::Replaced(Object::Relation, name));
    while !words.at_end() && !words.eat("using") {
        words.advance();
    }
    let rest = words.rest();
    let end = (0..rest.tokens.len()).find(|&at| {
        let tail = rest.tokens.get(at..).unwrap_or_default();
        Words::new(rest.text, tail).eat_all(&["with", "check"])
    });
    let expression = rest.tokens.get(..end.unwrap_or(rest.tokens.len())).unwrap_or_default();
    if expression.is_empty() || (known.computes)(Words::new(rest.text, expression)) {
        return Vec::new();
    }
    table
}

/// `CREATE SCHEMA name CREATE TABLE ... CREATE VIEW ... GRANT ...`: what is made in it.
fn elements(words: Words<'_>, known: &Known<'_>) -> Vec<Change> {
    let mut starts = Vec::new();
    let mut depth = 0_usize;
    for (at, token) in words.tokens.iter().enumerate() {
        let is = |word: &[u8]| token.bytes(words.text).eq_ignore_ascii_case(word);
        match token.kind {
            TokenKind::Punctuation(b'(') => depth += 1,
            TokenKind::Punctuation(b')') => depth = depth.saturating_sub(1),
            TokenKind::Word if depth == 0 && (is(b"create") || is(b"grant")) => {
                starts.push((at, is(b"create")));
            }
            _ => {}
        }
    }
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([words.tokens.len()]);
    let made = starts.iter().zip(ends).filter(|((_, creates), _)| *creates);
    made.flat_map(|((start, _), end)| {
        let element = words.tokens.get(start + 1..end).unwrap_or_default();
        created(Words::new(words.text, element), known)
    })
    .collect()
}

/// `CREATE CAST (source AS target)`. It is called where a value of either type is, also without being named. Such values
/// come from the database's own relations and functions, and from literals of the type.
fn cast(mut words: Words<'_>, catalog: &Catalog) -> Vec<Change> {
    let sides = |words: &mut Words<'_>| {
        if !words.eat_punctuation(b'(') {
            return None;
        }
        let source = words.qualified_name()?;
        let target = words.eat("as").then(|| words.qualified_name())??;
        words.eat_punctuation(b')').then_some([source, target])
    };
    let Some(sides) = sides(&mut words) else { return vec![Change::Anything] };
    let own = sides.iter().filter(|parts| !is_built_in_type(parts, catalog)).filter_map(|parts| parts.last());
    let mut changes: Vec<Change> =
        own.map(|name| Change::New(Object::Type, Arc::from(name.as_str()))).collect();
    if changes.is_empty() {
        return vec![Change::Anything];
    }
    changes.extend([Change::Relations, Change::OwnCode]);
    changes
}

/// Whether a type may be one of PostgreSQL's. Most have a function of their name, or are treated as if they had.
fn is_built_in_type(parts: &[String], catalog: &Catalog) -> bool {
    const WORDS: [&str; 12] = [
        "bigint",
        "bit",
        "boolean",
        "char",
        "character",
        "dec",
        "decimal",
        "double",
        "float",
        "int",
        "integer",
        "real",
    ];
    const MORE: [&str; 7] = ["smallint", "varchar", "nchar", "national", "timestamp", "time", "interval"];
    let Some((name, schema)) = parts.split_last() else { return true };
    schema.last().is_some_and(|schema| schema == "pg_catalog")
        || WORDS.contains(&name.as_str())
        || MORE.contains(&name.as_str())
        || name == "setof"
        || catalog.knows_function(Some("pg_catalog"), name)
}

fn altered(mut words: Words<'_>, known: &Known<'_>) -> Vec<Change> {
    words.eat_any(&["foreign", "materialized"]);
    let Some(what) = words.name() else { return vec![Change::Anything] };
    match what.as_str() {
        "table" | "view" => altered_relation(words, known),
        "sequence" => renamed(words, Object::Relation),
        "function" | "procedure" | "routine" | "aggregate" if words.mentions("volatile") => {
            vec![Change::OwnCode]
        }
        "function" | "procedure" | "routine" | "aggregate" => renamed(words, Object::Function),
        // How its values come in and go out, those in tables too.
        "type" if words.mentions("set") && !words.mentions("schema") => {
            let mut changes = named(&mut words, |name| Change::New(Object::Type, name));
            changes.push(Change::Relations);
            changes
        }
        "type" if has_strange_types(words, known.catalog) => vec![Change::Anything],
        "domain" if words.mentions("check") => named(&mut words, |name| Change::New(Object::Type, name)),
        "policy" => policy(words, known),
        "type" | "domain" => renamed(words, Object::Type),
        // Neither its function nor its operands can be changed.
        "operator" | "schema" | "data" => Vec::new(),
        what if HARMLESS.contains(&what) => Vec::new(),
        _ => vec![Change::Anything],
    }
}

/// `... RENAME TO name`; a part of the object that gets another name does not matter.
fn renamed(mut words: Words<'_>, object: Object) -> Vec<Change> {
    while !words.at_end() && !words.eat_all(&["rename", "to"]) {
        words.advance();
    }
    if words.at_end() { Vec::new() } else { named(&mut words, |name| Change::New(object, name)) }
}

fn altered_relation(mut words: Words<'_>, known: &Known<'_>) -> Vec<Change> {
    if words.eat_all(&["all", "in", "tablespace"]) {
        return Vec::new();
    }
    words.eat_all(&["if", "exists"]);
    words.eat("only");
    let Some(own) = words.qualified_name() else { return vec![Change::Anything] };
    words.eat_operator("*");
    let columns = words.mentions("add") || words.mentions("type");
    if words.mentions("unlogged")
        || has_strange_types(words.rest(), known.catalog)
        || (columns && shows_names(words.rest()))
    {
        return vec![Change::Relations];
    }
    let readable = |parts: &[String]| is_readable(parts, known.catalog);
    // Whoever reads the parent reads the child.
    if words.sees("inherit") {
        return if readable(&own) { Vec::new() } else { vec![Change::Relations] };
    }
    if words.eat_all(&["attach", "partition"]) {
        let child = words.qualified_name();
        return if child.is_some_and(|child| readable(&child)) {
            Vec::new()
        } else {
            vec![Change::Relations]
        };
    }
    if words.mentions("inherit") && !words.mentions("no") {
        return vec![Change::Relations];
    }
    renamed(words, Object::Relation)
}
