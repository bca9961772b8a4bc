//! Replication clients come to the primary through the proxy.

use crate::harness::{Cluster, LIMIT, Raw, eventually, frame, startup};

/// `pgoutput` begins an INSERT with this letter (manual, 55.9).
const INSERT: u8 = b'I';

/// Reads the stream until a change of this kind has come with this text in it.
async fn until_change(raw: &mut Raw, kind: u8, text: &str) {
    loop {
        let message = raw.message().await.expect("the stream ended");
        // XLogData: its letter, three numbers of eight bytes, the plugin's message.
        let is_change = message.tag == b'd' && message.body[0] == b'w' && message.body[25] == kind;
        if is_change && message.body.windows(text.len()).any(|at| at == text.as_bytes()) {
            return;
        }
    }
}

#[tokio::test]
async fn logical_replication_comes_from_the_primary_and_ends_with_it() {
    let cluster = Cluster::builder(2).setting("wal_level", "logical").run().await;
    cluster.sql(0, "CREATE TABLE t (v text); GRANT ALL ON t TO app; ALTER ROLE app REPLICATION; CREATE PUBLICATION p FOR TABLE t")
        .await;
    let proxy = cluster.proxy().run().await;
    let client = proxy.client().await;

    let mut raw =
        Raw::connect(proxy.port(), &[("replication", "database"), ("application_name", "subscriber")]).await;
    let seen = raw.query("IDENTIFY_SYSTEM").await;
    assert!(seen.iter().any(|shown| shown.starts_with("D ") && shown.contains("app")), "{seen:?}");
    let name = raw.parameters.iter().find(|(name, _)| name == "application_name");
    assert_eq!(name.map(|(_, value)| value.as_str()), Some("subscriber"));
    // Ordinary SQL works there too, and runs on the primary.
    assert_eq!(raw.query("SELECT pg_is_in_recovery()").await[1], "D f");
    let seen = raw.query("CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL pgoutput").await;
    assert!(seen.last().is_some_and(|shown| shown == "Z I"), "{seen:?}");
    let start = "START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1', publication_names 'p')\0";
    raw.send(&frame(b'Q', start.as_bytes())).await;
    let began = raw.message().await.unwrap();
    assert_eq!(began.tag, b'W', "CopyBothResponse, not {}", began.shown());

    // A row of a megabyte is more than is carried at once.
    client.batch_execute("INSERT INTO t VALUES ('first'), (repeat('x', 1000000) || 'large')").await.unwrap();
    until_change(&mut raw, INSERT, "first").await;
    until_change(&mut raw, INSERT, "large").await;

    cluster.kill_primary().await;
    let mut last = None;
    while let Some(message) = raw.message().await {
        last = Some(message);
    }
    if let Some(error) = last.filter(|message| message.tag == b'E') {
        assert_eq!(error.field(b'C'), "57P01", "{}", error.shown());
    }
    // To the new primary, as soon as there is one.
    let mut raw = Raw::connect(proxy.port(), &[("replication", "database")]).await;
    assert_eq!(raw.query("SELECT pg_is_in_recovery()").await[1], "D f");
    client.batch_execute("INSERT INTO t VALUES ('second')").await.unwrap();
}

#[tokio::test]
async fn replication_connections_are_refused_as_the_server_refuses_them_and_drained() {
    let cluster = Cluster::with_replicas(1).await;
    let mut proxy = cluster.proxy().run().await;
    let refused = |port| async move {
        let mut raw = Raw::dial(port).await;
        raw.send(&startup(&[("user", "app"), ("database", "app"), ("replication", "database")])).await;
        raw.sign_in("app").await.expect_err("a role without REPLICATION is let in")
    };
    let (direct, through) = (refused(cluster.node(0).port()).await, refused(proxy.port()).await);
    assert_eq!(through.shown(), direct.shown());

    cluster.sql(0, "ALTER ROLE app REPLICATION").await;
    let mut physical = Raw::connect(proxy.port(), &[("replication", "true")]).await;
    assert!(physical.query("IDENTIFY_SYSTEM").await.iter().any(|shown| shown.starts_with("D ")));
    let pinned = "primacy_pins_total{cause=\"replication\"} 1";
    eventually(LIMIT, "the pin is counted", async || proxy.metrics().await.contains(pinned).then_some(()))
        .await;
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    let error = physical.message().await.expect("closed without a word");
    assert_eq!((error.tag, error.field(b'C').as_str()), (b'E', "57P01"), "{}", error.shown());
    assert!(proxy.ended().await.success());
}
