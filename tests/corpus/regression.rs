//! The classifier against PostgreSQL's own regression statements, each labelled with what a real standby did.
//!
//! Every script is run in a database of a real server, so that the catalog facts are those of the moment, and every
//! statement is classified before it is run. A statement that needs the primary must not be sent to a replica; how
//! many reads get there is counted. The corpus is not part of the project: `PRIMACY_CORPUS` names its file (default:
//! `../shared/corpus/statements.jsonl.xz`). Skipped, with a notice, where it or the server's binaries are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use primacy::model::{Epoch, Lsn, NodeId, Timeline};
use primacy::session::batch::{End, frames};
use primacy::session::overlay::Overlay;
use primacy::session::{
    self, ClientError, Facts, Hold, Judge, Machine, Plan, ServerSession, Statements, Step,
};
use primacy::sql::{Catalog, Classifier, PinCause, Place, Reason, Settings, Shows, Verdict, catalog};
use primacy::wire::{Tag, TxStatus, encode};
use serde::Deserialize;
use tokio_postgres::Client;

use crate::numbers::{Numbers, is_question};
use crate::server::{Server, load, rows, values};

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

#[derive(Clone, Debug, Deserialize)]
struct Statement {
    file: String,
    sql: String,
    must_go_primary: Option<bool>,
    why: String,
    ctx: String,
    primary: String,
    /// PostgreSQL's word for what it is; none where it does not parse.
    pg_node: Option<String>,
}

/// How many reads of a kind there are, and what became of them.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    reads: u32,
    on_replica: u32,
    /// Of those that succeed.
    good: u32,
    good_on_replica: u32,
}

#[derive(Debug, Default)]
struct Score {
    all: Share,
    classes: BTreeMap<String, Share>,
    reads_pinned: BTreeMap<PinCause, u32>,
    /// Statements that need the primary.
    bound: u32,
    misplaced: Vec<String>,
    silent: Vec<String>,
    /// By reason: all, and those that succeed.
    kept: BTreeMap<&'static str, (u32, u32)>,
    /// What the parser did not know, by what it said.
    unparsed: BTreeMap<String, u32>,
    kept_examples: Vec<String>,
    /// Look-ups sent to a replica from sessions with temporary tables, and compared with one that has none.
    compared: u32,
    differing: Vec<String>,
}

impl Score {
    /// The share that got to a replica of those that the rules let go there at all. These keep on the primary: what tells
    /// of the node (a standby may answer with the same words here, and yet its answer would be about another server);
    /// what calls a function of which the database says that it is volatile; and what may say what a name means, in a
    /// session with temporary tables.
    fn percent(&self) -> u32 {
        let by_rule = [Reason::NodeLocal, Reason::NodeLocalSession, Reason::VolatileFunction];
        let kept: u32 = by_rule
            .iter()
            .map(|reason| reason.as_str())
            .chain([NAMES])
            .filter_map(|reason| self.kept.get(reason))
            .map(|&(_, good)| good)
            .sum();
        self.all.good_on_replica * 100 / (self.all.good - kept).max(1)
    }

    /// The share of all that a standby answered the same.
    fn percent_of_all(&self) -> u32 {
        self.all.good_on_replica * 100 / self.all.good.max(1)
    }
}

#[tokio::test]
async fn no_statement_that_needs_the_primary_goes_to_a_replica() {
    let Some(score) = run(|file| QUICK.contains(&file)).await else { return };
    print(&score);
    assert!(score.silent.is_empty(), "{:#?}", score.silent);
    assert!(score.differing.is_empty(), "{:#?}", score.differing);
    assert!(score.misplaced.is_empty(), "{:#?}", score.misplaced);
    assert!(score.percent() >= QUICK_PERCENT, "{} %", score.percent());
    assert!(score.percent_of_all() >= QUICK_ALL_PERCENT, "{} % of all", score.percent_of_all());
}

#[tokio::test]
#[ignore = "runs 18,000 statements: cargo test --test corpus -- --ignored report --nocapture"]
async fn report_on_the_whole_corpus() {
    let Some(score) = run(|_| true).await else { return };
    print(&score);
    assert!(score.silent.is_empty(), "{:#?}", score.silent);
    assert!(score.differing.is_empty(), "{:#?}", score.differing);
    assert!(score.misplaced.len() < 10, "{:#?}", score.misplaced);
    assert!(score.percent() >= WHOLE_PERCENT, "{} %", score.percent());
    // The goal, and red until it is reached: what is kept by rule counts, too.
    assert!(score.percent_of_all() >= WHOLE_PERCENT, "{} % of all", score.percent_of_all());
}

fn print(score: &Score) {
    println!("reads by class          all  on replicas    that succeed  on replicas   share");
    for (class, share) in score.classes.iter().chain([(&"all".to_owned(), &score.all)]) {
        let percent = f64::from(share.good_on_replica) * 100.0 / f64::from(share.good.max(1));
        println!(
            "{class:<20} {:>6} {:>12} {:>15} {:>12} {percent:>6.1} %",
            share.reads, share.on_replica, share.good, share.good_on_replica
        );
    }
    println!("reads kept on the primary, by reason: all, and those that succeed");
    for (reason, (all, good)) in &score.kept {
        println!("{reason:<20} {all:>6} {good:>12}");
    }
    println!("share on replicas: {} % of all", score.percent_of_all());
    println!(
        "{} % without those about the node, with volatile functions, or about names beside temporary tables",
        score.percent()
    );
    println!("of them in sessions tied to a connection: {:?}", score.reads_pinned);
    println!(
        "statements that need the primary: {}, sent to a replica and refused there {}, silently wrong {}",
        score.bound,
        score.misplaced.len(),
        score.silent.len()
    );
    println!(
        "look-ups in the catalog beside temporary tables, compared with a session without: {}, differing {}",
        score.compared,
        score.differing.len()
    );
    println!("what the parser does not know, by frequency:");
    let mut unparsed: Vec<_> = score.unparsed.iter().collect();
    unparsed.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (detail, count) in unparsed.iter().take(20) {
        println!("{count:>6}  {detail}");
    }
    for line in
        score.kept_examples.iter().chain(&score.misplaced).chain(&score.silent).chain(&score.differing)
    {
        println!("{line}");
    }
}

/// The share of reads that has to get to a replica, of those that succeed, in percent.
const QUICK_PERCENT: u32 = 90;
const WHOLE_PERCENT: u32 = 97;

/// The same of all that a standby answers, so that a rule that keeps more and more is seen.
const QUICK_ALL_PERCENT: u32 = 84;

/// In a session with temporary tables: it names one, or may look names up.
const NAMES: &str = "temporary-names";

async fn run(wanted: impl Fn(&str) -> bool) -> Option<Score> {
    let Some(statements) = corpus() else {
        println!("skipped: no corpus (PRIMACY_CORPUS), or neither xz nor python3 to unpack it");
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
        // What the suite's own first script does.
        server.connect(&database).await.batch_execute("GRANT ALL ON SCHEMA public TO public").await.unwrap();
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
    /// What the server did is not what the labels say, so that what it changed is not known.
    unsure: bool,
    machine: Machine,
    /// The connection to the primary that the machine believes to have.
    server: ServerSession,
    statements: Statements,
    numbers: Numbers,
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
            unsure: true,
            machine: Machine::new(1, Rc::new(settings()), Overlay::default()),
            server: ServerSession::new(NodeId(0)),
            statements: Statements::default(),
            numbers: Numbers::default(),
        }
    }

    async fn run(&mut self, statements: impl Iterator<Item = &Statement>, score: &mut Score) {
        self.client.batch_execute("SET statement_timeout = '5s'; SET jit = off").await.unwrap();
        let mut statements = statements.peekable();
        while let Some(statement) = statements.next() {
            let sql = self.numbers.translated(&statement.sql);
            let statement = &Statement { sql, ..statement.clone() };
            let verdict = self.classify(statement).await;
            let mut query = Vec::new();
            encode::query(&mut query, statement.sql.as_bytes());
            let plan = self.plan(&query);
            let replica = self.count(statement, &verdict, &plan, score);
            if replica
                && verdict.shows != Shows::Anything
                && self.machine.pins().contains(PinCause::TemporaryTable)
            {
                self.compare(statement, score).await;
            }
            self.maybe_stale |= verdict.place == Place::Primary;
            // The labels tell of a run in which the scripts' tables had been made by others.
            let done = statement.primary == "ok";
            if !starts_copy_in(&statement.sql) {
                let answer = self.client.simple_query(&statement.sql).await;
                let ran = answer.is_ok();
                if let (true, Ok(messages)) = (is_question(&statement.sql), answer) {
                    self.numbers.learn(
                        values(messages).into_iter().filter_map(|mut row| row.drain(..).next()).collect(),
                    );
                }
                assert!(ran || !self.client.is_closed(), "{}", statement.sql);
                self.unsure |= ran != done;
            }
            let status = match statements.peek().map(|next| next.ctx.as_str()) {
                None | Some("autocommit") => TxStatus::Idle,
                Some("aborted") => TxStatus::Failed,
                Some(_) => TxStatus::InTransaction,
            };
            self.follow((&query, &plan), done, status);
        }
    }

    /// A replica has no temporary tables of this session, and is like another session in that.
    async fn compare(&self, statement: &Statement, score: &mut Score) {
        let path = rows(&self.client, "SHOW search_path").await.concat().concat();
        self.loader
            .batch_execute(&format!("SELECT set_config('search_path', $path${path}$path$, false)"))
            .await
            .unwrap();
        let (here, there) =
            (self.client.simple_query(&statement.sql).await, self.loader.simple_query(&statement.sql).await);
        self.loader.batch_execute("RESET search_path").await.unwrap();
        score.compared += 1;
        if let (Ok(here), Ok(there)) = (here, there) {
            let (here, there) = (values(here), values(there));
            if here != there {
                score
                    .differing
                    .push(format!("{}: {}: {here:?} and {there:?}", statement.file, statement.sql));
            }
        } else {
            score.differing.push(format!("{}: {}: fails", statement.file, statement.sql));
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
            // A temporary one is no fact.
            let exists = self.client.simple_query(&format!("SELECT FROM {name} LIMIT 0")).await.is_ok();
            if exists || self.client.batch_execute(&format!("CREATE TABLE {name} ()")).await.is_err() {
                break;
            }
            self.unsure = true;
            self.refresh(statement).await;
            verdict = self.classifier.classify(statement.sql.as_bytes(), &self.catalog);
        }
        verdict
    }

    /// Loads the facts anew where they changed, as the loader would have done by the time of the next read. Up to there
    /// they are what the proxy itself makes of the statements that it sees.
    async fn refresh(&mut self, statement: &Statement) {
        // Inside of transactions the question is not asked: they run on the primary.
        let asked = self.unsure || (self.maybe_stale && statement.must_go_primary == Some(false));
        if !asked || statement.ctx != "autocommit" {
            return;
        }
        let change = rows(&self.loader, catalog::CHANGE_SQL).await;
        let Some(change) = change.first().map(|row| row.concat()) else { return };
        if change != self.change {
            self.catalog = load(&self.loader, self.catalog.id(), self.catalog.generation() + 1).await;
            self.change = change;
        }
        self.maybe_stale = false;
        self.unsure = false;
    }

    /// Counts a statement; whether it goes to a replica.
    fn count(&self, statement: &Statement, verdict: &Verdict, plan: &Plan, score: &mut Score) -> bool {
        let pins: Vec<PinCause> = self.machine.pins().iter().collect();
        let step = self.machine.step(plan, !pins.is_empty());
        let routed = matches!(&step, Step::Route(request) if request.place == Place::Anywhere);
        let replica = statement.ctx == "autocommit" && routed && verdict.place == Place::Anywhere;
        let line = || format!("{}: {} -- {}; {verdict:?}", statement.file, statement.sql, statement.why);
        match statement.must_go_primary {
            Some(true) if replica => {
                score.bound += 1;
                let list = if statement.why.starts_with("SILENT") {
                    &mut score.silent
                } else {
                    &mut score.misplaced
                };
                list.push(line());
            }
            Some(true) => score.bound += 1,
            Some(false) if statement.ctx == "autocommit" => {
                let good = statement.primary == "ok";
                let class = statement.pg_node.as_deref().unwrap_or("does not parse");
                for share in [&mut score.all, score.classes.entry(class.to_owned()).or_default()] {
                    share.reads += 1;
                    share.on_replica += u32::from(replica);
                    share.good += u32::from(good);
                    share.good_on_replica += u32::from(good && replica);
                }
                if replica {
                    return true;
                }
                let mut reason = verdict.reason.as_str();
                if let (Step::Route(request), Place::Anywhere) = (step, verdict.place) {
                    reason = request.verdict_reason.as_str();
                } else if !pins.is_empty() && verdict.place == Place::Anywhere {
                    let names = pins.contains(&PinCause::TemporaryTable);
                    reason = if names { NAMES } else { "pinned" };
                    for pin in pins {
                        *score.reads_pinned.entry(pin).or_default() += 1;
                    }
                }
                let kept = score.kept.entry(reason).or_default();
                *kept = (kept.0 + 1, kept.1 + u32::from(good));
                if good {
                    score.kept_examples.push(format!("{reason}: {}", line()));
                    if verdict.reason == Reason::Unparsed {
                        let detail = verdict.detail.as_deref().unwrap_or_default().to_owned();
                        *score.unparsed.entry(detail).or_default() += 1;
                    }
                }
            }
            _ => {}
        }
        replica
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
        let changes = self.machine.finish(status, &mut self.server);
        if !changes.is_empty() {
            self.catalog = self.catalog.after(&changes, self.catalog.generation() + 1);
            // The state may be one that was seen before, but these are not its facts.
            self.change.clear();
        }
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
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/statements.jsonl.xz");
    let path = std::env::var_os("PRIMACY_CORPUS").map_or(beside, PathBuf::from);
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
