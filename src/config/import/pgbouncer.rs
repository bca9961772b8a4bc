//! `pgbouncer.ini`: sections, `key = value`, and databases as connection strings.

use super::{Draft, Imported, key_and_value};

/// What is meant by PgBouncer's words where nothing is said: its defaults that differ from primacy's.
const POOL_MODE_DEFAULT: &str = "session";

/// Keys whose number is taken over under another name or the same one.
const NUMBERS: &[(&str, &str)] = &[
    ("max_client_conn", "limits.max_client_conn"),
    ("default_pool_size", "pool.default_pool_size"),
    ("min_pool_size", "pool.min_pool_size"),
    ("max_prepared_statements", "limits.max_prepared_statements"),
    ("max_user_client_connections", "limits.max_clients_per_user"),
    ("max_db_client_connections", "limits.max_clients_per_database"),
];

/// Keys whose list of names is.
const LISTS: &[(&str, &str)] =
    &[("admin_users", "console.admin_users"), ("stats_users", "console.stats_users")];

/// Keys whose seconds are.
const SECONDS: &[(&str, &str)] = &[
    ("query_wait_timeout", "pool.query_wait_timeout"),
    ("server_idle_timeout", "pool.server_idle_timeout"),
    ("server_lifetime", "pool.server_lifetime"),
    ("server_connect_timeout", "pool.server_connect_timeout"),
    ("client_login_timeout", "limits.client_login_timeout"),
    ("client_idle_timeout", "limits.client_idle_timeout"),
    ("idle_transaction_timeout", "limits.idle_transaction_timeout"),
];

/// Keys whose text is.
const TEXTS: &[(&str, &str)] = &[
    ("unix_socket_dir", "unix_socket_dir"),
    ("auth_query", "auth.query"),
    ("auth_file", "auth.users_file"),
    ("auth_user", "service.user"),
    ("auth_hba_file", "auth.hba_file"),
    ("auth_ident_file", "auth.ident_file"),
    ("client_tls_key_file", "tls.key_file"),
    ("client_tls_cert_file", "tls.cert_file"),
    ("client_tls_ca_file", "tls.ca_file"),
];

/// Keys that need no counterpart, and why.
const NEEDLESS: &[(&str, &str)] = &[
    ("logfile", "primacy writes its log to stderr, for systemd or the container's engine to keep"),
    ("pidfile", "systemd knows the process; an upgrade does not need the file"),
    ("server_reset_query", "what a session leaves behind is tracked and undone, or its connection is closed"),
    (
        "server_reset_query_always",
        "what a session leaves behind is tracked and undone, or its connection is closed",
    ),
    ("server_check_query", "a connection that breaks is noticed when it breaks"),
    ("server_check_delay", "a connection that breaks is noticed when it breaks"),
    (
        "ignore_startup_parameters",
        "startup parameters follow the session to whichever server connection serves it",
    ),
    ("track_extra_parameters", "every setting of a session follows it"),
    ("so_reuseport", "one process has a thread per `workers`"),
    ("user", "run primacy as an ordinary user; config/primacy.service does"),
];

/// Keys of each server, which primacy has in `[[nodes]]`.
const OF_SERVERS: &[(&str, &str)] = &[
    ("server_tls_sslmode", "sslmode"),
    ("server_tls_ca_file", "sslrootcert"),
    ("server_tls_cert_file", "sslcert"),
    ("server_tls_key_file", "sslkey"),
];

/// How PgBouncer's own process runs: told in one line.
const OF_THE_PROCESS: &[&str] = &[
    "application_name_add_host",
    "autodb_idle_timeout",
    "disable_pqexec",
    "dns_max_ttl",
    "dns_nxdomain_ttl",
    "dns_zone_check_period",
    "job_name",
    "listen_backlog",
    "log_connections",
    "log_disconnections",
    "log_pooler_errors",
    "log_stats",
    "max_packet_size",
    "pkt_buf",
    "resolv_conf",
    "sbuf_loopcnt",
    "server_fast_close",
    "server_login_retry",
    "server_round_robin",
    "service_name",
    "stats_period",
    "suspend_timeout",
    "syslog",
    "syslog_facility",
    "syslog_ident",
    "tcp_defer_accept",
    "tcp_keepalive",
    "tcp_keepcnt",
    "tcp_keepidle",
    "tcp_keepintvl",
    "tcp_socket_buffer",
    "tcp_user_timeout",
];

/// Limits that are off where they are 0.
const OFF_AT_ZERO: &[&str] = &[
    "max_db_connections",
    "max_user_connections",
    "query_timeout",
    "reserve_pool_size",
    "transaction_timeout",
    "verbose",
];

/// Converts.
pub fn from_pgbouncer(text: &str) -> Imported {
    let mut draft = Draft::default();
    let (mut section, mut general) = (String::new(), Vec::new());
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_ascii_lowercase();
        } else if let Some(file) = line.strip_prefix("%include") {
            draft.note(format!("%include{file}: import that file too, and put the two together"));
        } else if let Some((key, value)) = key_and_value(line) {
            match section.as_str() {
                "databases" => database(&mut draft, key, value),
                "pgbouncer" => general.push((key.to_ascii_lowercase(), value.to_owned())),
                "users" => draft.note(format!("[users] {key}: limits per role have no counterpart here yet")),
                _ => {
                    draft.note(format!("[{section}] {key}: not a section of PgBouncer's that is known here"));
                }
            }
        }
    }
    listen(&mut draft, &general);
    if !general.iter().any(|(key, _)| key == "pool_mode") {
        general.push(("pool_mode".to_owned(), POOL_MODE_DEFAULT.to_owned()));
        draft.note(
            "pool_mode was not set, which means \"session\" to PgBouncer; \"transaction\" is primacy's default, and safe: \
             what ties a session to its connection is tracked",
        );
    }
    for (key, value) in general.iter().filter(|(_, value)| !value.is_empty()) {
        setting(&mut draft, key, value);
    }
    let of_the_process: Vec<&str> =
        general.iter().map(|(key, _)| key.as_str()).filter(|key| OF_THE_PROCESS.contains(key)).collect();
    if !of_the_process.is_empty() {
        let keys = of_the_process.join(", ");
        draft.note(format!("left out, with nothing to be done for them: {keys}"));
    }
    // PgBouncer looks at its file of rules only then.
    if !general.iter().any(|(key, value)| key == "auth_type" && value == "hba") {
        draft.unset("auth", &["hba_file", "ident_file"]);
    }
    draft.finish("pgbouncer.ini")
}

fn listen(draft: &mut Draft, general: &[(String, String)]) {
    let of =
        |wanted: &str| general.iter().rev().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
    let port = of("listen_port").unwrap_or("6432");
    let addresses: Vec<String> = of("listen_addr")
        .unwrap_or("127.0.0.1")
        .split(',')
        .map(|address| match address.trim() {
            "*" | "0.0.0.0" => format!("0.0.0.0:{port}"),
            "localhost" => format!("127.0.0.1:{port}"),
            address if address.contains(':') => format!("[{address}]:{port}"),
            address => format!("{address}:{port}"),
        })
        .collect();
    draft.set("listen", addresses);
}

/// One line of `[databases]`: its servers become nodes.
fn database(draft: &mut Draft, name: &str, conninfo: &str) {
    let (mut hosts, mut port) = ("/var/run/postgresql".to_owned(), 5432);
    for (key, value) in pairs(conninfo) {
        match key.as_str() {
            "host" => hosts = value,
            "port" => port = value.parse().unwrap_or(5432),
            "dbname" if value == name || name == "*" => {}
            "dbname" => draft.note(format!(
                "database {name} is {value} on the server: clients have to ask for {value}, names are not changed on the way"
            )),
            "user" | "password" => draft.note(format!(
                "database {name} signs everybody in as one role ({key}): here every client is its own role on the servers too"
            )),
            "pool_mode" | "pool_size" | "min_pool_size" | "reserve_pool_size" | "max_db_connections" => draft.note(
                format!("database {name}: {key} = {value} is for this database alone; here one value counts for all"),
            ),
            "client_encoding" | "datestyle" | "timezone" => draft.note(format!(
                "database {name}: {key}: ALTER DATABASE {name} SET {key} = '{value}' does the same"
            )),
            _ => draft.note(format!("database {name}: {key} has no counterpart")),
        }
    }
    for host in hosts.split(',') {
        draft.node(host.trim(), port);
    }
}

/// `key=value` pairs; a value may stand in quotes, doubled within.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, left) = if let Some(quoted) = after.strip_prefix('\'') {
            unquote(quoted)
        } else {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        };
        pairs.push((key.trim().to_ascii_lowercase(), value));
        rest = left.trim_start();
    }
    pairs
}

fn unquote(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = quoted.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != '\'' {
            value.push(letter);
        } else if letters.next_if(|(_, next)| *next == '\'').is_some() {
            value.push('\'');
        } else {
            return (value, &quoted[at + 1..]);
        }
    }
    (value, "")
}

fn setting(draft: &mut Draft, key: &str, value: &str) {
    let find = |table: &'static [(&'static str, &'static str)]| {
        table.iter().find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours)
    };
    if let Some(ours) = find(NUMBERS) {
        return draft.number(ours, key, value);
    }
    if let Some(ours) = find(SECONDS) {
        return draft.seconds(ours, key, value);
    }
    if let Some(ours) = find(TEXTS) {
        return draft.set(ours, value);
    }
    if let Some(ours) = find(LISTS) {
        let names: Vec<&str> = value.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        return draft.set(ours, names);
    }
    if let Some(ours) = find(OF_SERVERS) {
        return draft.nodes.iter_mut().for_each(|node| {
            node.insert(ours.to_owned(), value.into());
        });
    }
    if OF_THE_PROCESS.contains(&key) || (OFF_AT_ZERO.contains(&key) && value == "0") {
        return;
    }
    if let Some(why) = find(NEEDLESS) {
        return draft.note(format!("{key} is not needed: {why}"));
    }
    match (key, value) {
        ("pool_mode", "statement") => {
            draft.set("pool_mode", "transaction");
            draft.note("pool_mode = statement became \"transaction\": transactions of several statements are allowed here");
        }
        ("pool_mode", mode) => draft.set("pool_mode", mode),
        ("listen_addr" | "listen_port", _) | ("auth_type", "scram-sha-256" | "md5" | "hba") => {}
        ("auth_type", other) => draft.note(format!(
            "auth_type = {other}: clients sign in by what the servers keep of their password (SCRAM or md5)"
        )),
        ("client_tls_sslmode", mode) => draft.set("tls.sslmode", mode),
        ("verbose", level) if level != "0" => draft.set("log.level", "debug"),
        ("query_timeout", _) => {
            draft.note(format!("{key} = {value}: ALTER ROLE ... SET statement_timeout does the same"));
        }
        _ => draft.without_counterpart(key, value),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    const USUAL: &str = "\
;; a usual file
[databases]
app = host=db1,db2 port=5433 dbname=app
old = host=db1 port=5433 dbname='it''s' user=one pool_size=5
[pgbouncer]
listen_addr = *
listen_port = 6000
auth_type = md5
pool_mode = transaction
max_client_conn = 500
default_pool_size = 25
server_idle_timeout = 90
query_wait_timeout = 0.5
server_tls_sslmode = require
admin_users = ann, bob
stats_users =
server_tls_cert_file = /c.pem
server_tls_key_file = /c.key
max_user_client_connections = 7
max_db_connections = 0
query_timeout = 30
auth_hba_file = /unused
unix_socket_group =
reserve_pool_size = 5
tcp_keepalive = 1
dns_max_ttl = 15
";

    #[test]
    fn a_usual_file_becomes_a_valid_configuration_and_what_is_lost_is_said() {
        let imported = from_pgbouncer(USUAL);
        // The files that it names are not here.
        let there = |line: &&str| !line.starts_with("sslcert") && !line.starts_with("sslkey");
        let text: Vec<&str> = imported.toml.lines().filter(there).collect();
        let text = text.join("\n").replace("password_env", "password");
        let settings =
            config::parse(&text, Path::new("primacy.toml")).unwrap_or_else(|problems| panic!("{problems}"));
        let nodes: Vec<String> = settings.proxy.nodes.iter().map(|node| node.address.to_string()).collect();
        assert_eq!(nodes, ["db1:5433", "db2:5433"]);
        assert_eq!(settings.proxy.listen[0].to_string(), "0.0.0.0:6000");
        assert_eq!(settings.proxy.limits.clients_max, 500);
        assert_eq!(settings.proxy.pool.size_max, 25);
        assert_eq!(settings.proxy.pool.wait_max.as_millis(), 500);
        assert_eq!(settings.proxy.pool.idle_timeout.as_secs(), 90);
        let notes = imported.notes.join("\n");
        for said in [
            "database old is it's",
            "signs everybody in",
            "pool_size = 5",
            "query_timeout = 30",
            "reserve_pool_size = 5",
            "left out, with nothing to be done for them: tcp_keepalive, dns_max_ttl",
            "service.user",
        ] {
            assert!(notes.contains(said), "{said:?} is not in:\n{notes}");
        }
        assert_eq!(imported.notes.len(), 7, "{notes}");
        let has = |line: &str| imported.toml.lines().any(|one| one == line);
        for line in [
            "admin_users = [\"ann\", \"bob\"]",
            "max_clients_per_user = 7",
            "sslcert = \"/c.pem\"",
            "sslkey = \"/c.key\"",
        ] {
            assert!(has(line), "{line} is not in:\n{}", imported.toml);
        }
        assert!(!imported.toml.contains("hba_file"), "{}", imported.toml);
    }

    #[test]
    fn a_file_of_rules_is_taken_over_where_it_decides() {
        let imported = from_pgbouncer("[pgbouncer]\nauth_type = hba\nauth_hba_file = /etc/hba\n");
        assert!(imported.toml.contains("hba_file = \"/etc/hba\""), "{}", imported.toml);
    }

    #[test]
    fn an_empty_file_says_what_is_missing() {
        let imported = from_pgbouncer("");
        assert!(imported.notes.iter().any(|note| note.contains("no server is named")));
        assert!(imported.toml.contains("pool_mode = \"session\""), "{}", imported.toml);
    }
}
