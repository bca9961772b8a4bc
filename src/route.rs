//! Which node serves a request, and why: (verdict, session facts, snapshot, dice) -> decision.
//!
//! Pure. The decision is a value that carries its reason; the shell waits, leases and sends.

pub mod decision;
pub mod settings;

pub use decision::{Decision, Floor, Positions, Request, RouteReason, Transaction};
pub use settings::{Consistency, PrimaryReads, Settings, TransactionRouting};
