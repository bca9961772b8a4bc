//! The document as written -> the settings as meant.
//!
//! One function per table of the file. Every number, duration and size has a range, so that no limit can be switched
//! off by a typing mistake; defaults come from the rooms' own `Default`.

mod agents;
mod control;
mod limits;
mod nodes;
mod planes;
mod rules;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::Checker;
use super::url::split_port;
use super::written::Document;
use super::{Origin, Settings};
use crate::proxy::{self, settings::PoolMode};

/// Most threads.
const WORKERS_MAX: u32 = 256;

/// Resolves everything. Where something is wrong, its problem is noted and the rest is resolved all the same, so that all
/// problems come together; the caller drops what came out then.
pub(super) fn settings(document: &Document, base: &Path, check: &mut Checker) -> Settings {
    let listen = listen(document, check);
    let nodes = nodes::nodes(document, base, check);
    let service = nodes::service(document, base, check);
    let auth = limits::auth(document, base, check);
    let client_tls = limits::tls(document, base, check);
    let hba = Arc::new(rules::hba(document, base, check));
    let balancers = rules::balancers(document, check);
    let pool = limits::pool(document, check);
    let limits = limits::limits(document, check);
    let workers = check.number("workers", document.workers, 1, 1..=WORKERS_MAX);
    let words = [("transaction", PoolMode::Transaction), ("session", PoolMode::Session)];
    let pool_mode = check.word("pool_mode", document.pool_mode.as_deref(), &words);
    let route = planes::route(document, check);
    let sql = planes::sql(document, check);
    let admin = planes::admin(document, base, check);
    let observe = planes::observe(document, check);
    let console = planes::console(document, &service.user, check);
    let slow_statement = planes::slow_statement(document, check);
    let read_functions = planes::read_functions(document, check);
    let proxy = proxy::Settings {
        listen,
        unix_socket_dir: document.unix_socket_dir.as_deref().map(|dir| under(base, dir)),
        workers,
        pool_mode,
        resolve_commits: document.failover.resolve_commits.unwrap_or(true),
        replay: limits::replay(document, check),
        nodes,
        service,
        auth,
        hba,
        balancers,
        client_tls,
        pool,
        limits,
        slow_statement,
        read_functions,
    };
    let control = control::control(document, base, &proxy, check);
    let origin = Origin::CommandLine;
    Settings { origin, proxy, route, sql, control, admin, console, observe, warnings: Vec::new() }
}

fn listen(document: &Document, check: &mut Checker) -> Vec<SocketAddr> {
    let Some(written) = &document.listen else {
        return vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 6432))];
    };
    if written.as_slice().is_empty() {
        check.problem("listen", "an empty list", "at least one address", Some("\"127.0.0.1:6432\""));
    }
    written.as_slice().iter().filter_map(|text| socket_address("listen", text, check)).collect()
}

/// An address to listen on: `127.0.0.1:6432`, `[::1]:6432`, `localhost:6432`, `*:6432`.
fn socket_address(key: &str, text: &str, check: &mut Checker) -> Option<SocketAddr> {
    let address = split_port(text).ok().and_then(|(host, port)| {
        let ip = match host {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            other => other.parse().ok()?,
        };
        // Port 0 lets the system choose one, which tests use.
        Some(SocketAddr::new(ip, port.parse().ok()?))
    });
    if address.is_none() {
        let hint = "an IP address of this machine and a port; \"*:6432\" listens everywhere";
        check.problem(key, format!("found {text:?}"), "address:port, like \"127.0.0.1:6432\"", Some(hint));
    }
    address
}

/// A path from the file, counted from the file's directory.
fn under(base: &Path, path: &Path) -> PathBuf {
    base.join(path)
}
