//! TLS on both sides of the proxy, with certificates made for the test. The clients are psql, so that another
//! implementation judges what the proxy shows.

use std::time::Duration;

use crate::harness::{Certificates, Cluster, LIMIT, Proxy, Raw, eventually, startup};

fn conninfo(proxy: &Proxy, more: &str) -> String {
    format!("port={} user=app password=app dbname=app connect_timeout=20 {more}", proxy.port())
}

#[tokio::test]
async fn clients_get_tls_and_can_check_whom_they_reached() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster
        .proxy()
        .set("tls.sslmode", "require")
        .set("tls.cert_file", certificates.path("server.crt"))
        .set("tls.key_file", certificates.path("server.key"))
        .set("unix_socket_dir", cluster.dir().to_str().unwrap())
        .start();
    let ca = |name: &str| format!("sslrootcert={}", certificates.path(name));
    let full = conninfo(&proxy, &format!("host=localhost sslmode=verify-full {}", ca("ca.crt")));
    let served = async || cluster.psql(&full, "SELECT current_user").await.ok();
    assert_eq!(eventually(LIMIT, "a client that checks everything is served", served).await, "app");
    // More than a record, and more than a buffer, both ways.
    let text = "z".repeat(100_000);
    let sql = format!("SELECT length(repeat('x', 5000000) || '{text}')");
    assert_eq!(cluster.psql(&full, &sql).await.unwrap(), "5100000");

    let psql = async |more: String| cluster.psql(&conninfo(&proxy, &more), "SELECT 1").await;
    let name = psql(format!("host=127.0.0.1 sslmode=verify-full {}", ca("ca.crt"))).await.unwrap_err();
    assert!(name.contains("does not match host name"), "{name}");
    assert_eq!(psql(format!("host=127.0.0.1 sslmode=verify-ca {}", ca("ca.crt"))).await.unwrap(), "1");
    let stranger = psql(format!("host=localhost sslmode=verify-ca {}", ca("other.crt"))).await.unwrap_err();
    assert!(stranger.contains("certificate verify failed"), "{stranger}");
    eventually(LIMIT, "the log says that the client hung up", async || {
        proxy.log().contains("the TLS handshake failed").then_some(())
    })
    .await;

    // Without TLS: refused over TCP before any password is asked for, and let in over a Unix socket.
    let mut plain = Raw::dial(proxy.port()).await;
    plain.send(&startup(&[("user", "app"), ("database", "app")])).await;
    assert_eq!(plain.until_ready().await, ["E 28000 connection requires TLS", "closed"]);
    assert_eq!(psql(format!("host={} sslmode=disable", cluster.dir().display())).await.unwrap(), "1");
}

/// Whether the connection that serves a statement on such a node is encrypted.
async fn encrypted(client: &tokio_postgres::Client, node: &str) -> bool {
    let sql = format!("/* primacy: {node} */ SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn servers_are_reached_over_tls_in_peace_and_in_a_failover() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::builder(2).tls(&certificates).run().await;
    cluster.sql(0, "CREATE TABLE t (v text); GRANT ALL ON t TO app").await;
    // Between the servers: what the owners of the replicas wrote.
    let checked = format!("sslmode=verify-full sslrootcert={}", certificates.path("ca.crt"));
    for node in [1, 2] {
        let own = cluster.value(node, "SHOW primary_conninfo").await;
        assert!(own.contains("sslmode=disable"), "{own}");
        let new =
            own.replace("sslmode=disable", &checked).replace("127.0.0.1", "localhost").replace('\'', "''");
        cluster.sql(node, &format!("ALTER SYSTEM SET primary_conninfo = '{new}'")).await;
        cluster.sql(node, "SELECT pg_reload_conf()").await;
    }
    follows_over_tls(&cluster, 0, 2).await;
    let proxy = async |mode: &str| {
        let proxy = cluster.proxy().set_nodes("host", "localhost").set_nodes("sslmode", mode);
        let ca = certificates.path("ca.crt");
        if mode == "require" {
            proxy.run().await
        } else {
            proxy.set_nodes("sslrootcert", ca.as_str()).run().await
        }
    };
    // The harness signs in as primacy-setup, without TLS.
    let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE NOT ssl \
                 AND (usename = 'app' OR application_name LIKE 'primacy%') AND application_name <> 'primacy-setup'";
    for mode in ["require", "verify-ca"] {
        let proxy = proxy(mode).await;
        let client = proxy.client().await;
        assert!(encrypted(&client, "primary").await, "{mode}");
        assert!(encrypted(&client, "replica").await, "{mode}");
        for node in 0..3 {
            assert_eq!(cluster.value(node, plain).await, "0", "{mode}: node{node}");
        }
    }
    let proxy = proxy("verify-full").await;
    let client = proxy.client().await;
    assert!(encrypted(&client, "primary").await);
    cancelled(&cluster, &client).await;

    cluster.kill(0).await;
    client.batch_execute("INSERT INTO t VALUES ('after')").await.unwrap();
    assert!(encrypted(&client, "primary").await);
    let new = cluster.primary().await;
    follows_over_tls(&cluster, new, 1).await;
    let own = cluster.value(3 - new, "SHOW primary_conninfo").await;
    assert!(own.contains("sslmode='verify-full'") && own.contains("sslrootcert="), "{own}");
    assert_eq!(cluster.value(new, plain).await, "0");
}

async fn follows_over_tls(cluster: &Cluster, primary: usize, replicas: usize) {
    let followers = "SELECT count(*) FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) WHERE ssl";
    eventually(LIMIT, "replicas stream over TLS", async || {
        (cluster.value(primary, followers).await == replicas.to_string()).then_some(())
    })
    .await;
}

/// A cancel request goes over TLS to the server too.
async fn cancelled(cluster: &Cluster, client: &tokio_postgres::Client) {
    let token = client.cancel_token();
    let sleeping = client.batch_execute("/* primacy: primary */ SELECT pg_sleep(60)");
    let cancelling = async {
        let running =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND usename = 'app'";
        eventually(LIMIT, "it runs", async || (cluster.value(0, running).await == "1").then_some(())).await;
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleeping, cancelling);
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
}

/// Servers that cannot prove who they are, and one without TLS: nothing is sent to them, and client, log and status say
/// why.
#[tokio::test]
async fn servers_that_fail_the_check_are_not_used() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::builder(1).tls(&certificates).run().await;
    let other = certificates.path("other.crt");
    let stranger = cluster.proxy().set_nodes("sslmode", "verify-ca").set_nodes("sslrootcert", other.as_str());
    refused(stranger.set_nodes("host", "localhost").start(), "certificate").await;
    // The certificate names localhost only.
    let ca = certificates.path("ca.crt");
    let address = cluster.proxy().set_nodes("sslmode", "verify-full").set_nodes("sslrootcert", ca.as_str());
    refused(address.start(), "certificate").await;

    let plain = Cluster::with_replicas(0).await;
    refused(plain.proxy().set_nodes("sslmode", "require").start(), "TLS").await;
}

#[tokio::test]
async fn who_must_show_a_certificate_and_has_none_reads_so() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster
        .proxy()
        .set("tls.sslmode", "verify-ca")
        .set("tls.cert_file", certificates.path("server.crt"))
        .set("tls.key_file", certificates.path("server.key"))
        .set("tls.ca_file", certificates.path("ca.crt"))
        .start();
    let shown = |name: &str| {
        let [certificate, key] = ["crt", "key"].map(|end| certificates.path(&format!("{name}.{end}")));
        conninfo(&proxy, &format!("host=localhost sslmode=require sslcert={certificate} sslkey={key}"))
    };
    let good = shown("alice");
    let served = async || cluster.psql(&good, "SELECT 1").await.ok();
    eventually(LIMIT, "a good certificate is taken", served).await;
    let none = conninfo(&proxy, "host=localhost sslmode=require sslcert=/nonexistent");
    let refused = cluster.psql(&none, "SELECT 1").await.unwrap_err();
    assert!(refused.contains("connection requires a valid client certificate"), "{refused}");
    let plain =
        cluster.psql(&conninfo(&proxy, "host=localhost sslmode=disable"), "SELECT 1").await.unwrap_err();
    assert!(plain.contains("TLS") || plain.contains("SSL"), "{plain}");
    // Signed by somebody else: not one of ours, whatever comes behind the handshake.
    assert!(cluster.psql(&shown("next"), "SELECT 1").await.is_err());
}

/// What `openssl x509 -req` makes without a file of extensions has version 1, in which a certificate says too little.
#[tokio::test]
async fn a_client_certificate_of_version_1_is_refused_and_the_log_says_what_to_do() {
    let certificates = Certificates::make().await;
    let make = "openssl x509 -req -in alice.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out old.crt && \
                openssl x509 -in old.crt -noout -text";
    let dir = certificates.file("");
    let made = std::process::Command::new("sh").args(["-c", make]).current_dir(dir).output().unwrap();
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    if !text.contains("Version: 1 ") {
        eprintln!("SKIPPED: this openssl makes no certificates of version 1: {text}");
        return;
    }
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster
        .proxy()
        .set("tls.sslmode", "require")
        .set("tls.cert_file", certificates.path("server.crt"))
        .set("tls.key_file", certificates.path("server.key"))
        .set("tls.ca_file", certificates.path("ca.crt"))
        .start();
    let shown = |name: &str| {
        let (certificate, key) = (certificates.path(name), certificates.path("alice.key"));
        conninfo(&proxy, &format!("host=localhost sslmode=require sslcert={certificate} sslkey={key}"))
    };
    let good = shown("alice.crt");
    let served = async || cluster.psql(&good, "SELECT 1").await.ok();
    eventually(LIMIT, "a good certificate is taken", served).await;
    let refused = cluster.psql(&shown("old.crt"), "SELECT 1").await.unwrap_err();
    assert!(refused.contains("certificate") && refused.contains("alert"), "{refused}");
    eventually(LIMIT, "the log says what to do", async || {
        let log = proxy.log();
        log.lines().any(|line| line.contains("X.509 version 1") && line.contains("not let in")).then_some(())
    })
    .await;
}

async fn refused(proxy: Proxy, why: &str) {
    let status = format!("http://{}/api/v1/status", proxy.admin());
    let told = eventually(LIMIT, "the status says why", async || {
        let status = status.clone();
        let text = tokio::task::spawn_blocking(move || {
            ureq::get(&status).call().ok().and_then(|mut answer| answer.body_mut().read_to_string().ok())
        });
        let status: serde_json::Value = serde_json::from_str(&text.await.unwrap()?).ok()?;
        let error = status["nodes"][0]["error"].as_str()?;
        (!error.is_empty()).then(|| error.to_owned())
    })
    .await;
    assert!(told.contains(why), "{told}");
    let mut client = Raw::dial(proxy.port()).await;
    client.send(&startup(&[("user", "app"), ("database", "app")])).await;
    let seen = client.until_ready().await;
    assert!(seen[0].starts_with("E 57P03"), "{seen:?}");
    eventually(Duration::from_secs(5), "the log says why", async || {
        let log = proxy.log();
        log.lines().any(|line| line.contains("WARN") && line.contains(why)).then_some(())
    })
    .await;
    assert!(!proxy.log().contains("ERROR"), "{}", proxy.log());
}
