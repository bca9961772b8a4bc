//! What clients asked for and were told, as values.

use std::collections::BTreeMap;

/// A list of the load. Lists only grow, one member at a time; every member is unique.
pub type List = u32;

/// A member of a list.
pub type Member = u64;

/// The lists as they are when nothing runs any more.
pub type Lists = BTreeMap<List, Vec<Member>>;

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A member was put at the end of a list.
    Append(List, Member),
    /// A list was read, and had these members.
    Read(List, Vec<Member>),
}

/// What a client was told about its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is committed.
    Committed,
    /// It is not, and never will be.
    RolledBack,
    /// Nobody knows (08007, or the connection broke).
    Unknown,
}

/// One transaction of one client. Times are microseconds since the run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The client.
    pub client: u32,
    /// Before its first byte was sent.
    pub begun: u64,
    /// After its answer came.
    pub ended: u64,
    /// What it was told.
    pub end: End,
    /// What it did, in order; of what was not answered only the appends.
    pub ops: Vec<Op>,
    /// A read alone, outside of a transaction block: it may have run on a replica, and no server isolates it. It has to show
    /// every write of its own client that was acknowledged before, and not necessarily others'.
    pub anywhere: bool,
}

impl Transaction {
    /// The members that it appended, in order.
    pub(super) fn appends(&self) -> impl Iterator<Item = (List, Member)> {
        self.ops.iter().filter_map(|op| match op {
            Op::Append(list, member) => Some((*list, *member)),
            Op::Read(..) => None,
        })
    }

    /// The lists that it read, with what they had.
    pub(super) fn reads(&self) -> impl Iterator<Item = (List, &[Member])> {
        self.ops.iter().filter_map(|op| match op {
            Op::Read(list, members) => Some((*list, members.as_slice())),
            Op::Append(..) => None,
        })
    }
}
