//! The library's own cluster handle, without the proxy on the way of its statements.

use primacy::Cluster as Handle;
use primacy::cluster::ClusterError;

use crate::harness::{Cluster, LIMIT, eventually};

#[path = "../../examples/cluster.rs"]
mod example;

fn urls(cluster: &Cluster) -> Vec<String> {
    let url =
        |node: &primacy::postgres::Instance| format!("postgres://app:app@127.0.0.1:{}/app", node.port());
    cluster.servers().nodes().iter().map(url).collect()
}

async fn handle(cluster: &Cluster) -> Handle {
    Handle::builder(&urls(cluster)).unwrap().watch_as("postgres", "postgres").connect().await.unwrap()
}

#[tokio::test]
async fn reads_run_on_replicas_and_see_what_was_written() {
    let cluster = Cluster::with_replicas(2).await;
    // What a node says of itself is the primary's to say, unless a function hides it.
    let here = "CREATE FUNCTION here() RETURNS bool LANGUAGE plpgsql STABLE AS $$ DECLARE answer bool; \
                BEGIN EXECUTE 'SELECT pg_is' || '_in_recovery()' INTO answer; RETURN answer; END $$";
    cluster.sql(0, &format!("CREATE TABLE kept (n int); GRANT ALL ON kept TO app; {here}")).await;
    let handle = handle(&cluster).await;
    let (mut on_replicas, place) = (0, "SELECT count(*), here() FROM kept");
    let spread = eventually(LIMIT, "replicas serve reads", async || {
        handle.query(place, &[]).await.unwrap()[0].get::<_, bool>(1).then_some(())
    });
    spread.await;
    for written in 1..=200_i64 {
        assert_eq!(handle.execute("INSERT INTO kept VALUES ($1)", &[&1]).await.unwrap(), 1);
        let row = &handle.query(place, &[]).await.unwrap()[0];
        assert_eq!(row.get::<_, i64>(0), written, "a read misses what was written before it");
        on_replicas += i32::from(row.get::<_, bool>(1));
    }
    assert!(on_replicas > 50, "only {on_replicas} of 200 reads ran on replicas");

    // One connection for a transaction, and one to read on, which refuses writes wherever it leads.
    let mut connection = handle.write().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    transaction.execute("INSERT INTO kept VALUES (2)", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    drop(connection);
    let connection = handle.read().await.unwrap();
    assert_eq!(connection.query_one(place, &[]).await.unwrap().get::<_, i64>(0), 201);
    let refused = connection.execute("INSERT INTO kept VALUES (3)", &[]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");
    assert!(matches!(handle.query("BEGIN", &[]).await, Err(ClusterError::Transaction)));

    // A function that writes behind another one that is declared stable is taken for a read once; then it is known. (Of its
    // own PostgreSQL lets a stable function write nothing.)
    let lies = "CREATE FUNCTION writes() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO kept VALUES (4) RETURNING n'; \
                CREATE FUNCTION lies() RETURNS int LANGUAGE plpgsql STABLE AS $$ DECLARE answer int; \
                BEGIN EXECUTE 'SELECT wri' || 'tes()' INTO answer; RETURN answer; END $$";
    cluster.sql(0, lies).await;
    let made = async || handle.query("SELECT lies()", &[]).await.ok().map(drop);
    eventually(LIMIT, "the write behind a lie is done on the primary", made).await;
}

#[tokio::test]
async fn it_follows_a_failover_that_another_process_makes() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, "CREATE TABLE kept (n int); GRANT ALL ON kept TO app").await;
    let _primacy = cluster.proxy().run().await;
    let handle = handle(&cluster).await;
    handle.execute("INSERT INTO kept VALUES (1)", &[]).await.unwrap();
    let before = handle.primary_name().unwrap();
    cluster.kill_primary().await;
    let written = async || handle.execute("INSERT INTO kept VALUES (2)", &[]).await.ok();
    eventually(LIMIT, "writes go to the new primary", written).await;
    assert_ne!(handle.primary_name().unwrap(), before);
    let rows = handle.query("SELECT count(*) FROM kept WHERE n = 1", &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 1, "what was acknowledged before is there");
}

#[tokio::test]
async fn what_cannot_work_is_said() {
    let none: [&str; 0] = [];
    assert!(Handle::builder(&none).is_err());
    let error = Handle::builder(&["postgres://a@h1,h2/db"]).unwrap_err();
    assert!(error.to_string().contains("one URL per server"), "{error}");
    let nobody = Handle::builder(&["postgres://app:app@127.0.0.1:1/app"]).unwrap();
    let error = nobody.hold_timeout(std::time::Duration::from_millis(300)).connect().await.unwrap_err();
    assert!(matches!(error, ClusterError::NoPrimary { .. }), "{error}");
}

#[tokio::test]
async fn the_example_runs() {
    let cluster = Cluster::with_replicas(2).await;
    let nodes: Vec<String> = cluster
        .servers()
        .nodes()
        .iter()
        .map(|node| format!("postgres://postgres:postgres@127.0.0.1:{}/app", node.port()))
        .collect();
    example::visit(&nodes).await.unwrap();
    let all = cluster.value(0, "SELECT count(*) FROM visits WHERE name IN ('ada', 'grace')").await;
    assert_eq!(all, "2");
}
