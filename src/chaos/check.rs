//! Holds a history of list appends against what serializable transactions on one copy of the data could have done.
//!
//! The lists are their own log: the final list is the order in which its members were committed, so a read tells which
//! transactions it came after and which before. From that follow dependencies between transactions (write-write,
//! write-read, read-write), beside those of every client's own order and of time; a cycle among them is an anomaly that
//! no order of the transactions explains. The idea is Adya's (generalized isolation levels, 2000) as Elle uses it
//! (Kingsbury and Alvaro, VLDB 2020).

mod cycles;
mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::history::{End, List, Lists, Member, Transaction};

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An acknowledged append is not there.
    Lost,
    /// A member is there twice.
    Duplicated,
    /// Somebody saw what was rolled back (G1a).
    AbortedRead,
    /// Somebody saw what was in the middle of another transaction (G1b).
    IntermediateRead,
    /// Somebody saw a member that nobody appended.
    Invented,
    /// A list was seen that is not a beginning of the final one.
    Forked,
    /// Writes that come before one another (G0).
    WriteCycle,
    /// Transactions that see one another (G1c).
    ReadCycle,
    /// One read that does not fit, as in lost updates and read skew (G-single).
    ReadSkew,
    /// Several reads that do not fit together, as in write skew (G2).
    WriteSkew,
    /// Fits some order, but not the one in which the clients waited for their answers.
    OutOfOrder,
}

impl Kind {
    /// The word for reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::AbortedRead => "aborted-read",
            Self::IntermediateRead => "intermediate-read",
            Self::Invented => "invented",
            Self::Forked => "forked",
            Self::WriteCycle => "write-cycle",
            Self::ReadCycle => "read-cycle",
            Self::ReadSkew => "read-skew",
            Self::WriteSkew => "write-skew",
            Self::OutOfOrder => "out-of-order",
        }
    }
}

/// One finding, in words that a person can follow up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// What it is.
    pub kind: Kind,
    /// Where: lists, members, transactions by their number in the history.
    pub story: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.story)
    }
}

/// Everything that is wrong with a history whose lists ended as `last`.
pub fn anomalies(history: &[Transaction], last: &Lists) -> Vec<Anomaly> {
    let order = Order::new(history, last);
    let mut found = Vec::new();
    order.check_final(&mut found);
    for at in 0..history.len() {
        order.check_reads(at, &mut found);
    }
    // Edges out of lists that contradict each other would accuse the innocent.
    if found.is_empty() {
        found.extend(cycles::find(&graph::build(&order)));
    }
    found
}

/// A history with the order of its writes.
struct Order<'h> {
    history: &'h [Transaction],
    last: &'h Lists,
    /// Who appended a member.
    writers: BTreeMap<(List, Member), usize>,
    /// Where a member stands in its final list.
    places: BTreeMap<(List, Member), usize>,
}

impl<'h> Order<'h> {
    fn new(history: &'h [Transaction], last: &'h Lists) -> Self {
        let writers = history
            .iter()
            .enumerate()
            .flat_map(|(at, transaction)| transaction.appends().map(move |append| (append, at)))
            .collect();
        let mut places = BTreeMap::new();
        for (list, members) in last {
            for (place, member) in members.iter().enumerate() {
                places.entry((*list, *member)).or_insert(place);
            }
        }
        Self { history, last, writers, places }
    }

    fn writer(&self, list: List, member: Member) -> Option<(usize, &'h Transaction)> {
        let at = *self.writers.get(&(list, member))?;
        Some((at, self.history.get(at)?))
    }

    /// Whether it is one of those that some order has to explain: committed, and no read by itself, which no server isolates.
    fn is_serializable(&self, at: usize) -> bool {
        self.is_committed(at) && self.history.get(at).is_some_and(|transaction| !transaction.anywhere)
    }

    /// Whether the transaction is known, or seen, to be committed.
    fn is_committed(&self, at: usize) -> bool {
        let Some(transaction) = self.history.get(at) else { return false };
        match transaction.end {
            End::Committed => true,
            End::RolledBack => false,
            End::Unknown => transaction.appends().any(|append| self.places.contains_key(&append)),
        }
    }

    /// The final lists by themselves: every acknowledged append once, nothing that was rolled back or made up.
    fn check_final(&self, found: &mut Vec<Anomaly>) {
        for (list, members) in self.last {
            let mut seen = BTreeSet::new();
            for member in members {
                if !seen.insert(member) {
                    let story = format!("member {member} is twice in list {list}");
                    found.push(Anomaly { kind: Kind::Duplicated, story });
                }
                self.check_member((*list, *member), "in the end", found);
            }
        }
        for (at, transaction) in self.history.iter().enumerate() {
            let there = transaction.appends().filter(|append| self.places.contains_key(append)).count();
            let all = transaction.appends().count();
            let torn = transaction.end == End::Unknown && there > 0 && there < all;
            if (transaction.end == End::Committed && there < all) || torn {
                let missing: Vec<_> =
                    transaction.appends().filter(|append| !self.places.contains_key(append)).collect();
                let told = if torn { "of which a part is there" } else { "acknowledged" };
                let Transaction { client, begun, ended, .. } = transaction;
                let story = format!(
                    "{told}: transaction {at} of client {client} ({begun} to {ended} us), (list, member) {missing:?}"
                );
                found.push(Anomaly { kind: Kind::Lost, story });
            }
        }
    }

    fn check_member(&self, (list, member): (List, Member), seen_by: &str, found: &mut Vec<Anomaly>) {
        let (kind, story) = match self.writer(list, member) {
            None => (
                Kind::Invented,
                format!("member {member} of list {list}, seen {seen_by}, was never appended"),
            ),
            Some((writer, transaction)) if transaction.end == End::RolledBack => (
                Kind::AbortedRead,
                format!(
                    "member {member} of list {list}, seen {seen_by}, is of transaction {writer}, which was rolled back"
                ),
            ),
            Some(_) => return,
        };
        found.push(Anomaly { kind, story });
    }

    /// A read outside of serializable transactions has to show what its own client knows to be there. (The others are held to
    /// more than that, by cycles.)
    fn check_own(&self, at: usize, (list, members): (List, &[Member]), found: &mut Vec<Anomaly>) {
        let Some(read) = self.history.get(at).filter(|read| read.anywhere) else { return };
        let place = |member: &Member| self.places.get(&(list, *member)).copied();
        let known = |other: &&Transaction| {
            other.client == read.client && other.end == End::Committed && other.ended <= read.begun
        };
        let own = self.history.iter().filter(known).flat_map(Transaction::appends);
        let missed =
            own.filter(|(l, member)| *l == list && place(member).is_some_and(|place| place >= members.len()));
        for (_, member) in missed {
            let story = format!("list {list} by transaction {at} without its own client's member {member}");
            found.push(Anomaly { kind: Kind::OutOfOrder, story });
        }
    }

    /// What one transaction read: beginnings of the final lists, without halves of other transactions.
    fn check_reads(&self, at: usize, found: &mut Vec<Anomaly>) {
        let Some(transaction) = self.history.get(at) else { return };
        if transaction.end != End::Committed {
            // What it saw was never vouched for.
            return;
        }
        let own: BTreeSet<_> = transaction.appends().collect();
        for (list, members) in transaction.reads() {
            let seen_by = format!("by transaction {at}");
            let last = self.last.get(&list).map(Vec::as_slice).unwrap_or_default();
            let fits = last.get(..members.len()) == Some(members);
            if !fits {
                for member in members {
                    self.check_member((list, *member), &seen_by, found);
                }
                let story =
                    format!("list {list} as {seen_by}: {}; in the end: {}", ends(members), ends(last));
                found.push(Anomaly { kind: Kind::Forked, story });
                continue;
            }
            self.check_own(at, (list, members), found);
            let Some(&newest) = members.last() else { continue };
            let Some((writer, other)) = self.writer(list, newest) else { continue };
            let final_append = other.appends().filter(|(l, _)| *l == list).last();
            if writer != at && !own.contains(&(list, newest)) && final_append != Some((list, newest)) {
                let story = format!(
                    "list {list} {seen_by} ends with {newest}, after which transaction {writer} appended more"
                );
                found.push(Anomaly { kind: Kind::IntermediateRead, story });
            }
        }
    }
}

/// The last members of a list.
fn ends(members: &[Member]) -> String {
    let skipped = members.len().saturating_sub(8);
    let shown = members.get(skipped..).unwrap_or_default();
    if skipped == 0 { format!("{shown:?}") } else { format!("{skipped} more, then {shown:?}") }
}

#[cfg(test)]
mod tests;
