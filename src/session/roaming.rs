//! Transactions that read on a replica until they have to go on on the primary (`transactions = "optimistic"`).
//!
//! What a READ COMMITTED transaction has done before its first write are reads, each of which saw what any transaction of
//! that moment would have seen, and statements that change the transaction alone: settings, savepoints. So it can go on
//! anywhere where those are repeated: on the primary when it has to, on another replica when its own is lost. What cannot
//! be repeated, or showed what belongs to this transaction (`sql::moment`), is not run on a replica to begin with.
//!
//! Between two servers the transaction is `Tx::Deferred` again, with what is to be repeated behind its BEGIN. The settings
//! that it has set are put aside meanwhile: they are set again inside of it, so that ROLLBACK undoes them there.

use super::batch::{End, frames};
use super::machine::{Ahead, Machine, Tx};
use super::plan::Plan;
use super::statement::text_in;
use crate::model::Consistency;
use crate::sql::{BeginMode, Catalog, Hint, Kind, Moving, Place, moment};
use crate::wire::Tag;
use crate::wire::frontend::Bind;

/// Statements to be repeated at most, and their bytes; a transaction with more goes on on the primary.
const LOG_MAX: usize = 100;
const LOG_BYTES_MAX: usize = 64 * 1024;

/// A transaction on a replica that can go on elsewhere.
#[derive(Debug)]
pub(super) struct Roaming {
    /// BEGIN, then what changed the transaction, in order.
    log: Ahead,
    bytes: usize,
    mode: BeginMode,
}

impl Roaming {
    fn is_full(&self) -> bool {
        self.log.len() >= LOG_MAX || self.bytes >= LOG_BYTES_MAX
    }
}

/// Whether transactions read on a replica until they write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Optimism {
    /// Configuration does not want it.
    #[default]
    Off,
    /// It does.
    On,
    /// The session's connections have an isolation level of their own, whatever configuration wants.
    Never,
}

impl Machine {
    /// Whether transactions read on a replica until they write.
    pub(super) fn is_optimistic(&self) -> bool {
        self.optimism == Optimism::On
    }

    /// What configuration wants of transactions.
    pub fn set_optimistic(&mut self, wanted: bool) {
        if self.optimism != Optimism::Never {
            self.optimism = if wanted { Optimism::On } else { Optimism::Off };
        }
    }

    /// Whether the session is in a transaction on a replica that can go on elsewhere.
    pub fn is_roaming(&self) -> bool {
        self.roaming.is_some() && self.tx == Tx::Open
    }

    /// Its server connections are started with an isolation level of their own: no transaction is moved.
    pub fn keep_transactions_whole(&mut self) {
        self.optimism = Optimism::Never;
    }

    /// Whether a judged batch may run on a replica in a transaction that may have to be moved later.
    pub(super) fn is_movable(&self, batch: &[u8], plan: &Plan, catalog: &Catalog) -> bool {
        let begins_or_roams = match &self.tx {
            Tx::Deferred { mode, .. } => self.may_roam(*mode, catalog),
            Tx::Open => self.roaming.as_ref().is_some_and(|roaming| !roaming.is_full()),
            // What brings it back to a savepoint has to be kept, too.
            Tx::Failed => self.roaming.is_some(),
            _ => false,
        };
        begins_or_roams && !self.watches_counters && stays(plan) && !self.spells_moment(batch)
    }

    /// READ COMMITTED, by nobody's choice: what else a transaction was begun as, or may be by default, is kept whole.
    fn may_roam(&self, mode: BeginMode, catalog: &Catalog) -> bool {
        self.is_optimistic()
            && mode.read_only.is_none()
            && !mode.isolation_given
            && !mode.serializable
            && self.pins.is_empty()
            && self.current.statement("default_transaction_isolation").is_none()
            && catalog.is_read_committed()
    }

    /// Whether a text or a parameter may be read as a moment.
    fn spells_moment(&self, batch: &[u8]) -> bool {
        frames(batch).any(|frame| {
            moment::is_spelled(frame.body)
                || (frame.tag == Tag::BIND
                    && Bind::decode(frame.body).is_ok_and(|bind| self.text_spells_moment(bind.statement)))
        })
    }

    fn text_spells_moment(&self, statement: &[u8]) -> bool {
        if statement.is_empty() {
            return self
                .unnamed
                .as_ref()
                .is_some_and(|unnamed| moment::is_spelled(text_in(&unnamed.definition)));
        }
        self.prepared.get(statement).is_some_and(|statement| moment::is_spelled(statement.text()))
    }

    /// A batch has been written for a replica: a movable one begins to roam, and what it does to the transaction is kept. Of a
    /// READ ONLY transaction nothing but its BEGIN would have to be repeated.
    pub fn note_roaming(&mut self, batch: &[u8], plan: &Plan) {
        if !plan.movable {
            if let Some((queries, mode)) =
                self.relay.began.as_ref().filter(|(_, mode)| mode.read_only == Some(true))
            {
                self.reading = Some(Box::new(Roaming { log: queries.clone(), bytes: 0, mode: *mode }));
            }
            return;
        }
        if let (None, Some((queries, mode))) = (&self.roaming, &self.relay.began) {
            let bytes = queries.iter().map(smallvec::SmallVec::len).sum();
            self.roaming = Some(Box::new(Roaming { log: queries.clone(), bytes, mode: *mode }));
        }
        if plan.solo().is_some_and(|verdict| verdict.moving == Moving::Again) {
            self.relay.repeat = Some(self.text_of(batch));
        }
    }

    /// The server is ready after a batch of a roaming transaction.
    pub(super) fn finish_roaming(&mut self, failed: bool) {
        let text = self.relay.repeat.take();
        if self.tx == Tx::None {
            self.roaming = None;
            self.reading = None;
            self.hopped = false;
        } else if let (Some(roaming), Some(text), false) = (&mut self.roaming, text, failed) {
            roaming.bytes += text.len();
            roaming.log.push(text);
        }
    }

    /// Whether the transaction cannot go on with this batch on the replica that it is on.
    pub(super) fn must_move(&self, plan: &Plan) -> bool {
        let prepares = plan.solo().is_some_and(|verdict| verdict.kind == Kind::PrepareTransaction);
        let sets = || self.before.as_ref().is_none_or(|before| before.overlay != self.current);
        if prepares && self.reading.is_some() && matches!(self.tx, Tx::Open | Tx::Failed) && !sets() {
            return true;
        }
        // PREPARE TRANSACTION rolls a failed transaction back; a replica refuses the word itself.
        (self.is_roaming() && !plan.movable) || (prepares && self.roaming.is_some() && self.tx == Tx::Failed)
    }

    /// A READ ONLY transaction has to be prepared, which a replica cannot do: it can go on elsewhere from here on.
    pub fn let_reading_go(&mut self) {
        self.roaming = self.roaming.take().or_else(|| self.reading.take());
    }

    /// A failed transaction leaves its replica: nothing is left of it but its end, which needs no server.
    pub fn leave_failed(&mut self) -> bool {
        if self.tx != Tx::Failed || self.roaming.take().is_none() {
            return false;
        }
        if let Some(before) = self.before.take() {
            self.current = before.overlay;
        }
        self.savepoints.clear();
        self.tx = Tx::Lost { reported: true };
        true
    }

    /// The transaction leaves its replica: it is to be begun again elsewhere. `false`: it cannot be.
    pub fn leave_replica(&mut self) -> bool {
        if !self.is_roaming() {
            return false;
        }
        let (Some(roaming), Some(before)) = (self.roaming.take(), &self.before) else { return false };
        self.put_aside(before.overlay.clone());
        self.tx = Tx::Deferred { queries: roaming.log, mode: roaming.mode };
        true
    }

    /// Puts the settings aside that the transaction has set; they are set again inside of it.
    pub(super) fn put_aside(&mut self, before: super::overlay::Overlay) {
        self.hopped = true;
        self.set_aside = Some(std::mem::replace(&mut self.current, before));
    }

    /// The settings that the connection has outside of the transaction that the session has left there.
    pub fn settings_outside(&self) -> super::overlay::Overlay {
        self.before.as_ref().map_or_else(|| self.current.clone(), |before| before.overlay.clone())
    }
}

/// Whether nothing of the batch ties its transaction to the server that runs it.
fn stays(plan: &Plan) -> bool {
    let wished_elsewhere = plan.hint == Some(Hint::Primary) || plan.consistency == Some(Consistency::Global);
    if !matches!(plan.end, End::Query | End::Sync) || plan.leaves_portal || wished_elsewhere {
        return false;
    }
    match plan.solo().map(|verdict| (&verdict.kind, verdict.moving)) {
        Some((Kind::Commit { chain: false } | Kind::Rollback { chain: false }, _) | (_, Moving::Again)) => {
            true
        }
        _ => plan.place == Place::Anywhere && plan.all_free && plan.begin.is_none(),
    }
}
