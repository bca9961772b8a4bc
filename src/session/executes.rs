//! EXECUTE in SQL of statements that the client prepared by the protocol. Servers know them by other names, so these stand
//! in the text that goes to a server; positions in what it says of that text are those of the longer names.

use std::rc::Rc;

use super::batch::frames;
use super::dispatch::{push_close, push_parse};
use super::machine::{Judge, Machine, Tx};
use super::plan::current_verdict;
use super::statement::{ServerSession, Statement, push_server_name};
use crate::sql::{Verdict, executed};
use crate::wire::encode;
use crate::wire::frontend::Query;

impl Machine {
    /// What a statement prepared by the protocol does is done by who executes it in SQL.
    pub(super) fn plan_executed(&mut self, sql: &[u8], verdict: &Verdict, judge: &mut Judge<'_>) {
        self.sql_prepared.note(sql, verdict);
        if verdict.shows_statements && !self.prepared.is_empty() {
            for (_, name) in executed(sql) {
                if let Some(statement) = self.executable(&name) {
                    self.executed.push(current_verdict(&statement, judge));
                }
            }
        }
    }

    /// Writes a simple query with the names that the server knows, and ahead of it what is not prepared there. `false`: it
    /// executes nothing that the protocol prepared, and nothing is written.
    pub(super) fn dispatch_executed(
        &mut self,
        batch: &[u8],
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) -> bool {
        let shows = self.executed.iter().any(|verdict| verdict.shows_statements);
        if !shows || self.prepared.is_empty() || self.tx == Tx::Failed {
            return false;
        }
        let Some(sql) =
            frames(batch).next().and_then(|frame| Query::decode(frame.body).ok().map(|query| query.sql))
        else {
            return false;
        };
        let (mut text, mut copied, mut wanted) = (Vec::new(), 0, Vec::new());
        for (at, name) in executed(sql) {
            if let Some(statement) = self.executable(&name) {
                text.extend_from_slice(sql.get(copied..at.start).unwrap_or_default());
                push_server_name(statement.id, &mut text);
                copied = at.end;
                wanted.push(statement);
            }
        }
        if wanted.is_empty() {
            return false;
        }
        text.extend_from_slice(sql.get(copied..).unwrap_or_default());
        self.prepare_ahead(&wanted, server, out);
        encode::query(out, &text);
        true
    }

    fn executable(&self, name: &str) -> Option<Rc<Statement>> {
        let by_protocol = !self.sql_prepared.contains(name);
        self.prepared.get(name.as_bytes()).filter(|_| by_protocol).map(Rc::clone)
    }

    /// Prepares what is not prepared on this connection, and closes what must not be found there, with a Sync behind: after
    /// an error the query would be skipped.
    fn prepare_ahead(&mut self, wanted: &[Rc<Statement>], server: &mut ServerSession, out: &mut Vec<u8>) {
        let before = out.len();
        for id in self.hidden(false, server) {
            push_close(id, out);
        }
        for statement in wanted {
            if !server.uses(statement.id) {
                push_parse(statement, out);
                // Where that fails the connection is given up.
                server.add(statement.id);
            }
        }
        if out.len() > before {
            encode::sync(out);
            self.relay.swallow_ready += 1;
        }
    }
}
