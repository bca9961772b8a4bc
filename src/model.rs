//! The vocabulary that every room shares: ids, positions, roles, the topology snapshot.
//!
//! Plain values without behaviour of their own; nothing here does I/O or reads a clock.

pub mod address;
pub mod consistency;
pub mod lsn;
pub mod secret;
pub mod snapshot;
pub mod sqlstate;

pub use address::{Address, NodeId};
pub use consistency::Consistency;
pub use lsn::{Epoch, Lsn, ParseLsnError, SystemId, Timeline};
pub use secret::Secret;
pub use snapshot::{NODES_MAX, NodeView, Role, Service, Snapshot, Unreadable};
pub use sqlstate::SqlState;
