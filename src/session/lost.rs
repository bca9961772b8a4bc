//! What becomes of a batch whose server connection is lost: run again, or the truth to the client.

use std::sync::Arc;

use super::batch::frames;
use super::client_error::ClientError;
use super::machine::{Machine, Tx};
use super::pins::Pins;
use super::plan::Plan;
use super::relay::Hold;
use crate::sql::{PinCause, Place};
use crate::wire::{Tag, TxStatus, encode};

/// What the driver does after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing of the batch can have had an effect and nothing was answered: run it on another connection.
    RunAgain,
    /// The client has its answer in `out`; the session goes on.
    Answered,
    /// The client has half a message: its connection cannot go on.
    Broken,
}

/// How far a batch came before its connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Not a byte of it was sent.
    Nothing,
    /// The primary, which ended before it could have committed it.
    Undone,
    /// A replica, where nothing can be committed, whatever the batch was judged to be.
    Replica,
    /// The primary, or what was the primary.
    Primary,
}

/// What is left of a batch when its connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains<'b> {
    /// The whole batch, where it is still at hand.
    pub kept: Option<&'b [u8]>,
    /// The client waits for ReadyForQuery.
    pub sync_sent: bool,
    /// How far it came.
    pub reached: Reached,
}

/// How a transaction ended whose COMMIT got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is committed.
    Committed,
    /// It is not, and never will be.
    RolledBack,
    /// Nobody can tell.
    Unknown,
}

impl Machine {
    /// The connection broke while COMMIT was running on it, and this is what became of the transaction: the client gets
    /// the truth. `batch` is the COMMIT as the client sent it.
    pub fn lost_commit(
        &mut self,
        ending: Ending,
        node: &Arc<str>,
        batch: (&[u8], &Plan),
        out: &mut Vec<u8>,
    ) -> Loss {
        if self.relay.body_left > 0 {
            return Loss::Broken;
        }
        let answered = self.relay.answered;
        if ending == Ending::Committed {
            // What the transaction set holds.
            self.before = None;
        }
        self.connection_lost(node);
        self.tx = Tx::None;
        match ending {
            Ending::Committed if !answered => {
                self.answer_done("COMMIT", batch, out);
                return Loss::Answered;
            }
            Ending::Committed | Ending::Unknown => {
                ClientError::CommitUnknown { node: node.to_string() }.encode(out);
            }
            Ending::RolledBack => ClientError::TransactionLost { node: node.to_string() }.encode(out),
        }
        encode::ready(out, self.status());
        Loss::Answered
    }

    /// The connection broke while `plan` was running on it.
    pub fn lost(
        &mut self,
        plan: &Plan,
        node: &Arc<str>,
        Remains { kept, sync_sent, reached }: Remains<'_>,
        out: &mut Vec<u8>,
    ) -> Loss {
        if self.relay.body_left > 0 && self.relay.answered {
            return Loss::Broken;
        }
        if sync_sent && self.lost_failed(node, out) {
            return Loss::Answered;
        }
        let untouched = reached == Reached::Nothing || (reached == Reached::Undone && plan.again);
        if kept.is_some() && self.can_begin_anew(plan, untouched) {
            self.rewind();
            return Loss::RunAgain;
        }
        if sync_sent
            && let Some(batch) = kept
            && (self.lost_rollback((batch, plan), node, out) || self.lost_closes(batch, node, out))
        {
            return Loss::Answered;
        }
        let alone = self.is_alone();
        let error = self.truth(plan, node, (alone, reached));
        error.encode(out);
        let in_transaction = !plan.commits && self.status() != TxStatus::Idle;
        self.settle_names();
        self.connection_lost(node);
        self.tx = if in_transaction { Tx::Lost { reported: true } } else { Tx::None };
        if sync_sent {
            encode::ready(out, self.status());
        } else {
            self.relay.skip_client_to_sync = true;
        }
        Loss::Answered
    }

    /// ROLLBACK is done by the loss itself: nobody wants to hear of an error, and drivers take one for a broken connection.
    fn lost_rollback(&mut self, batch: (&[u8], &Plan), node: &Arc<str>, out: &mut Vec<u8>) -> bool {
        let (_, plan) = batch;
        if !plan.is_rollback() || self.relay.answered || !matches!(self.tx, Tx::Open | Tx::Failed) {
            return false;
        }
        self.settle_names();
        self.connection_lost(node);
        self.tx = Tx::None;
        self.answer_done("ROLLBACK", batch, out);
        true
    }

    /// A batch in a transaction block that only closes portals and statements is done by the loss itself. Drivers send it
    /// by themselves and drop its answer: an error in it would be told to nobody, and the COMMIT that follows would look
    /// like one of a transaction that had failed before. So the loss is told to the next statement.
    fn lost_closes(&mut self, batch: &[u8], node: &Arc<str>, out: &mut Vec<u8>) -> bool {
        let only_closes = frames(batch).all(|frame| matches!(frame.tag, Tag::CLOSE | Tag::SYNC));
        if !only_closes || self.relay.answered || !matches!(self.tx, Tx::Open | Tx::Failed) {
            return false;
        }
        self.settle_names();
        self.connection_lost(node);
        for frame in frames(batch) {
            match frame.tag {
                Tag::CLOSE => encode::close_complete(out),
                _ => encode::ready(out, self.status()),
            }
        }
        true
    }

    fn is_alone(&self) -> bool {
        self.tx == Tx::None || self.relay.began.is_some()
    }

    /// Whether the batch in flight can be run on another connection without anybody noticing.
    pub fn can_begin_anew(&self, plan: &Plan, unsent: bool) -> bool {
        let read = (plan.place == Place::Anywhere || unsent) && self.is_alone();
        // The transaction began with this batch and does not end with it: it is lost whole, and can be begun again.
        let uncommitted = self.relay.began.is_some() && !plan.commits;
        // On a replica it has written nothing, not even with its COMMIT.
        let again = read || uncommitted || self.is_roaming();
        again && !self.relay.answered && (self.beside || self.lost_pin().is_none())
    }

    /// The state before the batch was dispatched, so that it can be dispatched again.
    pub fn rewind(&mut self) {
        let began = self.relay.began.take();
        let names = self.relay.take_names();
        self.relay.reset();
        self.relay.give_names(names);
        if self.leave_replica() {
            return;
        }
        if let Some((queries, mode)) = began {
            self.tx = Tx::Deferred { queries, mode };
            if let Some(before) = self.before.as_ref().filter(|_| self.hopped) {
                self.put_aside(before.overlay.clone());
            }
        }
    }

    /// The server that the session was using is gone, outside of any statement.
    pub fn connection_lost(&mut self, node: &Arc<str>) {
        if self.beside {
            self.relay.reset();
            self.executed.clear();
            return;
        }
        self.lost_node = Some(Arc::clone(node));
        if matches!(self.tx, Tx::Open | Tx::Failed) {
            self.tx = Tx::Lost { reported: self.tx == Tx::Failed };
        }
        if let Some(before) = self.before.take() {
            self.current = before.overlay;
            self.channels = before.channels;
        }
        self.savepoints.clear();
        self.replay = None;
        self.wrote = false;
        self.forget_move();
        self.relay.reset();
        self.executed.clear();
        self.forget_pins();
    }

    /// The transaction is over, wherever it was.
    pub(super) fn forget_move(&mut self) {
        self.roaming = None;
        self.reading = None;
        self.hopped = false;
        self.set_aside = None;
    }

    /// What lived in the lost connection lives no more.
    pub(super) fn forget_pins(&mut self) {
        self.pins = Pins::default();
        self.forget_sequences();
        self.temporary.clear();
        if !self.sql_prepared.is_whole() {
            self.sql_prepared.clear();
        } else if !self.sql_prepared.is_empty() {
            self.pins.add(PinCause::SqlPrepare);
        }
        if self.settings.session_mode {
            self.pins.add(PinCause::SessionMode);
        }
        if !self.channels.is_empty() {
            self.pins.add(PinCause::Listen);
        }
    }

    /// Why the session cannot go on without the connection that it is tied to; `None`: it can, on another.
    pub fn lost_pin(&self) -> Option<PinCause> {
        self.pins.iter().find(|cause| match cause {
            // The name of a lost cursor stands for nothing else: whoever fetches from it is told.
            PinCause::SessionMode | PinCause::HoldCursor => false,
            PinCause::Listen => !self.channels.is_whole(),
            PinCause::SqlPrepare => !self.sql_prepared.is_whole(),
            _ => true,
        })
    }

    /// Whether the session listens for notifications: it needs a connection to the primary also while it rests.
    pub fn listens(&self) -> bool {
        self.pins.contains(PinCause::Listen)
    }

    /// Listens on another connection on what the session has been listening on; the answer is swallowed.
    pub fn listen_again(&mut self, out: &mut Vec<u8>) {
        encode::query(out, self.channels.sql().as_bytes());
        self.relay.begin(Hold::None);
        self.relay.swallow_ready = 1;
        self.relay.busy = false;
    }

    /// Whether that has been answered.
    pub fn listens_again(&self) -> bool {
        self.relay.swallow_ready == 0
    }

    fn truth(&self, plan: &Plan, node: &Arc<str>, (alone, reached): (bool, Reached)) -> ClientError {
        let node = node.to_string();
        if plan.commits && reached == Reached::Primary {
            ClientError::CommitUnknown { node }
        } else if alone && self.relay.began.is_none() && reached != Reached::Undone {
            ClientError::StatementLost { node }
        } else {
            ClientError::TransactionLost { node }
        }
    }
}
