//! `currval` and `lastval`: what a session has taken from sequences is known to the server connection on which it did.
//!
//! A connection notes which session took from sequences last; the session remembers that connection, and the pool lends
//! it this one again where it can. A session that asks is tied to the connection from then on. Where another session
//! has used the connection meanwhile, what it left there is discarded first: PostgreSQL's "not yet defined in this
//! session" is the truth then, and another session's value would be a lie.

use std::cell::Cell;
use std::rc::Rc;

use super::machine::Machine;
use super::statement::ServerSession;
use crate::sql::{PinCause, Place, Reason, SessionEffect, Verdict};

/// Marks a server connection with the session that took from sequences on it last; 0: nobody.
pub(super) type Mark = Rc<Cell<u64>>;

/// What a session knows of what it took.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// The connection on which it took last.
    home: Option<Mark>,
    /// It took on several: no connection knows all of it.
    scattered: bool,
}

impl Sequences {
    /// The session has taken from sequences, or may have, on this connection.
    fn took(&mut self, id: u64, server: &ServerSession) {
        self.scattered |= self.home.as_ref().is_some_and(|home| !Rc::ptr_eq(home, &server.sequences));
        self.home = Some(Rc::clone(&server.sequences));
        server.sequences.set(id);
    }

    fn all_here(&self, id: u64, server: &ServerSession) -> bool {
        let here = |home: &Mark| Rc::ptr_eq(home, &server.sequences);
        !self.scattered && self.home.as_ref().is_some_and(here) && server.sequences.get() == id
    }

    fn forget(&mut self) {
        self.home = None;
        self.scattered = false;
    }
}

impl Machine {
    /// Whether the batch may be told values on this connection that are not the session's own; they are to be discarded.
    pub(super) fn sees_strange_sequences(&mut self, server: &ServerSession) -> bool {
        let asks = |verdict: &Rc<Verdict>| verdict.effects.contains(&SessionEffect::AsksSequences);
        if !self.executed.iter().any(asks) || self.sequences.all_here(self.id, server) {
            return false;
        }
        self.sequences.forget();
        server.sequences.replace(0) != 0
    }

    /// Notes what the finished batch may have taken, even where it failed: no error gives a value back.
    pub(super) fn note_sequences(&mut self, executed: &[Rc<Verdict>], server: &ServerSession) {
        if executed.is_empty() || executed.iter().any(|verdict| may_take(verdict)) {
            self.sequences.took(self.id, server);
        }
    }

    /// The session has asked, and will again.
    pub(super) fn asks_sequences(&mut self) {
        self.pins.add(PinCause::Sequence);
    }

    /// DISCARD SEQUENCES, or the connection is gone.
    pub(super) fn forget_sequences(&mut self) {
        self.sequences.forget();
        self.pins.remove(PinCause::Sequence);
    }
}

/// Whether the statement may take a value from a sequence: most that run on the primary may, by a column's default.
fn may_take(verdict: &Verdict) -> bool {
    let of_the_session = verdict.reason == Reason::SessionState && !verdict.effects.is_empty();
    verdict.place == Place::Primary && !of_the_session && !verdict.kind.controls_transactions()
}
