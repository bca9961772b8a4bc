//! The prepared data directory that test clusters are copies of: roles and database are in it already.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use primacy::postgres::{Cluster, ClusterSpec, Durability, Installation, Search, Step};

use super::ports::{PortLease, shared_dir};
use super::wait::LIMIT;

/// Finds PostgreSQL: `PRIMACY_TEST_PG_BIN` where it is set, so that a test run can be given another version.
pub(crate) async fn installation() -> Arc<Installation> {
    let given = std::env::var_os("PRIMACY_TEST_PG_BIN").map(PathBuf::from);
    let search = Search { given, path: std::env::var_os("PATH"), major: None };
    Arc::new(search.run().await.unwrap())
}

/// The settings of servers whose machine never crashes: a killed process loses nothing that it handed to the kernel.
pub(crate) fn test_settings() -> Vec<(String, String)> {
    let quick = [("fsync", "off"), ("shared_buffers", "32MB"), ("max_wal_size", "64MB")];
    quick.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The template for this version, made by the first test that needs it. Different `identity`, different cluster.
pub(crate) async fn data_dir(installation: &Arc<Installation>, identity: &str) -> PathBuf {
    let label: String = installation.version.text.chars().filter(char::is_ascii_alphanumeric).collect();
    let shared = shared_dir();
    let open =
        || OpenOptions::new().create(true).truncate(false).write(true).open(shared.join("template.lock"));
    // Waiting for the lock blocks, maybe for seconds, so it gets a thread of its own.
    let file = open().unwrap();
    let lock =
        tokio::task::spawn_blocking(|| Flock::lock(file, FlockArg::LockExclusive)).await.unwrap().unwrap();
    // Part of the name: a template made by an older harness is passed by.
    let dir = shared.join(format!("template-2-{label}-{identity}"));
    if !dir.join("cluster.primacy").exists() {
        build(installation, &dir).await;
    }
    drop(lock);
    dir.join("node0")
}

async fn build(installation: &Arc<Installation>, dir: &Path) {
    if dir.exists() {
        std::fs::remove_dir_all(dir).unwrap();
    }
    let port = PortLease::take();
    let spec = ClusterSpec {
        dir: dir.to_path_buf(),
        ports: vec![port.number()],
        durability: Durability::Async,
        sync: false,
        settings: test_settings(),
        // Small segments: a copy is a third of the size.
        init_args: vec!["--wal-segsize=1".into()],
    };
    let cluster = Cluster::describe(installation, &spec);
    cluster.open(&spec, &|step: &Step<'_>| eprintln!("template: {step}")).await.unwrap();
    cluster.stop(LIMIT).await.unwrap();
}
