//! What lives in one server session: sessions that are tied to it read on replicas all the same, where that gives the
//! same, and nobody is told another session's state.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{Cluster, LIMIT, Proxy, eventually};

const SETUP: &str = "
    CREATE TABLE kept (v text); INSERT INTO kept VALUES ('kept');
    CREATE TABLE hidden (v text); INSERT INTO hidden VALUES ('permanent');
    CREATE FUNCTION reads_hidden() RETURNS text LANGUAGE sql STABLE AS 'SELECT v FROM hidden';
    CREATE VIEW sees_function AS SELECT reads_hidden() AS v;
    CREATE SEQUENCE s; CREATE TABLE rows (id serial, v text); CREATE TABLE made_later_too (v text);
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
    GRANT ALL ON SCHEMA public TO app";

async fn proxy(cluster: &Cluster, pool_size: i64) -> Proxy {
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
async fn value(client: &Client, sql: &str) -> String {
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
async fn on_replica(proxy: &Proxy, client: &Client, sql: &str) -> bool {
    let before = proxy.served().await;
    value(client, sql).await;
    proxy.served().await.1 > before.1
}

async fn run(client: &Client, sql: &str) {
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
