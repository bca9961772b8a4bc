//! The documents hold: every command in `docs/` that is marked `sh` is run as it stands, one after the other, before a real
//! cluster; every file, key of the configuration and metric that they name exists.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::harness::{Cluster, LIMIT, Proxy};

fn documents() -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    files.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

/// The commands of a document: what follows `$ ` in blocks that are marked `sh`.
fn commands(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(mark) = line.strip_prefix("```") {
            inside = !inside && mark == "sh";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            found.push(command);
        }
    }
    found
}

/// Runs one command in the proxy's directory, with what a reader has at hand.
async fn run(command: &str, cluster: &Cluster, proxy: &Proxy) -> Result<(), String> {
    let programs = Path::new(env!("CARGO_BIN_EXE_primacy")).parent().unwrap();
    let path = format!("{}:{}:/usr/bin:/bin", programs.display(), cluster.bin_dir().display());
    let port = proxy.port().to_string();
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", command]).current_dir(proxy.dir()).env_clear().env("PATH", path);
    shell.env("HOME", cluster.dir()).env("PRIMACY_ADMIN", proxy.admin());
    shell.envs([
        ("PGHOST", "127.0.0.1"),
        ("PGUSER", "postgres"),
        ("PGPASSWORD", "postgres"),
        ("PGDATABASE", "app"),
    ]);
    let run = shell.env("PGPORT", port).stdin(Stdio::null()).kill_on_drop(true).output();
    let ended =
        tokio::time::timeout(LIMIT, run).await.map_err(|_late| "it does not end".to_owned())?.unwrap();
    if ended.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr)))
}

#[tokio::test]
async fn every_command_in_the_documents_works() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = cluster.proxy().run().await;
    let bouncer = "[databases]\napp = host=db1 port=5432\n[pgbouncer]\npool_mode = transaction\n";
    std::fs::write(proxy.dir().join("pgbouncer.ini"), bouncer).unwrap();
    std::fs::write(proxy.dir().join("pgpool.conf"), "backend_hostname0 = 'db1'\nport = 9999\n").unwrap();
    let mut count = 0;
    for (file, text) in documents() {
        for command in commands(&text) {
            count += 1;
            if let Err(complaint) = run(command, &cluster, &proxy).await {
                panic!("{}: $ {command}\n{complaint}", file.display());
            }
        }
    }
    assert!(count > 15, "only {count} commands were found");
    let metrics = proxy.metrics().await;
    for (file, text) in documents() {
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        for name in words.filter(|word| word.starts_with("primacy_")) {
            assert!(metrics.contains(name), "{} names {name}, which /metrics does not show", file.display());
        }
    }
}

#[test]
fn what_the_documents_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = std::fs::read_to_string(root.join("config/primacy.toml")).unwrap();
    for (file, text) in documents() {
        let file = file.display();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            assert!(path.is_empty() || root.join("docs").join(path).exists(), "{file} links to {link}");
        }
        for code in text.split('`').skip(1).step_by(2) {
            let key = code.split(" = ").next().unwrap();
            let Some((table, key)) = key.split_once('.') else { continue };
            let is_table =
                ["pool", "limits", "routing", "failover", "admin", "service", "auth", "tls"].contains(&table);
            if is_table && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                let written =
                    reference.lines().any(|line| line.trim_start_matches(['#', ' ']).starts_with(key));
                assert!(written, "{file} names the key {table}.{key}, which config/primacy.toml does not");
            }
        }
    }
}

/// Asking what there is must not cost a build: there is no cargo where it is asked.
#[test]
fn the_benchmark_tells_its_options_without_being_built() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut help = std::process::Command::new(root.join("scripts/bench"));
    let told = help
        .arg("--help")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let source = std::fs::read_to_string(root.join("benches/proxies/arguments.rs")).unwrap();
    let shown = source
        .split("impl Arguments")
        .next()
        .unwrap()
        .split("#[arg(")
        .skip(1)
        .filter(|one| !one.contains("hide"));
    let options: Vec<String> = shown
        .map(|one| one.split("pub(crate) ").nth(1).unwrap().split(':').next().unwrap().replace('_', "-"))
        .collect();
    assert!(options.len() >= 15, "{options:?}");
    for option in options {
        assert!(
            told.lines().any(|line| line.trim_start().split(' ').next() == Some(&format!("--{option}"))),
            "{told}"
        );
    }
}
