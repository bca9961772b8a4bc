//! Agents beside the servers, as processes of their own: the proxy knows their addresses and nothing else of the servers'
//! machines.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use primacy::admin::json::StatusReport;
use serde_json::{Value, json};
use toml::Table;

use crate::harness::{Certificates, Cluster, LIMIT, PortLease, Proxy, eventually, installation};

/// One agent, ended with the cluster.
struct Agent {
    process: Child,
    port: PortLease,
    dir: PathBuf,
    config: Table,
}

impl Agent {
    /// Beside a server of the cluster; it has to be called with the token `secret`.
    async fn start(cluster: &Cluster, node: usize, change: impl FnOnce(&mut Table)) -> Self {
        let dir = cluster.dir().join(format!("agent{node}"));
        std::fs::create_dir(&dir).unwrap();
        let port = PortLease::take();
        let mut config = toml::toml! {
            state_dir = "state"
            token = "secret"
            [source]
            user = "postgres"
            password = "postgres"
        };
        let server = cluster.node(node);
        config.insert("node".into(), server.name().into());
        config.insert("data_dir".into(), server.data_dir().to_str().unwrap().into());
        config.insert("listen".into(), format!("127.0.0.1:{}", port.number()).into());
        config.insert("pg_bin".into(), installation().await.bin_dir.to_str().unwrap().into());
        change(&mut config);
        let mut agent = Self { process: spawn(&dir, &config), port, dir, config };
        agent.serves().await;
        agent
    }

    async fn serves(&mut self) {
        let port = self.port.number();
        let (process, log) = (&mut self.process, self.dir.join("log"));
        eventually(LIMIT, "the agent serves", async || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(process.try_wait().unwrap().is_none(), "the agent ended: {log}");
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Kills it and starts it with another configuration.
    async fn again(&mut self, change: impl FnOnce(&mut Table)) {
        self.kill();
        change(&mut self.config);
        self.process = spawn(&self.dir, &self.config);
        self.serves().await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A request; status and body. Plain HTTP only.
    async fn ask(&self, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}/v1/{path}", self.port.number());
        let token = format!("Bearer {token}");
        let asked = tokio::task::spawn_blocking(move || {
            let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
            let mut answer = match body {
                Some(body) => agent.post(&url).header("Authorization", &token).send_json(body).unwrap(),
                None => agent.get(&url).header("Authorization", &token).call().unwrap(),
            };
            let text = answer.body_mut().read_to_string().unwrap();
            (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
        });
        asked.await.unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.dir.display(), self.log());
        }
    }
}

fn spawn(dir: &PathBuf, config: &Table) -> Child {
    let file = dir.join("agent.toml");
    std::fs::write(&file, toml::to_string(config).unwrap()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.args(["agent", "--config", "agent.toml"]).current_dir(dir).stdin(Stdio::null());
    let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    // The cluster's watchdog ends what such files name.
    std::fs::write(dir.join("agent.pid"), format!("{}\n", process.id())).unwrap();
    process
}

async fn status(proxy: &Proxy) -> Option<StatusReport> {
    let url = format!("http://{}/api/v1/status", proxy.admin());
    let asked = tokio::task::spawn_blocking(move || ureq::get(&url).call().ok()?.body_mut().read_json().ok());
    asked.await.unwrap()
}

/// Waits until another node than `old` leads and everybody else follows it and serves reads; which.
async fn whole_without(proxy: &Proxy, old: usize) -> usize {
    eventually(LIMIT * 2, "another node leads and all follow", async || {
        let cluster = status(proxy).await?.cluster;
        let fresh = |ago: Option<u64>| ago.is_some_and(|ago| ago < 1000);
        let all = cluster.nodes.iter().all(|node| node.readable && fresh(node.answered_ms_ago));
        let primary = cluster.nodes.iter().position(|node| Some(&node.name) == cluster.primary.as_ref())?;
        (all && cluster.state == "steady" && primary != old).then_some(primary)
    })
    .await
}

/// `kill -9` of a postmaster, without a word to anybody.
async fn crash(cluster: &Cluster, node: usize) {
    let server = cluster.node(node);
    kill(server.running().unwrap(), Signal::SIGKILL).unwrap();
    eventually(LIMIT, "it is dead", async || server.running().is_none().then_some(())).await;
}

/// A command of the program against the proxy; whether it succeeded, and what it said.
async fn command(proxy: &Proxy, arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.args(arguments).args(["--admin", &proxy.admin()]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT * 4, command.output()).await.expect("an answer").unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

async fn written(proxy: &Proxy, n: i32) {
    eventually(LIMIT, "a write is acknowledged", async || {
        let client = proxy.client().await;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&n];
        let write = client.execute("INSERT INTO kept VALUES ($1)", &parameters);
        tokio::time::timeout(Duration::from_secs(20), write).await.ok()?.ok()
    })
    .await;
}

#[tokio::test]
async fn agents_bring_a_killed_primary_back_and_take_part_in_a_switchover() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::with_replicas(2).await;
    let tls = |config: &mut Table| {
        let mut tls = Table::new();
        tls.insert("cert_file".into(), certificates.path("server.crt").into());
        tls.insert("key_file".into(), certificates.path("server.key").into());
        config.insert("tls".into(), tls.into());
    };
    // By token on this machine, by token over TLS, and by certificate.
    let plain = Agent::start(&cluster, 0, |_| {}).await;
    let token = Agent::start(&cluster, 1, tls).await;
    let mutual = Agent::start(&cluster, 2, |config| {
        tls(config);
        config.remove("token");
        let tls = config["tls"].as_table_mut().unwrap();
        tls.insert("ca_file".into(), certificates.path("ca.crt").into());
    })
    .await;
    let secure = |agent: &Agent| format!("https://localhost:{}", agent.port.number());
    let proxy = cluster
        .proxy()
        .set("failover.restart_by_sql", false)
        .set("failover.arm_standby_signal", false)
        .set_node(0, "agent", &format!("http://127.0.0.1:{}", plain.port.number()))
        .set_node(0, "agent_token", "secret")
        .set_node(1, "agent", &secure(&token))
        .set_node(1, "agent_token", "secret")
        .set_node(1, "agent_ca_file", &certificates.path("ca.crt"))
        .set_node(2, "agent", &secure(&mutual))
        .set_node(2, "agent_ca_file", &certificates.path("ca.crt"))
        .set_node(2, "agent_cert_file", &certificates.path("server.crt"))
        .set_node(2, "agent_key_file", &certificates.path("server.key"))
        .run()
        .await;
    proxy.client().await.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    written(&proxy, 1).await;

    crash(&cluster, 0).await;
    written(&proxy, 2).await;
    let second = whole_without(&proxy, 0).await;
    assert!(plain.log().contains("it follows"), "the agent of the dead one brought it back");
    // Its own configuration survived the rewind, which brings the other server's.
    assert_eq!(cluster.value(0, "SELECT current_setting('cluster_name')").await, "node0");

    let (done, said) = command(&proxy, &["switchover", "--to", "node0"]).await;
    assert!(done, "{said}");
    written(&proxy, 3).await;
    let third = whole_without(&proxy, second).await;
    assert_eq!(third, 0);
    let former = if second == 1 { &token } else { &mutual };
    assert!(former.log().contains("it follows"), "the agent of the former primary restarted it");
    let rows = cluster.value(second, "SELECT count(DISTINCT n) FROM kept").await;
    assert_eq!(rows, "3");
}

#[tokio::test]
async fn a_rewind_that_is_broken_off_is_never_started_and_a_copy_needs_permission() {
    let cluster = Cluster::with_replicas(2).await;
    // pg_rewind looks as ever, and when it is to write it never ends.
    let bin = cluster.dir().join("bin");
    let begun = cluster.dir().join("bin/begun");
    std::fs::create_dir(&bin).unwrap();
    let real = &installation().await.bin_dir;
    for program in ["postgres", "initdb", "pg_basebackup", "pg_controldata"] {
        std::os::unix::fs::symlink(real.join(program), bin.join(program)).unwrap();
    }
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--dry-run*) exec '{0}/pg_rewind' \"$@\" ;; esac\n: >'{1}'\nexec sleep 600\n",
        real.display(),
        begun.display()
    );
    std::fs::write(bin.join("pg_rewind"), script).unwrap();
    std::fs::set_permissions(bin.join("pg_rewind"), std::fs::Permissions::from_mode(0o755)).unwrap();
    installation().await.account.own(&bin).unwrap();

    let mut agent = Agent::start(&cluster, 0, |config| {
        drop(config.insert("pg_bin".into(), bin.to_str().unwrap().into()));
    })
    .await;
    let proxy = cluster
        .proxy()
        .set("failover.restart_by_sql", false)
        .set_node(0, "agent", &format!("http://127.0.0.1:{}", agent.port.number()))
        .set_node(0, "agent_token", "secret")
        .run()
        .await;
    proxy.client().await.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    crash(&cluster, 0).await;
    written(&proxy, 1).await;
    eventually(LIMIT, "the rewind writes", async || begun.exists().then_some(())).await;
    assert_eq!(agent.ask("stop", "secret", Some(json!({}))).await.0, 409, "one deed at a time");
    let state = agent.ask("status", "secret", None).await.1;
    assert_eq!((&state["server"], &state["doing"]), (&json!("half-rewound"), &json!("rejoin")), "{state}");

    // Killed in the middle; the next one ends what the first began, and knows what it has before it.
    agent.again(|config| drop(config.insert("pg_bin".into(), real.to_str().unwrap().into()))).await;
    let left = format!("{} --target-pgdata", bin.join("pg_rewind").display());
    eventually(LIMIT, "nothing of the rewind runs any more", async || {
        let commands = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&line).replace('\0', " "))
        });
        (!commands.into_iter().any(|line| line.contains(&left))).then_some(())
    })
    .await;
    let (code, refused) = agent.ask("start", "secret", Some(json!({"only_crashed": false}))).await;
    assert_eq!((code, &refused["error"]), (403, &json!("forbidden")), "{refused}");
    let (done, said) = command(&proxy, &["rejoin", "node0"]).await;
    assert!(!done && said.contains("reclone = true"), "{said}");
    assert!(cluster.node(0).running().is_none() && agent.log().contains("broken off"));

    agent.again(|config| drop(config.insert("reclone".into(), true.into()))).await;
    let (done, said) = command(&proxy, &["rejoin", "node0"]).await;
    assert!(done, "{said}");
    whole_without(&proxy, 0).await;
    assert_eq!(cluster.value(0, "SELECT count(*) FROM kept").await, "1");
    assert_eq!(agent.ask("status", "secret", None).await.1["server"], "running");
}

#[tokio::test]
async fn a_diverged_node_is_rewound_by_its_agent_and_strangers_are_refused() {
    let cluster = Cluster::with_replicas(2).await;
    let mut agent = Agent::start(&cluster, 0, |_| {}).await;
    for (token, path, body, code) in [
        ("wrong", "status", None, 401),
        ("", "stop", Some(json!({})), 401),
        ("secret", "rejoin", Some(json!({"conninfo": "port=1", "rewind": true, "stop": "fast"})), 400),
        ("secret", "rejoin", Some(json!({"conninfo": "host=a", "rewind": true})), 422),
        ("secret", "nothing", None, 400),
        ("secret", "start", Some(json!({"data_dir": "/elsewhere"})), 422),
    ] {
        assert_eq!(agent.ask(path, token, body.clone()).await.0, code, "{path} {body:?}");
    }
    assert!(cluster.node(0).running().is_some());
    let proxy = cluster
        .proxy()
        .set("failover.restart_by_sql", false)
        .set_node(0, "agent", &format!("http://127.0.0.1:{}", agent.port.number()))
        .set_node(0, "agent_token", "secret")
        .run()
        .await;
    proxy.client().await.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    // Nobody can bring it back; so it is started by hand, and writes what nobody else has.
    agent.kill();
    crash(&cluster, 0).await;
    written(&proxy, 1).await;
    cluster.start(0).await;
    let lonely =
        "SET default_transaction_read_only = off; SET synchronous_commit = local; CREATE TABLE lost ()";
    cluster.sql(0, lonely).await;
    agent.again(|_| {}).await;
    whole_without(&proxy, 0).await;
    assert_eq!(
        cluster.value(0, "SELECT to_regclass('lost') IS NULL AND to_regclass('kept') IS NOT NULL").await,
        "t"
    );
    assert!(agent.log().contains("with another history than before"));
}

/// One that died while it was being promoted may have gone on by itself: what pg_rewind cannot see.
#[tokio::test]
async fn a_server_whose_files_do_not_rule_out_a_promotion_is_not_rewound() {
    let cluster = Cluster::with_replicas(1).await;
    let agent = Agent::start(&cluster, 1, |_| {}).await;
    cluster.kill(1).await;
    let follow =
        format!("host=127.0.0.1 port={} user=replicator password=replicator", cluster.node(0).port());
    let mut ask = json!({"conninfo": follow, "rewind": true, "twin": 1, "stop": "fast"});
    let (code, refused) = agent.ask("rejoin", "secret", Some(ask.clone())).await;
    assert_eq!((code, &refused["error"]), (403, &json!("forbidden")), "{refused}");
    let said = refused["message"].as_str().unwrap();
    assert!(said.contains("another history") && said.contains("reclone = true"), "{said}");
    assert!(cluster.node(1).running().is_none());
    // It has WAL of timeline 1, and nothing of timeline 2.
    ask["twin"] = 2.into();
    let (code, said) = agent.ask("rejoin", "secret", Some(ask)).await;
    assert_eq!(code, 200, "{said}");
    cluster.caught_up(1, 0).await;
}

#[tokio::test]
async fn a_primary_without_a_lease_is_stopped_and_comes_back_with_one() {
    let cluster = Cluster::builder(0).asynchronous().run().await;
    let agent =
        Agent::start(&cluster, 0, |config| drop(config.insert("fence_after".into(), "3s".into()))).await;
    let mut proxy = cluster
        .proxy()
        .set_node(0, "agent", &format!("http://127.0.0.1:{}", agent.port.number()))
        .set_node(0, "agent_token", "secret")
        .run()
        .await;
    eventually(LIMIT, "it is leased", async || {
        let state = agent.ask("status", "secret", None).await.1;
        assert_eq!(state["fenced"], false, "{state}");
        std::fs::read_to_string(agent.dir.join("state/journal.json"))
            .ok()?
            .contains("\"leased\": 1")
            .then_some(())
    })
    .await;
    proxy.kill();
    let server = cluster.node(0);
    eventually(LIMIT, "it is stopped", async || server.running().is_none().then_some(())).await;
    assert_eq!(agent.ask("status", "secret", None).await.1["fenced"], true);
    proxy.restart().await;
    assert_eq!(agent.ask("status", "secret", None).await.1["fenced"], false);
    proxy.client().await.batch_execute("CREATE TABLE kept ()").await.unwrap();
}
