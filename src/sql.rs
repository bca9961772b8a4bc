//! What a statement is: text in, verdict out.
//!
//! Pure: no sockets, no clock. The verdict says whether a statement is proven to be a read that any replica can
//! serve, what it does to the session it runs in, and why. What is not proven goes to the primary.

pub mod verdict;

pub use verdict::{BeginMode, Hint, Kind, PinCause, Place, Reason, SessionEffect, Verdict};
