//! Reads what a server answers: hands runs of whole messages on, takes out what the client did not ask for, puts in
//! what the server was not asked for, and notices when the server is ready.
//!
//! Rows are never decoded. A message is looked into only where its content matters.

use std::ops::Range;
use std::sync::Arc;

use super::client_error::ClientError;
use super::cutter::Cutter;
use super::expected::Expect;
use super::machine::Machine;
use super::refusal::{Decided, decide};
use super::statement::{PROBE, SERVER_NAME_BEGINS, ServerSession};
use crate::model::SqlState;
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
    /// The server ends the connection with this ErrorResponse, which was not handed on.
    Fatal(Vec<u8>),
    /// Settings or BEGIN ahead of the batch failed with this ErrorResponse; the connection is of no more use.
    Unprepared(Vec<u8>),
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
                self.relay.telling.go_on(rest.get(..self.relay.body_left).unwrap_or(rest));
                at += self.continue_body(rest.len(), &mut cutter);
                continue;
            }
            let Some(header) = Header::peek(rest)? else { break };
            // Whoever asks for a password now might get one.
            if !header.tag.is_answer() {
                return Err(FrameError::UnexpectedTag { tag: header.tag });
            }
            let whole = rest.get(..header.len);
            if whole.is_none() && header.len <= WHOLE_MAX {
                break;
            }
            let taken = header.len.min(rest.len());
            if self.relay.telling.is_on() && self.relay.swallow_ready == 0 {
                self.relay.telling.take(header.tag, rest.get(..taken).unwrap_or_default());
            }
            event = if let Some(frame) = whole {
                self.take_frame(header.tag, frame, server, &mut cutter)?
            } else {
                self.begin_body(header, taken, &mut cutter);
                None
            };
            at += taken;
        }
        let mut relayed = cutter.finish(at, event);
        if self.relay.asking.on {
            self.relay.asking.hold_back(&mut relayed, input, out);
        }
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
        } else if self.relay.asking.on && header.tag == Tag::DATA_ROW {
            self.give_shape(cutter);
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
            Tag::DATA_ROW if self.relay.asking.on && self.awaits_id() => {
                self.relay.xid = Some(written(frame));
                self.relay.asking.known = true;
                cutter.cut(frame.len());
            }
            Tag::DATA_ROW | Tag::COPY_DATA => {
                if self.relay.asking.on {
                    self.give_shape(cutter);
                }
                cutter.keep(frame.len());
            }
            Tag::READY_FOR_QUERY => {
                let status = ready_status(frame.get(5..).unwrap_or_default())?;
                self.conclude(cutter);
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
                self.take_error(frame, server, cutter);
            }
            Tag::COPY_IN_RESPONSE => {
                cutter.keep(frame.len());
                return Ok(Some(Event::CopyIn));
            }
            Tag::NOTICE_RESPONSE => {
                // The wait for synchronous replication was cancelled: what looks like success is none (manual, 27.2.8).
                let fields = ErrorFields::new(frame.get(5..).unwrap_or_default());
                if fields.routine() == "SyncRepWaitForLSN" {
                    self.relay.unsynced = true;
                    self.relay.asking.unsynced();
                }
                cutter.keep(frame.len());
            }
            Tag::NOTIFICATION_RESPONSE if self.relay.asking.holds_completion() => {
                self.relay.asking.complete(frame);
                cutter.cut(frame.len());
            }
            Tag::PARSE_COMPLETE if self.relay.queue.is_empty() => {
                self.relay.parsed = true;
                cutter.keep(frame.len());
            }
            Tag::PARAMETER_STATUS => {
                self.date_style = date_style(frame).or(self.date_style.take());
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

    /// An error that does not end the connection; where the server was made to fail, the client gets the reason.
    fn take_error(&mut self, frame: &[u8], server: &mut ServerSession, cutter: &mut Cutter<'_>) {
        let fields = ErrorFields::new(frame.get(5..).unwrap_or_default());
        if fields.code() == Some(SqlState::INVALID_SQL_STATEMENT_NAME)
            && fields.message().contains(SERVER_NAME_BEGINS)
        {
            // Something has dropped them unseen. Once is enough.
            server.doubt_prepared();
        }
        if let Some(Expect::Fail(error)) = self.relay.queue.front() {
            error.encode(cutter.insert());
            cutter.cut(frame.len());
        } else if fields.are_whole() {
            cutter.keep(frame.len());
        } else {
            ClientError::UnspecifiedError.encode(cutter.insert());
            cutter.cut(frame.len());
        }
        self.note_error();
    }

    fn give_shape(&mut self, cutter: &mut Cutter<'_>) {
        if let Some(shape) = self.relay.asking.shape() {
            cutter.insert().append(shape);
        }
    }

    fn awaits_id(&self) -> bool {
        matches!(self.relay.queue.front(), Some(Expect::Id))
    }

    /// The server is ready: what the batch did is done, unless it was not replicated.
    fn conclude(&mut self, cutter: &mut Cutter<'_>) {
        if self.relay.unsynced && !self.relay.error_seen {
            // In a pipeline what looks like success came ahead of the commit.
            self.note_error();
            ClientError::CommitNotReplicated.encode(cutter.insert());
        } else if let Some(completion) = self.relay.asking.completion().filter(|_| !self.relay.error_seen) {
            cutter.insert().append(completion);
        }
    }

    /// What belongs to a query of ours that goes ahead of the batch.
    fn swallow(&mut self, tag: Tag, frame: &[u8], cutter: &mut Cutter<'_>) -> Option<Event> {
        cutter.cut(frame.len());
        match tag {
            Tag::READY_FOR_QUERY => {
                self.relay.swallow_ready -= 1;
                let lenient = if self.relay.strict_ready > 0 {
                    &mut self.relay.strict_ready
                } else {
                    &mut self.relay.lenient_ready
                };
                *lenient = lenient.saturating_sub(1);
                if self.relay.swallow_ready == 0 {
                    self.synthesize(cutter);
                }
                None
            }
            Tag::ERROR_RESPONSE if ends_connection(frame) => Some(Event::Fatal(frame.to_vec())),
            Tag::ERROR_RESPONSE if self.relay.strict_ready == 0 && self.relay.lenient_ready > 0 => None,
            Tag::ERROR_RESPONSE => Some(Event::Unprepared(said(frame))),
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
            Some(Expect::Probe) => {
                server.add(PROBE);
                cutter.cut(frame.len());
            }
            Some(Expect::Completion) => {
                self.give_shape(cutter);
                self.relay.asking.complete(frame);
                cutter.cut(frame.len());
            }
            Some(Expect::Shape) if tag == Tag::ROW_DESCRIPTION && !self.relay.asking.put_shape_off(frame) => {
                cutter.keep(frame.len());
            }
            Some(Expect::InjectUnnamed | Expect::CloseOld | Expect::Own | Expect::Id | Expect::Shape) => {
                cutter.cut(frame.len());
            }
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
                _ => return,
            }
            if let Some(Expect::SynthesizeParse(name)) = self.relay.queue.pop_front() {
                self.confirm(&name);
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

/// The server's ErrorResponse as it came, or one of ours where it says nothing.
fn said(frame: &[u8]) -> Vec<u8> {
    if ErrorFields::new(frame.get(5..).unwrap_or_default()).are_whole() {
        return frame.to_vec();
    }
    let mut ours = Vec::new();
    ClientError::UnspecifiedError.encode(&mut ours);
    ours
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
