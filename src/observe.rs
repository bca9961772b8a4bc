//! What operators see: the log, metric families, a bounded ring of events.
//!
//! Handed over at birth, never global. On the data path a count is one relaxed atomic addition to a place that was
//! looked up beforehand.

pub mod events;
mod expose;
pub mod label;
pub mod log;
mod meter;
mod metrics;
mod remember;
pub mod settings;
mod tally;
pub mod trace;

pub use events::{Event, EventKind, Events};
pub use label::{ChangeOfPrimary, ErrorClass, Label, Origin, Retry, SignInRefusal, WaitEnd};
pub use log::{LogError, LogHandle, is_filter};
pub use meter::{Meter, Wait, Waiting};
pub use metrics::{Metrics, NodeCounts};
pub use settings::{LogFormat, Settings};

#[cfg(test)]
mod tests;
