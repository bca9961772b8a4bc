//! Who stands before the servers: nobody, PgBouncer, HAProxy, primacy. Starts them and knows how to reach them.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use primacy::clock;
use tokio::process::{Child, Command};
use toml::{Table, Value};

use super::Outcome;
use super::arguments::Arguments;
use super::crowd::SERVERS;
use super::load::Workload;
use super::stage::{Stage, free_ports};

/// How long a contender may take to end.
const END_MAX: Duration = Duration::from_secs(5);

/// What a contender does with a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As it does by default.
    Usual,
    /// One server connection for each client: PgBouncer before 1.21 cannot follow prepared statements otherwise.
    Session,
}

/// Where to connect, and whose CPU time to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) pid: Option<u32>,
    /// pgbench speaks TLS with it.
    pub(crate) tls: bool,
}

/// One of those that are compared.
#[derive(Debug)]
pub(crate) struct Contender {
    name: &'static str,
    version: String,
    usual: Instance,
    session: Option<Instance>,
    /// It cannot serve prepared statements in its usual mode.
    prepares_in_session_mode_only: bool,
    /// Clients speak TLS with it.
    tls: bool,
}

#[derive(Debug)]
struct Instance {
    port: u16,
    process: Option<Child>,
}

impl Contender {
    /// Starts all that are installed and wanted.
    pub(crate) async fn start_all(arguments: &Arguments, stage: &Stage) -> Outcome<Vec<Self>> {
        let wanted = |name: &str| !arguments.without.iter().any(|without| without == name);
        let mut all = Vec::new();
        if wanted("direct") {
            let usual = Instance { port: stage.primary_port(), process: None };
            all.push(Self::new("direct", stage.version().to_owned(), usual));
        }
        if wanted("pgbouncer") {
            all.push(pgbouncer(&arguments.pgbouncer, stage).await?);
        }
        if wanted("haproxy") {
            all.push(haproxy(&arguments.haproxy, stage).await?);
        }
        if wanted("primacy") {
            all.push(primacy("primacy", &arguments.primacy, stage, &arguments.set).await?);
        }
        for variant in &arguments.variant {
            let (name, settings) = variant.split_once(':').ok_or("--variant wants NAME:SETTINGS")?;
            let own = settings.split(',').filter(|setting| !setting.is_empty()).map(str::to_owned);
            let set: Vec<String> = arguments.set.iter().cloned().chain(own).collect();
            // Contenders live as long as the program, and so may their names.
            let name: &'static str = Box::leak(format!("primacy-{name}").into_boxed_str());
            all.push(primacy(name, &arguments.primacy, stage, &set).await?);
        }
        for (name, clients, servers) in TLS.into_iter().filter(|_| arguments.tls) {
            let mut set = arguments.set.clone();
            if clients {
                set.extend(tls_towards_clients(stage));
            }
            set.extend(servers.then(|| "nodes.sslmode=require".to_owned()));
            let mut contender = primacy(name, &arguments.primacy, stage, &set).await?;
            contender.tls = clients;
            all.push(contender);
        }
        if let Some(other) = &arguments.other {
            all.push(primacy("other", other, stage, &arguments.set).await?);
        }
        Ok(all)
    }

    fn new(name: &'static str, version: String, usual: Instance) -> Self {
        Self { name, version, usual, session: None, prepares_in_session_mode_only: false, tls: false }
    }

    /// Whether the other parts, whose clients speak in the clear, can say anything about it.
    pub(crate) fn is_reached_in_the_clear(&self) -> bool {
        !self.tls
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Whether more clients can be connected than servers take.
    pub(crate) fn shares_server_connections(&self) -> bool {
        !matches!(self.name, "direct" | "haproxy")
    }

    /// Ends what was started, as an operator would, so that a program that writes something down at its end does so; one that
    /// takes too long is killed.
    pub(crate) async fn end(self) -> Outcome<()> {
        let instances = [Some(self.usual), self.session];
        for mut process in instances.into_iter().flatten().filter_map(|instance| instance.process) {
            let Some(pid) = process.id() else { continue };
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::SIGTERM)?;
            if tokio::time::timeout(END_MAX, process.wait()).await.is_err() {
                process.kill().await?;
            }
        }
        Ok(())
    }

    /// In which mode it serves this workload.
    pub(crate) fn mode(&self, workload: Workload) -> Mode {
        let session = self.prepares_in_session_mode_only && workload == Workload::Prepared;
        if session { Mode::Session } else { Mode::Usual }
    }

    pub(crate) fn port(&self, mode: Mode) -> Port {
        let instance = match (&self.session, mode) {
            (Some(session), Mode::Session) => session,
            _ => &self.usual,
        };
        Port { number: instance.port, pid: instance.process.as_ref().and_then(Child::id), tls: self.tls }
    }
}

/// The primacies of `--tls`: name, TLS towards clients, towards servers.
const TLS: [(&str, bool, bool); 3] = [
    ("primacy-tls-clients", true, false),
    ("primacy-tls-servers", false, true),
    ("primacy-tls-both", true, true),
];

fn tls_towards_clients(stage: &Stage) -> [String; 3] {
    // In TOML's own quotes: a path is no number and no bare word.
    let (crt, key) = stage.certificate();
    let file = |key: &str, path: &Path| format!("tls.{key}='{}'", path.display());
    [file("cert_file", &crt), file("key_file", &key), "tls.sslmode='prefer'".to_owned()]
}

async fn pgbouncer(program: &Path, stage: &Stage) -> Outcome<Contender> {
    let version = first_line(Command::new(program).arg("--version")).await?;
    let numbers: Vec<u32> =
        version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let follows = numbers.as_slice() >= [1, 21].as_slice();
    let usual = start_pgbouncer(program, stage, "transaction", follows).await?;
    let mut contender = Contender::new("pgbouncer", version, usual);
    if !follows {
        contender.session = Some(start_pgbouncer(program, stage, "session", follows).await?);
        contender.prepares_in_session_mode_only = true;
    }
    Ok(contender)
}

async fn start_pgbouncer(program: &Path, stage: &Stage, mode: &str, follows: bool) -> Outcome<Instance> {
    let port = one_port()?;
    let dir = stage.open_dir(&format!("pgbouncer-{mode}"))?;
    let verifiers = verifiers(stage).await?;
    let users: Vec<String> =
        verifiers.iter().map(|(name, verifier)| format!("\"{name}\" \"{verifier}\"\n")).collect();
    std::fs::write(dir.join("users.txt"), users.concat())?;
    let prepared = if follows { "max_prepared_statements = 200\n" } else { "" };
    let text = format!(
        "[databases]\napp = host=127.0.0.1 port={} dbname=app\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\npool_mode = {mode}\nauth_type = scram-sha-256\nauth_file = {}\nmax_client_conn = 12000\n\
         default_pool_size = {SERVERS}\nlisten_backlog = 1000\nlog_connections = 0\nlog_disconnections = 0\n\
         ignore_startup_parameters = extra_float_digits\nserver_tls_sslmode = disable\n{prepared}",
        stage.primary_port(),
        dir.join("users.txt").display(),
    );
    let file = dir.join("pgbouncer.ini");
    std::fs::write(&file, text)?;
    let mut command = Command::new(program);
    if nix::unistd::geteuid().is_root() {
        // It refuses to run as root, and changes to another account by itself.
        command.args(["--user", stage.account()]);
    }
    command.arg(file);
    start(command, &dir, port, stage).await
}

async fn haproxy(program: &Path, stage: &Stage) -> Outcome<Contender> {
    let version = first_line(Command::new(program).arg("-v")).await?;
    let port = one_port()?;
    let dir = stage.open_dir("haproxy")?;
    let file = dir.join("haproxy.cfg");
    let text = format!(
        "global\n    maxconn 2000\n    nbthread 1\ndefaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    \
         timeout server 1h\nlisten postgres\n    bind 127.0.0.1:{port}\n    server primary 127.0.0.1:{}\n",
        stage.primary_port(),
    );
    std::fs::write(&file, text)?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(file);
    Ok(Contender::new("haproxy", version, start(command, &dir, port, stage).await?))
}

async fn primacy(name: &'static str, program: &Path, stage: &Stage, set: &[String]) -> Outcome<Contender> {
    let version = first_line(Command::new(program).arg("--version")).await?;
    let port = one_port()?;
    let dir = stage.open_dir(name)?;
    let mut config = config(stage, port, one_port()?);
    for setting in set {
        let (key, value) = setting.split_once('=').ok_or("--set wants KEY=VALUE")?;
        let value = value.parse::<Value>().unwrap_or_else(|_| Value::from(value));
        set_key(&mut config, key, value)?;
    }
    let file = dir.join("primacy.toml");
    std::fs::write(&file, toml::to_string(&config)?)?;
    let mut command = Command::new(program);
    command.args(["serve", "--config"]).arg(file);
    Ok(Contender::new(name, version, start(command, &dir, port, stage).await?))
}

/// What the demo's configuration says, and room for many clients. Variants of primacy stand before the same servers and
/// know nothing of each other, so none may promote a replica where a loaded machine lets the primary answer late.
fn config(stage: &Stage, port: u16, admin: u16) -> Table {
    let mut table = toml::toml! {
        state_dir = "state"
        [service]
        user = "postgres"
        password = "postgres"
        [replication]
        user = "replicator"
        password = "replicator"
        [failover]
        durability = "async"
        automatic = false
        [limits]
        max_client_conn = 12000
    };
    let pool = Table::from_iter([("default_pool_size".to_owned(), Value::from(i64::from(SERVERS)))]);
    table.insert("pool".into(), pool.into());
    let node = |node: &primacy::postgres::Instance| {
        let mut table = toml::toml! {
            host = "127.0.0.1"
            sslmode = "disable"
        };
        table.insert("name".into(), node.name().into());
        table.insert("port".into(), i64::from(node.port()).into());
        Value::Table(table)
    };
    table.insert("nodes".into(), Value::Array(stage.servers().nodes().iter().map(node).collect()));
    table.insert("listen".into(), format!("127.0.0.1:{port}").into());
    let admin = Table::from_iter([("listen".to_owned(), Value::from(format!("127.0.0.1:{admin}")))]);
    table.insert("admin".into(), admin.into());
    table
}

/// Sets a key, given with its tables' names; in a list of tables, in each of them.
fn set_key(table: &mut Table, key: &str, value: Value) -> Outcome<()> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    match table.entry(first).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => set_key(inner, rest, value),
        Value::Array(all) => all
            .iter_mut()
            .try_for_each(|one| set_key(one.as_table_mut().ok_or("not a table")?, rest, value.clone())),
        _ => Err("not a table".into()),
    }
}

/// Starts a program that is to listen on a port, and waits until a query through it is answered.
async fn start(mut command: Command, dir: &Path, port: u16, stage: &Stage) -> Outcome<Instance> {
    let log = dir.join("log");
    let file = std::fs::File::create(&log)?;
    command.current_dir(dir).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
    let mut process = command.spawn()?;
    let began = clock::now();
    loop {
        let mut psql = stage.client_program("psql", port);
        let asked = psql.args(["-XAtqc", "SELECT count(*) FROM pgbench_branches"]).output().await?;
        if asked.status.success() {
            return Ok(Instance { port, process: Some(process) });
        }
        if process.try_wait()?.is_some() || clock::now().duration_since(began) > Duration::from_secs(20) {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let said = format!("{said}\n{}", String::from_utf8_lossy(&asked.stderr));
            return Err(format!("what was to listen on port {port} does not serve:\n{said}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The roles' verifiers, as PgBouncer wants them in a file.
async fn verifiers(stage: &Stage) -> Outcome<Vec<(String, String)>> {
    let mut psql = stage.client_program("psql", stage.primary_port());
    psql.env("PGUSER", "postgres").env("PGPASSWORD", "postgres");
    let sql = "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL";
    let output = psql.args(["-XAtqF", " ", "-c", sql]).output().await?;
    let text = String::from_utf8(output.stdout)?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(name, verifier)| (name.to_owned(), verifier.to_owned())).collect())
}

async fn first_line(command: &mut Command) -> Outcome<String> {
    let program = command.as_std().get_program().to_owned();
    let output = command.output().await.map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn one_port() -> Outcome<u16> {
    Ok(free_ports(1)?.into_iter().next().ok_or("no free port")?)
}
