//! Sessions that listen for notifications and have lost the connection that brought them: another one to the primary is
//! taken, and listened on, without the client doing anything.
//!
//! Notifications of the time between are lost, as they are for a client that connects again by itself.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::acquire::Refusal;
use super::driver::{Driver, Lost, Phase, Turn};
use crate::route::{Floor, Request, Transaction};
use crate::session::ClientError;
use crate::sql::{Hint, PinCause, Place, Reason};

/// For the server's answer to LISTEN.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl Driver {
    /// Takes a connection to the primary and listens on it again. A client that waits for notifications alone waits as
    /// long as it takes; one that has a statement to run, as long as that is held.
    ///
    /// # Errors
    /// The session ends.
    pub(super) async fn listen_again(&mut self) -> Result<(), Turn> {
        let given_up = || Turn::Fail(ClientError::SessionLost { pin: PinCause::Listen.as_str() });
        loop {
            match Box::pin(self.acquire(to_primary())).await {
                Ok(()) => {}
                Err(Refusal::Gone) => return Err(Turn::Close),
                Err(Refusal::Error(error)) if error.fatal() => return Err(Turn::Fail(error)),
                Err(Refusal::Error(ClientError::NoPrimary { .. } | ClientError::Cancelled))
                    if self.client_in.is_empty() && self.plan.is_none() =>
                {
                    continue;
                }
                Err(_) => return Err(given_up()),
            }
            self.phase = Phase::Idle;
            self.machine.listen_again(&mut self.server_out);
            let listened = poll_fn(|cx| self.poll_listened(cx));
            match tokio::time::timeout(ANSWER_LIMIT, listened).await {
                Ok(Ok(())) => break,
                // Lost again.
                Ok(Err(Turn::Listen)) => {}
                Ok(Err(turn)) => return Err(turn),
                Err(_elapsed) => drop(self.discard()),
            }
        }
        tracing::debug!("a session listens again on another connection");
        if self.plan.is_some() && self.batch_kept {
            self.phase = Phase::Leased;
        } else {
            self.set_resting();
        }
        Ok(())
    }

    fn poll_listened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Turn>> {
        loop {
            if self.lease.as_ref().is_some_and(|conn| self.worker.is_fenced(conn)) {
                return Poll::Ready(self.server_lost(Lost::Broken));
            }
            if let Err(turn) = self.flush_server(cx) {
                return Poll::Ready(Err(turn));
            }
            if self.machine.listens_again() {
                return Poll::Ready(Ok(()));
            }
            match self.poll_server(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(turn) => return Poll::Ready(Err(turn)),
            }
        }
    }
}

/// A connection to the primary, for the session itself.
pub(super) fn to_primary() -> Request {
    Request {
        place: Place::Primary,
        verdict_reason: Reason::SessionState,
        hint: Some(Hint::Primary),
        transaction: Transaction::None,
        consistency: None,
        floor: Floor::NONE,
        home: None,
        waited: false,
        avoid: None,
    }
}
