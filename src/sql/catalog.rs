//! What a database says about its functions, relations and operators, as far as routing needs it.
//!
//! Pure: a loader elsewhere runs [`LOAD_SQL`] on the primary, hands every row to a [`CatalogBuilder`], and polls
//! [`CHANGE_SQL`] to see when to do so again. A catalog never changes; a new state is a new value with a higher
//! generation, and verdicts that were made with the old one are not found again.

mod permanent;
mod recent;
mod unknown;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::verdict::{PinCause, Reason, SessionEffect};
use permanent::Permanent;
pub use permanent::may_be_of;
use recent::Recent;
pub use recent::{Change, Leaves, Object};

/// One query for PostgreSQL 14 and later; every row has the six text columns that [`CatalogBuilder::add`] takes.
pub const LOAD_SQL: &str = include_str!("catalog/load.sql");

/// A cheap query of one row with one text column, which differs when facts may have changed.
pub const CHANGE_SQL: &str = include_str!("catalog/change.sql");

/// Rows beyond this are refused: a database so large is routed without facts, that is, to the primary. A table with its indexes
/// makes about five.
const ROWS_MAX: usize = 4_000_000;

/// The facts about one database at one time.
#[derive(Debug)]
pub struct Catalog {
    id: u64,
    generation: u64,
    empty: bool,
    base: Arc<Base>,
    recent: Recent,
}

/// What was loaded.
#[derive(Debug, Default)]
struct Base {
    schemas: FxHashMap<Box<str>, u16>,
    functions: FxHashMap<Box<str>, SmallVec<[FunctionFact; 2]>>,
    relations: FxHashMap<Box<str>, SmallVec<[RelationFact; 2]>>,
    operators: FxHashSet<Box<str>>,
    fields: FxHashSet<Box<str>>,
    types: FxHashSet<Box<str>>,
    /// Views, and tables with row security: what may show the time at which a transaction began.
    moments: FxHashSet<Box<str>>,
    /// Transactions that name no isolation level are READ COMMITTED, for every role in this database.
    read_committed: bool,
    /// Some rule on a table or view makes a writing statement give more than one result.
    rules: bool,
    own_operators: FxHashSet<Box<str>>,
    own_types: FxHashSet<Box<str>>,
    permanent: Permanent,
}

#[derive(Clone, Copy, Debug)]
struct FunctionFact {
    schema: u16,
    arguments_min: u8,
    arguments_max: u8,
    class: FunctionClass,
}

#[derive(Clone, Copy, Debug)]
struct RelationFact {
    schema: u16,
    /// `None`: any node can read it.
    reason: Option<Reason>,
    /// Reading it runs code of the database's own.
    runs_own: bool,
}

/// What calling a function means, as a set of letters of [`LOAD_SQL`]: the worst of all that may be meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FunctionClass(u16);

impl FunctionClass {
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const VOLATILE: u16 = 1;
    const NODE_LOCAL: u16 = 1 << 1;
    const TEMPORARY: u16 = 1 << 2;
    const SETTING: u16 = 1 << 3;
    const ADVISORY: u16 = 1 << 4;
    const LISTEN: u16 = 1 << 5;
    const MOMENT: u16 = 1 << 8;
    const SEQUENCES: u16 = 1 << 6;
    const OWN: u16 = 1 << 7;
    const STATEMENTS: u16 = 1 << 9;

    fn parse(letters: &str) -> Option<Self> {
        letters.bytes().try_fold(Self::default(), |class, letter| {
            let bit = match letter {
                b's' => 0,
                b'v' => Self::VOLATILE,
                b'n' => Self::NODE_LOCAL,
                b't' => Self::TEMPORARY,
                b'c' => Self::SETTING,
                b'a' => Self::ADVISORY,
                b'l' => Self::LISTEN,
                b'm' => Self::MOMENT,
                b'q' => Self::SEQUENCES,
                b'o' => Self::OWN,
                b'p' => Self::STATEMENTS,
                _ => return None,
            };
            Some(Self(class.0 | bit))
        })
    }

    fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    /// Why a replica must not call it.
    pub(super) fn reason(self) -> Option<Reason> {
        if self.has(Self::NODE_LOCAL) {
            Some(Reason::NodeLocal)
        } else if self.has(Self::VOLATILE) {
            Some(Reason::VolatileFunction)
        } else {
            None
        }
    }

    /// Whether it is not built in: what its body says may mean something else in another session.
    pub(super) fn runs_own(self) -> bool {
        self.has(Self::OWN)
    }

    /// What a body with these effects leaves.
    pub(super) fn leaving(effects: &[SessionEffect]) -> Self {
        effects.iter().fold(Self::default(), |class, effect| {
            let bit = match effect {
                SessionEffect::Pin(PinCause::TemporaryTable) => Self::TEMPORARY,
                SessionEffect::Pin(PinCause::AdvisoryLock) => Self::ADVISORY,
                SessionEffect::Pin(PinCause::Listen) => Self::LISTEN,
                SessionEffect::Pin(_) => Self::SETTING,
                SessionEffect::AsksSequences => Self::SEQUENCES,
                SessionEffect::TouchesStatements => Self::STATEMENTS,
                _ => 0,
            };
            Self(class.0 | bit)
        })
    }

    /// Whether its body asks for `currval` or `lastval`.
    pub(super) fn asks_sequences(self) -> bool {
        self.has(Self::SEQUENCES)
    }

    /// Whether its body looks at prepared statements or cursors, or drops statements.
    pub(super) fn touches_statements(self) -> bool {
        self.has(Self::STATEMENTS)
    }

    /// What its body seems to leave behind in the session.
    pub(super) fn pins(self) -> impl Iterator<Item = PinCause> {
        [
            (Self::TEMPORARY, PinCause::TemporaryTable),
            (Self::SETTING, PinCause::UnknownSetting),
            (Self::ADVISORY, PinCause::AdvisoryLock),
            (Self::LISTEN, PinCause::Listen),
        ]
        .into_iter()
        .filter_map(move |(bit, cause)| self.has(bit).then_some(cause))
    }
}

/// What is known about a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// Any node can read it.
    Readable,
    /// Only the primary, for this reason.
    Not(Reason),
    /// No relation of that name when the facts were loaded.
    Unknown,
    /// There are no facts.
    NoCatalog,
}

impl Catalog {
    /// The facts after these changes, under a new generation: without them where the changes may touch anything.
    #[must_use]
    pub fn after<'a>(&self, changes: impl IntoIterator<Item = &'a Change>, generation: u64) -> Self {
        let mut after = self.unknown(generation);
        let mut known = true;
        for change in changes {
            // All are noted: what a new function leaves in a session counts without facts, too.
            known &= after.recent.take(change, &after.base);
        }
        after.empty = self.empty || !known;
        after
    }

    /// No facts: only statements that need none are reads.
    pub fn empty() -> Self {
        Self::empty_for(0)
    }

    /// No facts about the database of this id yet.
    pub fn empty_for(id: u64) -> Self {
        Self { empty: true, ..CatalogBuilder::new(id, 0).finish() }
    }

    /// The database's id, as the loader chose it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// One more at every load.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether there are no facts.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// How many names of functions and relations are known.
    pub fn size(&self) -> (usize, usize) {
        (self.base.functions.len(), self.base.relations.len())
    }

    /// What the verdicts made with these facts belong to.
    pub(super) fn state(&self) -> (u64, u64) {
        (self.id, self.generation)
    }

    /// The worst that a call of this name with so many arguments may mean; without a schema, in any schema.
    pub(super) fn function(&self, schema: Option<&str>, name: &str, arguments: usize) -> FunctionClass {
        let (believed, schema) = (self.believed(schema, name), self.schema(schema));
        let arguments = u8::try_from(arguments).unwrap_or(u8::MAX);
        let facts = self.base.functions.get(name).map_or(&[][..], SmallVec::as_slice);
        facts
            .iter()
            .filter(|fact| schema.matches(fact.schema))
            .filter(|fact| (fact.arguments_min..=fact.arguments_max).contains(&arguments))
            .fold(self.recent.leaves(name).and(believed), |worst, fact| worst.and(fact.class))
    }

    /// Whether a function of this name may show the time at which its transaction began.
    pub(super) fn function_of_moment(&self, name: &str) -> bool {
        let facts = self.base.functions.get(name).map_or(&[][..], SmallVec::as_slice);
        facts.iter().any(|fact| fact.class.has(FunctionClass::MOMENT))
    }

    /// Whether a relation of this name may show it.
    pub(super) fn relation_of_moment(&self, name: &str) -> bool {
        // A view that was just made may.
        self.base.moments.contains(name) || self.recent.is_readable(name)
    }

    /// Whether a transaction that names no isolation level is READ COMMITTED, whatever role began it.
    pub fn is_read_committed(&self) -> bool {
        self.base.read_committed && !self.empty
    }

    /// Whether what a statement that writes gives may come of a rule: then the protocols differ in how they give it.
    pub(super) fn answers_by_rules(&self) -> bool {
        self.empty || self.base.rules || self.recent.relations
    }

    pub(super) fn knows_function(&self, schema: Option<&str>, name: &str) -> bool {
        if self.empty || self.recent.is_unknown(Object::Function, name) {
            return false;
        }
        let schema = self.schema(schema);
        let facts = self.base.functions.get(name).map_or(&[][..], SmallVec::as_slice);
        facts.iter().any(|fact| schema.matches(fact.schema))
            && !(self.recent.own_code && self.function_is_own(name))
    }

    /// Whether a function of this name was made since the facts were loaded.
    pub(super) fn is_new_function(&self, name: &str) -> bool {
        self.recent.is_unknown(Object::Function, name)
    }

    fn function_is_own(&self, name: &str) -> bool {
        self.base.functions.get(name).is_some_and(|facts| facts.iter().any(|fact| fact.class.runs_own()))
    }

    pub(super) fn relation(&self, schema: Option<&str>, name: &str) -> Relation {
        if self.empty {
            return Relation::NoCatalog;
        }
        if self.recent.is_unknown(Object::Relation, name) {
            return Relation::Unknown;
        }
        let schema = self.schema(schema);
        let facts = self.base.relations.get(name).map_or(&[][..], SmallVec::as_slice);
        let mut known = if self.recent.is_readable(name) { Relation::Readable } else { Relation::Unknown };
        for fact in facts.iter().filter(|fact| schema.matches(fact.schema)) {
            let doubtful = (self.recent.own_code && fact.runs_own)
                || (self.recent.relations && !self.base.is_system(fact.schema));
            match fact.reason {
                Some(reason) => return Relation::Not(reason),
                None if doubtful => return Relation::Unknown,
                None => known = Relation::Readable,
            }
        }
        known
    }

    /// Whether reading a relation of this name, in any schema, runs code of the database's own.
    pub(super) fn relation_runs_own(&self, name: &str) -> bool {
        self.base.relations.get(name).is_some_and(|facts| facts.iter().any(|fact| fact.runs_own))
    }

    /// Whether an operator of this name, in any schema, runs code of the database's own.
    pub(super) fn operator_runs_own(&self, name: &str) -> bool {
        self.base.own_operators.contains(name)
    }

    /// Whether a value of this type may run such code when it is cast or checked.
    pub(super) fn type_runs_own(&self, name: &str) -> bool {
        self.base.own_types.contains(name)
    }

    /// Whether an operator of this name, in any schema, calls a function that a replica must not call.
    pub(super) fn operator_unsafe(&self, name: &str) -> bool {
        self.base.operators.contains(name)
            || self.recent.is_unknown(Object::Operator, name)
            || (self.recent.own_code && self.base.own_operators.contains(name))
    }

    /// Whether `row.name` may call such a function (manual, 8.16.5: functional notation).
    pub(super) fn field_unsafe(&self, name: &str) -> bool {
        self.base.fields.contains(name)
            || self.recent.is_unknown(Object::Function, name)
            || (self.recent.own_code && self.function_is_own(name))
    }

    /// Whether a value of this type may call such a function when it is cast or checked.
    pub(super) fn type_unsafe(&self, name: &str) -> bool {
        self.base.types.contains(name)
            || self.recent.is_unknown(Object::Type, name)
            || (self.recent.own_code && self.base.own_types.contains(name))
    }

    fn schema(&self, name: Option<&str>) -> SchemaFilter {
        match name {
            None => SchemaFilter::Any,
            Some(name) => self.base.schemas.get(name).map_or(SchemaFilter::None, |id| SchemaFilter::One(*id)),
        }
    }
}

impl Base {
    /// Whether there is a function of this name of which more is known than that it is volatile. Those who depend on a
    /// volatile one are known to be no reads, whatever becomes of it.
    fn knows_more_than_volatile(&self, name: &str) -> bool {
        let volatile = |fact: &FunctionFact| fact.class.has(FunctionClass::VOLATILE);
        self.functions.get(name).is_some_and(|facts| !facts.iter().all(volatile))
    }

    fn is_system(&self, schema: u16) -> bool {
        ["pg_catalog", "information_schema"].iter().any(|name| self.schemas.get(*name) == Some(&schema))
    }
}

#[derive(Clone, Copy)]
enum SchemaFilter {
    Any,
    One(u16),
    None,
}

impl SchemaFilter {
    fn matches(self, schema: u16) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => one == schema,
            Self::None => false,
        }
    }
}

/// A row of [`LOAD_SQL`] is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogRowError {
    /// A column has a value that no version of the query gives.
    #[error("catalog row {row}: unexpected {column} {found:?}")]
    Unexpected {
        /// Number of the row, from 1.
        row: usize,
        /// Which column.
        column: &'static str,
        /// What it held.
        found: String,
    },
    /// More rows, or schemas, than a catalog holds.
    #[error("catalog too large: more than {rows_max} rows or 65535 schemas")]
    TooLarge {
        /// The limit.
        rows_max: usize,
    },
}

/// Puts a catalog together, row by row.
#[derive(Debug)]
pub struct CatalogBuilder {
    id: u64,
    generation: u64,
    catalog: Base,
    rows: usize,
}

impl CatalogBuilder {
    /// A catalog for the database of this id; `generation` is higher than that of every earlier one.
    pub fn new(id: u64, generation: u64) -> Self {
        Self { id, generation, catalog: Base::default(), rows: 0 }
    }

    /// Takes one row of [`LOAD_SQL`]: kind, schema, name, least and most arguments, class.
    pub fn add(&mut self, columns: [&str; 6]) -> Result<(), CatalogRowError> {
        let [kind, schema, name, arguments_min, arguments_max, class] = columns;
        self.rows += 1;
        let too_large = CatalogRowError::TooLarge { rows_max: ROWS_MAX };
        if self.rows > ROWS_MAX {
            return Err(too_large);
        }
        let row = self.rows;
        let unexpected = |column, found: &str| CatalogRowError::Unexpected {
            row,
            column,
            found: found.chars().take(64).collect(),
        };
        match kind {
            "f" => {
                let count =
                    |column, text: &str| text.parse::<u8>().ok().ok_or_else(|| unexpected(column, text));
                let fact = FunctionFact {
                    schema: self.intern(schema).ok_or(too_large)?,
                    arguments_min: count("arguments_min", arguments_min)?,
                    arguments_max: count("arguments_max", arguments_max)?,
                    class: FunctionClass::parse(class).ok_or_else(|| unexpected("class", class))?,
                };
                self.catalog.functions.entry(name.into()).or_default().push(fact);
            }
            "r" => {
                let runs_own = class.ends_with('o');
                let reason = match class.trim_end_matches('o') {
                    "s" => None,
                    "u" => Some(Reason::UnreadableRelation),
                    "n" => Some(Reason::NodeLocal),
                    "v" => Some(Reason::VolatileFunction),
                    _ => return Err(unexpected("class", class)),
                };
                let fact = RelationFact { schema: self.intern(schema).ok_or(too_large)?, reason, runs_own };
                self.catalog.relations.entry(name.into()).or_default().push(fact);
            }
            "o" => drop(self.catalog.operators.insert(name.into())),
            "a" => drop(self.catalog.fields.insert(name.into())),
            "t" => drop(self.catalog.types.insert(name.into())),
            "m" => drop(self.catalog.moments.insert(name.into())),
            "i" => self.catalog.read_committed = class == "s",
            "u" => self.catalog.rules = true,
            "w" => drop(self.catalog.own_operators.insert(name.into())),
            "x" => drop(self.catalog.own_types.insert(name.into())),
            "n" => {
                let number = arguments_min.parse().ok();
                let number = number.ok_or_else(|| unexpected("arguments_min", arguments_min))?;
                self.catalog.permanent.add(name, number);
            }
            _ => return Err(unexpected("kind", kind)),
        }
        Ok(())
    }

    /// The catalog.
    pub fn finish(mut self) -> Catalog {
        self.catalog.functions.shrink_to_fit();
        self.catalog.relations.shrink_to_fit();
        let Self { id, generation, catalog, .. } = self;
        Catalog { id, generation, empty: false, base: Arc::new(catalog), recent: Recent::default() }
    }

    fn intern(&mut self, schema: &str) -> Option<u16> {
        if let Some(id) = self.catalog.schemas.get(schema) {
            return Some(*id);
        }
        let id = u16::try_from(self.catalog.schemas.len()).ok()?;
        self.catalog.schemas.insert(schema.into(), id);
        Some(id)
    }
}
