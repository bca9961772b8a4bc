//! What of a database is known not to be temporary: the numbers of its relations, and what they and its types are called.
//!
//! A temporary relation or type hides what else has its name. Its own name may be that of its table with something behind
//! (`t_pkey`, `t_a_idx`, `t_id_seq`), cut where it would be too long, or with `_` before (the type of its arrays). So what is
//! kept of a name is every beginning of it that may have been such a table's; as hashes, since one found too much only
//! costs a read on the primary.

use std::hash::Hasher;

use rustc_hash::{FxHashSet, FxHasher};
use smallvec::SmallVec;

use super::Catalog;

/// PostgreSQL cuts the longest part of a name that it makes up to no less than this.
const CUT_BYTES: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Permanent {
    numbers: FxHashSet<u32>,
    beginnings: FxHashSet<u64>,
}

impl Permanent {
    /// Takes a name in, and the relation's number; 0 for a type.
    pub(super) fn add(&mut self, name: &str, number: u32) {
        let name = bare(name.as_bytes());
        self.beginnings.insert(hash(&name));
        let parts = name.iter().enumerate().filter(|(_, byte)| **byte == b'_').map(|(at, _)| at);
        for end in parts.chain((name.len() > CUT_BYTES).then_some(CUT_BYTES)) {
            self.beginnings.insert(hash(name.get(..end).unwrap_or_default()));
        }
        if number != 0 {
            self.numbers.insert(number);
        }
    }

    pub(super) fn has_number(&self, number: u32) -> bool {
        self.numbers.contains(&number)
    }

    /// Whether something may be hidden by what goes with a temporary relation of this name.
    pub(super) fn may_be_hidden_by(&self, name: &[u8]) -> bool {
        let name = bare(name);
        self.beginnings.contains(&hash(&name))
            || (name.len() > CUT_BYTES
                && self.beginnings.contains(&hash(name.get(..CUT_BYTES).unwrap_or_default())))
    }
}

impl Catalog {
    /// Whether the system has a relation of this name, and nobody else.
    pub(in crate::sql) fn is_system_only(&self, name: &str) -> bool {
        let facts = self.base.relations.get(name).map_or(&[][..], SmallVec::as_slice);
        !facts.is_empty() && facts.iter().all(|fact| self.base.is_system(fact.schema))
    }

    /// Whether relations and types are those that were loaded.
    pub fn is_as_loaded(&self) -> bool {
        !self.empty && self.recent.is_empty()
    }

    /// Whether a relation of this number is known not to be temporary.
    pub fn is_permanent(&self, number: u32) -> bool {
        self.base.permanent.has_number(number)
    }

    /// Whether a permanent relation or type may be hidden by a temporary one of this name or what goes with that.
    pub fn may_be_hidden_by(&self, name: &[u8]) -> bool {
        self.base.permanent.may_be_hidden_by(name)
    }
}

/// Whether what goes with a relation may have this name.
pub fn may_be_of(name: &[u8], relation: &[u8]) -> bool {
    let (name, relation) = (bare(name), bare(relation));
    let behind = name.strip_prefix(relation.as_slice());
    behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"_"))
        || (relation.len() > CUT_BYTES && name.get(..CUT_BYTES) == relation.get(..CUT_BYTES))
}

/// In lower case, whatever it is, and without `_` before.
fn bare(name: &[u8]) -> Vec<u8> {
    let start = name.iter().position(|byte| *byte != b'_').unwrap_or(0);
    name.get(start..).unwrap_or_default().to_ascii_lowercase()
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_temporary_relation_may_hide_is_found() {
        let mut permanent = Permanent::default();
        let long = "a_permanent_relation_with_a_very_long_name_of_its_own_indeed_pkey";
        for (name, number) in
            [("orders", 16_500), ("order_lines_id_seq", 16_501), (long, 16_502), ("mood", 0)]
        {
            permanent.add(name, number);
        }
        for name in
            ["orders", "_orders", "ORDERS", "order", "order_lines", "mood", "__mood", &long[..40], long]
        {
            assert!(permanent.may_be_hidden_by(name.as_bytes()), "{name}");
        }
        for name in ["orders_id", "orde", "order_line", "moo", "moods", "lines"] {
            assert!(!permanent.may_be_hidden_by(name.as_bytes()), "{name}");
        }
        assert!(permanent.has_number(16_501) && !permanent.has_number(0) && !permanent.has_number(16_503));
    }

    #[test]
    fn what_goes_with_a_relation_is_told_by_its_name() {
        for (name, relation) in
            [("t", "t"), ("_t", "t"), ("t_pkey", "t"), ("t_a_b_idx1", "t"), ("T_ID_SEQ", "t")]
        {
            assert!(may_be_of(name.as_bytes(), relation.as_bytes()), "{name} {relation}");
        }
        let long = "a_relation_with_a_name_that_is_as_long_as_any_that_is_allowed__";
        assert!(may_be_of(
            b"a_relation_with_a_name_that_i_a_column_with_a_name_like_tha_idx",
            long.as_bytes()
        ));
        for (name, relation) in [("t1", "t"), ("a", "t"), ("t", "t_pkey"), ("at", "t")] {
            assert!(!may_be_of(name.as_bytes(), relation.as_bytes()), "{name} {relation}");
        }
    }
}
