//! A switchover that is disturbed at its widest step returns to the old primary, or becomes the failover that is due.
//!
//! What widens it is a client that holds a transaction open: the switchover waits for it, with writes held.

use std::process::Stdio;
use std::time::Duration;

use tokio_postgres::Client;

use crate::harness::{Cluster, LIMIT, Proxy, eventually};
use crate::proxy_failures::all_in_service;

/// `primacy switchover --to node1`, running.
fn switch(proxy: &Proxy) -> tokio::task::JoinHandle<(bool, String)> {
    let admin = proxy.admin();
    tokio::spawn(async move {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_primacy"));
        command.args(["switchover", "--to", "node1", "--admin", &admin]).stdin(Stdio::null());
        let output = command.kill_on_drop(true).output().await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    })
}

/// Waits until the proxy holds writes for the switchover.
async fn switching(proxy: &Proxy) {
    eventually(LIMIT, "it is switching", async || proxy.log().contains("state=\"switching\"").then_some(()))
        .await;
}

/// A transaction that has written. A switchover to a node that is still being looked at is refused, so all are members then.
async fn open_transaction(proxy: &Proxy) -> Client {
    all_in_service(proxy).await;
    let client = proxy.client().await;
    client.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO kept VALUES (1)").await.unwrap();
    client
}

/// Writes through the proxy until it is acknowledged.
async fn write(proxy: &Proxy, sql: &str) {
    eventually(LIMIT, "a write is acknowledged", async || {
        let client = proxy.client().await;
        tokio::time::timeout(Duration::from_secs(20), client.batch_execute(sql)).await.ok()?.ok()
    })
    .await;
}

#[tokio::test]
async fn a_target_that_freezes_in_the_middle_costs_a_pause_and_nothing_else() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = cluster.proxy().run().await;
    let client = open_transaction(&proxy).await;
    let asked = switch(&proxy);
    switching(&proxy).await;
    cluster.stop(1);
    client.batch_execute("COMMIT").await.unwrap();
    let (done, said) = tokio::time::timeout(LIMIT, asked).await.expect("an answer").unwrap();
    assert!(!done && said.contains("given up"), "{said}");
    write(&proxy, "INSERT INTO kept VALUES (2)").await;
    cluster.cont(1);
    assert_eq!(cluster.primary().await, 0);
    assert_eq!(cluster.value(0, "SELECT count(DISTINCT n) FROM kept").await, "2");
}

#[tokio::test]
async fn a_target_that_dies_in_the_middle_costs_a_pause_and_nothing_else() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = cluster.proxy().run().await;
    let client = open_transaction(&proxy).await;
    let asked = switch(&proxy);
    switching(&proxy).await;
    cluster.kill(1).await;
    client.batch_execute("COMMIT").await.unwrap();
    let (done, said) = tokio::time::timeout(LIMIT, asked).await.expect("an answer").unwrap();
    assert!(!done, "{said}");
    write(&proxy, "INSERT INTO kept VALUES (2)").await;
    assert_eq!(cluster.primary().await, 0);
    assert_eq!(cluster.value(0, "SELECT count(DISTINCT n) FROM kept").await, "2");
}

#[tokio::test]
async fn an_old_primary_that_dies_in_the_middle_is_failed_over() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = cluster.proxy().run().await;
    let client = open_transaction(&proxy).await;
    let asked = switch(&proxy);
    switching(&proxy).await;
    cluster.kill(0).await;
    // The transaction cannot have committed, and its connection stays.
    let error = client.batch_execute("COMMIT").await.unwrap_err();
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("40001"), "{error}");
    tokio::time::timeout(LIMIT, asked).await.expect("an answer").unwrap();
    write(&proxy, "INSERT INTO kept VALUES (2)").await;
    let new = cluster.primary().await;
    assert_ne!(new, 0);
    assert_eq!(cluster.value(new, "SELECT min(n) FROM kept").await, "2");
    client.batch_execute("ROLLBACK; INSERT INTO kept VALUES (3)").await.unwrap();
}
