//! `[auth]`, `[pool]`, `[limits]` and `[tls]`: who may come in, and how much of what.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::under;
use crate::config::check::Checker;
use crate::config::written::Document;
use crate::proxy::settings::{Auth, ClientTls, ClientTlsMode, Limits, PoolSettings, ReplayLimits};

/// What is asked for a role's verifier where the configuration does not say. Roles that may not
/// log in are among them: a server says so once the password was right. An expired password is no password.
const AUTH_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END \
                          FROM pg_catalog.pg_authid WHERE rolname = $1";
const AUTH_CACHE: Duration = Duration::from_secs(30);
const AUTH_RECHECK: Duration = Duration::from_secs(1);

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// From `low` milliseconds to `high` seconds.
fn between(low_ms: u64, high_s: u64) -> RangeInclusive<Duration> {
    Duration::from_millis(low_ms)..=Duration::from_secs(high_s)
}

const DAY_S: u64 = 86_400;

pub(super) fn auth(document: &Document, base: &Path, check: &mut Checker) -> Auth {
    let written = &document.auth;
    let users_file = written.users_file.as_deref().map(|file| under(base, file));
    if let Some(file) = &users_file {
        check.readable("auth.users_file", file);
        if written.query.is_none() {
            return Auth::File(file.clone());
        }
    }
    let sql = written.query.as_deref().unwrap_or(AUTH_QUERY);
    if !sql.contains("$1") {
        check.problem("auth.query", "a query without $1", "a query with $1 for the role's name", None);
    }
    let cache_for = check.duration("auth.cache", written.cache, AUTH_CACHE, between(0, DAY_S));
    let recheck_after = check.duration("auth.recheck", written.recheck, AUTH_RECHECK, between(0, DAY_S));
    Auth::Query { sql: sql.into(), cache_for, recheck_after, users_file }
}

pub(super) fn pool(document: &Document, check: &mut Checker) -> PoolSettings {
    let (written, default) = (&document.pool, PoolSettings::default());
    let size_max =
        check.number("pool.default_pool_size", written.default_pool_size, default.size_max, 1..=100_000);
    let idle_min = check.number("pool.min_pool_size", written.min_pool_size, default.idle_min, 0..=100_000);
    if idle_min > size_max {
        let found = format!("found {idle_min}");
        let allowed = format!("at most default_pool_size ({size_max})");
        check.problem("pool.min_pool_size", found, allowed, None);
    }
    let waiting = written.max_waiting;
    PoolSettings {
        size_max,
        idle_min,
        fresh: written.fresh_connections.unwrap_or(default.fresh),
        wait_max: check.duration(
            "pool.query_wait_timeout",
            written.query_wait_timeout,
            default.wait_max,
            between(1, DAY_S),
        ),
        waiters_max: check.number("pool.max_waiting", waiting, default.waiters_max, 0..=1_000_000),
        idle_timeout: check.duration(
            "pool.server_idle_timeout",
            written.server_idle_timeout,
            default.idle_timeout,
            between(1_000, 30 * DAY_S),
        ),
        lifetime: check.duration(
            "pool.server_lifetime",
            written.server_lifetime,
            default.lifetime,
            between(1_000, 30 * DAY_S),
        ),
        connect_timeout: check.duration(
            "pool.server_connect_timeout",
            written.server_connect_timeout,
            default.connect_timeout,
            between(10, 600),
        ),
    }
}

pub(super) fn limits(document: &Document, check: &mut Checker) -> Limits {
    let (written, default) = (&document.limits, Limits::default());
    let (number, size) = (1..=1_000_000, KIB..=1024 * MIB);
    let clients_max =
        check.number("limits.max_client_conn", written.max_client_conn, default.clients_max, number.clone());
    let login_message_max = check.size(
        "limits.max_login_message",
        written.max_login_message,
        default.login_message_max,
        KIB..=MIB,
    );
    let batch_max = check.size("limits.max_batch", written.max_batch, default.batch_max, KIB..=64 * MIB);
    let prepared_max = check.number(
        "limits.max_client_prepared",
        written.max_client_prepared,
        default.prepared_max,
        number.clone(),
    );
    let prepared_bytes_max = check.size(
        "limits.max_client_prepared_bytes",
        written.max_client_prepared_bytes,
        default.prepared_bytes_max,
        size,
    );
    let server_prepared_max = check.number(
        "limits.max_prepared_statements",
        written.max_prepared_statements,
        default.server_prepared_max,
        1..=100_000,
    );
    let (holds_max, hold_bytes_max) = held(document, check);
    let [login_timeout, idle_timeout, idle_in_transaction_timeout, hold_timeout, drain_timeout] =
        times(document, check);
    let [clients_per_address_max, clients_per_user_max, clients_per_database_max] = shares(document, check);
    let [write_timeout, auth_delay_max] = patience(document, check);
    Limits {
        clients_max,
        clients_per_address_max,
        clients_per_user_max,
        clients_per_database_max,
        auth_delay_max,
        login_timeout,
        login_message_max,
        batch_max,
        prepared_max,
        prepared_bytes_max,
        server_prepared_max,
        idle_timeout,
        idle_in_transaction_timeout,
        write_timeout,
        hold_timeout,
        holds_max,
        hold_bytes_max,
        drain_timeout,
    }
}

/// Connections of one address, clients of one role, of one database.
fn shares(document: &Document, check: &mut Checker) -> [u32; 3] {
    let written = &document.limits;
    [
        ("limits.max_clients_per_address", written.max_clients_per_address),
        ("limits.max_clients_per_user", written.max_clients_per_user),
        ("limits.max_clients_per_database", written.max_clients_per_database),
    ]
    .map(|(key, number)| check.number(key, number, 0, 0..=1_000_000))
}

/// How long a client may leave its results unread, and how long a refusal is held back.
fn patience(document: &Document, check: &mut Checker) -> [Duration; 2] {
    let (written, default) = (&document.limits, Limits::default());
    let (unread, delay) = (written.client_write_timeout, written.auth_delay);
    [
        check.duration("limits.client_write_timeout", unread, default.write_timeout, between(0, DAY_S)),
        check.duration("limits.auth_delay", delay, default.auth_delay_max, between(0, 60)),
    ]
}

/// How many statements may wait for a primary, and how large they may be together.
fn held(document: &Document, check: &mut Checker) -> (u32, u64) {
    let (written, default) = (&document.failover, Limits::default());
    let number = check.number("failover.max_held", written.max_held, default.holds_max, 0..=1_000_000);
    let bytes = check.size(
        "failover.max_held_bytes",
        written.max_held_bytes,
        default.hold_bytes_max,
        0..=16 * 1024 * MIB,
    );
    (number, bytes)
}

/// Whether transactions are run again on a new primary, and how much of each is kept for that.
pub(super) fn replay(document: &Document, check: &mut Checker) -> Option<ReplayLimits> {
    let written = &document.failover;
    let on = check.word("failover.replay", written.replay.as_deref(), &[("off", false), ("verified", true)]);
    let bytes = check.size("failover.replay_max_bytes", written.replay_max_bytes, MIB, KIB..=64 * MIB);
    let batches: u32 =
        check.number("failover.replay_max_statements", written.replay_max_statements, 1_000, 1..=100_000);
    on.then_some(ReplayLimits {
        batches_max: batches as usize,
        bytes_max: usize::try_from(bytes).unwrap_or(usize::MAX),
    })
}

/// login, idle, idle in transaction, hold, drain.
fn times(document: &Document, check: &mut Checker) -> [Duration; 5] {
    let (written, default) = (&document.limits, Limits::default());
    let login = written.client_login_timeout;
    let idle = written.client_idle_timeout;
    let transaction = written.idle_transaction_timeout;
    let hold = document.failover.hold_timeout;
    [
        check.duration("limits.client_login_timeout", login, default.login_timeout, between(100, 3_600)),
        check.duration("limits.client_idle_timeout", idle, default.idle_timeout, between(0, 365 * DAY_S)),
        check.duration(
            "limits.idle_transaction_timeout",
            transaction,
            default.idle_in_transaction_timeout,
            between(0, 365 * DAY_S),
        ),
        check.duration("failover.hold_timeout", hold, default.hold_timeout, between(0, 3_600)),
        check.duration(
            "limits.drain_timeout",
            written.drain_timeout,
            default.drain_timeout,
            between(0, DAY_S),
        ),
    ]
}

pub(super) fn tls(document: &Document, base: &Path, check: &mut Checker) -> ClientTls {
    let written = &document.tls;
    let words = [
        ("disable", ClientTlsMode::Disable),
        ("allow", ClientTlsMode::Prefer),
        ("prefer", ClientTlsMode::Prefer),
        ("require", ClientTlsMode::Require),
        ("verify-ca", ClientTlsMode::VerifyCa),
        ("verify-full", ClientTlsMode::VerifyCa),
    ];
    let mode = check.word("tls.sslmode", written.sslmode.as_deref(), &words);
    let files = [
        ("tls.cert_file", &written.cert_file, mode != ClientTlsMode::Disable),
        ("tls.key_file", &written.key_file, mode != ClientTlsMode::Disable),
        ("tls.ca_file", &written.ca_file, mode == ClientTlsMode::VerifyCa),
        ("tls.crl_file", &written.crl_file, false),
    ];
    let [cert_file, key_file, ca_file, crl_file] = files.map(|(key, file, needed)| {
        let file = file.as_deref().map(|file| under(base, file));
        match &file {
            Some(file) => check.readable(key, file),
            None if needed => {
                check.problem(key, "no file", "a PEM file", Some("tls.sslmode asks for it"));
            }
            None => {}
        }
        file
    });
    ClientTls { mode, cert_file, key_file, ca_file, crl_file }
}
