//! Two proxies that both decide over one cluster, each with a journal of its own. Nobody should set that up, and nothing keeps
//! them apart: what was acknowledged has to be there all the same, and in the end they have to agree.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Cluster, LIMIT, Proxy, eventually};
use crate::proxy_failures::{SETUP, ready};

/// Inserts through one of them until it is told to stop; what was acknowledged.
async fn insert(url: String, name: &'static str, stop: Arc<AtomicBool>) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut acknowledged = Vec::new();
    for number in 0_u32.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let token = format!("{name} {number}");
        if client.batch_execute(&format!("INSERT INTO t VALUES ('{token}')")).await.is_ok() {
            acknowledged.push(token);
        }
    }
    driver.abort();
    acknowledged
}

async fn primary_of(proxy: &Proxy) -> Option<String> {
    let client = proxy.connect(&proxy.url("app", "app")).await.ok()?;
    let row = client.simple_query("SHOW primacy.primary").await.ok()?;
    row.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

#[tokio::test]
async fn two_deciders_over_one_cluster_lose_nothing_and_agree() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let (first, second) = (cluster.proxy().run().await, cluster.proxy().run().await);
    ready(&first).await;
    ready(&second).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [("first", &first), ("second", &second)]
        .map(|(name, proxy)| tokio::spawn(insert(proxy.url("app", "app"), name, stop.clone())));
    let written = "SELECT count(*) > 20 FROM t WHERE v LIKE 'first%'";
    eventually(LIMIT, "writes go on", async || (cluster.value(0, written).await == "t").then_some(())).await;
    cluster.kill(0).await;
    let agreed = eventually(LIMIT, "both name the same primary", async || {
        let (one, other) = (primary_of(&first).await?, primary_of(&second).await?);
        (one == other && one != "node0").then_some(one)
    })
    .await;
    // Through either of them, on that one.
    for proxy in [&first, &second] {
        let client = proxy.client().await;
        let token = format!("after, by {}", proxy.port());
        let written = eventually(LIMIT, "it takes writes", async || {
            client.batch_execute(&format!("INSERT INTO t VALUES ('{token}')")).await.ok()
        });
        written.await;
    }
    stop.store(true, Ordering::SeqCst);
    let writers = futures_util::future::join_all(writers).await;
    let primary = cluster.primary().await;
    assert_eq!(cluster.node(primary).name(), agreed);
    let there: std::collections::HashSet<String> =
        cluster.sql(primary, "SELECT v FROM t").await.into_iter().flatten().collect();
    for writer in writers {
        let acknowledged = writer.unwrap();
        assert!(acknowledged.len() > 1, "{acknowledged:?}");
        let lost: Vec<&String> = acknowledged.iter().filter(|token| !there.contains(*token)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}\n{}\n{}", first.log(), second.log());
    }
    assert_eq!((primary_of(&first).await, primary_of(&second).await), (Some(agreed.clone()), Some(agreed)));
}
