//! Reads what a server answers: hands runs of whole messages on, takes out what the client did not ask for, puts in
//! what the server was not asked for, and notices when the server is ready.
//!
//! Rows are never decoded. A message is looked into only where its content matters.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::client_error::ClientError;
use super::cutter::Cutter;
use super::machine::{Ahead, AheadText, Machine};
use super::refusal::{Decided, decide};
use super::statement::{ServerSession, Statement};
use crate::model::SqlState;
use crate::sql::{BeginMode, Verdict};
use crate::wire::backend::{ErrorFields, ready_status};
use crate::wire::{FrameError, Header, Tag, TxStatus, encode};

/// Frames up to this length are handed on whole; of longer ones the part that has arrived.
const WHOLE_MAX: usize = 16 * 1024;

/// Whether the first answers are kept back until the batch is known not to need a second try elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// Hand on what comes.
    #[default]
    None,
    /// Until the first row, completion or error.
    UntilDecided,
}

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
    /// An error that no server sends.
    Fail(Box<ClientError>),
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
    /// The last of the swallowed queries asks for the transaction's id.
    pub(super) asks_xid: bool,
    /// Its answer.
    pub(super) xid: Option<Written>,
    queue: VecDeque<Expect>,
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
    body_dropped: bool,
    hold: Hold,
    busy: bool,
    error_seen: bool,
    /// The client has been given something of this batch's answer.
    pub(super) answered: bool,
    /// The BEGIN that went out with this batch.
    pub(super) began: Option<Begun>,
    /// What the batch does to a transaction that may go on elsewhere: to be repeated there.
    pub(super) repeat: Option<AheadText>,
    /// The Sync at the end is ours: the client has sent Flush, and does not wait for ReadyForQuery.
    pub(super) own_sync: bool,
    /// A wait for synchronous replication was given up: the commit is not known to be durable.
    unsynced: bool,
    /// An error was made up ahead of Sync: what the client sends up to there is dropped.
    pub(super) skip_client_to_sync: bool,
}

/// What a transaction has written, as its server said just before COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing: it has no id.
    Nothing,
    /// Something, under this id (`pg_current_xact_id_if_assigned()`).
    As(u64),
}

/// What to do with the bytes that `relay` has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Hand this part of the input on, if `out` is empty; else `out` alone.
    pub forward: Range<usize>,
    /// What happened.
    pub event: Option<Event>,
}

/// What a server's answer tells the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The batch is answered and the server is ready.
    Ready(TxStatus),
    /// It refused the batch in a way that changed nothing: run it elsewhere. Nothing of it was handed on.
    Refused(SqlState),
    /// It waits for the client's COPY data.
    CopyIn,
    /// It and the client talk both ways from now on (streaming replication).
    CopyBoth,
    /// The server ends the connection with this ErrorResponse, which was not handed on.
    Fatal(Vec<u8>),
    /// Settings or BEGIN ahead of the batch failed with this ErrorResponse; the connection is of no more use.
    Unprepared(Vec<u8>),
}

impl Relay {
    pub(super) fn begin(&mut self, hold: Hold) {
        self.queue.clear();
        self.swallow_ready = 0;
        self.hold = hold;
        self.busy = true;
        self.error_seen = false;
        self.answered = false;
        self.parsed = false;
        self.began = None;
        self.repeat = None;
        self.asks_xid = false;
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

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Like `reset`, but the names that the batch has entered are kept for `settle_names` to drop.
    pub(super) fn reset_for_error(&mut self) {
        let tentative = std::mem::take(&mut self.tentative);
        *self = Self { tentative, ..Self::default() };
    }
}

impl Machine {
    /// Reads server bytes. `out` must be empty; it takes what has to be put together. What is not consumed has to be
    /// given again, with more.
    ///
    /// # Errors
    /// A frame that no server sends.
    pub fn relay(
        &mut self,
        input: &[u8],
        server: &mut ServerSession,
        out: &mut Vec<u8>,
    ) -> Result<Relayed, FrameError> {
        if self.relay.hold == Hold::UntilDecided {
            match decide(input, self.relay.swallow_ready)? {
                Decided::NotYet => return Ok(Relayed { consumed: 0, forward: 0..0, event: None }),
                Decided::Refused(state) => {
                    let event = Some(Event::Refused(state));
                    return Ok(Relayed { consumed: input.len(), forward: 0..0, event });
                }
                Decided::HandOn => self.relay.hold = Hold::None,
            }
        }
        let mut cutter = Cutter { input, run: 0..0, out };
        let mut at = 0;
        if self.relay.swallow_ready == 0 {
            self.synthesize(&mut cutter);
        }
        let mut event = None;
        while event.is_none() {
            let rest = input.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if self.relay.body_left > 0 {
                at += self.continue_body(rest.len(), &mut cutter);
                continue;
            }
            let Some(header) = Header::peek(rest)? else { break };
            let whole = rest.get(..header.len);
            if whole.is_none() && header.len <= WHOLE_MAX {
                break;
            }
            let taken = header.len.min(rest.len());
            event = if let Some(frame) = whole {
                self.take_frame(header.tag, frame, server, &mut cutter)?
            } else {
                self.begin_body(header, taken, &mut cutter);
                None
            };
            at += taken;
        }
        let relayed = cutter.finish(at, event);
        self.relay.answered |= !relayed.forward.is_empty() || !out.is_empty();
        Ok(relayed)
    }

    fn continue_body(&mut self, available: usize, cutter: &mut Cutter<'_>) -> usize {
        let len = self.relay.body_left.min(available);
        self.relay.body_left -= len;
        if self.relay.body_dropped {
            cutter.cut(len);
        } else {
            cutter.keep(len);
        }
        len
    }

    /// The first part of a message too long to wait for.
    fn begin_body(&mut self, header: Header, taken: usize, cutter: &mut Cutter<'_>) {
        self.relay.body_left = header.len - taken;
        self.relay.body_dropped = self.relay.swallow_ready > 0;
        if header.tag == Tag::ERROR_RESPONSE {
            self.note_error();
        }
        if self.relay.body_dropped { cutter.cut(taken) } else { cutter.keep(taken) }
    }

    /// Takes one whole frame.
    #[inline]
    fn take_frame(
        &mut self,
        tag: Tag,
        frame: &[u8],
        server: &mut ServerSession,
        cutter: &mut Cutter<'_>,
    ) -> Result<Option<Event>, FrameError> {
        if self.relay.swallow_ready > 0 {
            return Ok(self.swallow(tag, frame, cutter));
        }
        match tag {
            Tag::DATA_ROW | Tag::COPY_DATA => cutter.keep(frame.len()),
            Tag::READY_FOR_QUERY => {
                let status = ready_status(frame.get(5..).unwrap_or_default())?;
                self.settle_names();
                self.relay.busy = false;
                if std::mem::take(&mut self.relay.own_sync) {
                    // The client itself skips to its next Sync where it got an error.
                    self.relay.skip_client_to_sync = self.relay.error_seen;
                    cutter.cut(frame.len());
                } else {
                    cutter.keep(frame.len());
                }
                return Ok(Some(Event::Ready(status)));
            }
            Tag::ERROR_RESPONSE => {
                if ends_connection(frame) {
                    return Ok(Some(Event::Fatal(frame.to_vec())));
                }
                self.note_error();
                cutter.keep(frame.len());
            }
            Tag::COPY_IN_RESPONSE | Tag::COPY_BOTH_RESPONSE => {
                cutter.keep(frame.len());
                let both = tag == Tag::COPY_BOTH_RESPONSE;
                return Ok(Some(if both { Event::CopyBoth } else { Event::CopyIn }));
            }
            Tag::NOTICE_RESPONSE => {
                // The wait for synchronous replication was cancelled: what looks like success is none (manual, 27.2.8).
                let fields = ErrorFields::new(frame.get(5..).unwrap_or_default());
                self.relay.unsynced |= fields.routine() == "SyncRepWaitForLSN";
                cutter.keep(frame.len());
            }
            Tag::PARSE_COMPLETE if self.relay.queue.is_empty() => {
                self.relay.parsed = true;
                cutter.keep(frame.len());
            }
            Tag::PARAMETER_STATUS => {
                if let Some(value) = date_style(frame) {
                    self.date_style = Some(value);
                }
                cutter.keep(frame.len());
            }
            Tag::COMMAND_COMPLETE if self.relay.unsynced => {
                self.note_error();
                cutter.cut(frame.len());
                ClientError::CommitNotReplicated.encode(cutter.insert());
            }
            _ if self.relay.queue.is_empty() => cutter.keep(frame.len()),
            _ => self.take_answer(tag, frame, server, cutter),
        }
        Ok(None)
    }

    /// What belongs to a query of ours that goes ahead of the batch.
    fn swallow(&mut self, tag: Tag, frame: &[u8], cutter: &mut Cutter<'_>) -> Option<Event> {
        cutter.cut(frame.len());
        match tag {
            Tag::READY_FOR_QUERY => {
                self.relay.swallow_ready -= 1;
                if self.relay.swallow_ready == 0 {
                    self.synthesize(cutter);
                }
                None
            }
            Tag::ERROR_RESPONSE if ends_connection(frame) => Some(Event::Fatal(frame.to_vec())),
            Tag::ERROR_RESPONSE => Some(Event::Unprepared(frame.to_vec())),
            // Settings that travel by set_config give rows too.
            Tag::DATA_ROW if self.relay.asks_xid && self.relay.swallow_ready == 1 => {
                self.relay.xid = Some(written(frame));
                None
            }
            _ => None,
        }
    }

    /// Follows the order of answers, where it matters.
    fn take_answer(&mut self, tag: Tag, frame: &[u8], server: &mut ServerSession, cutter: &mut Cutter<'_>) {
        if !is_final(tag) {
            cutter.keep(frame.len());
            return;
        }
        let own = matches!(self.relay.queue.front(), Some(Expect::Forward | Expect::Parse(..)));
        self.relay.parsed |= own && tag == Tag::PARSE_COMPLETE;
        match self.relay.queue.pop_front() {
            Some(Expect::Parse(statement, name)) => {
                server.add(statement.id);
                self.confirm(&name);
                cutter.keep(frame.len());
            }
            Some(Expect::Inject(statement)) => {
                server.add(statement.id);
                cutter.cut(frame.len());
            }
            Some(Expect::InjectUnnamed | Expect::CloseOld) => cutter.cut(frame.len()),
            _ => cutter.keep(frame.len()),
        }
        self.synthesize(cutter);
    }

    /// Puts in what no server sends, as far as it is its turn.
    fn synthesize(&mut self, cutter: &mut Cutter<'_>) {
        loop {
            match self.relay.queue.front() {
                Some(Expect::SynthesizeParse(_)) => encode::parse_complete(cutter.insert()),
                Some(Expect::SynthesizeClose) => encode::close_complete(cutter.insert()),
                Some(Expect::Fail(error)) => error.encode(cutter.insert()),
                _ => return,
            }
            match self.relay.queue.pop_front() {
                Some(Expect::SynthesizeParse(name)) => self.confirm(&name),
                Some(Expect::Fail(_)) => self.note_error(),
                _ => {}
            }
        }
    }

    fn confirm(&mut self, name: &[u8]) {
        self.relay.tentative.retain(|have| **have != *name);
    }

    /// After an error the server answers nothing more up to Sync.
    fn note_error(&mut self) {
        self.relay.error_seen = true;
        self.relay.queue.clear();
    }

    /// Names whose Parse was not reached, or failed, stand for nothing.
    pub(super) fn settle_names(&mut self) {
        self.relay.replacements.clear();
        if self.relay.tentative.is_empty() {
            return;
        }
        for name in std::mem::take(&mut self.relay.tentative) {
            self.drop_prepared(&name);
        }
    }
}

/// Whether the server closes the connection after this ErrorResponse.
fn ends_connection(frame: &[u8]) -> bool {
    matches!(ErrorFields::new(frame.get(5..).unwrap_or_default()).severity(), "FATAL" | "PANIC")
}

/// Reads the one column of the answer about the transaction's id.
fn written(row: &[u8]) -> Written {
    // Header, column count, length of the column, its text.
    let text = row.get(11..).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).map_or(Written::Nothing, Written::As)
}

/// The value of `DateStyle`, where a ParameterStatus tells it.
fn date_style(frame: &[u8]) -> Option<Arc<str>> {
    let mut fields = frame.get(5..)?.split(|&byte| byte == 0);
    if fields.next()? != b"DateStyle" {
        return None;
    }
    std::str::from_utf8(fields.next()?).ok().map(Arc::from)
}

/// Answers that end the server's work on one message of an extended pipeline.
fn is_final(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::PARSE_COMPLETE
            | Tag::BIND_COMPLETE
            | Tag::CLOSE_COMPLETE
            | Tag::ROW_DESCRIPTION
            | Tag::NO_DATA
            | Tag::COMMAND_COMPLETE
            | Tag::EMPTY_QUERY_RESPONSE
            | Tag::PORTAL_SUSPENDED
    )
}
