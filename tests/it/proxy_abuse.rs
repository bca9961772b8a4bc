//! Clients that mean no good, or do not care: what they cost is bounded, and others are served meanwhile.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually, frame, startup};

fn resident_kib(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count()
}

#[tokio::test]
async fn who_never_reads_its_results_does_not_keep_a_server_connection() {
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster.proxy().set("limits.client_write_timeout", "1s").run().await;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'";
    let mut client = Raw::connect(proxy.port(), &[]).await;
    client.send(&frame(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 1000000)\0")).await;
    eventually(LIMIT, "it runs", async || (cluster.value(0, busy).await == "1").then_some(())).await;
    eventually(LIMIT, "its connection is free", async || (cluster.value(0, busy).await == "0").then_some(()))
        .await;
    eventually(LIMIT, "the session is gone", async || {
        let metrics = proxy.metrics().await;
        metrics.lines().any(|line| line == "primacy_clients 0").then_some(())
    })
    .await;
    // Who reads slowly, but reads, stays: half of a buffer, pause, and again, for longer than the limit.
    let mut slow = Raw::connect(proxy.port(), &[]).await;
    slow.send(&frame(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 60000)\0")).await;
    let (begun, mut rows) = (Instant::now(), 0);
    loop {
        let message = slow.message().await.expect("it stays");
        rows += usize::from(message.tag == b'D');
        if message.tag == b'D' && rows % 4000 == 0 {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        if message.tag == b'Z' {
            break;
        }
    }
    assert_eq!(rows, 60_000);
    assert!(begun.elapsed() > Duration::from_secs(1));
}

#[tokio::test]
async fn a_text_of_ten_megabytes_of_parentheses_costs_little() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().run().await;
    let bystander = proxy.client().await;
    let before = resident_kib(&proxy);
    for (open, close) in
        [("(", ")"), ("[", "]"), ("CASE WHEN ", " END"), ("(SELECT ", ")"), ("f(", ")"), ("-", "")]
    {
        for size in [4 * 1024, 10 * 1024 * 1024] {
            let depth = size / (open.len() + close.len());
            let text = format!("SELECT {}1{}\0", open.repeat(depth), close.repeat(depth));
            let mut hostile = Raw::connect(proxy.port(), &[]).await;
            let begun = Instant::now();
            hostile.send(&frame(b'Q', text.as_bytes())).await;
            let (seen, served) = tokio::join!(hostile.until_ready(), bystander.simple_query("SELECT 1"));
            assert!(served.is_ok());
            assert_eq!(seen.last().unwrap(), "Z I", "{open} {size}: {seen:?}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{open} {size}: {:?}", begun.elapsed());
        }
    }
    let grown = resident_kib(&proxy).saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB more");
}

/// The limit on open files of a running process.
fn limit_descriptors(pid: u32, limit: &str) {
    let done =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={limit}")]).status();
    assert!(done.unwrap().success());
}

/// The parser recurses from join to join where no condition stands between, and counts it for no limit.
#[tokio::test]
async fn a_chain_of_joins_ends_nobody() {
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster.proxy().run().await;
    let mut client = Raw::connect(proxy.port(), &[]).await;
    for (joins, behind) in [(60, ""), (500, ""), (330, "AS on"), (2_000, ""), (1_300, "AS on")] {
        let seen =
            client.query(&format!("SELECT 1 FROM a{}", format!(" JOIN b {behind}").repeat(joins))).await;
        assert!(seen[0].starts_with("E 42601") && seen[1] == "Z I", "{joins} {behind}: {seen:?}");
    }
    assert_eq!(client.query("SELECT 1").await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
}

#[tokio::test]
async fn without_descriptors_those_who_are_in_are_served_and_others_wait() {
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster.proxy().set("workers", 2).run().await;
    let inside = proxy.client().await;
    inside.simple_query("SELECT 1").await.unwrap();
    let begun = Instant::now();
    limit_descriptors(proxy.pid(), &format!("{}:", descriptors(&proxy) + 8));
    let mut waiting = Vec::new();
    for _ in 0..60 {
        waiting.push(Raw::dial(proxy.port()).await);
    }
    eventually(LIMIT, "the log says it", async || proxy.log().contains("cannot accept").then_some(())).await;
    for _ in 0..20 {
        inside.simple_query("SELECT 1").await.unwrap();
    }
    let lines = proxy.log().matches("cannot accept").count();
    // One for each worker that could not take one in ten seconds, and not one for each time.
    let most = 2 * (1 + begun.elapsed().as_secs() / 10);
    assert!(lines as u64 <= most, "{lines} lines in {:?}", begun.elapsed());
    drop(waiting);
    limit_descriptors(proxy.pid(), "1024:");
    eventually(LIMIT, "clients come in again", async || {
        proxy.connect(&proxy.url("app", "app")).await.ok().map(drop)
    })
    .await;
    assert!(proxy.log().contains("clients are accepted again"));
}

#[tokio::test]
async fn bytes_that_are_no_protocol_end_in_an_error_and_in_nothing_else() {
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster.proxy().set("limits.client_login_timeout", "2s").run().await;
    let bystander = proxy.client().await;
    let (begun_with, seed) = (descriptors(&proxy), fastrand::u64(..));
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut hostile = Vec::new();
    for round in 0..200 {
        let garbage: Vec<u8> = (0..dice.usize(..300)).map(|_| dice.u8(..)).collect();
        let mut raw = if round % 2 == 0 {
            Raw::dial(proxy.port()).await
        } else {
            Raw::connect(proxy.port(), &[]).await
        };
        // Letters that exist, with bodies that lie, and what no letter begins.
        let letter = *b"QPBDECSHXFdcfp\0\xff".get(dice.usize(..16)).unwrap();
        let bytes = match round % 5 {
            0 => garbage,
            1 => frame(letter, &garbage),
            2 => startup(&[("user", &String::from_utf8_lossy(&garbage).replace('\0', ""))]),
            3 => [&[letter][..], &dice.u32(..).to_be_bytes(), &garbage].concat(),
            _ => [frame(letter, &garbage), frame(b'S', b"")].concat(),
        };
        raw.send(&bytes).await;
        if dice.bool() {
            hostile.push(raw);
        }
        if round % 20 == 0 {
            bystander.simple_query("SELECT 1").await.unwrap_or_else(|error| panic!("{error}, seed {seed}"));
        }
    }
    drop(hostile);
    bystander.simple_query("SELECT 1").await.unwrap();
    eventually(LIMIT, "every descriptor comes back", async || {
        (descriptors(&proxy) <= begun_with + 25).then_some(())
    })
    .await;
    assert!(!proxy.log().contains("panicked"), "seed {seed}");
}

/// Sends a pipeline of these frames up to Sync; the errors in its answer, by code.
async fn errors_of(client: &mut Raw, frames: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
    let mut errors = Vec::new();
    let all: Vec<Vec<u8>> = frames.collect();
    for some in all.chunks(500) {
        client.send(&[&some.concat()[..], &frame(b'S', b"")].concat()).await;
        let seen = client.until_ready().await;
        assert!(seen.last().unwrap().starts_with('Z'), "{seen:?}");
        errors.extend(seen.into_iter().filter(|one| one.starts_with("E ")));
    }
    errors
}

/// Statements, portals, settings, channels, notifications: one session piles up as much of each as it likes.
#[tokio::test]
async fn what_one_session_piles_up_is_bounded() {
    const MANY: usize = 20_000;
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().set("limits.max_client_prepared", 2000).run().await;
    let bystander = proxy.client().await;
    let mut hoarder = Raw::connect(proxy.port(), &[]).await;
    hoarder.query("SELECT 1").await;
    let before = resident_kib(&proxy);
    let grown = |what: &str, most_kib: u64| {
        let grown = resident_kib(&proxy).saturating_sub(before);
        eprintln!("MEASURED {what}: {grown} KiB more");
        assert!(grown < most_kib, "{what}: {grown} KiB more");
    };

    let parse =
        |n: usize| frame(b'P', format!("s{n}\0SELECT {n} /* {} */\0\0\0", "x".repeat(200)).as_bytes());
    let errors = errors_of(&mut hoarder, (0..MANY).map(parse)).await;
    // One a pipeline, because the rest of it is skipped.
    assert_eq!(errors.len(), (MANY - 2000) / 500, "{:?}", errors.first());
    assert!(errors.iter().all(|one| one.starts_with("E 54000")), "{:?}", errors.first());
    grown("prepared statements", 16 * 1024);

    // The text of one is counted too.
    let mut wordy = Raw::connect(proxy.port(), &[]).await;
    let parse =
        |n: usize| frame(b'P', format!("s{n}\0SELECT {n} /* {} */\0\0\0", "x".repeat(60_000)).as_bytes());
    let errors = errors_of(&mut wordy, (0..600).map(parse)).await;
    assert!(errors.iter().any(|one| one.starts_with("E 54000")), "{errors:?}");
    grown("long prepared statements", 96 * 1024);
    drop(wordy);

    hoarder.query("BEGIN").await;
    let bind = |n: usize| frame(b'B', format!("p{n}\0s1\0\0\0\0\0\0\0").as_bytes());
    assert_eq!(errors_of(&mut hoarder, (0..MANY).map(bind)).await, [""; 0]);
    hoarder.query("COMMIT").await;
    grown("portals", 96 * 1024);

    for n in 0..MANY / 10 {
        let seen = hoarder.query(&format!("SET a{n}.b = '{}'", "x".repeat(500))).await;
        assert_eq!(seen, ["C SET", "Z I"]);
    }
    grown("settings", 96 * 1024);
    assert_eq!(hoarder.query("SHOW a7.b").await[2], "C SHOW", "and each of them holds");

    for n in 0..MANY / 10 {
        hoarder.query(&format!("LISTEN c{n}")).await;
    }
    for n in 0..MANY / 10 {
        bystander.batch_execute(&format!("NOTIFY c{n}")).await.unwrap();
    }
    grown("channels and notifications", 96 * 1024);
    drop(hoarder);
    bystander.simple_query("SELECT 1").await.unwrap();
    eventually(LIMIT, "the session is gone", async || {
        proxy.metrics().await.lines().any(|line| line == "primacy_clients 1").then_some(())
    })
    .await;
}
