//! What the sessions of one database did on one worker. On the worker's own thread: a count is a plain addition.

use std::cell::Cell;
use std::time::Duration;

/// The counts.
#[derive(Debug, Default)]
pub struct Counts {
    xacts: Cell<u64>,
    queries: Cell<u64>,
    assignments: Cell<u64>,
    received: Cell<u64>,
    sent: Cell<u64>,
    xact_us: Cell<u64>,
    query_us: Cell<u64>,
    wait_us: Cell<u64>,
    logins: Cell<u64>,
}

/// The counts at one moment; those of several workers add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Transactions ended.
    pub xacts: u64,
    /// Statements (or pipelines up to Sync) answered.
    pub queries: u64,
    /// Server connections lent.
    pub assignments: u64,
    /// Bytes read from clients.
    pub received: u64,
    /// Bytes written to clients.
    pub sent: u64,
    /// Time in transactions, from their first statement's way to a server to their end.
    pub xact_us: u64,
    /// Time in which servers worked on statements.
    pub query_us: u64,
    /// Time in which statements waited for a server connection, a primary or a replica.
    pub wait_us: u64,
    /// Clients that signed in.
    pub logins: u64,
}

fn add(cell: &Cell<u64>, amount: u64) {
    cell.set(cell.get().wrapping_add(amount));
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Counts {
    /// A client signed in.
    pub fn login(&self) {
        add(&self.logins, 1);
    }

    /// Bytes came from a client.
    #[inline]
    pub fn received(&self, bytes: usize) {
        add(&self.received, bytes as u64);
    }

    /// Bytes went to a client.
    #[inline]
    pub fn sent(&self, bytes: usize) {
        add(&self.sent, bytes as u64);
    }

    /// A server connection was lent.
    #[inline]
    pub fn assigned(&self) {
        add(&self.assignments, 1);
    }

    /// A statement was answered.
    #[inline]
    pub fn query(&self, took: Duration) {
        add(&self.queries, 1);
        add(&self.query_us, us(took));
    }

    /// A transaction ended.
    #[inline]
    pub fn xact(&self, took: Duration) {
        add(&self.xacts, 1);
        add(&self.xact_us, us(took));
    }

    /// A statement has waited.
    pub fn waited(&self, took: Duration) {
        add(&self.wait_us, us(took));
    }

    /// What they are now.
    pub fn now(&self) -> Counted {
        Counted {
            xacts: self.xacts.get(),
            queries: self.queries.get(),
            assignments: self.assignments.get(),
            received: self.received.get(),
            sent: self.sent.get(),
            xact_us: self.xact_us.get(),
            query_us: self.query_us.get(),
            wait_us: self.wait_us.get(),
            logins: self.logins.get(),
        }
    }
}

impl Counted {
    /// Takes another worker's in.
    pub fn add(&mut self, other: &Self) {
        self.xacts += other.xacts;
        self.queries += other.queries;
        self.assignments += other.assignments;
        self.received += other.received;
        self.sent += other.sent;
        self.xact_us += other.xact_us;
        self.query_us += other.query_us;
        self.wait_us += other.wait_us;
        self.logins += other.logins;
    }

    /// What came since an older moment.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        Self {
            xacts: self.xacts.saturating_sub(older.xacts),
            queries: self.queries.saturating_sub(older.queries),
            assignments: self.assignments.saturating_sub(older.assignments),
            received: self.received.saturating_sub(older.received),
            sent: self.sent.saturating_sub(older.sent),
            xact_us: self.xact_us.saturating_sub(older.xact_us),
            query_us: self.query_us.saturating_sub(older.query_us),
            wait_us: self.wait_us.saturating_sub(older.wait_us),
            logins: self.logins.saturating_sub(older.logins),
        }
    }
}
