//! What the consistency modes do, one situation at a time. `consistency` holds their promises against many sessions.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use primacy::model::Lsn;
use tokio_postgres::Client;

use crate::harness::{Cluster, LIMIT, Proxy, eventually};

/// The function is believed to be the same everywhere, so it goes where reads go and says where that is.
const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0);
    CREATE FUNCTION on_replica() RETURNS bool STABLE LANGUAGE plpgsql
        AS $$ DECLARE a bool; BEGIN EXECUTE 'SELECT pg_is_in' || '_recovery()' INTO a; RETURN a; END $$;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app;";

const ON_REPLICA: &str = "/* primacy: replica */ SELECT v FROM t WHERE id = 1";
const READ: &str = "SELECT v FROM t WHERE id = 1";
const ON_PRIMARY: &str = "/* primacy: primary */ SELECT v FROM t WHERE id = 1";

async fn value(client: &Client, sql: &str) -> i32 {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

async fn receiver_of(cluster: &Cluster, node: usize) -> Pid {
    let pid = cluster.value(node, "SELECT pid FROM pg_stat_wal_receiver").await;
    Pid::from_raw(pid.parse().unwrap())
}

/// Waits until replicas serve, with the catalog known.
async fn replicas_serve(proxy: &Proxy) {
    let client = proxy.client().await;
    eventually(LIMIT, "the catalog is known and replicas serve", async || {
        client.query_one("SELECT on_replica()", &[]).await.ok()?.get::<_, bool>(0).then_some(())
    })
    .await;
}

/// A commit that one replica shows while the primary still waits for the other's acknowledgement: here for as long as the
/// test likes, elsewhere for the length of a round trip.
#[tokio::test]
async fn strict_waits_until_the_primary_shows_what_a_replica_has_shown() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    cluster.sql(0, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 2 (node1, node2)'").await;
    cluster.sql(0, "SELECT pg_reload_conf()").await;
    eventually(LIMIT, "commits wait for both replicas", async || {
        cluster.value(0, "SHOW synchronous_standby_names").await.starts_with("ANY 2").then_some(())
    })
    .await;
    for replica in [1, 2] {
        cluster.caught_up(replica, 0).await;
    }
    let proxy = cluster.proxy().set("failover.manage_sync_names", false).run().await;
    replicas_serve(&proxy).await;
    let (loose, strict) = (proxy.client().await, proxy.client().await);
    strict.batch_execute("SET primacy.consistency = 'strict'").await.unwrap();
    let receiver = receiver_of(&cluster, 2).await;
    kill(receiver, Signal::SIGSTOP).unwrap();
    let writer = cluster.client(0).await;
    writer.batch_execute("SET synchronous_commit = on").await.unwrap();
    let commit = tokio::spawn(async move { writer.batch_execute("UPDATE t SET v = 1 WHERE id = 1").await });
    let mut early = Vec::new();
    for client in [&loose, &strict] {
        eventually(LIMIT, "a replica shows the commit", async || {
            (value(client, ON_REPLICA).await == 1).then_some(())
        })
        .await;
        early.push(tokio::time::timeout(Duration::from_millis(300), value(client, ON_PRIMARY)).await.ok());
    }
    kill(receiver, Signal::SIGCONT).unwrap();
    assert_eq!(early, [Some(0), None], "the primary does not show it yet, and strict waits");
    commit.await.unwrap().unwrap();
    // The question that was given up is answered first.
    assert_eq!(value(&strict, ON_PRIMARY).await, 1);
    // Nothing is open any more: from here on it costs a comparison, and waits for nobody.
    for version in 2..30 {
        strict.execute("UPDATE t SET v = $1 WHERE id = 1", &[&version]).await.unwrap();
        assert_eq!(value(&strict, READ).await, version);
        assert_eq!(value(&strict, ON_PRIMARY).await, version);
    }
}

/// While the replicas stand still, what a session sees tells which promise it was given.
#[tokio::test]
async fn a_promise_holds_for_a_role_a_session_a_statement_and_travels_as_a_position() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    for replica in [1, 2] {
        cluster.caught_up(replica, 0).await;
    }
    let role = toml::toml! { user = "postgres"
    consistency = "global" };
    let sessions = toml::Value::Array(vec![toml::Value::Table(role)]);
    let proxy = cluster.proxy().set("routing.sessions", sessions).run().await;
    replicas_serve(&proxy).await;
    for replica in [1, 2] {
        cluster.pause_replay(replica).await;
    }
    let (writer, reader, untold) = (proxy.client().await, proxy.client().await, proxy.client().await);
    writer.batch_execute("UPDATE t SET v = 1 WHERE id = 1").await.unwrap();
    assert_eq!(value(&reader, READ).await, 0, "session promises nothing about others' writes");
    assert_eq!(value(&writer, READ).await, 1);
    by_statement_session_and_role(&proxy, &reader, &writer).await;
    positions(&proxy, &writer, &untold).await;
}

async fn by_statement_session_and_role(proxy: &Proxy, reader: &Client, writer: &Client) {
    assert_eq!(value(reader, "/* primacy: global */ SELECT v FROM t WHERE id = 1").await, 1);
    // What was seen is not taken back by a weaker promise for the session; only by one that promises nothing.
    assert_eq!(value(reader, READ).await, 1);
    let stale = "/* primacy: eventual */ SELECT v FROM t WHERE id = 1";
    assert_eq!((value(reader, stale).await, value(writer, stale).await), (0, 0));
    let other = proxy.client().await;
    assert_eq!(shown(&other, "consistency").await, "session");
    other.batch_execute("SET primacy.consistency = 'global'").await.unwrap();
    assert_eq!((shown(&other, "consistency").await.as_str(), value(&other, READ).await), ("global", 1));
    for reset in ["RESET primacy.consistency", "DISCARD ALL", "RESET ALL"] {
        other.batch_execute("SET primacy.consistency = 'eventual'").await.unwrap();
        assert_eq!(value(&other, READ).await, 0);
        other.batch_execute(reset).await.unwrap();
        assert_eq!(shown(&other, "consistency").await, "session", "{reset}");
        assert_eq!(value(&other, READ).await, 1, "{reset}");
    }
    assert!(other.batch_execute("SET primacy.consistency = 'fresh'").await.is_err());
    let role = proxy.connect(&proxy.url("postgres", "app")).await.unwrap();
    assert_eq!((shown(&role, "consistency").await.as_str(), value(&role, READ).await), ("global", 1));
}

/// Connections come and go; the client behind them knows what it was told on the last one.
#[tokio::test]
async fn who_connects_again_sees_what_was_told_before() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    for replica in [1, 2] {
        cluster.caught_up(replica, 0).await;
    }
    let proxy = cluster.proxy().set("routing.causal_wait", "5s").run().await;
    replicas_serve(&proxy).await;
    // While nothing is written, coming and going costs the primary no read.
    for _ in 0..20 {
        assert!(proxy.client().await.query_one("SELECT on_replica()", &[]).await.unwrap().get::<_, bool>(0));
    }
    let proxy = {
        drop(proxy);
        cluster.proxy().run().await
    };
    replicas_serve(&proxy).await;
    let mut earlier = Vec::new();
    for _ in 1..10 {
        earlier.push(proxy.client().await);
    }
    for replica in [1, 2] {
        cluster.pause_replay(replica).await;
    }
    for (before, round) in earlier.iter().zip(1..) {
        let writer = proxy.client().await;
        writer.execute("UPDATE t SET v = $1 WHERE id = 1", &[&round]).await.unwrap();
        drop(writer);
        let again = proxy.client().await;
        assert_eq!(value(&again, READ).await, round, "the replicas stand still");
        assert_eq!(value(&again, READ).await, round);
        let eventual = proxy.client().await;
        eventual.batch_execute("SET primacy.consistency = 'eventual'").await.unwrap();
        assert_eq!((value(&eventual, READ).await, value(before, READ).await), (0, 0), "promised nothing");
    }
    for replica in [1, 2] {
        cluster.resume_replay(replica).await;
    }
    replicas_serve(&proxy).await;
    assert_eq!(value(&proxy.client().await, READ).await, 9);
}

async fn shown(client: &Client, name: &str) -> String {
    client.query_one(&format!("SHOW primacy.{name}"), &[]).await.unwrap().get(0)
}

async fn positions(proxy: &Proxy, writer: &Client, untold: &Client) {
    let position = shown(writer, "position").await;
    assert!(position.starts_with("1:0/"), "{position}");
    let told = proxy.client().await;
    told.batch_execute(&format!("SET primacy.after = '{position}'")).await.unwrap();
    assert_eq!((value(&told, READ).await, value(untold, READ).await), (1, 0));
    // Who was told hands on at least as much.
    let (_, at) = position.split_once(':').unwrap();
    let handed = shown(&told, "position").await;
    let (_, further) = handed.split_once(':').unwrap();
    assert!(further.parse::<Lsn>().unwrap() >= at.parse::<Lsn>().unwrap(), "{handed} after {position}");
    assert_eq!(shown(&proxy.client().await, "position").await, "1:0/0", "it has seen nothing yet");
    for wrong in ["", "0/1", "1:0", "2:0/1", "x:0/1"] {
        let error = told.batch_execute(&format!("SET primacy.after = '{wrong}'")).await.unwrap_err();
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("22023"), "{wrong}");
    }
}
