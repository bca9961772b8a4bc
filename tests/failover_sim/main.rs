//! The real failover core in a simulated cluster, with seeded faults and checkers.
//!
//! A failure prints its seed; `live(Life { seed, tracing: true, .. })` tells the whole story of it.

mod cluster;
mod faults;
mod shell;
mod traps;

use faults::{Life, live};

fn lives(nodes: usize, seeds: std::ops::Range<u64>, asynchronous: bool) {
    let mut bad = Vec::new();
    let (mut acked, mut failovers) = (0, 0);
    for seed in seeds.clone() {
        let life = Life { nodes, seed, without: None, asynchronous, tracing: false };
        let verdict = live(life);
        acked += verdict.acked;
        failovers += verdict.failovers;
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
}

#[test]
fn three_nodes_lose_nothing_and_come_back() {
    lives(3, 0..150, false);
}

#[test]
fn five_nodes_lose_nothing_and_come_back() {
    lives(5, 0..60, false);
}

#[test]
fn two_asynchronous_nodes_come_back() {
    lives(2, 0..100, true);
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
