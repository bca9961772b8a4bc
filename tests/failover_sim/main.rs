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
mod faults;
mod shell;
mod traps;

use std::collections::BTreeMap;

use faults::{Life, live};

/// Every rule that decided something, and how often.
type Rules = BTreeMap<&'static str, u64>;

fn lives(nodes: usize, seeds: std::ops::Range<u64>, asynchronous: bool) -> Rules {
    let mut bad = Vec::new();
    let mut rules = Rules::new();
    let (mut acked, mut failovers) = (0, 0);
    for seed in seeds.clone() {
        let life = Life { nodes, seed, without: None, asynchronous, tracing: false };
        let verdict = live(life);
        acked += verdict.acked;
        failovers += verdict.failovers;
        for (rule, count) in verdict.rules {
            *rules.entry(rule).or_default() += count;
        }
        bad.extend(verdict.violations);
    }
    println!(
        "{} lives of {nodes} nodes: {acked} acknowledged, {failovers} changes of primary",
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
    let rules = lives(3, 0..150, false);
    // The lives are worth something only if they visit what they claim to check.
    for rule in [
        "R1a", "R1b", "R1c", "R1g", "R3a", "R3b", "R3c", "R5a", "R6a", "R6c", "R7b", "R8a", "R8c", "R8d",
        "R10b", "S1f",
    ] {
        assert!(rules.contains_key(rule), "{rule} was never reached: {rules:?}");
    }
}

#[test]
fn five_nodes_lose_nothing_and_come_back() {
    lives(5, 0..60, false);
}

#[test]
fn two_asynchronous_nodes_come_back() {
    lives(2, 0..100, true);
}

/// Many more lives than a build has time for.
#[test]
#[ignore = "takes minutes"]
fn many_lives() {
    for nodes in 2..=5 {
        println!("{:?}", lives(nodes, 60_500..61_300, false));
    }
    lives(3, 70_000..70_800, true);
}

/// `PRIMACY_SIM="3 17 quorum" cargo test --test failover_sim story -- --ignored --nocapture`
#[test]
#[ignore = "tells the story of one seed"]
fn story() {
    let words: Vec<&str> = option_env!("PRIMACY_SIM").unwrap_or("3 0 quorum").split(' ').collect();
    let life = Life {
        nodes: words[0].parse().expect("nodes"),
        seed: words[1].parse().expect("seed"),
        without: None,
        asynchronous: words[2] == "async",
        tracing: true,
    };
    let verdict = live(life);
    println!("{}\n{}", verdict.trace.join("\n"), verdict.violations.join("\n"));
}
