//! What is known of the batch in flight: the answers that are still expected, and what they have shown so far.

use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::SmallVec;

use super::asking::Asking;
use super::client_error::ClientError;
use super::machine::{Ahead, AheadText};
use super::relay::{Hold, Written};
use super::replay::{Names, Telling};
use super::statement::Statement;
use crate::sql::{BeginMode, Verdict};

/// One answer that is expected, in order. Only kept where the order matters.
#[derive(Debug)]
pub(super) enum Expect {
    /// The answer to a message of the client's.
    Forward,
    /// The answer to the client's Parse of a named statement.
    Parse(Rc<Statement>, Box<[u8]>),
    /// The answer to our own Parse of a named statement.
    Inject(Rc<Statement>),
    /// The answer to our own Parse of the unnamed statement.
    InjectUnnamed,
    /// The answer to our own Close.
    CloseOld,
    /// ParseComplete that no server sends: the statement is there already.
    SynthesizeParse(Box<[u8]>),
    /// CloseComplete that no server sends.
    SynthesizeClose,
    /// The error that a server was made to send, in whose place the client gets this one.
    Fail(Box<ClientError>),
    /// The answer to another message of our own.
    Own,
    /// The answer to the Parse of our own question.
    Probe,
    /// The answer to that question: the transaction's id.
    Id,
    /// The answer to our own Describe: the client of a simple query gets RowDescription, and nothing where there is none.
    Shape,
    /// The rows and the completion of a simple query that runs as a pipeline.
    Completion,
}

/// A portal's name and the verdict of its statement.
pub(super) type Portal = (Box<[u8]>, Rc<Verdict>);

/// The texts that opened a transaction, and what they declare.
pub(super) type Begun = (Ahead, BeginMode);

/// The state of the conversation with the server that runs the batch.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the batch in flight, none excludes another"
)]
pub(super) struct Relay {
    pub(super) swallow_ready: u32,
    /// Of the swallowed answers these come first, and then as many that may be errors.
    pub(super) strict_ready: u32,
    pub(super) lenient_ready: u32,
    /// The last of the swallowed queries asks for the transaction's id.
    pub(super) asks_xid: bool,
    /// A pipeline that asks for it itself.
    pub(super) asking: Asking,
    /// The checksum of what a batch tells, where its transaction may be run again.
    pub(super) telling: Telling,
    /// The answer to either.
    pub(super) xid: Option<Written>,
    pub(super) queue: VecDeque<Expect>,
    /// Names that the batch's Parse messages have entered and no server has confirmed.
    pub(super) tentative: SmallVec<[Box<[u8]>; 1]>,
    pub(super) replacements: Vec<(Box<[u8]>, Rc<Statement>)>,
    /// Portals that the pipeline has bound, with the verdicts of their statements.
    pub(super) portals: SmallVec<[Portal; 1]>,
    /// The pipeline has prepared its own unnamed statement.
    pub(super) own_unnamed: bool,
    /// A server has parsed something of the batch.
    pub(super) parsed: bool,
    pub(super) body_left: usize,
    pub(super) body_dropped: bool,
    pub(super) hold: Hold,
    pub(super) busy: bool,
    pub(super) error_seen: bool,
    /// The client has been given something of this batch's answer.
    pub(super) answered: bool,
    /// The BEGIN that went out with this batch.
    pub(super) began: Option<Begun>,
    /// What the batch does to a transaction that may go on elsewhere: to be repeated there.
    pub(super) repeat: Option<AheadText>,
    /// The Sync at the end is ours: the client has sent Flush, and does not wait for ReadyForQuery.
    pub(super) own_sync: bool,
    /// A wait for synchronous replication was given up: the commit is not known to be durable.
    pub(super) unsynced: bool,
    /// An error was made up ahead of Sync: what the client sends up to there is dropped.
    pub(super) skip_client_to_sync: bool,
}

impl Relay {
    pub(super) fn begin(&mut self, hold: Hold) {
        self.queue.clear();
        self.swallow_ready = 0;
        (self.strict_ready, self.lenient_ready) = (0, 0);
        self.hold = hold;
        self.busy = true;
        self.error_seen = false;
        self.answered = false;
        self.parsed = false;
        self.began = None;
        self.repeat = None;
        self.asks_xid = false;
        self.asking.begin();
        self.telling.stop();
        self.xid = None;
        self.unsynced = false;
        self.own_sync = false;
    }

    pub(super) fn expect(&mut self, expect: Expect) {
        self.queue.push_back(expect);
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.busy
    }

    pub(super) fn is_tentative(&self, name: &[u8]) -> bool {
        self.tentative.iter().any(|have| **have == *name)
    }

    pub(super) fn will_prepare(&self, id: u64) -> bool {
        self.queue.iter().any(|expect| match expect {
            Expect::Parse(statement, _) | Expect::Inject(statement) => statement.id == id,
            _ => false,
        })
    }

    /// Where every answer is handed on as it comes, their order need not be followed.
    pub(super) fn simplify(&mut self) {
        if self.queue.iter().all(|expect| matches!(expect, Expect::Forward)) {
            self.queue.clear();
        }
    }

    pub(super) fn error_seen(&self) -> bool {
        self.error_seen
    }

    pub(super) fn take_error_seen(&mut self) -> bool {
        std::mem::take(&mut self.error_seen)
    }

    /// The names that the batch has entered, to be given back.
    pub(super) fn take_names(&mut self) -> Names {
        (std::mem::take(&mut self.tentative), std::mem::take(&mut self.replacements))
    }

    pub(super) fn give_names(&mut self, names: Names) {
        (self.tentative, self.replacements) = names;
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Like `reset`, but the names that the batch has entered are kept for `settle_names` to drop.
    pub(super) fn reset_for_error(&mut self) {
        let tentative = std::mem::take(&mut self.tentative);
        *self = Self { tentative, ..Self::default() };
    }
}
