//! What becomes of a batch whose server connection is lost: run again, or the truth to the client.

use std::sync::Arc;

use super::client_error::ClientError;
use super::machine::{Machine, Tx};
use super::plan::Plan;
use crate::sql::Place;
use crate::wire::{TxStatus, encode};

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
    /// A replica, where nothing can be committed, whatever the batch was judged to be.
    Replica,
    /// The primary, or what was the primary.
    Primary,
}

/// What is left of a batch when its connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The whole batch is still at hand.
    pub kept: bool,
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
        Remains { kept, sync_sent, reached }: Remains,
        out: &mut Vec<u8>,
    ) -> Loss {
        if self.relay.body_left > 0 {
            return Loss::Broken;
        }
        if kept && self.can_begin_anew(plan, reached == Reached::Nothing) {
            self.rewind();
            return Loss::RunAgain;
        }
        let alone = self.is_alone();
        let error = self.truth(plan, node, (alone, reached));
        error.encode(out);
        let in_transaction = !plan.commits && self.status() != TxStatus::Idle;
        self.connection_lost(node);
        self.tx = if in_transaction { Tx::Lost { reported: true } } else { Tx::None };
        self.settle_names();
        if sync_sent {
            encode::ready(out, self.status());
        } else {
            self.relay.skip_client_to_sync = true;
        }
        Loss::Answered
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
        again && !self.relay.answered && (self.beside || self.pins.is_empty())
    }

    /// The state before the batch was dispatched, so that it can be dispatched again.
    pub fn rewind(&mut self) {
        let began = self.relay.began.take();
        let tentative = std::mem::take(&mut self.relay.tentative);
        let replacements = std::mem::take(&mut self.relay.replacements);
        self.relay.reset();
        self.relay.tentative = tentative;
        self.relay.replacements = replacements;
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

    fn truth(&self, plan: &Plan, node: &Arc<str>, (alone, reached): (bool, Reached)) -> ClientError {
        let node = node.to_string();
        if plan.commits && reached == Reached::Primary {
            ClientError::CommitUnknown { node }
        } else if alone && self.relay.began.is_none() {
            ClientError::StatementLost { node }
        } else {
            ClientError::TransactionLost { node }
        }
    }
}
