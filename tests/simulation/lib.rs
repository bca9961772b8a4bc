//! The real decision core and the model, from the very files of the `primacy` crate, for the simulation and the model
//! checker. `Cargo.toml` beside says why they are compiled a second time.

#[path = "../../src"]
mod source {
    pub mod clock;
    pub mod failover;
    pub mod model;
}

pub use source::{clock, failover, model};
