//! A follower whose first attempt to stream from the new primary fails does not wait until it would try again by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Cluster, LIMIT, eventually};

/// Stands before a server's port and hangs up on the first who comes.
struct Front {
    port: u16,
    hung_up: Arc<AtomicUsize>,
}

impl Front {
    async fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hung_up = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&hung_up);
        tokio::spawn(async move {
            drop(listener.accept().await.unwrap());
            count.fetch_add(1, Ordering::SeqCst);
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                // An error is the end of one of both.
                tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut near, &mut far).await) });
            }
        });
        Self { port, hung_up }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_first_attempt_fails_is_told_again() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, "CREATE TABLE t (v bigint PRIMARY KEY); GRANT ALL ON t TO app").await;
    for replica in [1, 2] {
        cluster.sql(replica, "ALTER SYSTEM SET wal_retrieve_retry_interval = '10min'").await;
        cluster.sql(replica, "SELECT pg_reload_conf()").await;
    }
    let fronts = [Front::before(cluster.node(1).port()).await, Front::before(cluster.node(2).port()).await];
    let address = |front: &Front| format!("127.0.0.1:{}", front.port);
    let proxy = cluster
        .proxy()
        .set("failover.durability", "quorum")
        .set_node(1, "replication_address", &address(&fronts[0]))
        .set_node(2, "replication_address", &address(&fronts[1]))
        .run()
        .await;
    eventually(LIMIT, "the quorum counts", async || {
        let status: serde_json::Value = serde_json::from_str(&proxy.get("/api/v1/status").await).ok()?;
        (status.pointer("/quorum/recruits_needed")?.as_u64()? == 2).then_some(())
    })
    .await;
    cluster.kill(0).await;
    // Acknowledged by the follower: nothing else could.
    eventually(LIMIT, "a write is acknowledged", async || {
        let client = proxy.connect(&proxy.url("app", "app")).await.ok()?;
        client.execute("INSERT INTO t VALUES (1)", &[]).await.ok().map(drop)
    })
    .await;
    let hung_up: usize = fronts.iter().map(|front| front.hung_up.load(Ordering::SeqCst)).sum();
    assert_eq!(hung_up, 1, "one follower, one candidate");
    let log = proxy.log();
    assert!(log.contains("told again whom to follow"), "{log}");
}
