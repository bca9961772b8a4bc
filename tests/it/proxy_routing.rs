//! Where statements run, and that reads are never stale for who wrote.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::harness::{Cluster, LIMIT, Proxy, eventually};

const SETUP: &str = "
    CREATE TABLE t (id serial PRIMARY KEY, v text); CREATE UNLOGGED TABLE u (id int); CREATE SEQUENCE s;
    CREATE FUNCTION harmless() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
    CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO t (v) VALUES ('w'); RETURN 1; END $$;
    CREATE FUNCTION liar() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM writes(); RETURN 2; END $$;
    CREATE FUNCTION conflicting() RETURNS int LANGUAGE plpgsql STABLE
        AS $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$;
    CREATE VIEW plain AS SELECT * FROM t; CREATE VIEW sly AS SELECT nextval('s');
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;";

/// Where a statement of this text runs: `true`, on a replica. The proxy's own counters say it.
async fn on_replica(proxy: &Proxy, client: &Client, sql: &str) -> bool {
    let before = proxy.served().await;
    client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let after = proxy.served().await;
    assert_eq!(after.0 + after.1, before.0 + before.1 + 1, "{sql} is counted once");
    after.1 > before.1
}

#[tokio::test]
async fn statements_go_where_they_belong() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    for replica in [1, 2] {
        cluster.caught_up(replica, 0).await;
    }
    let proxy = cluster.proxy().set("routing.consistency", "eventual").run().await;
    let client = proxy.client().await;
    eventually(LIMIT, "the catalog is known and replicas serve", async || {
        on_replica(&proxy, &client, "SELECT count(*) FROM t").await.then_some(())
    })
    .await;
    for (sql, expected) in PLACES {
        assert_eq!(on_replica(&proxy, &client, sql).await, *expected, "{sql}");
    }
    transactions(&proxy, &client).await;
    refused(&client).await;
    counters(&proxy).await;
    spread(&proxy, &client).await;
}

/// Whoever looks at the primary's counters finds there what it reads from then on.
async fn counters(proxy: &Proxy) {
    let client = proxy.client().await;
    for (sql, expected) in [
        ("SELECT count(*) FROM pg_stat_activity", false),
        ("SELECT count(*) FROM t", true),
        ("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 't'", false),
        ("SELECT count(*) FROM t", false),
        ("/* primacy: replica */ SELECT count(*) FROM t", true),
    ] {
        assert_eq!(on_replica(proxy, &client, sql).await, expected, "{sql}");
    }
    client.batch_execute("DISCARD ALL").await.unwrap();
    assert!(on_replica(proxy, &client, "SELECT count(*) FROM t").await);
}

const PLACES: &[(&str, bool)] = &[
    ("SELECT 1", true),
    ("SELECT v FROM t WHERE id = 1", true),
    ("WITH x AS (SELECT 1) SELECT * FROM x", true),
    ("SELECT harmless()", true),
    ("SELECT * FROM plain", true),
    ("SELECT now(), random()", true),
    ("SELECT 1; SELECT 2", true),
    ("INSERT INTO t (v) VALUES ('a')", false),
    ("SELECT writes()", false),
    ("SELECT nextval('s')", false),
    ("SELECT * FROM sly", false),
    ("SELECT * FROM u", false),
    ("SELECT v FROM t FOR UPDATE", false),
    ("WITH x AS (DELETE FROM t WHERE id = -1 RETURNING 1) SELECT * FROM x", false),
    ("SELECT * INTO copied FROM t", false),
    ("DROP TABLE copied", false),
    ("SELECT pg_is_in_recovery()", false),
    ("SELECT 1; DELETE FROM t WHERE id = -1", false),
    ("/* primacy: primary */ SELECT 1", false),
    ("/* primacy: replica */ SELECT pg_is_in_recovery()", true),
    ("EXPLAIN ANALYZE DELETE FROM t WHERE id = -1", false),
];

async fn recovery(client: &Client) -> bool {
    client.query_one("SELECT pg_is_in_recovery()", &[]).await.unwrap().get(0)
}

async fn transactions(proxy: &Proxy, client: &Client) {
    let before = proxy.served().await;
    client.batch_execute("BEGIN").await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(proxy.served().await, before, "an empty transaction needs no server");
    for (begin, expected) in [
        ("BEGIN READ ONLY", true),
        ("BEGIN", false),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", false),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", true),
    ] {
        client.batch_execute(begin).await.unwrap();
        client.batch_execute("SELECT count(*) FROM t").await.unwrap();
        assert_eq!(recovery(client).await, expected, "{begin}");
        client.batch_execute("COMMIT").await.unwrap();
    }
    client.batch_execute("SET primacy.route = 'primary'").await.unwrap();
    assert!(!on_replica(proxy, client, "SELECT 1").await);
    client.batch_execute("SET primacy.route = 'replica'").await.unwrap();
    assert!(recovery(client).await);
    // A hint cannot make a write fail.
    client.batch_execute("INSERT INTO t (v) VALUES ('hinted')").await.unwrap();
    client.batch_execute("RESET primacy.route").await.unwrap();
    assert!(client.batch_execute("SET primacy.route = 'moon'").await.is_err());
}

/// What a replica refuses is run again on the primary; what fails again and again is told to the client.
async fn refused(client: &Client) {
    for _ in 0..3 {
        assert_eq!(client.query_one("SELECT liar()", &[]).await.unwrap().get::<_, i32>(0), 2);
        let error = client.query_one("SELECT conflicting()", &[]).await.unwrap_err();
        let code = error.code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("40001"));
    }
}

async fn spread(proxy: &Proxy, client: &Client) {
    let mut seen = std::collections::BTreeMap::new();
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(proxy.client().await);
    }
    for at in 0..200 {
        let row =
            clients[at % 4].query_one("/* primacy: replica */ SELECT inet_server_port()", &[]).await.unwrap();
        *seen.entry(row.get::<_, i32>(0)).or_insert(0) += 1;
    }
    assert!(seen.len() == 2 && seen.values().all(|&count| count >= 60), "{seen:?}");
    client.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_session_reads_what_it_wrote() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    let client = proxy.client().await;
    for replica in [1, 2] {
        cluster.caught_up(replica, 0).await;
        cluster.pause_replay(replica).await;
    }
    let insert = client.prepare("INSERT INTO t (v) VALUES ($1) RETURNING id").await.unwrap();
    let read = client.prepare("SELECT v FROM t WHERE id = $1").await.unwrap();
    for number in 0..50 {
        let text = format!("value {number}");
        let id: i32 = client.query_one(&insert, &[&text]).await.unwrap().get(0);
        let row = client.query_opt(&read, &[&id]).await.unwrap();
        assert_eq!(row.map(|row| row.get::<_, String>(0)), Some(text), "stale read after insert {number}");
    }
    for replica in [1, 2] {
        cluster.resume_replay(replica).await;
    }
    for replica in [1, 2] {
        cluster.caught_up(replica, 0).await;
    }
    let resumed = Instant::now();
    eventually(LIMIT, "reads go back to replicas", async || {
        on_replica(&proxy, &client, "SELECT count(*) FROM t").await.then_some(())
    })
    .await;
    // 100 ms on a quiet machine; looking takes time too here.
    assert!(resumed.elapsed() < Duration::from_secs(2), "{:?}", resumed.elapsed());
    // Interleaved writes and reads while replicas replay: never stale.
    for _ in 0..200 {
        let id: i32 = client.query_one(&insert, &[&"x"]).await.unwrap().get(0);
        assert!(client.query_opt(&read, &[&id]).await.unwrap().is_some(), "stale read of {id}");
    }
}

/// Both are marked volatile, and say for themselves where they run.
#[tokio::test]
async fn configuration_vouches_for_a_volatile_function() {
    let body = "LANGUAGE plpgsql VOLATILE AS
        $$ DECLARE a bool; BEGIN EXECUTE 'SELECT pg_is_in' || '_recovery()' INTO a; RETURN a; END $$";
    let cluster = Cluster::with_replicas(1).await;
    for name in ["vouched", "unknown"] {
        cluster.sql(0, &format!("CREATE FUNCTION {name}() RETURNS bool {body}")).await;
    }
    cluster.caught_up(1, 0).await;
    let names = toml::Value::Array(vec!["public.vouched".into()]);
    let proxy = cluster.proxy().set("routing.read_functions", names).run().await;
    let client = proxy.client().await;
    let where_runs = async |function: &str| {
        client.query_one(&format!("SELECT {function}()"), &[]).await.unwrap().get::<_, bool>(0)
    };
    eventually(LIMIT, "the catalog is known and the vouched function runs on the replica", async || {
        where_runs("vouched").await.then_some(())
    })
    .await;
    assert!(!where_runs("unknown").await);
}

#[tokio::test]
async fn what_is_explained_is_explained_for_a_database_that_is_there() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().run().await;
    let explained = async |database: &str| {
        proxy.program(&cluster, &["explain", "--database", database, "SELECT count(*) FROM pg_class"]).await
    };
    let told = explained("nosuch").await.unwrap_err();
    assert!(told.contains("there is no database \"nosuch\""), "{told}");
    cluster.sql(0, "CREATE DATABASE nosuch").await;
    let told = eventually(LIMIT, "it is there", async || explained("nosuch").await.ok()).await;
    assert!(told.contains("anywhere"), "{told}");
}
