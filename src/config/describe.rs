//! Resolved settings -> one line per key: what is in force, and whether a reload can change it.
//!
//! The structs that hold configured keys alone are taken apart without `..`, so that a key that is added and not
//! listed here does not compile.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use super::Settings;
use super::units::{show_duration, show_size};
use crate::admin::settings::Tls;
use crate::control::agents::{AgentSettings, AgentTls};
use crate::control::settings::{Credentials, NodeSettings};
use crate::failover::{self, Durability};
use crate::model::Secret;
use crate::observe::settings::TraceSettings;
use crate::proxy::hba::{Hba, Network};
use crate::proxy::settings::{
    Auth, ClientTls, ClientTlsMode, Limits, Node, PoolMode, PoolSettings, ReplayLimits, Service,
};
use crate::route::{Override, PrimaryReads};
use crate::sql::Hint;
use crate::tls::ServerTls;
use crate::{admin, console, control, observe, proxy, route, sql};

/// What the keys of nodes begin with; the node's name follows.
pub(super) const NODES_KEY: &str = "nodes.";

/// The key of a node that stands for the node itself when it comes or goes.
pub(super) const NODE_ADDRESS: &str = "address";

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
    let Settings { origin: _, proxy, route, sql, control, admin, console, observe, warnings: _ } = settings;
    let mut list = List::default();
    data_path(&mut list, proxy, control);
    routing(&mut list, route);
    classifier(&mut list, *sql);
    control_plane(&mut list, control);
    failing_over(&mut list, &control.failover);
    operator(&mut list, admin, observe);
    on_console(&mut list, console);
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

    fn live_secret(&mut self, key: &str, secret: &Secret) {
        self.secret(key, secret);
        if let Some(item) = self.0.last_mut() {
            item.live = true;
        }
    }

    fn duration(&mut self, key: &str, duration: Duration) {
        self.live(key, show_duration(duration));
    }

    fn size(&mut self, key: &str, bytes: u64) {
        self.live(key, show_size(bytes));
    }
}

fn data_path(list: &mut List, settings: &proxy::Settings, watched: &control::Settings) {
    let removed = |name: &str| watched.nodes.iter().any(|node| &*node.name == name && node.removed);
    let proxy::Settings {
        listen,
        unix_socket_dir,
        workers,
        pool_mode,
        resolve_commits,
        replay,
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
    } = settings;
    list.duration("log.slow_statement", *slow_statement);
    list.fixed("routing.read_functions", read_functions);
    let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
    list.fixed("listen", listen.join(", "));
    list.fixed("unix_socket_dir", path(unix_socket_dir.as_deref()));
    list.fixed("workers", workers);
    let mode = match pool_mode {
        PoolMode::Transaction => "transaction",
        PoolMode::Session => "session",
    };
    list.fixed("pool_mode", mode);
    list.live("failover.resolve_commits", resolve_commits);
    list.live("failover.replay", if replay.is_some() { "verified" } else { "off" });
    if let Some(ReplayLimits { batches_max, bytes_max }) = replay {
        list.size("failover.replay_max_bytes", *bytes_max as u64);
        list.live("failover.replay_max_statements", batches_max);
    }
    for node in nodes.iter().filter(|node| !removed(&node.name)) {
        describe_node(list, node);
    }
    let Service { user, password, database } = service;
    list.fixed("service.user", user);
    list.secret("service.password", password);
    list.fixed("service.database", database);
    match auth {
        Auth::Query { sql, cache_for, recheck_after, users_file } => {
            list.fixed("auth.query", sql);
            list.fixed("auth.cache", show_duration(*cache_for));
            list.fixed("auth.recheck", show_duration(*recheck_after));
            list.fixed("auth.users_file", path(users_file.as_deref()));
        }
        Auth::File(file) => list.fixed("auth.users_file", file.display()),
    }
    describe_rules(list, hba, balancers);
    describe_tls(list, client_tls);
    describe_pool(list, pool);
    describe_limits(list, limits);
}

fn describe_node(list: &mut List, node: &Node) {
    let Node { name, address, tls, zone, weight, priority } = node;
    let key = |what: &str| format!("{NODES_KEY}{name}.{what}");
    // The same name at another address would be another server to which open connections do not lead.
    list.fixed(&key(NODE_ADDRESS), address);
    let ServerTls { mode, ca_file, crl_file, cert_file, key_file, channel_binding, negotiation } = tls;
    list.live(&key("sslmode"), mode.as_str());
    list.live(&key("sslnegotiation"), negotiation.as_str());
    list.live(&key("sslrootcert"), path(ca_file.as_deref()));
    list.live(&key("sslcrl"), path(crl_file.as_deref()));
    list.live(&key("sslcert"), path(cert_file.as_deref()));
    list.live(&key("sslkey"), path(key_file.as_deref()));
    list.live(&key("channel_binding"), channel_binding.as_str());
    list.live(&key("zone"), zone);
    list.live(&key("weight"), weight);
    list.live(&key("priority"), priority);
}

fn describe_rules(list: &mut List, hba: &Hba, balancers: &[Network]) {
    let Hba { rules, maps } = hba;
    list.live("hba", rules.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    let maps = maps.iter().map(|line| format!("{} {:?} {}", line.map, line.identity, line.user));
    list.live("auth.maps", maps.collect::<Vec<_>>().join("; "));
    let balancers: Vec<_> = balancers.iter().map(ToString::to_string).collect();
    list.live("proxy_protocol", balancers.join(", "));
}

fn describe_tls(list: &mut List, tls: &ClientTls) {
    let ClientTls { mode, cert_file, key_file, ca_file, crl_file } = tls;
    let mode = match mode {
        ClientTlsMode::Disable => "disable",
        ClientTlsMode::Prefer => "prefer",
        ClientTlsMode::Require => "require",
        ClientTlsMode::VerifyCa => "verify-ca",
    };
    list.live("tls.sslmode", mode);
    list.live("tls.cert_file", path(cert_file.as_deref()));
    list.live("tls.key_file", path(key_file.as_deref()));
    list.live("tls.ca_file", path(ca_file.as_deref()));
    list.live("tls.crl_file", path(crl_file.as_deref()));
}

fn describe_pool(list: &mut List, pool: &PoolSettings) {
    let PoolSettings {
        size_max,
        idle_min,
        fresh,
        wait_max,
        waiters_max,
        idle_timeout,
        lifetime,
        connect_timeout,
    } = pool;
    list.live("pool.default_pool_size", size_max);
    list.live("pool.min_pool_size", idle_min);
    list.live("pool.fresh_connections", fresh);
    list.duration("pool.query_wait_timeout", *wait_max);
    list.live("pool.max_waiting", waiters_max);
    list.duration("pool.server_idle_timeout", *idle_timeout);
    list.duration("pool.server_lifetime", *lifetime);
    list.duration("pool.server_connect_timeout", *connect_timeout);
}

fn describe_limits(list: &mut List, limits: &Limits) {
    let Limits {
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
        handover_timeout,
    } = limits;
    list.live("limits.max_client_conn", clients_max);
    list.live("limits.max_clients_per_address", clients_per_address_max);
    list.live("limits.max_clients_per_user", clients_per_user_max);
    list.live("limits.max_clients_per_database", clients_per_database_max);
    list.duration("limits.auth_delay", *auth_delay_max);
    list.duration("limits.client_login_timeout", *login_timeout);
    list.size("limits.max_login_message", u64::from(*login_message_max));
    list.size("limits.max_batch", u64::from(*batch_max));
    list.live("limits.max_client_prepared", prepared_max);
    list.size("limits.max_client_prepared_bytes", u64::from(*prepared_bytes_max));
    list.live("limits.max_prepared_statements", server_prepared_max);
    list.duration("limits.client_idle_timeout", *idle_timeout);
    list.duration("limits.idle_transaction_timeout", *idle_in_transaction_timeout);
    list.duration("limits.client_write_timeout", *write_timeout);
    list.duration("limits.drain_timeout", *drain_timeout);
    list.duration("limits.handover_timeout", *handover_timeout);
    list.duration("failover.hold_timeout", *hold_timeout);
    list.live("failover.max_held", holds_max);
    list.size("failover.max_held_bytes", *hold_bytes_max);
}

fn routing(list: &mut List, settings: &route::Settings) {
    let route::Settings {
        splitting,
        observe,
        consistency,
        primary_reads,
        transactions,
        causal_wait,
        hint: _,
        overrides,
        zone,
    } = settings;
    list.live("routing.splitting", splitting);
    list.live("routing.mode", if *observe { "observe" } else { "split" });
    list.live("routing.consistency", consistency.as_str());
    let primary_reads = match primary_reads {
        PrimaryReads::Fallback => "fallback",
        PrimaryReads::Always => "always",
        PrimaryReads::Never => "never",
    };
    list.live("routing.primary_reads", primary_reads);
    list.live("routing.transactions", transactions.as_str());
    list.duration("routing.causal_wait", *causal_wait);
    list.live("routing.zone", zone);
    list.live("routing.sessions", overrides.iter().map(describe_override).collect::<Vec<_>>().join("; "));
}

fn describe_override(over: &Override) -> String {
    let Override { user, database, consistency, hint, transactions, causal_wait } = over;
    let hint = hint.map(|hint| if hint == Hint::Primary { "primary" } else { "replica" });
    let entries = [
        ("user", user.as_deref().map(str::to_owned)),
        ("database", database.as_deref().map(str::to_owned)),
        ("consistency", consistency.map(|consistency| consistency.as_str().to_owned())),
        ("route", hint.map(str::to_owned)),
        ("transactions", transactions.map(|transactions| transactions.as_str().to_owned())),
        ("causal_wait", causal_wait.map(show_duration)),
    ];
    let given = entries.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?)));
    given.collect::<Vec<_>>().join(", ")
}

fn classifier(list: &mut List, settings: sql::Settings) {
    let sql::Settings { text_bytes_max, tokens_max: _, depth_max: _, cache_entries_max, cache_bytes_max } =
        settings;
    let size = |bytes: usize| show_size(u64::try_from(bytes).unwrap_or(u64::MAX));
    list.fixed("routing.max_parse", size(text_bytes_max));
    list.fixed("routing.verdict_cache", cache_entries_max);
    list.fixed("routing.verdict_cache_bytes", size(cache_bytes_max));
}

fn control_plane(list: &mut List, settings: &control::Settings) {
    // The service role and the database are the data path's.
    let control::Settings {
        nodes,
        service: _,
        database: _,
        replication,
        failover: _,
        state_dir,
        sample_every,
        slots,
        restart_by_sql,
    } = settings;
    list.fixed("state_dir", path(state_dir.as_deref()));
    for node in nodes.iter().filter(|node| !node.removed) {
        let replication = node.replication_address.as_ref().map(ToString::to_string).unwrap_or_default();
        list.live(&format!("{NODES_KEY}{}.replication_address", node.name), replication);
        list.live(&format!("{NODES_KEY}{}.disabled", node.name), node.disabled);
        describe_agent(list, node);
    }
    if let Some(Credentials { user, password }) = replication {
        list.fixed("replication.user", user);
        list.secret("replication.password", password);
    }
    list.live("replication.slots", slots);
    list.live("failover.restart_by_sql", restart_by_sql);
    list.live("routing.sample_interval", show_duration(*sample_every));
}

fn describe_agent(list: &mut List, node: &NodeSettings) {
    let Some(AgentSettings { host, port, tls, token }) = &node.agent else { return };
    let key = |what: &str| format!("{NODES_KEY}{}.{what}", node.name);
    let scheme = if tls.is_some() { "https" } else { "http" };
    list.live(&key("agent"), format!("{scheme}://{host}:{port}"));
    list.live_secret(&key("agent_token"), token.as_ref().unwrap_or(&Secret::default()));
    if let Some(AgentTls { ca_file, own }) = tls {
        list.live(&key("agent_ca_file"), path(ca_file.as_deref()));
        let (cert, key_file) = own.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path())).unzip();
        list.live(&key("agent_cert_file"), path(cert));
        list.live(&key("agent_key_file"), path(key_file));
    }
}

fn failing_over(list: &mut List, settings: &failover::Settings) {
    // Taken over between two decisions, never while something is under way.
    let mut duration = |key: &str, duration: Duration| list.live(key, show_duration(duration));
    duration("routing.max_lag", settings.lag_max.unwrap_or_default());
    duration("failover.probe_interval", settings.probe_interval);
    duration("failover.detect_timeout", settings.detect_timeout);
    duration("failover.restart_grace", settings.restart_grace);
    duration("failover.stall_timeout", settings.stall_timeout);
    duration("failover.recruit_timeout", settings.recruit_timeout);
    duration("failover.replay_timeout", settings.replay_timeout);
    duration("failover.promote_timeout", settings.promote_timeout);
    duration("failover.switchover_drain", settings.drain_timeout);
    duration("failover.wal_receiver_timeout", settings.receiver_timeout.unwrap_or_default());
    duration("failover.soft_interval", settings.flap_interval);
    duration("failover.rejoin_timeout", settings.rejoin_timeout);
    list.live("routing.max_lag_bytes", show_size(settings.lag_bytes_max.unwrap_or(0)));
    list.live("failover.automatic", settings.automatic);
    match settings.durability {
        Durability::Async => list.live("failover.durability", "async"),
        Durability::Quorum { standbys } => {
            list.live("failover.durability", "quorum");
            list.live("failover.sync_replicas", standbys.map(|k| k.to_string()).unwrap_or_default());
        }
    }
    list.live("failover.on_lost_quorum", if settings.degrade.is_some() { "degrade" } else { "wait" });
    let degrade = settings.degrade.unwrap_or_default();
    list.live("failover.min_sync", degrade.standbys_min);
    list.duration("failover.degrade_after", degrade.after);
    list.live("failover.manage_sync_names", settings.manage_sync_names);
    list.live("failover.max_soft_per_hour", settings.flap_max);
    list.live("failover.rejoin", settings.auto_rejoin);
    list.live("failover.arm_standby_signal", settings.arm_standby_signal);
}

fn operator(list: &mut List, admin: &admin::Settings, log: &observe::Settings) {
    let admin::Settings { listen, token, stats_token, tls } = admin;
    list.fixed("admin.listen", listen.map_or_else(|| "off".to_owned(), |address| address.to_string()));
    list.secret("admin.token", &token.clone().unwrap_or_default());
    list.secret("admin.stats_token", &stats_token.clone().unwrap_or_default());
    if let Some(Tls { cert_file, key_file, ca_file, crl_file, admins, lookers }) = tls {
        list.fixed("admin.tls_cert_file", path(Some(cert_file)));
        list.fixed("admin.tls_key_file", path(Some(key_file)));
        list.fixed("admin.tls_ca_file", path(ca_file.as_deref()));
        list.fixed("admin.tls_crl_file", path(crl_file.as_deref()));
        list.fixed("admin.tls_admins", admins.join(", "));
        list.fixed("admin.tls_stats", lookers.join(", "));
    }
    let observe::Settings { level, format, traces } = log;
    list.live("log.level", level);
    list.fixed("log.format", format.as_str());
    if let Some(TraceSettings { collector, share }) = traces {
        list.fixed("log.otlp_endpoint", collector);
        list.fixed("log.otlp_share", share);
    }
}

fn on_console(list: &mut List, settings: &console::Settings) {
    let console::Settings { databases, admin_users, stats_users } = settings;
    list.live("console.databases", databases.join(", "));
    list.live("console.admin_users", admin_users.join(", "));
    list.live("console.stats_users", stats_users.join(", "));
}

fn path(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}
