//! PostgreSQL's protocol 3.x as values: frames, typed views of message bodies, the startup packet, encoding, and
//! sign-in (SCRAM, md5) as steps.
//!
//! Nothing here holds a socket or a clock. Bytes are cut, not copied: a decoded message borrows the frame that it came
//! in. Every length is checked before it is believed. Section numbers are those of the PostgreSQL manual,
//! chapter 55 "Frontend/Backend Protocol".

pub mod backend;
pub mod encode;
mod error;
pub mod frontend;
mod header;
pub mod md5;
pub mod proxy_header;
mod reader;
pub mod scram;
pub mod startup;
mod tag;

pub use backend::{ErrorFields, TxStatus};
pub use error::FrameError;
pub use header::{FRAME_LEN_MAX, HEADER_LEN, Header};
pub use tag::Tag;
