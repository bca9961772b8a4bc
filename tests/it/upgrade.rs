//! Another process takes the place of the running one, under clients that must not notice.

use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::harness::{Cluster, LIMIT, Proxy, eventually};
use crate::proxy_failures::all_in_service;

/// pgbench through the proxy; ends by itself after so many seconds.
fn pgbench(cluster: &Cluster, proxy: &Proxy, seconds: u32, more: &[&str]) -> tokio::process::Child {
    let (port, time) = (proxy.port().to_string(), seconds.to_string());
    let mut command = cluster.program("pgbench");
    command
        .args(["-n", "-h", "127.0.0.1", "-p", &port, "-U", "app", "-T", &time, "-f"])
        .arg(cluster.dir().join("load.sql"))
        .args(more)
        .arg("app")
        .env("PGPASSWORD", "app")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// That it ended well: transactions and no failure of any kind.
async fn went_well(load: tokio::process::Child) {
    let ended = load.wait_with_output().await.unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    let complaints = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{text}\n{complaints}");
    assert!(!complaints.contains("ERROR") && !complaints.contains("FATAL"), "{complaints}");
    assert!(text.contains("number of failed transactions: 0 "), "{text}");
    let done = text.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    assert!(done.unwrap().parse::<u32>().unwrap() > 10, "{text}");
}

async fn is_taken_over(proxy: &Proxy, times: usize) {
    let seen = async || {
        let count = proxy.log().matches("another process has taken over").count();
        (count >= times).then_some(())
    };
    eventually(LIMIT, "another process has taken over", seen).await;
}

#[tokio::test]
async fn an_upgrade_breaks_and_refuses_nobody() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, "CREATE TABLE kept (n int); GRANT ALL ON kept TO app").await;
    let load =
        "BEGIN;\nINSERT INTO kept VALUES (1);\nSELECT count(*) FROM kept WHERE n = 2;\nCOMMIT;\nSELECT 1;\n";
    std::fs::write(cluster.dir().join("load.sql"), load).unwrap();
    let mut proxy = cluster.proxy().run().await;
    let stays = proxy.client().await;
    stays.batch_execute("CREATE TEMPORARY TABLE mine (n int)").await.unwrap();

    let follows = proxy.client().await;
    let long = pgbench(&cluster, &proxy, 8, &["-c", "4"]);
    let short = pgbench(&cluster, &proxy, 8, &["-c", "4", "-C"]);
    proxy.signal(Signal::SIGUSR2);
    is_taken_over(&proxy, 1).await;
    // The new one has the right to decide, the ports, and the clients that came since.
    let steady =
        async || proxy.program(&cluster, &["status"]).await.ok().filter(|text| text.contains("steady"));
    eventually(LIMIT, "the new one decides", steady).await;
    assert_eq!(proxy.client().await.query("SELECT 1", &[]).await.unwrap().len(), 1);

    // A session of the old one has what it had, and follows what the new one does.
    stays.execute("INSERT INTO mine VALUES (1)", &[]).await.unwrap();
    went_well(long).await;
    went_well(short).await;
    all_in_service(&proxy).await;
    let done = proxy.program(&cluster, &["switchover"]).await;
    assert!(done.is_ok(), "{done:?}");
    let written = async || follows.execute("INSERT INTO kept VALUES (3)", &[]).await.ok();
    eventually(LIMIT, "the old one's sessions write on the new primary", written).await;
    assert_eq!(cluster.value(cluster.primary().await, "SELECT count(*) FROM kept WHERE n = 3").await, "1");
    drop((stays, follows));
    assert!(proxy.ended().await.success(), "the old one leaves with its last client");
    proxy.stop_successor(&cluster).await;
}

#[tokio::test]
async fn one_that_cannot_start_changes_nothing() {
    let cluster = Cluster::with_replicas(1).await;
    cluster.sql(0, "CREATE TABLE kept (n int); GRANT ALL ON kept TO app").await;
    let proxy = cluster.proxy().run().await;
    let client = proxy.client().await;
    let refused = async |what: &str| {
        let count = proxy.log().matches("has ended").count();
        proxy.signal(Signal::SIGUSR2);
        let more = async || (proxy.log().matches("has ended").count() > count).then_some(());
        eventually(LIMIT, what, more).await;
    };
    // Found before the running one is bothered: a configuration that is wrong, a certificate that is not there.
    proxy.with("nodez", 1);
    refused("the new one says that its configuration is wrong").await;
    proxy.without("nodez");
    // Found after it has let go: an address that is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = proxy.with("listen", taken.local_addr().unwrap().to_string());
    refused("the new one finds the address taken").await;
    proxy.with("listen", ours.unwrap());
    let decides = async || proxy.log().contains("decides=true").then_some(());
    eventually(LIMIT, "the old one has taken the decisions back", decides).await;

    client.execute("INSERT INTO kept VALUES (1)", &[]).await.unwrap();
    let done = async || proxy.program(&cluster, &["switchover"]).await.ok();
    eventually(LIMIT, "the old one still decides", done).await;
    client.execute("INSERT INTO kept VALUES (2)", &[]).await.unwrap();
}
