//! Writes outside of a transaction block. Each is its own commit; if its server is lost while it runs, somebody has to be
//! able to tell whether it happened.
//!
//! So the pipeline asks for its transaction's id itself, between its last statement and Sync, with a Flush behind: the
//! server sends the id before it commits, and the client pays no round trip. What the client gets is kept back, within
//! a bound, until the server is ready, because only then is it true. Where the id tells that the transaction was committed,
//! that is the answer; where it was undone, the batch runs again and the client sees the second run only.
//!
//! A simple query has no room between its statement and its commit, so it is sent as the pipeline that gives the same
//! answer: only what `sql` found to be one plain statement, in a database without rules that answer.

use std::sync::Arc;

use super::batch::{End, frames};
use super::client_error::ClientError;
use super::effects::is_setting;
use super::expected::Expect;
use super::lost::{Ending, Loss};
use super::machine::Machine;
use super::plan::Plan;
use super::relay::{Event, Relayed};
use super::statement::{PROBE, PROBE_NAME, ServerSession};
use crate::sql::{Alone, Verdict};
use crate::wire::frontend::{Query, Target};
use crate::wire::{Tag, encode};

/// The question: the id of the transaction, where it has written.
pub(super) const QUESTION: &[u8] = b"SELECT pg_catalog.pg_current_xact_id_if_assigned()";

/// Longest answer that is kept back; of a longer one only the completion of a simple query is.
const HELD_MAX: usize = 16 * 1024;

/// What a session keeps of the buffer for it.
const HELD_CAPACITY_MAX: usize = 1024;

/// The state of a batch that asks for its transaction's id.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the batch in flight")]
pub(super) struct Asking {
    /// The batch in flight asks.
    pub(super) on: bool,
    /// The id has come, or that there is none.
    pub(super) known: bool,
    /// The answer was too long to be kept back.
    handing_on: bool,
    held: Vec<u8>,
    /// RowDescription of a simple query that writes: a server sends it when all has been written, and not at all where
    /// that fails.
    shape: Vec<u8>,
    /// The shape waits for the first row, or the end.
    late_shape: bool,
    /// CommandComplete of a simple query, which says that it is committed.
    completion: Vec<u8>,
}

impl Asking {
    pub(super) fn begin(&mut self) {
        self.on = false;
        self.known = false;
        self.handing_on = false;
        self.held.clear();
        self.shape.clear();
        self.late_shape = false;
        self.completion.clear();
    }

    pub(super) fn complete(&mut self, frame: &[u8]) {
        self.completion.extend_from_slice(frame);
    }

    /// Takes the shape of a simple query's rows, if its time has not come. `false`: it has.
    pub(super) fn put_shape_off(&mut self, frame: &[u8]) -> bool {
        if self.late_shape {
            self.shape.extend_from_slice(frame);
        }
        self.late_shape
    }

    /// The shape that is due ahead of the first row, or of the end.
    pub(super) fn shape(&mut self) -> Option<&mut Vec<u8>> {
        Some(&mut self.shape).filter(|shape| !shape.is_empty())
    }

    /// The wait for synchronous replicas was given up: what looks like success is none.
    pub(super) fn unsynced(&mut self) {
        self.held.clear();
        self.completion.clear();
    }

    /// What was kept back, to its end.
    pub(super) fn answer(&mut self) -> Vec<u8> {
        let mut answer = std::mem::take(&mut self.held);
        answer.append(&mut self.completion);
        answer
    }

    /// The completion, once the server is ready.
    pub(super) fn completion(&mut self) -> &mut Vec<u8> {
        &mut self.completion
    }

    /// Whether the completion waits for the server to be ready: what a server sends behind it has to wait too.
    pub(super) fn holds_completion(&self) -> bool {
        self.on && !self.completion.is_empty()
    }

    /// Keeps back what the client would get now; gives it out when the server is ready, or when it becomes too long.
    pub(super) fn hold_back(&mut self, relayed: &mut Relayed, input: &[u8], out: &mut Vec<u8>) {
        let ready = matches!(relayed.event, Some(Event::Ready(_)));
        // What comes between two batches (a notification) is the client's at once.
        self.on &= !ready;
        if self.handing_on || (ready && self.held.is_empty()) {
            return;
        }
        let bytes = if out.is_empty() { input.get(relayed.forward.clone()) } else { Some(&out[..]) };
        self.held.extend_from_slice(bytes.unwrap_or_default());
        out.clear();
        relayed.forward = 0..0;
        if !ready && self.held.len() <= HELD_MAX {
            return;
        }
        self.handing_on = !ready;
        out.extend_from_slice(&self.held);
        self.held.clear();
        if self.held.capacity() > HELD_CAPACITY_MAX {
            self.held = Vec::new();
        }
    }
}

impl Machine {
    /// Whether a judged batch that is its own commit can ask for its transaction's id.
    pub(super) fn can_ask(&self, batch: &[u8], plan: &Plan) -> bool {
        let tellable = |verdict: &Verdict| {
            verdict.alone != Alone::Unknown
                && verdict.statements == 1
                && !verdict.effects.iter().any(is_setting)
        };
        let known = !self.executed.is_empty() && self.executed.iter().all(|verdict| tellable(verdict));
        known
            && match plan.end {
                End::Sync => true,
                End::Query => {
                    self.executed.iter().all(|verdict| verdict.either_protocol) && !mentions_parameter(batch)
                }
                _ => false,
            }
    }

    /// Whether all that the batch executes does the same if it is run again after it was undone.
    pub(super) fn only_changes(&self) -> bool {
        self.executed.iter().all(|verdict| verdict.alone == Alone::Change)
    }

    /// Writes a simple query as the pipeline that gives the same answer, and asks.
    pub(super) fn dispatch_as_pipeline(
        &mut self,
        (batch, plan): (&[u8], &Plan),
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) {
        self.relay.asking.late_shape = plan.again;
        let sql =
            frames(batch).next().and_then(|frame| Query::decode(frame.body).ok().map(|query| query.sql));
        encode::parse(out, b"", sql.unwrap_or_default(), &[0, 0]);
        encode::bind_text(out, b"", b"", &[]);
        encode::describe(out, Target::Portal, b"");
        encode::execute(out, b"", 0);
        for expect in [Expect::Own, Expect::Own, Expect::Shape, Expect::Completion] {
            self.relay.expect(expect);
        }
        self.ask(server, out);
        encode::sync(out);
    }

    /// Asks for the transaction's id at this place of the pipeline.
    pub(super) fn ask(&mut self, server: &mut ServerSession, out: &mut Vec<u8>) {
        if !server.uses(PROBE) {
            self.close_overdue(server, out);
            encode::parse(out, PROBE_NAME, QUESTION, &[0, 0]);
            self.relay.expect(Expect::Probe);
        }
        encode::bind_text(out, b"", PROBE_NAME, &[]);
        encode::execute(out, b"", 0);
        encode::flush(out);
        self.relay.expect(Expect::Own);
        self.relay.expect(Expect::Id);
        self.relay.asking.on = true;
    }

    /// The connection broke while a batch that had said its transaction's id was running on it, and this is what became of
    /// it: the client gets the truth, or nothing yet where the batch can be run again. `kept`: all of it is at hand.
    pub fn lost_write(
        &mut self,
        ending: Ending,
        node: &Arc<str>,
        (plan, kept): (&Plan, bool),
        out: &mut Vec<u8>,
    ) -> Loss {
        if self.relay.body_left > 0 && self.relay.answered {
            return Loss::Broken;
        }
        let whole = kept && plan.again && !self.relay.answered && self.lost_pin().is_none();
        if ending == Ending::RolledBack && whole {
            self.rewind();
            return Loss::RunAgain;
        }
        match ending {
            Ending::Committed => out.append(&mut self.relay.asking.answer()),
            Ending::RolledBack => ClientError::TransactionLost { node: node.to_string() }.encode(out),
            Ending::Unknown => ClientError::CommitUnknown { node: node.to_string() }.encode(out),
        }
        if ending != Ending::Committed {
            self.settle_names();
        }
        self.connection_lost(node);
        encode::ready(out, self.status());
        Loss::Answered
    }

    /// The server has said that the batch failed, so it is undone, and what it said is the answer. `false`: it has not.
    pub(super) fn lost_failed(&mut self, node: &Arc<str>, out: &mut Vec<u8>) -> bool {
        if !self.relay.asking.on || !self.relay.error_seen() {
            return false;
        }
        out.append(&mut self.relay.asking.answer());
        self.settle_names();
        self.connection_lost(node);
        encode::ready(out, self.status());
        true
    }

    /// Writes the frames of a pipeline; `asks`: with the question ahead of its Sync.
    pub(super) fn dispatch_frames(
        &mut self,
        (batch, asks): (&[u8], bool),
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        for frame in frames(batch) {
            if asks && frame.tag == Tag::SYNC {
                self.ask(server, out);
            }
            self.dispatch_frame(frame, server, out)?;
        }
        Ok(())
    }
}

/// Whether something in the text may be a parameter, which a simple query has none of.
fn mentions_parameter(batch: &[u8]) -> bool {
    batch.windows(2).any(|pair| matches!(pair, [b'$', b'0'..=b'9']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::TxStatus;

    /// What the client gets of these parts of an answer.
    fn given(asking: &mut Asking, parts: &[(&[u8], bool)]) -> Vec<Vec<u8>> {
        let mut given = Vec::new();
        for (bytes, ready) in parts {
            let event = ready.then_some(Event::Ready(TxStatus::Idle));
            let mut relayed = Relayed { consumed: bytes.len(), forward: 0..bytes.len(), event };
            let mut out = Vec::new();
            asking.hold_back(&mut relayed, bytes, &mut out);
            given.push(if out.is_empty() { bytes[relayed.forward].to_vec() } else { out });
        }
        given
    }

    #[test]
    fn nothing_is_given_out_before_the_server_is_ready() {
        let mut asking = Asking { on: true, ..Asking::default() };
        let seen = given(&mut asking, &[(b"one", false), (b"two", false), (b"three", true)]);
        assert_eq!(seen, [&b""[..], b"", b"onetwothree"]);
        asking.begin();
        assert_eq!(given(&mut asking, &[(b"at once", true)]), [b"at once"]);
    }

    #[test]
    fn what_is_too_long_is_handed_on_from_there() {
        let mut asking = Asking { on: true, ..Asking::default() };
        let long = vec![b'x'; HELD_MAX];
        let seen = given(&mut asking, &[(b"a", false), (&long, false), (b"b", false), (b"c", true)]);
        assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [0, HELD_MAX + 1, 1, 1]);
        assert!(asking.answer().is_empty(), "nothing of it is left to be given");
    }

    #[test]
    fn only_a_dollar_with_a_digit_may_be_a_parameter() {
        assert!(mentions_parameter(b"INSERT INTO t VALUES ($1)"));
        assert!(!mentions_parameter(b"INSERT INTO t VALUES ($$x$$, 'US$')"));
    }
}
