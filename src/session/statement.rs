//! Prepared statements that follow their session over server connections.
//!
//! A client's name stands for a `Statement`, which all sessions of a worker share where text and parameter types are
//! the same. On a server connection it is known by its own name, and prepared there when it is first needed.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::overlay::Overlay;
use super::sequences::Mark;
use crate::model::NodeId;
use crate::sql::{Alone, Kind, Moving, Place, Reason, Shows, Usage, Verdict};

/// One prepared text. Its server-side name is derived from `id`, unique in the worker.
#[derive(Debug)]
pub struct Statement {
    /// Unique in this worker.
    pub id: u64,
    /// The body of Parse after the name: the text with its NUL, then the parameter types.
    pub definition: Rc<[u8]>,
    /// Catalog generation and the verdict made with it.
    pub verdict: RefCell<(u64, Rc<Verdict>)>,
}

impl Statement {
    /// The text, without the parameter types.
    pub fn text(&self) -> &[u8] {
        text_in(&self.definition)
    }

    /// What it costs a session that holds it.
    pub fn bytes(&self) -> usize {
        self.definition.len() + 64
    }
}

/// The text in a definition: what stands before its NUL.
pub(super) fn text_in(definition: &[u8]) -> &[u8] {
    definition.split(|&b| b == 0).next().unwrap_or_default()
}

/// The id of the question that `asking` prepares for itself: no statement of a client has it.
pub(super) const PROBE: u64 = 0;

/// What `push_server_name` makes of it.
pub(super) const PROBE_NAME: &[u8] = b"primacy_0";

/// How the names begin by which servers know statements.
pub(super) const SERVER_NAME_BEGINS: &str = "primacy_";

/// The statements of a worker, shared between its sessions.
#[derive(Debug, Default)]
pub struct Statements {
    by_definition: HashMap<Rc<[u8]>, Rc<Statement>, FxBuildHasher>,
    last_id: u64,
    sweep_at: usize,
}

impl Statements {
    /// The statement of this definition; `judge` is asked where it is new.
    pub fn intern(&mut self, definition: &[u8], judge: impl FnOnce() -> (u64, Rc<Verdict>)) -> Rc<Statement> {
        if let Some(known) = self.by_definition.get(definition) {
            return Rc::clone(known);
        }
        if self.by_definition.len() >= self.sweep_at.max(1024) {
            // Nobody else holds what only this map holds. Sweeping at each doubling keeps the cost per insert constant.
            self.by_definition.retain(|_, statement| Rc::strong_count(statement) > 1);
            self.sweep_at = self.by_definition.len() * 2;
        }
        self.last_id += 1;
        let definition: Rc<[u8]> = definition.into();
        let statement = Rc::new(Statement {
            id: self.last_id,
            definition: Rc::clone(&definition),
            verdict: RefCell::new(judge()),
        });
        self.by_definition.insert(definition, Rc::clone(&statement));
        statement
    }
}

/// What is known about the session that lives in a server connection. Travels with the connection.
#[derive(Debug)]
pub struct ServerSession {
    /// The node it is connected to.
    pub node: NodeId,
    /// Settings that were applied beyond those it was started with.
    pub applied: Overlay,
    /// Statements prepared on it, with the time of last use.
    prepared: HashMap<u64, u64, FxBuildHasher>,
    uses: u64,
    /// Code of the database's own may have dropped some of them.
    doubtful: bool,
    /// Whose unnamed statement it holds: a session and the number of its unnamed statement.
    pub unnamed: Option<(u64, u64)>,
    /// The session that used it last, while that lives; 0: nobody.
    pub last_user: u64,
    /// It keeps a trace of a session that nothing removes: a schema of its own for temporary tables, loaded code. No
    /// other session gets it.
    pub tainted: bool,
    /// Who took from sequences here last.
    pub(super) sequences: Mark,
    /// The session whose PREPAREs in SQL it has; 0: nobody's.
    pub(super) sql_prepared_by: u64,
}

impl ServerSession {
    /// A fresh connection to `node`.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            applied: Overlay::default(),
            prepared: HashMap::default(),
            uses: 0,
            doubtful: false,
            unnamed: None,
            last_user: 0,
            tainted: false,
            sequences: Mark::default(),
            sql_prepared_by: 0,
        }
    }

    /// Whether it keeps what its last user, who lives, may ask for again.
    pub fn is_missed(&self) -> bool {
        self.last_user != 0 && self.sequences.get() == self.last_user
    }

    /// Whether the statement is prepared here; counts as a use.
    pub fn uses(&mut self, id: u64) -> bool {
        self.uses += 1;
        let now = self.uses;
        self.prepared.get_mut(&id).map(|used| *used = now).is_some()
    }

    /// Notes that it is prepared here now.
    pub fn add(&mut self, id: u64) {
        self.uses += 1;
        self.prepared.insert(id, self.uses);
    }

    /// Notes that it is not.
    pub fn remove(&mut self, id: u64) {
        self.prepared.remove(&id);
    }

    /// Forgets all of them: DEALLOCATE ALL or DISCARD ALL ran here.
    pub fn clear_prepared(&mut self) {
        self.prepared.clear();
        self.unnamed = None;
        self.sql_prepared_by = 0;
    }

    /// Notes that some of them may be gone.
    pub fn doubt_prepared(&mut self) {
        self.doubtful = true;
    }

    /// The statements that have to be closed before a batch: those that may be gone, and, where it shows what is prepared
    /// (`shown_to` tells what is the client's), those of others. They are noted as not prepared.
    pub(super) fn overdue_before(&mut self, shown_to: Option<impl Fn(u64) -> bool>) -> Vec<u64> {
        if std::mem::take(&mut self.doubtful) {
            return self.prepared.drain().map(|(id, _)| id).collect();
        }
        let Some(is_own) = shown_to else { return Vec::new() };
        self.prepared.extract_if(|id, _| !is_own(*id)).map(|(id, _)| id).collect()
    }

    /// Nothing is known here any more of what was taken from sequences.
    pub(super) fn discard_sequences(&mut self) {
        self.sequences.set(0);
    }

    /// How many are prepared here.
    pub fn prepared_count(&self) -> usize {
        self.prepared.len()
    }

    /// The one that was not used for longest, where there are at least `max`.
    pub fn overdue(&self, max: usize) -> Option<u64> {
        if self.prepared.len() < max {
            return None;
        }
        self.prepared.iter().min_by_key(|(_, used)| **used).map(|(id, _)| *id)
    }
}

/// Appends the name by which servers know the statement of this id.
pub(super) fn push_server_name(id: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(SERVER_NAME_BEGINS.as_bytes());
    let significant = (u64::BITS - id.leading_zeros()).div_ceil(4).max(1);
    for place in (0..significant).rev() {
        let digit = usize::try_from(id >> (place * 4) & 15).unwrap_or(0);
        out.push(DIGITS.get(digit).copied().unwrap_or(b'0'));
    }
}

/// Stands for the statement that a name does not stand for.
pub(super) fn nonexistent() -> Verdict {
    Verdict {
        place: Place::Primary,
        reason: Reason::SessionState,
        detail: None,
        kind: Kind::Plain,
        hint: None,
        consistency: None,
        moving: Moving::Never,
        alone: Alone::Unknown,
        either_protocol: false,
        effects: Box::new([]),
        own_code: false,
        shows: Shows::Anything,
        shows_statements: false,
        statements: 1,
        usage: Usage::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_hexadecimal_ids() {
        for (id, name) in
            [(0, "primacy_0"), (1, "primacy_1"), (0x10, "primacy_10"), (u64::MAX, "primacy_ffffffffffffffff")]
        {
            let mut out = Vec::new();
            push_server_name(id, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), name);
        }
    }

    #[test]
    fn the_least_recently_used_statement_is_overdue() {
        let mut server = ServerSession::new(NodeId(0));
        server.add(1);
        server.add(2);
        assert!(server.uses(1));
        assert_eq!(server.overdue(3), None);
        assert_eq!(server.overdue(2), Some(2));
        server.remove(2);
        assert!(!server.uses(2));
    }
}
