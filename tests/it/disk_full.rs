//! Disks that are full: the primary's, for its write-ahead log, and the one that primacy's own journal is on.

use std::time::{Duration, Instant};

use primacy::postgres::StopMode;

use crate::control::{Control, Options, Writer};
use crate::harness::{Cluster, LIMIT, SmallDisk, eventually};
use crate::proxy_failures::{SETUP, ready};

/// The write-ahead log of a stopped server is moved to a disk of its own. `None`: that is not for this user to do.
async fn wal_on_a_small_disk(cluster: &Cluster, node: usize) -> Option<SmallDisk> {
    let server = cluster.node(node);
    let at = cluster.dir().join("small");
    let disk = SmallDisk::mount(&at, 24 * 1024)?;
    server.stop(StopMode::Fast, LIMIT).await.unwrap();
    let (from, to) = (server.data_dir().join("pg_wal"), at.join("pg_wal"));
    let moved = std::process::Command::new("mv").arg(&from).arg(&to).status().unwrap();
    assert!(moved.success());
    std::os::unix::fs::symlink(&to, &from).unwrap();
    cluster.own(&at);
    cluster.start(node).await;
    Some(disk)
}

/// The disk that the primary's write-ahead log is on fills up: it panics, another one is promoted and has everything that was
/// acknowledged, and the old one comes back when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "PostgreSQL 15: a follower may panic over a record torn at a segment's end, and nobody starts it: failover-hazards.md"]
async fn a_primary_whose_disk_is_full_is_replaced_and_comes_back_when_there_is_room() {
    let cluster = Cluster::builder(2)
        .setting("min_wal_size", "2MB")
        .setting("max_wal_size", "4MB")
        .setting("wal_recycle", "off")
        // Nothing is removed to make room.
        .setting("wal_keep_size", "200MB")
        .run()
        .await;
    let Some(disk) = wal_on_a_small_disk(&cluster, 0).await else {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    };
    let control = Control::start(&cluster, &Options::default());
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    disk.fill();
    let full = Instant::now();
    // What the writer writes is little: somebody else writes much, until the server is gone.
    let much = cluster.client(0).await;
    let emit = "SELECT pg_logical_emit_message(false, 'much', repeat('x', 3000))";
    while much.batch_execute(emit).await.is_ok() {}
    let log = cluster.node(0).log_file().to_path_buf();
    eventually(LIMIT, "the primary panics for want of room", async || {
        let log = std::fs::read_to_string(&log).unwrap();
        let panics = log.lines().any(|line| line.contains("PANIC") && line.contains("No space left"));
        panics.then_some(())
    })
    .await;
    let led = tokio::time::timeout(LIMIT / 2, control.led_by_another_than(0)).await;
    let tails = || {
        cluster
            .servers()
            .nodes()
            .iter()
            .map(|node| {
                let log = std::fs::read_to_string(node.log_file()).unwrap();
                let lines: Vec<&str> = log.lines().rev().take(25).collect();
                format!("{}:\n{}\n", node.name(), lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
            })
            .collect::<Vec<String>>()
            .concat()
    };
    let Ok(new) = led else { panic!("nobody else takes writes\n{}", tails()) };
    writer.writes_after(Instant::now()).await;
    eprintln!("MEASURED a full disk: {} ms without writes", writer.longest_pause_since(full).as_millis());
    // It has no room to come back, and nothing depends on it.
    assert!(!control.status().await.nodes[0].readable);
    disk.clear();
    control.settled(new).await;
    let acknowledged = writer.check(&cluster, new).await;
    assert!(acknowledged > 0);
    control.stop();
}

/// The disk that primacy's state is on is full: it says so once, serves on, promotes nobody, and goes on when there is room.
#[tokio::test]
async fn a_full_disk_under_the_journal_is_said_once_and_nothing_ends() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let mut proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let draft = proxy.dir().join("state").join("journal.new");
    // Whatever is written to it finds the disk full.
    std::os::unix::fs::symlink("/dev/full", &draft).unwrap();
    let client = proxy.client().await;
    client.batch_execute("INSERT INTO t VALUES ('before')").await.unwrap();
    cluster.kill(0).await;
    let complaints = |proxy: &crate::harness::Proxy| {
        let log = proxy.log();
        let lines = log.lines().filter(|line| line.contains("No space left on device"));
        lines.filter(|line| !line.contains("DEBUG")).map(str::to_owned).collect::<Vec<_>>()
    };
    let told = |proxy: &crate::harness::Proxy| {
        complaints(proxy).iter().filter(|line| line.contains("the journal cannot be written")).count()
    };
    eventually(LIMIT, "it is said", async || (told(&proxy) > 0).then_some(())).await;
    // However often it is tried.
    let tries = |proxy: &crate::harness::Proxy| proxy.log().matches("step=\"write-journal\"").count();
    eventually(LIMIT, "it is tried again", async || (tries(&proxy) > 3).then_some(())).await;
    let (before, lines) = (tries(&proxy), complaints(&proxy));
    eventually(LIMIT, "it is tried again", async || (tries(&proxy) > before + 1).then_some(())).await;
    assert_eq!((told(&proxy), complaints(&proxy)), (1, lines), "{}", proxy.log());
    // Reads go on, and nobody is promoted.
    let reader = proxy.client().await;
    assert_eq!(reader.query("SELECT v FROM t", &[]).await.unwrap().len(), 1);
    for replica in [1, 2] {
        assert_eq!(cluster.value(replica, "SELECT pg_is_in_recovery()").await, "t");
    }
    std::fs::remove_file(&draft).unwrap();
    let written = tokio::time::timeout(LIMIT, async {
        while client.batch_execute("INSERT INTO t VALUES ('after')").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    written.await.expect("writes go on when there is room");
    assert!(proxy.terminate().await.success());
}
