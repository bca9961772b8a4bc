//! The control plane over real servers, without the data path: failover, switchover, frozen and returning nodes.
//!
//! A writer that knows nothing of primacy's inner life follows the board: it writes tokens to the primary that the board
//! shows while service is open, and keeps what was acknowledged. Every acknowledged token must be there in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use primacy::control::report::{Change, StatusReport};
use primacy::control::settings::{Credentials, NodeSettings};
use primacy::control::{self, Board, ControlHandle, LocalServers, OwnCluster, Settings};
use primacy::failover;
use primacy::model::{Address, NodeId, Secret, Service};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use crate::harness::{Cluster, LIMIT, eventually};

/// A control plane in front of a test cluster.
struct Control {
    handle: ControlHandle,
    board: Arc<Board>,
    thread: Option<std::thread::JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
}

/// What differs from the usual control plane.
#[derive(Default)]
struct Options {
    without_local: bool,
    state_dir: Option<std::path::PathBuf>,
}

fn logged() {
    let filter = tracing_subscriber::EnvFilter::new("primacy=info");
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init());
}

impl Control {
    fn settings(cluster: &Cluster, options: &Options) -> Settings {
        let nodes: Vec<NodeSettings> = cluster
            .servers()
            .nodes()
            .iter()
            .map(|node| {
                NodeSettings::new(node.name(), Address::Tcp { host: "127.0.0.1".into(), port: node.port() })
            })
            .collect();
        let role = |name: &str| Credentials { user: name.into(), password: Secret::new(name) };
        let mut settings = Settings::new(nodes, role("postgres"), failover::Settings::default());
        settings.replication = Some(role("replicator"));
        settings.state_dir.clone_from(&options.state_dir);
        settings
    }

    fn start(cluster: &Cluster, options: Options) -> Self {
        logged();
        let settings = Self::settings(cluster, &options);
        let board = Board::new(control::first_snapshot(&settings));
        let own: Arc<dyn LocalServers> = Arc::new(OwnCluster(Arc::new(cluster.servers().clone())));
        let local = (!options.without_local).then_some(own);
        let (stop, stopped) = oneshot::channel();
        let (started, handle) = std::sync::mpsc::channel();
        let shown = board.clone();
        // A thread of its own, as in the program: what the test does must not delay it.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let stopped = async {
                    drop(stopped.await);
                };
                let (handle, running) = control::run(settings, shown, local, stopped).unwrap();
                started.send(handle).unwrap();
                running.await.unwrap();
            });
        });
        Self { handle: handle.recv().unwrap(), board, thread: Some(thread), stop: Some(stop) }
    }

    /// Ends it as a signal would, and waits for it.
    fn stop(mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }

    async fn status(&self) -> StatusReport {
        self.handle.status().await.unwrap()
    }

    /// Waits until the primary is `node` and takes writes, and all the others are members that serve reads.
    async fn settled(&self, node: usize) {
        eventually(LIMIT, &format!("node{node} leads and all follow"), async || {
            let status = self.status().await;
            let all = status.nodes.iter().all(|node| node.readable && node.standing == "member");
            let led = status.primary.as_deref() == Some(&format!("node{node}"));
            (led && all && status.state == "steady").then_some(())
        })
        .await;
    }

    fn leads(&self, node: u16) -> bool {
        self.board.snapshot().writable_primary() == Some(NodeId(node))
    }

    /// Waits until another node than `old` takes writes; which.
    async fn led_by_another_than(&self, old: usize) -> usize {
        eventually(LIMIT, "another node takes writes", async || {
            let primary = self.board.snapshot().writable_primary()?;
            (primary.index() != old).then_some(primary.index())
        })
        .await
    }

    fn last_change(&self) -> Change {
        self.handle.history().pop().expect("a change of primary is remembered")
    }
}

/// Writes tokens one after another and keeps those that were acknowledged, with the time of the acknowledgement.
struct Writer {
    acknowledged: Arc<Mutex<Vec<(i64, Instant)>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writer {
    async fn start(cluster: &Cluster, board: &Arc<Board>, primary: usize) -> Self {
        cluster.sql(primary, "CREATE TABLE token (n bigint); GRANT ALL ON token TO app").await;
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let ports: Vec<u16> = cluster.servers().nodes().iter().map(|node| node.port()).collect();
        let task = tokio::spawn(write(board.clone(), ports, acknowledged.clone(), stop.clone()));
        let writer = Self { acknowledged, stop, task };
        writer.writes_after(Instant::now()).await;
        writer
    }

    /// The first acknowledgement after a moment.
    async fn writes_after(&self, moment: Instant) -> Instant {
        eventually(LIMIT, "a write is acknowledged", async || {
            let acknowledged = self.acknowledged.lock().unwrap();
            acknowledged.iter().map(|(_, at)| *at).find(|at| *at > moment)
        })
        .await
    }

    /// Ends it and checks that everything acknowledged is there, once.
    async fn check(self, cluster: &Cluster, primary: usize) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        let rows = cluster.sql(primary, "SELECT n, count(*) FROM token GROUP BY n").await;
        let there: std::collections::HashMap<i64, String> =
            rows.into_iter().map(|row| (row[0].parse().unwrap(), row[1].clone())).collect();
        let acknowledged = self.acknowledged.lock().unwrap();
        for (token, _) in acknowledged.iter() {
            assert_eq!(there.get(token).map(String::as_str), Some("1"), "token {token} was acknowledged");
        }
        acknowledged.len()
    }
}

async fn write(
    board: Arc<Board>,
    ports: Vec<u16>,
    acknowledged: Arc<Mutex<Vec<(i64, Instant)>>>,
    stop: Arc<AtomicBool>,
) {
    let mut token = 0;
    let mut changes = board.changes();
    while !stop.load(Ordering::SeqCst) {
        let snapshot = board.snapshot().clone();
        let Some(primary) = snapshot.writable_primary() else {
            let _unless_stopped = tokio::time::timeout(Duration::from_millis(100), changes.changed()).await;
            continue;
        };
        let url = format!("postgres://app:app@127.0.0.1:{}/app?connect_timeout=1", ports[primary.index()]);
        let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await else {
            board.suspect(primary);
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let driver = tokio::spawn(connection);
        // As the data path does it: a statement is sent only while this epoch's primary takes writes, and an answer
        // counts only while the epoch lasts.
        loop {
            board.enter_primary();
            let now = board.snapshot().clone();
            if now.epoch != snapshot.epoch || now.service != Service::Open || stop.load(Ordering::SeqCst) {
                board.leave_primary();
                break;
            }
            token += 1;
            let insert = format!("INSERT INTO token VALUES ({token})");
            let epoch_ends = async {
                let mut changes = board.changes();
                while board.snapshot().epoch == snapshot.epoch {
                    drop(changes.changed().await);
                }
            };
            let answer = tokio::select! {
                answer = client.batch_execute(&insert) => answer.is_ok(),
                () = epoch_ends => false,
            };
            board.leave_primary();
            if !answer {
                board.suspect(primary);
                break;
            }
            acknowledged.lock().unwrap().push((token, Instant::now()));
        }
        drop(client);
        driver.abort();
    }
}

fn say(what: &str, change: &Change, pause: Duration) {
    let steps: Vec<String> = change.steps.iter().map(|s| format!("{} {}", s.step, s.after_ms)).collect();
    eprintln!(
        "MEASURED {what}: {} ms without writes; {} {}; {}",
        pause.as_millis(),
        change.cause,
        change.rule,
        steps.join(", ")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_replaced_and_returns_as_a_replica() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, Options::default());
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    let mut primary = 0;
    for _ in 0..3 {
        let killed = Instant::now();
        cluster.kill(primary).await;
        let new = control.led_by_another_than(primary).await;
        let again = writer.writes_after(killed).await;
        eventually(LIMIT, "the change is remembered", async || {
            (!control.handle.history().is_empty()).then_some(())
        })
        .await;
        control.settled(new).await;
        eprintln!("MEASURED kill -9: all nodes are back after {} ms", killed.elapsed().as_millis());
        say("kill -9", &control.last_change(), again - killed);
        let rows = cluster.sql(new, "SELECT epoch, node FROM primacy.term ORDER BY epoch DESC LIMIT 1").await;
        assert_eq!(rows[0][1], format!("node{new}"), "the term row names the new primary");
        primary = new;
    }
    let written = writer.check(&cluster, primary).await;
    eprintln!("MEASURED kill -9: {written} acknowledged, none lost");
    control.stop();
}
