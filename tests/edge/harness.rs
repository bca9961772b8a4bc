//! A PostgreSQL server of one's own, a proxy's door before it, and psql to knock at it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use primacy::control::Board;
use primacy::model::{
    Address, Epoch, Lsn, NodeId, NodeView, Role, Secret, Service, Snapshot, Timeline, Unreadable,
};
use primacy::proxy::Stream;
use primacy::proxy::auth::{AUTH_QUERY_DEFAULT, Verifiers};
use primacy::proxy::links::{Links, NodeLink};
use primacy::proxy::login::{Admitted, LoginContext, LoginError, Outcome, login};
use primacy::proxy::server::{self, ConnectError, Connected, Credential, SignIn};
use primacy::proxy::settings::{self, Auth, ClientTls, Limits, Node, PoolMode, PoolSettings, Settings};
use primacy::proxy::tls::{ClientTlsConfig, ServerTlsConfig};
use primacy::tls::ServerTls;
use primacy::wire::{TxStatus, encode};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpListener;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The newest PostgreSQL installed where Debian and others put it.
fn bin_dir() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<_> = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/postgres").exists().then(|| (version, path.join("bin")))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

/// A running server; stopped and deleted on drop.
pub(crate) struct Postgres {
    dir: tempfile::TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
    child: Child,
}

impl Postgres {
    /// Makes and starts a server; `hba` are the lines for TCP (the Unix socket trusts everybody), `conf` further
    /// settings. `None`, and a word about it, where PostgreSQL is not installed.
    pub(crate) async fn start(hba: &str, conf: &str) -> Option<Self> {
        let Some(bin) = bin_dir() else {
            eprintln!("skipped: no PostgreSQL in /usr/lib/postgresql");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if let Some(user) = server_user() {
            chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        let data = dir.path().join("data");
        let made = as_server(&bin.join("initdb"), dir.path())
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::write(data.join("pg_hba.conf"), format!("local all all trust\n{hba}\n")).unwrap();
        let port = free_port();
        let settings = format!(
            "port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{}'\nfsync=off\n{conf}\n",
            dir.path().display()
        );
        fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        let child = as_server(&bin.join("postgres"), dir.path())
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let postgres = Self { dir, bin, port, child };
        eventually(async || postgres.sql("select 1").await.is_ok()).await;
        Some(postgres)
    }

    /// A file beside the data directory, readable by the server.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs SQL as superuser over the Unix socket.
    pub(crate) async fn sql(&self, sql: &str) -> Result<String, String> {
        let socket = self.dir.path().to_str().unwrap();
        let output =
            self.psql(&format!("host={socket} port={} user=postgres dbname=postgres", self.port), sql).await;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// psql with that connection string.
    pub(crate) async fn psql(&self, conninfo: &str, sql: &str) -> Output {
        let run = tokio::process::Command::new(self.bin.join("psql"))
            .args(["-X", "-w", "-A", "-t", "-c", sql, conninfo])
            .env("PGSSLCERT", "/nonexistent")
            .env("HOME", self.dir.path())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(DEADLINE, run).await.expect("psql ends").unwrap()
    }

    pub(crate) fn node(&self, host: &str, tls: ServerTls) -> Node {
        Node {
            name: "node0".into(),
            address: Address::Tcp { host: host.into(), port: self.port },
            tls,
            zone: "".into(),
            weight: 1,
            priority: 0,
        }
    }

    /// Signs in over TCP without TLS.
    pub(crate) async fn connect(
        &self,
        user: &str,
        database: &str,
        credential: &Credential,
    ) -> Result<Connected, ConnectError> {
        let who = SignIn { user, database, startup: &[], credential };
        let node = self.node("127.0.0.1", ServerTls::default());
        server::connect(&node, &ServerTlsConfig::disabled(), &who, DEADLINE).await
    }

    /// Kills the server, once.
    pub(crate) fn stop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        assert_eq!(kill(pid, Signal::SIGQUIT), Ok(()));
        drop(self.child.wait());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// PostgreSQL refuses to run as root.
fn server_user() -> Option<User> {
    geteuid()
        .is_root()
        .then(|| User::from_name("postgres").unwrap().expect("a user postgres to run servers as"))
}

fn as_server(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    if let Some(user) = server_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until it is so.
pub(crate) async fn eventually(mut so: impl AsyncFnMut() -> bool) {
    let trying = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, trying).await.expect("not so within the deadline");
}

/// The proxy's door before a server, without the house: each client that is admitted is joined to a server connection
/// of its own.
pub(crate) struct Door {
    pub(crate) port: u16,
    pub(crate) context: Arc<LoginContext>,
    listener: TcpListener,
    node: Node,
}

impl Door {
    /// A door that looks verifiers up on the server, as its superuser.
    pub(crate) async fn before(postgres: &Postgres, client_tls: ClientTls, cache_for: Duration) -> Self {
        let node = postgres.node("127.0.0.1", ServerTls::default());
        let settings = Settings {
            listen: Vec::new(),
            unix_socket_dir: None,
            workers: 1,
            pool_mode: PoolMode::Session,
            resolve_commits: true,
            replay: None,
            nodes: vec![node.clone()],
            service: settings::Service {
                user: "service".into(),
                password: Secret::new("service"),
                database: "postgres".into(),
            },
            auth: Auth::Query {
                sql: AUTH_QUERY_DEFAULT.into(),
                cache_for,
                recheck_after: Duration::ZERO,
                users_file: None,
            },
            client_tls: client_tls.clone(),
            hba: Arc::new(primacy::proxy::hba::password_for_everybody()),
            balancers: Vec::new(),
            pool: PoolSettings::default(),
            limits: Limits { login_timeout: DEADLINE, login_message_max: 10_000, ..Limits::default() },
            slow_statement: Duration::ZERO,
            read_functions: Arc::default(),
        };
        postgres.sql("create role service superuser login password 'service'").await.unwrap();
        let board = board(&node);
        let links = Links::new(NodeLink::all(&settings.nodes).unwrap());
        let verifiers = Verifiers::new(&settings, links, board).unwrap();
        let tls = ClientTlsConfig::load(&client_tls).unwrap();
        let context = LoginContext::new(&settings, tls, Arc::new(verifiers));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { port: listener.local_addr().unwrap().port(), context: Arc::new(context), listener, node }
    }

    /// The next connection's login.
    pub(crate) async fn admit(&self) -> Result<Outcome, LoginError> {
        let (tcp, peer) = self.listener.accept().await.unwrap();
        login(Stream::tcp(tcp).unwrap(), Some(peer), &self.context).await
    }

    /// Lets one client in, joins it to the server until it goes; gives who it was, or why it was refused.
    pub(crate) async fn serve_one(&self) -> Result<Credential, String> {
        let Outcome::Admitted(admitted) = self.admit().await.map_err(|error| format!("{error:?}"))? else {
            return Err("gone".into());
        };
        let Admitted { mut stream, unsent: mut out, user, database, params, credential, .. } = *admitted;
        let who = SignIn { user: &user, database: &database, startup: &params, credential: &credential };
        match server::connect(&self.node, &ServerTlsConfig::disabled(), &who, DEADLINE).await {
            Ok(mut connected) => {
                encode::auth_ok(&mut out);
                for (name, value) in &connected.params {
                    encode::parameter_status(&mut out, name.as_bytes(), value.as_bytes());
                }
                encode::backend_key_data(&mut out, connected.pid, &connected.secret);
                encode::ready(&mut out, TxStatus::Idle);
                stream.write_all(&out).await.unwrap();
                // Who hangs up without a word has got what it came for.
                drop(copy_bidirectional(&mut stream, &mut connected.stream).await);
                Ok(credential)
            }
            Err(ConnectError::Refused { frame, sqlstate }) => {
                self.context.verifiers.distrust(&user);
                stream.write_all(&frame).await.unwrap();
                Err(sqlstate.to_string())
            }
            Err(error) => Err(format!("{error:?}")),
        }
    }

    /// psql through the door: what it prints, or its complaint; and what the door says.
    pub(crate) async fn psql(
        &self,
        postgres: &Postgres,
        conninfo: &str,
        sql: &str,
    ) -> (String, Result<Credential, String>) {
        let conninfo = format!("host=127.0.0.1 port={} connect_timeout=10 {conninfo}", self.port);
        let (output, served) = tokio::join!(postgres.psql(&conninfo, sql), self.serve_one());
        let text = if output.status.success() { output.stdout } else { output.stderr };
        (String::from_utf8(text).unwrap().trim().to_owned(), served)
    }
}

fn board(node: &Node) -> Arc<Board> {
    Board::new(Snapshot {
        version: 0,
        epoch: Epoch(0),
        timeline: Timeline(1),
        fork: Lsn::ZERO,
        system_id: None,
        primary: Some(NodeId(0)),
        service: Service::Open,
        nodes: vec![NodeView {
            id: NodeId(0),
            name: node.name.clone(),
            address: node.address.clone(),
            role: Role::Primary,
            unreadable: None::<Unreadable>,
            weight: 1,
            zone: "".into(),
            timeline: Timeline(1),
            received: Lsn::ZERO,
            replayed: Lsn::ZERO,
            lag_bytes: 0,
            lag: Duration::ZERO,
            server_version: 0,
        }],
    })
}
