//! `transactions = "optimistic"`: transactions read on a replica until they have to go on on the primary.

use tokio_postgres::Client;

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually};

/// `place` is declared as what it is not, so that the proxy takes it for a constant and it says where it runs.
const SETUP: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); GRANT ALL ON t TO app; CREATE VIEW w AS SELECT * FROM t;
    GRANT ALL ON w TO app;
    CREATE FUNCTION place() RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ DECLARE a bool; b int; BEGIN
        EXECUTE 'SELECT pg_is_in' || '_recovery(), inet_server' || '_port()' INTO a, b;
        RETURN CASE WHEN a THEN 'replica ' ELSE 'primary ' END || b; END $$;";

async fn start(replicas: usize) -> (Cluster, Proxy) {
    let cluster = Cluster::with_replicas(replicas).await;
    cluster.sql(0, SETUP).await;
    for replica in 1..=replicas {
        cluster.caught_up(replica, 0).await;
    }
    // Where a transaction begins must not depend on how busy the machine is.
    let proxy = cluster.proxy().set("routing.transactions", "optimistic").set("routing.causal_wait", "20s");
    let proxy = proxy.run().await;
    let client = proxy.client().await;
    eventually(LIMIT, "the catalog is known and replicas serve", async || {
        place(&client).await.starts_with("replica").then_some(())
    })
    .await;
    (cluster, proxy)
}

async fn place(client: &Client) -> String {
    client.query_one("SELECT place()", &[]).await.unwrap().get(0)
}

/// Runs statements one by one, as simple queries; what each one answers, in short.
async fn run(raw: &mut Raw, script: &[(&str, &str)]) {
    for (at, (sql, expected)) in script.iter().enumerate() {
        let seen = raw.query(sql).await;
        let shown = seen
            .iter()
            .find_map(|shown| shown.strip_prefix("D ").or(shown.strip_prefix("E ")).map(str::to_owned))
            .unwrap_or_else(|| seen.iter().find_map(|s| s.strip_prefix("C ")).unwrap_or("?").to_owned());
        let before = &script[..at];
        assert!(
            shown.starts_with(expected),
            "{sql}: {shown:?} and not {expected:?} ({seen:?}) after {before:?}"
        );
    }
}

const HERE: &str = "SELECT place()";
const REPLICA: (&str, &str) = (HERE, "replica");
const PRIMARY: (&str, &str) = (HERE, "primary");
const BEGIN: (&str, &str) = ("BEGIN", "BEGIN");
const COMMIT: (&str, &str) = ("COMMIT", "COMMIT");
const ROLLBACK: (&str, &str) = ("ROLLBACK", "ROLLBACK");

#[tokio::test]
async fn a_transaction_reads_on_a_replica_until_it_writes() {
    let (cluster, proxy) = start(2).await;
    let mut raw = Raw::connect(proxy.port(), &[]).await;
    run(
        &mut raw,
        &[
            BEGIN,
            REPLICA,
            ("SELECT count(*) FROM t", "0"),
            ("INSERT INTO t VALUES (1, 'a')", "INSERT"),
            PRIMARY,
            ("SELECT count(*) FROM t", "1"),
            COMMIT,
            // What was committed is seen by the next one, wherever it reads.
            BEGIN,
            ("SELECT v FROM t WHERE id = 1", "a"),
            COMMIT,
            BEGIN,
            ("SELECT v FROM t WHERE id = 1", "a"),
            ("DELETE FROM t", "DELETE"),
            ROLLBACK,
            ("SELECT count(*) FROM t", "1"),
            // Nothing was written: nothing is moved.
            BEGIN,
            REPLICA,
            ROLLBACK,
        ],
    )
    .await;
    carried_along(&mut raw).await;
    savepoints(&mut raw).await;
    undone(&mut raw).await;
    errors(&mut raw).await;
    kept_whole(&mut raw).await;
    by_protocol(&proxy).await;
    told(&proxy).await;
    by_default_isolation(&cluster, &mut raw).await;
    assert_eq!(
        cluster.value(0, "SELECT string_agg(id || v, ',' ORDER BY id) FROM t").await,
        "1a,2b,3c,4d,5e,6f"
    );
}

/// Settings that the transaction has made are made again on the primary, inside of it.
async fn carried_along(raw: &mut Raw) {
    let within = |end: (&'static str, &'static str), after: &'static str| {
        [
            BEGIN,
            ("SET LOCAL work_mem = '7MB'", "SET"),
            ("SELECT set_config('app.tenant', 'x', true)", "x"),
            ("SET app.own = 'mine'", "SET"),
            REPLICA,
            ("SHOW work_mem", "7MB"),
            ("UPDATE t SET v = v", "UPDATE"),
            PRIMARY,
            (
                "SELECT current_setting('work_mem'), current_setting('app.tenant'), current_setting('app.own')",
                "7MB,x,mine",
            ),
            end,
            ("SHOW work_mem", "4MB"),
            ("SELECT coalesce(nullif(current_setting('app.own', true), ''), 'none')", after),
        ]
    };
    run(raw, &within(ROLLBACK, "none")).await;
    run(raw, &within(COMMIT, "mine")).await;
    // The same where nothing is moved.
    run(
        raw,
        &[
            BEGIN,
            ("SET app.own = 'other'", "SET"),
            REPLICA,
            ROLLBACK,
            ("SELECT current_setting('app.own')", "mine"),
            BEGIN,
            ("SET app.own = 'other'", "SET"),
            REPLICA,
            COMMIT,
            ("SELECT current_setting('app.own')", "other"),
            ("/* primacy: primary */ SELECT current_setting('app.own')", "other"),
            ("RESET app.own", "RESET"),
        ],
    )
    .await;
}

async fn savepoints(raw: &mut Raw) {
    run(
        raw,
        &[
            BEGIN,
            REPLICA,
            ("SAVEPOINT a", "SAVEPOINT"),
            ("SET LOCAL work_mem = '7MB'", "SET"),
            REPLICA,
            ("INSERT INTO t VALUES (0, 'z')", "INSERT"),
            ("ROLLBACK TO a", "ROLLBACK"),
            PRIMARY,
            ("SHOW work_mem", "4MB"),
            ("INSERT INTO t VALUES (2, 'b')", "INSERT"),
            COMMIT,
            BEGIN,
            ("SAVEPOINT a", "SAVEPOINT"),
            ("SELECT 1 / (SELECT 0)", "22012"),
            (HERE, "25P02"),
            ("ROLLBACK TO SAVEPOINT a", "ROLLBACK"),
            REPLICA,
            ("RELEASE a", "RELEASE"),
            ("INSERT INTO t VALUES (3, 'c')", "INSERT"),
            ("ROLLBACK TO a", "3B001"),
            ROLLBACK,
            BEGIN,
            ("SAVEPOINT a", "SAVEPOINT"),
            REPLICA,
            ("INSERT INTO t VALUES (3, 'c')", "INSERT"),
            ("RELEASE a", "RELEASE"),
            COMMIT,
        ],
    )
    .await;
}

/// What ROLLBACK TO has undone is not done again elsewhere, even where an error led to it.
async fn undone(raw: &mut Raw) {
    for trouble in [None, Some(("SELECT 1 / (SELECT 0)", "22012"))] {
        run(raw, &[BEGIN, ("SAVEPOINT a", "SAVEPOINT"), ("SET LOCAL work_mem = '7MB'", "SET"), REPLICA])
            .await;
        run(raw, trouble.as_slice()).await;
        let after =
            [("ROLLBACK TO a", "ROLLBACK"), REPLICA, ("DELETE FROM t WHERE id = 0", "DELETE"), PRIMARY];
        run(raw, &after).await;
        run(raw, &[("SHOW work_mem", "4MB"), COMMIT]).await;
    }
    let isolation = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
    run(raw, &[BEGIN, (isolation, "SET"), PRIMARY, COMMIT]).await;
}

async fn errors(raw: &mut Raw) {
    run(
        raw,
        &[
            BEGIN,
            REPLICA,
            ("SELECT 1 / (SELECT 0)", "22012"),
            ("INSERT INTO t VALUES (9, 'no')", "25P02"),
            ("COMMIT", "ROLLBACK"),
            BEGIN,
            REPLICA,
            ("INSERT INTO t VALUES (1, 'twice')", "23505"),
            ROLLBACK,
            REPLICA,
        ],
    )
    .await;
}

/// What cannot be moved is not started on a replica, and what is reached on the way moves.
async fn kept_whole(raw: &mut Raw) {
    for begin in
        ["BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN READ WRITE"]
    {
        run(raw, &[(begin, "BEGIN"), PRIMARY, COMMIT]).await;
    }
    for sql in [
        "SELECT now() IS NULL",
        "SELECT current_timestamp IS NULL",
        "SELECT 'now'::timestamptz IS NULL",
        "SELECT v FROM w LIMIT 0",
        "DECLARE c CURSOR FOR SELECT 1",
        "SELECT v FROM t WHERE id = 0 FOR UPDATE",
        "SELECT age(timestamptz '2020-01-01') IS NULL",
        "SET TRANSACTION READ WRITE",
        "/* primacy: primary */ SELECT 1",
        "/* primacy: global */ SELECT 1",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SELECT pg_current_xact_id() IS NULL",
    ] {
        run(raw, &[BEGIN, (sql, ""), PRIMARY, ROLLBACK, BEGIN, REPLICA]).await;
        let seen = raw.query(sql).await;
        let late = sql.starts_with("SET TRANSACTION");
        assert!(!seen.iter().any(|shown| shown.starts_with("E ")), "{sql}: {seen:?}");
        assert!(!late || seen.iter().any(|shown| shown == "C SET"), "{seen:?}");
        run(raw, &[PRIMARY, ROLLBACK]).await;
    }
    // The time of a transaction stays the same within it.
    let once = raw.query("BEGIN").await;
    assert_eq!(once, ["C BEGIN", "Z T"]);
    run(raw, &[REPLICA]).await;
    let first = raw.query("SELECT now()").await;
    run(raw, &[("INSERT INTO t VALUES (4, 'd')", "INSERT")]).await;
    assert_eq!(raw.query("SELECT now()").await, first);
    run(raw, &[COMMIT]).await;
}

/// As drivers do it: prepared statements, parameters, a transaction object.
async fn by_protocol(proxy: &Proxy) {
    let mut client = proxy.client().await;
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
    let read = client.prepare("SELECT v, place() FROM t WHERE id = $1").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let row = transaction.query_one(&read, &[&4]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "d");
    assert!(row.get::<_, &str>(1).starts_with("replica"), "{row:?}");
    transaction.execute(&insert, &[&5, &"e"]).await.unwrap();
    let row = transaction.query_one(&read, &[&5]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "e");
    assert!(row.get::<_, &str>(1).starts_with("primary"), "{row:?}");
    transaction.commit().await.unwrap();
    assert_eq!(client.query_one(&read, &[&5]).await.unwrap().get::<_, &str>(0), "e");
    // A portal that is left open stays where it is: its transaction is not on a replica.
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT place() FROM generate_series(1, 3)", &[]).await.unwrap();
    for left in [1, 1, 1] {
        let rows = transaction.query_portal(&portal, left).await.unwrap();
        assert!(rows[0].get::<_, &str>(0).starts_with("primary"));
    }
    transaction.commit().await.unwrap();
}

async fn told(proxy: &Proxy) {
    let address = format!("http://{}/metrics", proxy.admin());
    let text = tokio::task::spawn_blocking(move || {
        ureq::get(&address).call().unwrap().body_mut().read_to_string().unwrap()
    });
    let text = text.await.unwrap();
    for reason in ["optimistic-transaction", "moved-transaction"] {
        let line =
            text.lines().find(|line| line.starts_with("primacy_routes_total") && line.contains(reason));
        assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{reason}: {line:?}");
    }
}

/// Where transactions are something else than READ COMMITTED without saying so, none is moved.
async fn by_default_isolation(cluster: &Cluster, raw: &mut Raw) {
    run(raw, &[("SET default_transaction_isolation = 'repeatable read'", "SET"), BEGIN, PRIMARY, COMMIT])
        .await;
    run(raw, &[("RESET default_transaction_isolation", "RESET"), BEGIN, REPLICA, COMMIT]).await;
    cluster.sql(0, "ALTER ROLE app SET default_transaction_isolation = 'repeatable read'").await;
    eventually(LIMIT, "the role's default is noticed", async || {
        raw.query("BEGIN").await;
        let seen = raw.query(HERE).await;
        raw.query("COMMIT").await;
        seen.iter().any(|shown| shown.starts_with("D primary")).then_some(())
    })
    .await;
    run(raw, &[BEGIN, PRIMARY, ("INSERT INTO t VALUES (6, 'f')", "INSERT"), COMMIT]).await;
}

/// A transaction survives the loss of the replica that it reads on, and the change of the primary that it has not reached yet.
#[tokio::test]
async fn a_transaction_on_a_replica_survives_its_replica_and_the_primary() {
    let (cluster, proxy) = start(2).await;
    let mut raw = Raw::connect(proxy.port(), &[]).await;
    run(&mut raw, &[BEGIN, ("SET LOCAL work_mem = '7MB'", "SET"), ("SAVEPOINT a", "SAVEPOINT")]).await;
    let seen = raw.query(HERE).await;
    let replica = (1..=2).find(|&node| seen[1] == format!("D replica {}", cluster.node(node).port()));
    let replica = replica.unwrap_or_else(|| panic!("{seen:?}"));
    cluster.kill(replica).await;
    run(
        &mut raw,
        &[
            ("SELECT count(*) FROM t", "0"),
            ("SHOW work_mem", "7MB"),
            ("ROLLBACK TO a", "ROLLBACK"),
            ("INSERT INTO t VALUES (1, 'a')", "INSERT"),
            COMMIT,
            ("SELECT count(*) FROM t", "1"),
        ],
    )
    .await;
    cluster.start(replica).await;
    eventually(LIMIT, "both replicas stream", async || {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name ~ '^node'";
        (cluster.value(0, sql).await == "2").then_some(())
    })
    .await;
    let mut raw = Raw::connect(proxy.port(), &[]).await;
    eventually(LIMIT, "a replica serves the transaction", async || {
        raw.query("ROLLBACK").await;
        raw.query("BEGIN").await;
        let seen = raw.query(HERE).await;
        seen.iter().any(|shown| shown.starts_with("D replica")).then_some(())
    })
    .await;
    cluster.kill_primary().await;
    run(
        &mut raw,
        &[
            ("SELECT v FROM t WHERE id = 1", "a"),
            ("INSERT INTO t VALUES (2, 'b')", "INSERT"),
            COMMIT,
            ("SELECT string_agg(v, ',' ORDER BY id) FROM t", "a,b"),
        ],
    )
    .await;
}
