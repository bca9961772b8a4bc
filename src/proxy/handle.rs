//! The worker's side of a session: what others may know of it and tell it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime};

use super::settings::Limits;
use crate::model::{Epoch, NodeId};
use crate::session::Pins;

/// Bits of a process id that tell the place in the worker's registry.
const PLACE_BITS: u32 = 24;

/// The process id that a session of this worker at this place gives its client.
pub fn pid_of(worker: usize, place: usize) -> i32 {
    i32::try_from(worker << PLACE_BITS | (place + 1)).unwrap_or(i32::MAX)
}

/// The worker and the place that a process id tells.
pub fn place_of(pid: i32) -> Option<(usize, usize)> {
    let bits = usize::try_from(pid).ok()?;
    Some((bits >> PLACE_BITS, (bits & ((1 << PLACE_BITS) - 1)).checked_sub(1)?))
}

/// Something that a session is told from outside. A session looks before it hands anything on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// Its server connection is fenced: nothing more that comes from it counts.
    Fenced,
    /// The node that it runs on does not answer: a read that can move, moves.
    NodeDown,
    /// The proxy is stopping: leave when no transaction is open.
    Drain,
    /// Leave at once.
    Killed,
    /// Idle for too long.
    Idle,
    /// Idle inside a transaction for too long.
    IdleInTransaction,
    /// The client asked for its statement to be cancelled.
    Cancel,
    /// It has not read its results for too long.
    SlowReader,
}

impl Kick {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What a session is doing, for time limits and for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// Waiting for its client, outside of a transaction.
    #[default]
    Idle,
    /// Waiting for its client, inside a transaction.
    IdleInTransaction,
    /// Waiting for a server connection or a primary.
    Waiting,
    /// A statement is running.
    Active,
}

/// Who a session belongs to, for people and for commands that name it.
#[derive(Clone, Debug)]
pub struct Who {
    /// The role.
    pub user: Arc<str>,
    /// The database.
    pub database: Arc<str>,
    /// What the client calls itself.
    pub application_name: Box<str>,
    /// Where it comes from; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The address that it connected to.
    pub local: Option<SocketAddr>,
    /// Whether it uses TLS.
    pub tls: bool,
    /// The value of `replication`, where it speaks that protocol.
    pub replication: Option<Box<str>>,
    /// It is a client of the console.
    pub is_console: bool,
    /// When it signed in.
    pub since: SystemTime,
}

/// The connection that a session holds, as far as a cancel request or a fence needs it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The node.
    pub node: NodeId,
    /// The epoch in which the connection was lent.
    pub epoch: Epoch,
    /// Process id and secret on the server.
    pub key: (i32, Rc<[u8]>),
    /// Counts the cancel requests under way.
    pub cancels: Rc<Cell<u32>>,
    /// When it was opened.
    pub opened: Instant,
    /// Whether it is encrypted.
    pub tls: bool,
}

/// One session in the worker's registry.
#[derive(Debug)]
pub struct Handle {
    /// Process id that the client was given.
    pub pid: i32,
    /// Its secret.
    pub secret: Box<[u8]>,
    /// Whose it is.
    pub who: Who,
    kicks: Cell<u8>,
    waker: RefCell<Option<Waker>>,
    doing: Cell<(Doing, Instant)>,
    held: RefCell<Option<Held>>,
    committing: Cell<bool>,
    pins: Cell<Pins>,
    /// Results wait for the client, whose socket took nothing since then.
    unread_since: Cell<Option<Instant>>,
    /// What the server has said is kept back until this visit of the monitor's.
    keeps_back_until: Cell<Option<u64>>,
}

impl Handle {
    /// A session that begins now.
    pub fn new((pid, secret): (i32, Box<[u8]>), who: Who, now: Instant) -> Self {
        Self {
            pid,
            secret,
            who,
            kicks: Cell::new(0),
            waker: RefCell::new(None),
            doing: Cell::new((Doing::Idle, now)),
            held: RefCell::new(None),
            committing: Cell::new(false),
            pins: Cell::default(),
            unread_since: Cell::new(None),
            keeps_back_until: Cell::new(None),
        }
    }

    /// What it must be told because a limit is reached.
    pub fn overdue(&self, limits: &Limits, now: Instant) -> Option<Kick> {
        let over = |limit: Duration, since: Instant| {
            !limit.is_zero() && now.saturating_duration_since(since) >= limit
        };
        if self.unread_since.get().is_some_and(|since| over(limits.write_timeout, since)) {
            return Some(Kick::SlowReader);
        }
        match self.doing.get() {
            (Doing::Idle, since) if over(limits.idle_timeout, since) => Some(Kick::Idle),
            (Doing::IdleInTransaction, since) if over(limits.idle_in_transaction_timeout, since) => {
                Some(Kick::IdleInTransaction)
            }
            _ => None,
        }
    }

    /// Notes how a write to the client went: whether its socket took anything, and whether nothing waits any more.
    #[inline]
    pub fn note_written(&self, took: bool, whole: bool, now: Instant) {
        if whole {
            self.unread_since.set(None);
        } else if took || self.unread_since.get().is_none() {
            self.unread_since.set(Some(now));
        }
    }

    /// Tells the session something and wakes it.
    pub fn kick(&self, kick: Kick) {
        self.kicks.set(self.kicks.get() | kick.bit());
        self.wake();
    }

    /// Has the session look again at what it waits for.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether anything was told.
    #[inline]
    pub fn is_kicked(&self) -> bool {
        self.kicks.get() != 0
    }

    /// Whether this was told; stays.
    pub fn has(&self, kick: Kick) -> bool {
        self.kicks.get() & kick.bit() != 0
    }

    /// Whether this was told; clears it.
    pub fn take(&self, kick: Kick) -> bool {
        let had = self.has(kick);
        self.kicks.set(self.kicks.get() & !kick.bit());
        had
    }

    /// Remembers how to wake the session; costs a comparison in the usual case.
    #[inline]
    pub fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|have| have.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Notes what the session is doing from now on.
    #[inline]
    pub fn set_doing(&self, doing: Doing, now: Instant) {
        self.doing.set((doing, now));
    }

    /// What it is doing, and since when.
    pub fn doing(&self) -> (Doing, Instant) {
        self.doing.get()
    }

    /// Notes the connection that it holds.
    pub fn set_held(&self, held: Option<Held>) {
        *self.held.borrow_mut() = held;
    }

    /// The connection that it holds.
    pub fn held(&self) -> Option<Held> {
        self.held.borrow().clone()
    }

    /// Notes that the running statement commits: a cancel request must not meet the wait for synchronous replicas,
    /// where it would turn a commit that is not replicated into a success (manual, 27.2.8).
    #[inline]
    pub fn set_committing(&self, committing: bool) {
        self.committing.set(committing);
    }

    /// Whether the running statement is a COMMIT.
    pub fn is_committing(&self) -> bool {
        self.committing.get()
    }

    /// Notes until which visit of the monitor's the server's words are kept back, if they are.
    #[inline]
    pub fn set_keeps_back_until(&self, visit: Option<u64>) {
        self.keeps_back_until.set(visit);
    }

    /// Until which visit of the monitor's the server's words are kept back, if they are.
    #[inline]
    pub fn keeps_back_until(&self) -> Option<u64> {
        self.keeps_back_until.get()
    }

    /// Notes why the session is tied to its connection.
    #[inline]
    pub fn set_pins(&self, pins: Pins) {
        self.pins.set(pins);
    }

    /// Why the session is tied to its connection.
    pub fn pins(&self) -> Pins {
        self.pins.get()
    }
}
