//! The program as its users run it: a configuration, a signal, a line of complaint.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Cluster, LIMIT, eventually};

#[tokio::test]
async fn it_serves_reads_and_writes_and_drains_when_told_to_stop() {
    let cluster = Cluster::with_replicas(1).await;
    let mut proxy = cluster.proxy().run().await;
    let client = proxy.client().await;
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await.unwrap();
    assert_eq!(client.query_one("SELECT n FROM kept", &[]).await.unwrap().get::<_, i32>(0), 1);
    assert_eq!(cluster.value(0, "SELECT n FROM kept").await, "1");
    assert!(proxy.terminate().await.success(), "{}", proxy.log());
    proxy.restart().await;
    assert_eq!(proxy.client().await.query_one("SELECT n FROM kept", &[]).await.unwrap().get::<_, i32>(0), 1);
}

#[tokio::test]
async fn clients_stay_when_the_primary_is_killed() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = cluster.proxy().run().await;
    let client = proxy.client().await;
    client.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    cluster.kill_primary().await;
    let written = eventually(LIMIT, "a write is acknowledged", async || {
        let write = client.execute("INSERT INTO kept VALUES (1)", &[]);
        tokio::time::timeout(Duration::from_secs(20), write).await.ok()?.ok()
    });
    assert_eq!(written.await, 1);
    let new = cluster.primary().await;
    assert_ne!(new, 0);
    assert_ne!(cluster.value(new, "SELECT count(*) FROM kept").await, "0");
}

#[tokio::test]
async fn a_mistake_in_the_configuration_is_said_and_ends_it() {
    let cluster = Cluster::builder(0).asynchronous().run().await;
    let mut proxy = cluster.proxy().set("routing.consistancy", "strict").start();
    let status = proxy.ended().await;
    assert_eq!(status.code(), Some(1));
    let log = proxy.log();
    assert!(log.contains("consistancy") && log.contains("consistency"), "{log}");
}

#[tokio::test]
async fn a_reload_keeps_clients_and_takes_the_new_level() {
    let cluster = Cluster::builder(0).asynchronous().run().await;
    let proxy = cluster.proxy().run().await;
    let client = proxy.client().await;
    proxy.signal(Signal::SIGHUP);
    eventually(LIMIT, "it says that it reloaded", async || proxy.log().contains("reloaded").then_some(()))
        .await;
    client.batch_execute("SELECT 1").await.unwrap();
}
