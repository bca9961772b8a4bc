//! What statements that define something change in the facts, before these are loaded again.
//!
//! The facts only ever say too much: they are the worst of all that a name may mean. So a new object needs a note under
//! its own name, dropping one needs none, and only what changes an object that others may depend on makes all facts
//! worthless until they are loaded anew.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Base, FunctionClass};
use crate::sql::verdict::SessionEffect;

/// Names noted before the facts count as unknown altogether.
const NAMES_MAX: usize = 10_000;

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// A table, view, sequence or the like.
    Relation,
    /// A function or procedure.
    Function,
    /// An operator.
    Operator,
    /// A type.
    Type,
}

/// What one statement may have changed in the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new object of this name, of which nothing more is known.
    New(Object, Arc<str>),
    /// A new relation that any node can read.
    Readable(Arc<str>),
    /// A new view that any node can read.
    View(Arc<str>),
    /// A new function, and what calling it leaves in the session as far as its body tells.
    Function(Arc<str>, Leaves),
    /// An object of this name is made, or made anew: if the facts know it, others may depend on it.
    Replaced(Object, Arc<str>),
    /// What the database's own functions are, and everything that runs some.
    OwnCode,
    /// Which of the database's own relations can be read.
    Relations,
    /// Anything.
    Anything,
}

/// What a function's body seems to leave in the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaves(pub(in crate::sql) FunctionClass);

impl Leaves {
    /// What a body with these effects leaves.
    pub(in crate::sql) fn of(effects: &[SessionEffect]) -> Self {
        Self(FunctionClass::leaving(effects))
    }
}

/// The changes since the facts were loaded. Grows only; a load begins anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    unknown: FxHashSet<(Object, Arc<str>)>,
    readable: FxHashSet<Arc<str>>,
    leaves: FxHashMap<Arc<str>, FunctionClass>,
    /// Nothing is known of functions that are not built in, and of what runs some.
    pub(super) own_code: bool,
    /// Nothing is known of the relations that were loaded, those of the system apart.
    pub(super) relations: bool,
}

impl Recent {
    /// Whether nothing was noted of relations and types.
    pub(super) fn is_empty(&self) -> bool {
        let other = |object| object == Object::Function || object == Object::Operator;
        !self.relations
            && !self.own_code
            && self.readable.is_empty()
            && self.unknown.iter().all(|(object, _)| other(*object))
    }

    pub(super) fn is_unknown(&self, object: Object, name: &str) -> bool {
        // Nearly always there are none.
        !self.unknown.is_empty() && self.unknown.contains(&(object, Arc::from(name)))
    }

    pub(super) fn is_readable(&self, name: &str) -> bool {
        self.readable.contains(name)
    }

    pub(super) fn leaves(&self, name: &str) -> FunctionClass {
        self.leaves.get(name).copied().unwrap_or_default()
    }

    fn doubt_relations(&mut self) {
        self.relations = true;
        self.readable.clear();
    }

    /// Takes a change in. `false`: nothing that the facts say can be relied upon any more.
    pub(super) fn take(&mut self, change: &Change, base: &Base) -> bool {
        if self.unknown.len() + self.readable.len() + self.leaves.len() >= NAMES_MAX {
            return false;
        }
        match change {
            Change::New(object, name) => drop(self.unknown.insert((*object, Arc::clone(name)))),
            Change::Readable(name) | Change::View(name) => drop(self.readable.insert(Arc::clone(name))),
            Change::Function(name, Leaves(class)) => {
                self.unknown.insert((Object::Function, Arc::clone(name)));
                let known = self.leaves.entry(Arc::clone(name)).or_default();
                *known = known.and(*class);
            }
            Change::Replaced(object, name) => {
                match object {
                    Object::Function if base.knows_more_than_volatile(name) => self.own_code = true,
                    Object::Relation if base.relations.contains_key(&**name) || self.is_readable(name) => {
                        self.doubt_relations();
                    }
                    Object::Function | Object::Relation => {}
                    Object::Operator | Object::Type => return false,
                }
                self.unknown.insert((*object, Arc::clone(name)));
            }
            Change::OwnCode => self.own_code = true,
            Change::Relations => self.doubt_relations(),
            Change::Anything => return false,
        }
        true
    }
}
