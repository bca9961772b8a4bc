//! What a primary says after the first sign that it has died is kept back until it is seen alive. A session that waits for
//! the quorum gives its commit up when the postmaster dies, and others that finish a message show it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Cluster, LIMIT, Raw, eventually, frame};
use crate::proxy_failures::{SETUP, ready};

/// Reads, whose second statement begins when the first has counted for a second or more.
const SLOW_READ: &str =
    "SELECT count(*) FROM generate_series(1, 20000000); SELECT count(*) FROM t WHERE v = 'given up'";

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.parse().unwrap())
}

#[tokio::test]
async fn a_commit_that_was_given_up_is_not_shown() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().set("routing.splitting", false).run().await;
    ready(&proxy).await;
    let mut reader = Raw::connect(proxy.port(), &[]).await;
    reader.query("SELECT count(*) FROM t").await;

    // No replica gets any more, and so nobody can take over either.
    let mut receivers = Vec::new();
    for replica in [1, 2] {
        let receiver = cluster.value(replica, "SELECT pid FROM pg_stat_wal_receiver").await;
        kill(pid(&receiver), Signal::SIGSTOP).unwrap();
        receivers.push(pid(&receiver));
    }
    let writer = cluster.client(0).await;
    writer.batch_execute("SET synchronous_commit = on").await.unwrap();
    let given_up =
        tokio::spawn(async move { writer.batch_execute("INSERT INTO t VALUES ('given up')").await });
    eventually(LIMIT, "it waits for the quorum", async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        (cluster.value(0, waits).await == "1").then_some(())
    })
    .await;

    reader.send(&frame(b'Q', format!("{SLOW_READ}\0").as_bytes())).await;
    let orphan = eventually(LIMIT, "it counts", async || {
        let counts = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%20000000%' AND state = 'active' \
                      AND pid <> pg_backend_pid()";
        cluster.sql(0, counts).await.into_iter().flatten().next()
    })
    .await;
    kill(cluster.node(0).running().unwrap(), Signal::SIGKILL).unwrap();
    let ended = async || kill(pid(&orphan), None).is_err().then_some(());
    eventually(LIMIT, "the orphan has said all that it has to say", ended).await;
    for receiver in receivers {
        kill(receiver, Signal::SIGCONT).unwrap();
    }
    assert!(given_up.await.unwrap().is_err());

    let seen = reader.until_ready().await;
    assert_eq!(seen.last().map(String::as_str), Some("Z I"), "{seen:?}");
    assert!(!seen.contains(&"D 1".to_owned()), "it was shown what the new primary does not have: {seen:?}");
    let now = reader.query("SELECT count(*) FROM t WHERE v = 'given up'").await;
    assert!(now.contains(&"D 0".to_owned()), "{now:?}");
}

#[tokio::test]
async fn a_primary_that_lives_goes_on_when_the_monitor_has_seen_it() {
    let cluster = Cluster::with_replicas(1).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster
        .proxy()
        .set("routing.splitting", false)
        // Nobody judges the server while its postmaster stands still.
        .set("failover.detect_timeout", "60s")
        .run()
        .await;
    ready(&proxy).await;
    let mut reader = Raw::connect(proxy.port(), &[]).await;
    let mut other = Raw::connect(proxy.port(), &[]).await;
    other.run("Q BEGIN\nQ INSERT INTO t VALUES ('x')").await;
    reader.run("Q BEGIN\nQ SELECT count(*) FROM t").await;
    let theirs = "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' ORDER BY xact_start";
    let theirs: Vec<Pid> = cluster.sql(0, theirs).await.iter().map(|row| pid(&row[0])).collect();

    let postmaster = cluster.node(0).running().unwrap();
    kill(postmaster, Signal::SIGSTOP).unwrap();
    kill(theirs[0], Signal::SIGTERM).unwrap();
    let gone = other.query("SELECT 1").await;
    assert!(gone[0].starts_with("E 40001"), "{gone:?}");
    reader.send(&frame(b'Q', b"SELECT count(*) FROM t\0")).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), reader.message()).await;
    assert!(
        early.is_err(),
        "nobody knows yet whether it lives: {:?}",
        early.unwrap().map(|said| said.shown())
    );
    kill(postmaster, Signal::SIGCONT).unwrap();
    assert_eq!(reader.until_ready().await, ["T 1", "D 0", "C SELECT 1", "Z T"]);
    // On the connection that it had.
    assert_eq!(reader.query("COMMIT").await, ["C COMMIT", "Z I"]);
}

#[tokio::test]
async fn the_library_waits_for_the_monitor_too() {
    let cluster = Cluster::with_replicas(0).await;
    let url = format!("postgres://app:app@127.0.0.1:{}/app", cluster.node(0).port());
    let handle = primacy::Cluster::builder(&[url]).unwrap().watch_as("postgres", "postgres");
    let handle = handle.connect().await.unwrap();
    let read = "SELECT count(*) FROM pg_class";
    handle.query(read, &[]).await.unwrap();
    let postmaster = cluster.node(0).running().unwrap();
    let theirs = "SELECT pid FROM pg_stat_activity WHERE usename = 'postgres' AND backend_type = 'client backend' \
                  AND pid <> pg_backend_pid()";
    let theirs = cluster.sql(0, theirs).await;
    assert!(!theirs.is_empty(), "the monitor keeps a connection");
    kill(postmaster, Signal::SIGSTOP).unwrap();
    for row in &theirs {
        kill(pid(&row[0]), Signal::SIGTERM).unwrap();
    }
    eventually(LIMIT, "the monitor's connection is gone", async || {
        theirs.iter().all(|row| kill(pid(&row[0]), None).is_err() || is_dead(&row[0])).then_some(())
    })
    .await;
    let early = eventually(LIMIT, "the sign is seen", async || {
        let asked =
            tokio::time::timeout(std::time::Duration::from_millis(300), handle.query(read, &[])).await;
        asked.is_err().then_some(())
    });
    early.await;
    kill(postmaster, Signal::SIGCONT).unwrap();
    handle.query(read, &[]).await.unwrap();
}

/// Whether the process has ended and nobody has waited for it yet, as its frozen parent cannot.
fn is_dead(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
