//! `pgpool.conf`: `key = 'value'`, servers as numbered keys.

use std::collections::BTreeMap;

use super::{Draft, Imported, key_and_value};

/// Beginnings of keys that are not needed, and why.
const NEEDLESS: &[(&str, &str)] = &[
    ("failover_command", "primacy promotes by itself, with SQL"),
    ("follow_primary_command", "primacy points the others to the new primary by itself"),
    ("recovery_", "primacy's agent rewinds nodes or copies them again (proto-notes/agent.md)"),
    ("health_check_", "primacy looks at every node five times a second; see [failover]"),
    ("sr_check_", "primacy watches replication with its own role"),
    ("failover_on_", "an error on a connection triggers a look and decides nothing"),
    ("auto_failback", "a node that returns is brought back when it is proven to follow"),
    ("detach_false_primary", "a node that claims to be primary and is not recorded as such is fenced"),
    ("black_function_list", "what a function may do is asked from the catalog of each database"),
    ("write_function_list", "what a function may do is asked from the catalog of each database"),
    ("read_only_function_list", "what a function may do is asked from the catalog of each database"),
    ("memory_cache", "results are not cached: no read is ever stale"),
    ("memqcache_", "results are not cached: no read is ever stale"),
    ("check_temp_table", "temporary tables tie a session to its connection until they are gone"),
    ("check_unlogged_table", "the catalog says which relations replicas have"),
];

/// Converts.
pub fn from_pgpool(text: &str) -> Imported {
    let mut draft = Draft::default();
    let all: BTreeMap<String, String> = text.lines().filter_map(written).collect();
    let of = |key: &str| all.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let port = of("port").unwrap_or("9999");
    let host = match of("listen_addresses") {
        Some("*" | "0.0.0.0") => "0.0.0.0",
        Some("localhost") | None => "127.0.0.1",
        Some(other) => other,
    };
    draft.set("listen", format!("{host}:{port}"));
    let numbered = |prefix: &str| {
        let of_prefix = all.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
        of_prefix
            .filter_map(|(number, value)| Some((number.parse::<u32>().ok()?, value.clone())))
            .collect::<BTreeMap<_, _>>()
    };
    let (ports, weights) = (numbered("backend_port"), numbered("backend_weight"));
    for (number, host) in numbered("backend_hostname") {
        let port = ports.get(&number).and_then(|port| port.parse().ok()).unwrap_or(5432);
        let share = weights.get(&number).and_then(|weight| weight.parse::<f64>().ok());
        let node = draft.node(&host, port);
        if let Some(percent) = share
            .map(|share| (share * 100.0).round().clamp(0.0, 10_000.0))
            .filter(|percent| (*percent - 100.0).abs() > 0.5)
        {
            node.insert("weight".to_owned(), format!("{percent}").parse::<i64>().unwrap_or(100).into());
        }
    }
    for (key, value) in &all {
        setting(&mut draft, key, value);
    }
    draft.finish("pgpool.conf")
}

fn written(line: &str) -> Option<(String, String)> {
    let (key, value) = key_and_value(line)?;
    let value = match value.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next().unwrap_or_default(),
        None => value.split('#').next().unwrap_or_default().trim(),
    };
    Some((key.to_ascii_lowercase(), value.to_owned()))
}

fn setting(draft: &mut Draft, key: &str, value: &str) {
    let is_on = matches!(value, "on" | "true" | "yes" | "1");
    if let Some((_, why)) = NEEDLESS.iter().find(|(begin, _)| key.starts_with(begin)) {
        if key == "sr_check_user" && !value.is_empty() {
            draft.set("service.user", value);
            draft.set("service.password_env", "PRIMACY_PASSWORD");
            return draft
                .note("service.user is sr_check_user here; README.md lists the privileges that it needs");
        }
        if !value.is_empty() && value != "off" && value != "0" {
            draft.note(format!("{key} is not needed: {why}"));
        }
        return;
    }
    match key {
        "listen_addresses" | "port" => {}
        _ if key.starts_with("backend_hostname")
            || key.starts_with("backend_port")
            || key.starts_with("backend_weight") => {}
        _ if key.starts_with("backend_data_directory")
            || key.starts_with("backend_flag")
            || key.starts_with("backend_application_name") => {}
        "num_init_children" => draft.number("limits.max_client_conn", key, value),
        "child_life_time" | "connection_life_time" if value != "0" => {
            draft.seconds("pool.server_lifetime", key, value);
        }
        "client_idle_limit" => draft.seconds("limits.client_idle_timeout", key, value),
        "authentication_timeout" => draft.seconds("limits.client_login_timeout", key, value),
        "load_balance_mode" => draft.set("routing.splitting", is_on),
        "delay_threshold" if value != "0" => match value.parse::<u64>() {
            Ok(bytes) => draft.set("routing.max_lag_bytes", format!("{bytes}B")),
            Err(_) => draft.note(format!("delay_threshold = {value}: not a number of bytes")),
        },
        "delay_threshold_by_time" if value != "0" => draft.seconds("routing.max_lag", key, value),
        "disable_load_balance_on_write" => draft.note(
            "disable_load_balance_on_write: after a write, reads go to replicas that have it, in every mode",
        ),
        "ssl" if is_on => draft.set("tls.sslmode", "prefer"),
        "ssl_key" if !value.is_empty() => draft.set("tls.key_file", value),
        "ssl_cert" if !value.is_empty() => draft.set("tls.cert_file", value),
        "backend_clustering_mode" if value != "streaming_replication" => {
            draft.note(format!(
                "backend_clustering_mode = {value}: primacy knows streaming replication alone"
            ));
        }
        "use_watchdog" if is_on => {
            draft.note(
                "use_watchdog: several primacies with one right to promote are not there yet (README.md)",
            );
        }
        "unix_socket_directories" | "socket_dir" => {
            draft.set("unix_socket_dir", value.split(',').next().unwrap_or(value));
        }
        _ if value.is_empty() || value == "off" || value == "0" => {}
        _ => draft.without_counterpart(key, value),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn servers_shares_and_limits_are_taken_over() {
        let imported = from_pgpool(
            "listen_addresses = '*' # all\nport = 9999\nbackend_hostname0 = 'db1'\nbackend_port0 = 5432\n\
             backend_hostname1 = 'db2'\nbackend_port1 = 5433\nbackend_weight1 = 0.5\nnum_init_children = 64\n\
             load_balance_mode = on\ndelay_threshold = 10000000\nfailover_command = '/etc/failover.sh'\n\
             sr_check_user = 'checker'\nsr_check_password = 'hush'\nuse_watchdog = on\nrelcache_size = 256\n",
        );
        let text = imported.toml.replace("password_env", "password");
        let settings = config::parse(&text, Path::new("primacy.toml")).expect("valid");
        let nodes: Vec<(String, u32)> =
            settings.proxy.nodes.iter().map(|node| (node.address.to_string(), node.weight)).collect();
        assert_eq!(nodes, [("db1:5432".to_owned(), 100), ("db2:5433".to_owned(), 50)]);
        assert_eq!(settings.proxy.listen[0].to_string(), "0.0.0.0:9999");
        assert_eq!(settings.proxy.limits.clients_max, 64);
        assert_eq!(settings.control.failover.lag_bytes_max, Some(10_000_000));
        assert_eq!(&*settings.proxy.service.user, "checker");
        let notes = imported.notes.join("\n");
        for said in ["failover_command is not needed", "use_watchdog", "relcache_size", "sr_check_password"] {
            assert!(notes.contains(said), "{said:?} is not in:\n{notes}");
        }
        // The report goes to a terminal, and from there into tickets.
        assert!(!notes.contains("hush"), "{notes}");
    }
}
