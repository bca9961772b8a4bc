//! Compares primacy with what else can stand before a PostgreSQL server, side by side on this machine.
//!
//! A cluster (one primary, two replicas) is built; then pgbench runs through every contender in turn, round by round
//! and in rotating order, so that what disturbs the machine disturbs all of them. What a contender costs is the CPU
//! time that its own process was charged, over the transactions that pgbench counted; everything else is given as a
//! ratio inside a round. `scripts/bench` installs what is missing and starts this; see `--help`.

#![allow(clippy::print_stderr, reason = "a program for the terminal, not a part of the library")]

mod arguments;
mod contender;
mod crowd;
mod fleet;
mod large;
mod load;
mod machine;
mod process;
mod report;
mod stage;

use std::error::Error;
use std::time::Duration;

use arguments::Arguments;
use clap::Parser as _;
use contender::Contender;
use load::Workload;
use report::{Report, Sample};
use stage::Stage;

/// What a part of the benchmark gives.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Outcome<()> {
    let stage = Stage::build(arguments).await?;
    let outcome = measure(arguments, &stage).await;
    stage.clear().await?;
    let report = outcome?;
    let written = report.write(&arguments.out)?;
    eprintln!("bench: results are in {}", written.display());
    Ok(())
}

async fn measure(arguments: &Arguments, stage: &Stage) -> Outcome<Report> {
    let contenders = Contender::start_all(arguments, stage).await?;
    let mut report = Report::new(arguments, stage, &contenders)?;
    for round in 0..arguments.rounds {
        for workload in Workload::ALL.into_iter().filter(|workload| arguments.wants(*workload)) {
            let quiet = machine::wait_for_quiet(arguments.quiet_wait()).await?;
            for turn in 0..contenders.len() {
                let contender = &contenders[(turn + round) % contenders.len()];
                let mode = contender.mode(workload);
                let busy = load::run(stage, contender.port(mode), workload, arguments.busy()).await?;
                let alone = load::run(stage, contender.port(mode), workload, arguments.alone()).await?;
                report.add(Sample { round, workload, contender: contender.name(), quiet, busy, alone }, mode);
            }
            report.progress(round, workload);
        }
    }
    let in_the_clear = || contenders.iter().filter(|contender| contender.is_reached_in_the_clear());
    if arguments.fleet > 0 {
        for contender in in_the_clear() {
            let fleet = fleet::measure(contender, arguments.fleet).await?;
            report.add_fleet(contender.name(), fleet);
        }
    }
    for contender in in_the_clear().filter(|_| arguments.crowd > 0) {
        let lasts = Duration::from_secs(arguments.seconds.max(5));
        if let Some(crowd) = crowd::measure(contender, arguments.crowd, lasts).await? {
            report.add_crowd(contender.name(), crowd);
        }
    }
    for contender in in_the_clear().filter(|_| arguments.large > 0) {
        let size = large::Size { copy_mib: arguments.large };
        report.add_transfers(contender.name(), large::measure(contender, size).await?);
    }
    for contender in contenders {
        contender.end().await?;
    }
    Ok(report)
}
