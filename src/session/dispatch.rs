//! Writes what a server gets for a batch: settings and BEGIN that it has not seen yet, the client's frames with their
//! statement names changed, statements that are not prepared there yet. Notes what it will answer.

use std::rc::Rc;

use super::asking::QUESTION;
use super::batch::{End, Frame};
use super::client_error::ClientError;
use super::expected::Expect;
use super::machine::{Machine, Tx};
use super::overlay::difference;
use super::plan::Plan;
use super::relay::Hold;
use super::statement::{ServerSession, Statement, push_server_name};
use crate::wire::frontend::{Bind, Close, Describe, Parse, Target};
use crate::wire::{FrameError, Tag, encode};

/// A portal that no client has.
const NO_PORTAL: &[u8] = b"primacy: refused";

/// What goes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// The batch as the client sent it.
    Raw,
    /// What was written to `out`.
    Written,
}

impl Machine {
    /// Prepares a judged, gathered batch for the server connection that will run it. `out` must be empty.
    /// `hold` keeps the first answers back until it is known that the batch need not run elsewhere.
    pub fn dispatch(
        &mut self,
        (batch, plan): (&[u8], &Plan),
        server: &mut ServerSession,
        hold: Hold,
        out: &mut Vec<u8>,
    ) -> Outgoing {
        self.begin_dispatch(server, hold, out);
        if self.tx != Tx::Failed && self.sees_strange_sequences(server) {
            encode::query(out, b"DISCARD SEQUENCES");
            self.relay.swallow_ready += 1;
            server.unnamed = None;
        }
        let wrote = self.wrote && self.roaming.is_none();
        if self.settings.resolve_commits && wrote && plan.is_commit() && self.tx == Tx::Open {
            // In the same packet as COMMIT, so it costs no round trip; and its answer leaves the server before COMMIT
            // is looked at. With the id the outcome can be had from another server if this one is lost.
            encode::query(out, QUESTION);
            self.relay.swallow_ready += 1;
            self.relay.asks_xid = true;
            server.unnamed = None;
        }
        let inject_unnamed = plan.old_unnamed && !self.server_has_unnamed(server);
        if plan.end == End::Query {
            // A simple query destroys the unnamed statement (manual, 55.2.2).
            server.unnamed = None;
            self.unnamed = None;
            if self.dispatch_executed(batch, server, out) {
                return Outgoing::Written;
            }
        }
        self.close_hidden(plan.runs_unseen(), server, out);
        // A hint may have sent it to a replica, where nothing is committed.
        let asks = plan.asks && hold == Hold::None;
        if asks && plan.end == End::Query {
            self.dispatch_as_pipeline((batch, plan), server, out);
            return Outgoing::Written;
        }
        self.relay.own_sync = plan.prepares_only();
        // A pipeline that goes on after Flush needs its answers followed in order from the start.
        if !plan.rewrite && !inject_unnamed && plan.end != End::Flush && !asks {
            if self.relay.own_unnamed && plan.extended() {
                server.unnamed = Some((self.id, self.unnamed_number));
            }
            if out.is_empty() {
                return Outgoing::Raw;
            }
            out.extend_from_slice(batch);
            return Outgoing::Written;
        }
        if let Err(error) = self.dispatch_frames((batch, asks), server, out) {
            self.fail(error, out);
            // The server skips to Sync after its error; so nothing up to there is sent.
            if plan.end == End::Sync || plan.prepares_only() {
                encode::sync(out);
            } else {
                encode::flush(out);
            }
        }
        if !plan.stays_open() {
            self.relay.simplify();
        }
        Outgoing::Written
    }

    /// What every batch begins with: settings that differ, a deferred BEGIN; and what ROLLBACK returns to.
    pub(super) fn begin_dispatch(&mut self, server: &mut ServerSession, hold: Hold, out: &mut Vec<u8>) {
        self.relay.begin(hold);
        if let Some(sql) = difference(&server.applied, &self.current) {
            encode::query(out, sql.as_bytes());
            self.relay.swallow_ready += 1;
            server.applied = self.current.clone();
            server.unnamed = None;
        }
        self.prepare_again(server, out);
        self.remember_before();
        if matches!(self.tx, Tx::Deferred { .. })
            && let Tx::Deferred { queries, mode } = std::mem::replace(&mut self.tx, Tx::Open)
        {
            for query in &queries {
                encode::query(out, query);
                self.relay.swallow_ready += 1;
            }
            server.unnamed = None;
            self.relay.began = Some((queries, mode));
            if let Some(settings) = self.set_aside.take() {
                server.applied = settings.clone();
                self.current = settings;
            }
        }
    }

    /// Makes the server fail at this place of a pipeline, so that what stands before it is undone with it, as it would be if
    /// the server itself had refused what the proxy refuses; the client gets the proxy's error.
    pub(super) fn fail(&mut self, error: ClientError, out: &mut Vec<u8>) {
        encode::execute(out, NO_PORTAL, 0);
        self.relay.expect(Expect::Fail(Box::new(error)));
    }

    /// Closes what the batch must not find prepared. `unknown`: it may execute what was not judged.
    pub(super) fn close_hidden(&mut self, unknown: bool, server: &mut ServerSession, out: &mut Vec<u8>) {
        for id in self.hidden(unknown, server) {
            push_close(id, out);
            self.relay.expect(Expect::CloseOld);
        }
    }

    /// The statements that the batch must not find prepared.
    pub(super) fn hidden(&self, unknown: bool, server: &mut ServerSession) -> Vec<u64> {
        let shows = unknown || self.executed.iter().any(|verdict| verdict.shows_statements);
        let is_own = |id| self.prepared.values().any(|statement| statement.id == id);
        server.overdue_before(shows.then_some(is_own))
    }

    fn server_has_unnamed(&self, server: &ServerSession) -> bool {
        server.unnamed == Some((self.id, self.unnamed_number))
    }

    /// Writes one frame of an extended pipeline.
    ///
    /// # Errors
    /// What the server would have answered to a name that it does not know, or knows already.
    pub(super) fn dispatch_frame(
        &mut self,
        frame: Frame<'_>,
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        match frame.tag {
            Tag::PARSE => return self.dispatch_parse(frame, server, out),
            Tag::BIND => return self.dispatch_bind(frame, server, out),
            Tag::DESCRIBE => return self.dispatch_describe(frame, server, out),
            Tag::CLOSE => return self.dispatch_close(frame, server, out),
            Tag::EXECUTE => self.relay.expect(Expect::Forward),
            Tag::FLUSH if self.relay.own_sync => {
                encode::sync(out);
                return Ok(());
            }
            _ => {}
        }
        out.extend_from_slice(frame.raw);
        Ok(())
    }

    fn dispatch_parse(
        &mut self,
        frame: Frame<'_>,
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        let Ok(parse) = Parse::decode(frame.body) else { return Err(malformed(frame)) };
        if parse.name.is_empty() {
            server.unnamed = Some((self.id, self.unnamed_number));
            self.relay.expect(Expect::Forward);
            out.extend_from_slice(frame.raw);
            return Ok(());
        }
        let name = || String::from_utf8_lossy(parse.name).into_owned();
        let Some(statement) = self.prepared.get(parse.name).map(Rc::clone) else {
            return Err(ClientError::PreparedLimit {
                what: "prepared statements (or bytes of them)",
                max: self.settings.prepared_max as u64,
            });
        };
        // `plan` entered the name; where it had been there before, the client prepares it twice.
        if !self.relay.is_tentative(parse.name) {
            return Err(ClientError::DuplicateStatement { name: name() });
        }
        if server.uses(statement.id) {
            self.relay.expect(Expect::SynthesizeParse(parse.name.into()));
        } else {
            self.close_overdue(server, out);
            push_parse(&statement, out);
            self.relay.expect(Expect::Parse(statement, parse.name.into()));
        }
        Ok(())
    }

    fn dispatch_bind(
        &mut self,
        frame: Frame<'_>,
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        let Ok(bind) = Bind::decode(frame.body) else { return Err(malformed(frame)) };
        if bind.statement.is_empty() {
            self.ensure_unnamed(server, out);
            out.extend_from_slice(frame.raw);
        } else {
            let statement = self.ensure_prepared(bind.statement, server, out)?;
            push_bind(bind, statement, out);
        }
        self.relay.expect(Expect::Forward);
        Ok(())
    }

    fn dispatch_describe(
        &mut self,
        frame: Frame<'_>,
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        let Ok(describe) = Describe::decode(frame.body) else { return Err(malformed(frame)) };
        if describe.target == Target::Statement && !describe.name.is_empty() {
            let statement = self.ensure_prepared(describe.name, server, out)?;
            let start = begin_frame(Tag::DESCRIBE, out);
            out.push(Target::Statement.letter());
            push_server_name(statement, out);
            out.push(0);
            end_frame(start, out);
        } else {
            if describe.target == Target::Statement {
                self.ensure_unnamed(server, out);
            }
            out.extend_from_slice(frame.raw);
        }
        self.relay.expect(Expect::Forward);
        Ok(())
    }

    fn dispatch_close(
        &mut self,
        frame: Frame<'_>,
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        let Ok(close) = Close::decode(frame.body) else { return Err(malformed(frame)) };
        if close.target == Target::Statement && !close.name.is_empty() {
            // Other sessions share the statement on the server; only this client's name for it goes.
            self.drop_prepared(close.name);
            if let Some(at) = self.relay.replacements.iter().position(|(name, _)| **name == *close.name) {
                let (name, statement) = self.relay.replacements.swap_remove(at);
                self.enter_prepared(name, statement);
            }
            self.relay.expect(Expect::SynthesizeClose);
        } else {
            if close.target == Target::Statement {
                server.unnamed = None;
            }
            out.extend_from_slice(frame.raw);
            self.relay.expect(Expect::Forward);
        }
        Ok(())
    }

    /// Drops the client's name for a prepared statement.
    pub(super) fn drop_prepared(&mut self, name: &[u8]) {
        if let Some(statement) = self.prepared.remove(name) {
            self.prepared_bytes = self.prepared_bytes.saturating_sub(statement.bytes());
        }
    }

    /// Prepares the client's statement on this connection where it is not yet; gives its id.
    pub(super) fn ensure_prepared(
        &mut self,
        name: &[u8],
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) -> Result<u64, ClientError> {
        let Some(statement) = self.prepared.get(name) else { return Err(Self::unknown_statement(name)) };
        let id = statement.id;
        if !server.uses(id) && !self.relay.will_prepare(id) {
            let statement = Rc::clone(statement);
            self.close_overdue(server, out);
            push_parse(&statement, out);
            self.relay.expect(Expect::Inject(statement));
        }
        Ok(id)
    }

    pub(super) fn ensure_unnamed(&mut self, server: &mut ServerSession, out: &mut Vec<u8>) {
        if self.server_has_unnamed(server) {
            return;
        }
        // Without one of its own the client gets the server's error.
        if let Some(unnamed) = &self.unnamed {
            let start = begin_frame(Tag::PARSE, out);
            out.push(0);
            out.extend_from_slice(&unnamed.definition);
            end_frame(start, out);
            self.relay.expect(Expect::InjectUnnamed);
            server.unnamed = Some((self.id, self.unnamed_number));
        }
    }

    pub(super) fn close_overdue(&mut self, server: &mut ServerSession, out: &mut Vec<u8>) {
        if let Some(id) = server.overdue(self.settings.server_prepared_max) {
            server.remove(id);
            push_close(id, out);
            self.relay.expect(Expect::CloseOld);
        }
    }
}

fn malformed(frame: Frame<'_>) -> ClientError {
    ClientError::Frame(FrameError::Truncated { tag: frame.tag, field: "name" })
}

fn begin_frame(tag: Tag, out: &mut Vec<u8>) -> usize {
    out.push(tag.0);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    at
}

fn end_frame(start: usize, out: &mut [u8]) {
    let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

pub(super) fn push_close(id: u64, out: &mut Vec<u8>) {
    let start = begin_frame(Tag::CLOSE, out);
    out.push(Target::Statement.letter());
    push_server_name(id, out);
    out.push(0);
    end_frame(start, out);
}

pub(super) fn push_parse(statement: &Statement, out: &mut Vec<u8>) {
    let start = begin_frame(Tag::PARSE, out);
    push_server_name(statement.id, out);
    out.push(0);
    out.extend_from_slice(&statement.definition);
    end_frame(start, out);
}

fn push_bind(bind: Bind<'_>, statement: u64, out: &mut Vec<u8>) {
    let start = begin_frame(Tag::BIND, out);
    out.extend_from_slice(bind.portal);
    out.push(0);
    push_server_name(statement, out);
    out.push(0);
    out.extend_from_slice(bind.rest);
    end_frame(start, out);
}
