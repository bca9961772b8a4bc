//! A PostgreSQL server of its own for a test, and the catalog facts of a database in it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use primacy::sql::{Catalog, CatalogBuilder, catalog};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// The facts, as a loader takes them.
pub(crate) async fn load(client: &Client, id: u64, generation: u64) -> Catalog {
    let mut builder = CatalogBuilder::new(id, generation);
    for row in rows(client, catalog::LOAD_SQL).await {
        let row: [&str; 6] = row.iter().map(String::as_str).collect::<Vec<_>>().try_into().unwrap();
        builder.add(row).unwrap();
    }
    builder.finish()
}

/// The rows of a query, as text.
pub(crate) async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    values(client.simple_query(sql).await.unwrap())
}

/// The rows among the messages, as text.
pub(crate) fn values(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect());
        }
    }
    rows
}

/// A PostgreSQL server of its own, on a Unix socket in a temporary directory.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    bin: PathBuf,
    user: Option<&'static str>,
}

impl Server {
    pub(crate) fn start() -> Option<Self> {
        let bin = (14..=18)
            .rev()
            .map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")))
            .find(|p| p.is_dir())?;
        let dir = tempfile::tempdir().unwrap();
        // PostgreSQL refuses to run as root; Debian's package brings a user for it.
        let user = nix::unistd::geteuid().is_root().then_some("postgres");
        let server = Self { dir, bin, user };
        if let Some(user) = user {
            assert!(Command::new("chown").arg(user).arg(server.dir.path()).status().unwrap().success());
        }
        let data = server.data();
        server.tool(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
        );
        server.run();
        Some(server)
    }

    /// A hot standby of this server, which has everything that the server had when it was asked for.
    pub(crate) fn standby(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let standby = Self { dir, bin: self.bin.clone(), user: self.user };
        if let Some(user) = standby.user {
            assert!(Command::new("chown").arg(user).arg(standby.dir.path()).status().unwrap().success());
        }
        let (data, from) = (standby.data(), self.dir.path().display().to_string());
        self.tool(
            "pg_basebackup",
            &["-D", &data, "-h", &from, "-p", "5432", "-U", "postgres", "-R", "-c", "fast", "--no-sync"],
        );
        standby.run();
        standby
    }

    fn run(&self) {
        let options = format!(
            "-p 5432 -c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off -c max_prepared_transactions=5 -c wal_level=replica",
            self.dir.path().display()
        );
        let log = self.dir.path().join("log").display().to_string();
        self.tool("pg_ctl", &["-D", &self.data(), "-w", "-l", &log, "-o", &options, "start"]);
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        let program = self.bin.join(name);
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let status =
            command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").status();
        assert!(status.unwrap().success(), "{name} {arguments:?}");
    }

    pub(crate) async fn connect(&self, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.dir.path()).user("postgres").dbname(database);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tool("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}
