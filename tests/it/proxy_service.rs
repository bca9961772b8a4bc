//! While there is no primary: reads go on, writes wait and are then refused, clients may come, and all goes on by itself.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually, frame};
use crate::proxy_failures::{SETUP, post, ready, status};

/// Waits until statements for the primary go out, or not.
async fn service(proxy: &Proxy, open: bool) {
    eventually(LIMIT, "the service is so", async || {
        let status = status(proxy).await?;
        ((status["service"] == "open") == open).then_some(())
    })
    .await;
}

const NO_PRIMARY: &str = "E 57P03 there is no primary to run this statement on";

/// What clients see of a cluster without a primary.
async fn without_primary(proxy: &Proxy, old: &mut Raw) {
    let mut new = Raw::connect(proxy.port(), &[]).await;
    for client in [old, &mut new] {
        assert_eq!(client.query("SELECT count(*) >= 0 FROM t").await, ["T 1", "D t", "C SELECT 1", "Z I"]);
        let since = Instant::now();
        client.send(&frame(b'Q', b"INSERT INTO t VALUES ('refused')\0")).await;
        let error = client.message().await.unwrap();
        assert_eq!(error.shown(), NO_PRIMARY);
        assert!(error.field(b'H').contains("try again"), "{}", error.field(b'H'));
        assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
        assert_eq!(client.until_ready().await, ["Z I"]);
    }
}

/// Writes, and learns where that stands: a session of which that is not known reads on no replica that may not have it.
async fn write_and_see(client: &mut Raw) {
    client.query("INSERT INTO t VALUES ('before')").await;
    assert_eq!(client.query("SHOW primacy.position").await.last().unwrap(), "Z I");
}

/// The first statement that goes through after what `deed` does.
async fn recovers(proxy: &Proxy, client: &mut Raw) {
    service(proxy, true).await;
    assert_eq!(client.query("INSERT INTO t VALUES (clock_timestamp()::text)").await, ["C INSERT 0 1", "Z I"]);
    assert_eq!(client.query("SELECT count(*) FROM t WHERE v = 'refused'").await[1], "D 0");
}

#[tokio::test]
async fn a_cluster_without_quorum_reads_and_writes_again_when_a_replica_returns() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    // A role whose verifier nobody has asked for yet.
    cluster.sql(0, "CREATE ROLE late LOGIN PASSWORD 'late'; GRANT ALL ON t TO late").await;
    let proxy = cluster.proxy().set("failover.hold_timeout", "1s").run().await;
    ready(&proxy).await;
    cluster.caught_up(1, 0).await;
    let mut client = Raw::connect(proxy.port(), &[]).await;
    write_and_see(&mut client).await;
    cluster.caught_up(1, 0).await;
    cluster.kill(2).await;
    cluster.kill(0).await;
    service(&proxy, false).await;
    without_primary(&proxy, &mut client).await;
    // It signs in by what a replica knows, and reads.
    let late = proxy.connect(&proxy.url("late", "app")).await.unwrap();
    // Time passes, and what is known of the catalog stays known.
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(5) {
        let row = late.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 1);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    cluster.start(2).await;
    recovers(&proxy, &mut client).await;
    late.execute("INSERT INTO t VALUES ('late')", &[]).await.unwrap();
}

#[tokio::test]
async fn a_paused_cluster_reads_and_writes_again_when_it_is_resumed() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().set("failover.hold_timeout", "1s").run().await;
    ready(&proxy).await;
    let mut client = Raw::connect(proxy.port(), &[]).await;
    write_and_see(&mut client).await;
    for node in 1..3 {
        cluster.caught_up(node, 0).await;
    }
    drop(post(&proxy, "pause").await.unwrap());
    cluster.kill(0).await;
    service(&proxy, false).await;
    without_primary(&proxy, &mut client).await;
    drop(post(&proxy, "resume").await.unwrap());
    recovers(&proxy, &mut client).await;
}

/// Nobody can say any more what others were told, and no replica may ever show it: who comes then reads what there is.
#[tokio::test]
async fn who_signs_in_without_a_primary_reads_what_there_is() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().set("failover.hold_timeout", "1s").run().await;
    ready(&proxy).await;
    for node in 1..3 {
        cluster.caught_up(node, 0).await;
        cluster.pause_replay(node).await;
    }
    let mut client = Raw::connect(proxy.port(), &[]).await;
    client.query("INSERT INTO t VALUES ('not replayed')").await;
    drop(post(&proxy, "pause").await.unwrap());
    cluster.kill(0).await;
    eventually(LIMIT, "there is no primary to be had", async || {
        (status(&proxy).await?["service"] == "read-only").then_some(())
    })
    .await;
    for _ in 0..3 {
        let mut new = Raw::connect(proxy.port(), &[]).await;
        for _ in 0..2 {
            assert_eq!(new.query("SELECT count(*) FROM t").await, ["T 1", "D 0", "C SELECT 1", "Z I"]);
        }
    }
    // Who was told itself is not shown less.
    client.send(&frame(b'Q', b"SELECT count(*) FROM t\0")).await;
    assert_eq!(client.message().await.unwrap().shown(), NO_PRIMARY);
}

/// Of those that wait, as many as may; they go out in the order in which they came, on no more connections than there may be.
#[tokio::test]
async fn statements_that_wait_are_bounded_and_go_out_when_there_is_a_primary() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    cluster
        .sql(0, "CREATE TABLE arrivals (id serial, v int); GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
        .await;
    cluster.sql(0, "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app").await;
    let proxy = cluster
        .proxy()
        .set("workers", 1)
        .set("pool.default_pool_size", 1)
        .set("failover.hold_timeout", "25s")
        .set("failover.max_held", 30)
        .set("failover.max_held_bytes", "8KiB");
    let proxy = proxy.run().await;
    ready(&proxy).await;
    drop(post(&proxy, "pause").await.unwrap());
    let mut clients = Vec::new();
    for _ in 0..31 {
        clients.push(Raw::connect(proxy.port(), &[]).await);
    }
    cluster.kill(0).await;
    service(&proxy, false).await;
    let mut last = clients.pop().unwrap();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&frame(b'Q', format!("INSERT INTO arrivals (v) VALUES ({number})\0").as_bytes())).await;
        let held = number + 1;
        eventually(LIMIT, "it waits", async || {
            let metrics = proxy.metrics().await;
            let waiting = metrics.lines().find(|line| line.starts_with("primacy_holds_waiting "))?;
            (waiting.ends_with(&format!(" {held}"))).then_some(())
        })
        .await;
    }
    let seen = last.query("INSERT INTO arrivals (v) VALUES (31)").await;
    assert!(seen[0].starts_with("E 53300 too many statements wait for a primary"), "{seen:?}");
    let seen = last.query("SELECT 1").await;
    assert_eq!(seen.last().unwrap(), "Z I", "reads do not wait");
    drop(post(&proxy, "resume").await.unwrap());
    for client in &mut clients {
        assert_eq!(client.until_ready().await, ["C INSERT 0 1", "Z I"]);
    }
    let primary = cluster.primary().await;
    let order = cluster.value(primary, "SELECT string_agg(v::text, ' ' ORDER BY id) FROM arrivals").await;
    let expected: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    assert_eq!(order, expected.join(" "));
}
