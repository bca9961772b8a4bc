//! What sessions did and saw, held against what a mode promises. Pure: a history in, violations out.
//!
//! Every register and every list has versions that only grow: a register counts its writes, a list its members. So a read
//! is too old exactly when its version is below one that the promise says it must see.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// A register or a list.
pub(crate) type Key = u32;

/// One operation of one session. Times count from the beginning of the run.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) session: u32,
    pub(crate) started: Duration,
    pub(crate) ended: Duration,
    pub(crate) what: What,
}

/// What it was.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Acknowledged: this key has had this version.
    Wrote(Vec<(Key, u64)>),
    /// Seen, in one statement.
    Read { on_replica: bool, node: u16, seen: Vec<(Key, u64)> },
}

/// What a mode promises to a read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// Not older than what a replica showed the session, when the primary serves.
    pub(crate) from_replica_to_primary: bool,
    /// Not older than what anybody was told before the read began.
    pub(crate) everyones: bool,
}

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// The session's own acknowledged write was not seen.
    OwnWrite,
    /// Older than what the session had seen, on a replica.
    BackOnReplica,
    /// Older than what the primary had shown the session, on the primary.
    BackOnPrimary,
    /// Older than what a replica had shown the session, on the primary.
    BackFromReplica,
    /// A write that somebody had been told of was not seen.
    Everyones,
}

/// One violation, with what a person needs to believe it.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) broken: Broken,
    op: Op,
    key: Key,
    saw: u64,
    due: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Op { session, started, what, .. } = &self.op;
        let place = match what {
            What::Read { on_replica: true, node, .. } => format!("replica node{node}"),
            What::Read { node, .. } => format!("primary node{node}"),
            What::Wrote(_) => "primary".to_owned(),
        };
        let Self { broken, key, saw, due, .. } = self;
        write!(f, "{broken:?}: session {session} at {started:?} on {place}: key {key} at {saw}, due {due}")
    }
}

/// What one session has to see of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    own: u64,
    on_primary: u64,
    on_replica: u64,
}

/// Every violation of the promise, in the order of the reads.
pub(crate) fn violations(history: &[Op], promise: Promise) -> Vec<Violation> {
    let mut ops: Vec<&Op> = history.iter().collect();
    ops.sort_by_key(|op| op.started);
    let mut sessions: HashMap<(u32, Key), Seen> = HashMap::new();
    let mut told = Told::of(history);
    let mut found = Vec::new();
    for op in ops {
        match &op.what {
            What::Wrote(versions) => {
                for &(key, version) in versions {
                    let seen = sessions.entry((op.session, key)).or_default();
                    seen.own = seen.own.max(version);
                    seen.on_primary = seen.on_primary.max(version);
                }
            }
            What::Read { on_replica, seen: versions, .. } => {
                for &(key, saw) in versions {
                    let seen = sessions.entry((op.session, key)).or_default();
                    let everyones = if promise.everyones { told.before(op.started, key) } else { 0 };
                    for (broken, due) in
                        seen.due(*on_replica, promise).into_iter().chain([(Broken::Everyones, everyones)])
                    {
                        if saw < due {
                            found.push(Violation { broken, op: op.clone(), key, saw, due });
                            break;
                        }
                    }
                    let slot = if *on_replica { &mut seen.on_replica } else { &mut seen.on_primary };
                    *slot = (*slot).max(saw);
                }
            }
        }
    }
    found
}

impl Seen {
    /// What a read has to see, by the promise that would be broken.
    fn due(self, on_replica: bool, promise: Promise) -> [(Broken, u64); 3] {
        let back = if on_replica {
            (Broken::BackOnReplica, self.on_primary.max(self.on_replica))
        } else {
            (Broken::BackOnPrimary, self.on_primary)
        };
        let from_replica = if promise.from_replica_to_primary && !on_replica { self.on_replica } else { 0 };
        [(Broken::OwnWrite, self.own), back, (Broken::BackFromReplica, from_replica)]
    }
}

/// What anybody had been told by a moment; asked for in the order of time.
struct Told<'h> {
    writes: Vec<&'h Op>,
    next: usize,
    newest: HashMap<Key, u64>,
}

impl<'h> Told<'h> {
    fn of(history: &'h [Op]) -> Self {
        let mut writes: Vec<&Op> = history.iter().filter(|op| matches!(op.what, What::Wrote(_))).collect();
        writes.sort_by_key(|op| op.ended);
        Self { writes, next: 0, newest: HashMap::new() }
    }

    fn before(&mut self, moment: Duration, key: Key) -> u64 {
        while let Some(op) = self.writes.get(self.next).filter(|op| op.ended < moment) {
            if let What::Wrote(versions) = &op.what {
                for &(key, version) in versions {
                    let newest = self.newest.entry(key).or_default();
                    *newest = (*newest).max(version);
                }
            }
            self.next += 1;
        }
        self.newest.get(&key).copied().unwrap_or(0)
    }
}

/// A list as it was seen is the beginning of the list as it is at the end; an acknowledged member is in its place.
pub(crate) fn is_beginning(seen: &[i64], last: &[i64]) -> bool {
    last.starts_with(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Promise = Promise { from_replica_to_primary: false, everyones: false };
    const STRICT: Promise = Promise { from_replica_to_primary: true, everyones: false };
    const GLOBAL: Promise = Promise { from_replica_to_primary: false, everyones: true };

    fn op(session: u32, at: u64, what: What) -> Op {
        Op { session, started: Duration::from_millis(at), ended: Duration::from_millis(at + 1), what }
    }

    fn wrote(session: u32, at: u64, version: u64) -> Op {
        op(session, at, What::Wrote(vec![(1, version)]))
    }

    fn read(session: u32, at: u64, node: u16, saw: u64) -> Op {
        op(session, at, What::Read { on_replica: node > 0, node, seen: vec![(1, saw)] })
    }

    fn kinds(history: &[Op], promise: Promise) -> Vec<Broken> {
        violations(history, promise).iter().map(|violation| violation.broken).collect()
    }

    #[test]
    fn a_write_that_its_session_does_not_see_is_found() {
        let history = [wrote(1, 0, 7), read(1, 10, 1, 6), read(2, 10, 1, 6)];
        assert_eq!(kinds(&history, SESSION), [Broken::OwnWrite]);
        assert_eq!(kinds(&[wrote(1, 0, 7), read(1, 10, 1, 8)], STRICT), []);
    }

    #[test]
    fn going_back_in_time_is_found_by_where_it_happens() {
        let back = |from, to| [read(1, 0, from, 7), read(1, 10, to, 6)];
        assert_eq!(kinds(&back(1, 2), SESSION), [Broken::BackOnReplica]);
        assert_eq!(kinds(&back(0, 2), SESSION), [Broken::BackOnReplica]);
        assert_eq!(kinds(&back(0, 0), SESSION), [Broken::BackOnPrimary]);
        assert_eq!(kinds(&back(1, 0), SESSION), []);
        assert_eq!(kinds(&back(1, 0), STRICT), [Broken::BackFromReplica]);
        // What a replica showed is not forgotten because the primary was behind it.
        let history = [read(1, 0, 1, 7), read(1, 10, 0, 6), read(1, 20, 2, 6)];
        assert_eq!(kinds(&history, SESSION), [Broken::BackOnReplica]);
    }

    #[test]
    fn what_others_were_told_counts_from_then_on() {
        let history = [wrote(1, 0, 7), read(2, 10, 1, 6)];
        assert_eq!(kinds(&history, SESSION), []);
        assert_eq!(kinds(&history, GLOBAL), [Broken::Everyones]);
        // The read began before the writer was told.
        assert_eq!(kinds(&[wrote(1, 10, 7), read(2, 10, 1, 6)], GLOBAL), []);
    }

    #[test]
    fn a_list_that_is_no_beginning_of_the_last_one_is_seen() {
        assert!(is_beginning(&[1, 2], &[1, 2, 3]));
        assert!(!is_beginning(&[1, 3], &[1, 2, 3]) && !is_beginning(&[1, 2, 3], &[1, 2]));
    }
}
