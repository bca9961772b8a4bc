//! Which node serves a request, and why: (verdict, session facts, snapshot, dice) -> decision.
//!
//! Pure. The decision is a value that carries its reason; the shell waits, leases and sends.

pub mod decide;
pub mod decision;
pub mod dice;
pub mod settings;

mod balance;

pub use decide::{Scene, decide};
pub use decision::{Decision, Floor, Positions, Request, RouteReason, Transaction};
pub use dice::Dice;
pub use settings::{Override, PrimaryReads, Settings, TransactionRouting};

pub use crate::model::Consistency;

#[cfg(test)]
mod tests;
