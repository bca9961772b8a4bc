//! The driver's handling of client bytes: batches in, to the server or answered here.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::counts::Counts;
use super::driver::{Driver, Lost, Phase, Turn, internal};
use super::handle::Doing;
use super::stream::Stream;
use super::worker::Worker;
use crate::session::batch::{End, Scan};
use crate::session::{ClientError, Hold, Judge, Outgoing, Plan, Reached, Step, Stream as StreamKind};
use crate::sql::Reason;
use crate::wire::{HEADER_LEN, Header, Tag, encode};

/// How much of what a client sends ahead is read while its batch runs, in bytes.
const AHEAD_MAX: usize = 16 * 1024;

/// Reads what is there; `Pending` where nothing is. Zero bytes: the peer has closed.
pub(super) fn poll_read(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<std::io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    ready!(std::pin::Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// The same from a client, counted: once per read, however many messages that brings.
fn read_client(
    (worker, counts): (&Worker, &Counts),
    client: &mut Stream,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<std::io::Result<usize>> {
    let polled = poll_read(client, cx, into);
    if let Poll::Ready(Ok(len)) = &polled {
        worker.meter.client_read(*len);
        counts.received(*len);
    }
    polled
}

/// Writes as much as the socket takes now; how much it took. An error means that it took nothing.
pub(super) fn write_some(stream: &mut Stream, cx: &mut Context<'_>, bytes: &[u8]) -> std::io::Result<usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match std::pin::Pin::new(&mut *stream).poll_write(cx, rest) {
            Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(len)) => written += len,
            // After a part was taken, the next call tells.
            Poll::Ready(Err(_)) if written > 0 => break,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    // TLS keeps records of its own; they go out with the flush. A plain socket's flush does nothing.
    if stream.is_tls()
        && let Poll::Ready(Err(error)) = std::pin::Pin::new(stream).poll_flush(cx)
    {
        return Err(error);
    }
    Ok(written)
}

impl Driver {
    /// Sends what waits for the client. `true`: nothing waits any more.
    pub(super) fn flush_client(&mut self, cx: &mut Context<'_>) -> Result<bool, Turn> {
        if self.client_out.is_empty() {
            return Ok(true);
        }
        let Ok(written) = write_some(&mut self.client, cx, &self.client_out) else { return Err(Turn::Close) };
        self.worker.meter.client_written(written);
        self.database.counts.sent(written);
        self.client_out.drain(..written);
        self.handle.note_written(written > 0, self.client_out.is_empty(), self.worker.coarse_now());
        Ok(self.client_out.is_empty())
    }

    /// Gives the client bytes; what its socket does not take now waits.
    pub(super) fn give_client(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Turn> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut written = 0;
        if self.client_out.is_empty() {
            written = write_some(&mut self.client, cx, bytes).map_err(|_gone| Turn::Close)?;
            self.worker.meter.client_written(written);
            self.database.counts.sent(written);
            self.handle.note_written(written > 0, written == bytes.len(), self.worker.coarse_now());
        }
        self.client_out.extend_from_slice(bytes.get(written..).unwrap_or_default());
        Ok(())
    }

    /// Looks for the client's next batch. `true`: something happened.
    pub(super) fn poll_batch(&mut self, cx: &mut Context<'_>) -> Result<bool, Turn> {
        if !self.client_in.is_empty() {
            let input = std::mem::take(&mut self.client_in);
            let (consumed, taken) = self.take_input(&input, cx);
            self.keep_rest(input, consumed);
            taken?;
            if consumed > 0 || self.phase != Phase::Idle {
                return Ok(true);
            }
            return self.read_more(cx);
        }
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        match read_client((&worker, &self.database.counts), &mut self.client, cx, &mut scratch) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => Err(Turn::Close),
            Poll::Ready(Ok(len)) => {
                let input = scratch.get(..len).unwrap_or_default();
                let (consumed, taken) = self.take_input(input, cx);
                self.client_in.extend_from_slice(input.get(consumed..).unwrap_or_default());
                taken.map(|()| true)
            }
        }
    }

    fn keep_rest(&mut self, mut input: Vec<u8>, consumed: usize) {
        input.drain(..consumed.min(input.len()));
        // Nothing was read meanwhile: reading is done by the caller of this alone.
        self.client_in = input;
    }

    /// Appends to an unfinished batch.
    fn read_more(&mut self, cx: &mut Context<'_>) -> Result<bool, Turn> {
        let have = self.client_in.len();
        let worker = Rc::clone(&self.worker);
        self.client_in.resize(have + 64 * 1024, 0);
        let polled = read_client(
            (&worker, &self.database.counts),
            &mut self.client,
            cx,
            self.client_in.get_mut(have..).unwrap_or_default(),
        );
        let len = if let Poll::Ready(Ok(len)) = &polled { *len } else { 0 };
        self.client_in.truncate(have + len);
        match polled {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => Err(Turn::Close),
            Poll::Ready(Ok(_)) => {
                let input = std::mem::take(&mut self.client_in);
                let (consumed, taken) = self.take_input(&input, cx);
                self.keep_rest(input, consumed);
                taken.map(|()| true)
            }
        }
    }

    /// Reads ahead while a batch runs, to notice that the client has gone.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Result<bool, Turn> {
        if self.client_in.len() >= AHEAD_MAX {
            return Ok(false);
        }
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let room = AHEAD_MAX.min(scratch.len());
        match read_client(
            (&worker, &self.database.counts),
            &mut self.client,
            cx,
            scratch.get_mut(..room).unwrap_or_default(),
        ) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => Err(Turn::Close),
            Poll::Ready(Ok(len)) => {
                self.client_in.extend_from_slice(scratch.get(..len).unwrap_or_default());
                Ok(true)
            }
        }
    }

    /// Takes batches from the front of the input, until one of them has to wait for a server. How much of the input is
    /// done with counts even where something else has to happen next.
    fn take_input(&mut self, input: &[u8], cx: &mut Context<'_>) -> (usize, Result<(), Turn>) {
        let mut at = 0;
        while self.phase == Phase::Idle {
            let rest = input.get(at..).unwrap_or_default();
            match self.take_front(rest, cx) {
                (0, Ok(())) => break,
                (taken, Ok(())) => at += taken,
                (taken, Err(turn)) => return (at + taken, Err(turn)),
            }
        }
        (at, Ok(()))
    }

    /// Takes one thing from the front: a batch, or something to be dropped. Zero: there is nothing whole.
    fn take_front(&mut self, rest: &[u8], cx: &mut Context<'_>) -> (usize, Result<(), Turn>) {
        if rest.is_empty() {
            return (0, Ok(()));
        }
        if self.client_skip > 0 {
            let len = self.client_skip.min(rest.len());
            self.client_skip -= len;
            return (len, Ok(()));
        }
        if self.machine.skips_to_sync() {
            return match self.skip_to_sync(rest) {
                Ok(len) => (len.unwrap_or(0), Ok(())),
                Err(turn) => (0, Err(turn)),
            };
        }
        match self.scanner.scan(rest, self.lookahead) {
            Err(error) => (0, Err(Turn::Fail(ClientError::Frame(error)))),
            Ok(Scan::Partial) => (0, Ok(())),
            Ok(Scan::Large) => (0, self.begin_large(rest, cx)),
            Ok(Scan::Whole { end: End::Terminate, .. }) => (0, Err(Turn::Close)),
            Ok(Scan::Whole { len, end: End::StrayCopy }) => {
                self.client_skip = len.saturating_sub(rest.len());
                (len.min(rest.len()), Ok(()))
            }
            // Nothing is under way whose answers it could hurry.
            Ok(Scan::Whole { len: HEADER_LEN, end: End::Flush }) => (HEADER_LEN, Ok(())),
            Ok(Scan::Whole { len, end }) => {
                (len, self.take_batch(rest.get(..len).unwrap_or_default(), end, cx))
            }
        }
    }

    /// Drops one frame; at Sync the client is told the status.
    fn skip_to_sync(&mut self, rest: &[u8]) -> Result<Option<usize>, Turn> {
        let header = Header::peek(rest).map_err(|error| Turn::Fail(ClientError::Frame(error)))?;
        let Some(header) = header else { return Ok(None) };
        let len = header.len.min(rest.len());
        self.client_skip = header.len - len;
        if header.tag == Tag::SYNC {
            self.machine.synced();
            encode::ready(&mut self.client_out, self.machine.status());
        }
        if header.tag == Tag::TERMINATE {
            return Err(Turn::Close);
        }
        Ok(Some(len))
    }

    /// One whole batch: judge it, and send it or answer it where that needs no waiting.
    fn take_batch(&mut self, batch: &[u8], end: End, cx: &mut Context<'_>) -> Result<(), Turn> {
        let plan = self.judge(batch, end)?;
        self.handle.set_committing(plan.is_commit());
        match self.step(&plan) {
            Step::Local if self.must_settle(&plan) => {
                self.plan = Some(plan);
                self.keep_batch(batch);
                self.phase = Phase::Acquiring;
                Err(Turn::Settle)
            }
            Step::Local => self.answer_locally(batch, &plan, cx),
            Step::Held | Step::Move => {
                self.plan = Some(plan);
                self.dispatch(batch, cx)
            }
            Step::Route(request) => {
                self.plan = Some(plan);
                self.park();
                if let Some(conn) = self.lease_now(request) {
                    self.hold_lease(conn);
                    return self.dispatch(batch, cx);
                }
                self.keep_batch(batch);
                self.phase = Phase::Acquiring;
                self.handle.set_doing(Doing::Waiting, self.worker.coarse_now());
                Err(Turn::Acquire(request))
            }
        }
    }

    pub(super) fn judge(&mut self, batch: &[u8], end: End) -> Result<Plan, Turn> {
        let worker = Rc::clone(&self.worker);
        let mut classifier = worker.classifier.borrow_mut();
        let catalog = self.database.facts.load();
        let mut statements = self.database.statements.borrow_mut();
        let mut judge = Judge { classifier: &mut classifier, catalog: &catalog, statements: &mut statements };
        self.machine.plan(batch, end, &mut judge).map_err(|error| Turn::Fail(ClientError::Frame(error)))
    }

    fn answer_locally(&mut self, batch: &[u8], plan: &Plan, cx: &mut Context<'_>) -> Result<(), Turn> {
        let worker = Rc::clone(&self.worker);
        let mut out = worker.out.borrow_mut();
        out.clear();
        let facts = self.facts();
        self.machine.answer(batch, plan, &facts, &mut out);
        self.set_resting();
        self.note_local(plan);
        self.give_client(cx, &out)
    }

    pub(super) fn keep_batch(&mut self, batch: &[u8]) {
        self.batch.clear();
        self.batch.extend_from_slice(batch);
        self.batch_kept = true;
    }

    /// Sends the batch that was kept while a connection was waited for.
    pub(super) fn dispatch_kept(&mut self, cx: &mut Context<'_>) -> Result<(), Turn> {
        if !self.batch_kept {
            return self.dispatch_stream(cx);
        }
        let batch = std::mem::take(&mut self.batch);
        let sent = self.dispatch(&batch, cx);
        // `dispatch` may have kept a copy for a second try; this is it.
        self.batch = batch;
        sent
    }

    /// Sends a judged batch to the connection that the session holds.
    fn dispatch(&mut self, batch: &[u8], cx: &mut Context<'_>) -> Result<(), Turn> {
        let Some(plan) = self.plan.take() else { return Err(internal("a batch without a plan")) };
        let on_replica = self.lease.as_ref().is_some_and(|conn| self.is_replica(conn));
        self.reached = if on_replica { Reached::Replica } else { Reached::Primary };
        let hold = self.hold_for(&plan);
        self.note_beside();
        let worker = Rc::clone(&self.worker);
        let mut out = worker.out.borrow_mut();
        out.clear();
        let Some(conn) = &mut self.lease else { return Err(internal("a batch without a connection")) };
        let outgoing = self.machine.dispatch((batch, &plan), &mut conn.session, hold, &mut out);
        if on_replica {
            self.machine.note_roaming(batch, &plan);
        } else if self.reached == Reached::Primary {
            self.machine.note_replay(batch, &plan);
        }
        let bytes = if outgoing == Outgoing::Raw { batch } else { &out };
        let written = write_some(&mut conn.stream, cx, bytes);
        let node = conn.session.node;
        self.note_sent(node, batch);
        let again = hold == Hold::UntilDecided || self.machine.began() || self.machine.is_replayable();
        // What only closes something is answered here if its server is lost, as is ROLLBACK, and so may be COMMIT.
        if again || plan.asks || plan.reason == Reason::Empty || plan.is_rollback() {
            if self.batch.is_empty() || !self.batch_kept {
                self.keep_batch(batch);
            }
        } else {
            if plan.is_commit() {
                self.keep_batch(batch);
            }
            self.batch_kept = false;
        }
        self.phase = if plan.stays_open() {
            Phase::Streaming { kind: StreamKind::Pipeline, left: 0 }
        } else {
            Phase::Running
        };
        self.plan = Some(plan);
        self.handle.set_doing(Doing::Active, self.worker.coarse_now());
        if let Ok(written) = written {
            self.server_out.extend_from_slice(bytes.get(written..).unwrap_or_default());
            Ok(())
        } else {
            drop(out);
            self.keep_batch(batch);
            self.server_lost(Lost::Unsent)
        }
    }

    /// A batch too large to be gathered: it goes to the primary, or where the session is.
    fn begin_large(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Result<(), Turn> {
        self.scanner.reset();
        let end = match rest.first().map(|&tag| Tag(tag)) {
            Some(Tag::QUERY) => End::Query,
            Some(Tag::FUNCTION_CALL) => End::Call,
            _ => End::Sync,
        };
        let plan = Plan::unjudged(end);
        self.batch_kept = false;
        match self.step(&plan) {
            Step::Held | Step::Move => {
                self.plan = Some(plan);
                self.dispatch_stream(cx)
            }
            Step::Local => {
                // The transaction is lost: whatever this is, it fails.
                self.plan = Some(plan);
                self.refuse(&ClientError::FailedTransaction);
                self.client_skip = Header::peek(rest).ok().flatten().map_or(0, |header| header.len);
                Ok(())
            }
            Step::Route(request) => {
                self.plan = Some(plan);
                self.phase = Phase::Acquiring;
                Err(Turn::Acquire(request))
            }
        }
    }

    /// Begins to stream what is too large to be gathered.
    fn dispatch_stream(&mut self, cx: &mut Context<'_>) -> Result<(), Turn> {
        let end = self.plan.as_ref().map(|plan| plan.end);
        self.reached = Reached::Primary;
        let worker = Rc::clone(&self.worker);
        let mut out = worker.out.borrow_mut();
        out.clear();
        let Some(conn) = &mut self.lease else { return Err(internal("a stream without a connection")) };
        self.machine.begin_stream(&mut conn.session, &mut out);
        let node = conn.session.node;
        self.note_sent(node, &[]);
        self.server_out.extend_from_slice(&out);
        drop(out);
        let kind = if matches!(end, Some(End::Query | End::Call)) {
            StreamKind::Single
        } else {
            StreamKind::Pipeline
        };
        self.phase = Phase::Streaming { kind, left: 0 };
        self.handle.set_doing(Doing::Active, self.worker.coarse_now());
        self.flush_server(cx).map(|_| ())
    }

    /// Sends what waits for the server. `true`: nothing waits any more.
    pub(super) fn flush_server(&mut self, cx: &mut Context<'_>) -> Result<bool, Turn> {
        if self.server_out.is_empty() {
            return Ok(true);
        }
        let Some(conn) = &mut self.lease else { return Ok(true) };
        if let Ok(written) = write_some(&mut conn.stream, cx, &self.server_out) {
            self.server_out.drain(..written);
            Ok(self.server_out.is_empty())
        } else {
            self.server_lost(Lost::Broken)?;
            Ok(true)
        }
    }

    /// Takes what the client streams. `true`: something happened.
    pub(super) fn poll_stream(&mut self, cx: &mut Context<'_>) -> Result<bool, Turn> {
        if !self.client_in.is_empty() {
            let input = std::mem::take(&mut self.client_in);
            let consumed = self.take_stream(&input, cx);
            self.keep_rest(input, consumed.as_ref().map_or(0, |consumed| *consumed));
            if consumed? > 0 {
                return Ok(true);
            }
        }
        let have = self.client_in.len();
        if have > super::driver::TEXT_MAX {
            return Err(Turn::Fail(ClientError::PreparedLimit {
                what: "bytes of SQL text in one message",
                max: super::driver::TEXT_MAX as u64,
            }));
        }
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        match read_client((&worker, &self.database.counts), &mut self.client, cx, &mut scratch) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => Err(Turn::Close),
            Poll::Ready(Ok(len)) if have == 0 => {
                let input = scratch.get(..len).unwrap_or_default();
                let consumed = self.take_stream(input, cx)?;
                self.client_in.extend_from_slice(input.get(consumed..).unwrap_or_default());
                Ok(true)
            }
            Poll::Ready(Ok(len)) => {
                self.client_in.extend_from_slice(scratch.get(..len).unwrap_or_default());
                Ok(true)
            }
        }
    }

    fn take_stream(&mut self, input: &[u8], cx: &mut Context<'_>) -> Result<usize, Turn> {
        let Phase::Streaming { kind, mut left } = self.phase else { return Ok(0) };
        let worker = Rc::clone(&self.worker);
        let mut out = worker.out.borrow_mut();
        out.clear();
        let mut classifier = worker.classifier.borrow_mut();
        let catalog = self.database.facts.load();
        let mut statements = self.database.statements.borrow_mut();
        let mut judge = Judge { classifier: &mut classifier, catalog: &catalog, statements: &mut statements };
        let (Some(conn), Some(plan)) = (&mut self.lease, &mut self.plan) else {
            return Err(internal("a stream without a connection"));
        };
        let streamed = self
            .machine
            .stream((kind, &mut left), input, (plan, &mut conn.session, &mut judge), &mut out)
            .map_err(|error| Turn::Fail(ClientError::Frame(error)))?;
        drop(statements);
        if streamed.consumed > 0 {
            // The batch that was kept is no longer all of it.
            self.batch_kept = false;
        }
        let written = write_some(&mut conn.stream, cx, &out);
        if let Ok(written) = &written {
            self.server_out.extend_from_slice(out.get(*written..).unwrap_or_default());
        }
        drop(out);
        self.phase = if streamed.ended { Phase::Running } else { Phase::Streaming { kind, left } };
        if streamed.terminated {
            return Err(Turn::Close);
        }
        if written.is_err() {
            self.server_lost(Lost::Broken)?;
        }
        Ok(streamed.consumed)
    }
}
