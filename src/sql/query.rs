//! Whether a query is proven to be a read: tokens first, then sqlparser's tree with the catalog facts.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{
    Expr, Function, FunctionArguments, Ident, Insert, ObjectName, Query, Select, Statement,
};
use sqlparser::ast::{SetExpr, TableFactor, TableObject, Visit, Visitor};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};

use super::catalog::{Catalog, Change, Object, Relation};
use super::outcome::Outcome;
use super::rewrite::rewrite;
use super::scan::{Token, TokenKind};
use super::statement::Context;
use super::verdict::{Alone, Moving, PinCause, Reason, SessionEffect};
use super::words::{Words, cut_name};
use super::{anchors, calls, moment};

/// How deep sqlparser may recurse. Brackets are bounded before it is called; this bounds its other recursions.
const RECURSION_MAX: usize = 150;

/// The stack that its guarded functions make sure of, in bytes: from join to join it recurses in one that is not guarded and
/// takes 48 KiB each time, in an optimized build less than 12. The number of joins is bounded before it is called.
const STACK_LEFT_MIN: usize = if cfg!(debug_assertions) { 4 } else { 1 } * 1024 * 1024;

/// What they add where that much is not left.
const STACK_ADDED: usize = 8 * 1024 * 1024;

/// What sqlparser calls a function and PostgreSQL's grammar treats as syntax: always built in, never a write.
const SYNTAX: &[&str] = &[
    "array",
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "row",
    "grouping",
    "treat",
    "normalize",
    "trim",
    "position",
    "substring",
    "overlay",
    "extract",
    "xmlconcat",
    "xmlelement",
    "xmlforest",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmlexists",
    "json_object",
    "json_array",
    "json_objectagg",
    "json_arrayagg",
    "json_exists",
    "json_value",
    "json_query",
    "json_serialize",
    "json_scalar",
    "json",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "user",
    "current_role",
    "current_catalog",
    "current_schema",
    "system_user",
    "values",
];

/// Judges a SELECT, VALUES, TABLE or WITH.
pub(super) fn judge(words: Words<'_>, context: &Context<'_>) -> Outcome {
    let calls = calls::find(words, context.catalog);
    let found = if context.planned { &calls.found_planning } else { &calls.found };
    let mut outcome = match writing(words) {
        Some(outcome) if !(context.planned && is_planned_anywhere(&outcome)) => outcome,
        writes => match (found, context.unparsable) {
            (Some((reason, detail)), _) => Outcome::primary(*reason).with_detail(detail).alone(Alone::Query),
            (None, Some((reason, detail))) => {
                Outcome::primary(reason).with_detail(detail).alone(Alone::Query)
            }
            (None, None) => judge_tree(words, context, writes.is_some()).alone(Alone::Query),
        },
    };
    if calls.only_sets && calls.effects.iter().all(|effect| matches!(effect, SessionEffect::Set { .. })) {
        outcome = outcome.again();
    } else if outcome.moving == Moving::Free && moment::is_shown(words, context.catalog) {
        outcome.moving = Moving::Never;
    }
    outcome.effects.extend(calls.effects);
    outcome.own_code |= calls.own_code;
    outcome.by_literal |= calls.by_literal;
    outcome
}

/// Judges an INSERT, UPDATE, DELETE or MERGE that is planned and not run.
pub(super) fn judge_planned(words: Words<'_>, context: &Context<'_>) -> Outcome {
    let calls = calls::find(words, context.catalog);
    let mut outcome = match (&calls.found_planning, context.unparsable) {
        (Some((reason, detail)), _) => Outcome::primary(*reason).with_detail(detail),
        (None, Some((reason, detail))) => Outcome::primary(reason).with_detail(detail),
        (None, None) => judge_tree(words, context, true),
    };
    outcome.own_code |= calls.own_code;
    outcome.by_literal |= calls.by_literal;
    outcome
}

/// Whether planning what the tokens show to be no read is a read: hot standbys plan writes and row locks, and take the locks
/// for that, as the primary does (seen of every form). A table that is to be made is another thing: a temporary one they refuse.
fn is_planned_anywhere(outcome: &Outcome) -> bool {
    outcome.effects.is_empty() && matches!(outcome.reason, Reason::Write | Reason::WritingCte | Reason::Locks)
}

/// What the tokens alone show to be no read. INTO is reserved, so wherever it stands it is SELECT INTO, INSERT or
/// MERGE; the other words can be column names, and a query that uses them so stays on the primary.
fn writing(words: Words<'_>) -> Option<Outcome> {
    let tokens = words.tokens;
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Punctuation(b'(') => depth += 1,
            TokenKind::Punctuation(b')') => depth = depth.saturating_sub(1),
            TokenKind::Word => {
                let before = at.checked_sub(1).and_then(|at| tokens.get(at)).copied();
                let around =
                    Around { text: words.text, before, token: *token, after: tokens.get(at + 1).copied() };
                if let Some(reason) = around.write(depth) {
                    let outcome = Outcome::primary(reason).with_detail(&around.word());
                    let into = around.is("into") && !around.follows(&["insert", "merge"]);
                    let alone = if reason == Reason::Locks { Alone::Query } else { Alone::Change };
                    return Some(if into { select_into(outcome, words, at) } else { outcome.alone(alone) });
                }
            }
            _ => {}
        }
    }
    None
}

/// A word with its neighbours.
struct Around<'t> {
    text: &'t [u8],
    before: Option<Token>,
    token: Token,
    after: Option<Token>,
}

impl Around<'_> {
    fn is_word(&self, token: Option<Token>, words: &[&str]) -> bool {
        token.filter(|token| token.kind == TokenKind::Word).is_some_and(|token| {
            words.iter().any(|word| token.bytes(self.text).eq_ignore_ascii_case(word.as_bytes()))
        })
    }

    fn is(&self, word: &str) -> bool {
        self.is_word(Some(self.token), &[word])
    }

    fn follows(&self, words: &[&str]) -> bool {
        self.is_word(self.before, words)
    }

    fn word(&self) -> String {
        String::from_utf8_lossy(self.token.bytes(self.text)).to_ascii_lowercase()
    }

    fn write(&self, depth: usize) -> Option<Reason> {
        let nested = if depth > 0 { Reason::WritingCte } else { Reason::Write };
        let bracket = self.before.is_some_and(|t| matches!(t.kind, TokenKind::Punctuation(b'(' | b')')));
        match self.token.bytes(self.text) {
            word if word.len() == 4 && self.is("into") => {
                Some(if self.follows(&["insert", "merge"]) { nested } else { Reason::Write })
            }
            word if word.len() == 6 && bracket && self.is("delete") => Some(nested),
            word if word.len() == 6 && bracket && self.is("update") => Some(nested),
            word if word.len() == 3 && self.is("for") => {
                self.is_word(self.after, &["update", "share", "no", "key"]).then_some(Reason::Locks)
            }
            _ => None,
        }
    }
}

/// `SELECT ... INTO [TEMP] name`: a table for this session only, or for everybody.
fn select_into(outcome: Outcome, words: Words<'_>, at: usize) -> Outcome {
    let mut target = Words::new(words.text, words.tokens.get(at + 1..).unwrap_or_default());
    target.eat_any(&["local", "global", "unlogged"]);
    if target.sees_any(&["temp", "temporary", "pg_temp"]) {
        target.advance();
        target.eat_punctuation(b'.');
        target.eat("table");
        let name = target.name().map(|name| SessionEffect::Temporary(Arc::from(name)));
        let pinned = outcome.pinned(PinCause::TemporaryTable);
        return name.into_iter().fold(pinned, Outcome::with_effect);
    }
    // Its columns are of whatever type the query gives them.
    let name = target.qualified_name().and_then(|mut parts| parts.pop());
    let change = name.map_or(Change::Anything, |name| Change::New(Object::Relation, Arc::from(name)));
    outcome.with_effect(SessionEffect::Ddl(change))
}

/// `writes`: the tokens show that it does, which is only planned.
fn judge_tree(words: Words<'_>, context: &Context<'_>, writes: bool) -> Outcome {
    let Some(source) = words.source() else { return Outcome::primary(Reason::Unparsed) };
    if writes && context.catalog.answers_by_rules() {
        return Outcome::primary(Reason::Write).with_detail("rules may write something else");
    }
    let rewritten = rewrite(words);
    let statement = match parse(rewritten.as_deref().unwrap_or(source)) {
        Ok(statement) => statement,
        Err(outcome) => return *outcome,
    };
    let mut walk = Walk { writes, ..Walk::new(context.catalog) };
    let found = match &statement {
        Statement::Query(query) => query.visit(&mut walk),
        statement if writes => statement.visit(&mut walk),
        _ => return Outcome::primary(Reason::Unparsed).with_detail("not one query"),
    };
    match found {
        ControlFlow::Continue(()) => {
            let shows = anchors::shows(&statement, words, context.catalog);
            let mut outcome = Outcome { own_code: walk.own_code.get(), shows, ..Outcome::read() };
            if writes {
                // Its locks stay with the transaction.
                outcome.moving = Moving::Never;
            }
            outcome
        }
        ControlFlow::Break((reason, detail)) => Outcome::primary(reason).with_detail(&detail),
    }
}

fn parse(source: &str) -> Result<Statement, Box<Outcome>> {
    let unparsed = |detail: &str| Box::new(Outcome::primary(Reason::Unparsed).with_detail(detail));
    recursive::set_minimum_stack_size(STACK_LEFT_MIN);
    recursive::set_stack_allocation_size(STACK_ADDED);
    let dialect = PostgreSqlDialect {};
    let parsed = Parser::new(&dialect)
        .with_recursion_limit(RECURSION_MAX)
        .try_with_sql(source)
        .and_then(|mut parser| parser.parse_statements());
    match parsed {
        Ok(statements) => match <[Statement; 1]>::try_from(statements) {
            Ok([statement]) => Ok(statement),
            Err(_several) => Err(unparsed("not one query")),
        },
        Err(ParserError::RecursionLimitExceeded) => {
            Err(Box::new(Outcome::primary(Reason::TooLarge).with_detail("deeper than the parser is given")))
        }
        // What was found instead is left out: it may be a literal, and details are shared between texts.
        Err(ParserError::ParserError(message) | ParserError::TokenizerError(message)) => {
            Err(unparsed(message.split(", found").next().unwrap_or_default()))
        }
    }
}

type Found = ControlFlow<(Reason, String)>;

struct Walk<'c> {
    catalog: &'c Catalog,
    /// Names of the common table expressions in scope.
    ctes: Vec<String>,
    /// A relation was found that runs code of the database's own.
    own_code: Cell<bool>,
    /// It writes, and is planned only.
    writes: bool,
}

impl<'c> Walk<'c> {
    fn new(catalog: &'c Catalog) -> Self {
        Self { catalog, ctes: Vec::new(), own_code: Cell::new(false), writes: false }
    }

    /// A nested statement: what it writes to has to be a relation that replicas have.
    fn target(&self, statement: &Statement) -> Found {
        match statement {
            Statement::Insert(Insert { table: TableObject::TableName(name), .. }) => match names(name) {
                Some(parts) if self.is_known(&parts) => self.relation(&parts),
                _ => ControlFlow::Break((Reason::UnknownRelation, name.to_string())),
            },
            Statement::Delete(delete) if !delete.tables.is_empty() => {
                ControlFlow::Break((Reason::Unparsed, "clause of another dialect".to_owned()))
            }
            // Their targets are visited as tables are.
            Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => ControlFlow::Continue(()),
            _ => ControlFlow::Break((Reason::WritingCte, "nested statement".to_owned())),
        }
    }

    fn is_known(&self, parts: &[String]) -> bool {
        split_name(parts).is_some_and(|(name, schema)| {
            !matches!(self.catalog.relation(schema, name), Relation::Unknown | Relation::NoCatalog)
        })
    }

    fn relation(&self, parts: &[String]) -> Found {
        let Some((name, schema)) = split_name(parts) else { return ControlFlow::Continue(()) };
        let display = || parts.join(".");
        if self.writes && self.catalog.relation_of_moment(name) {
            // What a policy checks of new rows, and what views may be written through, is not looked into.
            return ControlFlow::Break((Reason::Write, display()));
        }
        match self.catalog.relation(schema, name) {
            Relation::Readable => {
                self.own_code.set(self.own_code.get() || self.catalog.relation_runs_own(name));
                ControlFlow::Continue(())
            }
            Relation::Not(reason) => ControlFlow::Break((reason, display())),
            _ if schema.is_none() && self.ctes.iter().any(|cte| cte == name) => ControlFlow::Continue(()),
            Relation::Unknown => ControlFlow::Break((Reason::UnknownRelation, display())),
            Relation::NoCatalog => ControlFlow::Break((Reason::NoCatalog, display())),
        }
    }

    /// Unsafe functions were found among the tokens already; here it matters that the function is known at all.
    fn function(&self, name: &ObjectName) -> Found {
        let Some(parts) = names(name) else {
            return ControlFlow::Break((Reason::Unparsed, name.to_string()));
        };
        let Some((name, schema)) = split_name(&parts) else { return ControlFlow::Continue(()) };
        if (schema.is_none() && SYNTAX.contains(&name)) || self.catalog.knows_function(schema, name) {
            return ControlFlow::Continue(());
        }
        let reason = if self.catalog.is_empty() { Reason::NoCatalog } else { Reason::VolatileFunction };
        ControlFlow::Break((reason, parts.join(".")))
    }
}

impl Visitor for Walk<'_> {
    type Break = (Reason, String);

    fn pre_visit_query(&mut self, query: &Query) -> Found {
        if !query.locks.is_empty() && !self.writes {
            return ControlFlow::Break((Reason::Locks, "row locks".to_owned()));
        }
        if has_table_command(&query.body)
            || query.for_clause.is_some()
            || query.settings.is_some()
            || !query.pipe_operators.is_empty()
        {
            return ControlFlow::Break((Reason::Unparsed, "clause of another dialect".to_owned()));
        }
        if let Some(with) = &query.with {
            self.ctes.extend(with.cte_tables.iter().map(|cte| fold(&cte.alias.name)));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> Found {
        let inner = query.with.as_ref().map_or(0, |with| with.cte_tables.len());
        self.ctes.truncate(self.ctes.len().saturating_sub(inner));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Found {
        match &select.into {
            Some(into) => ControlFlow::Break((Reason::Write, into.to_string())),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> Found {
        if self.writes {
            return self.target(statement);
        }
        // The query itself is visited, not its statement: what comes here is nested in it.
        ControlFlow::Break((Reason::WritingCte, "nested statement".to_owned()))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Found {
        match factor {
            TableFactor::Table { name, args: None, .. } => match names(name) {
                Some(parts) => self.relation(&parts),
                None => ControlFlow::Break((Reason::Unparsed, name.to_string())),
            },
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.function(name)
            }
            TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::XmlTable { .. } => ControlFlow::Continue(()),
            _ => ControlFlow::Break((Reason::Unparsed, "table of another dialect".to_owned())),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Found {
        match expr {
            Expr::Function(Function { name, args: FunctionArguments::None, .. })
                if name.0.len() == 1
                    && names(name).is_some_and(|n| n.iter().all(|n| SYNTAX.contains(&n.as_str()))) =>
            {
                ControlFlow::Continue(())
            }
            Expr::Function(function) => self.function(&function.name),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Whether a part is `TABLE name`, whose name the tree does not keep apart. It is rewritten before it comes here.
fn has_table_command(mut body: &SetExpr) -> bool {
    while let SetExpr::SetOperation { left, right, .. } = body {
        if matches!(**right, SetExpr::Table(_)) {
            return true;
        }
        body = left;
    }
    matches!(body, SetExpr::Table(_))
}

/// Judges `COPY name [(columns)] TO ...` up to its direction.
pub(super) fn judge_copied_relation(words: &mut Words<'_>, context: &Context<'_>) -> Outcome {
    words.eat("binary");
    let Some(parts) = words.qualified_name() else { return Outcome::primary(Reason::Unparsed) };
    if words.eat_punctuation(b'(') {
        while !words.at_end() && !words.eat_punctuation(b')') {
            words.advance();
        }
    }
    if let Some((reason, detail)) = context.unparsable {
        return Outcome::primary(reason).with_detail(detail);
    }
    let walk = Walk::new(context.catalog);
    match walk.relation(&parts) {
        ControlFlow::Continue(()) => Outcome { own_code: walk.own_code.get(), ..Outcome::read() },
        ControlFlow::Break((reason, detail)) => Outcome::primary(reason).with_detail(&detail),
    }
}

pub(super) fn fold(ident: &Ident) -> String {
    let mut name =
        if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() };
    cut_name(&mut name);
    name
}

pub(super) fn names(name: &ObjectName) -> Option<Vec<String>> {
    name.0.iter().map(|part| part.as_ident().map(fold)).collect()
}

/// (name, schema) of a name of one to three parts; a database in front must be this one, or PostgreSQL refuses.
pub(super) fn split_name(parts: &[String]) -> Option<(&str, Option<&str>)> {
    let (name, qualifiers) = parts.split_last()?;
    Some((name, qualifiers.last().map(String::as_str)))
}
