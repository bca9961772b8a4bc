//! What PREPARE in SQL has left in a server session: names and texts, to be prepared once more on another connection where
//! the one that had them is lost.
//!
//! In: the texts of single statements as the client sent them. Out: those texts, in their order. A statement that came another
//! way (in a text of several, from a function) has no text here, and ties its session to its connection for good.

use std::rc::Rc;
use std::sync::Arc;

use super::machine::Machine;
use super::statement::ServerSession;
use crate::sql::{Kind, SessionEffect, Verdict};
use crate::wire::encode;

/// The text of a PREPARE, in the client's encoding.
type Text = Rc<[u8]>;

/// The session's statements, in the order in which they were prepared.
#[derive(Debug, Default)]
pub(super) struct SqlPrepared {
    all: Vec<(Arc<str>, Option<Text>)>,
    /// The name and the text of the batch in flight, where that is one PREPARE.
    preparing: Option<(Arc<str>, Text)>,
}

impl SqlPrepared {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.all.iter().any(|(have, _)| **have == *name)
    }

    /// Whether all of them could be prepared anywhere.
    pub(super) fn is_whole(&self) -> bool {
        self.all.iter().all(|(_, text)| text.is_some())
    }

    /// Takes a statement in, with the text of the batch in flight as far as there is room for it.
    fn add(&mut self, name: &Arc<str>, (count_max, bytes_max): (usize, usize)) {
        let text = self.preparing.take().filter(|(preparing, _)| preparing == name).map(|(_, text)| text);
        self.remove(name);
        let bytes: usize = self.all.iter().filter_map(|(_, text)| text.as_ref()).map(|text| text.len()).sum();
        let room = |text: &Text| self.all.len() < count_max && bytes + text.len() <= bytes_max;
        let text = text.filter(room);
        self.all.push((Arc::clone(name), text));
    }

    fn remove(&mut self, name: &str) {
        self.all.retain(|(have, _)| **have != *name);
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// Notes the text of a batch that is one statement and prepares another.
    pub(super) fn note(&mut self, sql: &[u8], verdict: &Verdict) {
        let name = |effect: &SessionEffect| match effect {
            SessionEffect::PrepareSql(name) => Some(Arc::clone(name)),
            _ => None,
        };
        let alone = verdict.statements == 1 && verdict.kind != Kind::Block;
        let name = verdict.effects.iter().find_map(name).filter(|_| alone);
        self.preparing = name.map(|name| (name, Rc::from(sql)));
    }

    /// The batch is answered.
    pub(super) fn settle(&mut self) {
        self.preparing = None;
    }
}

impl Machine {
    /// The client has prepared a statement in SQL on this connection.
    pub(super) fn prepared_in_sql(&mut self, name: &Arc<str>, server: &mut ServerSession) {
        self.sql_prepared.add(name, (self.settings.prepared_max, self.settings.prepared_bytes_max));
        server.sql_prepared_by = self.id;
    }

    /// It has deallocated one of them.
    pub(super) fn deallocated_in_sql(&mut self, name: &str, server: &mut ServerSession) {
        self.sql_prepared.remove(name);
        if self.sql_prepared.is_empty() {
            server.sql_prepared_by = 0;
        }
    }

    /// Prepares on this connection what an earlier one had. Where that fails, the client learns of it when it executes the
    /// statement: there is none of that name.
    pub(super) fn prepare_again(&mut self, server: &mut ServerSession, out: &mut Vec<u8>) {
        if self.beside || self.sql_prepared.is_empty() || server.sql_prepared_by == self.id {
            return;
        }
        server.sql_prepared_by = self.id;
        server.unnamed = None;
        self.relay.strict_ready = self.relay.swallow_ready;
        for text in self.sql_prepared.all.iter().filter_map(|(_, text)| text.as_ref()) {
            encode::query(out, text);
            self.relay.swallow_ready += 1;
            self.relay.lenient_ready += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_without_a_text_or_without_room_ties_the_session() {
        let mut prepared = SqlPrepared::default();
        let limits = (2, 20);
        let mut add = |name: &str, text: Option<&str>| {
            prepared.preparing = text.map(|text| (Arc::from(name), Rc::from(text.as_bytes())));
            prepared.add(&Arc::from(name), limits);
            prepared.is_whole()
        };
        assert!(add("a", Some("PREPARE a")));
        assert!(!add("b", None));
        assert!(add("b", Some("PREPARE b")));
        assert!(!add("c", Some("PREPARE c")));
        prepared.remove("a");
        prepared.remove("c");
        assert!(prepared.is_whole() && prepared.contains("b") && !prepared.contains("a"));
    }
}
