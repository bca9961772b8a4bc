//! A seeded life of a cluster: faults for a while, then everything is repaired, then the verdict.

use simulation::failover::{Command, CommandId, Degrade, Durability, Input, RuleId, Settings};
use simulation::model::NodeId;

use super::shell::{Crash, Odds, PAUSE_MS, Shell};

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
    pub(crate) degrades: bool,
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
        degrade: life
            .degrades
            .then(|| Degrade { standbys_min: 0, after: std::time::Duration::from_millis(rng.u64(0..1500)) }),
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
        rewinds: true,
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

pub(crate) fn run_for(shell: &mut Shell, ms: u64) {
    for _ in 0..ms {
        shell.tick();
    }
}

fn fault(shell: &mut Shell, rng: &mut fastrand::Rng) {
    let count = shell.cluster.nodes.len();
    let primary = shell.snapshot.primary.map_or(0, NodeId::index);
    // The primary is hit more often than the others.
    let i = if rng.bool() { primary } else { rng.usize(0..count) };
    match rng.u32(0..15) {
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
            shell.cluster.part(i, j, true);
        }
        9 => {
            let down = rng.u64(5..1500);
            shell.kill_proxy(down);
        }
        10 => {
            let j = rng.usize(0..=count);
            let (a, b) = if rng.bool() { (i, j) } else { (j, i) };
            shell.note(|| format!("** cut {a} -> {b}, one way"));
            shell.cluster.cut[a][b] = a != b;
        }
        11 => {
            let ms = [rng.u64(1..100), rng.u64(100..5000)][rng.usize(0..2)];
            shell.freeze_proxy(ms);
        }
        12 => {
            shell.note(|| format!("** n{i} receives slowly"));
            shell.cluster.nodes[i].slow = rng.u64(5..200);
        }
        13 => {
            for j in (0..=count).filter(|j| *j != i) {
                shell.cluster.part(i, j, true);
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
            if shell.proxy_down_until.is_none() && shell.cluster.now >= shell.proxy_frozen_until {
                shell.feed(Input::Command { id: CommandId(1), command });
            }
        }
    }
}

pub(crate) fn heal(shell: &mut Shell) {
    shell.note(|| "** everything is repaired".into());
    shell.proxy_frozen_until = shell.proxy_frozen_until.min(shell.cluster.now);
    shell.odds.effect_fails = 0;
    shell.odds.effect_slow = 0;
    let count = shell.cluster.nodes.len();
    shell.cluster.cut = vec![vec![false; count + 1]; count + 1];
    for i in 0..count {
        shell.cluster.nodes[i].frozen = false;
        shell.cluster.nodes[i].blocked = false;
        shell.cluster.nodes[i].slow = 0;
        shell.cluster.start(i, 100);
    }
}

pub(crate) fn settle(shell: &mut Shell, life: Life) -> Verdict {
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

/// A fault-free world but for the primary's death (or a switchover), in which the proxy dies at one step of its core, counted
/// from then on.
/// Tells the whole story where `tracing`.
pub(crate) fn die_at(story: Story, crash: Option<(u64, Crash)>, tracing: bool) -> (u64, Vec<String>) {
    let settings = Settings {
        flap_interval: std::time::Duration::ZERO,
        retry_after: std::time::Duration::from_secs(1),
        ..Settings::default()
    };
    let odds = Odds { effect_fails: 0, effect_slow: 0, agent: true, rewinds: true, direct_clients: true };
    let mut shell = Shell::new(3, crash.map_or(0, |(step, _)| step), settings, odds);
    shell.tracing = tracing;
    run_for(&mut shell, 500);
    let begun = shell.steps;
    shell.crash_at = crash.map(|(step, crash)| (begun + step, crash));
    match story {
        Story::Kill | Story::KillTwo => shell.cluster.kill(0),
        Story::Freeze => shell.cluster.nodes[0].frozen = true,
        Story::Switchover => {
            let command = Command::Switchover { to: Some(NodeId(1)), dry_run: false };
            shell.feed(Input::Command { id: CommandId(1), command });
        }
    }
    if story == Story::KillTwo {
        run_for(&mut shell, 60);
        shell.cluster.kill(1);
    }
    let paused = matches!(crash, Some((_, Crash::Pause { .. })));
    run_for(&mut shell, if paused { 3_000 + 2 * PAUSE_MS } else { 3_000 });
    let steps = shell.steps - begun;
    heal(&mut shell);
    let life =
        Life { nodes: 3, seed: 0, without: None, asynchronous: false, degrades: false, tracing: false };
    let what = format!("{story:?}, the proxy dies at {crash:?}");
    let verdict = settle(&mut shell, life);
    if tracing {
        println!("{}", verdict.trace.join("\n"));
    }
    (steps, verdict.violations.into_iter().map(|bad| format!("{what}: {bad}")).collect())
}

/// What happens besides the proxy's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    Kill,
    KillTwo,
    Freeze,
    Switchover,
}
