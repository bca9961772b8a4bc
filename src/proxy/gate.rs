//! Databases that a person has paused or disabled: what is said once for all workers, and where each session looks.
//!
//! Paused: statements wait, and server connections are closed when they come back. Disabled: nobody new is let in.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::acquire::Refusal;
use super::driver::Driver;
use super::handle::Kick;
use super::worker::Worker;
use crate::clock;
use crate::session::ClientError;

/// Whose sessions are to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Every client's.
    Everybody,
    /// Those in one database.
    Database(Arc<str>),
    /// One, by its process id.
    Session(i32),
}

/// How a database stands; all databases where nothing else is said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Statements wait.
    pub paused: bool,
    /// Nobody new is let in.
    pub disabled: bool,
}

/// What a person has said, of databases by name.
#[derive(Debug, Default)]
pub struct Gates(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    all_paused: bool,
    databases: BTreeMap<Arc<str>, Standing>,
}

/// Databases that something can be said of: a name costs memory until it is taken back.
const DATABASES_MAX: usize = 10_000;

impl Gates {
    /// Pauses one database or all, or ends that. `false`: it was so already.
    pub fn set_paused(&self, database: Option<&str>, paused: bool) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match database {
            None => {
                let was = said.all_paused || said.databases.values().any(|standing| standing.paused);
                let same = if paused { said.all_paused } else { !was };
                said.all_paused = paused;
                if !paused {
                    said.databases.values_mut().for_each(|standing| standing.paused = false);
                    said.databases.retain(|_, standing| *standing != Standing::default());
                }
                !same
            }
            Some(name) => {
                said.change(name, |standing| std::mem::replace(&mut standing.paused, paused) != paused)
            }
        }
    }

    /// Disables a database, or ends that. `false`: it was so already.
    pub fn set_disabled(&self, database: &str, disabled: bool) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.change(database, |standing| std::mem::replace(&mut standing.disabled, disabled) != disabled)
    }

    /// Whether all are paused.
    pub fn all_paused(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all_paused
    }

    /// How a database stands.
    pub fn standing(&self, database: &str) -> Standing {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = said.databases.get(database).copied().unwrap_or_default();
        Standing { paused: own.paused || said.all_paused, ..own }
    }

    /// Whether a database's statements wait.
    pub fn is_paused(&self, database: &str) -> bool {
        self.standing(database).paused
    }

    /// Databases of which something is said.
    pub fn named(&self) -> Vec<Arc<str>> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.databases.keys().cloned().collect()
    }
}

impl Said {
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Standing) -> bool) -> bool {
        if !self.databases.contains_key(name) && self.databases.len() >= DATABASES_MAX {
            return false;
        }
        let standing = self.databases.entry(Arc::from(name)).or_default();
        let changed = change(standing);
        if *standing == Standing::default() {
            self.databases.remove(name);
        }
        changed
    }
}

/// The same for one database on one worker: a look costs one load.
#[derive(Debug)]
pub struct Gate {
    closed: Cell<bool>,
    opened: Notify,
}

impl Gate {
    pub(super) fn new(closed: bool) -> Self {
        Self { closed: Cell::new(closed), opened: Notify::new() }
    }

    /// Whether statements wait.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn set(&self, closed: bool) {
        self.closed.set(closed);
        if !closed {
            self.opened.notify_waiters();
        }
    }
}

impl Worker {
    /// Takes in which databases are paused.
    pub fn follow_gates(&self) {
        for (name, database) in self.databases.borrow().iter() {
            database.gate.set(self.shared.gates.is_paused(name));
        }
        self.close_paused();
    }

    /// Closes what is idle in pools of paused databases; the rest follows when it comes back.
    fn close_paused(&self) {
        for pool in self.pools() {
            if self.shared.gates.is_paused(&pool.database) {
                pool.renew(clock::now());
            }
        }
    }

    /// Server connections of a database (or all) are not to be used again.
    pub fn reconnect(&self, database: Option<&str>) {
        for pool in self.pools() {
            if database.is_none_or(|name| *name == *pool.database) {
                pool.renew(clock::now());
            }
        }
    }

    /// Guests of the console leave: it does not keep the proxy from ending.
    pub fn drain_console(&self) {
        for (_, handle) in self.sessions.borrow().iter().filter(|(_, handle)| handle.who.is_console) {
            handle.kick(Kick::Drain);
        }
    }

    /// Ends sessions.
    pub fn kill(&self, victim: &Victim) {
        for (_, handle) in self.sessions.borrow().iter() {
            let meant = match victim {
                Victim::Everybody => !handle.who.is_console,
                Victim::Database(name) => *handle.who.database == **name && !handle.who.is_console,
                Victim::Session(pid) => handle.pid == *pid,
            };
            if meant {
                handle.kick(Kick::Killed);
            }
        }
    }
}

impl Driver {
    /// Waits while the database is paused, as long as a statement may wait for a server connection.
    pub(super) async fn wait_at_gate(&mut self) -> Result<(), Refusal> {
        if !self.database.gate.is_closed() {
            return Ok(());
        }
        let limit = self.worker.shared.settings.load().pool.wait_max;
        let waiting = self.worker.meter.waiting(crate::observe::Wait::Pool);
        let outcome = self.until_opened(clock::now() + limit).await;
        let end =
            if outcome.is_ok() { crate::observe::WaitEnd::Served } else { crate::observe::WaitEnd::TimedOut };
        waiting.ended(end);
        outcome
    }

    async fn until_opened(&mut self, deadline: Instant) -> Result<(), Refusal> {
        let database = std::rc::Rc::clone(&self.database);
        while database.gate.is_closed() {
            let opened = database.gate.opened.notified();
            tokio::select! {
                () = opened => {}
                () = tokio::time::sleep_until(deadline.into()) => {
                    let waited = self.worker.shared.settings.load().pool.wait_max;
                    return Err(Refusal::Error(ClientError::PoolTimeout { waited }));
                }
                gone = poll_fn(|cx| self.poll_gone(cx)) => return Err(gone),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_one_database_and_of_all() {
        let gates = Gates::default();
        assert!(!gates.set_paused(None, false), "nothing was paused");
        assert!(gates.set_paused(Some("a"), true));
        assert!(!gates.set_paused(Some("a"), true), "it was already");
        assert!(gates.is_paused("a") && !gates.is_paused("b") && !gates.all_paused());
        assert!(gates.set_paused(None, true));
        assert!(gates.is_paused("b"));
        assert!(gates.set_paused(None, false), "RESUME without a name opens all");
        assert!(!gates.is_paused("a") && gates.named().is_empty());
        assert!(gates.set_disabled("b", true));
        assert_eq!(gates.standing("b"), Standing { paused: false, disabled: true });
        assert_eq!(gates.named(), [Arc::from("b")]);
        assert!(gates.set_disabled("b", false) && gates.named().is_empty());
    }
}
