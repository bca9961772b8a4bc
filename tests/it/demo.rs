//! `primacy demo`: the cluster, its directory and its end; the proxy's part is played by the test.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use primacy::cli::demo::{DemoArgs, DemoError, DurabilityArg, Handover, run};
use primacy::model::NodeId;
use primacy::postgres::PostgresError;

use crate::harness::{LIMIT, PortLease, installation};

/// Three ports in a row for the servers, and two more.
fn args(dir: Option<&Path>) -> (DemoArgs, Vec<PortLease>) {
    let leases: Vec<PortLease> = (0..2).map(|_| PortLease::take()).collect();
    let address = |lease: &PortLease| SocketAddr::from(([127, 0, 0, 1], lease.number()));
    let nodes = PortLease::take_row(3);
    let args = DemoArgs {
        dir: dir.map(Path::to_path_buf),
        nodes: 3,
        listen: address(&leases[0]),
        admin: address(&leases[1]),
        base_port: nodes[0].number(),
        durability: DurabilityArg::Quorum,
        via: Vec::new(),
        pg_bin: std::env::var_os("PRIMACY_TEST_PG_BIN").map(Into::into),
        for_seconds: Some(0),
    };
    (args, leases.into_iter().chain(nodes).collect())
}

/// A proxy that is ready at once and stops when it is told to.
async fn serve(handover: Handover) -> Result<(), String> {
    let mut stop = handover.stop;
    handover.ready.send(()).unwrap();
    stop.wait_for(|stop| *stop).await.map(drop).map_err(|error| error.to_string())
}

fn path() -> Option<std::ffi::OsString> {
    std::env::var_os("PATH")
}

#[tokio::test]
async fn a_temporary_demo_is_up_within_its_time_and_leaves_nothing() {
    let (args, _ports) = args(None);
    let begun = Instant::now();
    let mut dir = None;
    let looking = async |handover: Handover| {
        eprintln!("ready after {:?}", begun.elapsed());
        assert!(begun.elapsed() < LIMIT);
        let config = std::fs::read_to_string(&handover.config_file).unwrap();
        let config: toml::Table = config.parse().unwrap();
        assert_eq!(config["nodes"].as_array().unwrap().len(), 3);
        dir = Some(handover.config_file.parent().unwrap().to_path_buf());
        serve(handover).await
    };
    run(args, path(), looking).await.unwrap();
    assert!(!dir.unwrap().exists());
}

#[tokio::test]
async fn a_second_demo_resumes_the_first_ones_directory_whoever_is_the_primary_now() {
    let outer = tempfile::tempdir().unwrap();
    installation().await.account.own(outer.path()).unwrap();
    let (args, _ports) = args(Some(&outer.path().join("demo")));
    let promoting = async |handover: Handover| {
        let [old, new] = [0, 1].map(|id| handover.cluster.node(NodeId(id)).unwrap());
        old.kill(LIMIT).await.unwrap();
        let client = handover.cluster.superuser_on(new, LIMIT).await.unwrap();
        client.batch_execute("SELECT pg_promote()").await.unwrap();
        client.batch_execute("CREATE TABLE kept ()").await.unwrap();
        serve(handover).await
    };
    run(args.clone(), path(), promoting).await.unwrap();
    let looking = async |handover: Handover| {
        for (id, standby) in [(0, true), (1, false), (2, true)] {
            let node = handover.cluster.node(NodeId(id)).unwrap();
            assert_eq!(node.is_standby(), standby, "{}", node.name());
        }
        let old = handover.cluster.node(NodeId(0)).unwrap();
        let client = handover.cluster.superuser_on(old, LIMIT).await.unwrap();
        assert!(
            client.query_one("SELECT to_regclass('kept') IS NOT NULL", &[]).await.unwrap().get::<_, bool>(0)
        );
        serve(handover).await
    };
    run(args, path(), looking).await.unwrap();
    // Resumed again, and kept for the next time.
    assert!(outer.path().join("demo/node0/PG_VERSION").exists());
}

#[tokio::test]
async fn a_proxy_that_fails_ends_the_demo_and_its_servers() {
    let (args, _ports) = args(None);
    let mut cluster = None;
    let failing = async |handover: Handover| {
        cluster = Some(handover.cluster.clone());
        Err("no luck".to_owned())
    };
    let error = run(args, path(), failing).await.unwrap_err();
    assert!(error.to_string().contains("no luck"), "{error}");
    assert!(cluster.unwrap().nodes().iter().all(|node| node.running().is_none()));
}

#[tokio::test]
async fn a_taken_port_and_a_foreign_directory_are_refused_and_left_alone() {
    let outer = tempfile::tempdir().unwrap();
    installation().await.account.own(outer.path()).unwrap();
    let dir = outer.path().join("demo");
    let (args, _ports) = args(Some(&dir));
    let squatter = std::net::TcpListener::bind(("127.0.0.1", args.base_port + 1)).unwrap();
    let error = run(args.clone(), path(), serve).await.unwrap_err();
    assert!(matches!(error, DemoError::Servers(PostgresError::PortBusy { .. })), "{error}");
    drop(squatter);
    std::fs::create_dir_all(dir.join("node1")).unwrap();
    std::fs::write(dir.join("node1/precious"), "mine").unwrap();
    let error = run(args, path(), serve).await.unwrap_err();
    assert!(matches!(error, DemoError::Servers(PostgresError::NotOurs { .. })), "{error}");
    assert!(dir.join("node1/precious").exists() && !dir.join("node0").exists());
}

#[tokio::test]
async fn a_build_that_is_broken_off_leaves_no_half_cluster_behind() {
    let outer = tempfile::tempdir().unwrap();
    installation().await.account.own(outer.path()).unwrap();
    let dir = outer.path().join("demo");
    let (args, _ports) = args(Some(&dir));
    // The first replica's copy cannot be made: its log's name is taken by a directory.
    std::fs::create_dir_all(dir.join("node1.log")).unwrap();
    let error =
        tokio::time::timeout(Duration::from_secs(60), run(args, path(), serve)).await.unwrap().unwrap_err();
    assert!(matches!(error, DemoError::Servers(PostgresError::File { .. })), "{error}");
    assert!(!dir.join("node0").exists() && !dir.join("node1").exists());
}

#[tokio::test]
async fn a_second_demo_in_the_same_directory_leaves_the_first_one_alone() {
    let outer = tempfile::tempdir().unwrap();
    installation().await.account.own(outer.path()).unwrap();
    let dir = outer.path().join("demo");
    let (args, _ports) = args(Some(&dir));
    let (other, _other_ports) = self::args(Some(&dir));
    let serving = async |handover: Handover| {
        let error = run(other, path(), serve).await.unwrap_err();
        assert!(matches!(error, DemoError::DirInUse { .. }), "{error}");
        assert!(handover.cluster.nodes().iter().all(|node| node.running().is_some()));
        serve(handover).await
    };
    run(args, path(), serving).await.unwrap();
}
