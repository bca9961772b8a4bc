//! Limits in time and number: idle clients, pools that are kept warm, and the last client that is let in.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use primacy::wire::scram::Keys;

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually, frame, startup};

#[tokio::test]
async fn idle_clients_are_sent_away_and_busy_ones_are_not() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster
        .proxy()
        .set("limits.client_idle_timeout", "1s")
        .set("limits.idle_transaction_timeout", "3s")
        .run()
        .await;
    let mut busy = Raw::connect(proxy.port(), &[]).await;
    busy.send(&frame(b'Q', b"/* primacy: primary */ SELECT pg_sleep(5)\0")).await;
    let mut open = Raw::connect(proxy.port(), &[]).await;
    let mut idle = Raw::connect(proxy.port(), &[]).await;
    let since = Instant::now();
    open.run("Q BEGIN\nQ SELECT 1").await;
    let seen = idle.until_ready().await;
    assert!(seen[0].starts_with("E 57P05") && seen[1] == "closed", "{seen:?}");
    assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
    // Inside of a transaction the other limit counts.
    let seen = open.until_ready().await;
    assert!(seen[0].starts_with("E 25P03") && seen[1] == "closed", "{seen:?}");
    assert!(since.elapsed() >= Duration::from_millis(2900), "{:?}", since.elapsed());
    assert_eq!(busy.until_ready().await.last().unwrap(), "Z I");
    let seen = busy.until_ready().await;
    assert!(seen[0].starts_with("E 57P05"), "{seen:?}");
}

/// The processes that serve a role on a server.
async fn pids(cluster: &Cluster, node: usize, role: &str) -> HashSet<String> {
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{role}'");
    cluster.sql(node, &sql).await.into_iter().flatten().collect()
}

#[tokio::test]
async fn pools_are_warm_before_the_first_statement_and_stay_within_their_size() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, "CREATE ROLE warm LOGIN PASSWORD 'warm'").await;
    let proxy = cluster
        .proxy()
        .set("pool.min_pool_size", 3)
        .set("pool.default_pool_size", 4)
        .set("pool.server_idle_timeout", "1s")
        .set("pool.server_lifetime", "4s")
        .run()
        .await;
    // It signs in and asks for nothing.
    let client = proxy.connect(&proxy.url("warm", "app")).await.unwrap();
    let warm = async |node: usize| {
        eventually(LIMIT, &format!("node{node} is warm"), async || {
            let now = pids(&cluster, node, "warm").await;
            assert!(now.len() <= 4, "node{node}: {now:?}");
            (now.len() >= 3).then_some(now)
        })
        .await
    };
    for node in 0..3 {
        let first = warm(node).await;
        // All of them grow too old, and others take their places.
        eventually(LIMIT, "they are replaced", async || warm(node).await.is_disjoint(&first).then_some(()))
            .await;
    }
    let mut busy = Vec::new();
    for _ in 0..8 {
        let client = proxy.connect(&proxy.url("warm", "app")).await.unwrap();
        busy.push(tokio::spawn(async move {
            client.batch_execute("/* primacy: primary */ SELECT pg_sleep(0.5)").await.unwrap();
        }));
    }
    while busy.iter().any(|one| !one.is_finished()) {
        warm(0).await;
    }
    for one in busy {
        one.await.unwrap();
    }
    cluster.kill(0).await;
    eventually(LIMIT, "another primary", async || {
        let row = client.query_one("SHOW primacy.primary", &[]).await.unwrap();
        (row.get::<_, &str>(0) != "node0").then_some(())
    })
    .await;
    for node in [1, 2] {
        let before = warm(node).await;
        eventually(LIMIT, "they are replaced", async || warm(node).await.is_disjoint(&before).then_some(()))
            .await;
    }
}

fn resident_kib(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The SCRAM keys of the role `app`.
async fn keys(cluster: &Cluster) -> Keys {
    let verifier = cluster.value(0, "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'").await;
    let salt = verifier.split(['$', ':']).nth(2).unwrap();
    Keys::from_password("app", &STANDARD.decode(salt).unwrap(), 4096)
}

/// The default limit, reached for real.
#[tokio::test]
#[ignore = "takes a minute, and 10,001 descriptors in each of two processes: run it by hand"]
async fn ten_thousand_clients_and_not_one_more() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(most > 10_500, "the limit on descriptors is {most}");
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().set("log.level", "info").run().await;
    drop(proxy.client().await);
    let before = resident_kib(&proxy);
    let begun = Instant::now();
    let mut clients = Vec::with_capacity(10_000);
    let keys = keys(&cluster).await;
    let enter = async || {
        let mut client = Raw::dial(proxy.port()).await;
        client.send(&startup(&[("user", "app"), ("database", "app")])).await;
        client.sign_in_with_keys(&keys).await.map(|()| client)
    };
    for _ in 0..10_000 {
        clients.push(enter().await.unwrap());
    }
    eprintln!("MEASURED 10,000 sign-ins one after another: {:?}", begun.elapsed());
    let grown = resident_kib(&proxy) - before;
    let each = grown * 1024 / 10_000;
    eprintln!("MEASURED resident: {before} KiB before, {each} bytes more per idle client");

    let refused = enter().await.unwrap_err();
    eprintln!("MEASURED the 10,001st: {}, {}", refused.shown(), refused.field(b'D'));
    assert!(refused.shown().starts_with("E 53300"), "{}", refused.shown());

    for client in clients.iter_mut().step_by(10) {
        assert_eq!(client.query("SELECT 1").await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
    }
    let grown = resident_kib(&proxy) - before;
    let each = grown * 1024 / 10_000;
    eprintln!("MEASURED after every tenth has run a statement: {each} bytes per client");
    drop(clients.pop());
    eventually(LIMIT, "a place is free", async || enter().await.ok()).await;
}
