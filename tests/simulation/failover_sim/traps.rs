//! One life per trap: with its rule in force it ends well, with the rule switched off the checker goes red.
//! That is the evidence that the checker sees what it claims to see.

use simulation::failover::{Command, CommandId, Degrade, Durability, Input, RuleId, Settings};
use simulation::model::{NodeId, Service};

use super::cluster::Cluster;
use super::faults::heal;
use super::shell::{Odds, Shell};

fn shell(nodes: usize, without: Option<RuleId>, direct_clients: bool) -> Shell {
    let settings = Settings {
        without,
        durability: Durability::default_for(nodes),
        arm_standby_signal: false,
        ..Settings::default()
    };
    let odds = Odds { effect_fails: 0, effect_slow: 0, agent: true, rewinds: true, direct_clients };
    let mut shell = Shell::new(nodes, 1, settings, odds);
    shell.tracing = true;
    run(&mut shell, 500);
    shell
}

fn run(shell: &mut Shell, ms: u64) {
    for _ in 0..ms {
        shell.tick();
    }
}

fn failover(shell: &mut Shell, to: u16, allow_data_loss: bool) {
    let command = Command::Failover { to: Some(NodeId(to)), allow_data_loss };
    shell.feed(Input::Command { id: CommandId(1), command });
}

/// Runs the life with and without the rule.
fn trap(rule: RuleId, life: impl Fn(Option<RuleId>) -> Shell) {
    let with = life(None);
    assert!(with.violations.is_empty(), "{rule} in force: {:#?}\n{}", with.violations, with.trace.join("\n"));
    let without = life(Some(rule));
    assert!(!without.violations.is_empty(), "{rule} off, and nobody notices\n{}", without.trace.join("\n"));
}

fn lost(shell: &mut Shell) {
    let lost = shell.lost();
    if !lost.is_empty() {
        shell.violations.push(format!("{} acknowledged writes are lost", lost.len()));
    }
}

/// T1: the replica's replay is blocked, so its receiver survives the reload and goes on acknowledging for the old primary.
#[test]
fn a_receiver_that_survives_the_reload_is_not_taken_for_stopped() {
    trap(RuleId::R3a, |without| {
        let mut shell = shell(3, without, true);
        shell.cluster.nodes[2].blocked = true;
        // Only the proxy cannot reach the old primary: its own clients can.
        shell.cluster.part(0, 3, true);
        failover(&mut shell, 1, false);
        run(&mut shell, 1500);
        shell.cluster.nodes[2].blocked = false;
        run(&mut shell, 2000);
        lost(&mut shell);
        shell
    });
}

/// T4: somebody cancels the waits for the quorum, the clients' and that of the term row.
#[test]
fn a_cancelled_wait_for_the_quorum_is_no_success() {
    trap(RuleId::R6c, |without| {
        let mut shell = shell(3, without, false);
        for i in [1, 2] {
            shell.cluster.part(0, i, true);
        }
        run(&mut shell, 50);
        shell.cluster.cancel_waits(0);
        run(&mut shell, 5);
        shell.cluster.kill(0);
        run(&mut shell, 3000);
        lost(&mut shell);
        shell
    });
}

/// T4: the row of a promotion has not got its quorum, and its primary dies.
#[test]
fn a_promotion_is_not_final_because_the_wait_for_its_row_was_cancelled() {
    trap(RuleId::R6c, |without| {
        let mut shell = shell(3, without, false);
        shell.odds.agent = false;
        shell.cluster.part(1, 2, true);
        let command = Command::Failover { to: Some(NodeId(1)), allow_data_loss: false };
        shell.cluster.kill(0);
        shell.feed(Input::Command { id: CommandId(1), command });
        for _ in 0..1000 {
            shell.tick();
            if !shell.cluster.nodes[1].in_recovery {
                break;
            }
        }
        run(&mut shell, 100);
        shell.cluster.cancel_waits(1);
        run(&mut shell, 200);
        if shell.snapshot.service == Service::Open {
            shell.violations.push("open, and nobody else has a thing of this epoch".into());
        }
        shell
    });
}

/// T5: the postmaster is dead, and a session that it has left behind goes on committing.
#[test]
fn what_an_orphaned_session_of_the_old_primary_says_counts_for_nothing() {
    trap(RuleId::R2a, |without| {
        // Without a quorum nothing but the proxy keeps such an answer from the client.
        let mut shell = shell(2, without, false);
        let epoch = shell.snapshot.epoch.0;
        shell.cluster.kill_postmaster(0, epoch);
        run(&mut shell, 3000);
        assert_eq!(shell.snapshot.primary, Some(NodeId(1)), "it was never replaced");
        shell
    });
}

/// T9: an orderly stop writes a checkpoint, and nobody can rewind the old primary.
#[test]
fn the_old_primary_of_a_switchover_is_not_stopped_in_order() {
    trap(RuleId::S1f, |without| {
        let mut shell = shell(3, without, false);
        shell.odds.rewinds = false;
        let command = Command::Switchover { to: Some(NodeId(1)), dry_run: false };
        shell.feed(Input::Command { id: CommandId(1), command });
        run(&mut shell, 8000);
        assert_eq!(shell.snapshot.primary, Some(NodeId(1)), "no switchover");
        if let Some(why) = shell.unsettled() {
            shell.violations.push(why);
        }
        shell
    });
}

/// T10: a frozen server still accepts connections.
#[test]
fn a_primary_that_only_accepts_connections_is_replaced() {
    trap(RuleId::R1c, |without| {
        let mut shell = shell(3, without, false);
        shell.cluster.nodes[0].frozen = true;
        run(&mut shell, 3000);
        if shell.snapshot.writable_primary().is_none() {
            shell.violations.push("nobody takes writes".into());
        }
        shell
    });
}

/// A node that is taken out of the configuration has what was acknowledged before its acknowledgements ceased to count.
#[test]
fn a_node_that_is_not_configured_any_more_is_asked_while_its_acknowledgements_count() {
    trap(RuleId::Q1g, |without| {
        let mut shell = shell(4, without, false);
        shell.odds.agent = false;
        shell.members[1].removed = true;
        shell.kill_proxy(10);
        for _ in 0..3000 {
            shell.tick();
            if shell.core.record().is_some_and(|record| record.cohort_next.is_some()) {
                break;
            }
        }
        shell.cluster.kill(0);
        run(&mut shell, 4000);
        if shell.snapshot.writable_primary().is_none() {
            shell.violations.push("too few are recruited, and the one who would do is not asked".into());
        }
        lost(&mut shell);
        shell
    });
}

/// With one of two replicas missing, the other one need not have what was acknowledged.
#[test]
fn fewer_recruits_than_the_quorum_needs_promote_nothing() {
    trap(RuleId::R3b, |without| {
        let mut shell = shell(3, without, false);
        for peer in [0, 3] {
            shell.cluster.part(1, peer, true);
        }
        run(&mut shell, 3000);
        shell.cluster.cut = vec![vec![false; 4]; 4];
        shell.cluster.nodes[1].upstream = None;
        shell.cluster.kill(0);
        shell.cluster.kill(2);
        run(&mut shell, 3000);
        shell.cluster.start(2, 10);
        run(&mut shell, 5000);
        lost(&mut shell);
        shell
    });
}

/// The lower id is not the better candidate.
#[test]
fn the_most_advanced_replica_is_promoted() {
    trap(RuleId::R4a, |without| {
        let mut shell = shell(3, without, false);
        shell.cluster.part(1, 0, true);
        run(&mut shell, 600);
        shell.cluster.kill(0);
        shell.cluster.part(1, 0, false);
        run(&mut shell, 3000);
        lost(&mut shell);
        shell
    });
}

/// T3: transaction ids are used again after the promotion.
#[test]
fn commits_in_doubt_are_resolved_before_the_promotion() {
    trap(RuleId::R5a, |without| {
        let mut shell = shell(3, without, false);
        shell.cluster.kill(0);
        run(&mut shell, 2000);
        shell
    });
}

/// T2: a replica that is ahead of the candidate would acknowledge what it does not have.
#[test]
fn a_follower_ahead_of_the_candidate_is_not_repointed_under_its_own_name() {
    trap(RuleId::R6a, |without| {
        let mut shell = shell(3, without, false);
        // n1 falls far behind, then a person insists on it although n2 has more.
        shell.cluster.part(1, 0, true);
        run(&mut shell, 1500);
        shell.cluster.kill(0);
        shell.odds.agent = false;
        failover(&mut shell, 1, true);
        run(&mut shell, 3000);
        shell
    });
}

/// T2: a diverged node that returns claims its own position in its first reply.
#[test]
fn a_returning_node_is_neutral_until_it_is_vetted() {
    trap(RuleId::R8a, |without| {
        let mut shell = shell(3, without, true);
        // n0 writes on alone, n2 is away and nobody starts it; somebody promotes n1 by hand, which is adopted without knowing
        // the fork.
        shell.odds.agent = false;
        for peer in [1, 2, 3] {
            shell.cluster.part(0, peer, true);
        }
        shell.cluster.kill(2);
        run(&mut shell, 100);
        shell.cluster.kill(0);
        let at = shell.cluster.now;
        shell.cluster.nodes[1].promote_at = Some(at);
        run(&mut shell, 3000);
        // n0 returns as a standby with the WAL that nobody else has.
        shell.odds.agent = true;
        shell.cluster.cut = vec![vec![false; 4]; 4];
        shell.cluster.nodes[0].in_recovery = true;
        shell.cluster.nodes[0].upstream = None;
        shell.cluster.start(0, 10);
        run(&mut shell, 3000);
        shell
    });
}

fn degrading(without: Option<RuleId>) -> Shell {
    let mut shell = shell(3, without, false);
    let degrade = Some(Degrade { standbys_min: 0, after: std::time::Duration::from_millis(500) });
    shell.settings.degrade = degrade;
    shell.kill_proxy(10);
    run(&mut shell, 500);
    shell
}

/// The replicas return and still lack most of what the primary acknowledged alone when it dies.
#[test]
fn the_quorum_is_whole_only_when_the_replicas_have_everything() {
    trap(RuleId::Q1e, |without| {
        let mut shell = degrading(without);
        for i in [1, 2] {
            shell.cluster.nodes[i].slow = 4;
            shell.cluster.part(0, i, true);
        }
        run(&mut shell, 2500);
        for i in [1, 2] {
            shell.cluster.part(0, i, false);
        }
        // They come nearer, are asked for again, and the last that the primary acknowledged alone is still on its way.
        for _ in 0..30_000 {
            if !shell.cluster.nodes[0].sync_text.is_empty() {
                break;
            }
            shell.tick();
        }
        run(&mut shell, 250);
        shell.cluster.kill(0);
        run(&mut shell, 3000);
        shell.cluster.start(0, 10);
        run(&mut shell, 3000);
        lost(&mut shell);
        shell
    });
}

/// Commits are acknowledged by the primary alone before that is noted, and it dies.
#[test]
fn going_on_alone_is_noted_before_the_first_commit() {
    trap(RuleId::Q1b, |without| {
        let mut shell = degrading(without);
        for i in [1, 2] {
            shell.cluster.part(0, i, true);
        }
        for _ in 0..5000 {
            shell.tick();
            if shell.cluster.nodes[0].sync_text.is_empty() {
                break;
            }
        }
        run(&mut shell, 15);
        shell.cluster.kill(0);
        run(&mut shell, 3000);
        shell.cluster.start(0, 10);
        run(&mut shell, 3000);
        lost(&mut shell);
        shell
    });
}

/// The proxy dies in a promotion and is back before it is through: the old primary answers, and is not the primary any more.
#[test]
fn a_promotion_under_way_is_not_taken_for_undone() {
    trap(RuleId::R7f, |without| {
        // At which moment it comes true decides; each is lived through.
        let lives = (20..50).map(|after| {
            let mut shell = shell(3, without, true);
            let command = Command::Switchover { to: Some(NodeId(1)), dry_run: false };
            shell.feed(Input::Command { id: CommandId(1), command });
            for _ in 0..1000 {
                if shell.cluster.nodes[1].promote_at.is_some() {
                    break;
                }
                shell.tick();
            }
            let promoted_at = shell.cluster.now + after;
            shell.cluster.nodes[1].promote_at = Some(promoted_at);
            shell.kill_proxy(20);
            run(&mut shell, 3000);
            lost(&mut shell);
            shell
        });
        lives
            .reduce(|worst, life| if worst.violations.is_empty() { life } else { worst })
            .expect("some lives")
    });
}

/// An epoch that was used before its intent was durable is used again for another primary.
#[test]
fn intent_is_durable_before_the_deed() {
    trap(RuleId::R7a, |without| {
        let mut shell = shell(3, without, false);
        shell.journal_ms = 400;
        failover(&mut shell, 1, false);
        for _ in 0..3000 {
            shell.tick();
            if shell.snapshot.primary == Some(NodeId(1)) {
                break;
            }
        }
        shell.kill_proxy(20);
        shell.journal_ms = 0;
        shell.cluster.kill(1);
        run(&mut shell, 500);
        failover(&mut shell, 2, true);
        run(&mut shell, 5000);
        shell.violations.retain(|violation| violation.contains("epoch"));
        shell
    });
}

/// The replicas still hear the primary that does not answer us.
#[test]
fn a_primary_that_its_replicas_hear_is_not_replaced() {
    trap(RuleId::R1d, |without| {
        let mut shell = shell(3, without, true);
        shell.cluster.part(0, 3, true);
        run(&mut shell, 5000);
        if !shell.history.is_empty() {
            shell.violations.push("a primary that works was replaced".into());
        }
        shell
    });
}

/// Somebody promoted a node that nobody follows.
#[test]
fn a_promotion_that_nobody_follows_is_not_adopted() {
    trap(RuleId::R9b, |without| {
        let mut shell = shell(3, without, false);
        let at = shell.cluster.now;
        shell.cluster.nodes[2].promote_at = Some(at);
        run(&mut shell, 4000);
        lost(&mut shell);
        shell
    });
}

/// T8: a diverged node looks healthy and serves dead rows.
#[test]
fn a_replica_of_another_history_serves_no_reads() {
    trap(RuleId::V1b, |without| {
        let mut shell = shell(3, without, false);
        // n2 keeps WAL that never was acknowledged, and is out of the actuator's reach but not of the probes'.
        shell.odds.agent = false;
        let wal = shell.cluster.nodes[2].wal.clone();
        shell.cluster.kill(0);
        run(&mut shell, 3000);
        shell.cluster.kill(2);
        let junk = (0..50).map(|i| super::cluster::Rec { timeline: 1, id: 1_000_000 + i });
        shell.cluster.nodes[2].wal = wal.into_iter().chain(junk).collect();
        shell.cluster.nodes[2].timeline = 1;
        shell.cluster.start(2, 10);
        run(&mut shell, 500);
        let dead = shell.dead_rows();
        if !dead.is_empty() {
            shell.violations.push(format!("dead rows would be read from {dead:?}"));
        }
        shell.violations.retain(|violation| violation.contains("dead rows"));
        shell
    });
}

/// A diverged node is rewound; without that it never gets back.
#[test]
fn a_diverged_node_is_rewound() {
    trap(RuleId::R8c, |without| {
        let mut shell = shell(3, without, true);
        for peer in [1, 2, 3] {
            shell.cluster.part(0, peer, true);
        }
        run(&mut shell, 50);
        shell.cluster.kill(0);
        run(&mut shell, 2000);
        shell.cluster.cut = vec![vec![false; 4]; 4];
        shell.cluster.nodes[0].in_recovery = true;
        shell.cluster.start(0, 10);
        run(&mut shell, 8000);
        if let Some(why) = shell.unsettled() {
            shell.violations.push(why);
        }
        shell
    });
}

/// Two of three servers are dead and nobody can be promoted: unless they are started, that is the end.
#[test]
fn servers_that_crashed_are_started_again() {
    trap(RuleId::R8h, |without| {
        let mut shell = shell(3, without, false);
        (0..3).for_each(|i| shell.cluster.kill(i));
        run(&mut shell, 8000);
        if let Some(why) = shell.unsettled() {
            shell.violations.push(why);
        }
        shell
    });
}

/// A network that comes and goes looks like one dead primary after another.
#[test]
fn primaries_are_not_replaced_again_and_again_on_soft_evidence() {
    trap(RuleId::R10a, |without| {
        let mut shell = shell(3, without, false);
        for _ in 0..3 {
            let Some(primary) = shell.snapshot.writable_primary() else { break };
            shell.cluster.nodes[primary.index()].frozen = true;
            run(&mut shell, 2000);
            shell.cluster.nodes[primary.index()].frozen = false;
            run(&mut shell, 2000);
        }
        let changes = shell.history.iter().filter(|entry| entry.to.is_some()).count();
        if changes > 1 {
            shell.violations.push(format!("{changes} changes of primary within seconds"));
        }
        shell
    });
}

/// A candidate was promoted and given up, and another one has made a timeline of the same number: what the first one says of
/// itself looks right, and is another history.
#[test]
fn another_history_under_the_number_of_the_timeline_is_not_taken_for_ours() {
    trap(RuleId::R8g, |without| {
        let mut shell = shell(3, without, true);
        shell.cluster.kill(0);
        let told = |shell: &Shell| [1, 2].into_iter().find(|i| shell.cluster.nodes[*i].promote_at.is_some());
        for _ in 0..1000 {
            shell.tick();
            if told(&shell).is_some() {
                break;
            }
        }
        let half = told(&shell).expect("a candidate is told to promote");
        // Its answer gets lost; it is a primary, and its own clients write.
        for peer in [0, 3 - half, 3] {
            shell.cluster.part(half, peer, true);
        }
        shell.cluster.start(0, 100);
        run(&mut shell, 5000);
        assert_eq!(shell.snapshot.primary, Some(NodeId(3 - half as u16)), "the other one leads");
        shell.cluster.kill(half);
        shell.cluster.cut = vec![vec![false; 4]; 4];
        shell.cluster.nodes[half].in_recovery = true;
        shell.cluster.start(half, 10);
        for _ in 0..6 {
            run(&mut shell, 2000);
            shell.person();
        }
        run(&mut shell, 2000);
        if let Some(why) = shell.unsettled() {
            shell.violations.push(why);
        }
        lost(&mut shell);
        shell
    });
}

/// A candidate is promoted and its answer gets lost, together with those who follow it; its own clients are told that their
/// writes are safe, which they are, on it and on its follower. Then the old primary returns as a standby.
#[test]
fn what_was_acknowledged_by_a_half_promoted_node_is_not_lost() {
    for follower_is_cut_after in [100, 300, 500] {
        let mut shell = shell(3, None, true);
        shell.cluster.kill(0);
        for _ in 0..1000 {
            shell.tick();
            if shell.cluster.nodes[1].promote_at.is_some() {
                break;
            }
        }
        assert!(shell.cluster.nodes[1].promote_at.is_some(), "the first one is told to promote");
        shell.cluster.part(1, 3, true);
        let before = shell.acked.len();
        run(&mut shell, follower_is_cut_after);
        shell.cluster.part(2, 3, true);
        shell.cluster.nodes[0].in_recovery = true;
        shell.cluster.start(0, 10);
        run(&mut shell, 4000);
        assert!(shell.acked.len() > before, "nothing was acknowledged by the half promoted one");
        heal(&mut shell);
        for _ in 0..10 {
            run(&mut shell, 2000);
            shell.person();
        }
        lost(&mut shell);
        assert!(shell.violations.is_empty(), "{:#?}\n{}", shell.violations, shell.trace.join("\n"));
    }
}

#[test]
fn the_simulated_cluster_itself_commits_with_a_quorum() {
    let mut cluster = Cluster::new(3, "ANY 1 (n0, n1, n2)");
    for _ in 0..100 {
        cluster.now += 1;
        cluster.tick();
    }
    let id = cluster.commit(0, None).expect("the primary takes writes");
    let mut released = Vec::new();
    for _ in 0..20 {
        cluster.now += 1;
        released.extend(cluster.tick());
    }
    assert!(released.iter().any(|one| one.pending.id == id));
}
