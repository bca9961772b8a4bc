//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::load::{Shape, Workload};

/// Measures primacy against a direct connection, PgBouncer and HAProxy
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Arguments {
    /// The program under test
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_primacy"))]
    pub(crate) primacy: PathBuf,
    /// A second build to compare it with
    #[arg(long, value_name = "FILE")]
    pub(crate) other: Option<PathBuf>,
    /// PgBouncer, or a script that starts it
    #[arg(long, value_name = "FILE", default_value = "pgbouncer")]
    pub(crate) pgbouncer: PathBuf,
    /// HAProxy
    #[arg(long, value_name = "FILE", default_value = "haproxy")]
    pub(crate) haproxy: PathBuf,
    /// Contenders to leave out (direct, pgbouncer, haproxy, primacy)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) without: Vec<String>,
    /// Workloads to run [default: all of them]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<Workload>,
    /// Rounds; each runs every workload through every contender
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Length of one run with many clients
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Length of one run with a single client
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub(crate) seconds_alone: u64,
    /// Clients of a run with many
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) clients: u32,
    /// Idle clients at most, for memory and sign-ins; 0 leaves that part out
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) fleet: usize,
    /// MiB of each COPY through each contender, half of it as rows, a fifth as one parameter; 0 leaves that part out
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub(crate) large: usize,
    /// Clients of a crowd, a tenth of them active, on the server connections of one pool; 0 leaves that part out
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) crowd: usize,
    /// More primacies to run, each with settings that differ: `NAME:table.key=value,...`
    #[arg(long, value_name = "NAME:SETTINGS")]
    pub(crate) variant: Vec<String>,
    /// Three more primacies: with TLS towards clients, towards servers, and both
    #[arg(long)]
    pub(crate) tls: bool,
    /// Wait this long at most for other programs to leave the processors alone
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub(crate) quiet_wait: u64,
    /// Scale of pgbench's tables
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) scale: u32,
    /// Lines for the `[routing]`, `[limits]` ... tables of primacy's configuration, as `table.key=value`
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where results go
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results"))]
    pub(crate) out: PathBuf,
    /// Given by `cargo bench`; means nothing here
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Arguments {
    pub(crate) fn wants(&self, workload: Workload) -> bool {
        (self.only.is_empty() && workload != Workload::SignIn) || self.only.contains(&workload)
    }

    pub(crate) fn busy(&self) -> Shape {
        Shape { clients: self.clients, seconds: self.seconds }
    }

    pub(crate) fn alone(&self) -> Shape {
        Shape { clients: 1, seconds: self.seconds_alone }
    }

    pub(crate) fn quiet_wait(&self) -> Duration {
        Duration::from_secs(self.quiet_wait)
    }
}
