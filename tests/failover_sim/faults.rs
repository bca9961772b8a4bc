//! A seeded life of a cluster: faults for a while, then everything is repaired, then the verdict.

use primacy::failover::{Command, CommandId, Durability, Input, RuleId, Settings};
use primacy::model::NodeId;

use super::shell::{Odds, Shell};

/// How a run ended.
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    pub(crate) acked: usize,
    pub(crate) failovers: usize,
    pub(crate) rules: std::collections::BTreeMap<&'static str, u64>,
    pub(crate) trace: Vec<String>,
}

/// What kind of life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    pub(crate) without: Option<RuleId>,
    pub(crate) asynchronous: bool,
    pub(crate) tracing: bool,
}

/// Lives it.
pub(crate) fn live(life: Life) -> Verdict {
    let mut rng = fastrand::Rng::with_seed(life.seed ^ 0x5eed);
    let durability =
        if life.asynchronous { Durability::Async } else { Durability::Quorum { standbys: None } };
    let settings = Settings {
        durability,
        without: life.without,
        // A run is short; the rate limit has tests of its own.
        flap_max: 1000,
        flap_interval: std::time::Duration::ZERO,
        retry_after: std::time::Duration::from_secs(1),
        arm_standby_signal: rng.bool(),
        ..Settings::default()
    };
    let odds = Odds {
        effect_fails: [0, 20, 100][rng.usize(0..3)],
        effect_slow: [0, 20, 100][rng.usize(0..3)],
        agent: true,
        direct_clients: rng.bool(),
    };
    let mut shell = Shell::new(life.nodes, life.seed, settings, odds);
    shell.tracing = life.tracing;
    run_for(&mut shell, 500);
    let faults = rng.u32(1..10);
    for _ in 0..faults {
        fault(&mut shell, &mut rng);
        let pause = [rng.u64(1..60), rng.u64(1..400), rng.u64(1..3000)][rng.usize(0..3)];
        run_for(&mut shell, pause);
    }
    heal(&mut shell);
    settle(&mut shell, life)
}

fn run_for(shell: &mut Shell, ms: u64) {
    for _ in 0..ms {
        shell.tick();
    }
}

fn fault(shell: &mut Shell, rng: &mut fastrand::Rng) {
    let count = shell.cluster.nodes.len();
    let primary = shell.snapshot.primary.map_or(0, NodeId::index);
    // The primary is hit more often than the others.
    let i = if rng.bool() { primary } else { rng.usize(0..count) };
    match rng.u32(0..12) {
        0..=3 => {
            shell.note(|| format!("** kill n{i}"));
            shell.cluster.kill(i);
        }
        4 => {
            shell.note(|| format!("** freeze n{i}"));
            shell.cluster.nodes[i].frozen |= shell.cluster.nodes[i].up;
        }
        5 => {
            shell.note(|| format!("** thaw n{i}"));
            shell.cluster.nodes[i].frozen = false;
        }
        6 => {
            shell.note(|| format!("** start n{i}"));
            shell.cluster.start(i, rng.u64(10..500));
        }
        7 => {
            shell.note(|| format!("** block replay of n{i}"));
            shell.cluster.nodes[i].blocked = true;
        }
        8 => {
            let j = rng.usize(0..=count);
            shell.note(|| format!("** cut n{i} - n{j}"));
            shell.cluster.cut[i][j] = i != j;
        }
        9 => {
            let down = rng.u64(5..1500);
            shell.kill_proxy(down);
        }
        10 => {
            for j in (0..=count).filter(|j| *j != i) {
                shell.cluster.cut[i][j] = true;
            }
            shell.note(|| format!("** isolate n{i}"));
        }
        _ => {
            let to = rng.bool().then(|| NodeId(rng.usize(0..count) as u16));
            let command = if rng.u32(0..4) > 0 {
                Command::Switchover { to, dry_run: false }
            } else {
                Command::Failover { to, allow_data_loss: false }
            };
            if shell.proxy_down_until.is_none() {
                shell.feed(Input::Command { id: CommandId(1), command });
            }
        }
    }
}

fn heal(shell: &mut Shell) {
    shell.note(|| "** everything is repaired".into());
    shell.odds.effect_fails = 0;
    shell.odds.effect_slow = 0;
    let count = shell.cluster.nodes.len();
    shell.cluster.cut = vec![vec![false; count + 1]; count + 1];
    for i in 0..count {
        shell.cluster.nodes[i].frozen = false;
        shell.cluster.nodes[i].blocked = false;
        shell.cluster.start(i, 100);
    }
}

fn settle(shell: &mut Shell, life: Life) -> Verdict {
    let patience = 60_000;
    let mut settled_for = 0;
    let mut waited = 0;
    while waited < patience && settled_for < 1_500 && shell.violations.is_empty() {
        shell.tick();
        waited += 1;
        if waited % 2_000 == 0 {
            shell.person();
        }
        settled_for = if shell.unsettled().is_none() { settled_for + 1 } else { 0 };
    }
    if let Some(why) = shell.unsettled().filter(|_| shell.violations.is_empty()) {
        shell.violations.push(format!("never settled: {why}"));
    }
    let before = shell.acked_by_proxy;
    run_for(shell, 200);
    if shell.acked_by_proxy == before {
        shell.violations.push("settled, but no write is acknowledged".into());
    }
    if shell.durability() != Durability::Async {
        let lost = shell.lost();
        if !lost.is_empty() {
            let few: Vec<_> = lost.iter().take(5).collect();
            shell.violations.push(format!("{} acknowledged writes are lost: {few:?}", lost.len()));
        }
    }
    shell.count_rules();
    Verdict {
        violations: shell
            .violations
            .iter()
            .map(|v| format!("seed {} nodes {}: {v}", life.seed, life.nodes))
            .collect(),
        acked: shell.acked.len(),
        failovers: shell.history.iter().filter(|entry| entry.to.is_some()).count(),
        rules: shell.rules.clone(),
        trace: std::mem::take(&mut shell.trace),
    }
}
