//! What a statement that defines something changes in the facts that others are routed by.
//!
//! Decided from the leading keywords. What is not known here may change anything. The rules rest on this: facts are the
//! worst of all that a name may mean, so that dropping and renaming away leave them true.

use std::sync::Arc;

use super::super::catalog::{Catalog, Change, Leaves, Object, Relation};
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
        "policy" => on_table(words),
        "rule" if words.mentions("select") => vec![Change::Relations],
        "schema" if !words.rest().mentions("create") => Vec::new(),
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
    let readable = !exists && (known.reads)(words.rest());
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

/// `CREATE POLICY name ON table`: reading the table runs it.
fn on_table(mut words: Words<'_>) -> Vec<Change> {
    while !words.at_end() && !words.eat("on") {
        words.advance();
    }
    named(&mut words, |name| Change::Replaced(Object::Relation, name))
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
        "type" if words.mentions("set") && !words.mentions("schema") => vec![Change::Anything],
        "type" if has_strange_types(words, known.catalog) => vec![Change::Anything],
        "domain" if words.mentions("check") => vec![Change::Anything],
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
    if words.mentions("unlogged") || has_strange_types(words.rest(), known.catalog) {
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
