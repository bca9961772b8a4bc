//! Picks the node to promote. In: what each recruit holds. Out: one node, or why none. Never looks at the clock.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::input::Recruit;
use crate::model::NodeId;

/// One node that could be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Runner {
    pub(super) node: NodeId,
    pub(super) recruit: Recruit,
    /// Zero: must not be promoted.
    pub(super) priority: u32,
    /// It answers now; a recruit that has died since still proves what was acknowledged, but cannot be promoted.
    pub(super) up: bool,
}

/// Why nobody is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCandidate {
    /// Nobody is up and may be promoted.
    Nobody,
    /// This one has more than all that are up and may be promoted.
    Ahead(NodeId),
    /// The node asked for has less than this one.
    TargetBehind(NodeId),
    /// The node asked for is not recruited, not up, or may not be promoted.
    TargetUnfit,
}

/// What is wished for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// This node and no other.
    pub(super) target: Option<NodeId>,
    /// Even if it has less than another one.
    pub(super) allow_data_loss: bool,
}

/// How far a recruit is: newer timelines are further whatever their positions.
pub(super) fn progress(recruit: &Recruit) -> (crate::model::Timeline, crate::model::Lsn) {
    (recruit.timeline, recruit.received)
}

/// The node to promote.
pub(super) fn choose(runners: &[Runner], wish: Wish) -> Result<NodeId, NoCandidate> {
    let fit = |runner: &&Runner| runner.up && runner.priority > 0;
    let furthest = runners.iter().map(|runner| progress(&runner.recruit)).max().ok_or(NoCandidate::Nobody)?;
    let behind = |runner: &Runner| progress(&runner.recruit) < furthest && !wish.allow_data_loss;
    let holder =
        || runners.iter().find(|runner| progress(&runner.recruit) == furthest).map(|runner| runner.node);
    if let Some(target) = wish.target {
        let runner = runners.iter().filter(fit).find(|runner| runner.node == target);
        return match runner {
            None => Err(NoCandidate::TargetUnfit),
            Some(runner) if behind(runner) => Err(NoCandidate::TargetBehind(holder().unwrap_or(target))),
            Some(_) => Ok(target),
        };
    }
    let best = runners
        .iter()
        .filter(fit)
        .max_by_key(|runner| (progress(&runner.recruit), runner.priority, Reverse(runner.node)))
        .ok_or(NoCandidate::Nobody)?;
    if behind(best) { Err(NoCandidate::Ahead(holder().unwrap_or(best.node))) } else { Ok(best.node) }
}

/// Which recruits may follow the candidate before it is promoted: those on its timeline that are not ahead of it (T2).
pub(super) fn followers(recruits: &BTreeMap<NodeId, Recruit>, candidate: NodeId) -> Vec<NodeId> {
    let Some(chosen) = recruits.get(&candidate) else { return Vec::new() };
    let behind =
        |recruit: &Recruit| recruit.timeline == chosen.timeline && recruit.received <= chosen.received;
    recruits
        .iter()
        .filter(|(node, recruit)| **node != candidate && behind(recruit))
        .map(|(node, _)| *node)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Lsn, Timeline};

    fn runner(node: u16, timeline: u32, received: u64) -> Runner {
        let recruit = Recruit { received: Lsn(received), replayed: Lsn(0), timeline: Timeline(timeline) };
        Runner { node: NodeId(node), recruit, priority: 100, up: true }
    }

    #[test]
    fn timeline_then_wal_then_priority_then_id() {
        let pick = |runners: &[Runner]| choose(runners, Wish::default());
        assert_eq!(pick(&[runner(1, 1, 900), runner(2, 2, 100)]), Ok(NodeId(2)));
        assert_eq!(pick(&[runner(1, 1, 100), runner(2, 1, 101)]), Ok(NodeId(2)));
        let preferred = Runner { priority: 200, ..runner(2, 1, 100) };
        assert_eq!(pick(&[runner(1, 1, 100), preferred]), Ok(NodeId(2)));
        assert_eq!(pick(&[runner(2, 1, 100), runner(1, 1, 100)]), Ok(NodeId(1)));
        assert_eq!(pick(&[]), Err(NoCandidate::Nobody));
    }

    #[test]
    fn a_recruit_that_died_is_not_promoted_and_not_passed_over() {
        let dead = Runner { up: false, ..runner(1, 1, 200) };
        assert_eq!(choose(&[dead, runner(2, 1, 100)], Wish::default()), Err(NoCandidate::Ahead(NodeId(1))));
        let level = Runner { up: false, ..runner(1, 1, 100) };
        assert_eq!(choose(&[level, runner(2, 1, 100)], Wish::default()), Ok(NodeId(2)));
        let person = Wish { allow_data_loss: true, ..Wish::default() };
        assert_eq!(choose(&[dead, runner(2, 1, 100)], person), Ok(NodeId(2)));
    }

    #[test]
    fn a_target_must_have_everything_unless_a_person_allows_the_loss() {
        let all = [runner(1, 1, 200), runner(2, 1, 100)];
        let wish = Wish { target: Some(NodeId(2)), allow_data_loss: false };
        assert_eq!(choose(&all, wish), Err(NoCandidate::TargetBehind(NodeId(1))));
        assert_eq!(choose(&all, Wish { allow_data_loss: true, ..wish }), Ok(NodeId(2)));
        assert_eq!(choose(&all, Wish { target: Some(NodeId(7)), ..wish }), Err(NoCandidate::TargetUnfit));
    }

    #[test]
    fn nobody_with_less_than_another_recruit_is_ever_chosen() {
        // All of three runners over two timelines, three positions, two priorities, up or down.
        let kinds: Vec<(u32, u64, u32, bool)> = (1..=2)
            .flat_map(|timeline| (0..3).map(move |lsn| (timeline, lsn)))
            .flat_map(|(timeline, lsn)| [(timeline, lsn, 0), (timeline, lsn, 9)])
            .flat_map(|(timeline, lsn, priority)| {
                [(timeline, lsn, priority, true), (timeline, lsn, priority, false)]
            })
            .collect();
        for a in &kinds {
            for b in &kinds {
                for c in &kinds {
                    let all: Vec<Runner> = [a, b, c]
                        .iter()
                        .zip(0..)
                        .map(|((t, l, p, up), id)| Runner { priority: *p, up: *up, ..runner(id, *t, *l) })
                        .collect();
                    if let Ok(chosen) = choose(&all, Wish::default()) {
                        let chosen = all[chosen.index()];
                        assert!(chosen.up && chosen.priority > 0);
                        assert!(all.iter().all(|r| progress(&r.recruit) <= progress(&chosen.recruit)));
                    }
                }
            }
        }
    }
}
