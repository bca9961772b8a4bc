//! What operators see: the log, metric families, a bounded ring of events.
//!
//! Handed over at birth, never global. On the data path a count is one relaxed atomic addition to a place that was
//! looked up beforehand.

pub mod log;
pub mod settings;

pub use log::{LogHandle, is_filter};
pub use settings::{LogFormat, Settings};
