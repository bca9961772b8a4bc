//! How many may come in: connections, and among them clients that have signed in. Counted over all workers.

use std::sync::atomic::Ordering;

use super::worker::Worker;

impl Worker {
    /// Counts one more connection, unless there are so many that have not signed in that one more could only do harm.
    pub fn open_door(&self) -> bool {
        let clients_max = self.shared.settings.load().limits.clients_max;
        let max = clients_max.saturating_add(clients_max / 8).saturating_add(100);
        let take = |now: u32| (now < max).then_some(now + 1);
        self.shared.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// A connection has ended.
    pub fn close_door(&self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes the place of one more client, unless there are as many as may be.
    pub fn admit(&self) -> bool {
        let max = self.shared.settings.load().limits.clients_max;
        let take = |now: u32| (now < max).then_some(now + 1);
        self.shared.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Gives the place back.
    pub fn dismiss(&self) {
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
