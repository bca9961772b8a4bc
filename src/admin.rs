//! The HTTP API: status, operator commands, metrics, health checks and a status page.
//!
//! In: the board, the counts, the events, and the running proxy as an [`Operator`]. Out: JSON, OpenMetrics text, a page.

mod checks;
pub mod door;
mod follow;
mod guard;
pub mod json;
mod limit;
mod operator;
mod page;
pub mod report;
pub mod routes;
mod series;
mod server;
pub mod sessions;
pub mod settings;
mod verbs;
mod views;

pub use operator::{CommandError, Done, Hooks, LiveOperator, Operator};
pub use server::{AdminContext, BindError, bind, serve};
pub use settings::Settings;

#[cfg(test)]
mod tests;
