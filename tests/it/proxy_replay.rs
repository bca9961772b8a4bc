//! Transactions that lose their server before COMMIT and are run again on the new primary (`replay = "verified"`).

use crate::harness::{Cluster, Proxy, Raw, frame};
use crate::proxy_failures::{SETUP, ready, runs};

async fn start(cluster: &Cluster) -> Proxy {
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().set("failover.replay", "verified").set("failover.replay_max_statements", 4);
    let proxy = proxy.run().await;
    ready(&proxy).await;
    proxy
}

/// How often these were written, on the primary.
async fn written(cluster: &Cluster, like: &str) -> Vec<String> {
    let sql = format!("SELECT v FROM t WHERE v LIKE '{like}%' ORDER BY v");
    let primary = cluster.primary().await;
    cluster.sql(primary, &sql).await.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_transaction_goes_on_on_the_new_primary_as_if_nothing_had_happened() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = start(&cluster).await;
    // One rests, with settings and a savepoint; one is in the middle of a statement; one uses prepared statements.
    let mut resting = Raw::connect(proxy.port(), &[]).await;
    resting
        .run(
            "Q BEGIN
             Q SET LOCAL application_name TO 'inside'
             Q INSERT INTO t VALUES ('rest 1') RETURNING v
             Q SAVEPOINT s",
        )
        .await;
    let mut running = Raw::connect(proxy.port(), &[]).await;
    running.run("Q BEGIN\nQ INSERT INTO t VALUES ('run 1')").await;
    running.send(&frame(b'Q', b"INSERT INTO t SELECT 'run 2' FROM pg_sleep(2) RETURNING v\0")).await;
    let mut client = proxy.client().await;
    let insert = client.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute(&insert, &[&"prepared 1"]).await.unwrap();
    let mut first = Raw::connect(proxy.port(), &[]).await;
    first.query("BEGIN").await;
    first.send(&frame(b'Q', b"INSERT INTO t SELECT 'first' FROM pg_sleep(2)\0")).await;
    runs(&cluster, 0..1, "run 2").await;
    runs(&cluster, 0..1, "first").await;
    cluster.kill(0).await;

    assert_eq!(running.until_ready().await, ["T 1", "D run 2", "C INSERT 0 1", "Z T"]);
    assert_eq!(running.query("COMMIT").await, ["C COMMIT", "Z I"]);
    assert_eq!(first.until_ready().await, ["C INSERT 0 1", "Z T"]);
    assert_eq!(first.query("COMMIT").await, ["C COMMIT", "Z I"]);
    assert_eq!(resting.query("SHOW application_name").await, ["T 1", "D inside", "C SHOW", "Z T"]);
    assert_eq!(resting.query("INSERT INTO t VALUES ('rest 1')").await.last().unwrap(), "Z E");
    assert_eq!(resting.query("ROLLBACK TO s").await, ["C ROLLBACK", "Z T"]);
    assert_eq!(resting.query("INSERT INTO t VALUES ('rest 2')").await, ["C INSERT 0 1", "Z T"]);
    assert_eq!(resting.query("COMMIT").await, ["C COMMIT", "Z I"]);
    assert_ne!(resting.query("SHOW application_name").await[1], "D inside");
    transaction.execute(&insert, &[&"prepared 2"]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(written(&cluster, "run").await, ["run 1", "run 2"]);
    assert_eq!(written(&cluster, "rest").await, ["rest 1", "rest 2"]);
    assert_eq!(written(&cluster, "prepared").await, ["prepared 1", "prepared 2"]);
    assert_eq!(written(&cluster, "first").await, ["first"]);
}

#[tokio::test]
async fn a_transaction_that_would_have_seen_something_else_is_lost() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = start(&cluster).await;
    let mut clients = Vec::new();
    for (what, script) in [
        ("another result", "Q BEGIN\nQ INSERT INTO t VALUES ('lost 1')\nQ SELECT pg_backend_pid()"),
        ("a cursor", "Q BEGIN\nQ INSERT INTO t VALUES ('lost 2')\nQ DECLARE c CURSOR FOR SELECT 1"),
        (
            "too long",
            "Q BEGIN\nQ INSERT INTO t VALUES ('lost 3')\nQ SELECT 1\nQ SELECT 2\nQ SELECT 3\nQ SELECT 4",
        ),
        ("a definition", "Q BEGIN\nQ INSERT INTO t VALUES ('lost 4')\nQ CREATE TABLE lost ()"),
    ] {
        let mut client = Raw::connect(proxy.port(), &[]).await;
        let seen = client.run(script).await;
        assert_eq!(seen.last().unwrap(), "Z T", "{what}: {seen:?}");
        clients.push((what, client));
    }
    cluster.kill(0).await;
    for (what, client) in &mut clients {
        let seen = client.query("SELECT 'next'").await;
        assert!(seen[0].starts_with("E 40001") && seen[1] == "Z E", "{what}: {seen:?}");
        assert_eq!(client.query("ROLLBACK").await, ["C ROLLBACK", "Z I"], "{what}");
        assert_eq!(
            client.query("INSERT INTO t VALUES (clock_timestamp()::text)").await,
            ["C INSERT 0 1", "Z I"]
        );
    }
    assert_eq!(written(&cluster, "lost").await, Vec::<String>::new());
    assert!(proxy.log().contains("it gave another result than before"), "{}", proxy.log());
}

/// Whether the commit reached a replica is open: its transaction must be there once all the same.
#[tokio::test]
async fn a_commit_in_flight_is_never_run_twice() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = start(&cluster).await;
    let mut clients = Vec::new();
    for number in 0..4 {
        let mut client = Raw::connect(proxy.port(), &[("application_name", "committing")]).await;
        client.run(&format!("Q BEGIN\nQ INSERT INTO t VALUES ('commit {number}')")).await;
        clients.push(client);
    }
    for node in [1, 2] {
        cluster.stop(node);
    }
    for client in &mut clients {
        client.send(&frame(b'Q', b"COMMIT\0")).await;
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE application_name = 'committing' AND wait_event = 'SyncRep'";
    crate::harness::eventually(crate::harness::LIMIT, "the commits wait", async || {
        (cluster.value(0, waiting).await == "4").then_some(())
    })
    .await;
    cluster.kill(0).await;
    for node in [1, 2] {
        cluster.cont(node);
    }
    for client in &mut clients {
        assert_eq!(client.until_ready().await, ["C COMMIT", "Z I"]);
    }
    assert_eq!(written(&cluster, "commit").await, ["commit 0", "commit 1", "commit 2", "commit 3"]);
}
