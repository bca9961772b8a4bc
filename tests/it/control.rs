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
        settings.database = "app".into();
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

    /// Waits for an acknowledgement that is younger than `moment`.
    async fn writes_after(&self, moment: Instant) {
        eventually(LIMIT, "a write is acknowledged", async || {
            let acknowledged = self.acknowledged.lock().unwrap();
            acknowledged.last().filter(|(_, at)| *at > moment).map(drop)
        })
        .await;
    }

    /// The longest time without an acknowledgement since `moment`.
    fn longest_pause_since(&self, moment: Instant) -> Duration {
        let acknowledged = self.acknowledged.lock().unwrap();
        let times = acknowledged.iter().map(|(_, at)| *at);
        let (_, longest) = times.fold((None, Duration::ZERO), |(before, longest), at| match before {
            Some(before) if at > moment => (Some(at), longest.max(at - before)),
            _ => (Some(at), longest),
        });
        longest
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
        writer.writes_after(Instant::now()).await;
        control.settled(new).await;
        eprintln!("MEASURED kill -9: all nodes are back after {} ms", killed.elapsed().as_millis());
        say("kill -9", &control.last_change(), writer.longest_pause_since(killed));
        let rows = cluster.sql(new, "SELECT epoch, node FROM primacy.term ORDER BY epoch DESC LIMIT 1").await;
        assert_eq!(rows[0][1], format!("node{new}"), "the term row names the new primary");
        primary = new;
    }
    let written = writer.check(&cluster, primary).await;
    eprintln!("MEASURED kill -9: {written} acknowledged, none lost");
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_replaced_and_what_it_says_later_counts_for_nothing() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, Options::default());
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    let frozen = Instant::now();
    cluster.stop(0);
    let new = control.led_by_another_than(0).await;
    writer.writes_after(Instant::now()).await;
    say("SIGSTOP", &control.last_change(), writer.longest_pause_since(frozen));
    cluster.cont(0);
    control.settled(new).await;
    eprintln!("MEASURED SIGSTOP: all nodes are back after {} ms", frozen.elapsed().as_millis());
    let written = writer.check(&cluster, new).await;
    eprintln!("MEASURED SIGSTOP: {written} acknowledged, none lost");
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_moves_the_primary_and_loses_nothing() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, Options::default());
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    let checked = control.handle.switchover(Some("node2"), true).await.unwrap();
    eprintln!("{checked}");
    assert!(control.leads(0), "a dry run changes nothing");
    for (from, to) in [(0_u16, 2_u16), (2, 1), (1, 0)] {
        let asked = Instant::now();
        let done = control.handle.switchover(Some(&format!("node{to}")), false).await.unwrap();
        eprintln!("node{from} -> node{to}: {done}");
        writer.writes_after(Instant::now()).await;
        control.settled(to.into()).await;
        eprintln!("MEASURED switchover: all nodes are back after {} ms", asked.elapsed().as_millis());
        say("switchover", &control.last_change(), writer.longest_pause_since(asked));
    }
    let written = writer.check(&cluster, 0).await;
    eprintln!("MEASURED switchover: {written} acknowledged, none lost");
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_needs_nobody_beside_the_servers() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, Options { without_local: true, ..Options::default() });
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    let asked = Instant::now();
    control.handle.switchover(Some("node1"), false).await.unwrap();
    writer.writes_after(Instant::now()).await;
    control.settled(1).await;
    eprintln!("MEASURED switchover by SQL: all nodes are back after {} ms", asked.elapsed().as_millis());
    say("switchover by SQL", &control.last_change(), writer.longest_pause_since(asked));
    writer.check(&cluster, 1).await;
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stops_leaves_the_rotation_and_returns() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, Options::default());
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    let readable = |node: u16| control.board.snapshot().node(NodeId(node)).unwrap().unreadable.is_none();
    cluster.stop(1);
    eventually(LIMIT, "the frozen replica is out", async || (!readable(1)).then_some(())).await;
    assert!(control.leads(0) && readable(2));
    cluster.cont(1);
    eventually(LIMIT, "the replica is back", async || readable(1).then_some(())).await;
    cluster.kill(2).await;
    eventually(LIMIT, "the killed replica is out", async || (!readable(2)).then_some(())).await;
    writer.writes_after(Instant::now()).await;
    cluster.start(2).await;
    control.settled(0).await;
    assert!(control.handle.history().is_empty(), "the primary never changed");
    writer.check(&cluster, 0).await;
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_say_what_stands_in_their_way() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, Options::default());
    control.settled(0).await;
    let error = control.handle.switchover(Some("nobody"), false).await.unwrap_err().to_string();
    assert!(error.contains("nobody") && error.contains("node0, node1, node2"), "{error}");
    let error = control.handle.switchover(Some("node0"), false).await.unwrap_err().to_string();
    assert!(error.contains("primary already"), "{error}");
    control.handle.pause().await.unwrap();
    assert!(!control.status().await.automatic);
    cluster.kill(0).await;
    eventually(LIMIT, "the pause holds the failover back", async || {
        let status = control.status().await;
        status.alarms.iter().any(|alarm| alarm.contains("paused")).then_some(())
    })
    .await;
    control.handle.resume().await.unwrap();
    let new = control.led_by_another_than(0).await;
    control.settled(new).await;
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_remembers_the_epoch_and_a_second_process_is_refused() {
    let cluster = Cluster::with_replicas(2).await;
    let state = tempfile::tempdir().unwrap();
    let options = || Options { state_dir: Some(state.path().to_owned()), ..Options::default() };
    let control = Control::start(&cluster, options());
    control.settled(0).await;
    cluster.kill(0).await;
    let new = control.led_by_another_than(0).await;
    control.settled(new).await;
    let before = control.status().await;
    let settings = Control::settings(&cluster, &options());
    let refused =
        control::run(settings.clone(), Board::new(control::first_snapshot(&settings)), None, async {});
    assert!(refused.unwrap_err().to_string().contains("cannot be kept"));
    control.stop();

    let control = Control::start(&cluster, options());
    control.settled(new).await;
    let after = control.status().await;
    assert_eq!((after.epoch, after.timeline), (before.epoch, before.timeline));
    assert!(after.journal_durable);
    assert_eq!(control.handle.history().len(), 1);
    control.stop();
}
