//! One thread of the data path: its clients, its pools, its part of the limits.
//!
//! A worker owns everything that its sessions touch per statement, so nothing on that path is locked or shared.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::auth::Verifiers;
use super::catalog::{CatalogHub, Facts};
pub use super::command::Command;
use super::console::Console;
use super::counts::Counts;
use super::gate::{Gate, Gates};
use super::handle::{Handle, Kick, place_of};
use super::links::Links;
use super::pace::Pace;
use super::pool::{ServerConn, UserPool};
use super::server::Credential;
use super::settings::{PoolSettings, Settings};
use crate::clock;
use crate::control::Board;
use crate::model::{Epoch, Lsn, NODES_MAX, NodeId, Snapshot, Unreadable};
use crate::observe::trace::Traces;
use crate::observe::{Meter, Metrics};
use crate::route::{self, Decision, Positions, Request, Scene};
use crate::session::{self, Statements};
use crate::sql::Classifier;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// Topology and positions.
    pub board: Arc<Board>,
    /// Catalog facts.
    pub catalogs: Arc<CatalogHub>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What clients' passwords are checked against.
    pub verifiers: Arc<Verifiers>,
    /// Clients signed in now, over all workers.
    pub clients: AtomicU32,
    /// Connections now, those on their way in among them.
    pub connections: AtomicU32,
    /// How to tell each worker something.
    pub workers: Vec<mpsc::Sender<Command>>,
    /// How to reach the nodes; replaced by a reload.
    pub links: Arc<Links>,
    /// Routing settings; replaced by a reload.
    pub route: arc_swap::ArcSwap<route::Settings>,
    /// Data-path settings; replaced by a reload.
    pub settings: arc_swap::ArcSwap<Settings>,
    /// Databases that are paused or disabled.
    pub gates: Gates,
    /// Who serves the console, once there is somebody.
    pub console: OnceLock<Arc<dyn Console>>,
}

/// What a worker knows of one database.
#[derive(Debug)]
pub struct Database {
    /// Facts for the classifier.
    pub facts: Arc<Facts>,
    /// Prepared statements that sessions share.
    pub statements: RefCell<Statements>,
    /// What its sessions did.
    pub counts: Counts,
    /// Whether its statements wait.
    pub gate: Gate,
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Counts.
    pub meter: Meter,
    /// Judges statements.
    pub classifier: RefCell<Classifier>,
    /// Where a session reads into, for the length of one poll.
    pub scratch: RefCell<Vec<u8>>,
    /// Where a session puts together what it writes, for the length of one poll.
    pub out: RefCell<Vec<u8>>,
    /// Statements that wait for a primary, and their bytes.
    pub holds: Cell<(u32, u64)>,
    /// The topology as this worker last saw it, and its number on the board.
    topology: RefCell<(u64, Arc<Snapshot>)>,
    pub(super) databases: RefCell<HashMap<Arc<str>, Rc<Database>>>,
    pools: RefCell<Pools>,
    pub(super) sessions: RefCell<Slab<Rc<Handle>>>,
    /// Sessions so far: connections keep marks of them beyond their end, so no number is used twice.
    sessions_begun: Cell<u64>,
    machine_settings: RefCell<Rc<session::Settings>>,
    /// Statements running per node.
    load: RefCell<Vec<u32>>,
    dice: RefCell<fastrand::Rng>,
    draining: Cell<bool>,
    /// The time of the last tick: what the idle limits are measured with.
    coarse: Cell<Instant>,
    fenced: Cell<(Epoch, Option<NodeId>)>,
    /// Statements that take as long are logged.
    pub(super) slow: Cell<Option<Duration>>,
    /// Who is told of statements.
    pub(super) traces: Option<Traces>,
    /// Replicas that did not answer when the topology was last looked at.
    silent: RefCell<Vec<bool>>,
    /// Sessions have read on replicas since the last tick.
    replica_reads: Cell<bool>,
    /// How its thread shares its processor.
    pub(super) pace: Pace,
}

/// Pools by database and role.
type Pools = HashMap<(Arc<str>, Arc<str>), Rc<UserPool>>;

/// Bytes of a worker's scratch buffer: what one read takes at most.
pub const SCRATCH_LEN: usize = 64 * 1024;

impl Worker {
    /// A worker without clients.
    pub fn new(index: usize, shared: Arc<Shared>, sql: &crate::sql::Settings) -> Rc<Self> {
        let machine_settings = RefCell::new(Rc::new(shared.settings.load().machine()));
        let published = shared.board.published();
        let snapshot = shared.board.snapshot();
        let fenced = Cell::new((snapshot.epoch, snapshot.primary));
        let topology = RefCell::new((published, snapshot.clone()));
        drop(snapshot);
        Rc::new(Self {
            index,
            load: RefCell::new(vec![0; NODES_MAX]),
            silent: RefCell::new(vec![false; NODES_MAX]),
            classifier: RefCell::new(Classifier::new(sql)),
            scratch: RefCell::new(vec![0; SCRATCH_LEN]),
            out: RefCell::new(Vec::with_capacity(SCRATCH_LEN)),
            holds: Cell::new((0, 0)),
            topology,
            databases: RefCell::default(),
            pools: RefCell::default(),
            sessions: RefCell::default(),
            sessions_begun: Cell::new(0),
            machine_settings,
            dice: RefCell::new(fastrand::Rng::new()),
            draining: Cell::new(false),
            coarse: Cell::new(clock::now()),
            fenced,
            slow: Cell::new(super::timing::slow_statements(&shared)),
            traces: shared.metrics.traces(),
            replica_reads: Cell::new(false),
            pace: Pace::new(),
            meter: shared.metrics.meter(index),
            shared,
        })
    }

    /// The board.
    pub fn board(&self) -> &Board {
        &self.shared.board
    }

    /// The topology now, for what happens with every statement: looking costs one load where nothing has changed, and
    /// counts no references.
    #[inline]
    pub fn topology(&self) -> Ref<'_, Arc<Snapshot>> {
        let published = self.board().published();
        if self.topology.borrow().0 != published
            && let Ok(mut kept) = self.topology.try_borrow_mut()
        {
            *kept = (published, self.board().snapshot().clone());
        }
        Ref::map(self.topology.borrow(), |(_, snapshot)| snapshot)
    }

    /// The time of the last tick.
    #[inline]
    pub fn coarse_now(&self) -> Instant {
        self.coarse.get()
    }

    /// From 0 to 1.
    pub(super) fn chance(&self) -> f64 {
        self.dice.borrow_mut().f64()
    }

    /// Settings for new sessions.
    pub fn machine_settings(&self) -> Rc<session::Settings> {
        Rc::clone(&self.machine_settings.borrow())
    }

    /// Takes changed settings in.
    pub fn reload(&self) {
        *self.machine_settings.borrow_mut() = Rc::new(self.shared.settings.load().machine());
        self.slow.set(super::timing::slow_statements(&self.shared));
        let (part, links) = (self.pool_settings(), self.shared.links.load());
        for pool in self.pools.borrow().values() {
            pool.set_settings(part.clone(), Arc::clone(&links));
        }
    }

    /// This worker's part of the pool limits.
    fn pool_settings(&self) -> PoolSettings {
        let settings = self.shared.settings.load();
        let workers = settings.workers.max(1);
        let pool = &settings.pool;
        PoolSettings {
            size_max: pool.size_max.div_ceil(workers).max(1),
            idle_min: pool.idle_min.div_ceil(workers),
            waiters_max: pool.waiters_max.div_ceil(workers).max(1),
            ..pool.clone()
        }
    }

    /// What is known of a database.
    pub fn database(&self, name: &Arc<str>) -> Rc<Database> {
        let mut databases = self.databases.borrow_mut();
        if let Some(database) = databases.get(name) {
            return Rc::clone(database);
        }
        let database = Rc::new(Database {
            facts: self.shared.catalogs.facts(name),
            statements: RefCell::default(),
            counts: Counts::default(),
            gate: Gate::new(self.shared.gates.is_paused(name)),
        });
        databases.insert(Arc::clone(name), Rc::clone(&database));
        database
    }

    /// The pool of a database and role; `credential` is the newest way to sign in as the role.
    pub fn pool(&self, database: &Arc<str>, user: &Arc<str>, credential: Credential) -> Rc<UserPool> {
        let key = (Arc::clone(database), Arc::clone(user));
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(&key) {
            *pool.credential.borrow_mut() = credential;
            return Rc::clone(pool);
        }
        let pool = UserPool::new(
            key.clone(),
            credential,
            (self.shared.links.load(), self.meter.clone()),
            self.pool_settings(),
        );
        pools.insert(key, Rc::clone(&pool));
        pool
    }

    /// Whether a server connection of this client, opened then, is closed when it comes back.
    pub fn is_outdated(&self, who: &super::handle::Who, opened: Instant) -> bool {
        let key = (Arc::clone(&who.database), Arc::clone(&who.user));
        self.pools.borrow().get(&key).is_some_and(|pool| pool.outdated(opened))
    }

    /// Every pool, for figures.
    pub fn pools(&self) -> Vec<Rc<UserPool>> {
        self.pools.borrow().values().map(Rc::clone).collect()
    }

    /// Sessions now.
    pub fn session_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// Enters a session; the key is its place, which its process id tells.
    pub fn enter(&self, make: impl FnOnce(usize) -> Handle) -> (usize, Rc<Handle>) {
        let mut sessions = self.sessions.borrow_mut();
        let entry = sessions.vacant_entry();
        let key = entry.key();
        let handle = Rc::new(make(key));
        entry.insert(Rc::clone(&handle));
        if self.draining.get() {
            handle.kick(Kick::Drain);
        }
        (key, handle)
    }

    /// A number for a session that no other ever has; never 0.
    pub fn number_session(&self) -> u64 {
        self.sessions_begun.replace(self.sessions_begun.get() + 1) + 1
    }

    /// A session has ended.
    pub fn leave(&self, key: usize) {
        self.sessions.borrow_mut().try_remove(key);
    }

    /// The session that was given this process id.
    pub fn session(&self, pid: i32) -> Option<Rc<Handle>> {
        let (worker, key) = place_of(pid)?;
        if worker != self.index {
            return None;
        }
        self.sessions.borrow().get(key).filter(|handle| handle.pid == pid).map(Rc::clone)
    }

    /// Asks the router. `load` counts what this worker has running.
    pub fn decide(&self, request: &Request, snapshot: &Snapshot, settings: &route::Settings) -> Decision {
        let board = self.board();
        let replayed: SmallVec<[Lsn; 8]> =
            snapshot.nodes.iter().map(|node| board.replayed(node.id)).collect();
        let positions = Positions { sample: board.sample(), replayed: &replayed, missed: board.missed() };
        let load = self.load.borrow();
        let scene = Scene { snapshot, positions, load: &load, settings };
        route::decide(request, &scene, &mut *self.dice.borrow_mut())
    }

    /// A statement begins (+1) or ends (-1) on a node.
    #[inline]
    pub fn add_load(&self, node: NodeId, by: i32) {
        if let Some(load) = self.load.borrow_mut().get_mut(node.index()) {
            *load = load.saturating_add_signed(by);
        }
    }

    /// Follows the topology: when the primary changes, nothing more counts that connections to the old one say, and
    /// connections to the new one are opened for those who wait.
    pub fn follow_topology(self: &Rc<Self>) {
        let snapshot = self.board().snapshot();
        self.leave_silent_replicas(&snapshot);
        let (epoch, primary) = self.fenced.get();
        if snapshot.epoch == epoch {
            if primary.is_none() {
                self.fenced.set((epoch, snapshot.primary));
            }
            return;
        }
        self.fenced.set((snapshot.epoch, snapshot.primary));
        if let Some(old) = primary {
            self.fence(old, snapshot.epoch);
        }
        let Some(new) = snapshot.primary.filter(|new| Some(*new) != primary) else { return };
        for pool in self.pools() {
            let epoch = snapshot.epoch;
            tokio::task::spawn_local(async move { pool.meet_line(new, epoch).await });
        }
    }

    /// A frozen replica keeps its connections open and says nothing: what can run elsewhere need not wait for it.
    fn leave_silent_replicas(&self, snapshot: &Snapshot) {
        let mut silent = self.silent.borrow_mut();
        for (node, was) in snapshot.nodes.iter().zip(silent.iter_mut()) {
            let down = snapshot.primary != Some(node.id) && node.unreadable == Some(Unreadable::Down);
            if down && !std::mem::replace(was, down) {
                for pool in self.pools.borrow().values() {
                    pool.close_idle(node.id);
                }
                self.kick_on(node.id, Kick::NodeDown);
            }
            *was = down;
        }
    }

    /// Tells the sessions that hold a connection to this node.
    fn kick_on(&self, node: NodeId, kick: Kick) {
        for (_, handle) in self.sessions.borrow().iter() {
            if handle.held().is_some_and(|held| held.node == node) {
                handle.kick(kick);
            }
        }
    }

    fn fence(&self, node: NodeId, epoch: Epoch) {
        for pool in self.pools.borrow().values() {
            pool.close_idle(node);
        }
        for (_, handle) in self.sessions.borrow().iter() {
            if handle.held().is_some_and(|held| held.node == node && held.epoch < epoch) {
                handle.kick(Kick::Fenced);
            }
        }
    }

    /// Whether nothing counts any more that comes from this connection.
    pub fn is_fenced(&self, conn: &ServerConn) -> bool {
        let snapshot = self.topology();
        conn.epoch < snapshot.epoch && snapshot.primary != Some(conn.session.node) && {
            // Replicas of an older epoch stay what they are; the old primary does not.
            snapshot.node(conn.session.node).is_none_or(|node| node.unreadable.is_some())
        }
    }

    /// A session takes a connection. `false`: statements for the primary began to be held in the meantime, so it has to
    /// be given back (`left`) and waited for anew.
    pub fn entered(&self, conn: &mut ServerConn) -> bool {
        let node = conn.session.node;
        self.meter.server_leased(node);
        if self.topology().primary != Some(node) {
            return true;
        }
        conn.drained_for = true;
        self.board().enter_primary();
        self.board().snapshot().writable_primary() == Some(node)
    }

    /// A session gives a connection up.
    pub fn left(&self, conn: &mut ServerConn) {
        self.meter.server_returned(conn.session.node);
        if std::mem::take(&mut conn.drained_for) {
            self.board().leave_primary();
        }
    }

    /// Breaks what runs on a node: the drain before a switchover took too long.
    pub fn break_sessions_on(&self, node: NodeId) {
        self.kick_on(node, Kick::Fenced);
    }

    /// A session read on a replica, which is its home from now on.
    #[inline]
    pub fn note_replica_read(&self) {
        self.replica_reads.set(true);
    }

    /// Called every 100 ms: time limits, coarse clock.
    pub fn tick(&self, now: Instant) {
        self.coarse.set(now);
        self.pace.tick(now);
        self.meter.verdict_cache(self.classifier.borrow().stats());
        if self.replica_reads.take() {
            // One sample per tick frees the sessions from their homes, so that the balancer can move them.
            drop(self.board().want_positions());
        }
        let topology = self.topology();
        for (node, _) in topology.nodes.iter().zip(self.silent.borrow().iter()).filter(|(_, silent)| **silent)
        {
            self.kick_on(node.id, Kick::NodeDown);
        }
        drop(topology);
        let settings = self.shared.settings.load();
        let limits = &settings.limits;
        for (_, handle) in self.sessions.borrow().iter() {
            if let Some(kick) = handle.overdue(limits, now) {
                handle.kick(kick);
            }
        }
    }

    /// Wakes the sessions that keep an answer back: there is news of a node that is suspected.
    pub fn wake_kept_back(&self) {
        let sessions = self.sessions.borrow();
        sessions
            .iter()
            .filter(|(_, handle)| handle.keeps_back_until().is_some())
            .for_each(|(_, handle)| handle.wake());
    }

    /// Called every few seconds: closes what was idle for too long, warms what is too few.
    pub fn reap(self: &Rc<Self>, now: Instant) {
        let snapshot = self.board().snapshot();
        for pool in self.pools() {
            pool.reap(now);
            for node in &snapshot.nodes {
                if node.unreadable.is_none() && snapshot.service == crate::model::Service::Open {
                    let (pool, id, epoch) = (Rc::clone(&pool), node.id, snapshot.epoch);
                    tokio::task::spawn_local(async move { pool.warm(id, epoch).await });
                }
            }
        }
    }

    /// Takes no new sessions' transactions: every session leaves when it has none open.
    pub fn drain(&self) {
        self.draining.set(true);
        self.kick_all(Kick::Drain);
    }

    /// Tells every session.
    pub fn kick_all(&self, kick: Kick) {
        for (_, handle) in self.sessions.borrow().iter() {
            handle.kick(kick);
        }
    }
}
