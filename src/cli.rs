//! The command line: one file per command; data on stdout, everything else on stderr.
//!
//! Exit status: 0 done, 1 failed (one line on stderr says what and what to do), 2 wrong usage.

mod agent;
mod chaos;
mod check;
mod client;
mod completions;
pub mod demo;
mod events;
mod explain;
mod failover;
mod failure;
mod history;
mod import;
mod pause;
mod rejoin;
mod reload;
mod resume;
mod routes;
mod screen;
mod serve;
mod status;
mod switchover;
mod tls;
mod top;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// PostgreSQL middleware: writes go to the primary, reads to replicas and never stale, and when the primary dies the best
/// replica is promoted while clients stay connected.
#[derive(Debug, Parser)]
#[command(name = "primacy", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try it: build a primary and replicas from the PostgreSQL installed here, and run the proxy before them.
    Demo(demo::DemoArgs),
    /// Run the proxy.
    Serve(serve::Args),
    /// Check a configuration: is it valid, can every node be reached, what would not work?
    Check(check::Args),
    /// Show nodes, roles, positions, lag, and what primacy is doing.
    Status(status::Args),
    /// Hand the primary's role to a replica; nothing is lost, nothing fails.
    Switchover(switchover::Args),
    /// Replace the primary now, healthy or not.
    Failover(failover::Args),
    /// Switch automatic failover off.
    Pause(pause::Args),
    /// Switch automatic failover on.
    Resume(resume::Args),
    /// Bring a node back as a replica.
    Rejoin(rejoin::Args),
    /// Show every change of primary, with the time that each step took.
    History(history::Args),
    /// Say where a statement goes, and why.
    Explain(explain::Args),
    /// Show where statements go and why, and which reads stayed on the primary.
    Routes(routes::Args),
    /// Show the last events.
    Events(events::Args),
    /// Watch nodes, pools, routes, statements and events on one screen.
    Top(top::Args),
    /// Read the configuration again.
    Reload(reload::Args),
    /// Convert pgbouncer.ini or pgpool.conf, and say what has no counterpart.
    Import(import::Args),
    /// Run beside a PostgreSQL server: start, stop, rewind and re-clone it on primacy's word.
    Agent(agent::Args),
    /// Break a cluster of its own on purpose while clients use it, and say what they lost.
    Chaos(chaos::Args),
    /// Write a shell's completion script to standard output.
    Completions(completions::Args),
    /// Write the man page, or a command's, to standard output (read it with: primacy man | man -l -).
    Man(completions::ManArgs),
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let Cli { command } = Cli::parse();
    let done = match command {
        Command::Demo(args) => demo::run_here(args),
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Switchover(args) => switchover::run(&args),
        Command::Failover(args) => failover::run(&args),
        Command::Pause(args) => pause::run(&args),
        Command::Resume(args) => resume::run(&args),
        Command::Rejoin(args) => rejoin::run(&args),
        Command::History(args) => history::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Routes(args) => routes::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => completions::man(&args),
    };
    match done {
        // Whoever read our output and closed it has had enough of it.
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            screen::complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C or SIGTERM.
fn ended() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_contract_of_the_command_line_holds() {
        for line in [
            "primacy demo",
            "primacy demo --dir d --nodes 3 --listen 127.0.0.1:1 --admin 127.0.0.1:2 --base-port 3 --durability async --pg-bin b --for 9",
            "primacy serve --config f",
            "primacy serve --node postgres://a --node postgres://b",
            "primacy check --config f",
            "primacy status --json --watch",
            "primacy switchover --to n2 --dry-run",
            "primacy failover --to n2 --allow-data-loss",
            "primacy pause",
            "primacy resume",
            "primacy rejoin n1",
            "primacy history --json",
            "primacy explain --json select",
            "primacy reload --admin 127.0.0.1:7",
            "primacy import pgbouncer.ini",
            "primacy serve --config f --takeover",
            "primacy routes -n 5 --json --watch",
            "primacy events --json",
            "primacy top --admin 127.0.0.1:7",
            "primacy completions bash",
            "primacy man switchover",
            "primacy agent --config f",
            "primacy chaos --for 10 --faults kill,stop,partition --json",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "primacy",
            "primacy serve",
            "primacy serve --config f --node u",
            "primacy demo --nodes 0",
            "primacy demo --durability maybe",
            "primacy rejoin",
            "primacy explain",
            "primacy completions tcsh",
            "primacy agent",
            "primacy chaos --faults kil",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
