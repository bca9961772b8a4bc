//! Who may come in: rules, certificates, balancers, limits per address, role and database, and reloading all of it.

use nix::sys::signal::Signal;
use toml::Value;

use crate::harness::{Certificates, Cluster, LIMIT, Proxy, Raw, eventually, startup};

fn rules(text: &str) -> Value {
    text.parse::<toml::Table>().unwrap().remove("hba").unwrap()
}

const RULES: &str = r#"
    hba = [
        { type = "hostssl", database = "app", user = "app", address = "127.0.0.1", method = "cert", map = "m", clientname = "DN" },
        { type = "host", database = "all", user = "mallory", address = "all", method = "reject" },
        { type = "hostssl", database = "all", user = "postgres", address = "127.0.0.0/8", method = "scram-sha-256" },
        { type = "hostssl", database = "postgres", user = "app", address = "127.0.0.0/8", method = "password" },
        { type = "local", database = "all", user = "app", method = "md5" },
    ]
"#;

fn conninfo(proxy: &Proxy, certificates: &Certificates, more: &str) -> String {
    let ca = certificates.path("ca.crt");
    format!(
        "host=localhost hostaddr=127.0.0.1 port={} sslrootcert={ca} connect_timeout=20 {more}",
        proxy.port()
    )
}

#[tokio::test]
async fn the_first_rule_that_fits_decides_and_a_certificate_is_enough() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::with_replicas(1).await;
    // Roles that show no password here need theirs for the servers.
    let users = cluster.dir().join("users");
    std::fs::write(&users, "\"app\" \"app\"\n").unwrap();
    let server = cluster.dir().join("proxy.crt");
    std::fs::copy(certificates.file("server.crt"), &server).unwrap();
    let map = r#"maps = [{ map = "m", identity = "CN=alice,O=example", user = "app" }]"#;
    let proxy = cluster
        .proxy()
        .set("tls.sslmode", "prefer")
        .set("tls.cert_file", server.to_str().unwrap())
        .set("tls.key_file", certificates.path("server.key"))
        .set("tls.ca_file", certificates.path("ca.crt"))
        .set("tls.crl_file", certificates.path("ca.crl"))
        .set("unix_socket_dir", cluster.dir().to_str().unwrap())
        .set("auth.users_file", users.to_str().unwrap())
        .set("auth.query", "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1")
        .set("auth.maps", map.parse::<toml::Table>().unwrap().remove("maps").unwrap())
        .set("hba", rules(RULES))
        .start();
    let psql =
        async |more: &str| cluster.psql(&conninfo(&proxy, &certificates, more), "SELECT current_user").await;
    let shows = |name: &str| {
        let (crt, key) =
            (certificates.path(&format!("{name}.crt")), certificates.path(&format!("{name}.key")));
        format!("sslmode=verify-full user=app dbname=app sslcert={crt} sslkey={key}")
    };
    let alice = shows("alice");
    let served = async || psql(&alice).await.ok();
    assert_eq!(eventually(LIMIT, "a certificate is enough", served).await, "app");
    let refused = async |more: &str, why: &str| {
        let told = psql(more).await.unwrap_err();
        assert!(told.contains(why), "{more}: {told}");
    };
    refused("sslmode=require user=app dbname=app", "connection requires a valid client certificate").await;
    // libpq may see the alert or the broken connection, whichever comes first.
    assert!(psql(&shows("mallory")).await.is_err(), "a revoked certificate");
    refused(
        "sslmode=disable user=app dbname=app password=app",
        "no pg_hba.conf entry for host \"127.0.0.1\", user \"app\", database \"app\", no encryption",
    )
    .await;
    refused("sslmode=require user=mallory dbname=app password=x", "pg_hba.conf rejects connection").await;
    refused("sslmode=require user=app dbname=postgres password=x", "password authentication failed").await;
    assert_eq!(
        psql("sslmode=require user=app dbname=postgres password=app").await.unwrap(),
        "app",
        "clear text"
    );
    let bound = "sslmode=require user=postgres dbname=app password=postgres channel_binding=require";
    assert_eq!(psql(bound).await.unwrap(), "postgres", "SCRAM-SHA-256-PLUS");
    let unbound = "sslmode=require user=postgres dbname=app password=postgres channel_binding=disable";
    assert_eq!(psql(unbound).await.unwrap(), "postgres");
    let socket =
        format!("host={} port={} user=app dbname=app password=app", cluster.dir().display(), proxy.port());
    assert_eq!(cluster.psql(&socket, "SELECT 7").await.unwrap(), "7");
    reloaded(&cluster, &proxy, &certificates, &server).await;
}

#[tokio::test]
async fn a_password_that_has_expired_is_a_wrong_one_and_nothing_else() {
    let cluster = Cluster::with_replicas(0).await;
    cluster.sql(0, "CREATE ROLE late LOGIN PASSWORD 'late' VALID UNTIL '2020-01-01'").await;
    cluster.sql(0, "GRANT CONNECT ON DATABASE app TO late").await;
    let refused = async |proxy: &Proxy| {
        let mut raw = Raw::dial(proxy.port()).await;
        raw.send(&startup(&[("user", "late"), ("database", "app")])).await;
        let told = raw.sign_in("late").await.unwrap_err();
        assert_eq!(told.shown(), "E 28P01 password authentication failed for user \"late\"");
        told.field(b'H')
    };
    // The default question knows that it has.
    assert_eq!(refused(&cluster.proxy().run().await).await, "");
    // One that does not leaves it to the server, which asks for a proof of a verifier that it makes up.
    let query = "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1";
    let hint = refused(&cluster.proxy().set("auth.query", query).run().await).await;
    assert!(hint.starts_with("The password may have expired"), "{hint}");
}

/// Another certificate of the same name: read again while clients are served.
async fn reloaded(cluster: &Cluster, proxy: &Proxy, certificates: &Certificates, server: &std::path::Path) {
    let more = "sslmode=verify-ca user=postgres dbname=app password=postgres";
    let old = async || cluster.psql(&conninfo(proxy, certificates, more), "SELECT 1").await;
    assert_eq!(old().await.unwrap(), "1");
    // It does not belong to the key: nothing is taken over.
    std::fs::copy(certificates.file("other.crt"), server).unwrap();
    proxy.signal(Signal::SIGHUP);
    eventually(LIMIT, "the mistake is told", async || proxy.log().contains("not reloaded").then_some(()))
        .await;
    assert_eq!(old().await.unwrap(), "1");
    let renewed = std::process::Command::new("openssl")
        .args(["req", "-x509", "-new", "-days", "30", "-subj", "/CN=renewed", "-key"])
        .arg(certificates.file("server.key"))
        .arg("-out")
        .arg(server)
        .output()
        .unwrap();
    assert!(renewed.status.success(), "{renewed:?}");
    proxy.signal(Signal::SIGHUP);
    eventually(LIMIT, "clients see the new certificate", async || {
        old().await.is_err_and(|told| told.contains("certificate verify failed")).then_some(())
    })
    .await;
}

/// What a connection is told that begins with these bytes and a startup packet.
async fn told(port: u16, header: &[u8]) -> String {
    let mut raw = Raw::dial(port).await;
    let packet = startup(&[("user", "app"), ("database", "app")]);
    raw.send(&[header, &packet].concat()).await;
    match raw.sign_in("app").await {
        Ok(()) => "in".to_owned(),
        Err(error) => error.shown(),
    }
}

/// Waits until it accepts connections, for proxies that the harness itself cannot sign in on.
async fn listens(proxy: &Proxy) {
    let dial = async || tokio::net::TcpStream::connect(("127.0.0.1", proxy.port())).await.ok().map(drop);
    eventually(LIMIT, "the proxy listens", dial).await;
}

#[tokio::test]
async fn a_balancer_names_its_clients_and_nobody_else_does() {
    let cluster = Cluster::with_replicas(0).await;
    let allowed =
        rules(r#"hba = [{ database = "all", user = "all", address = "10.1.2.0/24", method = "md5" }]"#);
    let proxy = cluster.proxy().set("proxy_protocol", "127.0.0.1").set("hba", allowed.clone()).start();
    listens(&proxy).await;
    let header = |address: &str| format!("PROXY TCP4 {address} 127.0.0.1 1 2\r\n").into_bytes();
    eventually(LIMIT, "a client from the right network is let in", async || {
        (told(proxy.port(), &header("10.1.2.3")).await == "in").then_some(())
    })
    .await;
    let other = told(proxy.port(), &header("10.1.3.3")).await;
    assert!(other.starts_with("E 28000 no pg_hba.conf entry for host \"10.1.3.3\""), "{other}");
    eventually(LIMIT, "the log names who was refused, and not the balancer", async || {
        let refused = |line: &str| line.contains("not let in") && line.contains("peer=\"10.1.3.3:1\"");
        proxy.log().lines().any(refused).then_some(())
    })
    .await;
    let without = told(proxy.port(), b"").await;
    assert!(without.starts_with("E 08P01 malformed PROXY header"), "{without}");
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    second.extend([10, 1, 2, 9, 127, 0, 0, 1, 0, 1, 0, 2]);
    assert_eq!(told(proxy.port(), &second).await, "in");

    // Whoever looks sees whose connections they are, and not the balancer's address.
    let mut console = Raw::dial(proxy.port()).await;
    let packet = startup(&[("user", "postgres"), ("database", "primacy")]);
    console.send(&[header("10.1.2.7"), packet].concat()).await;
    console.sign_in("postgres").await.unwrap();
    let clients = console.query("SHOW CLIENTS").await.join("\n");
    assert!(clients.contains("10.1.2.7") && !clients.contains("10.1.2.3"), "{clients}");

    // Who is not trusted is not listened to: a header is no startup packet.
    let strict = cluster.proxy().set("proxy_protocol", "10.9.9.9").set("hba", allowed).start();
    listens(&strict).await;
    let claimed = told(strict.port(), &header("10.1.2.3")).await;
    assert!(claimed.starts_with("E 08P01"), "{claimed}");
}

#[tokio::test]
async fn roles_databases_and_addresses_have_limits_of_their_own() {
    let cluster = Cluster::with_replicas(0).await;
    for (key, what) in [
        ("limits.max_clients_per_user", "role"),
        ("limits.max_clients_per_database", "database"),
        ("limits.max_clients_per_address", "address"),
    ] {
        let proxy = cluster.proxy().set(key, 2).run().await;
        // The harness's own client may still be on its way out.
        let [first, second] = eventually(LIMIT, "two are let in", async || {
            let one = proxy.connect(&proxy.url("app", "app")).await.ok()?;
            Some([one, proxy.connect(&proxy.url("app", "app")).await.ok()?])
        })
        .await;
        let third = told(proxy.port(), b"").await;
        assert_eq!(third, format!("E 53300 too many connections for this {what}"), "{key}");
        if what == "role" {
            assert!(proxy.connect(&proxy.url("postgres", "app")).await.is_ok(), "another role has its own");
        }
        drop(second);
        eventually(LIMIT, "a place comes back", async || {
            (told(proxy.port(), b"").await == "in").then_some(())
        })
        .await;
        drop(first);
    }
}

#[tokio::test]
async fn guessing_becomes_slow_and_the_right_password_does_not() {
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster.proxy().set("limits.auth_delay", "400ms").run().await;
    let attempt = async |password: &str| {
        let begun = std::time::Instant::now();
        let url = format!("postgres://app:{password}@127.0.0.1:{}/app", proxy.port());
        let result = proxy.connect(&url).await;
        (result.map(drop).map_err(|error| error.code().map(|code| code.code().to_owned())), begun.elapsed())
    };
    for _ in 0..6 {
        assert_eq!(attempt("wrong").await.0, Err(Some("28P01".to_owned())));
    }
    let (refused, slow) = attempt("wrong").await;
    assert_eq!(refused, Err(Some("28P01".to_owned())));
    assert!(slow.as_millis() >= 400, "{slow:?}");
    let (welcome, _) = attempt("app").await;
    assert_eq!(welcome, Ok(()));
}

#[tokio::test]
async fn every_command_leaves_a_line_with_who_and_from_where() {
    let cluster = Cluster::with_replicas(0).await;
    let proxy = cluster.proxy().set("admin.token", "right-token").run().await;
    let post = async |token: &'static str| {
        let address = format!("http://{}/api/v1/pause", proxy.admin());
        tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let request = agent.post(&address).header("authorization", &format!("Bearer {token}"));
            request.send_json(serde_json::json!({})).unwrap().status().as_u16()
        })
        .await
        .unwrap()
    };
    assert_eq!(post("right-token").await, 200);
    assert_eq!(post("wrong-token").await, 401);
    eventually(LIMIT, "both are in the log", async || {
        let log = proxy.log();
        let line = |word: &str| log.lines().any(|line| line.contains(word) && line.contains("127.0.0.1:"));
        (line("command=pause") && line("refused a request")).then_some(())
    })
    .await;
    assert!(!proxy.log().contains("right-token") && !proxy.log().contains("wrong-token"));
}
