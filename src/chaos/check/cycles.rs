//! Finds cycles: strongly connected components (Tarjan, without recursion), then in each a short cycle of the worst kind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use super::graph::{Because, Graph};
use super::{Anomaly, Kind};

/// So many members of a component are tried as the beginning of a cycle: each may cost a walk over all of it.
const STARTS_MAX: usize = 16;

const WRITES: &[Because] = &[Because::Wrote];
const READS: &[Because] = &[Because::Wrote, Because::WasRead];
const ALL_DATA: &[Because] = &[Because::Wrote, Because::WasRead, Because::DidNotSee];
const ALL: &[Because] =
    &[Because::Wrote, Because::WasRead, Because::DidNotSee, Because::Client, Because::Time];

/// One finding per component.
pub(super) fn find(graph: &Graph) -> Vec<Anomaly> {
    components(graph, ALL).into_iter().filter_map(|members| explain(graph, &members)).collect()
}

/// The worst kind of cycle that a component has.
fn explain(graph: &Graph, members: &BTreeSet<usize>) -> Option<Anomaly> {
    let inner = graph.only(members);
    let cycle = |kind, allowed| {
        let component = components(&inner, allowed).into_iter().next()?;
        let ways = component
            .iter()
            .take(STARTS_MAX)
            .filter_map(|start| shortest(&inner, &component, (*start, allowed, false)));
        Some((kind, ways.min_by_key(Vec::len)?))
    };
    let skew = || {
        // The edge that does not fit is the first of the way.
        let skips = |at: &&usize| {
            inner
                .edges
                .get(**at)
                .is_some_and(|edges| edges.values().any(|because| *because == Because::DidNotSee))
        };
        let starts = members.iter().filter(skips).take(STARTS_MAX);
        let ways = starts.filter_map(|start| shortest(&inner, members, (*start, READS, true)));
        Some((Kind::ReadSkew, ways.min_by_key(Vec::len)?))
    };
    let (kind, way) = cycle(Kind::WriteCycle, WRITES)
        .or_else(|| cycle(Kind::ReadCycle, READS))
        .or_else(skew)
        .or_else(|| cycle(Kind::WriteSkew, ALL_DATA))
        .or_else(|| cycle(Kind::OutOfOrder, ALL))?;
    Some(Anomaly { kind, story: tell(graph, &way) })
}

/// The shortest way from `start` back to it over edges of these kinds inside of the component; where `skips`, its first edge
/// is one of `DidNotSee`.
fn shortest(
    graph: &Graph,
    members: &BTreeSet<usize>,
    (start, allowed, skips): (usize, &[Because], bool),
) -> Option<Vec<usize>> {
    let mut came_from = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        let first = at == start && skips;
        for (&next, because) in graph.edges.get(at)? {
            let fits = if first { *because == Because::DidNotSee } else { allowed.contains(because) };
            if !fits || !members.contains(&next) {
                continue;
            }
            if next == start {
                return Some(way_back(&came_from, start, at));
            }
            if let std::collections::btree_map::Entry::Vacant(vacant) = came_from.entry(next) {
                vacant.insert(at);
                queue.push_back(next);
            }
        }
    }
    None
}

fn way_back(came_from: &BTreeMap<usize, usize>, start: usize, end: usize) -> Vec<usize> {
    let mut way = vec![end];
    while let Some(before) = way.last().filter(|at| **at != start).and_then(|at| came_from.get(at)) {
        way.push(*before);
    }
    way.reverse();
    way
}

fn tell(graph: &Graph, cycle: &[usize]) -> String {
    let mut story = String::new();
    for (n, at) in cycle.iter().enumerate() {
        let next = cycle.get(n + 1).or(cycle.first()).copied().unwrap_or_default();
        let because = graph.edges.get(*at).and_then(|edges| edges.get(&next));
        // Writing to a string cannot fail.
        write!(story, "{at} {} ", because.map_or("?", |because| because.as_str())).ok();
    }
    write!(story, "{}", cycle.first().copied().unwrap_or_default()).ok();
    story
}

/// Strongly connected components of more than one transaction, over edges of these kinds.
fn components(graph: &Graph, allowed: &[Because]) -> Vec<BTreeSet<usize>> {
    let follow = |edges: &BTreeMap<usize, Because>| {
        edges.iter().filter(|(_, because)| allowed.contains(because)).map(|(to, _)| *to).collect()
    };
    let mut search = Search {
        edges: graph.edges.iter().map(follow).collect(),
        numbers: vec![None; graph.edges.len()],
        lowest: vec![0; graph.edges.len()],
        on_stack: vec![false; graph.edges.len()],
        stack: Vec::new(),
        next: 0,
        found: Vec::new(),
    };
    for root in 0..graph.edges.len() {
        search.from(root);
    }
    search.found
}

struct Search {
    edges: Vec<Vec<usize>>,
    numbers: Vec<Option<usize>>,
    lowest: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    next: usize,
    found: Vec<BTreeSet<usize>>,
}

impl Search {
    #[expect(
        clippy::indexing_slicing,
        reason = "every number comes from the graph, which all these are as long as"
    )]
    fn from(&mut self, root: usize) {
        if self.numbers[root].is_some() {
            return;
        }
        self.enter(root);
        // A transaction on the way, and how many of its edges were followed.
        let mut way = vec![(root, 0)];
        while let Some((at, followed)) = way.last_mut() {
            let at = *at;
            let next = self.edges[at].get(*followed).copied();
            *followed += 1;
            match next {
                Some(next) if self.numbers[next].is_none() => {
                    self.enter(next);
                    way.push((next, 0));
                }
                Some(next) => {
                    if let Some(number) = self.numbers[next].filter(|_| self.on_stack[next]) {
                        self.lowest[at] = self.lowest[at].min(number);
                    }
                }
                None => {
                    way.pop();
                    if let Some((before, _)) = way.last() {
                        self.lowest[*before] = self.lowest[*before].min(self.lowest[at]);
                    }
                    if Some(self.lowest[at]) == self.numbers[at] {
                        self.leave(at);
                    }
                }
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "as above")]
    fn enter(&mut self, at: usize) {
        self.numbers[at] = Some(self.next);
        self.lowest[at] = self.next;
        self.next += 1;
        self.stack.push(at);
        self.on_stack[at] = true;
    }

    #[expect(clippy::indexing_slicing, reason = "as above")]
    fn leave(&mut self, at: usize) {
        let mut members = BTreeSet::new();
        while let Some(member) = self.stack.pop() {
            self.on_stack[member] = false;
            members.insert(member);
            if member == at {
                break;
            }
        }
        if members.len() > 1 {
            self.found.push(members);
        }
    }
}
