//! The control plane over real servers, without the data path: failover, switchover, frozen and returning nodes.
//!
//! A writer that knows nothing of primacy's inner life follows the board: it writes tokens to the primary that the board
//! shows while service is open, and keeps what was acknowledged. Every acknowledged token must be there in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use primacy::control::report::{Change, StatusReport};
use primacy::control::settings::{Credentials, NodeSettings};
use primacy::control::{self, Board, ControlHandle, LocalServers, OwnCluster, Settings};
use primacy::failover;
use primacy::model::{Address, NodeId, Secret, Service};
use primacy::postgres::Instance;
use primacy::tls::{ServerTls as Tls, ServerTlsMode as TlsMode};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use crate::harness::{Certificates, Cluster, LIMIT, eventually};

/// A control plane in front of a test cluster.
pub(crate) struct Control {
    handle: ControlHandle,
    pub(crate) board: Arc<Board>,
    thread: Option<std::thread::JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
}

/// What differs from the usual control plane.
#[derive(Default)]
pub(crate) struct Options {
    without_local: bool,
    state_dir: Option<std::path::PathBuf>,
    /// primacy's own role; a superuser where absent.
    service: Option<&'static str>,
    /// Whether a crashed primary comes back as a standby by itself.
    armed: bool,
    tls: Option<Tls>,
    asynchronous: bool,
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
        let mut settings =
            Settings::new(nodes, role(options.service.unwrap_or("postgres")), failover::Settings::default());
        settings.replication = Some(role("replicator"));
        settings.database = "app".into();
        settings.state_dir.clone_from(&options.state_dir);
        settings.failover.arm_standby_signal = options.armed;
        if options.asynchronous {
            settings.failover.durability = failover::Durability::Async;
        }
        for node in &mut settings.nodes {
            node.tls = options.tls.clone().unwrap_or_default();
        }
        settings
    }

    pub(crate) fn start(cluster: &Cluster, options: &Options) -> Self {
        logged();
        let settings = Self::settings(cluster, options);
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
    pub(crate) fn stop(mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }

    pub(crate) async fn status(&self) -> StatusReport {
        self.handle.status().await.unwrap()
    }

    /// Waits until the primary is `node` and takes writes, and all the others are members that serve reads.
    pub(crate) async fn settled(&self, node: usize) {
        eventually(LIMIT, &format!("node{node} leads and all follow"), async || {
            let status = self.status().await;
            let all = status.nodes.iter().all(|node| node.readable && node.standing == "member");
            let led = status.primary.as_deref() == Some(&format!("node{node}"));
            // A quorum that has just been set counts when the replicas have what was acknowledged before it.
            let counts = status.quorum.is_some_and(|quorum| quorum.recruits_needed < status.nodes.len());
            (led && all && counts && status.state == "steady").then_some(())
        })
        .await;
    }

    fn leads(&self, node: u16) -> bool {
        self.board.snapshot().writable_primary() == Some(NodeId(node))
    }

    /// Waits until another node than `old` takes writes; which.
    pub(crate) async fn led_by_another_than(&self, old: usize) -> usize {
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
pub(crate) struct Writer {
    acknowledged: Arc<Mutex<Vec<(i64, Instant)>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writer {
    pub(crate) async fn start(cluster: &Cluster, board: &Arc<Board>, primary: usize) -> Self {
        cluster.sql(primary, "CREATE TABLE token (n bigint); GRANT ALL ON token TO app").await;
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let ports: Vec<u16> = cluster.servers().nodes().iter().map(Instance::port).collect();
        let task = tokio::spawn(write(board.clone(), ports, acknowledged.clone(), stop.clone()));
        let writer = Self { acknowledged, stop, task };
        writer.writes_after(Instant::now()).await;
        writer
    }

    /// Waits for an acknowledgement that is younger than `moment`.
    pub(crate) async fn writes_after(&self, moment: Instant) {
        eventually(LIMIT, "a write is acknowledged", async || {
            let acknowledged = self.acknowledged.lock().unwrap();
            acknowledged.last().filter(|(_, at)| *at > moment).map(drop)
        })
        .await;
    }

    /// The longest time without an acknowledgement since `moment`.
    pub(crate) fn longest_pause_since(&self, moment: Instant) -> Duration {
        let acknowledged = self.acknowledged.lock().unwrap();
        let times = acknowledged.iter().map(|(_, at)| *at);
        let (_, longest) = times.fold((None, Duration::ZERO), |(before, longest), at| match before {
            Some(before) if at > moment => (Some(at), longest.max(at - before)),
            _ => (Some(at), longest),
        });
        longest
    }

    /// Ends it and checks that everything acknowledged is there, once.
    pub(crate) async fn check(self, cluster: &Cluster, primary: usize) -> usize {
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
    let control = Control::start(&cluster, &Options::default());
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
    let control = Control::start(&cluster, &Options::default());
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
    let control = Control::start(&cluster, &Options::default());
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
    let control = Control::start(&cluster, &Options { without_local: true, ..Options::default() });
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
    let control = Control::start(&cluster, &Options::default());
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
    let control = Control::start(&cluster, &Options::default());
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
    let control = Control::start(&cluster, &options());
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

    let control = Control::start(&cluster, &options());
    control.settled(new).await;
    let after = control.status().await;
    assert_eq!((after.epoch, after.timeline), (before.epoch, before.timeline));
    assert!(after.journal_durable);
    assert_eq!(control.handle.history().len(), 1);
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_replay_does_not_keep_a_receiver_alive() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, &Options::default());
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    cluster.pause_replay(1).await;
    cluster.pause_replay(2).await;
    let since = Instant::now();
    writer.writes_after(since).await;
    // Frozen, so that the receivers stay connected and can only be ended by a startup process that is not paused.
    cluster.stop(0);
    let new = control.led_by_another_than(0).await;
    writer.writes_after(Instant::now()).await;
    say("SIGSTOP with paused replays", &control.last_change(), writer.longest_pause_since(since));
    cluster.cont(0);
    control.settled(new).await;
    writer.check(&cluster, new).await;
    control.stop();
}

/// A receiver that lost its primary is gone for a moment, and comes back under the setting that its server has read last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_may_come_back_is_not_taken_for_stopped() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, &Options::default());
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    // Nobody can sign in later on: the connections that are there have to do (one for samples, three for deeds), and
    // their turn has just come.
    for replica in [1, 2] {
        let open = "SELECT count(*) > 3 FROM pg_stat_activity WHERE application_name = 'primacy'";
        eventually(LIMIT, "the connections are open", async || {
            (cluster.value(replica, open).await == "t").then_some(())
        })
        .await;
        control.board.suspect(NodeId(u16::try_from(replica).unwrap()));
    }
    let asked = Instant::now();
    eventually(LIMIT, "the replicas have answered", async || {
        let fresh = |ago: u64| Duration::from_millis(ago) < asked.elapsed();
        let status = control.status().await;
        status.nodes.iter().all(|node| node.answered_ms_ago.is_some_and(fresh)).then_some(())
    })
    .await;
    let postmasters = [1, 2].map(|replica| cluster.node(replica).running().unwrap());
    for postmaster in postmasters {
        kill(postmaster, Signal::SIGSTOP).unwrap();
    }
    cluster.kill(0).await;
    for replica in [1, 2] {
        let written = cluster.node(replica).data_dir().join("postgresql.auto.conf");
        eventually(LIMIT, "the receiver is told to stop", async || {
            let text = std::fs::read_to_string(&written).unwrap();
            text.contains("primary_conninfo = ''").then_some(())
        })
        .await;
    }
    // Time enough for many looks at a receiver that is not there.
    let looked = Instant::now();
    while looked.elapsed() < Duration::from_millis(300) {
        assert_eq!(control.status().await.state, "recruiting");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for postmaster in postmasters {
        kill(postmaster, Signal::SIGCONT).unwrap();
    }
    let new = control.led_by_another_than(0).await;
    control.settled(new).await;
    writer.check(&cluster, new).await;
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_conflict_with_recovery_is_ended() {
    let cluster = Cluster::builder(2).setting("max_standby_streaming_delay", "-1").run().await;
    let control = Control::start(&cluster, &Options::default());
    control.settled(0).await;
    cluster.sql(0, "CREATE TABLE locked (n int)").await;
    let mut readers = Vec::new();
    for replica in [1, 2] {
        cluster.caught_up(replica, 0).await;
        let reader = cluster.client(replica).await;
        reader.batch_execute("BEGIN; SELECT FROM locked").await.unwrap();
        readers.push(reader);
    }
    let writer = Writer::start(&cluster, &control.board, 0).await;
    // The replicas receive this, and cannot replay it while their readers hold the table.
    cluster.sql(0, "ALTER TABLE locked ADD m int").await;
    writer.writes_after(Instant::now()).await;
    let since = Instant::now();
    cluster.stop(0);
    let new = control.led_by_another_than(0).await;
    writer.writes_after(Instant::now()).await;
    say("SIGSTOP with conflicts", &control.last_change(), writer.longest_pause_since(since));
    cluster.cont(0);
    control.settled(new).await;
    writer.check(&cluster, new).await;
    control.stop();
}

/// What a role that is no superuser needs on PostgreSQL 15 and later: word for word what the README has.
fn privileges() -> String {
    let readme = include_str!("../../README.md");
    let begin = readme.find("CREATE ROLE primacy LOGIN REPLICATION").expect("the README has the grants");
    let grants = readme[begin..].split("\n\n").next().unwrap();
    grants.replace("'...'", "'primacy'").replace("DATABASE postgres", "DATABASE app")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_no_superuser_is_enough() {
    let cluster = Cluster::with_replicas(2).await;
    if cluster.value(0, "SELECT current_setting('server_version_num')::int >= 150000").await != "t" {
        eprintln!("ALTER SYSTEM cannot be granted before PostgreSQL 15");
        return;
    }
    cluster.sql(0, &privileges()).await;
    cluster.caught_up(1, 0).await;
    cluster.caught_up(2, 0).await;
    let control = Control::start(&cluster, &Options { service: Some("primacy"), ..Options::default() });
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    let since = Instant::now();
    cluster.kill(0).await;
    let new = control.led_by_another_than(0).await;
    writer.writes_after(Instant::now()).await;
    control.settled(new).await;
    say("kill -9, role primacy", &control.last_change(), writer.longest_pause_since(since));
    control.handle.switchover(Some("node0"), false).await.unwrap();
    control.settled(0).await;
    writer.check(&cluster, 0).await;
    control.stop();
}

/// The second failure hits the candidate in the middle of its promotion: somebody leads, and both come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_dies_while_it_is_promoted_comes_back() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, &Options::default());
    control.settled(0).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    writer.writes_after(Instant::now()).await;
    let crash = |node| kill(cluster.node(node).running().unwrap(), Signal::SIGKILL).unwrap();
    // The one that has the last commits is promoted.
    cluster.stop(2);
    writer.writes_after(Instant::now()).await;
    crash(0);
    cluster.cont(2);
    let deadline = Instant::now() + LIMIT;
    while control.status().await.state != "promoting" {
        assert!(Instant::now() < deadline, "it is not told to promote");
        tokio::task::yield_now().await;
    }
    crash(1);
    // node2, or node0 again where node2 lacks what node1 has acknowledged.
    writer.writes_after(Instant::now()).await;
    let leads =
        control.status().await.primary.expect("a primary").trim_start_matches("node").parse().unwrap();
    control.settled(leads).await;
    writer.check(&cluster, leads).await;
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_was_interrupted_is_finished_by_the_next_start() {
    let cluster = Cluster::with_replicas(2).await;
    let state = tempfile::tempdir().unwrap();
    let options = || Options { state_dir: Some(state.path().to_owned()), ..Options::default() };
    let mut control = Control::start(&cluster, &options());
    control.settled(0).await;
    let mut primary = 0;
    // Interrupted at another moment each time: while recruiting, resolving, promoting, establishing.
    for moment in ["recruiting", "resolving", "promoting", "establishing"] {
        cluster.kill(primary).await;
        eventually(LIMIT, moment, async || {
            let status = control.status().await;
            let past =
                status.state == "steady" && status.primary.as_deref() != Some(&format!("node{primary}"));
            (status.state == moment || past).then_some(())
        })
        .await;
        control.stop();
        control = Control::start(&cluster, &options());
        let new = control.led_by_another_than(primary).await;
        eprintln!("interrupted while {moment}: node{new} leads");
        control.settled(new).await;
        primary = new;
    }
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_promoted_while_the_journal_cannot_be_written() {
    let cluster = Cluster::with_replicas(2).await;
    let state = tempfile::tempdir().unwrap();
    let control =
        Control::start(&cluster, &Options { state_dir: Some(state.path().to_owned()), ..Options::default() });
    control.settled(0).await;
    // The draft cannot be created while a directory has its name: an error as from a full disk.
    let draft = state.path().join("journal.new");
    std::fs::create_dir(&draft).unwrap();
    cluster.kill(0).await;
    eventually(LIMIT, "people are told", async || {
        control.status().await.alarms.iter().any(|alarm| alarm.contains("journal")).then_some(())
    })
    .await;
    assert_eq!(control.board.snapshot().writable_primary(), None);
    for replica in [1, 2] {
        assert_eq!(cluster.value(replica, "SELECT pg_is_in_recovery()").await, "t");
    }
    std::fs::remove_dir(&draft).unwrap();
    let new = control.led_by_another_than(0).await;
    control.settled(new).await;
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_covers_what_was_acknowledged_before_and_replicas_reach_it() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, &Options::default());
    control.settled(0).await;
    cluster.sql(0, "CREATE TABLE t (n int)").await;
    let board = &control.board;
    let covered = async |primary: usize| {
        let client = cluster.client(primary).await;
        let mut times = Vec::new();
        for _ in 0..20 {
            client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
            let (ticket, asked) = (board.ticket(), Instant::now());
            let sampled = async {
                loop {
                    let mut moved = board.want_positions();
                    let (number, position) = board.sample();
                    if number >= ticket {
                        return position;
                    }
                    moved.changed().await.unwrap();
                }
            };
            let position = tokio::time::timeout(LIMIT, sampled).await.expect("a sample");
            times.push(asked.elapsed());
            let on_primary = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
            assert!(position <= on_primary.get::<_, &str>(0).parse().unwrap());
            let all = control.board.snapshot().nodes.iter().map(|node| node.id).collect::<Vec<_>>();
            for replica in all.into_iter().filter(|node| node.index() != primary) {
                eventually(LIMIT, "a replica has replayed it", async || {
                    drop(board.want_positions());
                    (board.replayed(replica) >= position).then_some(())
                })
                .await;
                let rows = cluster.sql(replica.index(), "SELECT pg_last_wal_replay_lsn()").await;
                assert!(rows[0][0].parse::<primacy::model::Lsn>().unwrap() >= position);
            }
        }
        times.sort();
        eprintln!("MEASURED sample: median {:?}, worst {:?}", times[times.len() / 2], times[times.len() - 1]);
    };
    covered(0).await;
    control.handle.switchover(Some("node1"), false).await.unwrap();
    control.settled(1).await;
    covered(1).await;
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_in_doubt_are_resolved_on_the_candidate() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, &Options::default());
    control.settled(0).await;
    cluster.sql(0, "CREATE TABLE t (n int)").await;
    let client = cluster.client(0).await;
    let xid = "SELECT pg_current_xact_id()::text::bigint";
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let committed: i64 = client.query_one(xid, &[]).await.unwrap().get(0);
    client.batch_execute("COMMIT; BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    let open: i64 = client.query_one(xid, &[]).await.unwrap().get(0);
    let doubts: Vec<_> = [committed, open, open + 1_000_000]
        .into_iter()
        .map(|xid| control.board.in_doubt().enter(u64::try_from(xid).unwrap()))
        .collect();
    cluster.kill(0).await;
    let new = control.led_by_another_than(0).await;
    let epoch = control.board.snapshot().epoch;
    let fates: Vec<_> = doubts.iter().map(|doubt| doubt.fate(epoch).as_str()).collect();
    assert_eq!(fates, ["committed", "aborted", "aborted"]);
    assert_eq!(cluster.value(new, "SELECT count(*) FROM t").await, "1");
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_armed_primary_that_crashes_comes_back_as_a_standby_by_itself() {
    let cluster = Cluster::with_replicas(2).await;
    let control =
        Control::start(&cluster, &Options { armed: true, without_local: true, ..Options::default() });
    control.settled(0).await;
    let signal = cluster.node(0).data_dir().join("standby.signal");
    eventually(LIMIT, "the signal is armed", async || signal.exists().then_some(())).await;
    let writer = Writer::start(&cluster, &control.board, 0).await;
    let since = Instant::now();
    // One server process dies; the postmaster restarts all of them.
    let crash = cluster.client(0).await.batch_execute("COPY (SELECT) TO PROGRAM 'kill -9 $PPID'").await;
    assert!(crash.is_err());
    // It may well be the one that is promoted: it has everything.
    let new = eventually(LIMIT, "the next epoch is served", async || {
        let snapshot = control.board.snapshot().clone();
        snapshot.writable_primary().filter(|_| snapshot.epoch.0 > 1).map(NodeId::index)
    })
    .await;
    writer.writes_after(Instant::now()).await;
    control.settled(new).await;
    say("crash of an armed primary", &control.last_change(), writer.longest_pause_since(since));
    writer.check(&cluster, new).await;
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diverged_node_needs_a_person_where_nobody_can_rewind_it() {
    let cluster = Cluster::with_replicas(2).await;
    let control = Control::start(&cluster, &Options { without_local: true, ..Options::default() });
    control.settled(0).await;
    control.handle.pause().await.unwrap();
    cluster.stop(1);
    cluster.stop(2);
    cluster.sql(0, "SET synchronous_commit = local; CREATE TABLE lost (n int); CHECKPOINT").await;
    cluster.kill(0).await;
    cluster.cont(1);
    cluster.cont(2);
    control.handle.resume().await.unwrap();
    let new = control.led_by_another_than(0).await;
    cluster.start(0).await;
    let alarm = eventually(LIMIT, "a person is called", async || {
        let alarms = control.status().await.alarms;
        alarms.into_iter().find(|alarm| alarm.contains("node0") && alarm.contains("person"))
    })
    .await;
    eprintln!("{alarm}");
    let snapshot = control.board.snapshot().clone();
    assert_eq!(snapshot.writable_primary().unwrap().index(), new);
    assert!(snapshot.node(NodeId(0)).unwrap().unreadable.is_some(), "its rows are dead");
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_watched_over_tls_as_sslmode_says() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::builder(1).tls(&certificates).run().await;
    let tls = |mode, ca: Option<&str>| {
        Some(Tls { mode, ca_file: ca.map(|name| certificates.file(name)), ..Tls::default() })
    };
    let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
        WHERE application_name = 'primacy'";
    for (mode, ca) in [(TlsMode::Prefer, None), (TlsMode::Require, None), (TlsMode::VerifyCa, Some("ca.crt"))]
    {
        let control = Control::start(&cluster, &Options { tls: tls(mode, ca), ..Options::default() });
        control.settled(0).await;
        assert_eq!(cluster.sql(0, encrypted).await, [["t"]], "{mode:?}");
        control.stop();
    }
    // The certificate names localhost and not 127.0.0.1; the stranger signed nothing.
    for (mode, ca) in [(TlsMode::VerifyFull, "ca.crt"), (TlsMode::VerifyCa, "other.crt")] {
        let control = Control::start(&cluster, &Options { tls: tls(mode, Some(ca)), ..Options::default() });
        let error = eventually(LIMIT, "the certificate is refused", async || {
            let error = control.status().await.nodes[0].error.clone();
            (!error.is_empty()).then_some(error)
        })
        .await;
        assert!(error.contains("certificate"), "{mode:?}: {error}");
        control.stop();
    }
    let error =
        Tls { mode: TlsMode::VerifyCa, ca_file: Some(certificates.file("missing.crt")), ..Tls::default() };
    let mut settings = Control::settings(&cluster, &Options { tls: Some(error), ..Options::default() });
    settings.nodes.truncate(1);
    let refused =
        control::run(settings.clone(), Board::new(control::first_snapshot(&settings)), None, async {});
    assert!(refused.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_password_reaches_a_log_of_the_servers() {
    let cluster = Cluster::builder(2).setting("log_statement", "all").run().await;
    let control = Control::start(&cluster, &Options { without_local: true, ..Options::default() });
    control.settled(0).await;
    control.handle.switchover(Some("node1"), false).await.unwrap();
    control.settled(1).await;
    for node in cluster.servers().nodes() {
        let log = std::fs::read_to_string(node.log_file()).unwrap();
        assert!(log.contains("statement: "), "statements are logged");
        let shown = log.lines().find(|line| line.contains("primary_conninfo =") && line.contains("password"));
        assert_eq!(shown, None, "{}", node.name());
    }
    control.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_without_a_quorum_fail_over_too() {
    let cluster = Cluster::builder(1).asynchronous().run().await;
    let control = Control::start(&cluster, &Options { asynchronous: true, ..Options::default() });
    control.settled(0).await;
    cluster.sql(0, "CREATE TABLE token (n bigint)").await;
    cluster.caught_up(1, 0).await;
    for killed in [0, 1, 0] {
        let since = Instant::now();
        cluster.kill(killed).await;
        let new = control.led_by_another_than(killed).await;
        cluster.sql(new, "INSERT INTO token VALUES (1)").await;
        say("kill -9, two servers", &control.last_change(), since.elapsed());
        control.settled(new).await;
        cluster.caught_up(killed, new).await;
    }
    assert_eq!(cluster.value(1, "SELECT count(*) FROM token").await, "3");
    control.stop();
}
