//! What a session still has after its server was lost, without its client doing anything.

use crate::harness::{Cluster, Raw};
use crate::proxy_failures::{SETUP, ready};

#[tokio::test]
async fn statements_prepared_in_sql_are_there_on_the_new_primary() {
    let cluster = Cluster::with_replicas(2).await;
    let other = "CREATE SCHEMA other; CREATE TABLE other.u (n int); CREATE TABLE other.v (n int);
        GRANT ALL ON SCHEMA other TO app; GRANT ALL ON other.u, other.v TO app";
    cluster.sql(0, &format!("{SETUP} {other}")).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let mut client = Raw::connect(proxy.port(), &[]).await;
    client.run("Q SET search_path TO other\nQ PREPARE put (int) AS INSERT INTO u VALUES ($1)").await;
    client.run("Q RESET search_path\nQ PREPARE add AS SELECT $1::int + 1\nQ PREPARE gone AS SELECT 2").await;
    client.run("Q DEALLOCATE gone\nQ PREPARE add2 AS SELECT 'two'; -- one statement").await;
    client.run("Q SET search_path TO other\nQ EXECUTE put(1)\nQ PREPARE lost AS SELECT n FROM v").await;
    // In a transaction that is lost; PREPARE is not undone with it.
    let mut open = Raw::connect(proxy.port(), &[]).await;
    open.run("Q BEGIN\nQ PREPARE inside AS SELECT 'inside'\nQ INSERT INTO t VALUES ('open')").await;
    // Nobody knows what of such a text to repeat.
    let mut several = Raw::connect(proxy.port(), &[]).await;
    several.run("Q PREPARE a AS SELECT 1; PREPARE b AS SELECT 2").await;
    cluster.sql(0, "DROP TABLE other.v").await;
    cluster.kill(0).await;

    // All of them rest: of what was under way nobody could tell what it had done.
    let mut other = Raw::connect(proxy.port(), &[]).await;
    assert_eq!(other.query("INSERT INTO t VALUES ('other')").await, ["C INSERT 0 1", "Z I"]);
    assert_eq!(client.query("EXECUTE put(2)").await, ["C INSERT 0 1", "Z I"]);
    assert_eq!(client.query("EXECUTE add(41)").await, ["T 1", "D 42", "C SELECT 1", "Z I"]);
    assert_eq!(client.query("EXECUTE add2").await, ["T 1", "D two", "C SELECT 1", "Z I"]);
    // Deallocated before; and one that cannot be prepared any more, which is missing when it is executed, and nothing else.
    for name in ["gone", "lost"] {
        let seen = client.query(&format!("EXECUTE {name}")).await;
        assert!(seen[0].starts_with("E 26000"), "{name}: {seen:?}");
    }
    let primary = cluster.primary().await;
    assert_eq!(cluster.value(primary, "SELECT sum(n) FROM other.u").await, "3");
    let seen = open.query("SELECT 1").await;
    assert!(seen.iter().any(|shown| shown.starts_with("E 40001")), "{seen:?}");
    open.query("ROLLBACK").await;
    assert_eq!(open.query("EXECUTE inside").await, ["T 1", "D inside", "C SELECT 1", "Z I"]);
    let end = "E 57P01 terminating connection because the server that held its session state was lost";
    assert_eq!(several.until_ready().await, [end, "closed"]);

    // When all are deallocated nothing ties it any more.
    client.query("DEALLOCATE ALL").await;
    assert!(client.query("SHOW primacy.pins").await.contains(&"D ".to_owned()));
}

#[tokio::test]
async fn a_cursor_that_was_held_is_gone_and_its_session_is_not() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let mut client = Raw::connect(proxy.port(), &[]).await;
    client.run("Q SET application_name TO 'reader'\nQ BEGIN").await;
    client.run("Q DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 10)\nQ COMMIT").await;
    assert_eq!(client.query("FETCH c").await, ["T 1", "D 1", "C FETCH 1", "Z I"]);
    cluster.kill(0).await;
    // While it rests: of a FETCH that was under way nobody could tell what it had done.
    let mut other = Raw::connect(proxy.port(), &[]).await;
    assert_eq!(other.query("INSERT INTO t VALUES ('other')").await, ["C INSERT 0 1", "Z I"]);
    let seen = client.query("FETCH c").await;
    assert!(seen[0].starts_with("E 34000"), "{seen:?}");
    assert_eq!(client.query("INSERT INTO t VALUES ('after')").await, ["C INSERT 0 1", "Z I"]);
    let seen = client.query("SHOW application_name").await;
    assert!(seen.contains(&"D reader".to_owned()), "{seen:?}");
    assert!(client.query("SHOW primacy.pins").await.contains(&"D ".to_owned()));
}
