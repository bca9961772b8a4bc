//! The classifier with the facts of a real PostgreSQL server: what its functions and relations are, how drivers and
//! tools ask it, its own regression statements, and what a standby does with what is called a read.
//!
//! Every test starts a server of its own on a Unix socket; where there are no server binaries it says so and passes.

#![expect(clippy::print_stdout, reason = "tests say what they counted and what they had to skip")]
#![expect(clippy::disallowed_methods, reason = "the environment says where the corpus is")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod differential;
mod drivers;
mod facts;
mod numbers;
mod regression;
mod server;
