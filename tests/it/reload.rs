//! Reading the configuration again, under clients that must not notice.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_postgres::Client;

use crate::harness::{Certificates, Cluster, LIMIT, Proxy, eventually};

/// A client that writes all the time on one connection; ends with the number of its writes, or its first error.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Writer {
    fn start(client: Client) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), written.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::SeqCst) {
                client.execute("INSERT INTO kept VALUES (1)", &[]).await?;
                client.query("SELECT count(*) FROM kept", &[]).await?;
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        Self { stop, written, task }
    }

    /// Waits until it has written something more.
    async fn goes_on(&self) {
        let before = self.written.load(Ordering::SeqCst);
        let more = async || (self.written.load(Ordering::SeqCst) > before + 1).then_some(());
        eventually(LIMIT, "the writer goes on", more).await;
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap().unwrap();
        self.written.load(Ordering::SeqCst)
    }
}

/// How many requests the proxy has sent to a node.
async fn requests(proxy: &Proxy, node: &str) -> u64 {
    let text = proxy.metrics().await;
    let of = text.lines().filter(|line| line.starts_with("primacy_routes_total{") && line.contains(node));
    of.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn nodes_are_added_and_removed_while_clients_go_on() {
    let cluster = Cluster::with_replicas(3).await;
    cluster.sql(0, "CREATE TABLE kept (n int); GRANT ALL ON kept TO app").await;
    let proxy = cluster.proxy().nodes(&[0, 1, 2]).run().await;
    let names = async || cluster.value(0, "SHOW synchronous_standby_names").await;
    eventually(LIMIT, "the three are set", async || (!names().await.contains("node3")).then_some(())).await;
    let writer = Writer::start(proxy.client().await);
    writer.goes_on().await;

    let told = proxy.with_nodes(&cluster, &[0, 1, 2, 3]).reload(&cluster).await.unwrap();
    assert!(told.contains("changed  nodes.node3.address"), "{told}");
    eventually(LIMIT, "the new one acknowledges", async || names().await.contains("node3").then_some(()))
        .await;
    let read = async || (requests(&proxy, "node3").await > 0).then_some(());
    eventually(LIMIT, "a client that was there before reads on the new one", read).await;

    let told = proxy.with_nodes(&cluster, &[0, 2, 3]).reload(&cluster).await.unwrap();
    assert!(told.contains("nodes.node1.address"), "{told}");
    assert!(told.contains("removed  node1: it may be switched off"), "{told}");
    let text = names().await;
    assert!(!text.contains("node1") && text.contains("node2"), "{text}");
    let status = proxy.program(&cluster, &["status"]).await.unwrap();
    assert!(!status.contains("node1") && status.contains("node3"), "{status}");
    let before = requests(&proxy, "node1").await;
    writer.goes_on().await;
    assert_eq!(requests(&proxy, "node1").await, before, "nothing goes to it any more");

    let refused = proxy.with_nodes(&cluster, &[2, 3]).reload(&cluster).await.unwrap_err();
    assert!(refused.contains("node0 is the primary") && refused.contains("switchover"), "{refused}");
    assert!(writer.end().await > 3);

    // The file names all four again; who was removed is not promoted meanwhile.
    proxy.with_nodes(&cluster, &[0, 2, 3]);
    cluster.kill(0).await;
    let client = proxy.client().await;
    let write = client.execute("INSERT INTO kept VALUES (2)", &[]);
    tokio::time::timeout(Duration::from_secs(30), write).await.expect("a new primary").unwrap();
    assert_ne!(cluster.value(1, "SELECT pg_is_in_recovery()").await, "f");
}

#[tokio::test]
async fn new_certificates_are_shown_and_clients_stay() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::builder(0).asynchronous().run().await;
    let proxy = cluster
        .proxy()
        .set("tls.sslmode", "require")
        .set("tls.cert_file", certificates.path("server.crt"))
        .set("tls.key_file", certificates.path("server.key"))
        .start();
    let conninfo = |authority: &str| {
        let file = certificates.path(authority);
        let port = proxy.port();
        format!(
            "host=localhost port={port} user=app password=app dbname=app sslmode=verify-full sslrootcert={file}"
        )
    };
    let trusted = async |authority: &str| cluster.psql(&conninfo(authority), "SELECT 1").await;
    eventually(LIMIT, "the first certificate is shown", async || trusted("ca.crt").await.ok()).await;
    assert!(trusted("other.crt").await.is_err());

    let mut stays = cluster
        .psql_command(&["-X", "-w", "-A", "-t", &conninfo("ca.crt")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) =
        (stays.stdin.take().unwrap(), BufReader::new(stays.stdout.take().unwrap()).lines());
    input.write_all(b"SELECT 'before';\n").await.unwrap();
    assert_eq!(output.next_line().await.unwrap().as_deref(), Some("before"));

    std::fs::copy(certificates.file("next.key"), certificates.file("server.key")).unwrap();
    std::fs::copy(certificates.file("next.crt"), certificates.file("server.crt")).unwrap();
    let told = proxy.reload(&cluster).await.unwrap();
    assert!(told.contains("certificates were read again"), "{told}");
    assert_eq!(trusted("other.crt").await.unwrap(), "1");
    assert!(trusted("ca.crt").await.is_err());
    input.write_all(b"SELECT 'after';\n\\q\n").await.unwrap();
    assert_eq!(output.next_line().await.unwrap().as_deref(), Some("after"));
    assert!(stays.wait().await.unwrap().success());

    // A pair that does not fit is refused, and what was shown goes on.
    std::fs::copy(certificates.file("ca.crt"), certificates.file("server.crt")).unwrap();
    let refused = proxy.reload(&cluster).await.unwrap_err();
    assert!(refused.contains("server.crt"), "{refused}");
    assert_eq!(trusted("other.crt").await.unwrap(), "1");
}
