//! Watching the servers and acting on them: monitor, actuator, journal, operator commands, and the board that
//! publishes what is known.

pub mod board;

pub use board::Board;
