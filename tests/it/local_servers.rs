//! The room `postgres`: clusters built, resumed, killed, frozen and rejoined on this machine.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use primacy::model::{NodeId, Timeline};
use primacy::postgres::{self, ClusterSpec, Durability, PostgresError, Rejoin, Rejoined, Step, Watchdog};

use crate::harness::{Cluster, LIMIT, PortLease, eventually, installation};

async fn rejoin(cluster: &Cluster, index: u16, application_name: &str, rewind: bool) -> Rejoined {
    let how = Rejoin { application_name: application_name.to_owned(), rewind, twin: None };
    cluster.servers().rejoin(NodeId(index), NodeId(1), &how).await.unwrap()
}

fn say(step: &Step<'_>) {
    eprintln!("{step}");
}

#[tokio::test]
async fn a_cluster_is_built_from_nothing_and_resumed() {
    let installation = installation().await;
    let outer = tempfile::tempdir().unwrap();
    installation.account.own(outer.path()).unwrap();
    let dir = outer.path().join("it's a cluster");
    let watchdog = Watchdog::over(&dir).unwrap();
    let ports: Vec<PortLease> = (0..3).map(|_| PortLease::take()).collect();
    let spec = ClusterSpec {
        dir: dir.clone(),
        ports: ports.iter().map(PortLease::number).collect(),
        durability: Durability::Quorum,
        sync: false,
        settings: Vec::new(),
        init_args: Vec::new(),
    };
    let cluster = postgres::Cluster::describe(&installation, &spec);
    cluster.open(&spec, &say).await.unwrap();
    let client = cluster.superuser_on(cluster.node(NodeId(0)).unwrap(), LIMIT).await.unwrap();
    let row =
        client.query_one("SELECT current_setting('data_checksums'), current_setting('fsync')", &[]).await;
    let row = row.unwrap();
    assert_eq!((row.get(0), row.get(1)), ("on", "on"));

    // A second one finds the servers running and leaves them alone.
    let pids: Vec<_> = cluster.nodes().iter().map(postgres::Instance::running).collect();
    cluster.open(&spec, &say).await.unwrap();
    assert_eq!(pids, cluster.nodes().iter().map(postgres::Instance::running).collect::<Vec<_>>());

    cluster.stop(LIMIT).await.unwrap();
    assert!(cluster.nodes().iter().all(|node| node.running().is_none()));
    cluster.open(&spec, &say).await.unwrap();
    let fewer = ClusterSpec { ports: spec.ports[..2].to_vec(), ..spec.clone() };
    let error = postgres::Cluster::describe(&installation, &fewer).open(&fewer, &say).await.unwrap_err();
    assert!(matches!(error, PostgresError::Differs { .. }), "{error}");
    drop(watchdog);
    assert!(!dir.exists() && cluster.nodes().iter().all(|node| node.running().is_none()));
}

#[tokio::test]
async fn nobody_waits_for_a_former_primary_where_the_new_one_runs() {
    let cluster = Cluster::with_replicas(2).await;
    assert_eq!(cluster.kill_primary().await, 0);
    cluster.sql(1, "SELECT pg_promote()").await;
    // As a demo that was killed after the promotion is started again.
    let steps = std::sync::Mutex::new(Vec::new());
    let note = |step: &Step<'_>| steps.lock().unwrap().push(step.to_string());
    let spec = ClusterSpec {
        dir: cluster.servers().dir().to_path_buf(),
        ports: cluster.servers().nodes().iter().map(postgres::Instance::port).collect(),
        durability: Durability::Quorum,
        sync: false,
        settings: Vec::new(),
        init_args: Vec::new(),
    };
    cluster.servers().open(&spec, &note).await.unwrap();
    let steps = steps.into_inner().unwrap();
    assert!(steps.iter().any(|step| step.starts_with("node0: down since before a promotion")), "{steps:?}");
    assert!(cluster.node(0).running().is_none() && cluster.node(2).running().is_some());
    assert_eq!(cluster.servers().primary_on_disk().unwrap(), NodeId(1));
}

#[tokio::test]
async fn a_commit_waits_for_a_replica() {
    let cluster = Cluster::with_replicas(2).await;
    assert_eq!(cluster.primary().await, 0);
    let states =
        cluster.sql(0, "SELECT application_name, sync_state FROM pg_stat_replication ORDER BY 1").await;
    assert_eq!(states, [["node1", "quorum"], ["node2", "quorum"]]);
    cluster.sql(0, "CREATE TABLE seen (n int); INSERT INTO seen VALUES (1)").await;
    cluster.caught_up(1, 0).await;
    assert_eq!(cluster.value(1, "SELECT n FROM seen").await, "1");

    cluster.stop(1);
    cluster.stop(2);
    let client = cluster.client(0).await;
    let write = client.batch_execute("SET synchronous_commit = on; INSERT INTO seen VALUES (2)");
    assert!(tokio::time::timeout(Duration::from_millis(500), write).await.is_err(), "nobody acknowledged");
    cluster.cont(1);
    cluster.cont(2);
    eventually(LIMIT, "the write is acknowledged", async || {
        (cluster.value(0, "SELECT count(*) FROM seen").await == "2").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_former_primary_is_rewound_and_streams_again() {
    let cluster = Cluster::with_replicas(2).await;
    assert_eq!(cluster.kill_primary().await, 0);
    cluster.sql(1, "SELECT pg_promote()").await;
    // It comes back on its own and goes on writing what nobody else has.
    cluster.start(0).await;
    cluster.sql(0, "SET synchronous_commit = local; CREATE TABLE lost ()").await;
    cluster.caught_up(2, 0).await;
    let outcome = rejoin(&cluster, 0, "rejoin_node0", true).await;
    assert!(outcome.rewound);
    // It has followed the former primary meanwhile, and received what was written there.
    let outcome = rejoin(&cluster, 2, "node2", true).await;
    assert!(outcome.rewound);
    assert_eq!(cluster.value(0, "SELECT to_regclass('lost') IS NULL").await, "t");
    eventually(LIMIT, "both stream from the new primary", async || {
        let names = cluster.sql(1, "SELECT application_name FROM pg_stat_replication ORDER BY 1").await;
        (names == [["node2"], ["rejoin_node0"]]).then_some(())
    })
    .await;
    assert_eq!(cluster.value(0, "SELECT current_setting('cluster_name')").await, "node0");
}

#[tokio::test]
async fn a_standby_that_may_have_begun_a_timeline_is_copied_anew() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.kill_primary().await;
    cluster.sql(1, "SELECT pg_promote()").await;
    let node = cluster.node(2);
    let ours = node.data_dir().join("ours");
    for (begun, copied) in [(None, false), (Some("00000003.history"), true)] {
        node.stop(postgres::StopMode::Fast, LIMIT).await.unwrap();
        std::fs::write(&ours, "").unwrap();
        if let Some(file) = begun {
            std::fs::write(node.data_dir().join("pg_wal").join(file), "").unwrap();
        }
        let how = Rejoin { application_name: "node2".to_owned(), rewind: true, twin: Some(Timeline(3)) };
        let rejoined = cluster.servers().rejoin(NodeId(2), NodeId(1), &how).await.unwrap();
        assert_eq!((rejoined.rewound, ours.exists()), (copied, !copied));
        cluster.caught_up(2, 1).await;
    }
}

#[tokio::test]
async fn a_fenced_primary_that_is_caught_up_comes_back_without_a_rewind() {
    let cluster = Cluster::with_replicas(1).await;
    cluster.sql(0, "CHECKPOINT").await;
    cluster.caught_up(1, 0).await;
    cluster.sql(1, "SELECT pg_promote()").await;
    let outcome = rejoin(&cluster, 0, "node0", false).await;
    assert!(!outcome.rewound);
    eventually(LIMIT, "it streams on the new timeline", async || {
        let seen =
            cluster.sql(0, "SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'").await;
        (seen == [["2"]]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_orphan_that_keeps_working_does_not_keep_its_server_down() {
    let cluster = Cluster::builder(0).asynchronous().run().await;
    let client = cluster.client(0).await;
    let busy = tokio::spawn(async move { client.batch_execute("DO $$ BEGIN LOOP END LOOP; END $$").await });
    eventually(LIMIT, "it is busy", async || {
        let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'";
        (cluster.value(0, running).await == "1").then_some(())
    })
    .await;
    cluster.kill(0).await;
    cluster.start(0).await;
    assert!(busy.await.unwrap().is_err());
}

#[tokio::test]
async fn a_taken_port_and_a_broken_configuration_say_so() {
    let cluster = Cluster::builder(0).asynchronous().run().await;
    let node = cluster.node(0);
    cluster.kill(0).await;
    let squatter = std::net::TcpListener::bind(("127.0.0.1", node.port())).unwrap();
    let error = node.start(LIMIT).await.unwrap_err();
    assert!(matches!(error, PostgresError::PortBusy { .. }), "{error}");
    drop(squatter);
    std::fs::write(node.data_dir().join("primacy.conf"), "no_such_setting = 1\n").unwrap();
    let error = node.start(LIMIT).await.unwrap_err();
    assert!(matches!(error, PostgresError::Died { .. }), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn the_watchdog_spares_a_process_that_only_has_the_number() {
    let dir = tempfile::tempdir().unwrap().keep();
    std::fs::create_dir(dir.join("node0")).unwrap();
    let mut bystander =
        Command::new("sleep").arg("60").current_dir("/").stdin(Stdio::null()).spawn().unwrap();
    std::fs::write(dir.join("node0/postmaster.pid"), format!("{}\n", bystander.id())).unwrap();
    drop(Watchdog::over(&dir).unwrap());
    assert!(!dir.exists());
    assert!(bystander.try_wait().unwrap().is_none(), "it lives");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
async fn servers_end_when_the_test_that_started_them_panics() {
    let cluster = Arc::new(tokio::sync::Mutex::new(Some(Cluster::with_replicas(1).await)));
    let servers = cluster.lock().await.as_ref().unwrap().servers().clone();
    let panicking = tokio::spawn(async move {
        let _cluster = cluster.lock().await.take();
        panic!("as a failing test does");
    });
    assert!(panicking.await.unwrap_err().is_panic());
    assert!(servers.nodes().iter().all(|node| node.running().is_none()));
    assert!(!servers.dir().exists());
}

/// A zombie of the server's account: dead, its number still taken, and PostgreSQL believes in numbers.
async fn zombie(node: &postgres::Instance) -> Child {
    let owner = std::fs::metadata(node.data_dir()).unwrap();
    let zombie = Command::new("true").uid(owner.uid()).gid(owner.gid()).spawn().unwrap();
    let stat = format!("/proc/{}/stat", zombie.id());
    eventually(LIMIT, "it is a zombie", async || {
        std::fs::read_to_string(&stat).ok()?.contains(") Z ").then_some(())
    })
    .await;
    zombie
}

#[tokio::test]
async fn a_dead_server_that_nobody_has_waited_for_holds_neither_directory_nor_socket() {
    let cluster = Cluster::builder(0).asynchronous().run().await;
    let node = cluster.node(0);
    cluster.kill(0).await;
    let mut zombie = zombie(node).await;
    let socket = cluster.servers().dir().join("sockets").join(format!(".s.PGSQL.{}.lock", node.port()));
    for lock in [node.data_dir().join("postmaster.pid"), socket.clone()] {
        let text = format!("{}\n{}\n1\n{}\n", zombie.id(), node.data_dir().display(), node.port());
        std::fs::write(&lock, text).unwrap();
        node.installation().account.own(&lock).unwrap();
    }
    cluster.start(0).await;
    let pid = node.running().unwrap();
    assert!(std::fs::read_to_string(&socket).unwrap().starts_with(&format!("{pid}\n")));
    zombie.wait().unwrap();
}

#[tokio::test]
async fn a_dead_server_that_nobody_has_waited_for_can_be_rewound() {
    let cluster = Cluster::with_replicas(1).await;
    let node = cluster.node(0);
    cluster.kill(0).await;
    cluster.sql(1, "SELECT pg_promote()").await;
    let mut zombie = zombie(node).await;
    let pid_file = node.data_dir().join("postmaster.pid");
    std::fs::write(&pid_file, format!("{}\n{}\n", zombie.id(), node.data_dir().display())).unwrap();
    node.installation().account.own(&pid_file).unwrap();
    assert!(rejoin(&cluster, 0, "node0", true).await.rewound);
    zombie.wait().unwrap();
}

#[tokio::test]
async fn a_crashed_server_is_started_and_a_half_rewound_one_copied_anew() {
    let cluster = Cluster::with_replicas(2).await;
    let servers = cluster.servers();
    // One that was stopped in order stays down.
    let stopped = cluster.node(2);
    stopped.stop(postgres::StopMode::Fast, LIMIT).await.unwrap();
    assert!(!servers.start_crashed(NodeId(2), None, LIMIT).await.unwrap());
    assert_eq!(stopped.running(), None);
    stopped.start(LIMIT).await.unwrap();
    // Not by `cluster.kill`, which clears away what a crash leaves behind.
    nix::sys::signal::kill(stopped.running().unwrap(), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually(LIMIT, "it is dead", async || stopped.running().is_none().then_some(())).await;
    assert!(servers.start_crashed(NodeId(2), None, LIMIT).await.unwrap());
    assert!(stopped.running().is_some());

    // The primary dies, another is promoted, and dies itself while the first is being rewound.
    cluster.kill(0).await;
    cluster.sql(1, "ALTER SYSTEM SET synchronous_standby_names = ''").await;
    cluster.sql(1, "SELECT pg_reload_conf()").await;
    cluster.sql(1, "SELECT pg_promote()").await;
    cluster.sql(1, "CREATE TABLE kept AS SELECT 1 AS n").await;
    let mark = cluster.node(0).log_file().with_extension("rewinding");
    std::fs::write(&mark, "").unwrap();
    let error = cluster.node(0).start(LIMIT).await.unwrap_err();
    assert!(matches!(error, PostgresError::HalfRewound { .. }), "{error}");
    let rejoined = rejoin(&cluster, 0, "rejoin_node0", true).await;
    assert!(rejoined.rewound && !mark.exists());
    eventually(LIMIT, "the copy follows", async || {
        let client = cluster.client(0).await;
        client.query_one("SELECT n FROM kept WHERE pg_is_in_recovery()", &[]).await.ok()
    })
    .await;
}
