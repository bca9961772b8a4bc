//! What was measured, as JSON and as a table to read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Outcome;
use super::arguments::Arguments;
use super::contender::{Contender, Mode};
use super::crowd::{Crowd, SERVERS};
use super::fleet::Fleet;
use super::large::Transfer;
use super::load::{Run, Workload};
use super::machine;
use super::stage::Stage;

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    date: String,
    machine: String,
    server: String,
    versions: BTreeMap<&'static str, String>,
    clients: u32,
    seconds: u64,
    scale: u32,
    settings: Vec<String>,
    /// Contenders that served a workload with one server connection for each client.
    in_session_mode: Vec<(&'static str, Workload)>,
    samples: Vec<Sample>,
    fleets: BTreeMap<&'static str, Vec<Fleet>>,
    crowds: BTreeMap<&'static str, Crowd>,
    transfers: BTreeMap<&'static str, Vec<Transfer>>,
}

/// One contender in one round.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) workload: Workload,
    pub(crate) contender: &'static str,
    /// How idle the processors were before the round.
    pub(crate) quiet: f64,
    pub(crate) busy: Run,
    pub(crate) alone: Run,
}

/// The middle of some numbers and how far they reach.
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let (low, high) = (*numbers.first()?, *numbers.last()?);
        let upper = *numbers.get(numbers.len() / 2)?;
        let lower = *numbers.get((numbers.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), low, high })
    }
}

impl Report {
    pub(crate) fn new(arguments: &Arguments, stage: &Stage, contenders: &[Contender]) -> Outcome<Self> {
        Ok(Self {
            date: today()?,
            machine: machine::describe(),
            server: stage.version().to_owned(),
            versions: contenders.iter().map(|c| (c.name(), c.version().to_owned())).collect(),
            clients: arguments.clients,
            seconds: arguments.seconds,
            scale: arguments.scale,
            settings: arguments.set.clone(),
            in_session_mode: Vec::new(),
            samples: Vec::new(),
            fleets: BTreeMap::new(),
            crowds: BTreeMap::new(),
            transfers: BTreeMap::new(),
        })
    }

    pub(crate) fn add(&mut self, sample: Sample, mode: Mode) {
        let served = (sample.contender, sample.workload);
        if mode == Mode::Session && !self.in_session_mode.contains(&served) {
            self.in_session_mode.push(served);
        }
        self.samples.push(sample);
    }

    pub(crate) fn add_fleet(&mut self, contender: &'static str, fleet: Vec<Fleet>) {
        self.fleets.insert(contender, fleet);
    }

    pub(crate) fn add_crowd(&mut self, contender: &'static str, crowd: Crowd) {
        self.crowds.insert(contender, crowd);
    }

    pub(crate) fn add_transfers(&mut self, contender: &'static str, transfers: Vec<Transfer>) {
        self.transfers.insert(contender, transfers);
    }

    /// One line about what a round has just given.
    pub(crate) fn progress(&self, round: usize, workload: Workload) {
        let now = self.samples.iter().filter(|s| s.round == round && s.workload == workload);
        let figures: Vec<String> = now
            .map(|sample| {
                let cpu = sample.busy.cpu_us.map_or_else(String::new, |us| format!(" {us:.1} us"));
                format!("{} {:.0} tps{cpu}", sample.contender, sample.busy.tps)
            })
            .collect();
        eprintln!("bench: round {}, {}: {}", round + 1, workload.name(), figures.join(", "));
    }

    /// Writes `DATE.json` and `DATE.md`, with a number behind the date where there are some already.
    pub(crate) fn write(&self, dir: &Path) -> Outcome<PathBuf> {
        std::fs::create_dir_all(dir)?;
        let free = |name: &String| !dir.join(format!("{name}.json")).exists();
        let names = std::iter::once(self.date.clone()).chain((2..).map(|n| format!("{}-{n}", self.date)));
        let name = names.into_iter().find(free).ok_or("no free name")?;
        let table = self.table();
        eprint!("{table}");
        std::fs::write(dir.join(format!("{name}.json")), serde_json::to_string_pretty(self)? + "\n")?;
        let readable = dir.join(format!("{name}.md"));
        std::fs::write(&readable, table)?;
        Ok(readable)
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        for sample in &self.samples {
            if !names.contains(&sample.contender) {
                names.push(sample.contender);
            }
        }
        names
    }

    fn table(&self) -> String {
        let mut text = format!(
            "# {}\n\n{}; {}; pgbench scale {}, {} clients, {} s a run.\n\n",
            self.date, self.machine, self.server, self.scale, self.clients, self.seconds
        );
        for (name, version) in &self.versions {
            line(&mut text, &format!("- {name}: {version}"));
        }
        if let Some(idle) = Spread::of(self.samples.iter().map(|sample| sample.quiet * 100.0).collect()) {
            let Spread { median, low, high } = idle;
            line(
                &mut text,
                &format!("- processors idle before the rounds: {median:.0} % ({low:.0} to {high:.0})"),
            );
        }
        for (name, workload) in &self.in_session_mode {
            line(&mut text, &format!("- {name} ran {} in session mode", workload.name()));
        }
        for setting in &self.settings {
            line(&mut text, &format!("- primacy with {setting}"));
        }
        self.cost(&mut text);
        self.ratios(&mut text, "Transactions a second, as a share of a direct connection", "direct", |s| {
            Some(s.busy.tps)
        });
        self.ratios(&mut text, "Latency p50, many clients, times a direct connection's", "direct", |s| {
            Some(s.busy.p50_us)
        });
        self.ratios(&mut text, "Latency p99, many clients, times a direct connection's", "direct", |s| {
            Some(s.busy.p99_us)
        });
        self.ratios(&mut text, "Latency p50, one client, times a direct connection's", "direct", |s| {
            Some(s.alone.p50_us)
        });
        self.ratios(&mut text, "Latency p99, one client, times a direct connection's", "direct", |s| {
            Some(s.alone.p99_us)
        });
        self.crew(&mut text);
        self.crowd(&mut text);
        self.large(&mut text);
        text
    }

    fn cost(&self, text: &mut String) {
        let cpu = |sample: &Sample| sample.busy.cpu_us;
        line(text, "\n## CPU microseconds of the proxy for a transaction: median (lowest to highest)\n");
        self.rows(text, |name, workload| {
            let spread = Spread::of(self.of(name, workload).filter_map(cpu).collect())?;
            Some(format!("{:.1} ({:.1} to {:.1})", spread.median, spread.low, spread.high))
        });
        self.ratios(text, "The same, times PgBouncer's in the same round", "pgbouncer", cpu);
        self.ratios(text, "Transactions a second, times PgBouncer's in the same round", "pgbouncer", |s| {
            Some(s.busy.tps)
        });
    }

    fn of<'s>(&'s self, name: &'s str, workload: Workload) -> impl Iterator<Item = &'s Sample> {
        self.samples.iter().filter(move |s| s.contender == name && s.workload == workload)
    }

    /// A table of ratios to one contender, formed inside each round.
    fn ratios(&self, text: &mut String, title: &str, base: &str, figure: impl Fn(&Sample) -> Option<f64>) {
        if !self.samples.iter().any(|sample| sample.contender == base) {
            return;
        }
        line(text, &format!("\n## {title}\n"));
        self.rows(text, |name, workload| {
            let ratio = |sample: &Sample| {
                let based = self.of(base, workload).find(|based| based.round == sample.round)?;
                Some(figure(sample)? / figure(based)?)
            };
            let spread = Spread::of(self.of(name, workload).filter_map(ratio).collect())?;
            Some(format!("{:.2} ({:.2} to {:.2})", spread.median, spread.low, spread.high))
        });
    }

    fn rows(&self, text: &mut String, cell: impl Fn(&str, Workload) -> Option<String>) {
        let workloads: Vec<Workload> =
            Workload::ALL.into_iter().filter(|w| self.samples.iter().any(|s| s.workload == *w)).collect();
        let heads: Vec<&str> = workloads.iter().map(|workload| workload.name()).collect();
        line(text, &format!("| | {} |", heads.join(" | ")));
        line(text, &format!("|---|{}", "---|".repeat(heads.len())));
        for name in self.names() {
            let cells: Vec<String> =
                workloads.iter().map(|w| cell(name, *w).unwrap_or_else(|| "-".to_owned())).collect();
            line(text, &format!("| {name} | {} |", cells.join(" | ")));
        }
    }

    fn crew(&self, text: &mut String) {
        if self.fleets.values().all(Vec::is_empty) {
            return;
        }
        line(
            text,
            "\n## Idle clients and sign-ins (SCRAM)\n\n| | clients | KiB for each | CPU us for a sign-in |",
        );
        line(text, "|---|---|---|---|");
        for (name, fleets) in &self.fleets {
            for fleet in fleets {
                let kib = fleet.bytes_per_client / 1024.0;
                line(text, &format!("| {name} | {} | {kib:.2} | {:.0} |", fleet.clients, fleet.sign_in_us));
            }
        }
    }
}

impl Report {
    fn crowd(&self, text: &mut String) {
        if self.crowds.is_empty() {
            return;
        }
        line(
            text,
            &format!("\n## Many clients on {SERVERS} server connections, each held for 1 ms and more\n"),
        );
        line(
            text,
            "| | connected | active | statements | errors | wait p50 ms | p99 ms | highest ms | p99 / p50 | turns of a client |",
        );
        line(text, "|---|---|---|---|---|---|---|---|---|---|");
        for (name, c) in &self.crowds {
            let ratio = c.p99_ms / c.p50_ms;
            line(
                text,
                &format!(
                    "| {name} | {} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {ratio:.2} | {} to {} |",
                    c.connected,
                    c.active,
                    c.statements,
                    c.errors,
                    c.p50_ms,
                    c.p99_ms,
                    c.highest_ms,
                    c.fewest,
                    c.most
                ),
            );
        }
    }

    fn large(&self, text: &mut String) {
        if self.transfers.is_empty() {
            return;
        }
        line(text, "\n## Large data\n");
        line(text, "| | what | MiB | MiB a second | of direct | memory grown by MiB | CPU us for a MiB |");
        line(text, "|---|---|---|---|---|---|---|");
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let direct = |what| self.transfers.get("direct")?.iter().find(|transfer| transfer.what == what);
        for (name, transfers) in &self.transfers {
            for t in transfers {
                let share = direct(t.what)
                    .map_or_else(|| "-".to_owned(), |base| format!("{:.2}", t.mib_per_s / base.mib_per_s));
                let (grown, cpu) = (figure(t.grown_mib), figure(t.cpu_us_per_mib));
                line(
                    text,
                    &format!(
                        "| {name} | {} | {} | {:.0} | {share} | {grown} | {cpu} |",
                        t.what, t.mib, t.mib_per_s
                    ),
                );
            }
        }
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    writeln!(text, "{line}").ok();
}

/// The date in UTC, as files are named by it.
fn today() -> Outcome<String> {
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
