//! pgbench: one run through one port, and what came of it.

use std::path::Path;
use std::process::Stdio;

use serde::Serialize;

use super::Outcome;
use super::contender::Port;
use super::process;
use super::stage::Stage;

/// What pgbench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// One SELECT by key, as text
    Simple,
    /// The same, parsed, bound and executed
    Extended,
    /// The same, prepared once
    Prepared,
    /// pgbench's own transaction: seven statements, five of which write or control
    TpcbLike,
    /// One SELECT by key, on a new connection each; only where it is asked for
    SignIn,
}

impl Workload {
    pub(crate) const ALL: [Self; 5] =
        [Self::Simple, Self::Extended, Self::Prepared, Self::TpcbLike, Self::SignIn];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
            Self::TpcbLike => "tpcb-like",
            Self::SignIn => "sign-in",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Simple => &["--select-only", "--protocol=simple"],
            Self::Extended => &["--select-only", "--protocol=extended"],
            Self::Prepared => &["--select-only", "--protocol=prepared"],
            Self::TpcbLike => &["--protocol=simple"],
            Self::SignIn => &["--select-only", "--protocol=simple", "--connect"],
        }
    }
}

/// How many clients, for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) clients: u32,
    pub(crate) seconds: u64,
}

/// What a run gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// Transactions in a second.
    pub(crate) tps: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The contender's own CPU time for a transaction; of nobody, where there is none.
    pub(crate) cpu_us: Option<f64>,
    pub(crate) transactions: u64,
}

/// Runs a workload through a port.
pub(crate) async fn run(stage: &Stage, port: Port, workload: Workload, shape: Shape) -> Outcome<Run> {
    let log = tempfile::tempdir_in(stage.dir())?;
    let threads = shape.clients.min(2).to_string();
    let mut command = stage.client_program("pgbench", port.number);
    if port.tls {
        command.env("PGSSLMODE", "require");
    }
    command.args(["--no-vacuum", "--log", "--sampling-rate=0.2", "--log-prefix"]).arg(log.path().join("log"));
    command.args(["--time", &shape.seconds.to_string(), "--client", &shape.clients.to_string()]);
    command.args(["--jobs", &threads]).args(workload.arguments());
    let before = port.pid.map(process::cpu).transpose()?;
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await?;
    let after = port.pid.map(process::cpu).transpose()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("pgbench failed on port {}: {errors}", port.number).into());
    }
    let transactions = number(&text, "number of transactions actually processed: ")?;
    let failed = number(&text, "number of failed transactions: ")?;
    if failed > 0.0 {
        return Err(format!("{failed} transactions failed on port {}", port.number).into());
    }
    let (p50_us, p99_us) = percentiles(log.path())?;
    let spent = before.zip(after).map(|(before, after)| after.saturating_sub(before));
    Ok(Run {
        tps: number(&text, "tps = ")?,
        p50_us,
        p99_us,
        cpu_us: spent.map(|spent| spent.as_secs_f64() * 1e6 / transactions.max(1.0)),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count that was printed"
        )]
        transactions: transactions as u64,
    })
}

/// The number that follows a label in pgbench's report.
fn number(report: &str, label: &str) -> Outcome<f64> {
    let rest = report.lines().find_map(|line| line.strip_prefix(label));
    let rest = rest.ok_or_else(|| format!("pgbench did not say \"{label}\""))?;
    let word: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    Ok(word.parse()?)
}

/// Median and 99th percentile of the latencies in pgbench's logs, in microseconds.
fn percentiles(dir: &Path) -> Outcome<(f64, f64)> {
    let mut latencies: Vec<f64> = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let text = std::fs::read_to_string(file?.path())?;
        latencies.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok()));
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
    Ok((at(50), at(99)))
}
