//! Server connections of one (database, user) on one worker, per node: idle ones, a limit, a fair queue.
//!
//! Everything runs on the worker's thread, so a connection is taken and given back without a lock. A connection that is
//! given back goes straight to whoever has waited longest.

mod ahead;
mod look;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::affinity::choose;
use super::greeting::Greeting;
use super::line::Line;
use super::links::NodeLink;
use super::server::{self, ConnectError, Credential, SignIn};
use super::settings::PoolSettings;
use super::stream::{Stream, say_goodbye};
use crate::clock;
use crate::model::{Epoch, NodeId};
use crate::observe::{Meter, Wait, WaitEnd};
use crate::session::ServerSession;

/// The settings that a server connection is started with: those of the clients that may use it.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Name and value, sorted by name.
    pub params: Vec<(String, String)>,
}

impl Profile {
    /// Whether a setting with this in its name may be among them, given by itself or in `options`.
    pub fn mentions(&self, word: &str) -> bool {
        let has = |text: &str| text.to_ascii_lowercase().contains(word);
        self.params.iter().any(|(name, value)| has(name) || (name == "options" && has(value)))
    }
}

/// A server connection, signed in and, while in the pool, without a trace of any client.
#[derive(Debug)]
pub struct ServerConn {
    /// The socket.
    pub stream: Stream,
    /// What is known about the session that lives in it.
    pub session: ServerSession,
    /// Process id and secret for cancel requests.
    pub key: (i32, Rc<[u8]>),
    /// The settings that it was started with.
    pub profile: Rc<Profile>,
    /// The epoch in which it was opened.
    pub epoch: Epoch,
    /// Cancel requests under way against it; it is not given to anybody else before they are done.
    pub cancels: Rc<Cell<u32>>,
    /// It is lent, and counted among the connections that a switchover waits for.
    pub drained_for: bool,
    opened: Instant,
    idle_since: Instant,
}

pub use look::{IdleConn, PoolFigures};

/// Why no connection was had.
#[derive(Debug)]
pub enum AcquireError {
    /// None became free in time.
    Timeout(Duration),
    /// As many wait as may.
    TooManyWaiters,
    /// Opening one failed.
    Connect(ConnectError),
}

#[derive(Debug)]
enum Grant {
    Conn(Box<ServerConn>),
    /// The right to open one; it is counted already.
    Slot,
}

#[derive(Debug, Default)]
struct Waiter {
    grant: RefCell<Option<Grant>>,
    waker: RefCell<Option<Waker>>,
    /// It had its turn, and does not stand in the queue any more.
    served: Cell<bool>,
}

impl Waiter {
    fn give(&self, grant: Grant) {
        self.served.set(true);
        *self.grant.borrow_mut() = Some(grant);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

#[derive(Debug, Default)]
struct NodePool {
    #[expect(
        clippy::vec_box,
        reason = "boxed once, when it is opened: a lease moves a pointer and allocates nothing"
    )]
    idle: Vec<Box<ServerConn>>,
    total: u32,
    waiters: VecDeque<Rc<Waiter>>,
}

/// The pool of one (database, user).
#[derive(Debug)]
pub struct UserPool {
    /// The database.
    pub database: Arc<str>,
    /// The role.
    pub user: Arc<str>,
    /// How to sign in as the role; renewed with each client that signs in.
    pub credential: RefCell<Credential>,
    /// Its statements that wait for a primary.
    pub(super) line: Rc<Line>,
    links: RefCell<Arc<Vec<NodeLink>>>,
    meter: Meter,
    settings: RefCell<PoolSettings>,
    nodes: RefCell<Vec<NodePool>>,
    greetings: RefCell<Vec<(Rc<Profile>, Rc<Greeting>)>>,
    /// Connections that were opened before are not used again.
    renewed: Cell<Option<Instant>>,
    /// When idle connections were last looked at: exact enough to measure idleness with, and free.
    now: Cell<Instant>,
}

/// Most profiles whose greeting is remembered.
const GREETINGS_MAX: usize = 64;

impl UserPool {
    /// An empty pool; `settings` are this worker's part of the limits.
    pub fn new(
        (database, user): (Arc<str>, Arc<str>),
        credential: Credential,
        (links, meter): (Arc<Vec<NodeLink>>, Meter),
        settings: PoolSettings,
    ) -> Rc<Self> {
        let nodes = links.iter().map(|_| NodePool::default()).collect();
        Rc::new(Self {
            database,
            user,
            credential: RefCell::new(credential),
            line: Rc::default(),
            links: RefCell::new(links),
            meter,
            settings: RefCell::new(settings),
            nodes: RefCell::new(nodes),
            greetings: RefCell::default(),
            renewed: Cell::new(None),
            now: Cell::new(clock::now()),
        })
    }

    /// Replaces limits and ways to the nodes after a reload. Nodes keep their places; new ones come behind them.
    pub fn set_settings(&self, settings: PoolSettings, links: Arc<Vec<NodeLink>>) {
        *self.settings.borrow_mut() = settings;
        let mut nodes = self.nodes.borrow_mut();
        let places = links.len().max(nodes.len());
        nodes.resize_with(places, NodePool::default);
        *self.links.borrow_mut() = links;
    }

    /// What clients with this profile are told, where a server has said it before.
    pub fn greeting(&self, profile: &Profile) -> Option<(Rc<Profile>, Rc<Greeting>)> {
        let greetings = self.greetings.borrow();
        let (profile, greeting) = greetings.iter().find(|(have, _)| **have == *profile)?;
        Some((Rc::clone(profile), Rc::clone(greeting)))
    }

    fn remember_greeting(&self, profile: &Rc<Profile>, params: &[(String, String)]) {
        let mut greetings = self.greetings.borrow_mut();
        greetings.retain(|(have, _)| have != profile);
        if greetings.len() >= GREETINGS_MAX {
            greetings.remove(0);
        }
        greetings.push((Rc::clone(profile), Rc::new(Greeting::new(params))));
    }

    /// An idle connection to the node, if there is one that was started with these settings. Never waits.
    ///
    /// A session gets the one that it used last where it can; one that another may miss, only where no new one may be.
    #[inline]
    pub fn take_idle(&self, node: NodeId, profile: &Rc<Profile>, session: u64) -> Option<Box<ServerConn>> {
        let mut nodes = self.nodes.borrow_mut();
        let pool = nodes.get_mut(node.index())?;
        if !pool.waiters.is_empty() {
            return None;
        }
        loop {
            let at = choose(&pool.idle, profile, session)?;
            let settings = self.settings.borrow();
            let strange = pool.idle.get(at).is_some_and(|conn| {
                conn.session.last_user != session && (settings.fresh || conn.session.is_missed())
            });
            if strange && session != 0 && pool.total < settings.size_max.max(1) {
                return None;
            }
            let conn = pool.idle.swap_remove(at);
            if conn.stream.is_quiet() {
                return Some(conn);
            }
            // It was closed by the server, or says something that nobody asked for.
            pool.total -= 1;
            self.meter.server_closed(node);
        }
    }

    /// A connection to the node: idle, or opened, or waited for.
    ///
    /// Cancellation-safe: a grant that is not taken is given on.
    ///
    /// # Errors
    /// None in time, too many waiting, or opening failed.
    pub async fn acquire(
        self: &Rc<Self>,
        node: NodeId,
        (profile, session): (&Rc<Profile>, u64),
        epoch: Epoch,
    ) -> Result<Box<ServerConn>, AcquireError> {
        if let Some(conn) = self.take_idle(node, profile, session) {
            return Ok(conn);
        }
        if !self.reserve(node) {
            match self.wait(node).await? {
                Grant::Conn(conn) if conn.profile == *profile => return Ok(conn),
                Grant::Conn(conn) => self.close(conn),
                Grant::Slot => {}
            }
        }
        self.open(node, profile, epoch).await
    }

    /// Makes room for one more connection, if need be in the place of an idle one with other settings.
    fn reserve(&self, node: NodeId) -> bool {
        let mut nodes = self.nodes.borrow_mut();
        let Some(pool) = nodes.get_mut(node.index()) else { return false };
        if !pool.waiters.is_empty() {
            return false;
        }
        if pool.total < self.settings.borrow().size_max.max(1) {
            pool.total += 1;
            return true;
        }
        if pool.idle.is_empty() {
            return false;
        }
        self.close(pool.idle.remove(0));
        true
    }

    async fn wait(self: &Rc<Self>, node: NodeId) -> Result<Grant, AcquireError> {
        let waiter = Rc::new(Waiter::default());
        let wait_max = {
            let settings = self.settings.borrow();
            let mut nodes = self.nodes.borrow_mut();
            let Some(pool) = nodes.get_mut(node.index()) else { return Err(AcquireError::TooManyWaiters) };
            if pool.waiters.len() >= settings.waiters_max as usize {
                self.meter.wait_refused(Wait::Pool);
                return Err(AcquireError::TooManyWaiters);
            }
            pool.waiters.push_back(Rc::clone(&waiter));
            settings.wait_max
        };
        let queued = Queued { pool: Rc::clone(self), node, waiter };
        let granted = std::future::poll_fn(|cx| {
            if let Some(grant) = queued.waiter.grant.borrow_mut().take() {
                Poll::Ready(grant)
            } else {
                *queued.waiter.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        });
        let waiting = self.meter.waiting(Wait::Pool);
        let granted = tokio::time::timeout(wait_max, granted).await;
        waiting.ended(if granted.is_ok() { WaitEnd::Served } else { WaitEnd::TimedOut });
        granted.map_err(|_elapsed| AcquireError::Timeout(wait_max))
    }

    /// Opens a connection for a place that is counted already.
    async fn open(
        self: &Rc<Self>,
        node: NodeId,
        profile: &Rc<Profile>,
        epoch: Epoch,
    ) -> Result<Box<ServerConn>, AcquireError> {
        let mut slot = Slot { pool: Rc::clone(self), node, kept: false };
        let Some(link) = self.links.borrow().get(node.index()).cloned() else {
            return Err(AcquireError::TooManyWaiters);
        };
        let credential = self.credential.borrow().clone();
        let deadline = self.settings.borrow().connect_timeout;
        let who = SignIn {
            user: &self.user,
            database: &self.database,
            startup: &profile.params,
            credential: &credential,
        };
        let started = clock::now();
        let connected = match server::connect(&link.node, &link.tls, &who, deadline).await {
            Ok(connected) => connected,
            Err(error) => {
                self.meter.server_open_failed(node);
                return Err(AcquireError::Connect(error));
            }
        };
        self.meter.server_opened(node, clock::now().duration_since(started));
        slot.kept = true;
        self.remember_greeting(profile, &connected.params);
        let now = clock::now();
        Ok(Box::new(ServerConn {
            stream: connected.stream,
            session: ServerSession::new(node),
            key: (connected.pid, Rc::from(connected.secret.as_slice())),
            profile: Rc::clone(profile),
            epoch,
            cancels: Rc::default(),
            drained_for: false,
            opened: now,
            idle_since: now,
        }))
    }

    /// Takes a connection back that is clean: ready, outside of a transaction, without state of a client.
    pub fn give_back(&self, mut conn: Box<ServerConn>) {
        let node = conn.session.node;
        let mut nodes = self.nodes.borrow_mut();
        let Some(pool) = nodes.get_mut(node.index()) else { return };
        if self.outdated(conn.opened) {
            drop(nodes);
            self.meter.server_closed(node);
            say_goodbye(conn.stream);
            return self.forget(node);
        }
        if let Some(waiter) = pool.waiters.pop_front() {
            waiter.give(Grant::Conn(conn));
            return;
        }
        if pool.total > self.settings.borrow().size_max.max(1) {
            pool.total -= 1;
            self.close(conn);
            return;
        }
        conn.idle_since = self.now.get();
        pool.idle.push(conn);
    }

    /// Whether no client gets a connection of another's, as long as there is room.
    pub fn is_fresh(&self) -> bool {
        self.settings.borrow().fresh
    }

    /// A session has ended: nobody misses what it used.
    pub fn leave(&self, session: u64) {
        let fresh = self.settings.borrow().fresh;
        for pool in self.nodes.borrow_mut().iter_mut() {
            for conn in pool.idle.iter_mut().filter(|conn| conn.session.last_user == session) {
                conn.session.last_user = 0;
            }
            if fresh {
                let old = pool.idle.extract_if(.., |conn| conn.session.last_user == 0);
                let closed = old.map(|conn| self.close(conn)).count();
                pool.total = pool.total.saturating_sub(u32::try_from(closed).unwrap_or(u32::MAX));
            }
        }
    }

    /// Closes a connection politely.
    fn close(&self, conn: Box<ServerConn>) {
        self.meter.server_closed(conn.session.node);
        say_goodbye(conn.stream);
    }

    /// Closes a lent connection that is of no more use: its place goes to whoever waits.
    pub fn discard(&self, conn: Box<ServerConn>) {
        let node = conn.session.node;
        self.meter.server_closed(node);
        drop(conn);
        self.forget(node);
    }

    /// A counted place is free: it goes to whoever waits.
    fn forget(&self, node: NodeId) {
        let mut nodes = self.nodes.borrow_mut();
        let Some(pool) = nodes.get_mut(node.index()) else { return };
        match pool.waiters.pop_front() {
            Some(waiter) => waiter.give(Grant::Slot),
            None => pool.total = pool.total.saturating_sub(1),
        }
    }

    /// Closes the idle connections to a node: it is fenced, or was lost.
    pub fn close_idle(&self, node: NodeId) {
        let mut nodes = self.nodes.borrow_mut();
        let Some(pool) = nodes.get_mut(node.index()) else { return };
        let closed = u32::try_from(pool.idle.len()).unwrap_or(u32::MAX);
        for conn in pool.idle.drain(..) {
            // Without a word: its server is fenced, or gone.
            self.meter.server_closed(conn.session.node);
        }
        pool.total = pool.total.saturating_sub(closed);
    }

    /// Closes what has been idle or alive too long, except for the few that stay warm.
    pub fn reap(&self, now: Instant) {
        self.now.set(now);
        let settings = self.settings.borrow().clone();
        for pool in self.nodes.borrow_mut().iter_mut() {
            let mut spare = pool.idle.len().saturating_sub(settings.idle_min as usize);
            let mut kept = Vec::with_capacity(pool.idle.len());
            for conn in pool.idle.drain(..) {
                let too_idle = spare > 0 && now.duration_since(conn.idle_since) >= settings.idle_timeout;
                let too_old = now.duration_since(conn.opened) >= settings.lifetime;
                if too_idle || too_old || !conn.stream.is_quiet() {
                    spare = spare.saturating_sub(1);
                    pool.total = pool.total.saturating_sub(1);
                    self.close(conn);
                } else {
                    kept.push(conn);
                }
            }
            pool.idle = kept;
        }
    }
}

/// A place in the queue. Dropped with a grant in it, it gives the grant on.
struct Queued {
    pool: Rc<UserPool>,
    node: NodeId,
    waiter: Rc<Waiter>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        // Looking for it costs as much as the queue is long, so only who gives up is looked for.
        if !self.waiter.served.get()
            && let Some(pool) = self.pool.nodes.borrow_mut().get_mut(self.node.index())
        {
            pool.waiters.retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        }
        match self.waiter.grant.borrow_mut().take() {
            Some(Grant::Conn(conn)) => self.pool.give_back(conn),
            Some(Grant::Slot) => self.pool.forget(self.node),
            None => {}
        }
    }
}

/// A counted place in which a connection is being opened.
struct Slot {
    pool: Rc<UserPool>,
    node: NodeId,
    kept: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.kept {
            self.pool.forget(self.node);
        }
    }
}
