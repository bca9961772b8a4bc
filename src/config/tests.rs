//! Configuration as a whole: what is written, what is meant, what is wrong, and the example files.

use std::time::Duration;

use super::*;
use crate::model::Address;
use crate::proxy::settings::{Auth, PoolMode};
use crate::route::Consistency;
use crate::tls::ServerTlsMode;

fn text_settings(text: &str) -> Result<Settings, ConfigProblems> {
    parse(text, Path::new("test.toml"))
}

const SMALL: &str = "[[nodes]]\nurl = 'postgres://ha:secret@db1:5433/app'\n";

#[test]
fn one_node_is_enough_and_the_rest_has_defaults() {
    let settings = text_settings(SMALL).expect("valid");
    assert_eq!(settings.proxy.listen, ["127.0.0.1:6432".parse().expect("an address")]);
    assert_eq!(settings.proxy.pool_mode, PoolMode::Transaction);
    assert_eq!(&*settings.proxy.service.user, "ha");
    assert_eq!(settings.proxy.service.password.reveal(), "secret");
    assert_eq!(&*settings.proxy.service.database, "app");
    assert_eq!(&*settings.proxy.nodes[0].name, "db1");
    assert_eq!(settings.proxy.nodes[0].address, Address::Tcp { host: "db1".into(), port: 5433 });
    assert_eq!(settings.route, route::Settings::default());
    assert!(matches!(settings.proxy.auth, Auth::Query { .. }));
}

#[test]
fn the_same_without_a_file() {
    let urls: Vec<String> = [6441, 6442].map(|port| format!("postgres://ha:secret@127.0.0.1:{port}")).into();
    let settings = from_nodes(&urls).expect("valid");
    let names: Vec<&str> = settings.proxy.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(names, ["127.0.0.1:6441", "127.0.0.1:6442"]);
    assert_eq!(settings.origin, Origin::CommandLine);
}

#[test]
fn written_values_arrive() {
    let text = "listen = ['0.0.0.0:1', '[::1]:2']\npool_mode = 'session'\nworkers = 3\n\
                [[nodes]]\nname = 'a'\nhost = '/run/pg'\nport = 7\nsslmode = 'verify-full'\nweight = 0\npriority = 5\n\
                [service]\nuser = 'ha'\ndatabase = 'x'\n[auth]\ncache = '1min'\n\
                [pool]\ndefault_pool_size = 5\nquery_wait_timeout = '250ms'\n\
                [limits]\nmax_batch = '128KiB'\n[routing]\nconsistency = 'eventual'\nmax_lag = '5s'\n\
                [failover]\nhold_timeout = '3s'\n[admin]\nlisten = 'off'\n[log]\nlevel = 'debug'\nformat = 'json'\n";
    let settings = text_settings(text).expect("valid");
    assert_eq!(settings.proxy.listen.len(), 2);
    assert_eq!(settings.proxy.nodes[0].address, Address::Unix { dir: "/run/pg".into(), port: 7 });
    assert_eq!(settings.proxy.nodes[0].tls.mode, ServerTlsMode::VerifyFull);
    assert_eq!((settings.proxy.nodes[0].weight, settings.proxy.nodes[0].priority), (0, 5));
    assert_eq!(settings.proxy.pool.size_max, 5);
    assert_eq!(settings.proxy.pool.wait_max, Duration::from_millis(250));
    assert_eq!(settings.proxy.limits.batch_max, 128 * 1024);
    assert_eq!(settings.proxy.limits.hold_timeout, Duration::from_secs(3));
    assert_eq!(settings.route.consistency, Consistency::Eventual);
    assert_eq!(settings.admin.listen, None);
    assert_eq!(settings.observe.format, observe::LogFormat::Json);
}

#[test]
fn all_problems_come_together_in_the_order_of_the_file() {
    let text = "listen = '6432'\npool_mode = 'transactoin'\nworkers = 0\nwokers = 1\n\
                [[nodes]]\nname = 'a'\nurl = 'mysql://x'\n[[nodes]]\nname = 'b'\nhost = 'h'\n[[nodes]]\nname = 'b'\nhost = 'h'\n\
                [pool]\nserver_lifetime = 12\nmin_pool_size = 50\n[limits]\nmax_batch = '1GiB'\n\
                [tls]\nsslmode = 'require'\n[failover]\ndurability = 'quorom'\n[log]\nlevel = 'loud'\n";
    let problems = text_settings(text).expect_err("problems").problems;
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    for key in [
        "listen",
        "pool_mode",
        "workers",
        "wokers",
        "nodes[0].url",
        "nodes[2].name",
        "nodes[2]",
        "service.user",
        "pool.server_lifetime",
        "pool.min_pool_size",
        "limits.max_batch",
        "tls.cert_file",
        "tls.key_file",
        "failover.durability",
        "log.level",
    ] {
        assert!(keys.contains(&key), "{key} is missing in {keys:?}");
    }
    let places: Vec<_> = problems.iter().filter_map(|problem| problem.position).collect();
    assert!(places.is_sorted(), "{places:?}");
    let mode = problems.iter().find(|problem| problem.key == "pool_mode").expect("there");
    assert_eq!(
        mode.to_string(),
        "line 2, column 1: pool_mode: found \"transactoin\"; allowed: \"transaction\", \"session\" (did you mean \"transaction\"?)"
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_that_and_not_what_it_lacks() {
    let problems =
        parse("listen = \"127.0.0.1:6432\n[[nodes]]\n", Path::new("x.toml")).expect_err("not closed");
    let told: Vec<_> = problems.problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("line 1") && told[0].contains("this is not TOML"), "{told:?}");
}

#[test]
fn a_missing_file_says_what_to_do() {
    let problems = load(Path::new("/nonexistent/primacy.toml")).expect_err("no such file");
    assert!(problems.to_string().contains("--config"), "{problems}");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("pw"), "hush-hush\n").expect("written");
    let text = "[[nodes]]\nhost = 'h'\n[service]\nuser = 'u'\npassword_file = 'pw'\n";
    let settings = parse(text, &dir.path().join("primacy.toml")).expect("valid");
    assert_eq!(settings.proxy.service.password.reveal(), "hush-hush");
    assert!(settings.warnings.iter().any(|warning| warning.contains("chmod 600")), "{:?}", settings.warnings);
    assert!(!format!("{settings:?}{:?}", describe(&settings)).contains("hush-hush"));
}

#[test]
fn two_sources_of_one_secret_are_a_problem() {
    let text = "[[nodes]]\nhost = 'h'\n[service]\nuser = 'u'\npassword = 'x'\npassword_env = 'Y'\n";
    let problems = text_settings(text).expect_err("two sources").to_string();
    assert!(problems.contains("service.password"), "{problems}");
    let text = "[[nodes]]\nhost = 'h'\n[service]\nuser = 'u'\npassword_env = 'PRIMACY_TEST_VARIABLE_THAT_IS_NOT_SET'\n";
    let problems = text_settings(text).expect_err("not set").to_string();
    assert!(problems.contains("PRIMACY_TEST_VARIABLE_THAT_IS_NOT_SET is not set"), "{problems}");
}

#[test]
fn functions_are_named_as_the_catalog_names_them() {
    for (names, good) in [
        ("['total', 'app.total', 'größe']", true),
        ("'total'", true),
        ("['total(int)']", false),
        ("['a.b.c']", false),
        ("['total,other']", false),
        ("['']", false),
    ] {
        let settings = text_settings(&format!("{SMALL}[routing]\nread_functions = {names}\n"));
        assert_eq!(settings.is_ok(), good, "{names}");
    }
    let many = vec!["'a_rather_long_name_of_a_function'"; 1_000].join(", ");
    assert!(text_settings(&format!("{SMALL}[routing]\nread_functions = [{many}]\n")).is_err());
}

#[test]
fn a_reload_names_what_changes_now_and_what_waits() {
    let old = text_settings(SMALL).expect("valid");
    let new = text_settings(&format!("{SMALL}[pool]\ndefault_pool_size = 7\n[log]\nlevel = 'debug'\n"))
        .expect("valid");
    let reload = diff(&old, &new);
    let keys: Vec<&str> = reload.changed.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["log.level", "pool.default_pool_size"]);
    assert_eq!(reload.needs_restart, []);

    let elsewhere = SMALL.replace("secret", "other").replace("5433", "5434");
    let new = text_settings(&format!("listen = '127.0.0.1:7'\n{elsewhere}")).expect("valid");
    let reload = diff(&old, &new);
    let keys: Vec<&str> = reload.needs_restart.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["listen", "nodes.db1.address", "service.password"]);
    assert!(!format!("{reload:?}").contains("other"), "{reload:?}");
    assert_eq!(diff(&old, &old), Reload::default());
}

#[test]
fn nodes_that_stay_keep_their_places_and_what_waits_for_a_restart_stays() {
    let node =
        |name: &str, port: u16| format!("[[nodes]]\nname = '{name}'\nurl = 'postgres://ha@h:{port}/app'\n");
    let of = |nodes: &[(&str, u16)], head: &str| {
        let nodes: String = nodes.iter().map(|(name, port)| node(name, *port)).collect();
        text_settings(&format!("{head}{nodes}")).expect("valid")
    };
    let old = of(&[("a", 1), ("b", 2)], "");
    let new = of(&[("c", 3), ("b", 9)], "listen = '127.0.0.1:7'\n");
    let changed: Vec<String> = diff(&old, &new).changed.iter().map(ToString::to_string).collect();
    assert_eq!(changed, ["nodes.a.address: \"h:1\" -> \"\"", "nodes.c.address: \"\" -> \"h:3\""]);
    let waits: Vec<String> = diff(&old, &new).needs_restart.into_iter().map(|change| change.key).collect();
    assert_eq!(waits, ["listen", "nodes.b.address"]);

    let now = effective(&old, &new).expect("two nodes more");
    let seen: Vec<(&str, bool, String)> =
        now.control.nodes.iter().map(|node| (&*node.name, node.removed, node.address.to_string())).collect();
    assert_eq!(seen, [("a", true, "h:1".into()), ("b", false, "h:2".into()), ("c", false, "h:3".into())]);
    assert_eq!(now.proxy.listen, old.proxy.listen);
    assert_eq!(diff(&now, &now), Reload::default());
    let back = effective(&now, &of(&[("a", 5), ("b", 2)], "")).expect("as many");
    assert_eq!(back.control.nodes[0].address.to_string(), "h:5");
    assert!(!back.control.nodes[0].removed && back.control.nodes[2].removed);

    // Whatever waits is not in force, and not told as if it were.
    let small = text_settings(SMALL).expect("valid");
    let more =
        "[log]\notlp_endpoint = 'http://c'\notlp_share = 1\nformat = 'json'\n[admin]\nlisten = 'off'\n";
    let more = text_settings(&format!("{SMALL}{more}")).expect("valid");
    let waits = diff(&small, &more).needs_restart;
    let keys: Vec<&str> = waits.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["admin.listen", "log.format", "log.otlp_endpoint", "log.otlp_share"]);
    assert_eq!(diff(&small, &effective(&small, &more).expect("as many")), Reload::default());
}

#[test]
fn half_of_https_is_a_problem_and_the_whole_of_it_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["c", "k", "a"] {
        std::fs::write(dir.path().join(name), "").expect("written");
    }
    let settings = |lines: &str| parse(&format!("{SMALL}[admin]\n{lines}"), &dir.path().join("primacy.toml"));
    let problems = |lines: &str| -> Vec<String> {
        let found = settings(lines).expect_err("a mistake").problems;
        found.into_iter().map(|problem| problem.key).collect()
    };
    assert_eq!(problems("tls_cert_file = 'c'"), ["admin.tls_key_file"]);
    assert_eq!(
        problems("tls_cert_file = 'c'\ntls_key_file = 'k'\ntls_admins = ['x']"),
        ["admin.tls_ca_file"]
    );
    assert_eq!(problems("tls_cert_file = 'c'\ntls_key_file = 'k'\ntls_ca_file = 'a'"), ["admin.tls_admins"]);
    let lines =
        "listen = '*:1'\ntls_cert_file = 'c'\ntls_key_file = 'k'\ntls_ca_file = 'a'\ntls_admins = ['x']";
    let whole = settings(lines).expect("valid");
    let tls = whole.admin.tls.as_ref().expect("HTTPS");
    assert_eq!((tls.admins.as_slice(), tls.lookers.len()), (&["x".to_owned()][..], 0));
    assert!(tls.cert_file.starts_with(dir.path()));
    assert!(!whole.warnings.iter().any(|warning| warning.contains("admin.token")), "{:?}", whole.warnings);
    assert!(!settings(lines.split_once("tls_ca_file").expect("there").0).expect("valid").warnings.is_empty());
}

#[test]
fn what_differs_for_some_sessions_is_read_and_can_be_reloaded() {
    let entry =
        "[[routing.sessions]]\nuser = 'r'\nconsistency = 'strict'\nroute = 'replica'\ncausal_wait = '1s'\n";
    let (old, new) =
        (text_settings(SMALL).expect("valid"), text_settings(&format!("{SMALL}{entry}")).expect("valid"));
    let own = std::sync::Arc::new(new.route.clone()).for_session("r", "any");
    assert_eq!((own.consistency, own.hint), (Consistency::Strict, Some(crate::sql::Hint::Replica)));
    let reload = diff(&old, &new);
    assert_eq!(reload.changed[0].new, "user = r, consistency = strict, route = replica, causal_wait = 1s");
    assert_eq!(reload.needs_restart, []);
    let wrong = "[[routing.sessions]]\nconsistency = 'fresh'\n";
    let problems = text_settings(&format!("{SMALL}{wrong}")).expect_err("two mistakes").problems;
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["routing.sessions[0]", "routing.sessions[0].consistency"]);
}

fn example(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    std::fs::read_to_string(file).expect("the example is there")
}

#[test]
fn the_reference_and_the_minimal_example_are_valid() {
    for name in ["primacy.toml", "minimal.toml"] {
        let settings = text_settings(&example(name)).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        assert_eq!(settings.proxy.nodes.len(), 3, "{name}");
    }
}

#[test]
fn the_production_example_lacks_only_its_environment() {
    let problems = text_settings(&example("production.toml")).expect_err("no environment in a test").problems;
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        ["service.password_env", "replication.password_env", "admin.token_env"],
        "{problems:#?}"
    );
    // With the passwords in place of the variables nothing is left to complain about.
    let filled: String = example("production.toml")
        .lines()
        .map(|line| match line.split_once("_env = ") {
            Some((key, _)) => format!("{key} = \"a-secret-text\"\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let settings = text_settings(&filled).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(settings.proxy.pool.size_max, 40);
}

/// What serde says it would have expected in a table: the list of its keys.
fn keys_of(table: &str) -> Vec<String> {
    let text = match table {
        "" => "no_such_key = 1".to_owned(),
        "nodes" => "[[nodes]]\nno_such_key = 1".to_owned(),
        other => format!("[{other}]\nno_such_key = 1"),
    };
    let error = toml::from_str::<written::Document>(&text).expect_err("unknown key");
    let list = error.message().split_once("expected").expect("a list").1.to_owned();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_reference_mentions_every_key_in_its_table() {
    let reference = example("primacy.toml");
    let mut table = String::new();
    let mut mentioned = std::collections::BTreeSet::new();
    for line in reference.lines() {
        // A list of tables that is empty by default stands in comments.
        if let Some(name) = line.trim_start_matches("#   ").strip_prefix('[') {
            table = name.trim_matches(['[', ']']).to_owned();
            mentioned.insert(table.clone());
        } else if let Some((key, _)) = line.trim_start_matches("#   ").split_once(" = ") {
            let dot = if table.is_empty() { "" } else { "." };
            mentioned.insert(format!("{table}{dot}{key}"));
        }
    }
    let top = keys_of("");
    let tables: Vec<&String> = top
        .iter()
        .filter(|key| toml::from_str::<written::Document>(&format!("[{key}]")).is_ok() || *key == "nodes")
        .collect();
    assert!(tables.len() >= 10, "{tables:?}");
    let inner =
        tables.iter().flat_map(|table| keys_of(table).into_iter().map(move |key| format!("{table}.{key}")));
    let missing: Vec<String> =
        top.iter().cloned().chain(inner).filter(|key| !mentioned.contains(key)).collect();
    assert!(missing.is_empty(), "config/primacy.toml does not mention {missing:?}");
    // And the other way round: also what stands in comments is a key of its table.
    let known: Vec<String> = {
        let inner = tables
            .iter()
            .flat_map(|table| keys_of(table).into_iter().map(move |key| format!("{table}.{key}")));
        top.iter().cloned().chain(inner).collect()
    };
    let of_lists = ["hba.", "auth.maps.", "routing.sessions."];
    let strange: Vec<&String> = mentioned
        .iter()
        .filter(|key| !known.contains(key) && !of_lists.iter().any(|list| key.starts_with(list)))
        .collect();
    assert!(strange.is_empty(), "config/primacy.toml mentions {strange:?}, which no table has");
}

#[test]
fn the_reference_shows_the_defaults() {
    let shown = describe(&text_settings(&example("primacy.toml")).expect("valid"));
    let three =
        "[[nodes]]\nhost = 'a'\n[[nodes]]\nhost = 'b'\n[[nodes]]\nhost = 'c'\n[service]\nuser = 'u'\n";
    let defaults = describe(&text_settings(three).expect("valid"));
    for item in shown.iter().filter(|item| {
        let table = item.key.split('.').next().unwrap_or_default();
        ["auth", "pool", "limits", "tls", "routing", "failover", "log", "pool_mode", "listen"]
            .contains(&table)
    }) {
        // Written out there although nothing is the default.
        if ["failover.sync_replicas", "routing.sessions"].contains(&item.key.as_str()) {
            continue;
        }
        let default = defaults.iter().find(|default| default.key == item.key);
        assert_eq!(Some(&item.value), default.map(|default| &default.value), "{}", item.key);
    }
}

#[test]
fn the_reference_marks_what_a_reload_changes() {
    let reference = example("primacy.toml");
    let settings = text_settings(&reference).expect("valid");
    let (mut table, mut comment, mut keys_begun) = (String::new(), String::new(), false);
    for line in reference.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            // Keys that follow each other share the comment above them.
            if std::mem::take(&mut keys_begun) {
                comment.clear();
            }
            comment.push_str(text);
        } else if line.is_empty() {
            comment.clear();
        } else if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).to_owned();
            comment.clear();
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys_begun = true;
            let dot = if table.is_empty() { "" } else { "." };
            let key = format!("{table}{dot}{key}");
            if let Some(item) = describe(&settings).into_iter().find(|item| item.key == key) {
                assert_eq!(item.live, comment.contains("[reload]"), "{key}");
            }
        }
    }
}
