//! Quorum arithmetic and the text of `synchronous_standby_names`.
//!
//! A commit is acknowledged when N = k + 1 of the n servers of the cohort have it (the primary is one of them). Any
//! n - N + 1 of the n therefore include one that has it; that many have to be recruited before positions mean anything.

use super::journal::Cohort;
use super::nodes::Node;
use crate::model::NodeId;

/// How many members of this cohort must be recruited so that every acknowledged commit is on one of them. Without
/// synchronous standbys that includes the primary, so a lost one cannot be made up for.
pub(super) fn recruits_needed(cohort: &Cohort) -> usize {
    cohort.size.saturating_sub(cohort.standbys).max(1)
}

/// How many of these nodes belong to the cohort.
pub(super) fn members_among(cohort: &Cohort, nodes: &[NodeId]) -> usize {
    nodes.iter().filter(|node| cohort.members.contains(node)).count()
}

/// The text with which `standbys` of the other nodes must have a commit; empty where none must.
pub(super) fn text(standbys: usize, nodes: &[Node]) -> String {
    let names: Vec<String> =
        nodes.iter().filter(|node| !node.member.removed).map(|node| quoted(&node.member.name)).collect();
    if standbys == 0 || names.len() < 2 {
        return String::new();
    }
    format!("ANY {standbys} ({})", names.join(", "))
}

/// A cohort that asks for at least as many recruits as either, from members that both know.
pub(super) fn both(a: &Cohort, b: &Cohort) -> Cohort {
    Cohort {
        size: a.size.max(b.size),
        standbys: a.standbys.min(b.standbys),
        members: a.members.iter().copied().filter(|node| b.members.contains(node)).collect(),
    }
}

fn quoted(name: &str) -> String {
    let mut letters = name.chars();
    let plain_head = letters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let plain = plain_head && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    // FIRST and ANY are words of the grammar.
    if plain && name != "any" && name != "first" {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// `synchronous_standby_names`, read (PostgreSQL manual, 20.6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyncNames {
    /// How many of them; zero where the text is empty or cannot be read.
    pub(super) standbys: usize,
    /// The names; `*` stands for any.
    pub(super) names: Vec<String>,
}

/// Reads the text. `FIRST` and `ANY` differ in which standbys are chosen, not in how many have a commit.
pub(super) fn parse(text: &str) -> SyncNames {
    let text = text.trim();
    let none = SyncNames { standbys: 0, names: Vec::new() };
    if text.is_empty() {
        return none;
    }
    let Some((head, list)) = text.split_once('(').filter(|(head, _)| !head.contains('"')) else {
        return SyncNames { standbys: 1, names: split_names(text) };
    };
    let Some(list) = list.trim_end().strip_suffix(')') else { return none };
    let Some(count) = head.split_whitespace().last().and_then(|word| word.parse().ok()) else { return none };
    SyncNames { standbys: count, names: split_names(list) }
}

fn split_names(list: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut in_quotes = false;
    let mut letters = list.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            '"' if in_quotes && letters.peek() == Some(&'"') => {
                letters.next();
                push(&mut names, '"');
            }
            '"' => in_quotes = !in_quotes,
            ',' if !in_quotes => names.push(String::new()),
            c if c.is_whitespace() && !in_quotes => {}
            c => push(&mut names, c),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn push(names: &mut [String], c: char) {
    if let Some(last) = names.last_mut() {
        last.push(c);
    }
}

/// Whose acknowledgements count on `primary` with this text.
pub(super) fn cohort_of(text: &str, nodes: &[Node], primary: NodeId) -> Cohort {
    let sync = parse(text);
    let any = sync.standbys == 0 || sync.names.iter().any(|name| name == "*");
    // PostgreSQL compares these names without regard to case.
    let listed = |node: &Node| sync.names.iter().any(|name| name.eq_ignore_ascii_case(&node.member.name));
    // One that is not configured any more counts for as long as it is listed: it may have acknowledged what no other has.
    let counts = |node: &Node| (any && !node.member.removed) || node.id == primary || listed(node);
    let members: Vec<NodeId> = nodes.iter().filter(|node| counts(node)).map(|node| node.id).collect();
    let known = |name: &&String| nodes.iter().any(|node| name.eq_ignore_ascii_case(&node.member.name));
    let unknown = if any { 0 } else { sync.names.iter().filter(|name| !known(name)).count() };
    let size = members.len() + unknown;
    Cohort { size, standbys: sync.standbys.min(size.saturating_sub(1)), members }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::settings::{Durability, Member, node_ids};
    use crate::model::Address;

    fn nodes(names: &[&str]) -> Vec<Node> {
        let address = Address::Tcp { host: "h".into(), port: 1 };
        node_ids(names.len())
            .zip(names)
            .map(|(id, name)| Node::new(id, Member::new(name, address.clone())))
            .collect()
    }

    #[test]
    fn the_text_is_read_as_postgresql_reads_it() {
        let names = |text: &str| (parse(text).standbys, parse(text).names.join("|"));
        assert_eq!(names(""), (0, String::new()));
        assert_eq!(names("a"), (1, "a".into()));
        assert_eq!(names("a, b"), (1, "a|b".into()));
        assert_eq!(names("2 (a, b, c)"), (2, "a|b|c".into()));
        assert_eq!(names("FIRST 2 (a,b)"), (2, "a|b".into()));
        assert_eq!(names("ANY 1 (\"x, y\", \"q\"\"\")"), (1, "x, y|q\"".into()));
        assert_eq!(names("*"), (1, "*".into()));
        assert_eq!(names("ANY x (a)"), (0, String::new()));
    }

    #[test]
    fn what_is_wanted_is_read_back() {
        for count in 2..8 {
            let names: Vec<String> = (0..count).map(|i| format!("Node \"{i}\"")).collect();
            let nodes = nodes(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let standbys = Durability::Quorum { standbys: None }.standbys_for(count);
            let cohort = cohort_of(&text(standbys, &nodes), &nodes, NodeId(0));
            assert_eq!(cohort.size, count);
            assert_eq!(cohort.standbys, standbys);
            assert_eq!(cohort.members.len(), count);
        }
    }

    #[test]
    fn unknown_names_make_the_cohort_larger_and_so_the_recruits_more() {
        let nodes = nodes(&["a", "b"]);
        let cohort = cohort_of("ANY 1 (a, b, elsewhere)", &nodes, NodeId(0));
        assert_eq!((cohort.size, recruits_needed(&cohort)), (3, 2));
        let small = cohort_of("ANY 1 (a, b)", &nodes, NodeId(0));
        assert_eq!((small.size, recruits_needed(&small)), (2, 1));
        let alone = cohort_of("", &nodes, NodeId(0));
        assert_eq!(recruits_needed(&alone), 2, "without a quorum even the dead primary would be needed");
    }

    /// Every pair of cohorts of four: what is enough for the joint one is enough for each.
    #[test]
    fn a_joint_cohort_asks_for_what_either_asks_for() {
        let subsets =
            |n: u16| (0_u32..1 << n).map(move |set| (0..n).map(NodeId).filter(move |i| set >> i.0 & 1 == 1));
        let all: Vec<Cohort> = subsets(4)
            .flat_map(|members| {
                let members: Vec<NodeId> = members.collect();
                let sizes = members.len()..members.len() + 2;
                sizes.flat_map(move |size| {
                    let members = members.clone();
                    (0..size.max(1)).map(move |standbys| Cohort { size, standbys, members: members.clone() })
                })
            })
            .collect();
        for a in &all {
            for b in &all {
                let joint = both(a, b);
                for recruits in subsets(4) {
                    let recruits: Vec<NodeId> = recruits.collect();
                    let enough =
                        |cohort: &Cohort| members_among(cohort, &recruits) >= recruits_needed(cohort);
                    assert!(!enough(&joint) || (enough(a) && enough(b)), "{a:?} {b:?} {recruits:?}");
                }
            }
        }
    }

    #[test]
    fn a_removed_node_counts_until_it_is_not_listed_any_more() {
        let mut nodes = nodes(&["a", "b", "c", "d"]);
        nodes[3].member.removed = true;
        assert_eq!(text(1, &nodes), "ANY 1 (a, b, c)");
        let listed = cohort_of("ANY 1 (a, b, c, d)", &nodes, NodeId(0));
        assert_eq!((listed.size, recruits_needed(&listed)), (4, 3));
        let gone = cohort_of("ANY 1 (a, b, c)", &nodes, NodeId(0));
        assert_eq!((gone.size, recruits_needed(&gone)), (3, 2));
        assert_eq!(cohort_of("", &nodes, NodeId(0)).size, 3);
    }

    /// Every cohort up to seven, every set of recruits, every set of nodes that acknowledged: they meet.
    #[test]
    fn enough_recruits_always_meet_every_acknowledgement() {
        for n in 2_u32..=7 {
            for k in 1..n {
                let members: Vec<NodeId> = node_ids(n as usize).collect();
                let cohort = Cohort { size: n as usize, standbys: k as usize, members };
                let needed = u32::try_from(recruits_needed(&cohort)).expect("a small number");
                for recruits in (0_u32..1 << n).filter(|set| set.count_ones() >= needed) {
                    for acked in (0_u32..1 << n).filter(|set| set.count_ones() == k + 1) {
                        assert_ne!(recruits & acked, 0, "n {n} k {k}");
                    }
                }
                let fewer = (1_u32 << (needed - 1)) - 1;
                let acked = ((1_u32 << (k + 1)) - 1) << (n - k - 1);
                assert_eq!(fewer & acked, 0, "one recruit less would not do: n {n} k {k}");
            }
        }
    }
}
