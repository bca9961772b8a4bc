//! The journal on a file system that has no room left: a small tmpfs, where the test may mount one.

use crate::harness::{Cluster, LIMIT, Proxy, SmallDisk, eventually};

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
    let cluster = Cluster::with_replicas(2).await;
    let state = cluster.dir().join("state");
    let Some(small) = SmallDisk::mount(&state, 64) else { return };
    let proxy = cluster.proxy().set("state_dir", state.to_str().unwrap()).run().await;
    let client = proxy.client().await;
    client.batch_execute("CREATE TABLE t (v text)").await.unwrap();
    small.fill();

    client.batch_execute("INSERT INTO t VALUES ('while it is full')").await.unwrap();
    // A pause is in force at once, and whoever asked is told that it would not survive a restart.
    let not_kept = async |verb: &str, done: &str| {
        let said = proxy.program(&cluster, &[verb]).await.unwrap_err();
        assert!(said.contains(done) && said.contains("a restart of primacy would forget it"), "{said}");
        assert!(said.contains("No space left on device"), "{said}");
    };
    not_kept("pause", "automatic failover is paused now").await;
    told(&cluster, &proxy).await;
    not_kept("resume", "automatic failover is on now").await;

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
    small.clear();
    eventually(LIMIT, "a write is taken", async || {
        proxy.client().await.batch_execute("INSERT INTO t VALUES ('after')").await.ok()
    })
    .await;
    let seen = client.query_one("/* primacy: primary */ SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(seen.get::<_, i64>(0), 2);
}
