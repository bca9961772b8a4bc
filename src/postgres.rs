//! PostgreSQL servers on this machine: find the programs, initdb, base backup, start, stop, rewind.
//!
//! Used by `primacy demo`, by the agent and by the tests. An [`Installation`] is a set of programs and the account
//! that runs them, an [`Instance`] one server in one data directory, a [`Cluster`] a primary with its replicas.
//! No program is started through a shell, every wait has a limit, and every error says which program or server
//! failed and what it wrote last. Data directories are only ever written to when this room made them.

mod account;
mod cluster;
mod comeback;
mod command;
mod conf;
mod control_data;
mod copy;
mod error;
mod find;
mod instance;
mod process;
mod rejoin;
mod renewal;
mod resume;
mod rewind;
mod sql;
mod watchdog;

pub use account::Account;
pub use cluster::{Cluster, ClusterSpec, Durability, Progress, Step};
pub use comeback::{Comeback, Limits};
pub use command::{Installation, Version};
pub use conf::{ConnInfo, conf_value};
pub use control_data::ControlData;
pub use error::{FindError, PostgresError, Rejected};
pub use find::Search;
pub use instance::{InitOptions, Instance, Place, Remote};
pub use process::{Pid, StopMode};
pub use rejoin::{Rejoin, Rejoined};
pub use sql::{Login, connect};
pub use watchdog::Watchdog;
