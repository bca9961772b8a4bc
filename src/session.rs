//! (room session)

pub mod client_error;

pub use client_error::{Blame, ClientError};
