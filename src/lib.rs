//! primacy: PostgreSQL primary/replica middleware.
//!
//! Data flows in one line: `proxy` reads bytes, `wire` cuts frames, the `session` machine asks `sql` what a
//! statement is and `route` where it may run, and `proxy` carries its actions out. Control flows beside it:
//! `control` watches the servers, feeds the pure `failover` core and carries out its effects; both meet in the
//! topology snapshot on the board. `proto-notes/architecture.md` has the pictures.

pub mod admin;
pub mod agent;
pub mod app;
pub mod chaos;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod failover;
pub mod model;
pub mod observe;
pub mod postgres;
pub mod proxy;
pub mod route;
pub mod session;
pub mod sql;
pub mod tls;
pub mod wire;
