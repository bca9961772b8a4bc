//! primacy itself is killed with -9 at some moment of a failover and started again: it finishes what it had begun, or undoes
//! it. Nothing acknowledged is lost, and there is one primary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::harness::{Cluster, LIMIT, Proxy, eventually};

/// Writes numbers through the proxy, whatever becomes of it, and keeps those that were acknowledged.
struct Writer {
    acknowledged: Arc<Mutex<Vec<i64>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(url: String) -> Self {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, stopped) = (acknowledged.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !stopped.load(Ordering::SeqCst) {
                let Ok((client, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await
                else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                let connection = tokio::spawn(connection);
                while !stopped.load(Ordering::SeqCst) {
                    number += 1;
                    if client.execute("INSERT INTO t VALUES ($1)", &[&number]).await.is_err() {
                        break;
                    }
                    kept.lock().await.push(number);
                }
                connection.abort();
            }
        });
        Self { acknowledged, stop, task }
    }

    async fn more_than(&self, before: usize) {
        eventually(LIMIT, "writes are acknowledged (again)", async || {
            (self.acknowledged.lock().await.len() > before).then_some(())
        })
        .await;
    }

    async fn end(self) -> Vec<i64> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        self.acknowledged.lock().await.clone()
    }
}

/// The quorum that primacy has set counts: a failover is possible.
async fn counts(proxy: &Proxy) {
    eventually(LIMIT, "the quorum counts", async || {
        let status: serde_json::Value = serde_json::from_str(&proxy.get("/api/v1/status").await).ok()?;
        let needed = status.pointer("/quorum/recruits_needed")?.as_u64()?;
        (needed == 2).then_some(())
    })
    .await;
}

async fn one_life(after: Duration) {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, "CREATE TABLE t (v bigint PRIMARY KEY); GRANT ALL ON t TO app").await;
    let mut proxy = cluster.proxy().run().await;
    counts(&proxy).await;
    let writer = Writer::start(proxy.url("app", "app"));
    writer.more_than(20).await;
    cluster.kill(0).await;
    // Not a wait for something: the moment is what is tried.
    tokio::time::sleep(after).await;
    proxy.kill();
    let before = writer.acknowledged.lock().await.len();
    proxy.restart().await;
    writer.more_than(before + 20).await;
    let acknowledged = writer.end().await;
    let mut primaries = Vec::new();
    for node in [1, 2] {
        if cluster.value(node, "SELECT pg_is_in_recovery()").await == "f" {
            primaries.push(node);
        }
    }
    assert_eq!(primaries.len(), 1, "killed after {after:?}: primaries {primaries:?}");
    let there: Vec<i64> = cluster
        .sql(primaries[0], "SELECT v FROM t")
        .await
        .into_iter()
        .map(|row| row[0].parse().unwrap())
        .collect();
    let lost: Vec<&i64> = acknowledged.iter().filter(|number| !there.contains(number)).collect();
    assert!(
        lost.is_empty(),
        "killed after {after:?}: {} of {} lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    eprintln!("killed {after:?} into the failover: {} acknowledged, none lost", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn primacy_may_be_killed_at_any_moment_of_a_failover() {
    for earliest in [0, 40, 100, 180, 300] {
        one_life(Duration::from_millis(earliest + fastrand::u64(0..60))).await;
    }
}
