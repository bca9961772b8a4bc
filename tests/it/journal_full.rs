//! The journal on a file system that has no room left: a small tmpfs, where the test may mount one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Cluster, LIMIT, Proxy, eventually};

/// A file system of a few pages, unmounted with the test.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    /// `None`, and a word about it, where it may not be mounted.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { dir });
        }
        eprintln!("SKIPPED: no tmpfs can be mounted by this account");
        None
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Not a byte more goes into it.
    fn fill(&self) {
        let error = std::fs::write(self.filler(), vec![b'x'; 128 * 1024]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.dir.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Waits until the status says what is wrong.
async fn told(cluster: &Cluster, proxy: &Proxy) {
    eventually(LIMIT, "people are told", async || {
        let status = proxy.program(cluster, &["status"]).await.ok()?;
        (status.contains("journal") && status.contains("No space left on device")).then_some(())
    })
    .await;
}

fn complaints(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains("journal") && line.contains("No space left on device"))
}

#[tokio::test]
async fn a_full_disk_holds_up_nothing_but_a_change_of_primary() {
    let Some(small) = Small::mount() else { return };
    let cluster = Cluster::with_replicas(2).await;
    let state: &Path = small.dir.path();
    let proxy = cluster.proxy().set("state_dir", state.to_str().unwrap()).run().await;
    let client = proxy.client().await;
    client.batch_execute("CREATE TABLE t (v text)").await.unwrap();
    small.fill();

    client.batch_execute("INSERT INTO t VALUES ('while it is full')").await.unwrap();
    // A pause is in force at once, and people are told that it would not survive a restart.
    proxy.program(&cluster, &["pause"]).await.unwrap();
    told(&cluster, &proxy).await;
    proxy.program(&cluster, &["resume"]).await.unwrap();

    cluster.kill(0).await;
    eventually(LIMIT, "the primary is missed", async || {
        let status = proxy.program(&cluster, &["status"]).await.ok()?;
        (!status.contains("open")).then_some(())
    })
    .await;
    told(&cluster, &proxy).await;
    for replica in [1, 2] {
        assert_eq!(cluster.value(replica, "SELECT pg_is_in_recovery()").await, "t");
    }
    // Reads go on, and a write waits for the change.
    let reader = proxy.client().await;
    reader.simple_query("/* primacy: replica */ SELECT count(*) FROM t").await.unwrap();
    let log = proxy.log();
    // One line for the pause and one for the change, in the alarm's words; and trying again is not what fills the log.
    let alarms = complaints(&log).filter(|line| line.contains(" WARN the journal cannot be written: "));
    let alarms: Vec<_> = alarms.collect();
    assert!((1..=3).contains(&alarms.len()), "{alarms:#?}");
    assert!(complaints(&log).count() < 40, "{log}");
    std::fs::remove_file(small.filler()).unwrap();
    eventually(LIMIT, "a write is taken", async || {
        proxy.client().await.batch_execute("INSERT INTO t VALUES ('after')").await.ok()
    })
    .await;
    let seen = client.query_one("/* primacy: primary */ SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(seen.get::<_, i64>(0), 2);
}
