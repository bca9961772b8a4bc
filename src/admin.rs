//! The HTTP API: status, operator commands, metrics, health checks and a status page.

pub mod settings;

pub use settings::Settings;
