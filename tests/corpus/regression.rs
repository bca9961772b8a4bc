//! The classifier against PostgreSQL's own regression statements, each labelled with what a real standby did.
//!
//! Every script is run in a database of a real server, so that the catalog facts are those of the moment, and every
//! statement is classified before it is run. A statement that needs the primary must not be sent to a replica; how
//! many reads get there is counted. Skipped, with a notice, where the corpus or the server's binaries are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use primacy::model::{Epoch, Lsn, NodeId, Timeline};
use primacy::session::batch::{End, frames};
use primacy::session::overlay::Overlay;
use primacy::session::{
    self, ClientError, Facts, Hold, Judge, Machine, Plan, ServerSession, Statements, Step,
};
use primacy::sql::{Catalog, Classifier, PinCause, Place, Reason, Settings, Verdict, catalog};
use primacy::wire::{Tag, TxStatus, encode};
use serde::Deserialize;
use tokio_postgres::Client;

use crate::server::{Server, load, rows};

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
    reads_pinned: BTreeMap<PinCause, u32>,
    misplaced: Vec<String>,
    silent: Vec<String>,
    kept: BTreeMap<String, u32>,
    kept_examples: Vec<String>,
}

#[tokio::test]
async fn no_statement_that_needs_the_primary_goes_to_a_replica() {
    let Some(score) = run(|file| QUICK.contains(&file)).await else { return };
    print(&score);
    assert!(score.silent.is_empty(), "{:#?}", score.silent);
    assert!(score.misplaced.is_empty(), "{:#?}", score.misplaced);
    assert!(
        score.reads_on_replica * 100 >= score.reads * 78,
        "{} of {}",
        score.reads_on_replica,
        score.reads
    );
}

#[tokio::test]
#[ignore = "runs 18,000 statements: cargo test --test corpus -- --ignored"]
async fn the_whole_corpus() {
    let Some(score) = run(|_| true).await else { return };
    print(&score);
    assert!(score.silent.is_empty(), "{:#?}", score.silent);
    assert!(score.misplaced.is_empty(), "{:#?}", score.misplaced);
    // Two fifths of the reads stand behind a temporary table in the same session, which ties it to the primary.
    assert!(
        score.reads_on_replica * 100 >= score.reads * 52,
        "{} of {}",
        score.reads_on_replica,
        score.reads
    );
}

fn print(score: &Score) {
    println!(
        "reads {}: on a replica {}, kept for a pinned session {:?}, misplaced {}, silently {}",
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

async fn run(wanted: impl Fn(&str) -> bool) -> Option<Score> {
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
        let database = format!("c{number}");
        let (client, loader) = (server.connect(&database).await, server.connect(&database).await);
        let mine = statements.iter().filter(|s| s.file == *file);
        Session::new(client, loader, u64::try_from(number).unwrap()).run(mine, &mut score).await;
    }
    Some(score)
}

/// One script's session, as the proxy would see it.
struct Session {
    client: Client,
    loader: Client,
    classifier: Classifier,
    catalog: Catalog,
    change: String,
    maybe_stale: bool,
    machine: Machine,
    /// The connection to the primary that the machine believes to have.
    server: ServerSession,
    statements: Statements,
}

impl Session {
    fn new(client: Client, loader: Client, id: u64) -> Self {
        Self {
            client,
            loader,
            classifier: Classifier::new(&Settings::default()),
            catalog: Catalog::empty_for(id),
            change: String::new(),
            maybe_stale: true,
            machine: Machine::new(1, Rc::new(settings()), Overlay::default()),
            server: ServerSession::new(NodeId(0)),
            statements: Statements::default(),
        }
    }

    async fn run(&mut self, statements: impl Iterator<Item = &Statement>, score: &mut Score) {
        self.client.batch_execute("SET statement_timeout = '5s'; SET jit = off").await.unwrap();
        let mut statements = statements.peekable();
        while let Some(statement) = statements.next() {
            let verdict = self.classify(statement).await;
            let mut query = Vec::new();
            encode::query(&mut query, statement.sql.as_bytes());
            let plan = self.plan(&query);
            self.count(statement, &verdict, &plan, score);
            self.maybe_stale |= verdict.place == Place::Primary;
            if !starts_copy_in(&statement.sql) && self.client.simple_query(&statement.sql).await.is_err() {
                assert!(!self.client.is_closed(), "{}", statement.sql);
            }
            // The labels tell of a run in which the scripts' tables had been made by others.
            let done = statement.primary == "ok";
            let status = match statements.peek().map(|next| next.ctx.as_str()) {
                None | Some("autocommit") => TxStatus::Idle,
                Some("aborted") => TxStatus::Failed,
                Some(_) => TxStatus::InTransaction,
            };
            self.follow((&query, &plan), done, status);
        }
    }

    fn plan(&mut self, query: &[u8]) -> Plan {
        let (classifier, statements) = (&mut self.classifier, &mut self.statements);
        let mut judge = Judge { classifier, catalog: &self.catalog, statements };
        self.machine.plan(query, End::Query, &mut judge).unwrap()
    }

    /// The verdict. Tables that scripts outside of the corpus make are made when they are missed.
    async fn classify(&mut self, statement: &Statement) -> Rc<Verdict> {
        self.refresh(statement).await;
        let mut verdict = self.classifier.classify(statement.sql.as_bytes(), &self.catalog);
        while statement.primary == "ok"
            && verdict.reason == Reason::UnknownRelation
            && statement.ctx == "autocommit"
        {
            let name = verdict.detail.as_deref().unwrap_or_default();
            if self.client.batch_execute(&format!("CREATE TABLE {name} ()")).await.is_err() {
                break;
            }
            self.maybe_stale = true;
            self.refresh(statement).await;
            verdict = self.classifier.classify(statement.sql.as_bytes(), &self.catalog);
        }
        verdict
    }

    /// Loads the facts anew where they changed, as the loader would have done in the meantime.
    async fn refresh(&mut self, statement: &Statement) {
        // Inside of transactions the question is not asked: they run on the primary.
        if !self.maybe_stale || statement.ctx != "autocommit" {
            return;
        }
        let change = rows(&self.loader, catalog::CHANGE_SQL).await;
        let Some(change) = change.first().map(|row| row.concat()) else { return };
        if change != self.change {
            self.catalog = load(&self.loader, self.catalog.id(), self.catalog.generation() + 1).await;
            self.change = change;
        }
        self.maybe_stale = false;
    }

    fn count(&self, statement: &Statement, verdict: &Verdict, plan: &Plan, score: &mut Score) {
        let pins: Vec<PinCause> = self.machine.pins().iter().collect();
        let routed = matches!(self.machine.step(plan, !pins.is_empty()), Step::Route(_));
        let replica = statement.ctx == "autocommit" && routed && verdict.place == Place::Anywhere;
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
                } else if !pins.is_empty() && verdict.place == Place::Anywhere {
                    for pin in pins {
                        *score.reads_pinned.entry(pin).or_default() += 1;
                    }
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

    /// Lets the machine see what a server would have answered.
    fn follow(&mut self, batch: (&[u8], &Plan), done: bool, status: TxStatus) {
        let mut out = Vec::new();
        let held = !self.machine.may_release();
        if let Step::Local = self.machine.step(batch.1, held) {
            self.machine.answer(batch.0, batch.1, &NoFacts, &mut out);
            return;
        }
        self.machine.dispatch(batch, &mut self.server, Hold::None, &mut out);
        // What the machine sends ahead of the statement is answered too.
        let ahead = frames(&out).filter(|frame| frame.tag == Tag::QUERY).count().saturating_sub(1);
        let mut answer = Vec::new();
        (0..ahead).for_each(|_| encode::ready(&mut answer, TxStatus::InTransaction));
        if done {
            encode::command_complete(&mut answer, "DONE");
        } else {
            ClientError::Cancelled.encode(&mut answer);
        }
        encode::ready(&mut answer, status);
        out.clear();
        self.machine.relay(&answer, &mut self.server, &mut out).unwrap();
        self.machine.finish(status, &mut self.server);
    }
}

struct NoFacts;

impl Facts for NoFacts {
    fn show(&self, _: &str) -> Option<String> {
        None
    }

    fn timeline(&self) -> (Timeline, (Epoch, Lsn, u64)) {
        (Timeline(1), (Epoch(1), Lsn::ZERO, 0))
    }
}

fn settings() -> session::Settings {
    session::Settings {
        session_mode: false,
        prepared_max: 100,
        prepared_bytes_max: 1 << 20,
        server_prepared_max: 100,
        settings_bytes_max: 1 << 16,
        resolve_commits: false,
        replay: None,
    }
}

/// Data for COPY FROM STDIN is not part of the corpus.
fn starts_copy_in(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    sql.trim_start().starts_with("copy") && sql.contains("stdin")
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
