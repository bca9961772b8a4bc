//! `primacy chaos`: breaks a cluster of its own while clients use it, and says what they lost.
//!
//! The report goes to stdout, what happens meanwhile to stderr. Exit status 1 where a promise was broken.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;

use super::demo::DurabilityArg;
use super::failure::Failure;
use super::screen::Screen;
use crate::chaos::arena::{Arena, ArenaError, ArenaSpec};
use crate::chaos::faults::Fault;
use crate::chaos::load::Clients;
use crate::chaos::report::Report;
use crate::chaos::run::{self, Plan, RunError};
use crate::clock;

/// Arguments of `primacy chaos`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How long faults happen, in seconds.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60)]
    for_seconds: u64,
    /// Stop after so many faults.
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// What is done, drawn at random: kill, kill-replica, backend, stop, stop-replica, immediate, fast, partition, one-way,
    /// replay, proxy, proxy-too, double, chase, ahead, switchover; or `all`.
    #[arg(long, value_name = "FAULT,...", value_delimiter = ',', default_value = "kill,stop,partition", value_parser = faults)]
    faults: Vec<Choice>,
    /// Number of PostgreSQL servers.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = RangedU64ValueParser::<u16>::new().range(2..=9))]
    nodes: u16,
    /// What a commit waits for.
    #[arg(long, value_enum, value_name = "MODE", default_value = "quorum")]
    durability: DurabilityArg,
    /// Number of clients; a third inserts, a third works on lists, a third transfers.
    #[arg(long, value_name = "N", default_value_t = 9)]
    clients: u32,
    /// Draw the same faults again.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Directory of PostgreSQL's server programs [default: searched for].
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Keep the logs of proxy and servers in this directory.
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// Measure so many bare promotions beside, in two ways (`pg_promote()` as it waits by itself, and looked at each
    /// millisecond): a replica that somebody promotes the moment its primary is killed.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "count")]
    bare: usize,
    /// Do nothing but show what these reports (of `--json`) say together.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["count", "logs", "seed"])]
    sum: Vec<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One word of `--faults`.
#[derive(Clone, Copy, Debug)]
enum Choice {
    One(Fault),
    All,
}

fn faults(word: &str) -> Result<Choice, String> {
    if word == "all" { Ok(Choice::All) } else { word.parse().map(Choice::One) }
}

impl Args {
    fn plan(&self) -> Plan {
        let chosen = |choice: &Choice| match choice {
            Choice::One(fault) => vec![*fault],
            Choice::All => Fault::ALL.to_vec(),
        };
        let third = self.clients.div_ceil(3).max(1);
        Plan {
            duration: Duration::from_secs(self.for_seconds),
            blows_max: self.count.unwrap_or(usize::MAX),
            faults: self.faults.iter().flat_map(chosen).collect(),
            clients: Clients { ledger: third, lists: third, bank: third },
            bare: self.bare,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000)),
        }
    }

    fn spec(&self) -> Result<ArenaSpec, Failure> {
        let own = std::env::current_exe();
        let program =
            own.map_err(|why| Failure::System { what: "cannot find this program", why: why.to_string() })?;
        #[expect(clippy::disallowed_methods, reason = "where programs are is the environment's to say")]
        let path = std::env::var_os("PATH");
        let durability = self.durability.into();
        Ok(ArenaSpec { program, nodes: self.nodes, durability, pg_bin: self.pg_bin.clone(), path })
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let report = if args.sum.is_empty() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(run_here(args))?
    } else {
        summed(&args.sum)?
    };
    let screen = Screen::stdout();
    if args.json {
        let text = serde_json::to_string(&report);
        let text = text.map_err(|why| Failure::System { what: "cannot write JSON", why: why.to_string() })?;
        screen.line(&text)?;
    } else {
        screen.text(&report.text())?;
    }
    if report.held { Ok(()) } else { Err(Failure::Broken { what: report.broken_promises.join(", ") }) }
}

fn summed(files: &[PathBuf]) -> Result<Report, Failure> {
    let mut sum: Option<Report> = None;
    for file in files {
        let unusable = |why: String| Failure::System {
            what: "cannot use a report",
            why: format!("{}: {why}", file.display()),
        };
        let text = std::fs::read_to_string(file).map_err(|why| unusable(why.to_string()))?;
        let report: Report = serde_json::from_str(&text).map_err(|why| unusable(why.to_string()))?;
        match &mut sum {
            Some(sum) => sum.add(report),
            None => sum = Some(report),
        }
    }
    sum.ok_or_else(|| Failure::System { what: "cannot use a report", why: "there is none".to_owned() })
}

async fn run_here(args: &Args) -> Result<Report, Failure> {
    let begun = clock::now();
    let say = move |what: &str| {
        let seconds = clock::now().duration_since(begun).as_secs_f32();
        // Progress that nobody reads is no reason to stop.
        writeln!(std::io::stderr(), "{seconds:6.2} s  {what}").ok();
    };
    let plan = args.plan();
    say(&format!("building a cluster of {} servers (seed {})", args.nodes, plan.seed));
    let opening = Arena::open(args.spec()?);
    let ended = super::ended()?;
    tokio::pin!(ended);
    let mut arena = tokio::select! {
        opened = opening => opened.map_err(RunError::from)?,
        () = &mut ended => return Err(RunError::from(ArenaError::Ended).into()),
    };
    say("serving; clients begin");
    let report = run::run(&mut arena, &plan, &say, ended).await;
    if let Some(dir) = &args.logs
        && let Err(why) = arena.keep_logs(dir)
    {
        say(&format!("the logs could not be kept in {}: {why}", dir.display()));
    }
    say("stopping");
    let stopped = arena.stop().await;
    let report = report?;
    stopped.map_err(RunError::from)?;
    Ok(report)
}
