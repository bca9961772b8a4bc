//! The room `postgres`: clusters built, resumed, killed and rejoined on this machine.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use primacy::model::NodeId;
use primacy::postgres::{Cluster, ClusterSpec, Durability, Rejoin, Search, Step, Watchdog};

const LIMIT: Duration = Duration::from_secs(30);

fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn spec(dir: &Path) -> ClusterSpec {
    ClusterSpec {
        dir: dir.to_path_buf(),
        ports: free_ports(3),
        durability: Durability::Quorum,
        sync: false,
        settings: vec![("fsync".into(), "off".into())],
        init_args: vec!["--wal-segsize=1".into()],
    }
}

fn path() -> Option<OsString> {
    std::env::var_os("PATH")
}

fn say(step: &Step<'_>) {
    eprintln!("{step}");
}

#[tokio::test]
async fn a_cluster_is_built_killed_rejoined_stopped_and_resumed() {
    let dir = tempfile::tempdir().unwrap().keep();
    let dir = dir.join("cluster");
    let parent = dir.parent().unwrap();
    std::fs::set_permissions(parent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let watchdog = Watchdog::over(&dir).unwrap();
    let search = Search { path: path(), ..Search::default() };
    let installation = Arc::new(search.run().await.unwrap());
    let spec = spec(&dir);
    let cluster = Cluster::describe(&installation, &spec);
    cluster.open(&spec, &say).await.unwrap();

    // Killed as a crash would, promoted by hand, and brought back with a history of its own.
    let [old, new] = [NodeId(0), NodeId(1)].map(|id| cluster.node(id).unwrap());
    let pid = old.running().unwrap();
    old.kill(LIMIT).await.unwrap();
    assert_eq!(old.running(), None, "{pid} is gone");
    let client = cluster.superuser_on(new, LIMIT).await.unwrap();
    client.execute("SELECT pg_promote()", &[]).await.unwrap();
    old.start(LIMIT).await.unwrap();
    let diverged = cluster.superuser_on(old, LIMIT).await.unwrap();
    diverged.batch_execute("CREATE TABLE lost()").await.unwrap();
    let how = Rejoin { application_name: "node0".into(), rewind: true };
    let outcome = cluster.rejoin(NodeId(0), NodeId(1), &how).await.unwrap();
    assert!(outcome.rewound);
    let outcome =
        cluster.rejoin(NodeId(2), NodeId(1), &Rejoin { application_name: "node2".into(), ..how }).await;
    assert!(!outcome.unwrap().rewound);
    let row = cluster.superuser_on(old, LIMIT).await.unwrap();
    let row = row.query_one("SELECT pg_is_in_recovery(), to_regclass('lost') IS NULL", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0) && row.get::<_, bool>(1));

    cluster.stop(LIMIT).await.unwrap();
    assert!(cluster.nodes().iter().all(|node| node.running().is_none()));
    cluster.open(&spec, &say).await.unwrap();
    assert!(!cluster.node(NodeId(1)).unwrap().is_standby());
    drop(watchdog);
    assert!(!dir.exists());
    assert!(cluster.nodes().iter().all(|node| node.running().is_none()));
    std::fs::remove_dir(parent).unwrap();
}
