//! The classifier against PostgreSQL's own regression statements, each labelled with what a real standby did.
//!
//! Every script is run in a database of a real server, so that the catalog facts are those of the moment, and every
//! statement is classified before it is run. A statement that needs the primary must not be sent to a replica; how
//! many reads get there is counted. Skipped, with a notice, where the corpus or the server's binaries are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use primacy::sql::{
    Catalog, CatalogBuilder, Classifier, PinCause, Place, SessionEffect, Settings, Verdict, catalog,
};
use serde::Deserialize;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Scripts that are quick to run and show all kinds of statements; the rest is for the long test.
const QUICK: &[&str] = &[
    "select",
    "txid",
    "advisory_lock",
    "async",
    "stats",
    "dbsize",
    "uuid",
    "temp",
    "lock",
    "prepare",
    "explain",
    "copy",
    "portals_p2",
    "select_into",
    "returning",
    "transactions",
    "guc",
    "boolean",
    "int4",
    "date",
    "timestamp",
    "regex",
    "jsonpath",
    "union",
    "case",
    "limit",
    "misc_sanity",
    "type_sanity",
    "opr_sanity",
    "typed_table",
    "namespace",
];

#[derive(Debug, Deserialize)]
struct Statement {
    file: String,
    sql: String,
    must_go_primary: Option<bool>,
    why: String,
    ctx: String,
    primary: String,
}

#[derive(Debug, Default)]
struct Score {
    reads: u32,
    reads_on_replica: u32,
    reads_pinned: u32,
    misplaced: Vec<String>,
    silent: Vec<String>,
    kept: BTreeMap<String, u32>,
    kept_examples: Vec<String>,
}

#[tokio::test]
async fn no_statement_that_needs_the_primary_goes_to_a_replica() {
    let Some((score, _)) = run(|file| QUICK.contains(&file)).await else { return };
    print(&score);
    assert!(score.silent.is_empty(), "{:#?}", score.silent);
    assert!(score.misplaced.len() <= 2, "{:#?}", score.misplaced);
    assert!(
        score.reads_on_replica * 100 >= score.reads * 60,
        "{} of {}",
        score.reads_on_replica,
        score.reads
    );
}

#[tokio::test]
#[ignore = "runs 18,000 statements: cargo test --test corpus -- --ignored"]
async fn the_whole_corpus() {
    let Some((score, _)) = run(|_| true).await else { return };
    print(&score);
    assert!(score.silent.is_empty(), "{:#?}", score.silent);
}

fn print(score: &Score) {
    println!(
        "reads {}: on a replica {}, kept for a pinned session {}, misplaced {}, silently {}",
        score.reads,
        score.reads_on_replica,
        score.reads_pinned,
        score.misplaced.len(),
        score.silent.len()
    );
    println!("kept on the primary: {:#?}", score.kept);
    for line in score.kept_examples.iter().chain(&score.misplaced).chain(&score.silent) {
        println!("{line}");
    }
}

async fn run(wanted: impl Fn(&str) -> bool) -> Option<(Score, ())> {
    let Some(statements) = corpus() else {
        println!("skipped: no corpus at ../shared/corpus, or neither xz nor python3 to unpack it");
        return None;
    };
    let Some(server) = Server::start() else {
        println!("skipped: no PostgreSQL server binaries");
        return None;
    };
    let files: BTreeSet<String> =
        statements.iter().map(|s| s.file.clone()).filter(|file| wanted(file)).collect();
    let admin = server.connect("postgres").await;
    let mut score = Score::default();
    for (number, file) in files.iter().enumerate() {
        admin.batch_execute(&format!("CREATE DATABASE c{number}")).await.unwrap();
        let client = server.connect(&format!("c{number}")).await;
        let mine = statements.iter().filter(|s| s.file == *file);
        Session::new(client, u64::try_from(number).unwrap()).run(mine, &mut score).await;
    }
    Some((score, ()))
}

/// One script's session, as the proxy would see it.
struct Session {
    client: Client,
    classifier: Classifier,
    catalog: Catalog,
    change: String,
    maybe_stale: bool,
    pins: BTreeSet<PinCause>,
}

impl Session {
    fn new(client: Client, id: u64) -> Self {
        Self {
            client,
            classifier: Classifier::new(&Settings::default()),
            catalog: Catalog::empty_for(id),
            change: String::new(),
            maybe_stale: true,
            pins: BTreeSet::new(),
        }
    }

    async fn run(&mut self, statements: impl Iterator<Item = &Statement>, score: &mut Score) {
        self.client.batch_execute("SET statement_timeout = '5s'; SET jit = off").await.unwrap();
        for statement in statements {
            self.refresh(statement).await;
            let verdict = self.classifier.classify(statement.sql.as_bytes(), &self.catalog);
            self.count(statement, &verdict, score);
            self.follow(&verdict);
            self.maybe_stale |= verdict.place == Place::Primary;
            if !starts_copy_in(&statement.sql) && self.client.simple_query(&statement.sql).await.is_err() {
                assert!(!self.client.is_closed(), "{}", statement.sql);
            }
        }
    }

    /// Loads the facts anew where they changed, as the loader would have done in the meantime.
    async fn refresh(&mut self, statement: &Statement) {
        // Inside of transactions the question is not asked: they run on the primary.
        if !self.maybe_stale || statement.ctx != "autocommit" {
            return;
        }
        let change = rows(&self.client, catalog::CHANGE_SQL).await;
        let Some(change) = change.first().map(|row| row.concat()) else { return };
        if change != self.change {
            let mut builder = CatalogBuilder::new(self.catalog.id(), self.catalog.generation() + 1);
            for row in rows(&self.client, catalog::LOAD_SQL).await {
                let row: [&str; 6] = row.iter().map(String::as_str).collect::<Vec<_>>().try_into().unwrap();
                builder.add(row).unwrap();
            }
            self.catalog = builder.finish();
            self.change = change;
        }
        self.maybe_stale = false;
    }

    fn count(&self, statement: &Statement, verdict: &Verdict, score: &mut Score) {
        let routed = statement.ctx == "autocommit" && self.pins.is_empty();
        let replica = routed && verdict.place == Place::Anywhere;
        let line = || format!("{}: {} -- {}; {verdict:?}", statement.file, statement.sql, statement.why);
        match statement.must_go_primary {
            Some(true) if replica => {
                let list = if statement.why.starts_with("SILENT") {
                    &mut score.silent
                } else {
                    &mut score.misplaced
                };
                list.push(line());
            }
            Some(false) if statement.ctx == "autocommit" => {
                score.reads += 1;
                if replica {
                    score.reads_on_replica += 1;
                } else if !self.pins.is_empty() {
                    score.reads_pinned += 1;
                } else {
                    *score.kept.entry(format!("{:?}", verdict.reason)).or_default() += 1;
                    if statement.primary == "ok" {
                        score.kept_examples.push(line());
                    }
                }
            }
            _ => {}
        }
    }

    fn follow(&mut self, verdict: &Verdict) {
        for effect in &verdict.effects {
            match effect {
                SessionEffect::Pin(cause) => drop(self.pins.insert(*cause)),
                SessionEffect::Unpin(cause) => drop(self.pins.remove(cause)),
                SessionEffect::DiscardAll => self.pins.clear(),
                _ => {}
            }
        }
    }
}

/// Data for COPY FROM STDIN is not part of the corpus.
fn starts_copy_in(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    sql.trim_start().starts_with("copy") && sql.contains("stdin")
}

async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let Ok(messages) = client.simple_query(sql).await else { return Vec::new() };
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect());
        }
    }
    rows
}

fn corpus() -> Option<Vec<Statement>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/statements.jsonl.xz");
    if !path.exists() {
        return None;
    }
    let unpack = "import lzma, sys; sys.stdout.buffer.write(lzma.open(sys.argv[1]).read())";
    let attempts = [("xz", vec!["-dc"]), ("python3", vec!["-c", unpack])];
    let text = attempts.iter().find_map(|(program, arguments)| {
        let output = Command::new(program).args(arguments).arg(&path).stderr(Stdio::null()).output().ok()?;
        output.status.success().then_some(output.stdout)
    })?;
    Some(
        text.split(|&b| b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect(),
    )
}

/// A PostgreSQL server of its own, on a Unix socket in a temporary directory.
struct Server {
    dir: tempfile::TempDir,
    bin: PathBuf,
    user: Option<&'static str>,
}

impl Server {
    fn start() -> Option<Self> {
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
        let options = format!(
            "-p 5432 -c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off -c max_prepared_transactions=5 -c wal_level=replica",
            server.dir.path().display()
        );
        let log = server.dir.path().join("log").display().to_string();
        server.tool("pg_ctl", &["-D", &data, "-w", "-l", &log, "-o", &options, "start"]);
        Some(server)
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

    async fn connect(&self, database: &str) -> Client {
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
