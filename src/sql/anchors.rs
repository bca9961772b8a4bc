//! Whether all names of relations and types that a query on the catalog looks up or shows hang on relations that its text
//! gives, by number or by name, as psql's `\d` and drivers do.
//!
//! It matters where the session has temporary relations. A row of the catalog that belongs to one of them is the same on every
//! node, but only its session calls it by its plain name. So: every conversion to a name, and every function that shows or
//! looks up names, must be one that is known here and take nothing but literals and columns of rows that are *anchored*:
//! the relation that they belong to is given by a literal, or by a column of another anchored row. Whether the literals are
//! of permanent relations, and whether these have to do with temporary ones, is for the session to say.
//!
//! Anything that is not understood here is no such query.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, JoinConstraint,
    JoinOperator, ObjectName, Query, Select, SetExpr, Statement, TableAlias, TableFactor, Value, Visit,
    Visitor,
};

use super::catalog::Catalog;
use super::lookups::{is_catalog_table, looks_names_up};
use super::query::{fold, names, split_name};
use super::scan::{Token, TokenKind};
use super::verdict::Shows;
use super::words::{Words, name_of};

/// A table of the catalog; the columns that say whose a row is; those that lead on from it to what it is made of; and the
/// one that names it.
struct Table {
    name: &'static str,
    owners: &'static [&'static str],
    others: &'static [&'static str],
    own_name: &'static str,
}

const fn table(
    name: &'static str,
    owners: &'static [&'static str],
    others: &'static [&'static str],
) -> Table {
    Table { name, owners, others, own_name: "" }
}

/// `confrelid` is an owner: who refers to a permanent table is a permanent one.
const TABLES: [Table; 14] = [
    Table { own_name: "relname", ..table("pg_class", &["oid"], &["reltype", "reloftype", "relpartbound"]) },
    Table {
        own_name: "typname",
        ..table("pg_type", &["oid", "typrelid"], &["typbasetype", "typtypmod", "typelem"])
    },
    table("pg_attribute", &["attrelid"], &["atttypid", "atttypmod", "attnum"]),
    table("pg_attrdef", &["adrelid"], &["adbin", "adnum"]),
    table("pg_index", &["indexrelid", "indrelid"], &["indexprs", "indpred"]),
    table("pg_constraint", &["conrelid", "confrelid", "conindid"], &["oid", "conbin"]),
    table("pg_trigger", &["tgrelid"], &["oid", "tgqual"]),
    table("pg_policy", &["polrelid"], &["polqual", "polwithcheck"]),
    table("pg_rewrite", &["ev_class"], &["oid", "ev_qual"]),
    table("pg_inherits", &["inhrelid", "inhparent"], &[]),
    table("pg_sequence", &["seqrelid"], &["seqtypid"]),
    table("pg_statistic_ext", &["stxrelid"], &["oid"]),
    table("pg_partitioned_table", &["partrelid"], &["partexprs"]),
    table("pg_publication_rel", &["prrelid"], &["prqual"]),
];

/// The ancestors of a relation, and the columns that they come in.
const ANCESTORS: &str = "pg_partition_ancestors";
const ANCESTOR_COLUMNS: [&str; 2] = ["relid", "depth"];

/// Functions that show, or look up, the names of what they are given and of what that is made of.
const FUNCTIONS: [&str; 14] = [
    ANCESTORS,
    "format_type",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_indexdef",
    "pg_get_partition_constraintdef",
    "pg_get_partkeydef",
    "pg_get_ruledef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_triggerdef",
    "pg_get_viewdef",
    "pg_partition_root",
    "pg_relation_is_publishable",
    "pg_table_is_visible",
];

/// Types that literals and anchored columns may be converted to, on the way to a name.
const TYPES: [&str; 3] = ["oid", "regclass", "regtype"];

/// What the query shows of names.
pub(super) fn shows(statement: &Statement, words: Words<'_>, catalog: &Catalog) -> Shows {
    let Statement::Query(query) = statement else { return Shows::Anything };
    let looks =
        |token: &Token| name_of(*token, words.text).is_some_and(|name| looks_names_up(name.as_bytes()));
    if !words.tokens.iter().any(looks) {
        return Shows::Anything;
    }
    // What the parser was given in the place of these is an equation.
    let strange = |spelt: &[u8]| spelt == b"===" || (spelt.len() > 1 && spelt.starts_with(b"*"));
    let rewritten = |token: &Token| token.kind == TokenKind::Operator && strange(token.bytes(words.text));
    if words.tokens.iter().any(rewritten) {
        return Shows::Anything;
    }
    let mut walk = Walk { catalog, scopes: Vec::new(), pushed: Vec::new(), patterns: false, children: false };
    match query.visit(&mut walk) {
        ControlFlow::Break(Other) => Shows::Anything,
        ControlFlow::Continue(()) => Shows::Given { pattern: walk.patterns, children: walk.children },
    }
}

/// It may show other names.
struct Other;
type Found = ControlFlow<Other>;

fn only_if(holds: bool) -> Found {
    if holds { ControlFlow::Continue(()) } else { ControlFlow::Break(Other) }
}

/// One member of FROM.
struct Factor {
    alias: String,
    source: Source,
    anchored: bool,
}

enum Source {
    Table(&'static Table),
    /// A table of the catalog whose rows belong to no relation, or whose columns are of no use here.
    Unlisted,
    Ancestors(Vec<Expr>),
    /// A function that gives values.
    Values,
}

impl Source {
    fn has(&self, column: &str) -> bool {
        match self {
            Self::Table(table) => {
                table.owners.contains(&column) || table.others.contains(&column) || table.own_name == column
            }
            Self::Ancestors(_) => column == "relid",
            Self::Unlisted | Self::Values => false,
        }
    }
}

/// A condition that holds for every row, or for the rows of one member of FROM only.
type Condition<'q> = (&'q Expr, Option<usize>);

struct Walk<'c> {
    catalog: &'c Catalog,
    scopes: Vec<Vec<Factor>>,
    /// Whether each query that is being visited has a scope of its own.
    pushed: Vec<bool>,
    /// A literal is the pattern of a name.
    patterns: bool,
    /// Rows are found by the parent that they are a child of.
    children: bool,
}

impl Walk<'_> {
    fn enter(&mut self, select: &Select) -> Found {
        let (mut factors, mut conditions): (Vec<Factor>, Vec<Condition<'_>>) = (Vec::new(), Vec::new());
        for from in &select.from {
            let Ok(factor) = self.factor(&from.relation) else { return ControlFlow::Break(Other) };
            factors.push(factor);
            for join in &from.joins {
                let Ok(factor) = self.factor(&join.relation) else { return ControlFlow::Break(Other) };
                factors.push(factor);
                let (constraint, own) = match &join.join_operator {
                    JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::CrossJoin(on) => {
                        (on, None)
                    }
                    JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (on, Some(factors.len() - 1)),
                    _ => return ControlFlow::Break(Other),
                };
                if let JoinConstraint::On(on) = constraint {
                    conjuncts(on, own, &mut conditions);
                }
            }
        }
        if let Some(selection) = &select.selection {
            conjuncts(selection, None, &mut conditions);
        }
        self.scopes.push(factors);
        while conditions.iter().any(|condition| self.anchors(*condition)) || self.reaches_ancestors() {}
        ControlFlow::Continue(())
    }

    fn factor(&self, factor: &TableFactor) -> Result<Factor, Other> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => self.table(name, alias.as_ref()),
            TableFactor::Table { name, alias, args: Some(args), .. } => {
                Self::function(name, &args.args, alias.as_ref())
            }
            TableFactor::Function { name, args, alias, .. } => Self::function(name, args, alias.as_ref()),
            TableFactor::UNNEST { alias, .. } => values(alias.as_ref()),
            _ => Err(Other),
        }
    }

    fn table(&self, name: &ObjectName, alias: Option<&TableAlias>) -> Result<Factor, Other> {
        let parts = names(name).ok_or(Other)?;
        let (name, schema) = split_name(&parts).ok_or(Other)?;
        let qualified = schema == Some("pg_catalog");
        if !is_catalog_table(name) || !(qualified || (schema.is_none() && self.catalog.is_system_only(name)))
        {
            return Err(Other);
        }
        if alias.is_some_and(|alias| !alias.columns.is_empty()) {
            return Err(Other);
        }
        let source = TABLES.iter().find(|table| table.name == name).map_or(Source::Unlisted, Source::Table);
        let alias = alias.map_or_else(|| name.to_owned(), |alias| fold(&alias.name));
        Ok(Factor { alias, source, anchored: false })
    }

    fn function(
        name: &ObjectName,
        args: &[FunctionArg],
        alias: Option<&TableAlias>,
    ) -> Result<Factor, Other> {
        let parts = names(name).ok_or(Other)?;
        match split_name(&parts).ok_or(Other)?.0 {
            "generate_series" | "unnest" => values(alias),
            ANCESTORS => {
                let columns = alias.map_or(&[][..], |alias| &alias.columns);
                let named = columns.iter().map(|column| fold(&column.name));
                if !columns.is_empty() && !named.eq(ANCESTOR_COLUMNS.map(str::to_owned)) {
                    return Err(Other);
                }
                let alias = alias.map_or_else(|| ANCESTORS.to_owned(), |alias| fold(&alias.name));
                // A function of one column, which would be called like its alias; this one has two.
                let args = arguments(args).ok_or(Other)?.into_iter().cloned().collect();
                Ok(Factor { alias, source: Source::Ancestors(args), anchored: false })
            }
            _ => Err(Other),
        }
    }

    /// Whether the condition shows that one more member of the innermost FROM is anchored.
    fn anchors(&mut self, (condition, only): Condition<'_>) -> bool {
        let found = match condition {
            Expr::BinaryOp { left, op, right } if is_match(op) => self.named(left, right),
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                let sides = [(left, right), (right, left)];
                sides.into_iter().find_map(|(side, other)| match self.owned(side) {
                    Some(owned) => self.is_given(other).then_some(owned),
                    None => self.named(side, other),
                })
            }
            Expr::InList { expr, list, negated: false } => {
                let given = !list.is_empty() && list.iter().all(|member| self.is_given(member));
                self.owned(expr).filter(|_| given)
            }
            Expr::InSubquery { expr, subquery, negated: false } => {
                self.owned(expr).filter(|_| self.gives_numbers(&subquery.body))
            }
            _ => None,
        };
        let Some((at, column)) = found.filter(|(at, _)| only.is_none_or(|only| only == *at)) else {
            return false;
        };
        let pattern = matches!(condition, Expr::BinaryOp { op, .. } if is_match(op));
        let factor = self.scopes.last_mut().and_then(|scope| scope.get_mut(at));
        let anchored = factor.is_some_and(|factor| !std::mem::replace(&mut factor.anchored, true));
        self.patterns |= anchored && pattern;
        self.children |= anchored && column == "inhparent";
        anchored
    }

    /// The member of the innermost FROM whose own name `side` is, where `other` is a literal.
    fn named(&self, side: &Expr, other: &Expr) -> Option<(usize, String)> {
        let literal =
            matches!(other, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)));
        let found = self.innermost(side, |table, column| table.own_name == column)?;
        literal.then_some(found)
    }

    /// The member of the innermost FROM whose owner this column is.
    fn owned(&self, expr: &Expr) -> Option<(usize, String)> {
        self.innermost(expr, |table, column| table.owners.contains(&column))
    }

    fn innermost(&self, expr: &Expr, is: impl Fn(&Table, &str) -> bool) -> Option<(usize, String)> {
        let (depth, at, column) = self.column(expr)?;
        let factor = self.scopes.get(depth)?.get(at)?;
        let found = matches!(factor.source, Source::Table(table) if is(table, &column));
        (found && depth + 1 == self.scopes.len()).then_some((at, column))
    }

    /// Notes that the ancestors of what is given are; whether there were more of them than before.
    fn reaches_ancestors(&mut self) -> bool {
        let Some(scope) = self.scopes.last() else { return false };
        let found = scope.iter().position(|factor| match &factor.source {
            Source::Ancestors(args) => !factor.anchored && args.iter().all(|arg| self.is_given(arg)),
            _ => false,
        });
        let factor = found.and_then(|at| self.scopes.last_mut().and_then(|scope| scope.get_mut(at)));
        factor.is_some_and(|factor| !std::mem::replace(&mut factor.anchored, true))
    }

    /// Whether a subquery gives nothing but numbers of what is given, and ancestors of that.
    fn gives_numbers(&self, body: &SetExpr) -> bool {
        let number = |expr: &Expr| match expr {
            Expr::Function(function) => self.is_given_call(function),
            expr => self.is_given(expr),
        };
        match body {
            SetExpr::SetOperation { left, right, .. } => {
                self.gives_numbers(left) && self.gives_numbers(right)
            }
            SetExpr::Values(values) => values.rows.iter().all(|row| row.content.iter().all(number)),
            SetExpr::Select(select) if select.from.is_empty() => {
                use sqlparser::ast::SelectItem::UnnamedExpr;
                select.projection.iter().all(|item| matches!(item, UnnamedExpr(expr) if number(expr)))
            }
            _ => false,
        }
    }

    /// Whether a value is a literal, or in a column of an anchored row that leads on.
    fn is_given(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Nested(inner) => self.is_given(inner),
            Expr::Value(value) => match &value.value {
                Value::Number(digits, false) => digits.bytes().all(|byte| byte.is_ascii_digit()),
                Value::SingleQuotedString(_) | Value::Boolean(_) | Value::Null => true,
                _ => false,
            },
            Expr::Cast { expr, data_type, .. } => {
                TYPES.contains(&type_name(&data_type.to_string().to_ascii_lowercase())) && self.is_given(expr)
            }
            expr => self.column(expr).is_some_and(|(depth, at, column)| {
                let factor = self.scopes.get(depth).and_then(|scope| scope.get(at));
                factor.is_some_and(|factor| {
                    let names = matches!(factor.source, Source::Table(table) if table.own_name == column);
                    factor.anchored && !names
                })
            }),
        }
    }

    fn is_given_call(&self, function: &Function) -> bool {
        let Some(parts) = names(&function.name) else { return false };
        let known = split_name(&parts).is_some_and(|(name, _)| FUNCTIONS.contains(&name));
        let FunctionArguments::List(list) = &function.args else { return false };
        known && arguments(&list.args).is_some_and(|args| args.iter().all(|arg| self.is_given(arg)))
    }

    /// The scope, the member of FROM and the column that a name means, where it is one that leads on.
    fn column(&self, expr: &Expr) -> Option<(usize, usize, String)> {
        let (qualifier, column) = match expr {
            Expr::Identifier(column) => (None, fold(column)),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [qualifier, column] => (Some(fold(qualifier)), fold(column)),
                _ => return None,
            },
            _ => return None,
        };
        for (depth, scope) in self.scopes.iter().enumerate().rev() {
            if let Some(qualifier) = &qualifier {
                if let Some(at) = scope.iter().position(|factor| factor.alias == *qualifier) {
                    return scope.get(at)?.source.has(&column).then_some((depth, at, column));
                }
                continue;
            }
            // Every table has a column `oid`, and no two have another in common that leads on.
            if column == "oid" && scope.len() != 1 {
                return None;
            }
            if let Some(at) = scope.iter().position(|factor| factor.source.has(&column)) {
                return Some((depth, at, column));
            }
            if column == "oid" {
                return None;
            }
        }
        None
    }
}

impl Visitor for Walk<'_> {
    type Break = Other;

    fn pre_visit_query(&mut self, query: &Query) -> Found {
        only_if(query.with.is_none())?;
        let select = if let SetExpr::Select(select) = &*query.body { Some(select) } else { None };
        self.pushed.push(select.is_some());
        // What the query is ordered by sees the rows, too.
        select.map_or(ControlFlow::Continue(()), |select| self.enter(select))
    }

    fn post_visit_query(&mut self, _: &Query) -> Found {
        if self.pushed.pop() == Some(true) {
            self.scopes.pop();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Found {
        self.enter(select)
    }

    fn post_visit_select(&mut self, _: &Select) -> Found {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Found {
        match expr {
            Expr::Function(function) => {
                let name = names(&function.name).and_then(|mut parts| parts.pop());
                let harmless = name.is_some_and(|name| !looks_names_up(name.as_bytes()));
                only_if(harmless || self.is_given_call(function))
            }
            Expr::Cast { expr, data_type, .. } => {
                let name = data_type.to_string().to_ascii_lowercase();
                let parts = name.split(|byte: char| !byte.is_alphanumeric() && byte != '_');
                let harmless = parts.into_iter().all(|part| !looks_names_up(part.as_bytes()));
                let call = matches!(&**expr, Expr::Function(function) if self.is_given_call(function)
                    && names(&function.name).is_some_and(|parts| parts.last().is_some_and(|name| name == ANCESTORS)));
                only_if(harmless || (TYPES.contains(&type_name(&name)) && (call || self.is_given(expr))))
            }
            Expr::Identifier(name) => only_if(!looks_names_up(fold(name).as_bytes())),
            // A function may be called like a column.
            Expr::CompoundIdentifier(parts) => {
                only_if(parts.last().is_some_and(|name| !looks_names_up(fold(name).as_bytes())))
            }
            Expr::TypedString(_) => ControlFlow::Break(Other),
            Expr::CompoundFieldAccess { access_chain, .. } => {
                use sqlparser::ast::AccessExpr::Subscript;
                only_if(access_chain.iter().all(|access| matches!(access, Subscript(_))))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// A function that gives values in a column called like its alias.
fn values(alias: Option<&TableAlias>) -> Result<Factor, Other> {
    let alias_name = alias.map_or_else(String::new, |alias| fold(&alias.name));
    let columns = alias.is_some_and(|alias| !alias.columns.is_empty());
    let taken = TABLES.iter().any(|table| Source::Table(table).has(&alias_name)) || alias_name == "relid";
    if columns || taken {
        return Err(Other);
    }
    Ok(Factor { alias: alias_name, source: Source::Values, anchored: false })
}

fn arguments(args: &[FunctionArg]) -> Option<Vec<&Expr>> {
    args.iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}

fn conjuncts<'q>(expr: &'q Expr, own: Option<usize>, conditions: &mut Vec<Condition<'q>>) {
    match expr {
        Expr::Nested(inner) => conjuncts(inner, own, conditions),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, own, conditions);
            conjuncts(right, own, conditions);
        }
        condition => conditions.push((condition, own)),
    }
}

/// Whether it is `~`, by that name or in full.
fn is_match(op: &BinaryOperator) -> bool {
    match op {
        BinaryOperator::PGRegexMatch => true,
        BinaryOperator::PGCustomBinaryOperator(parts) => {
            matches!(parts.as_slice(), [schema, operator] if schema == "pg_catalog" && operator == "~")
        }
        _ => false,
    }
}

/// A type's name without the system's schema.
fn type_name(name: &str) -> &str {
    name.strip_prefix("pg_catalog.").unwrap_or(name)
}
