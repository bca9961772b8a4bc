//! Picks one of several nodes that could all serve: two are drawn by weight, the less loaded one takes it.
//!
//! Two choices spread almost as evenly as asking everybody, and do not send every worker to the same idle node at
//! once (Mitzenmacher 2001). Drawing by weight makes idle nodes share in proportion as well.

use smallvec::SmallVec;

use super::dice::Dice;
use crate::model::NodeId;

/// A node that could serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) node: NodeId,
    /// Its share; not zero.
    pub(super) weight: u32,
    /// Statements that it is working on.
    pub(super) load: u32,
    /// It is in the proxy's own zone.
    pub(super) near: bool,
}

/// Candidates of one decision.
pub(super) type Candidates = SmallVec<[Candidate; 8]>;

/// The node that takes it; `None` without candidates. Near ones come first.
pub(super) fn pick(mut candidates: Candidates, dice: &mut impl Dice) -> Option<NodeId> {
    if candidates.iter().any(|candidate| candidate.near) {
        candidates.retain(|candidate| candidate.near);
    }
    let first = draw(&mut candidates, dice)?;
    let Some(second) = draw(&mut candidates, dice) else { return Some(first.node) };
    // load / weight, multiplied out. A tie stays with the first, which was drawn by weight.
    let first_busier =
        u64::from(first.load) * u64::from(second.weight) > u64::from(second.load) * u64::from(first.weight);
    Some(if first_busier { second.node } else { first.node })
}

/// Takes one out, each as likely as its weight says.
fn draw(candidates: &mut Candidates, dice: &mut impl Dice) -> Option<Candidate> {
    let total = candidates.iter().fold(0_u32, |sum, candidate| sum.saturating_add(candidate.weight));
    let mut at = dice.below(total);
    let index = candidates.iter().position(|candidate| match at.checked_sub(candidate.weight) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    });
    let index = index.or_else(|| candidates.len().checked_sub(1))?;
    Some(candidates.swap_remove(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(node: u16, weight: u32, load: u32) -> Candidate {
        Candidate { node: NodeId(node), weight, load, near: false }
    }

    fn shares(candidates: &[Candidate], throws: u32) -> Vec<u32> {
        let mut dice = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; candidates.len()];
        for _ in 0..throws {
            counts[pick(candidates.into(), &mut dice).unwrap().index()] += 1;
        }
        counts
    }

    #[test]
    fn equal_nodes_share_evenly() {
        for nodes in 2..6_u16 {
            let candidates: Vec<_> = (0..nodes).map(|n| candidate(n, 1, 3)).collect();
            let fair = 10_000 / u32::from(nodes);
            for count in shares(&candidates, 10_000) {
                assert!((fair * 8 / 10..=fair * 12 / 10).contains(&count), "{count} of {fair}");
            }
        }
    }

    #[test]
    fn idle_nodes_share_by_weight() {
        let counts = shares(&[candidate(0, 1, 0), candidate(1, 3, 0)], 10_000);
        assert!((2_200..=2_800).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn the_less_loaded_of_two_always_takes_it() {
        assert_eq!(shares(&[candidate(0, 1, 5), candidate(1, 1, 4)], 1_000), [0, 1_000]);
        assert_eq!(shares(&[candidate(0, 2, 5), candidate(1, 1, 3)], 1_000), [1_000, 0]);
    }

    #[test]
    fn outstanding_work_follows_the_weights() {
        let mut dice = fastrand::Rng::with_seed(11);
        let mut load = [0_u32; 3];
        for _ in 0..6_000 {
            let candidates =
                load.iter().zip(0_u16..).map(|(load, n)| candidate(n, u32::from(n) + 1, *load)).collect();
            load[pick(candidates, &mut dice).unwrap().index()] += 1;
        }
        for (load, fair) in load.iter().zip([1_000_u32, 2_000, 3_000]) {
            assert!(load.abs_diff(fair) < 60, "{load} {fair}");
        }
    }

    #[test]
    fn near_nodes_come_first_and_weights_may_be_huge() {
        let near = Candidate { near: true, ..candidate(1, 1, 1_000) };
        assert_eq!(shares(&[candidate(0, u32::MAX, 0), near, candidate(2, u32::MAX, 0)], 100), [0, 100, 0]);
        let counts = shares(&[candidate(0, u32::MAX, 0), candidate(1, u32::MAX, 0)], 100);
        assert_eq!(counts.iter().sum::<u32>(), 100);
        assert_eq!(pick(Candidates::new(), &mut fastrand::Rng::with_seed(1)), None);
    }
}
