//! Transactions that are run again on another server when theirs is lost before COMMIT (`replay = "verified"`).
//!
//! What the client has sent since BEGIN is kept, with a checksum of what each batch told it: rows, completions, errors,
//! the status. On the new primary the same is sent again. As long as every checksum comes out the same, the client
//! cannot tell the difference and its transaction goes on; one that differs ends it with 40001.
//!
//! Only what leaves nothing but rows and settings behind is kept. Anything else (COPY, cursors, LISTEN, DDL, portals that
//! stay open, batches too large to be gathered) turns replay off for its transaction, and so does one that is too long.

use std::rc::Rc;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::batch::{End, Frame, frames};
use super::effects::is_setting;
use super::expected::Begun;
use super::machine::{Machine, Tx};
use super::plan::Plan;
use super::relay::Hold;
use super::statement::{ServerSession, Statement};
use crate::sql::{Alone, Kind, Moving, SessionEffect, Verdict};
use crate::wire::frontend::{Close, Describe, Parse, Target};
use crate::wire::{ErrorFields, HEADER_LEN, Tag, TxStatus};

/// How much of a transaction is kept for a second run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimits {
    /// Batches: simple queries, or pipelines up to Sync.
    pub batches_max: usize,
    /// Bytes that the client has sent.
    pub bytes_max: usize,
}

/// A transaction that can be run again.
#[derive(Debug)]
pub(super) struct Replay {
    /// The BEGIN that went ahead of the first batch; `None`: the first batch holds it.
    begun: Option<Begun>,
    entries: Vec<Entry>,
    bytes: usize,
    /// It has done something that cannot be repeated.
    off: bool,
    /// Being run again: the next batch.
    next: usize,
    /// The names that the batch in flight has entered, while the others are run again.
    names: Names,
}

/// Names of prepared statements that no server has confirmed.
pub(super) type Names = (SmallVec<[Box<[u8]>; 1]>, Vec<(Box<[u8]>, Rc<Statement>)>);

impl Replay {
    fn new(begun: Option<Begun>) -> Self {
        Self { begun, entries: Vec::new(), bytes: 0, off: false, next: 0, names: Names::default() }
    }
}

/// One batch of it.
#[derive(Debug)]
struct Entry {
    frames: Vec<u8>,
    end: End,
    /// What it told the client; `None`: it has not been answered to its end.
    told: Option<Checksum>,
}

type Checksum = [u8; 32];

/// The checksum of a batch that is being answered.
#[derive(Debug, Default)]
pub(super) struct Telling {
    hasher: Option<Box<Sha256>>,
    /// The message whose body is still coming counts.
    counts: bool,
}

impl Telling {
    pub(super) fn begin(&mut self) {
        self.hasher = Some(Box::default());
    }

    pub(super) fn stop(&mut self) {
        self.hasher = None;
    }

    pub(super) fn is_on(&self) -> bool {
        self.hasher.is_some()
    }

    /// A whole message, or the first part of one.
    pub(super) fn take(&mut self, tag: Tag, frame: &[u8]) {
        let Some(hasher) = &mut self.hasher else { return };
        self.counts = true;
        match tag {
            Tag::DATA_ROW
            | Tag::ROW_DESCRIPTION
            | Tag::COMMAND_COMPLETE
            | Tag::EMPTY_QUERY_RESPONSE
            | Tag::READY_FOR_QUERY => hasher.update(frame),
            Tag::ERROR_RESPONSE => {
                // Not the place in the server's source.
                let fields = ErrorFields::new(frame.get(HEADER_LEN..).unwrap_or_default());
                let code = fields.code();
                hasher.update(code.as_ref().map_or("", |code| code.as_str()).as_bytes());
                hasher.update(fields.message().as_bytes());
            }
            _ => self.counts = false,
        }
    }

    /// The next part of the same message.
    pub(super) fn go_on(&mut self, part: &[u8]) {
        if let Some(hasher) = self.hasher.as_mut().filter(|_| self.counts) {
            hasher.update(part);
        }
    }

    fn end(&mut self) -> Option<Checksum> {
        self.hasher.take().map(|hasher| hasher.finalize().into())
    }
}

/// How a transaction that is run again goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// A batch was written; its answer is awaited.
    Sent,
    /// All of it has run again, and told the client the same.
    Done,
    /// It cannot be written: something that it needs is gone.
    Impossible,
}

impl Machine {
    /// A batch has been written for the primary: it is kept, where its transaction may be run again.
    pub fn note_replay(&mut self, batch: &[u8], plan: &Plan) {
        let Some(limits) = self.settings.replay else { return };
        self.relay.telling.stop();
        let begins = self.relay.began.clone();
        if begins.is_some() || (self.tx == Tx::None && plan.begin.is_some()) {
            self.replay = Some(Box::new(Replay::new(begins)));
        }
        let ends = plan.solo().is_some_and(|verdict| {
            matches!(verdict.kind, Kind::Commit { chain: false } | Kind::Rollback { chain: false })
        });
        let repeatable =
            plan.keeps_nothing_open() && self.executed.iter().all(|verdict| is_repeatable(verdict));
        let Some(replay) = self.replay.as_mut().filter(|replay| !replay.off && !ends) else { return };
        let kept = replay.bytes + batch.len();
        if !repeatable || kept > limits.bytes_max || replay.entries.len() >= limits.batches_max {
            replay.off = true;
            replay.entries = Vec::new();
            return;
        }
        replay.bytes = kept;
        replay.entries.push(Entry { frames: repeated(batch), end: plan.end, told: None });
        self.relay.telling.begin();
    }

    /// What is not gathered is not kept.
    pub(super) fn stop_replay(&mut self) {
        self.relay.telling.stop();
        if let Some(replay) = &mut self.replay {
            replay.off = true;
            replay.entries = Vec::new();
        }
    }

    /// The server is ready after a batch.
    pub(super) fn note_told(&mut self, status: TxStatus) {
        let told = self.relay.telling.end();
        if status == TxStatus::Idle {
            self.replay = None;
        } else if let (Some(replay), Some(told)) = (&mut self.replay, told)
            && let Some(entry) = replay.entries.last_mut()
        {
            entry.told = Some(told);
        }
    }

    /// Whether the session is in a transaction that is kept, so that a batch in flight has to be.
    pub fn is_replayable(&self) -> bool {
        self.replay.as_ref().is_some_and(|replay| !replay.off)
    }

    /// The connection is lost before COMMIT could have run: whether the transaction can be run again, up to the batch in
    /// flight, if there is one, of which the client has seen nothing. It is prepared for that then.
    pub fn begin_replay(&mut self, in_flight: bool) -> bool {
        let whole = !self.relay.answered && self.relay.body_left == 0;
        if !self.is_replayable() || self.lost_pin().is_some() || self.listens() || (in_flight && !whole) {
            return false;
        }
        let (Some(replay), Some(before)) = (&mut self.replay, &self.before) else { return false };
        if in_flight && replay.entries.last().is_some_and(|entry| entry.told.is_none()) {
            let popped = replay.entries.pop().map_or(0, |entry| entry.frames.len());
            replay.bytes = replay.bytes.saturating_sub(popped);
        }
        if replay.entries.iter().any(|entry| entry.told.is_none()) {
            return false;
        }
        replay.next = 0;
        if in_flight {
            replay.names = self.relay.take_names();
        }
        let began = replay.begun.clone();
        // What it has set is set again inside of it.
        let outside = before.overlay.clone();
        if self.set_aside.is_none() {
            self.set_aside = Some(std::mem::replace(&mut self.current, outside));
        }
        self.tx = began.map_or(Tx::None, |(queries, mode)| Tx::Deferred { queries, mode });
        self.relay.reset();
        true
    }

    /// Writes the next batch of the transaction for its new server, or says that there is none.
    pub fn replay_next(&mut self, server: &mut ServerSession, out: &mut Vec<u8>) -> Replayed {
        let Some(mut replay) = self.replay.take() else { return Replayed::Impossible };
        let written = match replay.entries.get(replay.next) {
            None => Ok(Replayed::Done),
            Some(entry) => {
                replay.next += 1;
                self.begin_dispatch(server, Hold::None, out);
                if let Some(settings) = self.set_aside.take() {
                    server.applied = settings.clone();
                    self.current = settings;
                }
                server.unnamed = None;
                let written = if entry.end == End::Query {
                    out.extend_from_slice(&entry.frames);
                    Ok(())
                } else {
                    self.dispatch_frames((&entry.frames, false), server, out)
                };
                // Whose unnamed statement it was then, it is not now.
                server.unnamed = None;
                self.relay.telling.begin();
                written.map(|()| Replayed::Sent)
            }
        };
        if matches!(written, Ok(Replayed::Done)) {
            self.relay.give_names(std::mem::take(&mut replay.names));
            if self.tx == Tx::None
                && let Some(settings) = self.set_aside.take()
            {
                // Nothing had been run: BEGIN stands in the batch that follows.
                self.current = settings;
            }
        }
        self.replay = Some(replay);
        written.unwrap_or(Replayed::Impossible)
    }

    /// The server is ready after a batch that was run again; whether it told the same as before.
    pub fn replayed_the_same(&mut self, status: TxStatus) -> bool {
        let told = self.relay.telling.end();
        self.relay.take_error_seen();
        self.tx = if status == TxStatus::Failed { Tx::Failed } else { Tx::Open };
        let replay = self.replay.as_ref();
        let before = replay.and_then(|replay| replay.entries.get(replay.next.checked_sub(1)?)?.told);
        status != TxStatus::Idle && told.is_some() && told == before
    }

    /// It is not to be run again: it is lost, and the client has to be told.
    pub fn give_replay_up(&mut self) {
        if let Some(replay) = self.replay.take() {
            self.relay.give_names(replay.names);
        }
        self.tx = Tx::Open;
    }
}

/// Whether running it again does the same, and leaves nothing else behind than rows, settings and savepoints.
fn is_repeatable(verdict: &Verdict) -> bool {
    let kind = match verdict.kind {
        Kind::Begin(_) | Kind::Savepoint(_) | Kind::Release(_) | Kind::RollbackTo(_) => true,
        Kind::Plain => verdict.alone != Alone::Unknown || verdict.moving != Moving::Never,
        _ => false,
    };
    kind && verdict.statements == 1
        && verdict.effects.iter().all(|effect| is_setting(effect) && *effect != SessionEffect::DiscardAll)
}

/// The batch without what only prepares: what it binds is prepared on the new server where it is missing there.
fn repeated(batch: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(batch.len());
    for frame in frames(batch).filter(|frame| !only_prepares(*frame)) {
        out.extend_from_slice(frame.raw);
    }
    out
}

fn only_prepares(frame: Frame<'_>) -> bool {
    match frame.tag {
        Tag::PARSE => Parse::decode(frame.body).is_ok_and(|parse| !parse.name.is_empty()),
        Tag::DESCRIBE => {
            Describe::decode(frame.body).is_ok_and(|describe| describe.target == Target::Statement)
        }
        Tag::CLOSE => Close::decode(frame.body).is_ok_and(|close| close.target == Target::Statement),
        _ => false,
    }
}
