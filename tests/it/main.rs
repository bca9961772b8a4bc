//! Integration tests: real PostgreSQL servers, real sockets, the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test fails by panicking, says what it does on stderr and reads the clock itself; the harness may \
              offer more than is used yet"
)]

mod admin_tls;
mod agent;
mod chaos;
mod consistency;
mod console;
mod containers;
mod control;
mod dashboard;
mod demo;
mod disk_full;
mod documents;
mod harness;
mod journal_full;
mod killed;
mod library;
mod local_servers;
mod orphans;
mod program;
mod proxy_abuse;
mod proxy_access;
mod proxy_after;
mod proxy_consistency;
mod proxy_doubt;
mod proxy_evil;
mod proxy_failures;
mod proxy_isolation;
mod proxy_limits;
mod proxy_lookups;
mod proxy_optimistic;
mod proxy_protocol;
mod proxy_replay;
mod proxy_replication;
mod proxy_routing;
mod proxy_service;
mod proxy_session;
mod proxy_tied;
mod proxy_tls;
mod proxy_transparency;
mod readme;
mod reload;
mod reminded;
mod switchover;
mod traces;
mod two_deciders;
mod upgrade;
