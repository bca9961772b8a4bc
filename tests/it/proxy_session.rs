//! What belongs to one client stays with it: settings, prepared statements, pins, cancel requests. All clients share one
//! connection per node here.

use std::time::Duration;

use futures_util::future::poll_fn;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually, frame, send_cancel, startup};

#[tokio::test]
async fn what_belongs_to_one_client_stays_with_it() {
    let cluster = Cluster::with_replicas(1).await;
    cluster.sql(0, "CREATE TABLE t (id serial PRIMARY KEY, v text); GRANT ALL ON t, t_id_seq TO app").await;
    let proxy =
        cluster.proxy().set("pool.default_pool_size", 1).set("pool.query_wait_timeout", "5s").run().await;
    startup_settings(&proxy).await;
    own_settings(&proxy).await;
    pins(&proxy, &cluster).await;
    notifications(&proxy).await;
    cancel(&proxy, &cluster).await;
    abandoned(&proxy, &cluster).await;
}

async fn one(raw: &mut Raw, sql: &str) -> String {
    let seen = raw.query(sql).await;
    let row = seen.iter().find_map(|shown| shown.strip_prefix("D "));
    row.unwrap_or_else(|| panic!("{sql}: {seen:?}")).to_owned()
}

/// What a client asks for at startup is what RESET returns to, and no other client's.
async fn startup_settings(proxy: &Proxy) {
    let options = [("options", "-c work_mem=5MB -c my.own=a\\ b"), ("application_name", "first")];
    let mut first = Raw::connect(proxy.port(), &options).await;
    let mut second =
        Raw::connect(proxy.port(), &[("TimeZone", "Asia/Tokyo"), ("application_name", "it's")]).await;
    let reported = |raw: &Raw, name: &str| {
        raw.parameters
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    assert_eq!(
        (reported(&first, "application_name"), reported(&second, "application_name")),
        ("first".into(), "it's".into())
    );
    assert_eq!(reported(&second, "TimeZone"), "Asia/Tokyo");
    for _ in 0..2 {
        assert_eq!(one(&mut first, "SHOW work_mem").await, "5MB");
        assert_eq!(one(&mut first, "SHOW my.own").await, "a b");
        assert_eq!(one(&mut first, "SHOW application_name").await, "first");
        assert_eq!(one(&mut second, "SHOW work_mem").await, "4MB");
        assert_eq!(one(&mut second, "SHOW TimeZone").await, "Asia/Tokyo");
        assert_eq!(one(&mut second, "SHOW application_name").await, "it's");
        assert_eq!(one(&mut second, "SELECT current_setting('my.own', true)").await, "NULL");
    }
    first.query("SET work_mem TO '9MB'").await;
    first.query("SET application_name TO 'changed'").await;
    assert_eq!(one(&mut second, "SHOW application_name").await, "it's");
    assert_eq!(one(&mut first, "SHOW work_mem").await, "9MB");
    first.query("RESET ALL").await;
    assert_eq!(one(&mut first, "SHOW work_mem").await, "5MB");
    assert_eq!(one(&mut first, "SHOW application_name").await, "first");
}

/// The proxy's own settings, as drivers ask for them: prepared first, executed later.
async fn own_settings(proxy: &Proxy) {
    let client = proxy.client().await;
    for sql in ["SHOW primacy.primary", "SHOW primacy.route", "SHOW primacy.epoch"] {
        let statement = client.prepare(sql).await.unwrap();
        assert_eq!(statement.columns().len(), 1, "{sql}");
        let prepared: String = client.query_one(&statement, &[]).await.unwrap().get(0);
        let mut raw = Raw::connect(proxy.port(), &[]).await;
        assert_eq!(one(&mut raw, sql).await, prepared, "{sql}");
    }
    client.execute("SET primacy.route = 'primary'", &[]).await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    client.query_one("SELECT 1", &[]).await.unwrap();
    assert_eq!(client.query_one("SHOW primacy.route", &[]).await.unwrap().get::<_, &str>(0), "primary");
    client.batch_execute("COMMIT").await.unwrap();
}

/// A pinned session keeps the primary's only connection; others go on once it is free, and reads go on all the time.
async fn pins(proxy: &Proxy, cluster: &Cluster) {
    let mut other = Raw::connect(proxy.port(), &[]).await;
    let cases = [
        ("CREATE TEMP TABLE mine (id int)", "temporary-table", "DISCARD TEMP"),
        ("LISTEN news", "listen", "UNLISTEN *"),
        ("SELECT pg_advisory_lock(7)", "advisory-lock", "SELECT pg_advisory_unlock_all()"),
        ("PREPARE q AS SELECT 1", "sql-prepare", "DEALLOCATE q"),
        ("SELECT set_config('session_authorization', 'app', false)", "session-authorization", "DISCARD ALL"),
    ];
    for (pin, cause, unpin) in cases {
        let mut raw = Raw::connect(proxy.port(), &[]).await;
        assert_eq!(one(&mut raw, "SHOW primacy.pins").await, "", "{pin}");
        raw.query(pin).await;
        assert_eq!(one(&mut raw, "SHOW primacy.pins").await, cause, "{pin}");
        assert_eq!(one(&mut other, "/* primacy: replica */ SELECT 1").await, "1");
        raw.query(unpin).await;
        assert_eq!(one(&mut raw, "SHOW primacy.pins").await, "", "{unpin}");
        assert_eq!(one(&mut other, "/* primacy: primary */ SELECT 1").await, "1", "after {unpin}");
        raw.query(pin).await;
        // It leaves with its pin; nothing of it stays. Its connection is closed, and a server that sees that takes a moment
        // to drop its temporary tables, while the next client has a connection already.
        drop(raw);
        let left = "/* primacy: primary */ SELECT count(*) FROM pg_class WHERE relname = 'mine'";
        eventually(LIMIT, "its temporary table is gone", async || {
            (one(&mut other, left).await == "0").then_some(())
        })
        .await;
    }
    assert_eq!(one(&mut other, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").await, "0");
    assert_eq!(cluster.value(0, "SELECT count(*) FROM pg_listening_channels()").await, "0");
}

/// A notification reaches a client that waits, without it having to ask.
async fn notifications(proxy: &Proxy) {
    let (listener, mut connection) = tokio_postgres::connect(&proxy.url("app", "app"), NoTls).await.unwrap();
    let (news, mut arrived) = tokio::sync::mpsc::channel(10);
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(note) = message {
                news.send(format!("{} {}", note.channel(), note.payload())).await.unwrap();
            }
        }
    });
    listener.batch_execute("LISTEN news").await.unwrap();
    // The listener holds the pool's only connection to the primary: another role's pool has one of its own.
    let other = proxy.connect(&proxy.url("postgres", "app")).await.unwrap();
    other.batch_execute("NOTIFY news, 'fresh'").await.unwrap();
    let arrived = tokio::time::timeout(LIMIT, arrived.recv()).await.unwrap();
    assert_eq!(arrived.as_deref(), Some("news fresh"));
}

/// A cancel request ends the statement that its client runs or waits with, and no other.
async fn cancel(proxy: &Proxy, cluster: &Cluster) {
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND usename = 'app'";
    let mut victim = Raw::connect(proxy.port(), &[]).await;
    let mut waiting = Raw::connect(proxy.port(), &[]).await;
    victim.send(&frame(b'Q', b"/* primacy: primary */ SELECT pg_sleep(60)\0")).await;
    eventually(LIMIT, "the statement runs", async || (cluster.value(0, running).await == "1").then_some(()))
        .await;
    waiting.send(&frame(b'Q', b"/* primacy: primary */ SELECT 2\0")).await;
    let mut wrong = victim.key.clone();
    wrong.1[0] ^= 1;
    send_cancel(proxy.port(), &wrong).await;
    // Who waits for the pool's only connection gets its error, and the running statement goes on.
    send_cancel(proxy.port(), &waiting.key).await;
    let seen = waiting.until_ready().await;
    assert!(seen[0].starts_with("E 57014"), "{seen:?}");
    assert_eq!(cluster.value(0, running).await, "1");
    send_cancel(proxy.port(), &victim.key).await;
    let seen = victim.until_ready().await;
    assert!(seen.iter().any(|shown| shown.starts_with("E 57014")), "{seen:?}");
    assert_eq!(one(&mut victim, "/* primacy: primary */ SELECT 3").await, "3");
    // A request that comes when its statement is over hits nobody.
    for _ in 0..20 {
        send_cancel(proxy.port(), &victim.key).await;
        assert_eq!(one(&mut waiting, "/* primacy: primary */ SELECT 4").await, "4");
    }
}

/// Clients that leave in the middle of something leave nothing behind.
async fn abandoned(proxy: &Proxy, cluster: &Cluster) {
    let mut raw = Raw::connect(proxy.port(), &[]).await;
    raw.run("Q BEGIN\nQ INSERT INTO t (v) VALUES ('abandoned')").await;
    drop(raw);
    let mut raw = Raw::connect(proxy.port(), &[]).await;
    assert_eq!(raw.query("COPY t (v) FROM STDIN").await, ["G"]);
    raw.send(&frame(b'd', b"abandoned\n")).await;
    drop(raw);
    let mut raw = Raw::connect(proxy.port(), &[]).await;
    raw.send(&frame(b'Q', b"/* primacy: primary */ SELECT pg_sleep(60), 'left alone'\0")).await;
    drop(raw);
    let mut other = Raw::connect(proxy.port(), &[]).await;
    assert_eq!(
        one(&mut other, "/* primacy: primary */ SELECT count(*) FROM t WHERE v = 'abandoned'").await,
        "0"
    );
    let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%left alone%' AND state = 'active' AND pid <> pg_backend_pid()";
    eventually(LIMIT, "what a client left running has ended", async || {
        (cluster.value(0, left).await == "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn session_mode_keeps_one_connection_that_can_do_everything() {
    let cluster = Cluster::with_replicas(1).await;
    cluster.sql(0, "CREATE TABLE t (v text); GRANT ALL ON t TO app").await;
    let proxy = cluster.proxy().set("pool_mode", "session").set("pool.default_pool_size", 2).run().await;
    let (mut first, mut second) =
        (Raw::connect(proxy.port(), &[]).await, Raw::connect(proxy.port(), &[]).await);
    let pid = one(&mut first, "SELECT pg_backend_pid() FROM (SELECT count(*) FROM t) x").await;
    assert_eq!(one(&mut first, "SELECT count(*) FROM t").await, "0");
    assert_eq!(first.query("INSERT INTO t VALUES ('a')").await, ["C INSERT 0 1", "Z I"]);
    first.query("CREATE TEMP TABLE mine (id int)").await;
    assert_ne!(one(&mut second, "SELECT pg_backend_pid()").await, pid);
    assert_eq!(one(&mut first, "SELECT pg_backend_pid()").await, pid);
    drop(first);
    // Its connection is cleaned for the next client.
    let mut third = Raw::connect(proxy.port(), &[]).await;
    assert_eq!(one(&mut third, "SELECT count(*) FROM t").await, "1");
    assert_eq!(one(&mut third, "SELECT to_regclass('mine') IS NULL").await, "t");
}

#[tokio::test]
async fn limits_and_large_things() {
    let cluster = Cluster::with_replicas(1).await;
    cluster
        .sql(0, "CREATE ROLE nologin PASSWORD 'nologin'; CREATE TABLE t (v text); GRANT ALL ON t TO app")
        .await;
    let proxy = cluster
        .proxy()
        .set("limits.max_client_conn", 6)
        .set("limits.client_login_timeout", "1s")
        .set("limits.idle_transaction_timeout", "300ms")
        .set("pool.default_pool_size", 2)
        .set("pool.query_wait_timeout", "500ms")
        .set("unix_socket_dir", cluster.dir().to_str().unwrap())
        .run()
        .await;
    refused_sign_ins(&proxy, &cluster).await;
    garbage(&proxy).await;
    large(&proxy).await;
    times(&proxy).await;
    too_many(&proxy).await;
    let socket =
        format!("host={} port={} user=app password=app dbname=app", cluster.dir().display(), proxy.port());
    let client = eventually(LIMIT, "a place is free", async || proxy.connect(&socket).await.ok()).await;
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
}

async fn refused_sign_ins(proxy: &Proxy, cluster: &Cluster) {
    let code = async |port: u16, user: &str, password: &str, database: &str| {
        let url = format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}");
        match tokio_postgres::connect(&url, NoTls).await {
            Ok(_) => panic!("{url} was let in"),
            Err(error) => error.code().map(|code| code.code().to_owned()),
        }
    };
    for (user, password, database) in [
        ("app", "wrong", "app"),
        ("nosuch", "x", "app"),
        ("app", "app", "nosuch"),
        ("nologin", "nologin", "app"),
    ] {
        let direct = code(cluster.node(0).port(), user, password, database).await;
        assert_eq!(
            code(proxy.port(), user, password, database).await,
            direct,
            "{user} {password} {database}"
        );
    }
}

async fn garbage(proxy: &Proxy) {
    let mut bystander = Raw::connect(proxy.port(), &[]).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 3], &[0xff; 64], &[0, 0, 0, 9, 0, 3, 0, 0, 7]] {
        let mut raw = Raw::dial(proxy.port()).await;
        raw.send(bytes).await;
        let seen = raw.until_ready().await;
        assert!(seen[0].starts_with("E 08P01") || seen[0] == "closed", "{bytes:?}: {seen:?}");
    }
    // A long message before sign-in.
    let mut raw = Raw::dial(proxy.port()).await;
    raw.send(&startup(&[("user", "app"), ("database", "app")])).await;
    raw.message().await.unwrap();
    raw.send(&[b'p', 0x7f, 0xff, 0xff, 0xff]).await;
    let seen = raw.until_ready().await;
    assert!(seen[0].starts_with("E 08P01"), "{seen:?}");
    // After sign-in.
    for bytes in [&b"X\0\0\0\x03"[..], b"!\0\0\0\x04", b"Q\0\0\0\0", b"B\0\0\0\x06xx"] {
        let mut raw = Raw::connect(proxy.port(), &[]).await;
        raw.send(bytes).await;
        raw.send(&frame(b'S', b"")).await;
        let seen = raw.until_ready().await;
        assert!(seen[0].starts_with("E 08P01") || seen[0] == "closed", "{bytes:?}: {seen:?}");
    }
    // Nobody signs in: the connection is closed in time.
    let mut silent = Raw::dial(proxy.port()).await;
    let seen = silent.until_ready().await;
    assert!(seen.last().unwrap() == "closed", "{seen:?}");
    assert_eq!(one(&mut bystander, "SELECT 1").await, "1");
}

fn peak_kib(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn large(proxy: &Proxy) {
    let client = proxy.client().await;
    let before = peak_kib(proxy);
    let rows = client.query("SELECT repeat('x', 5000000) FROM generate_series(1, 10)", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, &str>(0).len()).sum::<usize>(), 50_000_000);
    let value = "y".repeat(20_000_000);
    let row = client.query_one("SELECT length($1::text)", &[&value]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 20_000_000);
    client.execute("INSERT INTO t VALUES ($1)", &[&value]).await.unwrap();
    let grown = peak_kib(proxy) - before;
    assert!(grown < 16 * 1024, "the proxy grew by {grown} KiB");
    let text = format!("SELECT length('{}'), 1", "z".repeat(1_000_000));
    assert_eq!(client.query_one(&text, &[]).await.unwrap().get::<_, i32>(0), 1_000_000);
    // So long that it is not gathered: the session goes on, tied to its connection.
    let mut raw = Raw::connect(proxy.port(), &[]).await;
    assert_eq!(one(&mut raw, &format!("SELECT length('{}')", "z".repeat(17_000_000))).await, "17000000");
    assert_eq!(one(&mut raw, "SHOW primacy.pins").await, "unknown-setting");
    raw.query("DISCARD ALL").await;
    assert_eq!(one(&mut raw, "SHOW primacy.pins").await, "");
    // More settings than travel: the session keeps the connection that has them all.
    let many: Vec<String> = (0..300).map(|number| format!("SET app.s{number} = '{number}'")).collect();
    raw.query(&many.join("; ")).await;
    assert_eq!(one(&mut raw, "SHOW primacy.pins").await, "unknown-setting");
    for number in [0, 255, 256, 299] {
        let sql = format!("SELECT current_setting('app.s{number}')");
        assert_eq!(one(&mut raw, &sql).await, number.to_string());
    }
    raw.query("DISCARD ALL").await;
    assert_eq!(one(&mut raw, "SHOW primacy.pins").await, "");
    // COPY that fails in the middle of a long message: what is left of it is nobody's.
    assert_eq!(raw.query("COPY t (v, nosuch) FROM STDIN").await.len(), 2);
    assert_eq!(raw.query("COPY t FROM STDIN").await, ["G"]);
    raw.send(&frame(b'd', b"two\tcolumns\n")).await;
    raw.send(&frame(b'd', &vec![b'x'; 3_000_000])).await;
    raw.send(&frame(b'c', b"")).await;
    let seen = raw.until_ready().await;
    assert!(seen[0].starts_with("E 22P04"), "{seen:?}");
    assert_eq!(one(&mut raw, "SELECT 5").await, "5");
}

async fn times(proxy: &Proxy) {
    let mut first = Raw::connect(proxy.port(), &[]).await;
    first.run("Q BEGIN\nQ SELECT pg_backend_pid()").await;
    let seen = first.until_ready().await;
    assert!(seen[0].starts_with("E 25P03"), "{seen:?}");
    // Both connections to the primary are busy: the third statement waits its time, then says so.
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut holder = Raw::connect(proxy.port(), &[]).await;
        holder.query("LISTEN x").await;
        holders.push(holder);
    }
    let seen =
        first_answer(&mut Raw::connect(proxy.port(), &[]).await, "/* primacy: primary */ SELECT 1").await;
    assert!(
        seen.starts_with("E 57014") || seen.starts_with("E 53300") || seen.starts_with("E 57P03"),
        "{seen}"
    );
}

async fn first_answer(raw: &mut Raw, sql: &str) -> String {
    raw.query(sql).await.swap_remove(0)
}

async fn too_many(proxy: &Proxy) {
    let full = async || {
        let mut clients = Vec::new();
        loop {
            let mut raw = Raw::dial(proxy.port()).await;
            raw.send(&startup(&[("user", "app"), ("database", "app")])).await;
            match raw.sign_in("app").await {
                Ok(()) => clients.push(raw),
                Err(error) => return (clients.len(), error.shown()),
            }
        }
    };
    eventually(Duration::from_secs(10), "six clients and no more", async || {
        let (count, error) = full().await;
        assert!(error.starts_with("E 53300"), "{error}");
        (count == 6).then_some(())
    })
    .await;
}
