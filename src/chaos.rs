//! Breaks a cluster on purpose while clients use it, and says what they lost.
//!
//! `history` and `check` are pure: what clients were told, and what is wrong with it. `arena` is the cluster under test, a
//! `primacy demo` in a process of its own; `load` are its clients, `faults` what is done to it, `relay` the network
//! between proxy and servers. `report` puts it together.

pub mod arena;
pub mod bare;
pub mod check;
pub mod faults;
pub mod history;
pub mod load;
pub mod relay;
pub mod report;
pub mod run;
mod times;
