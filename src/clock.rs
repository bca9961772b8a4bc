//! The one place that reads the clock. Pure rooms take `now` as an argument; shells get it here.

use std::time::{Instant, SystemTime};

/// The monotonic clock, now.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, now: for logs and history only, never for a decision.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
