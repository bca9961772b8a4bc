//! Servers that go: what clients of the proxy see of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually, frame, send_cancel};

pub(crate) const SETUP: &str = "CREATE TABLE t (v text PRIMARY KEY); GRANT ALL ON t TO app;
    CREATE FUNCTION slow(v text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_sleep(1); RETURN v; END $$;";

fn code(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| format!("{error:?}"), |code| code.code().to_owned())
}

async fn count(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn connections_that_are_terminated() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let client = proxy.client().await;
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'";
    client.batch_execute("SET application_name TO 'kept'; INSERT INTO t VALUES ('first')").await.unwrap();
    let named = client.prepare("SELECT current_setting('application_name'), $1::text").await.unwrap();
    // While idle: nobody notices.
    for _ in 0..3 {
        for node in 0..3 {
            cluster.sql(node, terminate).await;
            // The signal is sent then, not heard yet.
            let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
            eventually(LIMIT, "they are gone", async || {
                (cluster.value(node, left).await == "0").then_some(())
            })
            .await;
        }
        let row = client.query_one(&named, &[&"x"]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "kept");
    }
    // In a transaction: it is lost, the connection is not.
    client.batch_execute("BEGIN").await.unwrap();
    client.batch_execute("INSERT INTO t VALUES ('lost')").await.unwrap();
    cluster.sql(0, terminate).await;
    let error = client.batch_execute("INSERT INTO t VALUES ('lost too')").await.unwrap_err();
    assert_eq!(code(&error), "40001");
    assert_eq!(code(&client.batch_execute("SELECT 1").await.unwrap_err()), "25P02");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(count(&client).await, 1);
    // A read that runs is run again.
    eventually(LIMIT, "reads run on a replica", async || {
        let row = client.query_one("SELECT 1", &[]).await.unwrap();
        (row.get::<_, i32>(0) == 1).then_some(())
    })
    .await;
    let reading = client.query_one("SELECT slow('read')", &[]);
    let killing = async {
        eventually(LIMIT, "the read runs", async || {
            let mut killed = 0;
            for node in 0..3 {
                let text = format!("{terminate} AND query LIKE '%slow(%' AND state = 'active'");
                killed += cluster.value(node, &text).await.parse::<i32>().unwrap();
            }
            (killed > 0).then_some(())
        })
        .await;
    };
    let (row, ()) = tokio::join!(reading, killing);
    assert_eq!(row.unwrap().get::<_, &str>(0), "read");
    // A write that runs cannot have been committed: it is run again, once its server has ended.
    let writing = client.batch_execute("INSERT INTO t SELECT 'again' FROM pg_sleep(2)");
    let killing = eventually(LIMIT, "the write runs", async || {
        let text = format!("{terminate} AND query LIKE '%again%' AND state = 'active'");
        (cluster.value(0, &text).await == "1").then_some(())
    });
    let (written, ()) = tokio::join!(writing, killing);
    written.unwrap();
    assert_eq!(count(&client).await, 2);
    // One of which nobody can tell what it does when it is run again is not.
    let writing = client.batch_execute("CREATE TABLE doubtful AS SELECT 1 AS one FROM pg_sleep(30)");
    let killing = eventually(LIMIT, "the write runs", async || {
        let text = format!("{terminate} AND query LIKE '%doubtful%' AND state = 'active'");
        (cluster.value(0, &text).await == "1").then_some(())
    });
    let (written, ()) = tokio::join!(writing, killing);
    assert_eq!(code(&written.unwrap_err()), "08007");
    client.batch_execute("DELETE FROM t WHERE v = 'again'").await.unwrap();
    assert_eq!(count(&client).await, 1);
    replicas_go(&cluster, &client).await;
    stopped(proxy, &cluster).await;
}

/// Killed and frozen replicas: reads go on, from the others.
async fn replicas_go(cluster: &Cluster, client: &Client) {
    cluster.kill(1).await;
    for _ in 0..50 {
        assert_eq!(count(client).await, 1);
    }
    cluster.start(1).await;
    cluster.stop(2);
    let until = eventually(LIMIT, "reads go on without the frozen replica", async || {
        for _ in 0..20 {
            assert_eq!(count(client).await, 1);
        }
        Some(())
    });
    until.await;
    cluster.cont(2);
}

/// SIGHUP, and the end by SIGTERM.
async fn stopped(mut proxy: Proxy, cluster: &Cluster) {
    let file = cluster.dir().join(format!("proxy-{}", proxy.port())).join("primacy.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}\n[limits]\nidle_transaction_timeout = \"20s\"\n")).unwrap();
    proxy.signal(Signal::SIGHUP);
    eventually(LIMIT, "the reload is told", async || proxy.log().contains("reloaded: ").then_some(())).await;
    let mut idle = Raw::connect(proxy.port(), &[]).await;
    let mut busy = Raw::connect(proxy.port(), &[]).await;
    busy.run("Q BEGIN\nQ INSERT INTO t VALUES ('drained')").await;
    proxy.signal(Signal::SIGTERM);
    let seen = idle.until_ready().await;
    assert!(seen[0].starts_with("E 57P01"), "{seen:?}");
    assert_eq!(busy.query("COMMIT").await[0], "C COMMIT");
    let seen = busy.until_ready().await;
    assert!(seen[0].starts_with("E 57P01"), "{seen:?}");
    assert!(proxy.ended().await.success());
    assert_eq!(cluster.value(0, "SELECT count(*) FROM t WHERE v = 'drained'").await, "1");
}

/// What one writer was told about each of its tokens.
#[derive(Debug, Default)]
struct Told {
    committed: Vec<String>,
    rolled_back: Vec<String>,
    unknown: Vec<String>,
    other: Vec<String>,
}

/// Writes tokens one after another: on their own, or in transactions of two statements.
fn writer(client: Client, name: String, stop: Arc<AtomicBool>) -> JoinHandle<Told> {
    tokio::spawn(async move {
        let mut told = Told::default();
        let insert = client.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let token = format!("{name}-{number}");
            let outcome = if number % 2 == 0 {
                client.execute(&insert, &[&token]).await.map(drop)
            } else {
                in_transaction(&client, &insert, &token).await
            };
            match outcome {
                Ok(()) => told.committed.push(token),
                Err(error) if code(&error) == "40001" => told.rolled_back.push(token),
                Err(error) if code(&error) == "08007" => told.unknown.push(token),
                Err(error) => told.other.push(format!("{token}: {error:?}")),
            }
        }
        told
    })
}

async fn in_transaction(
    client: &Client,
    insert: &tokio_postgres::Statement,
    token: &String,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    if let Err(error) = client.execute(insert, &[token]).await {
        client.batch_execute("ROLLBACK").await.unwrap();
        return Err(error);
    }
    client.batch_execute("COMMIT").await
}

/// Waits until every node serves reads and nothing is under way.
pub(crate) async fn all_in_service(proxy: &Proxy) {
    eventually(LIMIT, "all nodes are in service", async || {
        let status = status(proxy).await?;
        let nodes = status["nodes"].as_array()?;
        let whole = nodes.iter().all(|node| node["readable"] == true);
        (whole && status["state"] == "steady").then_some(())
    })
    .await;
}

/// The same, and what the catalog says is known: what is judged by it is judged as in a proxy that has been running.
pub(crate) async fn ready(proxy: &Proxy) {
    all_in_service(proxy).await;
    drop(proxy.client().await);
    eventually(LIMIT, "the catalog is known", async || {
        proxy.log().contains("catalog facts loaded").then_some(())
    })
    .await;
}

/// What `primacy status` shows, while it does.
pub(crate) async fn status(proxy: &Proxy) -> Option<serde_json::Value> {
    let address = format!("http://{}/api/v1/status", proxy.admin());
    let text = tokio::task::spawn_blocking(move || {
        ureq::get(&address).call().ok().and_then(|mut answer| answer.body_mut().read_to_string().ok())
    });
    serde_json::from_str(&text.await.unwrap()?).ok()
}

pub(crate) fn post(proxy: &Proxy, what: &str) -> JoinHandle<String> {
    let address = format!("http://{}/api/v1/{what}", proxy.admin());
    tokio::task::spawn_blocking(move || {
        let sent = ureq::post(&address).send_json(serde_json::json!({}));
        sent.unwrap_or_else(|error| panic!("{address}: {error}")).body_mut().read_to_string().unwrap()
    })
}

#[tokio::test]
async fn a_switchover_under_load_is_not_seen_and_a_failover_told_truthfully() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    all_in_service(&proxy).await;
    let settings = proxy.client().await;
    settings.batch_execute("SET application_name TO 'survivor'").await.unwrap();
    let named = settings.prepare("SELECT current_setting('application_name') || $1::text").await.unwrap();

    let told = under_load(&proxy, async |_| drop(post(&proxy, "switchover").await.unwrap())).await;
    for told in &told {
        assert_eq!(
            (&told.rolled_back, &told.unknown, &told.other),
            (&vec![], &vec![], &vec![]),
            "a switchover is not seen"
        );
    }
    assert_ne!(cluster.primary().await, 0);
    all_in_service(&proxy).await;

    let mut open = Raw::connect(proxy.port(), &[]).await;
    open.run("Q BEGIN\nQ INSERT INTO t VALUES ('open')").await;
    let told = under_load(&proxy, async |old| cluster.kill(old).await).await;
    let present = settings.query("/* primacy: primary */ SELECT v FROM t", &[]).await.unwrap();
    let present: std::collections::HashSet<String> = present.iter().map(|row| row.get(0)).collect();
    for told in &told {
        eprintln!(
            "{} committed, {} rolled back, {} unknown",
            told.committed.len(),
            told.rolled_back.len(),
            told.unknown.len()
        );
        assert_eq!(told.other, Vec::<String>::new());
        assert!(told.committed.iter().all(|token| present.contains(token)), "an acknowledged write is lost");
        assert!(
            told.rolled_back.iter().all(|token| !present.contains(token)),
            "a write that was refused is there"
        );
    }
    let seen = open.query("INSERT INTO t VALUES ('open too')").await;
    assert!(seen[0].starts_with("E 40001"), "{seen:?}");
    assert_eq!(open.query("ROLLBACK").await, ["C ROLLBACK", "Z I"]);
    assert_eq!(open.query("INSERT INTO t VALUES ('after')").await, ["C INSERT 0 1", "Z I"]);
    let row = settings.query_one(&named, &[&"!"]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "survivor!");
    // A cancel request with the key of before the failover finds the statement on its new server.
    open.send(&frame(b'Q', b"INSERT INTO t SELECT 'cancelled' FROM pg_sleep(60)\0")).await;
    let primary = cluster.primary().await;
    runs(&cluster, primary..primary + 1, "cancelled").await;
    send_cancel(proxy.port(), &open.key).await;
    let seen = open.until_ready().await;
    assert!(seen[0].starts_with("E 57014") && seen[1] == "Z I", "{seen:?}");
    open.send(&frame(b'X', b"")).await;
}

/// Four writers go on while `deed` is done to the primary, and until each has written after it.
async fn under_load(proxy: &Proxy, deed: impl AsyncFn(usize)) -> Vec<Told> {
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = proxy.client().await;
    let round = fastrand::u32(..);
    let mut writers = Vec::new();
    for number in 0..4 {
        writers.push(writer(proxy.client().await, format!("{round}-{number}"), Arc::clone(&stop)));
    }
    let grown = async |by: i64| {
        let before = count(&watcher).await;
        eventually(LIMIT, "writes go on", async || (count(&watcher).await > before + by).then_some(())).await;
    };
    grown(50).await;
    let row = watcher.query_one("SHOW primacy.primary", &[]).await.unwrap();
    let old = row.get::<_, &str>(0).trim_start_matches("node").parse().unwrap();
    deed(old).await;
    eventually(LIMIT, "another primary", async || {
        let row = watcher.query_one("SHOW primacy.primary", &[]).await.unwrap();
        (row.get::<_, &str>(0) != format!("node{old}")).then_some(())
    })
    .await;
    grown(50).await;
    stop.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for writer in writers {
        told.push(writer.await.unwrap());
    }
    told
}

/// The node that runs a statement with these words.
pub(crate) async fn runs(cluster: &Cluster, nodes: std::ops::Range<usize>, words: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND query LIKE '%{words}%'"
    );
    eventually(LIMIT, &format!("{words} runs"), async || {
        for node in nodes.clone() {
            if cluster.value(node, &sql).await == "1" {
                return Some(node);
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn a_result_that_breaks_off_ends_in_an_error_and_the_session_goes_on() {
    let cluster = Cluster::with_replicas(2).await;
    // A row is longer than what a server gathers before it sends.
    let tick = "CREATE FUNCTION tick(n int) RETURNS text LANGUAGE plpgsql STABLE AS $$
        BEGIN PERFORM pg_sleep(0.01); RETURN repeat('x', 9000) || n; END $$";
    cluster.sql(0, &format!("{SETUP} {tick}")).await;
    // A hint sends the statement to a replica whether that has the function yet or not.
    for node in 1..3 {
        cluster.caught_up(node, 0).await;
    }
    let proxy = cluster.proxy().run().await;
    // Without the catalog a statement for the primary is no proven read, and its end would be called unknown.
    ready(&proxy).await;
    for place in ["replica", "primary"] {
        let mut client = Raw::connect(proxy.port(), &[]).await;
        let sql = format!("/* primacy: {place} */ SELECT tick(g) FROM generate_series(1, 100000) g\0");
        client.send(&frame(b'Q', sql.as_bytes())).await;
        let mut rows = 0;
        while rows < 5 {
            let message = client.message().await.unwrap();
            assert!(matches!(message.tag, b'T' | b'D'), "{place}: {}", message.shown());
            rows += usize::from(message.tag == b'D');
        }
        let node = runs(&cluster, 0..3, "tick(g)").await;
        cluster.kill(node).await;
        let last = loop {
            let message = client.message().await.expect("the connection stays");
            if message.tag != b'D' {
                break message;
            }
        };
        assert_eq!(
            last.shown(),
            "E 08006 the server was lost while it was answering this statement",
            "{place}"
        );
        assert_eq!(client.until_ready().await, ["Z I"], "{place}");
        let insert = format!("INSERT INTO t VALUES ('after {place}')");
        assert_eq!(client.query(&insert).await, ["C INSERT 0 1", "Z I"], "{place}");
        if place == "replica" {
            cluster.start(node).await;
            all_in_service(&proxy).await;
        }
    }
}

#[tokio::test]
async fn a_row_that_is_cut_in_the_middle_ends_the_connection() {
    let cluster = Cluster::with_replicas(1).await;
    // There is time for the replica's position to be known.
    let proxy = cluster.proxy().set("routing.causal_wait", "20s").run().await;
    all_in_service(&proxy).await;
    let mut client = Raw::connect(proxy.port(), &[]).await;
    client.send(&frame(b'Q', b"/* primacy: replica */ SELECT repeat('x', 200000000)\0")).await;
    assert_eq!(client.message().await.unwrap().tag, b'T');
    // Nobody reads the row, so the server waits in the middle of it.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND wait_event = 'ClientWrite'";
    eventually(LIMIT, "the row is on its way", async || (cluster.value(1, waits).await == "1").then_some(()))
        .await;
    cluster.kill(1).await;
    assert!(client.message().await.is_none(), "nothing can follow half a row");
}

/// A session that listens, and one that listens in the middle of a statement, hear what others say after the failover.
#[tokio::test]
async fn a_session_that_listens_goes_on_listening_on_the_new_primary() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let mut idle = Raw::connect(proxy.port(), &[]).await;
    idle.run("Q LISTEN news\nQ LISTEN \"Other News\"\nQ LISTEN dropped\nQ UNLISTEN dropped").await;
    idle.run("Q BEGIN\nQ LISTEN undone\nQ ROLLBACK\nQ SET application_name TO 'listener'").await;
    let mut open = Raw::connect(proxy.port(), &[]).await;
    open.run("Q LISTEN news\nQ BEGIN\nQ INSERT INTO t VALUES ('open')").await;
    let mut writing = Raw::connect(proxy.port(), &[]).await;
    writing.run("Q LISTEN news").await;
    writing.send(&frame(b'Q', b"INSERT INTO t SELECT 'writing' FROM pg_sleep(2)\0")).await;
    runs(&cluster, 0..1, "writing").await;
    cluster.kill(0).await;

    let mut teller = Raw::connect(proxy.port(), &[]).await;
    assert_eq!(teller.query("INSERT INTO t VALUES ('told')").await, ["C INSERT 0 1", "Z I"]);
    assert_eq!(writing.until_ready().await, ["C INSERT 0 1", "Z I"]);
    let primary = cluster.primary().await;
    let ears = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND query LIKE 'LISTEN%'";
    eventually(LIMIT, "both that rest listen again", async || {
        (cluster.value(primary, ears).await.parse::<u32>().unwrap() >= 2).then_some(())
    })
    .await;
    teller.run("Q NOTIFY dropped, 'no'\nQ NOTIFY undone, 'no'\nQ NOTIFY news, 'one'\nQ NOTIFY \"Other News\", 'two'").await;
    assert_eq!(idle.message().await.unwrap().shown(), "A news one");
    assert_eq!(idle.message().await.unwrap().shown(), "A Other News two");
    assert_eq!(writing.message().await.unwrap().shown(), "A news one");
    // In what the client takes for a transaction it is told with the next statement, and then hears too.
    let seen = open.query("SELECT 1").await;
    assert!(seen.iter().any(|shown| shown.starts_with("E 40001")), "{seen:?}");
    open.query("ROLLBACK").await;
    teller.query("NOTIFY news, 'three'").await;
    let heard = eventually(LIMIT, "the open one hears", async || {
        let message = open.message().await.unwrap().shown();
        (message == "A news three").then_some(message)
    });
    heard.await;
    let seen = idle.query("SHOW application_name").await;
    assert!(seen.contains(&"D listener".to_owned()), "{seen:?}");
    idle.query("UNLISTEN *").await;
    assert!(idle.query("SHOW primacy.pins").await.contains(&"D ".to_owned()));
}

/// What it had sent is all that will come: the client is told so, when the node counts as dead.
#[tokio::test]
async fn a_result_that_stops_coming_from_a_frozen_replica_ends_in_an_error() {
    let cluster = Cluster::with_replicas(2).await;
    let tick = "CREATE FUNCTION tick(n int) RETURNS text LANGUAGE plpgsql STABLE AS $$
        BEGIN PERFORM pg_sleep(0.01); RETURN repeat('x', 9000) || n; END $$";
    cluster.sql(0, &format!("{SETUP} {tick}")).await;
    // A hint sends the statement to a replica whether that has the function yet or not.
    for node in 1..3 {
        cluster.caught_up(node, 0).await;
    }
    let proxy = cluster.proxy().run().await;
    // Without the catalog a statement for the primary is no proven read, and its end would be called unknown.
    ready(&proxy).await;
    let mut client = Raw::connect(proxy.port(), &[]).await;
    let sql = "/* primacy: replica */ SELECT tick(g) FROM generate_series(1, 100000) g";
    client.send(&frame(b'Q', format!("{sql}\0").as_bytes())).await;
    for _ in 0..5 {
        client.message().await.unwrap();
    }
    let node = runs(&cluster, 1..3, "tick(g)").await;
    cluster.stop(node);
    let seen = client.until_ready().await;
    let seen: Vec<&String> = seen.iter().filter(|shown| !shown.starts_with("D ")).collect();
    assert_eq!(seen, ["E 08006 the server was lost while it was answering this statement", "Z I"]);
    assert_eq!(client.query("INSERT INTO t VALUES ('after')").await, ["C INSERT 0 1", "Z I"]);
    cluster.cont(node);
}

#[tokio::test]
async fn a_pinned_session_ends_with_its_server() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let pinned = async |script: &str| {
        let mut client = Raw::connect(proxy.port(), &[]).await;
        client.run(script).await;
        client
    };
    let mut free = pinned("Q INSERT INTO t VALUES ('free')").await;
    let mut locking = pinned("Q SELECT pg_advisory_lock(1)").await;
    let mut open = pinned("Q CREATE TEMP TABLE mine (n int)\nQ BEGIN\nQ INSERT INTO mine VALUES (1)").await;
    let mut writing = pinned("Q SELECT pg_advisory_lock(2)").await;
    writing.send(&frame(b'Q', b"INSERT INTO t SELECT 'writing' FROM pg_sleep(60)\0")).await;
    let mut reading = pinned("Q CREATE TEMP TABLE mine (n int)").await;
    reading.send(&frame(b'Q', b"SELECT 'reading', count(*) FROM mine, pg_sleep(60)\0")).await;
    runs(&cluster, 0..1, "writing").await;
    runs(&cluster, 0..1, "reading").await;
    cluster.kill(0).await;

    let end = "E 57P01 terminating connection because the server that held its session state was lost";
    assert_eq!(locking.until_ready().await, [end, "closed"]);
    assert_eq!(open.until_ready().await, [end, "closed"]);
    // First the truth about the statement, then the end.
    for client in [&mut writing, &mut reading] {
        let seen = client.until_ready().await;
        assert!(seen[0].starts_with("E 40001") && seen[1] == "Z I", "{seen:?}");
        assert_eq!(client.until_ready().await, [end, "closed"]);
    }
    assert_eq!(free.query("INSERT INTO t VALUES ('free too')").await, ["C INSERT 0 1", "Z I"]);
}

/// T5: the postmaster is dead, the session that runs the client's statement is not, and goes on committing to nobody.
#[tokio::test]
async fn an_orphaned_session_of_a_dead_primary_is_not_believed() {
    let cluster = Cluster::builder(2).asynchronous().run().await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().set("failover.durability", "async").run().await;
    ready(&proxy).await;
    let mut client = Raw::connect(proxy.port(), &[]).await;
    // It never waits for anything in which a server process notices that its postmaster is gone.
    let busy =
        "DO $$ DECLARE until timestamptz := clock_timestamp() + interval '8 seconds'; n int := 0; BEGIN
        WHILE clock_timestamp() < until LOOP
            n := n + 1; INSERT INTO t VALUES ('orphan ' || n); COMMIT; RAISE NOTICE '%', n;
            FOR i IN 1..50000 LOOP END LOOP;
        END LOOP; END $$";
    client.send(&frame(b'Q', format!("{busy}\0").as_bytes())).await;
    assert_eq!(client.message().await.unwrap().shown(), "N 00000");
    let postmaster = cluster.node(0).running().unwrap();
    nix::sys::signal::kill(postmaster, Signal::SIGKILL).unwrap();
    let mut other = Raw::connect(proxy.port(), &[]).await;
    assert_eq!(other.query("INSERT INTO t VALUES ('new')").await, ["C INSERT 0 1", "Z I"]);
    // The new primary has answered. What the orphan had told before may still be on its way; nothing of it is a success.
    let seen = client.until_ready().await;
    let seen: Vec<&String> = seen.iter().filter(|shown| !shown.starts_with("N ")).collect();
    assert!(seen.len() == 2 && seen[0].starts_with("E ") && seen[1] == "Z I", "{seen:?}");
    assert_eq!(client.query("INSERT INTO t VALUES ('after')").await, ["C INSERT 0 1", "Z I"]);
}

/// Bytes that prepare COMMIT and do not run it.
fn prepare_commit() -> Vec<u8> {
    [frame(b'P', b"c\0COMMIT\0\0\0"), frame(b'D', b"Sc\0"), frame(b'S', b"")].concat()
}

/// Drivers close statements by themselves, and nobody looks at the answer: an error in it would be heard by no one, and COMMIT,
/// answered with ROLLBACK as in a transaction that has failed, be taken for a success.
#[tokio::test]
async fn a_loss_is_not_told_to_a_close_that_no_application_has_sent() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let mut client = Raw::connect(proxy.port(), &[]).await;
    client.run("P:s:SELECT 1\nS\nQ BEGIN\nQ INSERT INTO t VALUES ('lost')").await;
    let mut idle = Raw::connect(proxy.port(), &[]).await;
    idle.run("P:s:SELECT 1\nS").await;
    let close = [frame(b'C', b"Ss\0"), frame(b'S', b"")].concat();
    let mut reader = Raw::connect(proxy.port(), &[]).await;
    let open =
        "Q BEGIN\nQ INSERT INTO t VALUES ('lost too')\nP: SELECT generate_series(1, 9)\nB:p:\nE:p 2\nS";
    let opened = reader.run(open).await;
    assert_eq!(opened.last().map(String::as_str), Some("Z T"), "{opened:?}");
    let close_portal = [frame(b'C', b"Pp\0"), frame(b'S', b"")].concat();
    // On their way when the server ends.
    cluster.stop(0);
    client.send(&close).await;
    reader.send(&close_portal).await;
    cluster.kill(0).await;
    for one in [&mut client, &mut reader] {
        assert_eq!(one.until_ready().await, ["3", "Z T"]);
        let seen = one.query("COMMIT").await;
        assert!(seen[0].starts_with("E 40001") && seen[1] == "Z I", "{seen:?}");
    }
    idle.send(&close).await;
    assert_eq!(idle.until_ready().await, ["3", "Z I"]);
    // Nor to what has no place for an error: the COMMIT that follows has.
    for quiet in [[frame(b'C', b"Pp\0"), frame(b'S', b"")].concat(), prepare_commit()] {
        let mut client = Raw::connect(proxy.port(), &[]).await;
        client.run("Q BEGIN\nQ INSERT INTO t VALUES ('lost')").await;
        let primary = cluster.primary().await;
        let ours = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'idle in transaction'";
        assert_eq!(cluster.value(primary, ours).await, "1");
        let left = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
        let gone = async || (cluster.value(primary, left).await == "0").then_some(());
        eventually(LIMIT, "it is gone", gone).await;
        client.send(&quiet).await;
        let seen = client.until_ready().await;
        assert_eq!(seen.last().map(String::as_str), Some("Z T"), "{seen:?}");
        let seen = client.query("COMMIT").await;
        assert!(seen[0].starts_with("E 40001") && seen[1] == "Z I", "{seen:?}");
    }
    assert_eq!(client.query("INSERT INTO t VALUES ('after')").await, ["C INSERT 0 1", "Z I"]);
    let primary = cluster.primary().await;
    assert_eq!(cluster.value(primary, "SELECT count(*) FROM t WHERE v LIKE 'lost%'").await, "0");
}
