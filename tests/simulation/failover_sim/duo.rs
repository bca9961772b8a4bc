//! Two proxies that both decide over one cluster, each with a journal of its own: what nobody should set up, and somebody will.
//!
//! Nothing keeps them apart. What does keep writes safe is the same as with one: a candidate is chosen among enough nodes that
//! were seen stopped, and both choose by the same rule. The clients here go to the servers themselves, to whoever takes writes.

use std::time::Duration;

use simulation::failover::{Command, CommandId, Input, Settings};
use simulation::model::NodeId;

use super::shell::{Odds, Shell};

/// Two deciders, and the cluster in the hands of the first.
struct Duo {
    first: Shell,
    second: Shell,
}

impl Duo {
    fn new(nodes: usize, seed: u64) -> Self {
        let settings = || Settings {
            flap_interval: Duration::ZERO,
            flap_max: 1000,
            retry_after: Duration::from_secs(1),
            ..Settings::default()
        };
        let odds = Odds { effect_fails: 0, effect_slow: 0, agent: true, rewinds: true, direct_clients: true };
        let first = Shell::new(nodes, seed, settings(), odds);
        // The second one's clients are those of the first.
        let second = Shell::new(nodes, seed ^ 0x77, settings(), Odds { direct_clients: false, ..odds });
        Self { first, second }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.first.tick_servers();
            self.first.tick_proxy();
            self.with_second(Shell::tick_proxy);
        }
    }

    /// The second one acts on the same servers.
    fn with_second<T>(&mut self, act: impl FnOnce(&mut Shell) -> T) -> T {
        std::mem::swap(&mut self.first.cluster, &mut self.second.cluster);
        let done = act(&mut self.second);
        std::mem::swap(&mut self.first.cluster, &mut self.second.cluster);
        done
    }

    /// Everything runs again; both have to agree, and nothing may be lost.
    fn verdict(&mut self) -> Vec<String> {
        let count = self.first.cluster.nodes.len();
        self.first.cluster.cut = vec![vec![false; count + 1]; count + 1];
        for i in 0..count {
            self.first.cluster.nodes[i].frozen = false;
            self.first.cluster.nodes[i].blocked = false;
            self.first.cluster.start(i, 100);
        }
        let mut settled_for = 0;
        for round in 0..60_000 {
            self.run(1);
            if round % 2000 == 0 {
                self.first.person();
                self.with_second(Shell::person);
            }
            settled_for = if self.disagreement().is_none() { settled_for + 1 } else { 0 };
            if settled_for > 1500 {
                break;
            }
        }
        let mut bad = std::mem::take(&mut self.first.violations);
        bad.append(&mut self.second.violations);
        bad.extend(self.disagreement());
        let lost = self.first.lost();
        if !lost.is_empty() {
            bad.push(format!("{} acknowledged writes are lost", lost.len()));
        }
        bad
    }

    fn disagreement(&mut self) -> Option<String> {
        let second = self.with_second(|second| second.unsettled());
        let why = self.first.unsettled().or(second);
        let differ = self.first.snapshot.primary != self.second.snapshot.primary;
        why.or_else(|| differ.then(|| "they name different primaries".to_owned()))
    }
}

/// What happens to the cluster while the second decider is so many milliseconds behind the first.
#[derive(Clone, Copy, Debug)]
enum Story {
    Kill,
    Freeze,
    /// The first is asked for another primary, and the second is not.
    Switchover,
    /// And then the first decider dies too.
    KillBoth,
}

fn live(nodes: usize, story: Story, behind: u64) -> (Vec<String>, usize) {
    let mut duo = Duo::new(nodes, behind);
    duo.run(700);
    duo.with_second(|second| second.freeze_proxy(behind));
    match story {
        Story::Kill | Story::KillBoth => duo.first.cluster.kill(0),
        Story::Freeze => duo.first.cluster.nodes[0].frozen = true,
        Story::Switchover => {
            let command = Command::Switchover { to: Some(NodeId(1)), dry_run: false };
            duo.first.feed(Input::Command { id: CommandId(1), command });
        }
    }
    if matches!(story, Story::KillBoth) {
        duo.run(behind / 2 + 10);
        duo.first.kill_proxy(3000);
    }
    duo.run(4000);
    let acknowledged = duo.first.acked.len();
    (duo.verdict(), acknowledged)
}

#[test]
fn two_deciders_lose_nothing_and_agree_in_the_end() {
    let mut bad = Vec::new();
    let (mut lives, mut acknowledged) = (0, 0);
    for nodes in [3, 5] {
        for story in [Story::Kill, Story::Freeze, Story::Switchover, Story::KillBoth] {
            for behind in 1..250 {
                let (violations, acked) = live(nodes, story, behind);
                lives += 1;
                acknowledged += acked;
                bad.extend(
                    violations.into_iter().take(1).map(|v| format!("{nodes} {story:?} {behind}: {v}")),
                );
            }
        }
    }
    println!("{lives} lives of two deciders: {acknowledged} acknowledged");
    assert!(bad.is_empty(), "{} bad:\n{}", bad.len(), bad[..bad.len().min(20)].join("\n"));
}
