//! One client as a state machine: frames in, what to send where out.
//!
//! Pure: no sockets, no clock. `proxy::driver` feeds it and carries out what it says.

mod asking;
pub mod batch;
mod channels;
pub mod client_error;
mod counters;
mod cutter;
mod dispatch;
mod effects;
mod executes;
mod expected;
pub mod freshness;
mod hiding;
mod local;
mod lost;
mod machine;
pub mod overlay;
mod pins;
mod plan;
mod refusal;
mod relay;
mod replay;
mod roaming;
mod sequences;
mod sql_prepared;
mod statement;
mod stream;
mod temporary;

pub use client_error::{ClientError, CommandFault};
pub use dispatch::Outgoing;
pub use freshness::{Ahead, Freshness, Moment};
pub use local::Facts;
pub use lost::{Ending, Loss, Reached, Remains};
pub use machine::{Judge, Machine, Settings, Step, Tx};
pub use pins::Pins;
pub use plan::Plan;
pub use relay::{Event, Hold, Relayed, Written};
pub use replay::{ReplayLimits, Replayed};
pub use statement::{ServerSession, Statement, Statements};
pub use stream::{Stream, Streamed};
