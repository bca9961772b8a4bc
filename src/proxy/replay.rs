//! Transactions that are run again on the new primary: the driver takes a connection there and carries the batches over,
//! one after the other, while the client waits.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::acquire::Refusal;
use super::driver::{Driver, Phase, Turn};
use super::flow::{poll_read, write_some};
use super::listen::to_primary;
use crate::model::NodeId;
use crate::observe::Retry;
use crate::session::{Event, Reached, Remains, Replayed};
use crate::wire::TxStatus;

/// How often a transaction is run again that loses its server once more.
const ATTEMPTS_MAX: u32 = 3;

/// Why a transaction could not be run again.
enum Failed {
    /// Its server was lost again.
    Lost,
    /// This is no way to go on.
    For(&'static str),
}

impl Driver {
    /// Runs the session's transaction again, up to the batch that is kept, if there is one. What follows; `None`: the
    /// session goes on, with its transaction or without.
    pub(super) async fn replay(&mut self, node: NodeId) -> Option<Turn> {
        let mut why = "its server was lost again and again";
        for _ in 0..ATTEMPTS_MAX {
            self.phase = Phase::Acquiring;
            match Box::pin(self.acquire(to_primary())).await {
                Ok(()) => {}
                Err(Refusal::Gone) => return Some(Turn::Close),
                Err(Refusal::Error(error)) if error.fatal() => return Some(Turn::Fail(error)),
                Err(_) => {
                    why = "there was no primary in time";
                    break;
                }
            }
            self.phase = Phase::Running;
            match self.carry_over().await {
                Ok(()) => {
                    tracing::info!("a transaction has been run again on the new primary");
                    self.worker.meter.retried(Retry::Replayed);
                    self.phase = if self.plan.is_some() { Phase::Leased } else { Phase::Idle };
                    self.set_resting();
                    return None;
                }
                Err(Failed::Lost) => {
                    self.discard();
                    if !self.machine.begin_replay(false) {
                        break;
                    }
                }
                Err(Failed::For(reason)) => {
                    self.discard();
                    why = reason;
                    break;
                }
            }
        }
        tracing::info!(why, "a transaction could not be run again");
        self.lose_transaction(node);
        None
    }

    /// The client is told that its transaction is lost: now if it waits for something, else with its next statement.
    fn lose_transaction(&mut self, node: NodeId) {
        let name = self.node_name(node);
        self.machine.give_replay_up();
        if let Some(plan) = self.plan.take() {
            let remains = Remains { kept: None, sync_sent: true, reached: Reached::Undone };
            self.machine.lost(&plan, &name, remains, &mut self.client_out);
        } else {
            self.machine.connection_lost(&name);
        }
        self.batch_kept = false;
        self.phase = Phase::Idle;
        self.set_resting();
    }

    async fn carry_over(&mut self) -> Result<(), Failed> {
        let limit = self.worker.shared.settings.load().limits.hold_timeout;
        loop {
            let Some(conn) = &mut self.lease else { return Err(Failed::Lost) };
            match self.machine.replay_next(&mut conn.session, &mut self.server_out) {
                Replayed::Done => return Ok(()),
                Replayed::Impossible => return Err(Failed::For("a statement that it had prepared is gone")),
                Replayed::Sent => {}
            }
            let answered = poll_fn(|cx| self.poll_replayed(cx));
            let Ok(answered) = tokio::time::timeout(limit, answered).await else {
                return Err(Failed::For("it took too long"));
            };
            if !self.machine.replayed_the_same(answered?) {
                return Err(Failed::For("it gave another result than before"));
            }
        }
    }

    /// Ready with the status after a batch that nobody but the checksum is told of.
    fn poll_replayed(&mut self, cx: &mut Context<'_>) -> Poll<Result<TxStatus, Failed>> {
        self.handle.register(cx);
        loop {
            let Some(conn) = &mut self.lease else { return Poll::Ready(Err(Failed::Lost)) };
            if self.worker.is_fenced(conn) {
                return Poll::Ready(Err(Failed::Lost));
            }
            if !self.server_out.is_empty() {
                let Ok(written) = write_some(&mut conn.stream, cx, &self.server_out) else {
                    return Poll::Ready(Err(Failed::Lost));
                };
                self.server_out.drain(..written);
            }
            let mut scratch = self.worker.scratch.borrow_mut();
            let have = self.server_in.len();
            if let Some(front) = scratch.get_mut(..have) {
                front.copy_from_slice(&self.server_in);
            }
            let len = match poll_read(&mut conn.stream, cx, scratch.get_mut(have..).unwrap_or_default()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Failed::Lost)),
                Poll::Ready(Ok(len)) => len,
            };
            let input = scratch.get(..have + len).unwrap_or_default();
            let mut out = self.worker.out.borrow_mut();
            out.clear();
            let Ok(relayed) = self.machine.relay(input, &mut conn.session, &mut out) else {
                return Poll::Ready(Err(Failed::Lost));
            };
            match relayed.event {
                None => {}
                Some(Event::Ready(status)) => {
                    self.server_in.clear();
                    return Poll::Ready(Ok(status));
                }
                Some(Event::Fatal(_)) => return Poll::Ready(Err(Failed::Lost)),
                Some(_) => return Poll::Ready(Err(Failed::For("a statement of it was refused"))),
            }
            let input = input.get(relayed.consumed..).unwrap_or_default();
            self.server_in.clear();
            self.server_in.extend_from_slice(input);
        }
    }
}
