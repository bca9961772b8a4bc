//! Watching the servers and acting on them: monitor, actuator, journal, operator commands, and the board that
//! publishes what is known.

pub mod board;
pub mod conninfo;
pub mod link;
mod probe;
mod sampler;
pub mod settings;
mod store;
mod task;
mod tls;

pub use board::Board;
pub use settings::Settings;
