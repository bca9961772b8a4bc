//! Who must come before whom.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{List, Member};
use super::Order;

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Because {
    /// It appended the member before the other's.
    Wrote,
    /// The other saw what it appended.
    WasRead,
    /// It did not see what the other appended.
    DidNotSee,
    /// The same client asked for the other after it was answered.
    Client,
    /// The other began after it was answered.
    Time,
}

impl Because {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Wrote => "wrote before",
            Self::WasRead => "was seen by",
            Self::DidNotSee => "did not see",
            Self::Client => "was answered before (same client)",
            Self::Time => "was answered before",
        }
    }
}

/// Edges by their beginning; between two transactions the strongest reason is kept.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) edges: Vec<BTreeMap<usize, Because>>,
}

impl Graph {
    /// The edges among these alone.
    pub(super) fn only(&self, members: &BTreeSet<usize>) -> Self {
        let mut edges = vec![BTreeMap::new(); self.edges.len()];
        for &member in members {
            let (Some(all), Some(kept)) = (self.edges.get(member), edges.get_mut(member)) else { continue };
            *kept = all
                .iter()
                .filter(|(to, _)| members.contains(to))
                .map(|(to, because)| (*to, *because))
                .collect();
        }
        Self { edges }
    }

    fn add(&mut self, from: usize, to: usize, because: Because) {
        if from == to {
            return;
        }
        if let Some(edges) = self.edges.get_mut(from) {
            let known = edges.entry(to).or_insert(because);
            *known = (*known).min(because);
        }
    }
}

pub(super) fn build(order: &Order<'_>) -> Graph {
    let mut graph = Graph { edges: vec![BTreeMap::new(); order.history.len()] };
    for (list, members) in order.last {
        for pair in members.windows(2) {
            let [earlier, later] = pair else { continue };
            if let (Some((from, _)), Some((to, _))) =
                (order.writer(*list, *earlier), order.writer(*list, *later))
            {
                graph.add(from, to, Because::Wrote);
            }
        }
    }
    for (at, transaction) in order.history.iter().enumerate().filter(|(at, _)| order.is_serializable(*at)) {
        for (list, members) in transaction.reads() {
            read_edges(order, &mut graph, (at, list, members));
        }
    }
    client_edges(order, &mut graph);
    time_edges(order, &mut graph);
    graph
}

fn read_edges(order: &Order<'_>, graph: &mut Graph, (at, list, members): (usize, List, &[Member])) {
    if let Some((writer, _)) = members.last().and_then(|newest| order.writer(list, *newest)) {
        graph.add(writer, at, Because::WasRead);
    }
    let next = order.last.get(&list).and_then(|last| last.get(members.len()));
    if let Some((writer, _)) = next.and_then(|member| order.writer(list, *member)) {
        graph.add(at, writer, Because::DidNotSee);
    }
}

/// A client's acknowledged writes come before all that it asks for later.
fn client_edges(order: &Order<'_>, graph: &mut Graph) {
    let mut last_write = BTreeMap::new();
    for at in by_begin(order).into_iter().filter(|at| order.is_serializable(*at)) {
        let Some(transaction) = order.history.get(at) else { continue };
        if let Some(before) = last_write.get(&transaction.client) {
            graph.add(*before, at, Because::Client);
        }
        let acknowledged = transaction.end == super::End::Committed;
        if acknowledged && transaction.appends().next().is_some() {
            last_write.insert(transaction.client, at);
        }
    }
}

/// Whatever was answered before another began comes before it, where both ran on the primary. Kept few: only from those
/// that no other answered transaction stands between.
fn time_edges(order: &Order<'_>, graph: &mut Graph) {
    let begins: Vec<usize> = by_begin(order).into_iter().filter(|at| order.is_serializable(*at)).collect();
    let mut ends: Vec<usize> = begins
        .iter()
        .copied()
        .filter(|at| order.history.get(*at).is_some_and(|t| t.end == super::End::Committed))
        .collect();
    ends.sort_by_key(|at| order.history.get(*at).map(|t| t.ended));
    let mut ended = ends.into_iter().peekable();
    let mut frontier: Vec<usize> = Vec::new();
    for at in begins {
        let Some(begun) = order.history.get(at).map(|t| t.begun) else { continue };
        while let Some(done) = ended.next_if(|done| order.history.get(*done).is_some_and(|t| t.ended < begun))
        {
            let since = order.history.get(done).map_or(0, |t| t.begun);
            frontier.retain(|earlier| order.history.get(*earlier).is_some_and(|t| t.ended >= since));
            frontier.push(done);
        }
        for done in &frontier {
            graph.add(*done, at, Because::Time);
        }
    }
}

fn by_begin(order: &Order<'_>) -> Vec<usize> {
    let mut all: Vec<usize> = (0..order.history.len()).collect();
    all.sort_by_key(|at| order.history.get(*at).map(|t| t.begun));
    all
}
