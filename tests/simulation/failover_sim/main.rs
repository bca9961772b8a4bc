//! The real failover core in a simulated cluster, with seeded faults and checkers.
//!
//! A failure prints its seed; `live(Life { seed, tracing: true, .. })` tells the whole story of it.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::panic,
    clippy::print_stdout,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    reason = "a test crate: small numbers, loud failures, one table of actions"
)]

mod actuator;
mod cluster;
mod duo;
mod exhaust;
mod faults;
mod shell;
mod traps;

use std::collections::BTreeMap;

use faults::{Life, Story, die_at, live};
use shell::Crash;

/// Every rule that decided something, and how often.
type Rules = BTreeMap<&'static str, u64>;

/// How commits count in these lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Quorum,
    Degrading,
    Async,
}

fn lives(nodes: usize, seeds: std::ops::Range<u64>, mode: Mode) -> Rules {
    let mut bad = Vec::new();
    let mut rules = Rules::new();
    let (mut acked, mut failovers) = (0, 0);
    for seed in seeds.clone() {
        let (asynchronous, degrades) = (mode == Mode::Async, mode == Mode::Degrading);
        let life = Life { nodes, seed, without: None, asynchronous, degrades, tracing: false };
        let verdict = live(life);
        acked += verdict.acked;
        failovers += verdict.failovers;
        for (rule, count) in verdict.rules {
            *rules.entry(rule).or_default() += count;
        }
        bad.extend(verdict.violations);
        if bad.len() >= 12 {
            // Bad lives take long, and these will do.
            break;
        }
    }
    println!(
        "{} lives of {nodes} nodes ({mode:?}): {acked} acknowledged, {failovers} changes of primary",
        seeds.count()
    );
    assert!(
        bad.is_empty(),
        "{} bad lives:\n{}",
        bad.len(),
        bad.iter().take(12).cloned().collect::<Vec<_>>().join("\n")
    );
    rules
}

#[test]
fn three_nodes_lose_nothing_and_come_back() {
    let rules = lives(3, 0..1500, Mode::Quorum);
    // The lives are worth something only if they visit what they claim to check.
    for rule in [
        "R1a", "R1b", "R1c", "R1d", "R1g", "R3a", "R3b", "R3c", "R5a", "R6a", "R6c", "R7b", "R7c", "R8a",
        "R8c", "R8d", "R8e", "R10b", "R10c", "R10e", "S1e", "S1f",
    ] {
        assert!(rules.contains_key(rule), "{rule} was never reached: {rules:?}");
    }
}

#[test]
fn five_nodes_lose_nothing_and_come_back() {
    lives(5, 0..400, Mode::Quorum);
}

/// Acknowledged by fewer, or by the primary alone: nothing of it is lost either, because nobody is promoted who may lack it.
#[test]
fn what_is_acknowledged_by_fewer_replicas_is_not_lost() {
    for (nodes, count) in [(2, 600), (3, 500), (5, 100)] {
        let rules = lives(nodes, 0..count, Mode::Degrading);
        assert!(rules.contains_key("Q1f") && rules.contains_key("Q1e"), "never reached: {rules:?}");
    }
}

#[test]
fn two_asynchronous_nodes_come_back() {
    lives(2, 0..600, Mode::Async);
}

/// At every single step of a failover, of one with a second failure, of a switchover: killed before the step's effects are
/// begun, or just after.
#[test]
fn the_proxy_may_die_at_every_step() {
    for story in [Story::Kill, Story::KillTwo, Story::Freeze, Story::Switchover] {
        let (steps, mut bad) = die_at(story, None, false);
        // Beyond the change itself the nodes are brought back, one probe after another.
        let steps = steps.min(250);
        for step in 1..=steps {
            for crash in [Crash::Before, Crash::After] {
                bad.extend(die_at(story, Some((step, crash)), false).1.into_iter().take(2));
            }
        }
        println!("{story:?}: died at each of {steps} steps, twice");
        assert!(
            bad.is_empty(),
            "{} bad:\n{}",
            bad.len(),
            bad.iter().take(8).cloned().collect::<Vec<_>>().join("\n")
        );
    }
}

/// T14: at every step of a change of primary the proxy's machine is paused for seconds. Its clock says so afterwards, or does
/// not; what it was about to do it then does to a cluster that has gone on without it.
#[test]
fn the_proxy_may_be_paused_at_every_step_whatever_its_clock_says() {
    for story in [Story::Kill, Story::KillTwo, Story::Freeze, Story::Switchover] {
        let (steps, mut bad) = die_at(story, None, false);
        let steps = steps.min(120);
        for step in 1..=steps {
            for clock_stands in [false, true] {
                let pause = Crash::Pause { clock_stands };
                bad.extend(die_at(story, Some((step, pause)), false).1.into_iter().take(2));
            }
        }
        println!("{story:?}: paused at each of {steps} steps, twice");
        assert!(bad.is_empty(), "{} bad:\n{}", bad.len(), bad[..bad.len().min(8)].join("\n"));
    }
}

/// Many more lives than a build has time for.
#[test]
#[ignore = "takes minutes"]
fn many_lives() {
    for nodes in 2..=5 {
        println!("{:?}", lives(nodes, 60_500..66_300, Mode::Quorum));
        println!("{:?}", lives(nodes, 80_500..82_300, Mode::Degrading));
    }
    lives(3, 70_000..75_000, Mode::Async);
}

/// `PRIMACY_SIM="3 17 quorum" cargo test -p simulation --test failover_sim story -- --ignored --nocapture`
#[test]
#[ignore = "tells the story of one seed"]
fn story() {
    let words: Vec<&str> = option_env!("PRIMACY_SIM").unwrap_or("3 0 quorum").split(' ').collect();
    let life = Life {
        nodes: words[0].parse().expect("nodes"),
        seed: words[1].parse().expect("seed"),
        without: None,
        asynchronous: words[2] == "async",
        degrades: words[2] == "degrading",
        tracing: true,
    };
    let verdict = live(life);
    println!("{}\n{}", verdict.trace.join("\n"), verdict.violations.join("\n"));
}
