//! Resolved settings -> one line per key: what is in force, and whether a reload can change it.
//!
//! Every struct is taken apart without `..`, so that a setting that is added and not listed here does not compile.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use super::Settings;
use super::units::{show_duration, show_size};
use crate::model::Secret;
use crate::proxy::settings::{
    Auth, ClientTls, ClientTlsMode, Limits, Node, PoolMode, PoolSettings, ServerTlsMode, Service,
};
use crate::route::{Consistency, PrimaryReads, TransactionRouting};
use crate::{admin, observe, proxy, route};

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its path in the file.
    pub key: String,
    /// Its value; `***` for a secret.
    pub value: String,
    /// Whether a reload can change it.
    pub live: bool,
    /// A secret's text, to see a change.
    secret: Option<Secret>,
}

impl Item {
    /// Whether both say the same.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.value == other.value && self.secret == other.secret
    }
}

/// Every setting in force, in the order of the reference file.
pub fn describe(settings: &Settings) -> Vec<Item> {
    let Settings { origin: _, proxy, route, admin, observe, warnings: _ } = settings;
    let mut list = List::default();
    data_path(&mut list, proxy);
    routing(&mut list, route);
    operator(&mut list, admin, observe);
    list.0
}

#[derive(Default)]
struct List(Vec<Item>);

impl List {
    /// A setting that a reload changes.
    fn live(&mut self, key: &str, value: impl Display) {
        self.0.push(Item { key: key.into(), value: value.to_string(), live: true, secret: None });
    }

    /// A setting that needs a restart.
    fn fixed(&mut self, key: &str, value: impl Display) {
        self.0.push(Item { key: key.into(), value: value.to_string(), live: false, secret: None });
    }

    fn secret(&mut self, key: &str, secret: &Secret) {
        let value = if secret.is_empty() { "" } else { "***" };
        self.0.push(Item { key: key.into(), value: value.into(), live: false, secret: Some(secret.clone()) });
    }

    fn duration(&mut self, key: &str, duration: Duration) {
        self.live(key, show_duration(duration));
    }

    fn size(&mut self, key: &str, bytes: u64) {
        self.live(key, show_size(bytes));
    }
}

fn data_path(list: &mut List, settings: &proxy::Settings) {
    let proxy::Settings {
        listen,
        unix_socket_dir,
        workers,
        pool_mode,
        nodes,
        service,
        auth,
        client_tls,
        pool,
        limits,
    } = settings;
    let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
    list.fixed("listen", listen.join(", "));
    list.fixed("unix_socket_dir", path(unix_socket_dir.as_deref()));
    list.fixed("workers", workers);
    let mode = match pool_mode {
        PoolMode::Transaction => "transaction",
        PoolMode::Session => "session",
    };
    list.fixed("pool_mode", mode);
    for (number, node) in nodes.iter().enumerate() {
        describe_node(list, number, node);
    }
    let Service { user, password, database } = service;
    list.fixed("service.user", user);
    list.secret("service.password", password);
    list.fixed("service.database", database);
    match auth {
        Auth::Query { sql, cache_for } => {
            list.fixed("auth.query", sql);
            list.fixed("auth.cache", show_duration(*cache_for));
        }
        Auth::File(file) => list.fixed("auth.users_file", file.display()),
    }
    describe_tls(list, client_tls);
    describe_pool(list, pool);
    describe_limits(list, limits);
}

fn describe_node(list: &mut List, number: usize, node: &Node) {
    let Node { name, address, tls, zone, weight, priority } = node;
    let key = |what: &str| format!("nodes[{number}].{what}");
    list.fixed(&key("name"), name);
    list.fixed(&key("address"), address);
    list.fixed(&key("sslmode"), server_tls_word(tls.mode));
    list.fixed(&key("sslrootcert"), path(tls.ca_file.as_deref()));
    list.fixed(&key("zone"), zone);
    list.fixed(&key("weight"), weight);
    list.fixed(&key("priority"), priority);
}

fn server_tls_word(mode: ServerTlsMode) -> &'static str {
    match mode {
        ServerTlsMode::Disable => "disable",
        ServerTlsMode::Prefer => "prefer",
        ServerTlsMode::Require => "require",
        ServerTlsMode::VerifyCa => "verify-ca",
        ServerTlsMode::VerifyFull => "verify-full",
    }
}

fn describe_tls(list: &mut List, tls: &ClientTls) {
    let ClientTls { mode, cert_file, key_file, ca_file } = tls;
    let mode = match mode {
        ClientTlsMode::Disable => "disable",
        ClientTlsMode::Prefer => "prefer",
        ClientTlsMode::Require => "require",
        ClientTlsMode::VerifyCa => "verify-ca",
    };
    list.fixed("tls.sslmode", mode);
    list.fixed("tls.cert_file", path(cert_file.as_deref()));
    list.fixed("tls.key_file", path(key_file.as_deref()));
    list.fixed("tls.ca_file", path(ca_file.as_deref()));
}

fn describe_pool(list: &mut List, pool: &PoolSettings) {
    let PoolSettings { size_max, idle_min, wait_max, waiters_max, idle_timeout, lifetime, connect_timeout } =
        pool;
    list.live("pool.default_pool_size", size_max);
    list.live("pool.min_pool_size", idle_min);
    list.duration("pool.query_wait_timeout", *wait_max);
    list.live("pool.max_waiting", waiters_max);
    list.duration("pool.server_idle_timeout", *idle_timeout);
    list.duration("pool.server_lifetime", *lifetime);
    list.duration("pool.server_connect_timeout", *connect_timeout);
}

fn describe_limits(list: &mut List, limits: &Limits) {
    let Limits {
        clients_max,
        login_timeout,
        login_message_max,
        batch_max,
        prepared_max,
        prepared_bytes_max,
        server_prepared_max,
        idle_timeout,
        idle_in_transaction_timeout,
        hold_timeout,
        holds_max,
        hold_bytes_max,
        drain_timeout,
    } = limits;
    list.live("limits.max_client_conn", clients_max);
    list.duration("limits.client_login_timeout", *login_timeout);
    list.size("limits.max_login_message", u64::from(*login_message_max));
    list.size("limits.max_batch", u64::from(*batch_max));
    list.live("limits.max_client_prepared", prepared_max);
    list.size("limits.max_client_prepared_bytes", u64::from(*prepared_bytes_max));
    list.live("limits.max_prepared_statements", server_prepared_max);
    list.duration("limits.client_idle_timeout", *idle_timeout);
    list.duration("limits.idle_transaction_timeout", *idle_in_transaction_timeout);
    list.duration("limits.drain_timeout", *drain_timeout);
    list.duration("failover.hold_timeout", *hold_timeout);
    list.live("failover.max_held", holds_max);
    list.size("failover.max_held_bytes", *hold_bytes_max);
}

fn routing(list: &mut List, settings: &route::Settings) {
    let route::Settings { splitting, consistency, primary_reads, transactions, causal_wait, zone } = settings;
    list.live("routing.splitting", splitting);
    let consistency = match consistency {
        Consistency::Session => "session",
        Consistency::Eventual => "eventual",
    };
    list.live("routing.consistency", consistency);
    let primary_reads = match primary_reads {
        PrimaryReads::Fallback => "fallback",
        PrimaryReads::Always => "always",
        PrimaryReads::Never => "never",
    };
    list.live("routing.primary_reads", primary_reads);
    let transactions = match transactions {
        TransactionRouting::Primary => "primary",
    };
    list.live("routing.transactions", transactions);
    list.duration("routing.causal_wait", *causal_wait);
    list.live("routing.zone", zone);
}

fn operator(list: &mut List, admin: &admin::Settings, log: &observe::Settings) {
    let admin::Settings { listen, token } = admin;
    list.fixed("admin.listen", listen.map_or_else(|| "off".to_owned(), |address| address.to_string()));
    list.secret("admin.token", &token.clone().unwrap_or_default());
    let observe::Settings { level, format } = log;
    list.live("log.level", level);
    list.fixed("log.format", format.as_str());
}

fn path(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}
