//! One client as a state machine: what it has said and been told, beyond any server connection.
//!
//! The driver feeds it batches and server bytes and carries out what it returns; it owns no socket and reads no clock.
//! `plan` judges a batch, `local` answers what needs no server, `dispatch` writes what a server gets, `relay` reads
//! what the server answers, `freshness` keeps what the session has to see.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::channels::Channels;
use super::effects::{is_doubtful, is_setting};
use super::expected::Relay;
use super::freshness::Freshness;
use super::overlay::Overlay;
use super::pins::Pins;
use super::relay::Written;
use super::replay::{Replay, ReplayLimits};
use super::roaming::{Optimism, Roaming};
use super::sequences::Sequences;
use super::sql_prepared::SqlPrepared;
use super::statement::{ServerSession, Statement, Statements};
use super::temporary::Temporary;
use crate::model::Consistency;
use crate::route::{Floor, Request, Transaction};
use crate::sql::{
    BeginMode, Catalog, Change, Classifier, Hint, Kind, PinCause, Place, Reason, SessionEffect, Verdict,
};
use crate::wire::TxStatus;

use super::plan::Plan;

/// What configuration says about sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A session keeps its server connection until it ends.
    pub session_mode: bool,
    /// Prepared statements of one client.
    pub prepared_max: usize,
    /// Bytes of prepared statements of one client.
    pub prepared_bytes_max: usize,
    /// Prepared statements on one server connection.
    pub server_prepared_max: usize,
    /// Bytes of settings of one client.
    pub settings_bytes_max: usize,
    /// Ask for a transaction's id ahead of its COMMIT, so that its outcome can be told if the server is lost.
    pub resolve_commits: bool,
    /// Transactions that are lost with their server are run again on another, within these limits.
    pub replay: Option<ReplayLimits>,
}

/// What the worker lends for judging statements: the classifier, the facts of this database, its shared statements.
#[derive(Debug)]
pub struct Judge<'a> {
    /// One per worker.
    pub classifier: &'a mut Classifier,
    /// Facts of the session's database.
    pub catalog: &'a Catalog,
    /// Prepared statements of the session's database, shared by the worker's sessions.
    pub statements: &'a mut Statements,
}

/// A text that goes ahead of a statement: nearly always a short BEGIN, for which nothing is allocated.
pub(super) type AheadText = SmallVec<[u8; 24]>;

/// All that go ahead of one.
pub(super) type Ahead = SmallVec<[AheadText; 1]>;

/// The transaction as the client believes it to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tx {
    /// None.
    None,
    /// BEGIN was answered but not sent: `queries` go ahead of the first statement.
    Deferred {
        /// The texts to send, each as a query of its own.
        queries: Ahead,
        /// What they declare.
        mode: BeginMode,
    },
    /// Open on the server.
    Open,
    /// Open and failed on the server.
    Failed,
    /// The server that had it is gone; nothing of it is committed.
    Lost {
        /// The client has got its error.
        reported: bool,
    },
}

/// The session's unnamed prepared statement, kept so that it can be prepared again elsewhere.
#[derive(Debug)]
pub(super) struct Unnamed {
    pub(super) definition: Box<[u8]>,
    pub(super) generation: u64,
    pub(super) verdict: Rc<Verdict>,
}

/// What ROLLBACK returns to.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) overlay: Overlay,
    pub(super) pins: Pins,
    pub(super) channels: Channels,
}

/// One client.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, none excludes another")]
pub struct Machine {
    pub(super) id: u64,
    pub(super) settings: Rc<Settings>,
    pub(super) tx: Tx,
    pub(super) startup: Overlay,
    pub(super) current: Overlay,
    pub(super) before: Option<Before>,
    pub(super) savepoints: Vec<(Arc<str>, Before)>,
    pub(super) pins: Pins,
    pub(super) channels: Channels,
    /// The open transaction, where it may be run again on another server.
    pub(super) replay: Option<Box<Replay>>,
    pub(super) sql_prepared: SqlPrepared,
    pub(super) prepared: HashMap<Box<[u8]>, Rc<Statement>, FxBuildHasher>,
    pub(super) prepared_bytes: usize,
    pub(super) unnamed: Option<Unnamed>,
    pub(super) unnamed_number: u64,
    pub(super) executed: SmallVec<[Rc<Verdict>; 2]>,
    pub(super) route_hint: Option<Hint>,
    /// `SET primacy.consistency`.
    pub(super) consistency: Option<Consistency>,
    /// Whether transactions read on a replica until they write.
    pub(super) optimism: Optimism,
    /// The open transaction is on a replica and can go on elsewhere.
    pub(super) roaming: Option<Box<Roaming>>,
    /// The open transaction is READ ONLY and on a replica.
    pub(super) reading: Option<Box<Roaming>>,
    /// The transaction has been elsewhere before.
    pub(super) hopped: bool,
    /// The settings of a transaction between two servers; `current` are those from before it.
    pub(super) set_aside: Option<Overlay>,
    /// What the transaction's DDL changes in the catalog facts, once it is committed.
    pub(super) changes: Vec<Change>,
    /// The open transaction has executed something that may write.
    pub(super) wrote: bool,
    /// The node whose loss cost the session its transaction.
    pub(super) lost_node: Option<Arc<str>>,
    /// What the session has to see.
    pub freshness: Freshness,
    pub(super) relay: Relay,
    pub(super) sequences: Sequences,
    pub(super) temporary: Temporary,
    /// It has looked at counters of what was done on the primary: what it does from now on is to be counted there.
    pub(super) watches_counters: bool,
    /// The batch in flight runs beside the connection that the session is tied to.
    pub(super) beside: bool,
    /// The last value of `DateStyle` that a server reported.
    pub(super) date_style: Option<Arc<str>>,
}

/// How the driver goes on with a planned batch.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Answer it with `Machine::answer`; no server is needed.
    Local,
    /// Use the connection that the session holds.
    Held,
    /// Ask the router.
    Route(Request),
    /// The transaction leaves the replica that it is on: `Machine::leave_replica`, then `step` again.
    Move,
}

impl Machine {
    /// A client that has just signed in. `id` is unique in the worker; `startup` are settings that go ahead of its
    /// first statement and that RESET returns to.
    pub fn new(id: u64, settings: Rc<Settings>, startup: Overlay) -> Self {
        let mut pins = Pins::default();
        if settings.session_mode {
            pins.add(PinCause::SessionMode);
        }
        Self {
            id,
            settings,
            tx: Tx::None,
            current: startup.clone(),
            startup,
            before: None,
            savepoints: Vec::new(),
            pins,
            channels: Channels::default(),
            replay: None,
            sql_prepared: SqlPrepared::default(),
            prepared: HashMap::default(),
            prepared_bytes: 0,
            unnamed: None,
            unnamed_number: 0,
            executed: SmallVec::new(),
            route_hint: None,
            consistency: None,
            optimism: Optimism::default(),
            roaming: None,
            reading: None,
            hopped: false,
            set_aside: None,
            changes: Vec::new(),
            wrote: false,
            lost_node: None,
            freshness: Freshness::default(),
            relay: Relay::default(),
            sequences: Sequences::default(),
            temporary: Temporary::default(),
            watches_counters: false,
            beside: false,
            date_style: None,
        }
    }

    /// The status that ReadyForQuery shows the client.
    pub fn status(&self) -> TxStatus {
        match self.tx {
            Tx::None => TxStatus::Idle,
            Tx::Deferred { .. } | Tx::Open | Tx::Lost { reported: false } => TxStatus::InTransaction,
            Tx::Failed | Tx::Lost { reported: true } => TxStatus::Failed,
        }
    }

    /// Unique in the worker.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The transaction as the client believes it to be.
    pub fn tx(&self) -> &Tx {
        &self.tx
    }

    /// Why the session is tied to its connection.
    pub fn pins(&self) -> Pins {
        self.pins
    }

    /// Settings that RESET returns to and that differ from those the server connections are started with.
    pub fn startup(&self) -> &Overlay {
        &self.startup
    }

    /// Whether the connection may go back to the pool now that the server is ready.
    pub fn may_release(&self) -> bool {
        self.pins.is_empty() && !matches!(self.tx, Tx::Open | Tx::Failed) && self.relay.is_idle()
    }

    /// What the server said that the transaction has written, once after it said so.
    pub fn take_written(&mut self) -> Option<Written> {
        self.relay.xid.take()
    }

    /// Whether what the client sends is dropped up to Sync, because an error was made up ahead of it.
    pub fn skips_to_sync(&self) -> bool {
        self.relay.skip_client_to_sync
    }

    /// What the client sends is dropped up to Sync.
    pub fn skip_to_sync(&mut self) {
        self.relay.skip_client_to_sync = true;
    }

    /// Sync has come: the client is told the status.
    pub fn synced(&mut self) {
        self.relay.skip_client_to_sync = false;
    }

    /// The batch is given up before anything was sent: the client gets an error of ours.
    pub fn give_up(&mut self) {
        self.relay.reset_for_error();
        self.settle_names();
        self.executed.clear();
        self.sql_prepared.settle();
        if self.tx != Tx::None {
            if let Some(before) = self.before.take() {
                self.current = before.overlay;
            }
            self.savepoints.clear();
            self.forget_move();
            self.tx = Tx::Lost { reported: true };
        }
    }

    /// Begins to stream a batch that is not gathered; `out` takes what goes ahead of it.
    pub fn begin_stream(&mut self, server: &mut ServerSession, out: &mut Vec<u8>) {
        self.executed.clear();
        self.relay.portals.clear();
        self.relay.own_unnamed = false;
        self.begin_dispatch(server, super::relay::Hold::None, out);
        self.close_hidden(true, server, out);
        self.stop_replay();
    }

    /// Whether the server has not answered yet what goes ahead of the commit: then it has not looked at that either.
    pub fn commit_unseen(&self) -> bool {
        let asking = &self.relay.asking;
        (self.relay.asks_xid && self.relay.swallow_ready > 0)
            || (asking.on && !asking.known && !self.relay.error_seen())
    }

    /// Whether the batch in flight began its transaction.
    pub fn began(&self) -> bool {
        self.relay.began.is_some()
    }

    /// Whether a statement is running, or an unfinished pipeline is open.
    pub fn is_busy(&self) -> bool {
        !self.relay.is_idle()
    }

    /// What to do with a planned batch; `held` says that the session holds a server connection.
    pub fn step(&self, plan: &Plan, held: bool) -> Step {
        if self.answers_locally(plan, held) {
            return Step::Local;
        }
        if held && self.must_move(plan) {
            return Step::Move;
        }
        if held && !self.may_leave(plan) {
            return Step::Held;
        }
        let transaction = match (&self.tx, &plan.begin) {
            (Tx::Deferred { mode, .. }, _) | (_, Some(mode)) => Transaction::Deferred {
                read_only: mode.read_only == Some(true),
                serializable: mode.serializable,
                movable: plan.movable,
                moved: self.hopped,
            },
            _ => Transaction::None,
        };
        let (place, reason) = self.place(plan);
        Step::Route(Request {
            place,
            verdict_reason: reason,
            hint: plan.hint.or(self.route_hint),
            transaction,
            consistency: plan.consistency.or(self.consistency),
            floor: Floor::NONE,
            home: None,
            waited: false,
            avoid: None,
        })
    }

    /// Whether the batch's only statement is of a kind that needs no server in this state.
    fn answers_locally(&self, plan: &Plan, held: bool) -> bool {
        if matches!(self.tx, Tx::Lost { .. }) {
            return true;
        }
        let Some(verdict) = plan.solo() else {
            let own = self.executed.is_empty() && plan.prepares_own().is_some();
            // Close and Sync change nothing for a server, inside of a transaction block either. Drivers do not look at the answer
            // to a Close: were it sent and its server lost, nobody would read that the transaction is lost with it.
            return (own && self.tx != Tx::Failed) || plan.needs_no_server;
        };
        match &verdict.kind {
            Kind::ShowPrimacy(_) | Kind::SetPrimacy(..) => self.tx != Tx::Failed,
            _ if self.deallocates_own(verdict) => self.tx != Tx::Failed,
            _ if held => false,
            // What else is parsed in the same pipeline has to be parsed by a server.
            Kind::Begin(_) => self.tx == Tx::None && (!plan.extended() || plan.reason == Reason::Empty),
            Kind::Commit { chain: false } | Kind::Rollback { chain: false } => {
                matches!(self.tx, Tx::Deferred { .. }) && (!plan.extended() || plan.reason == Reason::Empty)
            }
            Kind::SetTransaction(_) => matches!(self.tx, Tx::Deferred { .. }) && !self.hopped,
            _ => false,
        }
    }

    /// Whether the statement is DEALLOCATE of a name that the client prepared by protocol: servers know it by another.
    pub(super) fn deallocates_own(&self, verdict: &Verdict) -> bool {
        use crate::sql::SessionEffect::{Deallocate, DeallocateAll};
        match verdict.effects.as_ref() {
            [Deallocate(name)] => self.prepared.contains_key(name.as_bytes()),
            [DeallocateAll] => self.sql_prepared.is_empty(),
            _ => false,
        }
    }

    /// Called when the server is ready after a batch: effects take hold, the transaction's end is noted.
    /// Returns what has changed in the catalog facts of this database.
    pub fn finish(&mut self, status: TxStatus, server: &mut ServerSession) -> Vec<Change> {
        self.note_told(status);
        let failed = self.relay.take_error_seen();
        let was_failed = self.tx == Tx::Failed;
        let was_in_transaction = matches!(self.tx, Tx::Open | Tx::Failed | Tx::Deferred { .. });
        let executed = std::mem::take(&mut self.executed);
        let mut changes = Vec::new();
        self.wrote |= executed.iter().any(|verdict| verdict.place == Place::Primary);
        self.note_sequences(&executed, server);
        if failed && self.relay.own_unnamed && !self.relay.parsed {
            // Parse took the unnamed statement that was there away before it failed.
            self.unnamed = None;
            server.unnamed = None;
        }
        if failed {
            self.effects_of_failed(&executed, server);
        } else {
            for verdict in &executed {
                self.apply(verdict, server);
            }
        }
        self.sql_prepared.settle();
        if status == TxStatus::Idle {
            let committed = !failed && !was_failed && !ends_in_rollback(&executed);
            if !committed && (was_in_transaction || failed) {
                self.restore(server);
            }
            if committed && !was_in_transaction {
                self.drop_temporaries(&executed);
            }
            self.before = None;
            self.savepoints.clear();
            let seen = std::mem::take(&mut self.changes);
            if committed || is_doubtful(&executed) {
                changes = seen;
            }
            self.wrote = false;
        }
        self.tx = match status {
            TxStatus::Idle => Tx::None,
            TxStatus::InTransaction => Tx::Open,
            TxStatus::Failed => Tx::Failed,
        };
        self.finish_roaming(failed);
        changes
    }

    /// An error in a batch. What it did is undone with its transaction, except for what no transaction undoes; and where
    /// it also began or ended transactions, nobody knows which of its effects hold.
    fn effects_of_failed(&mut self, executed: &[Rc<Verdict>], server: &mut ServerSession) {
        let doubtful = is_doubtful(executed);
        for effect in executed.iter().flat_map(|verdict| verdict.effects.iter()) {
            match effect {
                SessionEffect::Pin(cause @ (PinCause::AdvisoryLock | PinCause::Load)) => {
                    self.pins.add(*cause);
                }
                // It may have asked before it failed, and it asks again.
                SessionEffect::AsksSequences => self.asks_sequences(),
                SessionEffect::Listen(_) if doubtful => {
                    self.channels.add_unknown();
                    self.pins.add(PinCause::Listen);
                }
                SessionEffect::Pin(cause) if doubtful => {
                    self.pins.add(*cause);
                }
                SessionEffect::PrepareSql(name) if executed.len() > 1 || doubtful => {
                    self.prepared_in_sql(name, server);
                    self.pins.add(PinCause::SqlPrepare);
                }
                SessionEffect::Ddl(change) if doubtful => self.changes.push(change.clone()),
                effect if doubtful && is_setting(effect) => {
                    self.pins.add(PinCause::UnknownSetting);
                }
                _ => {}
            }
        }
    }

    /// Notes what ROLLBACK returns to, before the first statement of a transaction (an implicit one too).
    pub(super) fn remember_before(&mut self) {
        if self.before.is_none() {
            self.before = Some(self.now());
        }
    }

    /// What ROLLBACK TO this moment returns to.
    pub(super) fn now(&self) -> Before {
        Before { overlay: self.current.clone(), pins: self.pins, channels: self.channels.clone() }
    }

    fn restore(&mut self, server: &mut ServerSession) {
        if let Some(before) = self.before.take() {
            self.pins = self.pins.rolled_back_to(before.pins);
            self.channels = before.channels;
            if self.current != before.overlay {
                self.current = before.overlay;
                server.applied = self.current.clone();
            }
        }
    }
}

fn ends_in_rollback(executed: &[Rc<Verdict>]) -> bool {
    let last = executed.iter().rev().find(|v| matches!(v.kind, Kind::Commit { .. } | Kind::Rollback { .. }));
    last.is_some_and(|verdict| matches!(verdict.kind, Kind::Rollback { .. }))
}
