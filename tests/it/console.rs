//! The console: databases for which the proxy itself answers, seen through drivers in both protocols.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually, frame, startup};

async fn console(proxy: &Proxy) -> Client {
    proxy.connect(&proxy.url("postgres", "pgbouncer")).await.unwrap()
}

/// Column names, and rows as text.
async fn show(client: &Client, command: &str) -> (Vec<String>, Vec<Vec<Option<String>>>) {
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    for message in client.simple_query(command).await.unwrap_or_else(|error| panic!("{command}: {error}")) {
        match message {
            SimpleQueryMessage::RowDescription(shape) => {
                columns = shape.iter().map(|column| column.name().to_owned()).collect();
            }
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
            }
            _ => {}
        }
    }
    (columns, rows)
}

/// The value in a column of the first row that has this in its first column.
async fn value(client: &Client, command: &str, first: &str, column: &str) -> Option<String> {
    let (columns, rows) = show(client, command).await;
    let at =
        columns.iter().position(|name| name == column).unwrap_or_else(|| panic!("{column}: {columns:?}"));
    rows.into_iter().find(|row| row[0].as_deref() == Some(first)).and_then(|row| row[at].clone())
}

async fn number(client: &Client, command: &str, first: &str, column: &str) -> u64 {
    value(client, command, first, column).await.map_or(0, |text| text.parse().unwrap())
}

/// PgBouncer 1.26's columns and types, as a client of it sees them.
const COLUMNS: &[(&str, &str)] = &[
    (
        "POOLS",
        "database:text user:text cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 \
         cl_waiting_cancel_req:int4 sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 \
         sv_used:int4 sv_tested:int4 sv_login:int4 maxwait:int4 maxwait_us:int4 pool_mode:text \
         load_balance_hosts:text",
    ),
    (
        "STATS",
        "database:text total_server_assignment_count:numeric total_xact_count:numeric \
         total_query_count:numeric total_received:numeric total_sent:numeric total_xact_time:numeric \
         total_query_time:numeric total_wait_time:numeric total_client_parse_count:numeric \
         total_server_parse_count:numeric total_bind_count:numeric total_client_login_count:numeric \
         avg_server_assignment_count:numeric avg_xact_count:numeric avg_query_count:numeric avg_recv:numeric \
         avg_sent:numeric avg_xact_time:numeric avg_query_time:numeric avg_wait_time:numeric \
         avg_client_parse_count:numeric avg_server_parse_count:numeric avg_bind_count:numeric \
         avg_client_login_count:numeric",
    ),
    (
        "STATS_TOTALS",
        "database:text server_assignment_count:numeric xact_count:numeric query_count:numeric \
         bytes_received:numeric bytes_sent:numeric xact_time:numeric query_time:numeric wait_time:numeric \
         client_parse_count:numeric server_parse_count:numeric bind_count:numeric client_login_count:numeric",
    ),
    (
        "STATS_AVERAGES",
        "database:text server_assignment_count:numeric xact_count:numeric query_count:numeric \
         bytes_received:numeric bytes_sent:numeric xact_time:numeric query_time:numeric wait_time:numeric \
         avg_client_parse_count:numeric avg_server_parse_count:numeric avg_bind_count:numeric \
         avg_client_login_count:numeric",
    ),
    ("TOTALS", "name:text value:numeric"),
    (
        "SERVERS",
        "type:text user:text database:text replication:text state:text addr:text port:int4 local_addr:text \
         local_port:int4 connect_time:text request_time:text wait:int4 wait_us:int4 close_needed:int4 ptr:text \
         link:text remote_pid:int4 tls:text application_name:text prepared_statements:int4 id:int4",
    ),
    (
        "DATABASES",
        "name:text host:text port:int4 database:text force_user:text pool_size:int4 min_pool_size:int4 \
         reserve_pool_size:int4 server_lifetime:int4 pool_mode:text load_balance_hosts:text \
         max_connections:int4 current_connections:int4 max_client_connections:int4 \
         current_client_connections:int4 paused:int4 disabled:int4",
    ),
    (
        "USERS",
        "name:text pool_size:text reserve_pool_size:text pool_mode:text max_user_connections:int4 \
         current_connections:int4 max_user_client_connections:int4 current_client_connections:int4",
    ),
    ("CONFIG", "key:text value:text default:text changeable:text"),
    ("LISTS", "list:text items:int4"),
    ("MEM", "name:text size:int4 used:int4 free:int4 memtotal:int4"),
    ("DNS_HOSTS", "hostname:text ttl:int8 addrs:text"),
    ("DNS_ZONES", "zonename:text serial:int8 count:int4"),
    ("STATE", "key:text value:text"),
    ("VERSION", "version:text"),
    ("PEERS", "peer_id:int4 host:text port:int4 pool_size:int4"),
];

#[tokio::test]
async fn it_shows_what_pgbouncer_shows_in_both_protocols() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().run().await;
    let app = proxy.client().await;
    for _ in 0..3 {
        app.query("SELECT 1", &[]).await.unwrap();
    }
    app.batch_execute("BEGIN; CREATE TABLE seen (x int)").await.unwrap();
    app.batch_execute("INSERT INTO seen VALUES (1)").await.unwrap();
    app.batch_execute("COMMIT").await.unwrap();

    let client = console(&proxy).await;
    for (verb, columns) in COLUMNS {
        // The extended protocol, with binary results: a driver prepares, describes, and believes the types.
        let statement = client.prepare(&format!("SHOW {verb}")).await.unwrap();
        let seen: Vec<String> = statement
            .columns()
            .iter()
            .map(|column| format!("{}:{}", column.name(), column.type_().name()))
            .collect();
        assert_eq!(seen.join(" "), columns.split_whitespace().collect::<Vec<_>>().join(" "), "{verb}");
        client.query(&statement, &[]).await.unwrap();
        let (names, _) = show(&client, &format!("SHOW {verb};")).await;
        assert_eq!(names.len(), seen.len(), "{verb}");
    }
    let rows = client.query("SHOW POOLS", &[]).await.unwrap();
    let row = rows.iter().find(|row| row.get::<_, &str>("database") == "app").unwrap();
    assert_eq!((row.get::<_, &str>("user"), row.get::<_, i32>("cl_active")), ("app", 1));
    assert!(row.get::<_, i32>("sv_idle") >= 1);

    assert_eq!(number(&client, "SHOW STATS_TOTALS", "app", "client_login_count").await, 2);
    let (xacts, queries) = (
        number(&client, "SHOW STATS_TOTALS", "app", "xact_count").await,
        number(&client, "SHOW STATS_TOTALS", "app", "query_count").await,
    );
    assert!(queries >= 7 && xacts < queries, "{xacts} transactions of {queries} statements");
    assert!(number(&client, "SHOW STATS", "app", "total_received").await > 100);
    assert!(number(&client, "SHOW STATS", "app", "total_query_time").await > 0);
    let (_, clients) = show(&client, "SHOW CLIENTS").await;
    assert!(clients.iter().any(|row| row[2].as_deref() == Some("pgbouncer")), "the console's own client too");
}

#[tokio::test]
async fn roles_that_may_look_may_not_act_and_others_may_not_even_look() {
    let cluster = Cluster::with_replicas(0).await;
    cluster.sql(0, "CREATE ROLE stats LOGIN PASSWORD 'stats'").await;
    let proxy = cluster.proxy().set("console.stats_users", vec!["stats".to_owned()]).run().await;
    let looks = proxy.connect(&proxy.url("stats", "primacy")).await.unwrap();
    show(&looks, "SHOW STATS").await;
    let error = looks.simple_query("PAUSE").await.expect_err("may not");
    assert_eq!(error.code().unwrap().code(), "42501");
    show(&looks, "SHOW NODES").await;
    let error = proxy.connect(&proxy.url("app", "primacy")).await.expect_err("may not look");
    assert_eq!(error.code().unwrap().code(), "42501");
}

#[tokio::test]
async fn what_clients_send_unasked_does_not_break_it() {
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster.proxy().run().await;
    let client = console(&proxy).await;
    for courtesy in
        ["SET extra_float_digits = 3", "BEGIN", "SELECT 1", "COMMIT", "", "DISCARD ALL", "SELECT version()"]
    {
        client.simple_query(courtesy).await.unwrap_or_else(|error| panic!("{courtesy}: {error}"));
    }
    // What psql asks when somebody presses the tabulator, and a typing error.
    for nonsense in ["SELECT pg_catalog.quote_ident(relname) FROM pg_catalog.pg_class", "SHOW POLLS"] {
        let error = client.simple_query(nonsense).await.expect_err(nonsense);
        assert_eq!(error.code().unwrap().code(), "42601");
        assert!(client.prepare(nonsense).await.is_err());
    }
    assert_eq!(show(&client, "SHOW VERSION; SHOW STATE").await.1.len(), 3);
    // A message of the extended protocol that fails takes those behind it with it, up to Sync.
    let mut raw = Raw::dial(proxy.port()).await;
    raw.send(&startup(&[("user", "postgres"), ("database", "primacy")])).await;
    raw.sign_in("postgres").await.unwrap_or_else(|error| panic!("{}", error.shown()));
    raw.send(&frame(b'P', b"\0SHOW NOTHING\0\0\0")).await;
    raw.send(&frame(b'B', b"\0\0\0\0\0\0\0\0")).await;
    raw.send(&frame(b'S', b"")).await;
    let seen = raw.until_ready().await;
    assert!(seen.len() == 2 && seen[0].starts_with("E 42601"), "{seen:?}");
}

#[tokio::test]
async fn a_paused_database_waits_and_goes_on() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().run().await;
    let (app, admin) = (proxy.client().await, console(&proxy).await);
    app.batch_execute("BEGIN; CREATE TABLE open (x int)").await.unwrap();
    // It returns when nobody holds a server connection any more.
    let pausing = admin.simple_query("PAUSE app");
    tokio::pin!(pausing);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut pausing).await.is_err(),
        "a transaction is open"
    );
    app.batch_execute("COMMIT").await.unwrap();
    pausing.await.unwrap();
    assert_eq!(number(&admin, "SHOW DATABASES", "app", "paused").await, 1);
    assert_eq!(number(&admin, "SHOW POOLS", "app", "sv_idle").await, 0, "server connections are closed");
    let waiting = tokio::spawn(async move {
        app.query("SELECT 1", &[]).await.unwrap();
        app
    });
    eventually(LIMIT, "the statement waits", async || {
        (number(&admin, "SHOW POOLS", "app", "cl_waiting").await == 1).then_some(())
    })
    .await;
    let (_, holds) = show(&admin, "SHOW HOLDS").await;
    assert_eq!(holds[0][4].as_deref(), Some("RESUME"));
    admin.simple_query("RESUME app").await.unwrap();
    let app = waiting.await.unwrap();
    assert!(admin.simple_query("RESUME app").await.is_err(), "it is not paused any more");
    assert!(admin.simple_query("PAUSE nowhere").await.is_err());

    admin.simple_query("DISABLE app").await.unwrap();
    let error = proxy.connect(&proxy.url("app", "app")).await.expect_err("disabled");
    assert_eq!(error.code().unwrap().code(), "57P03");
    app.query("SELECT 1", &[]).await.unwrap();
    admin.simple_query("ENABLE app").await.unwrap();
    proxy.client().await;

    // RECONNECT: the next statement runs in another process.
    let pid = async || {
        app.query_one("/* primacy: primary */ SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0)
    };
    let before = pid().await;
    admin.simple_query("RECONNECT app").await.unwrap();
    assert_ne!(pid().await, before);

    let id = value(&admin, "SHOW CLIENTS", "C", "id").await.unwrap();
    assert!(admin.simple_query("KILL_CLIENT 99").await.is_err());
    let (columns, clients) = show(&admin, "SHOW CLIENTS").await;
    let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let mine = clients.iter().find(|row| row[at("database")].as_deref() == Some("app")).unwrap();
    assert!(!id.is_empty());
    admin.simple_query(&format!("KILL_CLIENT {}", mine[at("id")].as_ref().unwrap())).await.unwrap();
    eventually(LIMIT, "it is gone", async || {
        let gone = number(&admin, "SHOW DATABASES", "app", "current_client_connections").await == 0;
        (gone || app.is_closed()).then_some(())
    })
    .await;
    admin.simple_query("KILL app").await.unwrap();
    assert_eq!(number(&admin, "SHOW DATABASES", "app", "paused").await, 1);
    admin.simple_query("RESUME").await.unwrap();
    proxy.client().await.query("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn routes_reads_and_pins_tell_what_happened() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().run().await;
    let (app, admin) = (proxy.client().await, console(&proxy).await);
    app.batch_execute("CREATE SEQUENCE numbers").await.unwrap();
    // Until the catalog is known, that is the reason.
    eventually(LIMIT, "the function is known", async || {
        app.query_one("SELECT nextval('numbers'), 0", &[]).await.unwrap();
        let reason = value(&admin, "SHOW READS", "SELECT nextval(?), ?", "reason").await;
        (reason.as_deref() == Some("volatile-function")).then_some(())
    })
    .await;
    for n in 0..5 {
        app.query_one(&format!("SELECT nextval('numbers'), {n}"), &[]).await.unwrap();
    }
    let (columns, reads) = show(&admin, "SHOW READS").await;
    assert_eq!(columns, ["statement", "count", "reason", "detail", "what_would_change_it"]);
    let read = reads
        .iter()
        .find(|row| row[0].as_deref() == Some("SELECT nextval(?), ?"))
        .unwrap_or_else(|| panic!("{reads:?}"));
    assert_eq!(read[2].as_deref(), Some("volatile-function"));
    assert!(read[1].as_deref().unwrap().parse::<u32>().unwrap() >= 6, "{read:?}");
    assert!(read[4].as_deref().unwrap().contains("STABLE"));
    eventually(LIMIT, "a read is served by the replica", async || {
        app.simple_query("SELECT 17").await.unwrap();
        (number(&admin, "SHOW ROUTES", "SELECT ?", "replicas").await > 0).then_some(())
    })
    .await;
    app.batch_execute("LISTEN news").await.unwrap();
    let (columns, pins) = show(&admin, "SHOW PINS").await;
    assert_eq!(pins[0][columns.iter().position(|name| name == "cause").unwrap()].as_deref(), Some("listen"));
    assert_eq!(
        value(&admin, "EXPLAIN ROUTE SELECT now(); SELECT 1", "statements", "value").await.as_deref(),
        Some("2")
    );
    assert_eq!(show(&admin, "SHOW NODES").await.1.len(), 2);
    let (_, events) = show(&admin, "SHOW EVENTS 3").await;
    assert_eq!(events.len(), 3);
    // The same over HTTP.
    let url = format!("http://{}/api/v1/routes?top=5", proxy.admin());
    let asking = tokio::task::spawn_blocking(move || {
        ureq::get(&url).call().unwrap().body_mut().read_json::<serde_json::Value>().unwrap()
    });
    let report = asking.await.unwrap();
    assert!(
        report["reads"].as_array().unwrap().iter().any(|read| read["reason"] == "volatile-function"),
        "{report}"
    );
}

/// What stock exporters read, by verb: prometheus-pgbouncer-exporter 2.1 (Python) and prometheus-community's (Go).
const EXPORTED: [(&str, &str); 3] = [
    (
        "STATS",
        "database total_xact_count total_query_count total_xact_time total_wait_time total_query_time total_received \
         total_sent",
    ),
    (
        "STATS_TOTALS",
        "database query_count query_time bytes_received bytes_sent wait_time xact_count xact_time client_parse_count \
         server_parse_count bind_count",
    ),
    (
        "POOLS",
        "database user cl_active cl_active_cancel_req cl_waiting cl_waiting_cancel_req sv_active sv_active_cancel \
         sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait",
    ),
];

#[tokio::test]
async fn what_exporters_read_is_a_number_or_a_name() {
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster.proxy().run().await;
    proxy.client().await.simple_query("SELECT 1").await.unwrap();
    let admin = console(&proxy).await;
    let databases =
        "name host port database pool_size pool_mode max_connections current_connections paused disabled";
    for (verb, wanted) in EXPORTED.into_iter().chain([("DATABASES", databases)]) {
        let (columns, rows) = show(&admin, &format!("SHOW {verb};")).await;
        assert!(!rows.is_empty(), "{verb}");
        for column in wanted.split_whitespace() {
            let at = columns.iter().position(|name| name == column);
            let at = at.unwrap_or_else(|| panic!("SHOW {verb} has no {column}: {columns:?}"));
            let is_name = ["database", "user", "name", "host", "pool_mode"].contains(&column);
            for row in &rows {
                let text = row[at].as_deref().unwrap_or_default();
                assert!(is_name || text.parse::<f64>().is_ok(), "SHOW {verb}, {column}: {text:?}");
            }
        }
    }
    for (verb, row) in [
        ("LISTS", "databases users pools free_clients used_clients login_clients free_servers used_servers"),
        ("LISTS", "dns_names dns_zones dns_queries"),
        ("CONFIG", "max_client_conn max_user_connections"),
    ] {
        let column = if verb == "LISTS" { "items" } else { "value" };
        for first in row.split_whitespace() {
            let text = value(&admin, &format!("SHOW {verb};"), first, column).await.unwrap_or_default();
            assert!(text.parse::<f64>().is_ok(), "SHOW {verb}, {first}: {text:?}");
        }
    }
}

#[tokio::test]
async fn splitting_can_be_observed_before_it_is_believed() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().set("routing.mode", "observe").set("log.slow_statement", "50ms").run().await;
    let (app, admin) = (proxy.client().await, console(&proxy).await);
    for _ in 0..4 {
        app.simple_query("SELECT 1").await.unwrap();
    }
    app.simple_query("SELECT pg_sleep(0.1), 'secret'").await.unwrap();
    assert_eq!(proxy.served().await.1, 0, "nothing goes to a replica");
    assert_eq!(
        value(&admin, "SHOW ROUTES", "SELECT ?", "why_primary").await.as_deref(),
        Some("would-go-to-replica")
    );
    let log = proxy.log();
    let slow = log.lines().find(|line| line.contains("slow statement")).expect("a line");
    assert!(slow.contains("pg_sleep(?), ?") && !log.contains("secret'"), "{slow}");
}

#[tokio::test]
async fn settings_change_until_the_next_reload_and_the_process_ends_on_command() {
    let cluster = Cluster::with_replicas(0).await;
    let mut proxy = cluster.proxy().run().await;
    let admin = console(&proxy).await;
    admin.simple_query("SET default_pool_size = 3").await.unwrap();
    admin.simple_query("SET server_idle_timeout = 5").await.unwrap();
    assert_eq!(value(&admin, "SHOW CONFIG", "pool.default_pool_size", "value").await.as_deref(), Some("3"));
    assert_eq!(
        value(&admin, "SHOW CONFIG", "pool.server_idle_timeout", "value").await.as_deref(),
        Some("5s")
    );
    assert_eq!(number(&admin, "SHOW DATABASES", "app", "pool_size").await, 3);
    for wrong in ["SET default_pool_size = 'many'", "SET no_such = 1", "SET workers = 2"] {
        assert!(admin.simple_query(wrong).await.is_err(), "{wrong}");
    }
    admin.simple_query("RELOAD").await.unwrap();
    assert_eq!(value(&admin, "SHOW CONFIG", "pool.default_pool_size", "value").await.as_deref(), Some("20"));

    let app = proxy.client().await;
    admin.simple_query("SHUTDOWN WAIT_FOR_CLIENTS").await.unwrap();
    eventually(LIMIT, "nobody new is let in", async || {
        proxy.connect(&proxy.url("app", "app")).await.is_err().then_some(())
    })
    .await;
    app.query("SELECT 1", &[]).await.expect("who is there stays");
    drop(app);
    let since = Instant::now();
    assert!(proxy.ended().await.success());
    assert!(since.elapsed() < LIMIT);
}

/// Whether somebody listens there.
fn is_open(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[tokio::test]
async fn each_way_to_shut_down_keeps_its_promise_to_those_who_are_there() {
    let cluster = Cluster::with_replicas(0).await;
    // Waiting for clients, until a signal says that there is no time for that.
    let mut proxy = cluster.proxy().run().await;
    let app = proxy.client().await;
    console(&proxy).await.simple_query("SHUTDOWN WAIT_FOR_CLIENTS").await.unwrap();
    eventually(LIMIT, "connections are refused", async || (!is_open(proxy.port())).then_some(())).await;
    app.simple_query("BEGIN; SELECT 1; COMMIT").await.expect("who is there stays");
    assert!(proxy.terminate().await.success());

    // Waiting for servers: an open transaction may end, an idle client leaves at once.
    let mut proxy = cluster.proxy().run().await;
    let (app, idle) = (proxy.client().await, proxy.client().await);
    app.batch_execute("BEGIN; CREATE TABLE kept (x int)").await.unwrap();
    console(&proxy).await.simple_query("SHUTDOWN WAIT_FOR_SERVERS").await.unwrap();
    eventually(LIMIT, "the idle client is gone", async || idle.is_closed().then_some(())).await;
    assert!(!is_open(proxy.port()), "connections are refused");
    app.batch_execute("INSERT INTO kept VALUES (1); COMMIT")
        .await
        .expect("the transaction ends as it should");
    assert!(proxy.ended().await.success());

    // Now: what is open is rolled back.
    let mut proxy = cluster.proxy().run().await;
    let app = proxy.client().await;
    app.batch_execute("BEGIN; INSERT INTO kept VALUES (2)").await.unwrap();
    // The console goes down with it, perhaps before its answer is through.
    drop(console(&proxy).await.simple_query("SHUTDOWN").await);
    let since = Instant::now();
    assert!(proxy.ended().await.success());
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(app.batch_execute("COMMIT").await.is_err());
    assert_eq!(cluster.value(0, "SELECT count(*) FROM kept").await, "1");
}

#[tokio::test]
async fn wait_close_waits_for_the_connections_that_reconnect_gave_up_and_no_others() {
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster.proxy().run().await;
    let (app, other, admin) = (proxy.client().await, proxy.client().await, console(&proxy).await);
    app.batch_execute("BEGIN; CREATE TABLE kept (x int)").await.unwrap();
    admin.simple_query("RECONNECT app").await.unwrap();
    let stale = async || {
        let (columns, rows) = show(&admin, "SHOW SERVERS").await;
        let at = columns.iter().position(|name| name == "close_needed").unwrap();
        rows.iter().filter(|row| row[at].as_deref() == Some("1")).count()
    };
    assert_eq!(stale().await, 1);
    let closing = admin.simple_query("WAIT_CLOSE app");
    tokio::pin!(closing);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut closing).await.is_err(),
        "one is still used"
    );
    // A new one, open as long as it likes, is nothing to wait for.
    other.batch_execute("BEGIN; SELECT 1").await.unwrap();
    app.batch_execute("COMMIT").await.unwrap();
    closing.await.unwrap();
    assert_eq!(stale().await, 0);
    other.batch_execute("COMMIT").await.unwrap();
}
