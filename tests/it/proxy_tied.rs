//! What lives in one server session: sessions that are tied to it read on replicas all the same, where that gives the
//! same, and nobody is told another session's state.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{Cluster, LIMIT, Proxy, eventually};

const SETUP: &str = "
    CREATE TABLE kept (v text); INSERT INTO kept VALUES ('kept');
    CREATE TABLE hidden (v text); INSERT INTO hidden VALUES ('permanent');
    CREATE FUNCTION reads_hidden() RETURNS text LANGUAGE sql STABLE AS 'SELECT v FROM hidden';
    CREATE VIEW sees_function AS SELECT reads_hidden() AS v;
    CREATE VIEW shows_names AS SELECT c.oid::regclass::text AS v FROM pg_class c WHERE relpersistence = 't' AND relname LIKE 'hid%';
    CREATE VIEW sees_them AS SELECT count(*) FROM pg_class WHERE relname LIKE 'hid%' AND pg_table_is_visible(oid) AND relpersistence = 't';
    CREATE VIEW on_views AS SELECT count(*) FROM shows_names WHERE v = 'hidden';
    CREATE TABLE holds_names (v regclass);
    CREATE SEQUENCE s; CREATE TABLE rows (id serial, v text); CREATE TABLE made_later_too (v text);
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
    GRANT ALL ON SCHEMA public TO app";

pub(crate) async fn proxy(cluster: &Cluster, pool_size: i64) -> Proxy {
    cluster.sql(0, SETUP).await;
    // Nothing but proof and freshness is to decide, so there is time for replicas to catch up.
    let proxy = cluster.proxy().set("pool.default_pool_size", pool_size).set("routing.causal_wait", "20s");
    let proxy = proxy.run().await;
    let client = proxy.client().await;
    eventually(LIMIT, "the catalog is known and replicas serve", async || {
        on_replica(&proxy, &client, "SELECT v FROM kept").await.then_some(())
    })
    .await;
    proxy
}

/// The first value of the result; the error's code in its place.
pub(crate) async fn value(client: &Client, sql: &str) -> String {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => return error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    };
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap_or_default().to_owned()
}

/// Whether a statement runs on a replica.
pub(crate) async fn on_replica(proxy: &Proxy, client: &Client, sql: &str) -> bool {
    let before = proxy.served().await;
    value(client, sql).await;
    proxy.served().await.1 > before.1
}

pub(crate) async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

#[tokio::test]
async fn what_a_function_drops_unseen_is_prepared_again() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = proxy(&cluster, 1).await;
    let client = proxy.client().await;
    // The text stands in no function's body.
    let runs = "CREATE FUNCTION runs(text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE $1; END'";
    run(&client, runs).await;
    let reads = client.prepare("/* primacy: primary */ SELECT v FROM kept").await.unwrap();
    assert_eq!(client.query(&reads, &[]).await.unwrap().len(), 1);
    run(&client, "SELECT runs('DEALLOCATE ALL')").await;
    let failed = client.query(&reads, &[]).await.unwrap_err();
    assert_eq!(failed.code().unwrap().code(), "26000");
    assert_eq!(client.query(&reads, &[]).await.unwrap().len(), 1);
}

/// What a function leaves is told by the facts. Where these cannot be had, its session keeps its connection.
#[tokio::test]
async fn without_facts_who_calls_a_function_shares_its_connection_with_nobody() {
    let cluster = Cluster::with_replicas(1).await;
    cluster.sql(0, "CREATE DATABASE closed").await;
    // So the proxy's own role gets no answer there.
    cluster.sql(0, "ALTER ROLE postgres IN DATABASE closed SET statement_timeout TO '1ms'").await;
    let proxy = cluster.proxy().run().await;
    // Not through the proxy, which would have seen what its body does.
    let closed = format!(
        "host=127.0.0.1 port={} user=postgres password=postgres dbname=closed",
        cluster.node(0).port()
    );
    let marks = "CREATE FUNCTION marks() RETURNS text LANGUAGE sql AS $$SELECT set_config('app.mark', 'marked', false)$$";
    cluster.psql(&closed, &format!("SET statement_timeout TO 0; {marks}")).await.unwrap();
    let one = proxy.connect(&proxy.url("app", "closed")).await.unwrap();
    let two = proxy.connect(&proxy.url("app", "closed")).await.unwrap();
    assert_eq!(value(&one, "SELECT count(*) FROM pg_class WHERE relname IN ('none')").await, "0");
    assert_eq!(value(&one, "SHOW primacy.pins").await, "");
    assert_eq!(value(&one, "SELECT marks()").await, "marked");
    assert_eq!(value(&one, "SHOW primacy.pins").await, "unknown-setting");
    assert_eq!(value(&two, "SELECT current_setting('app.mark', true)").await, "");
    assert_eq!(value(&one, "SELECT current_setting('app.mark', true)").await, "marked");
    assert!(proxy.log().contains("catalog facts cannot be asked for here"));
}

#[tokio::test]
async fn the_last_temporary_table_that_goes_no_longer_ties_its_session() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = proxy(&cluster, 20).await;
    let client = proxy.client().await;
    let pins = async || value(&client, "SHOW primacy.pins").await;
    run(&client, "CREATE TEMP TABLE one (v text)").await;
    run(&client, "CREATE TEMP VIEW two AS SELECT * FROM one").await;
    run(&client, "BEGIN; DROP VIEW two; DROP TABLE one; ROLLBACK").await;
    assert_eq!(value(&client, "SELECT count(*) FROM two").await, "0");
    run(&client, "DROP VIEW two").await;
    assert_eq!(pins().await, "temporary-table");
    assert_eq!(value(&client, "DROP TABLE one, nosuch").await, "42P01");
    assert_eq!(value(&client, "SELECT count(*) FROM one").await, "0");
    run(&client, "DROP TABLE IF EXISTS nosuch, pg_temp.one").await;
    assert_eq!(pins().await, "");
    assert!(on_replica(&proxy, &client, "SELECT v FROM kept").await);
    run(&client, "CREATE TEMP TABLE one (v text); CREATE TEMP TABLE \"One\" (v text); DROP TABLE \"One\"")
        .await;
    run(&client, "DROP TABLE IF EXISTS \"One\"").await;
    assert_eq!(pins().await, "temporary-table");
    run(&client, "DISCARD TEMP").await;
    // What goes with its transaction ties nobody beyond that.
    run(&client, "BEGIN; CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT 'passing' AS v").await;
    assert_eq!(value(&client, "SELECT v FROM kept").await, "passing");
    run(&client, "COMMIT").await;
    assert_eq!(pins().await, "");
    assert!(on_replica(&proxy, &client, "SELECT v FROM kept").await);
    assert_eq!(value(&client, "SELECT v FROM kept").await, "kept");
    // Who reads the parent reads its temporary child.
    run(&client, "CREATE TABLE parents (v text)").await;
    run(&client, "CREATE TEMP TABLE child () INHERITS (parents)").await;
    run(&client, "INSERT INTO child VALUES ('c')").await;
    assert_eq!(value(&client, "SELECT v FROM parents").await, "c");
    assert!(!on_replica(&proxy, &client, "SELECT v FROM parents").await);
    run(&client, "DISCARD TEMP").await;
    run(&client, "CREATE TEMP TABLE parents (w text)").await;
    run(&client, "CREATE TEMP TABLE child () INHERITS (parents)").await;
    assert!(on_replica(&proxy, &client, "SELECT v FROM kept").await);
}

#[tokio::test]
async fn a_session_with_temporary_tables_reads_others_on_replicas() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = proxy(&cluster, 20).await;
    let client = proxy.client().await;
    run(&client, "CREATE TEMP TABLE hidden (v text); INSERT INTO hidden VALUES ('temporary')").await;
    assert_eq!(value(&client, "SHOW primacy.pins").await, "temporary-table");
    run(&client, "INSERT INTO holds_names VALUES ('hidden'::regclass)").await;
    for (sql, replica, expected) in [
        ("SELECT v FROM kept", true, "kept"),
        ("SELECT v FROM hidden", false, "temporary"),
        ("SELECT v FROM \"hidden\"", false, "temporary"),
        ("SELECT v FROM public.hidden", false, "permanent"),
        ("SELECT 'hidden' FROM kept", false, "hidden"),
        // What runs unseen may mention the name.
        ("SELECT reads_hidden()", false, "temporary"),
        ("SELECT v FROM sees_function", false, "temporary"),
        ("SELECT lower('KEPT') FROM kept WHERE v LIKE 'k%'", true, "kept"),
        // Names in values, and what the catalog says of them.
        ("SELECT relpersistence FROM pg_class WHERE oid = 'hidden'::regclass", false, "t"),
        ("SELECT ('hid' || 'den')::regclass::oid = pg_my_temp_schema() FROM kept", false, "f"),
        ("SELECT count(*) FROM pg_class WHERE relname = 'hidden' AND pg_table_is_visible(oid)", false, "1"),
        ("SELECT count(*) FROM pg_class WHERE relname = 'kept' AND pg_table_is_visible(oid)", false, "1"),
        ("SELECT count(*) FROM pg_catalog.pg_class WHERE relname LIKE 'hid_en'", true, "2"),
        // Views and columns that do so when they are read, and look like any other.
        ("SELECT v FROM shows_names", false, "hidden"),
        ("SELECT * FROM sees_them", false, "1"),
        ("SELECT * FROM on_views", false, "1"),
        ("SELECT v FROM holds_names", false, "hidden"),
        // What is never looked for among temporary relations, and what looks nothing up.
        ("SELECT 'now'::regproc, v FROM kept", true, "now"),
        ("SELECT to_regproc('version')", true, "version"),
        ("SELECT 'public'::regnamespace", true, "public"),
        (
            "SELECT count(*) FROM pg_proc WHERE proname = 'reads_hid' || 'den' AND pg_function_is_visible(oid)",
            true,
            "1",
        ),
        (
            "SELECT has_database_privilege(current_database(), 'CONNECT'), pg_has_role('app', 'USAGE')",
            true,
            "t",
        ),
        ("SELECT current_schema()", true, "public"),
        ("SELECT pg_column_size(1), pg_size_pretty(1::bigint)", true, "4"),
        (
            "SELECT count(*) FROM pg_ts_config WHERE cfgname = 'english' AND pg_ts_config_is_visible(oid)",
            true,
            "1",
        ),
        // These are the temporary schema's own.
        (
            "SELECT has_schema_privilege(nspname, 'CREATE') FROM pg_namespace WHERE oid = pg_my_temp_schema()",
            false,
            "t",
        ),
    ] {
        assert_eq!(on_replica(&proxy, &client, sql).await, replica, "{sql}");
        assert_eq!(value(&client, sql).await, expected, "{sql}");
    }
    run(&client, "CREATE VIEW kept_too AS SELECT * FROM hidden").await;
    assert_eq!(value(&client, "SELECT v FROM kept_too").await, "temporary");
    run(&client, "ALTER TABLE hidden RENAME TO kept").await;
    assert_eq!(value(&client, "SELECT v FROM kept").await, "temporary");
    assert_eq!(value(&client, "SELECT reads_hidden()").await, "permanent");
    run(&client, "DISCARD TEMP").await;
    assert_eq!(value(&client, "SHOW primacy.pins").await, "");
    assert_eq!(value(&client, "SELECT v FROM kept").await, "kept");
    // An error on the replica is the session's, and leaves it whole.
    run(&client, "CREATE TEMP TABLE mine (v text)").await;
    assert_eq!(value(&client, "SELECT 1/0 FROM kept").await, "22012");
    assert_eq!(value(&client, "SELECT count(*) FROM mine").await, "0");
    // No other client gets a connection that has a schema for temporary tables.
    drop(client);
    let other = proxy.client().await;
    run(&other, "INSERT INTO kept VALUES ('more')").await;
    assert_eq!(value(&other, "SELECT pg_my_temp_schema()").await, "0");
}

#[tokio::test]
async fn what_a_session_makes_beside_its_temporary_tables_is_told_from_them() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = proxy(&cluster, 20).await;
    let client = proxy.client().await;
    run(&client, "CREATE TEMP TABLE hidden (v text)").await;
    run(&client, "CREATE TABLE lasting (v text); INSERT INTO lasting VALUES ('lasting')").await;
    run(&client, "CREATE TABLE IF NOT EXISTS lasting (v text)").await;
    run(&client, "CREATE TABLE copied AS SELECT * FROM lasting").await;
    run(&client, "CREATE TABLE child () INHERITS (lasting)").await;
    run(&client, "CREATE UNLOGGED TABLE unlogged_child () INHERITS (copied)").await;
    run(&client, "DROP TABLE unlogged_child").await;
    for (sql, expected) in [
        ("SELECT v FROM lasting", "lasting"),
        ("SELECT v FROM copied", "lasting"),
        ("SELECT count(*) FROM child", "0"),
    ] {
        eventually(LIMIT, "the tables are known", async || {
            on_replica(&proxy, &client, sql).await.then_some(())
        })
        .await;
        assert_eq!(value(&client, sql).await, expected, "{sql}");
    }
    // A temporary child of a permanent table shows in that, whatever it is called.
    run(&client, "CREATE TEMP TABLE kept (v text); INSERT INTO kept VALUES ('of the child')").await;
    run(&client, "ALTER TABLE kept INHERIT lasting").await;
    assert!(!on_replica(&proxy, &client, "SELECT count(*) FROM lasting").await);
    assert_eq!(value(&client, "SELECT count(*) FROM lasting").await, "2");
}

/// What is planned and not run is planned alike on a replica, with its locks.
#[tokio::test]
async fn writes_are_explained_on_replicas() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = proxy(&cluster, 20).await;
    let client = proxy.client().await;
    run(&client, "INSERT INTO rows (v) SELECT n::text FROM generate_series(1, 1000) n").await;
    cluster.sql(0, "CREATE UNLOGGED TABLE scratch (v text); GRANT ALL ON scratch TO app; ANALYZE rows").await;
    let plan = async |sql: &str| {
        let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let line = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        messages.iter().filter_map(line).collect::<Vec<_>>()
    };
    for (sql, replica) in [
        ("EXPLAIN (VERBOSE) INSERT INTO rows (v) VALUES ('x') RETURNING id", true),
        ("EXPLAIN INSERT INTO kept SELECT v FROM rows WHERE id < 10", true),
        ("EXPLAIN (VERBOSE) UPDATE rows SET v = 'x' WHERE id = 1 RETURNING *", true),
        ("EXPLAIN DELETE FROM rows USING kept WHERE rows.v = kept.v", true),
        ("EXPLAIN MERGE INTO kept USING rows ON kept.v = rows.v WHEN MATCHED THEN DELETE", true),
        ("EXPLAIN WITH x AS (DELETE FROM rows RETURNING v) INSERT INTO kept SELECT v FROM x", true),
        ("EXPLAIN WITH x AS (UPDATE rows SET v = '' RETURNING id) SELECT * FROM x", true),
        ("EXPLAIN SELECT * FROM rows WHERE id < 10 FOR UPDATE", true),
        ("EXPLAIN SELECT * INTO another FROM rows", false),
        ("EXPLAIN CREATE TABLE another AS SELECT * FROM rows", false),
        ("EXPLAIN UPDATE scratch SET v = ''", false),
        (
            "EXPLAIN (COSTS off, TIMING off, SUMMARY off, \"analyze\") DELETE FROM kept WHERE v = 'nothing'",
            false,
        ),
    ] {
        eventually(LIMIT, "the tables are known", async || {
            (on_replica(&proxy, &client, sql).await == replica).then_some(())
        })
        .await;
        assert_eq!(plan(sql).await, plan(&format!("/* primacy: primary */ {sql}")).await, "{sql}");
    }
    assert_eq!(value(&client, "SELECT count(*) FROM rows").await, "1000");
}

#[tokio::test]
async fn nobody_is_told_what_another_session_took_from_a_sequence() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = proxy(&cluster, 1).await;
    let (one, two) = (proxy.client().await, proxy.client().await);
    assert_eq!(value(&one, "SELECT nextval('s')").await, "1");
    assert_eq!(value(&two, "SELECT nextval('s')").await, "2");
    assert_eq!(value(&two, "SELECT nextval('s')").await, "3");
    // The one connection was used by somebody else meanwhile: better no answer than a wrong one.
    assert_eq!(value(&one, "SELECT currval('s')").await, "55000");
    assert_eq!(value(&one, "SHOW primacy.pins").await, "sequence");
    assert_eq!(value(&one, "SELECT nextval('s')").await, "4");
    assert_eq!(value(&one, "SELECT currval('s')").await, "4");
    run(&one, "INSERT INTO rows (v) VALUES ('a')").await;
    assert_eq!(value(&one, "SELECT lastval()").await, "1");
    run(&one, "DISCARD SEQUENCES").await;
    assert_eq!(value(&one, "SHOW primacy.pins").await, "");
    assert_eq!(value(&two, "SELECT lastval()").await, "55000");
    run(&two, "DISCARD ALL").await;
    assert_eq!(value(&one, "SELECT nextval('s')").await, "5");
    assert_eq!(value(&one, "SELECT currval('s')").await, "5");
}

#[tokio::test]
async fn definitions_are_followed_at_once() {
    let cluster = Cluster::with_replicas(2).await;
    let proxy = proxy(&cluster, 20).await;
    let (one, two) = (proxy.client().await, proxy.client().await);
    run(&one, "CREATE TABLE fresh (v text); INSERT INTO fresh VALUES ('a')").await;
    for client in [&one, &two] {
        assert!(on_replica(&proxy, client, "SELECT v FROM kept").await, "other tables are read as before");
    }
    assert!(on_replica(&proxy, &one, "SELECT v FROM fresh").await);
    assert_eq!(value(&one, "SELECT v FROM fresh").await, "a");
    run(&one, "CREATE VIEW of_fresh AS SELECT v FROM fresh").await;
    assert!(on_replica(&proxy, &one, "SELECT v FROM of_fresh").await);
    run(
        &one,
        "CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO fresh VALUES (1) RETURNING 1'",
    )
    .await;
    assert!(!on_replica(&proxy, &two, "SELECT writes()").await);
    run(
        &one,
        "CREATE FUNCTION makes_temp() RETURNS int LANGUAGE plpgsql
               AS 'begin create temp table kept (v text); return 1; end'",
    )
    .await;
    assert_eq!(value(&two, "SELECT makes_temp()").await, "1");
    assert_eq!(value(&two, "SHOW primacy.pins").await, "temporary-table");
    assert_eq!(value(&two, "SELECT count(*) FROM kept").await, "0", "its own, which it did not name");
    run(&one, "ALTER TABLE fresh SET UNLOGGED").await;
    for sql in ["SELECT v FROM fresh", "SELECT v FROM of_fresh"] {
        assert!(!on_replica(&proxy, &one, sql).await, "{sql}");
    }
}
