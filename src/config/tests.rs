use std::time::Duration;

use super::*;
use crate::model::Address;
use crate::proxy::settings::{Auth, PoolMode, ServerTlsMode};
use crate::route::Consistency;

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
                [tls]\nsslmode = 'require'\n[log]\nlevel = 'loud'\n";
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
    assert_eq!(keys, ["listen", "nodes[0].address", "service.password"]);
    assert!(!format!("{reload:?}").contains("other"), "{reload:?}");
    assert_eq!(diff(&old, &old), Reload::default());
}
