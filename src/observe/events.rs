//! The last events that an operator needs to know of: bounded, numbered, and written to the log as they happen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::clock;

/// Longest text of an event, in characters.
const TEXT_LEN_MAX: usize = 1_000;

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// primacy serves.
    Started,
    /// primacy stops.
    Stopping,
    /// The configuration was read again.
    Reloaded,
    /// A node answers again.
    NodeUp,
    /// A node does not answer.
    NodeDown,
    /// A node has another role, or serves reads again or no longer.
    NodeChanged,
    /// Statements for the primary wait.
    Held,
    /// A change of primary goes on.
    Step,
    /// There is a new primary.
    PrimaryChanged,
    /// A change of primary was given up.
    Abandoned,
    /// A node is brought back, or was.
    Rejoin,
    /// Something is wrong that a person must look at.
    Alarm,
    /// A person asked for something.
    Command,
    /// A session is tied to its connection.
    Pinned,
    /// A client was not let in.
    Refused,
    /// Another line of the log.
    Notice,
    /// Another line of the log that says that something is wrong.
    Warning,
}

impl EventKind {
    /// The word for logs and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Reloaded => "reloaded",
            Self::NodeUp => "node-up",
            Self::NodeDown => "node-down",
            Self::NodeChanged => "node-changed",
            Self::Held => "held",
            Self::Step => "step",
            Self::PrimaryChanged => "primary-changed",
            Self::Abandoned => "abandoned",
            Self::Rejoin => "rejoin",
            Self::Alarm => "alarm",
            Self::Command => "command",
            Self::Pinned => "pinned",
            Self::Refused => "refused",
            Self::Notice => "notice",
            Self::Warning => "warning",
        }
    }

    /// Whether the log shows it as a warning.
    fn is_warning(self) -> bool {
        matches!(
            self,
            Self::NodeDown | Self::Held | Self::Abandoned | Self::Alarm | Self::Refused | Self::Warning
        )
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counted from one.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// What kind.
    pub kind: EventKind,
    /// The node that it is about, if one.
    pub node: Option<Arc<str>>,
    /// What happened. Never a secret.
    pub text: String,
}

/// The ring. `Arc<Events>` is handed to everybody at birth.
#[derive(Debug)]
pub struct Events {
    capacity: usize,
    ring: Mutex<VecDeque<Event>>,
    newest: watch::Sender<u64>,
}

impl Events {
    /// A ring that remembers so many.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity: capacity.max(1), ring: Mutex::default(), newest: watch::Sender::new(0) })
    }

    /// Remembers an event and writes it to the log.
    pub fn record(&self, kind: EventKind, node: Option<&str>, text: &str) {
        self.keep(kind, node, text);
        if kind.is_warning() {
            tracing::warn!(event = kind.as_str(), node, "{text}");
        } else {
            tracing::info!(event = kind.as_str(), node, "{text}");
        }
    }

    /// Remembers an event that the log has already.
    pub(super) fn keep(&self, kind: EventKind, node: Option<&str>, text: &str) {
        let text = text.chars().take(TEXT_LEN_MAX).collect();
        let at = clock::wall();
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *self.newest.borrow() + 1;
        if ring.len() == self.capacity {
            ring.pop_front();
        }
        ring.push_back(Event { number, at, kind, node: node.map(Arc::from), text });
        // Inside the lock: numbers are given in the order of the ring.
        self.newest.send_replace(number);
    }

    /// The remembered events after number `after`, oldest first.
    pub fn after(&self, after: u64) -> Vec<Event> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().filter(|event| event.number > after).cloned().collect()
    }

    /// Wakes with every event; holds the newest number. Cancellation-safe.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_and_numbers_go_on() {
        let events = Events::new(3);
        for n in 1..=5 {
            events.record(EventKind::NodeUp, Some("n1"), &format!("event {n}"));
        }
        let kept: Vec<(u64, String)> = events.after(0).into_iter().map(|e| (e.number, e.text)).collect();
        assert_eq!(kept, [(3, "event 3".into()), (4, "event 4".into()), (5, "event 5".into())]);
        assert_eq!(events.after(4).len(), 1);
        assert_eq!(*events.changes().borrow(), 5);
    }

    #[test]
    fn an_events_text_is_bounded() {
        let events = Events::new(1);
        events.record(EventKind::Alarm, None, &"x".repeat(100_000));
        assert_eq!(events.after(0)[0].text.len(), TEXT_LEN_MAX);
    }
}
