//! `[routing]`, `[admin]` and `[log]`: which node serves what, and how people look at it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{socket_address, under};
use crate::admin::settings::Tls;
use crate::config::check::Checker;
use crate::config::secrets::{self, Source};
use crate::config::written::{Admin, Document, OneOrMany, SessionRouting};
use crate::observe::settings::{Collector, TraceSettings};
use crate::observe::{self, LogFormat};
use crate::route::{self, Consistency, Override, PrimaryReads, TransactionRouting};
use crate::sql::Hint;
use crate::{admin, console, sql};

/// Where transactions may run. "master" is an older word for the primary.
const TRANSACTIONS: [(&str, TransactionRouting); 3] = [
    ("primary", TransactionRouting::Primary),
    ("optimistic", TransactionRouting::Optimistic),
    ("master", TransactionRouting::Primary),
];

pub(super) fn route(document: &Document, check: &mut Checker) -> route::Settings {
    let (written, default) = (&document.routing, route::Settings::default());
    let reads = [
        ("fallback", PrimaryReads::Fallback),
        ("always", PrimaryReads::Always),
        ("never", PrimaryReads::Never),
    ];
    let wait = Duration::ZERO..=Duration::from_secs(60);
    route::Settings {
        splitting: written.splitting.unwrap_or(default.splitting),
        observe: check.word("routing.mode", written.mode.as_deref(), &[("split", false), ("observe", true)]),
        consistency: check.word("routing.consistency", written.consistency.as_deref(), &Consistency::WORDS),
        primary_reads: check.word("routing.primary_reads", written.primary_reads.as_deref(), &reads),
        transactions: check.word("routing.transactions", written.transactions.as_deref(), &TRANSACTIONS),
        causal_wait: check.duration("routing.causal_wait", written.causal_wait, default.causal_wait, wait),
        hint: None,
        overrides: sessions(&written.sessions, check),
        zone: written.zone.as_deref().unwrap_or_default().into(),
    }
}

/// `[[routing.sessions]]`: each names a role, a database or both, and says what differs.
fn sessions(written: &[SessionRouting], check: &mut Checker) -> Vec<Override> {
    let wait = Duration::ZERO..=Duration::from_secs(60);
    let routes = [
        ("auto", None),
        ("primary", Some(Hint::Primary)),
        ("master", Some(Hint::Primary)),
        ("replica", Some(Hint::Replica)),
    ];
    let mut overrides = Vec::with_capacity(written.len());
    for (number, entry) in written.iter().enumerate() {
        let key = |what: &str| format!("routing.sessions[{number}]{what}");
        if entry.user.is_none() && entry.database.is_none() {
            check.problem(
                &key(""),
                "neither user nor database",
                "one of them or both",
                Some("for all sessions: [routing] itself"),
            );
        }
        overrides.push(Override {
            user: entry.user.as_deref().map(Arc::from),
            database: entry.database.as_deref().map(Arc::from),
            consistency: entry
                .consistency
                .is_some()
                .then(|| check.word(&key(".consistency"), entry.consistency.as_deref(), &Consistency::WORDS)),
            hint: check.word(&key(".route"), entry.route.as_deref(), &routes),
            transactions: entry
                .transactions
                .is_some()
                .then(|| check.word(&key(".transactions"), entry.transactions.as_deref(), &TRANSACTIONS)),
            causal_wait: entry.causal_wait.is_some().then(|| {
                check.duration(&key(".causal_wait"), entry.causal_wait, Duration::ZERO, wait.clone())
            }),
        });
    }
    overrides
}

pub(super) fn sql(document: &Document, check: &mut Checker) -> sql::Settings {
    let (written, default) = (&document.routing, sql::Settings::default());
    let (kib, mib) = (1 << 10, 1 << 20);
    sql::Settings {
        text_bytes_max: check.size("routing.max_parse", written.max_parse, default.text_bytes_max, kib..=mib),
        cache_entries_max: check.number(
            "routing.verdict_cache",
            written.verdict_cache,
            default.cache_entries_max,
            0..=1_000_000,
        ),
        cache_bytes_max: check.size(
            "routing.verdict_cache_bytes",
            written.verdict_cache_bytes,
            default.cache_bytes_max,
            0..=1024 * mib,
        ),
        ..default
    }
}

/// All names together, in bytes: they travel in one startup packet, which servers bound (10,000).
const READ_FUNCTIONS_BYTES_MAX: usize = 8_000;

/// Functions that are believed to read only, as one list with commas.
pub(super) fn read_functions(document: &Document, check: &mut Checker) -> Arc<str> {
    let key = "routing.read_functions";
    let given = document.routing.read_functions.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let is_name = |name: &&String| {
        let good = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
        };
        name.split('.').count() <= 2 && name.split('.').all(good)
    };
    if let Some(strange) = given.iter().find(|name| !is_name(name)) {
        let hint = "without brackets and arguments, spelled as in pg_proc";
        check.problem(
            key,
            format!("found {strange:?}"),
            "names like \"name\" or \"schema.name\"",
            Some(hint),
        );
        return Arc::default();
    }
    let list = given.join(",");
    if list.len() > READ_FUNCTIONS_BYTES_MAX {
        let allowed = format!("{READ_FUNCTIONS_BYTES_MAX} bytes");
        let hint = "ALTER FUNCTION ... STABLE says it to the server too";
        check.problem(key, format!("{} bytes of names", list.len()), allowed, Some(hint));
        return Arc::default();
    }
    list.into()
}

pub(super) fn admin(document: &Document, base: &Path, check: &mut Checker) -> admin::Settings {
    let written = &document.admin;
    let listen = match written.listen.as_deref() {
        None => admin::Settings::default().listen,
        Some("" | "off") => None,
        Some(text) => socket_address("admin.listen", text, check),
    };
    let [token_file, stats_file] = [&written.token_file, &written.stats_token_file]
        .map(|file| file.as_deref().map(|file| under(base, file)));
    let sources = [
        Source {
            key: "admin.token",
            plain: written.token.as_ref(),
            file: token_file.as_deref(),
            variable: written.token_env.as_deref(),
            credential: written.token_credential.as_deref(),
            command: written.token_command.as_deref(),
        },
        Source {
            key: "admin.stats_token",
            plain: written.stats_token.as_ref(),
            file: stats_file.as_deref(),
            variable: written.stats_token_env.as_deref(),
            credential: written.stats_token_credential.as_deref(),
            command: written.stats_token_command.as_deref(),
        },
    ];
    let [token, stats_token] = sources.map(|source| {
        let token = secrets::read(check, &source);
        if token.as_ref().is_some_and(|token| token.reveal().len() < 8) {
            let hint = Some("openssl rand -hex 16");
            check.problem(source.key, "a token of less than 8 characters", "8 or more", hint);
        }
        token
    });
    let tls = admin_tls(&document.admin, base, check);
    let admins = tls.as_ref().is_some_and(|tls| !tls.admins.is_empty());
    if token.is_none() && !admins && listen.is_some_and(|address| !address.ip().is_loopback()) {
        check.warnings.push(
            "admin.listen is reachable from other machines and there is no admin.token: they can look, but every \
             request that changes something is refused; set admin.token_file"
                .into(),
        );
    }
    admin::Settings { listen, token, stats_token, tls }
}

/// HTTPS, and whose certificates may do what. Half of it is nothing that anybody can have meant.
fn admin_tls(written: &Admin, base: &Path, check: &mut Checker) -> Option<Tls> {
    let (admins, lookers) =
        (written.tls_admins.clone().unwrap_or_default(), written.tls_stats.clone().unwrap_or_default());
    let files = [
        ("admin.tls_cert_file", &written.tls_cert_file),
        ("admin.tls_key_file", &written.tls_key_file),
        ("admin.tls_ca_file", &written.tls_ca_file),
        ("admin.tls_crl_file", &written.tls_crl_file),
    ];
    let named = !admins.is_empty() || !lookers.is_empty();
    let wanted = named || files.iter().any(|(_, file)| file.is_some());
    let [cert_file, key_file, ca_file, crl_file] = files.map(|(key, file)| {
        let file = file.as_deref().map(|file| under(base, file));
        if let Some(file) = &file {
            check.readable(key, file);
        }
        file
    });
    if !wanted {
        return None;
    }
    for (key, file) in [("admin.tls_cert_file", &cert_file), ("admin.tls_key_file", &key_file)] {
        if file.is_none() {
            check.problem(key, "no file", "a PEM file", Some("the other admin.tls_* keys need HTTPS"));
        }
    }
    if ca_file.is_none() && (named || crl_file.is_some()) {
        let hint = Some("only certificates of its authorities are looked at");
        check.problem("admin.tls_ca_file", "no file", "a PEM file", hint);
    }
    if ca_file.is_some() && !named {
        let hint = Some("list the common names, or the distinguished names, of who may act");
        check.problem("admin.tls_admins", "nobody", "names, here or in admin.tls_stats", hint);
    }
    Some(Tls { cert_file: cert_file?, key_file: key_file?, ca_file, crl_file, admins, lookers })
}

/// `[console]`. Whoever knows the password of primacy's own role can do everything anyway.
pub(super) fn console(document: &Document, service: &Arc<str>, check: &mut Checker) -> console::Settings {
    let written = &document.console;
    let default = console::Settings::default();
    let databases = written.databases.clone().unwrap_or(default.databases);
    if document.service.database.as_ref().is_some_and(|name| databases.contains(name)) {
        check.problem(
            "console.databases",
            "the service role's own database",
            "names of no database of the cluster",
            Some("[] switches the console off"),
        );
    }
    console::Settings {
        databases,
        admin_users: written.admin_users.clone().unwrap_or_else(|| vec![service.to_string()]),
        stats_users: written.stats_users.clone().unwrap_or_default(),
    }
}

/// `log.slow_statement`: the data path measures, so it is its setting.
pub(super) fn slow_statement(document: &Document, check: &mut Checker) -> Duration {
    let hour = Duration::from_secs(3600);
    check.duration("log.slow_statement", document.log.slow_statement, Duration::ZERO, Duration::ZERO..=hour)
}

pub(super) fn observe(document: &Document, check: &mut Checker) -> observe::Settings {
    let (written, default) = (&document.log, observe::Settings::default());
    let format = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let level = written.level.clone().unwrap_or(default.level);
    if !observe::is_filter(&level) {
        let allowed = "error, warn, info, debug, trace, or directives like \"info,primacy::control=debug\"";
        check.problem("log.level", format!("found {level:?}"), allowed, None);
    }
    let format = check.word("log.format", written.format.as_deref(), &format);
    observe::Settings { level, format, traces: traces(document, check) }
}

/// `log.otlp_endpoint`: the log's lines about statements, for machines.
fn traces(document: &Document, check: &mut Checker) -> Option<TraceSettings> {
    let written = &document.log;
    let share = written.otlp_share.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&share) {
        check.problem("log.otlp_share", format!("found {share}"), "a number from 0 to 1", None);
    }
    let Some(url) = written.otlp_endpoint.as_deref().filter(|url| !url.is_empty()) else {
        if written.otlp_share.is_some() {
            check.problem("log.otlp_share", "nobody to tell", "log.otlp_endpoint beside it", None);
        }
        return None;
    };
    let collector = Collector::parse(url);
    if collector.is_none() {
        let hint = Some("port 4318 and /v1/traces are the default");
        check.problem(
            "log.otlp_endpoint",
            format!("found {url:?}"),
            "http://host:port or https://host:port",
            hint,
        );
    }
    Some(TraceSettings { collector: collector?, share })
}
