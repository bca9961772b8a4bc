//! Model checking: *every* schedule with a bounded number of faults is lived through, over the real core.
//!
//! A schedule is the fair course of a cluster, interrupted by faults at decision points: whenever the core asked for something
//! or something that it asked for ended. At each of them each fault of a menu is tried, on a copy of the whole world. Two
//! schedules that reach the same state (servers, core, effects in flight, clock) are one from there on. At the end everything
//! is repaired, and the checkers of the simulation give their verdict: nothing acknowledged is lost, no two primaries take
//! acknowledged writes at a time, commits in doubt are resolved before the promotion, and the cluster becomes whole.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::Hasher;

use simulation::failover::{Command, CommandId, Input, RuleId, Settings};
use simulation::model::NodeId;

use super::faults::{Life, heal, run_for, settle};
use super::shell::{Odds, Shell};

/// After this many milliseconds of a schedule everything is repaired.
const HORIZON_MS: u64 = 2_000;

/// One thing that goes wrong, or that somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill(usize),
    Start(usize),
    Freeze(usize),
    /// Both ways; 3 is the proxy.
    Part(usize, usize),
    OneWay(usize, usize),
    /// Replay stands still, and with it the reaction to a reload (T1).
    Block(usize),
    Slow(usize),
    KillProxy,
    FreezeProxy,
    Failover(u16),
    Switchover(u16),
}

/// Everything that can go wrong in a cluster of three whose primary is node 0 at first.
pub(crate) const MENU: &[Fault] = &[
    Fault::Kill(0),
    Fault::Kill(1),
    Fault::Kill(2),
    Fault::Start(0),
    Fault::Start(1),
    Fault::Freeze(0),
    Fault::Freeze(1),
    Fault::Freeze(2),
    Fault::Part(0, 3),
    Fault::Part(1, 3),
    Fault::Part(2, 3),
    Fault::Part(0, 1),
    Fault::Part(0, 2),
    Fault::Part(1, 2),
    Fault::OneWay(1, 3),
    Fault::OneWay(0, 3),
    Fault::OneWay(2, 1),
    Fault::Block(1),
    Fault::Block(2),
    Fault::Slow(1),
    Fault::KillProxy,
    Fault::FreezeProxy,
    Fault::Failover(2),
    Fault::Switchover(1),
];

/// What is tried a second time in every schedule.
pub(crate) const SHORT_MENU: &[Fault] =
    &[Fault::Kill(1), Fault::Kill(2), Fault::Freeze(1), Fault::Part(2, 3), Fault::Start(0), Fault::KillProxy];

/// What went wrong, and when.
type Schedule = Vec<(u64, Fault)>;

/// A menu, and within how many decision points after the fault before it one of it comes.
type Course<'a> = (&'a [Fault], usize);

/// How an exploration went.
#[derive(Debug, Default)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) schedules: usize,
    pub(crate) points_max: usize,
    /// The first bad schedule, and what was wrong.
    pub(crate) counterexample: Option<(Schedule, Vec<String>)>,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// What has happened before the schedules begin.
    pub(crate) scene: &'a [Fault],
    /// The faults of a schedule, one after another.
    pub(crate) faults: &'a [Course<'a>],
    pub(crate) without: Option<RuleId>,
}

struct Explorer {
    seen: HashSet<(u64, usize)>,
    result: Explored,
}

/// Explores every schedule of the plan; stops at the first bad one.
pub(crate) fn explore(plan: Plan<'_>) -> Explored {
    let settings = Settings {
        without: plan.without,
        flap_interval: std::time::Duration::ZERO,
        flap_max: 1000,
        retry_after: std::time::Duration::from_secs(1),
        ..Settings::default()
    };
    let odds = Odds { effect_fails: 0, effect_slow: 0, agent: true, rewinds: true, direct_clients: true };
    let mut shell = Shell::new(3, 7, settings, odds);
    run_for(&mut shell, 400);
    for fault in plan.scene {
        apply(&mut shell, *fault);
        run_for(&mut shell, 30);
    }
    let mut explorer = Explorer { seen: HashSet::new(), result: Explored::default() };
    explorer.go(shell, plan.faults, &mut Vec::new());
    explorer.result.states = explorer.seen.len();
    explorer.result
}

impl Explorer {
    fn go(&mut self, mut shell: Shell, faults: &[Course<'_>], done: &mut Schedule) {
        let until = shell.cluster.now + HORIZON_MS;
        let mut points = 0;
        // The first moment is a decision point, whatever the core does.
        let mut due = true;
        while shell.cluster.now < until && shell.violations.is_empty() {
            if due {
                points += 1;
                if !self.seen.insert((digest(&shell), faults.len())) {
                    // Another schedule has come here, and is responsible for what follows.
                    return;
                }
                if let Some(((menu, within), rest)) = faults.split_first() {
                    if points > *within {
                        break;
                    }
                    for fault in *menu {
                        let mut world = shell.clone();
                        done.push((world.cluster.now, *fault));
                        apply(&mut world, *fault);
                        self.go(world, rest, done);
                        done.pop();
                        if self.result.counterexample.is_some() {
                            return;
                        }
                    }
                }
            }
            let before = shell.moves;
            shell.tick();
            due = shell.moves != before;
        }
        self.result.points_max = self.result.points_max.max(points);
        self.end(shell, done);
    }

    fn end(&mut self, mut shell: Shell, done: &[(u64, Fault)]) {
        self.result.schedules += 1;
        heal(&mut shell);
        let life =
            Life { nodes: 3, seed: 0, without: None, asynchronous: false, degrades: false, tracing: false };
        let verdict = settle(&mut shell, life);
        if !verdict.violations.is_empty() {
            self.result.counterexample = Some((done.to_vec(), verdict.violations));
        }
    }
}

fn apply(shell: &mut Shell, fault: Fault) {
    let now = shell.cluster.now;
    let proxy_is_there = shell.proxy_down_until.is_none() && now >= shell.proxy_frozen_until;
    let mut command = |command| {
        if proxy_is_there {
            shell.feed(Input::Command { id: CommandId(1), command });
        }
    };
    match fault {
        Fault::Failover(to) => command(Command::Failover { to: Some(NodeId(to)), allow_data_loss: false }),
        Fault::Switchover(to) => command(Command::Switchover { to: Some(NodeId(to)), dry_run: false }),
        Fault::Kill(i) => shell.cluster.kill(i),
        Fault::Start(i) => shell.cluster.start(i, 20),
        Fault::Freeze(i) => shell.cluster.nodes[i].frozen |= shell.cluster.nodes[i].up,
        Fault::Part(a, b) => shell.cluster.part(a, b, true),
        Fault::OneWay(a, b) => shell.cluster.cut[a][b] = true,
        Fault::Block(i) => shell.cluster.nodes[i].blocked = true,
        Fault::Slow(i) => shell.cluster.nodes[i].slow = 50,
        Fault::KillProxy => shell.kill_proxy(25),
        Fault::FreezeProxy => shell.freeze_proxy(800),
    }
}

/// The whole state but for what only the verdict needs.
fn digest(shell: &Shell) -> u64 {
    struct Words(DefaultHasher);
    impl std::fmt::Write for Words {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut words = Words(DefaultHasher::new());
    let Shell { cluster, core, runs, ghosts, journal, rng, proxy_down_until, proxy_frozen_until, .. } = shell;
    let written = write!(
        words,
        "{cluster:?}{core:?}{runs:?}{ghosts:?}{journal:?}{rng:?}{proxy_down_until:?}{proxy_frozen_until}"
    );
    written.map_or(0, |()| words.0.finish())
}

// ---- the checks ------------------------------------------------------------------------------------------------

fn sound(name: &str, plan: Plan<'_>) -> Explored {
    let explored = explore(plan);
    println!(
        "{name}: {} states, {} schedules, up to {} decision points in one",
        explored.states, explored.schedules, explored.points_max
    );
    if let Some((schedule, bad)) = &explored.counterexample {
        panic!("{name}: a counterexample: scene {:?}, then {schedule:?}: {bad:#?}", plan.scene);
    }
    explored
}

/// One fault of any kind at every decision point of each of these stories.
#[test]
fn every_schedule_with_one_more_fault_ends_well() {
    let scenes: [&[Fault]; 7] = [
        &[],
        &[Fault::Kill(0)],
        &[Fault::Freeze(0)],
        &[Fault::Switchover(1)],
        &[Fault::Part(0, 3)],
        &[Fault::Slow(1), Fault::Kill(0)],
        &[Fault::Block(2), Fault::Kill(0)],
    ];
    let mut states = 0;
    for scene in scenes {
        let plan = Plan { scene, faults: &[(MENU, 70)], without: None };
        states += sound(&format!("{scene:?} and one more"), plan).states;
    }
    assert!(states > 3_000, "only {states} states: is anything explored at all?");
}

/// Two faults close together in the middle of a change of primary.
#[test]
fn every_schedule_with_two_faults_close_together_ends_well() {
    for scene in [Fault::Kill(0), Fault::Switchover(1)] {
        let plan = Plan { scene: &[scene], faults: &[(MENU, 40), (SHORT_MENU, 3)], without: None };
        sound(&format!("{scene:?} and two more"), plan);
    }
}

/// Deeper: two faults of any kind, anywhere.
#[test]
#[ignore = "takes many minutes"]
fn every_schedule_with_two_more_faults_ends_well() {
    for scene in [Fault::Kill(0), Fault::Freeze(0), Fault::Switchover(1)] {
        let plan = Plan { scene: &[scene], faults: &[(MENU, 70), (MENU, 70)], without: None };
        sound(&format!("{scene:?} and any two more"), plan);
    }
}

/// Planted faults: with the rule switched off a counterexample is found, with the rule in force the same schedules end well.
#[test]
fn every_planted_fault_is_found() {
    use Fault::{Block, Failover, Kill, KillProxy, Part, Slow, Switchover};
    let plants: [(RuleId, &[Fault], &[Course<'_>]); 5] = [
        // A reload is taken for a fence: the blocked replica goes on acknowledging for the old primary.
        (RuleId::R3a, &[Block(2), Part(0, 3)], &[(&[Failover(1), Kill(1)], 8)]),
        // Too few recruits: the one that is left has not got what the other one had acknowledged.
        (RuleId::R3b, &[Slow(1), Kill(2)], &[(&[Kill(0), Kill(1)], 8)]),
        // Any recruit will do: the one that lags is promoted.
        (RuleId::R4a, &[Slow(1)], &[(&[Kill(1), Kill(0)], 8)]),
        // Promoted before the commits in doubt are resolved.
        (RuleId::R5a, &[], &[(&[Kill(2), Kill(0)], 8)]),
        // A promotion under way is taken for undone.
        (RuleId::R7f, &[Switchover(1)], &[(&[KillProxy], 70)]),
    ];
    for (rule, scene, faults) in plants {
        let plan = Plan { scene, faults, without: None };
        sound(&format!("{rule} in force"), plan);
        let explored = explore(Plan { without: Some(rule), ..plan });
        let found = explored.counterexample;
        let Some((schedule, bad)) = found else {
            panic!("{rule} off, and no counterexample in {} schedules", explored.schedules)
        };
        println!("{rule} off: found after {} schedules: {schedule:?}: {}", explored.schedules, bad[0]);
    }
}
