//! Writes outside of a transaction block whose server is lost: each is either reported as what it was, or run again.

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually, frame, send_cancel, startup};
use crate::proxy_failures::{SETUP, ready, runs};

/// Which nodes are replicas, the first primary being the first node.
const REPLICAS: [usize; 2] = [1, 2];

async fn send_query(client: &mut Raw, sql: &str) {
    client.send(&frame(b'Q', format!("{sql}\0").as_bytes())).await;
}

/// Bytes of an extended pipeline of one statement without parameters.
fn pipeline(sql: &str) -> Vec<u8> {
    let mut out = frame(b'P', format!("\0{sql}\0\0\0").as_bytes());
    out.extend(frame(b'B', b"\0\0\0\0\0\0\0\0"));
    out.extend(frame(b'E', b"\0\0\0\0\0"));
    out.extend(frame(b'S', b""));
    out
}

async fn client(proxy: &Proxy, name: &str) -> Raw {
    Raw::connect(proxy.port(), &[("application_name", name)]).await
}

async fn count(cluster: &Cluster, node: usize, token: &str) -> String {
    cluster.value(node, &format!("SELECT count(*) FROM t WHERE v = '{token}'")).await
}

/// Waits until the backend that serves this client waits for synchronous replicas; its process id.
async fn waits_for_replicas(cluster: &Cluster, name: &str) -> String {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE application_name = '{name}' AND wait_event = 'SyncRep'"
    );
    eventually(LIMIT, "a commit waits for its replicas", async || {
        cluster.sql(0, &sql).await.into_iter().flatten().next()
    })
    .await
}

#[tokio::test]
async fn a_write_that_was_undone_with_its_server_runs_again_unseen() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let mut simple = client(&proxy, "simple").await;
    let mut extended = client(&proxy, "extended").await;
    let mut several = client(&proxy, "several").await;
    send_query(&mut simple, "INSERT INTO t SELECT 'simple' FROM pg_sleep(2) RETURNING v").await;
    extended.send(&pipeline("INSERT INTO t SELECT 'extended' FROM pg_sleep(2)")).await;
    let mut both = pipeline("INSERT INTO t VALUES ('first')");
    both.truncate(both.len() - 5);
    both.extend(pipeline("INSERT INTO t SELECT 'second' FROM pg_sleep(2)"));
    several.send(&both).await;
    for words in ["simple", "extended", "second"] {
        runs(&cluster, 0..1, words).await;
    }
    cluster.kill(0).await;
    assert_eq!(simple.until_ready().await, ["T 1", "D simple", "C INSERT 0 1", "Z I"]);
    assert_eq!(extended.until_ready().await, ["1", "2", "C INSERT 0 1", "Z I"]);
    assert_eq!(several.until_ready().await, ["1", "2", "C INSERT 0 1", "1", "2", "C INSERT 0 1", "Z I"]);
    let primary = cluster.primary().await;
    for token in ["simple", "extended", "first", "second"] {
        assert_eq!(count(&cluster, primary, token).await, "1", "{token}");
    }
}

#[tokio::test]
async fn a_write_that_was_committed_is_reported_so_though_its_server_never_said() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    // The servers' own setting is not primacy's business here, so that a commit can be kept waiting.
    let proxy = cluster.proxy().set("failover.durability", "async").run().await;
    ready(&proxy).await;
    let mut simple = client(&proxy, "simple").await;
    let mut extended = client(&proxy, "extended").await;
    // Before the settings change: their connections are open.
    simple.query("INSERT INTO t VALUES ('before')").await;
    extended.send(&pipeline("UPDATE t SET v = v")).await;
    extended.until_ready().await;
    // Replicas get everything, and nobody of this name will ever say so.
    cluster.sql(0, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    cluster.sql(0, "SELECT pg_reload_conf()").await;
    eventually(LIMIT, "commits wait", async || {
        (cluster.value(0, "SHOW synchronous_standby_names").await == "nobody").then_some(())
    })
    .await;
    send_query(&mut simple, "INSERT INTO t VALUES ('simple') RETURNING v").await;
    extended.send(&pipeline("INSERT INTO t VALUES ('extended')")).await;
    for token in ["simple", "extended"] {
        waits_for_replicas(&cluster, token).await;
        for node in REPLICAS {
            eventually(LIMIT, "the replicas have it", async || {
                (count(&cluster, node, token).await == "1").then_some(())
            })
            .await;
        }
    }
    cluster.kill(0).await;
    assert_eq!(simple.until_ready().await, ["T 1", "D simple", "C INSERT 0 1", "Z I"]);
    assert_eq!(extended.until_ready().await, ["1", "2", "C INSERT 0 1", "Z I"]);
    let primary = cluster.primary().await;
    for token in ["simple", "extended"] {
        assert_eq!(count(&cluster, primary, token).await, "1", "{token}");
    }
    assert_eq!(proxy.log().matches("ending=Committed").count(), 2, "{}", proxy.log());
    assert_eq!(simple.query("INSERT INTO t VALUES ('after')").await, ["C INSERT 0 1", "Z I"]);
}

#[tokio::test]
async fn a_cancelled_wait_for_replicas_is_no_success_in_any_protocol() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let mut simple = client(&proxy, "simple").await;
    let mut extended = client(&proxy, "extended").await;
    let mut committing = client(&proxy, "committing").await;
    let mut patient = client(&proxy, "patient").await;
    committing.run("Q BEGIN\nQ INSERT INTO t VALUES ('committing')").await;
    for node in REPLICAS {
        cluster.stop(node);
    }
    send_query(&mut simple, "INSERT INTO t VALUES ('simple')").await;
    extended.send(&pipeline("INSERT INTO t VALUES ('extended')")).await;
    committing.send(&frame(b'Q', b"COMMIT /* committing */\0")).await;
    send_query(&mut patient, "INSERT INTO t VALUES ('patient')").await;
    for token in ["simple", "extended", "committing"] {
        let pid = waits_for_replicas(&cluster, token).await;
        assert_eq!(cluster.value(0, &format!("SELECT pg_cancel_backend({pid})")).await, "t");
    }
    let unknown =
        "E 08007 the transaction is committed on the primary, but may be lost if that fails now".to_owned();
    for (client, what) in [(&mut simple, "simple"), (&mut extended, "extended"), (&mut committing, "commit")]
    {
        let seen = client.until_ready().await;
        assert!(seen.contains(&unknown), "{what}: {seen:?}");
        assert!(!seen.iter().any(|shown| shown.starts_with("C ")), "{what}: {seen:?}");
        assert_eq!(seen.last().unwrap(), "Z I", "{what}");
    }
    // The client's own wish to cancel is not handed on in that moment; it has been decided upon when `send_cancel` is
    // back, and the server's WARNING of a cancelled wait would be seen in the answer.
    let pid = waits_for_replicas(&cluster, "patient").await;
    send_cancel(proxy.port(), &patient.key).await;
    assert_eq!(waits_for_replicas(&cluster, "patient").await, pid);
    for node in REPLICAS {
        cluster.cont(node);
    }
    assert_eq!(patient.until_ready().await, ["C INSERT 0 1", "Z I"]);
    // And in any other it is.
    send_query(&mut patient, "INSERT INTO t SELECT 'cancelled' FROM pg_sleep(60)").await;
    runs(&cluster, 0..1, "cancelled").await;
    send_cancel(proxy.port(), &patient.key).await;
    let seen = patient.until_ready().await;
    assert!(seen[0].starts_with("E 57014"), "{seen:?}");
}

#[tokio::test]
async fn a_rule_that_answers_answers_through_the_proxy_too() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    cluster.sql(0, "CREATE RULE tell AS ON INSERT TO t DO ALSO SELECT 'told ' || new.v").await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let mut direct = Raw::connect(cluster.node(0).port(), &[]).await;
    let mut through = Raw::connect(proxy.port(), &[]).await;
    for (sql, token) in [("INSERT INTO t VALUES ('#')", "a"), ("INSERT INTO t VALUES ('#') RETURNING v", "b")]
    {
        let expected = direct.query(&sql.replace('#', token)).await;
        let seen = through.query(&sql.replace('#', &format!("{token}{token}"))).await;
        let shape = |seen: &[String]| seen.iter().map(|shown| shown[..1].to_owned()).collect::<String>();
        assert_eq!(shape(&seen), shape(&expected), "{sql}: {seen:?} instead of {expected:?}");
    }
    let settings = "UPDATE pg_settings SET setting = 'x' WHERE name = 'application_name'";
    assert_eq!(through.query(settings).await, direct.query(settings).await);
}

/// Drivers close a statement that is dropped and do not look at the answer. An error there would be read by nobody, and the
/// COMMIT behind it would be answered with ROLLBACK, as in any failed transaction, which few look at either.
#[tokio::test]
async fn a_transaction_that_is_lost_is_told_to_who_reads_it() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let mut client = client(&proxy, "closing").await;
    let begun = client.run("Q BEGIN\nP:one INSERT INTO t VALUES ('lost')\nB::one\nE:\nS").await;
    assert_eq!(begun, ["C BEGIN", "Z T", "1", "2", "C INSERT 0 1", "Z T"]);
    // It answers nothing any more.
    cluster.stop(0);
    assert_eq!(client.run("C:S:one\nS").await, ["3", "Z T"]);
    cluster.kill(0).await;
    let told = client.query("COMMIT").await;
    assert!(told[0].starts_with("E 40001") && told[1] == "Z I", "{told:?}");
    assert_eq!(client.query("SELECT count(*) FROM t WHERE v = 'lost'").await[1], "D 0");
}

#[tokio::test]
async fn a_rollback_is_done_by_the_loss_of_its_server() {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    let proxy = cluster.proxy().run().await;
    ready(&proxy).await;
    let mut console = Raw::dial(proxy.port()).await;
    console.send(&startup(&[("user", "postgres"), ("database", "primacy")])).await;
    console.sign_in("postgres").await.unwrap();
    let mut clients = Vec::new();
    for name in ["simple", "extended", "simple failed", "extended failed"] {
        let mut client = client(&proxy, name).await;
        client.run(&format!("Q BEGIN\nQ INSERT INTO t VALUES ('{name}')")).await;
        if name.contains("failed") {
            assert!(client.query("SELECT 1 / 0").await[0].starts_with("E 22012"));
        }
        clients.push((name, client));
    }
    cluster.stop(0);
    for (name, client) in &mut clients {
        if name.starts_with("simple") {
            send_query(client, "ROLLBACK").await;
        } else {
            client.send(&pipeline("ROLLBACK")).await;
        }
    }
    eventually(LIMIT, "all are on their way", async || {
        let shown = console.query("SHOW CLIENTS").await;
        let active = |row: &&String| row.contains(",active,") && row.contains(",app,app,");
        (shown.iter().filter(active).count() == 4).then_some(())
    })
    .await;
    cluster.kill(0).await;
    for (name, client) in &mut clients {
        let done = ["C ROLLBACK", "Z I"].map(str::to_owned);
        let seen = client.until_ready().await;
        assert!(seen.ends_with(&done), "{name}: {seen:?}");
        assert_eq!(seen.len(), if name.starts_with("simple") { 2 } else { 4 }, "{name}: {seen:?}");
        assert_eq!(
            client.query(&format!("INSERT INTO t VALUES ('{name} again')")).await,
            ["C INSERT 0 1", "Z I"]
        );
        assert_eq!(count(&cluster, cluster.primary().await, name).await, "0");
    }
}
