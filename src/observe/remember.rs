//! Log lines that an operator needs -> the ring of events: what our own rooms say at `info` and above.
//!
//! So the status page and the API show what the log shows, and nobody has to say a thing twice.

use std::fmt::{self, Write as _};
use std::sync::{Arc, OnceLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::events::{EventKind, Events};

/// Where the ring goes in, once there is one: the log is older than everything else.
pub(super) type Slot = Arc<OnceLock<Arc<Events>>>;

/// Hands lines to the ring.
#[derive(Debug)]
pub(super) struct Remember(pub(super) Slot);

impl<S: Subscriber> Layer<S> for Remember {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let about = event.metadata();
        let ours = about.target().starts_with("primacy") && *about.level() <= Level::INFO;
        let Some(events) = self.0.get().filter(|_| ours) else { return };
        let mut line = Line::default();
        event.record(&mut line);
        // What the ring itself has written to the log is in it already.
        if line.from_ring {
            return;
        }
        let kind = if *about.level() == Level::INFO { EventKind::Notice } else { EventKind::Warning };
        let Line { message, fields, node, .. } = line;
        events.keep(kind, node.as_deref(), &format!("{message}{fields}"));
    }
}

/// A line, taken apart.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
    node: Option<String>,
    from_ring: bool,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "node" if !value.is_empty() => self.node = Some(value.to_owned()),
            "event" => self.from_ring = true,
            _ if value.is_empty() => {}
            name => self.push(name, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl Line {
    fn push(&mut self, name: &str, value: &dyn fmt::Display) {
        let separator = if self.fields.is_empty() { ": " } else { ", " };
        // Writing to a string cannot fail.
        write!(self.fields, "{separator}{name} {value}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn lines_of_ours_are_kept_once_and_others_are_not() {
        let events = Events::new(10);
        let slot = Slot::default();
        let subscriber = tracing_subscriber::registry().with(Remember(slot.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "primacy::control", "too early");
            slot.set(events.clone()).expect("empty");
            tracing::info!(target: "primacy::control", node = %"n1", rule = "R1b", took_ms = 1.5, reason = "", "node is down");
            tracing::warn!(target: "primacy::control", "alarm");
            tracing::debug!(target: "primacy::control", "detail");
            tracing::warn!(target: "somebody_else", "noise");
            events.record(EventKind::Command, None, "pause");
        });
        let kept: Vec<(&str, Option<String>, String)> = events
            .after(0)
            .into_iter()
            .map(|event| (event.kind.as_str(), event.node.map(|node| node.to_string()), event.text))
            .collect();
        assert_eq!(
            kept,
            [
                ("notice", Some("n1".into()), "node is down: rule R1b, took_ms 1.5".into()),
                ("warning", None, "alarm".into()),
                ("command", None, "pause".into()),
            ]
        );
    }
}
