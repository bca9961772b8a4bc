//! The rules by number. Every decision names its rule; logs, metrics, history and tests print the same ids.

use std::fmt;

/// A rule and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// What it says, in one sentence.
    pub text: &'static str,
}

macro_rules! rules {
    ($($name:ident: $text:literal;)*) => {
        /// Names a rule; printed as written here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RuleId {
            $(#[doc = $text] $name,)*
        }

        /// All rules, in order.
        pub const RULES: &[Rule] = &[$(Rule { id: RuleId::$name, text: $text },)*];

        impl RuleId {
            /// The id as text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it says.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

rules! {
    D1a: "Start: the recorded primary answers as a primary on its timeline: it is the primary.";
    D1b: "Start without a journal: the only node that is not in recovery is the primary.";
    D1c: "Start without a journal: of several primaries the one on the newest timeline, unless an older one has more followers.";
    D1d: "Start without a journal: several primaries and nothing proves which: refuse writes, tell a person.";
    D1e: "Start without a journal: no primary to be seen: refuse writes and keep looking.";
    D1f: "Start without a journal: a standby proves a newer timeline than the only primary: refuse writes and keep looking.";
    D1g: "Start with a journal, the recorded primary does not answer as one: suspect it.";
    R1a: "The suspected primary answers as the primary again: go on as before.";
    R1b: "Hard evidence: connections are refused or reset and no reachable replica has a receiver on it: act at once.";
    R1c: "Soft evidence: silent past the timeout, and every replica's receiver silent as long: act within the rate limit.";
    R1d: "Contradiction: a replica still hears the primary: hold and tell a person, promote nothing.";
    R1e: "Contradiction, but commits stand still past the stall timeout: act within the rate limit.";
    R1f: "The primary says that it is starting or stopping: it gets the restart grace.";
    R1g: "The primary of the record answers as a standby: its epoch is over, act at once.";
    R1h: "A failed probe of the primary: hold writes and look closely.";
    R1i: "A session's error on the data path: probe at once, decide nothing.";
    R1j: "The server answers but does not let us in: it lives; tell a person, promote nothing.";
    R2a: "Refused is not dead: with the epoch every server connection of the old one is closed, and the old primary fenced where it can be reached.";
    R3a: "Stop the standbys' receivers and see them gone before positions are compared.";
    R3b: "Enough are recruited when n - N + 1 members of the cohort are: every acknowledged write is on one of them.";
    R3c: "A receiver that does not stop: end the conflicting sessions and resume replay.";
    R3d: "Not enough recruits: promote nothing, serve reads, try again when nodes return.";
    R3e: "A person allowed the loss of writes: the most advanced reachable node is enough.";
    R3f: "Asynchronous durability: the most advanced reachable node is enough, the loss is recorded.";
    R3g: "The recorded primary came back as a standby: it has all that was acknowledged, and is enough and the candidate where too few others are recruited.";
    R4a: "Candidate: recruited, newest timeline, most WAL received, higher priority, lower id.";
    R4b: "The candidate replays all it received before it is promoted.";
    R4c: "A candidate that has nothing of the present epoch is for a person to choose.";
    R5a: "Commits in doubt are resolved on the candidate before it is promoted.";
    R6a: "Followers that are not ahead of the candidate are told to follow it before it is told to promote.";
    R6b: "Promote without waiting, then poll.";
    R6c: "The promotion is final when the term row has its quorum.";
    R6d: "The new epoch is published and held statements go out.";
    R7a: "Intent before deed: the epoch and the candidate are durable before anything is touched.";
    R7b: "Restarted in the middle of a promotion that went through: finish it.";
    R7c: "Restarted in the middle of an attempt: take it up again, or undo it where the old primary lives.";
    R7d: "The answer to an effect that is not awaited any more is dropped.";
    R7e: "An effect without an answer by its deadline has failed.";
    R7f: "A promotion that was sent cannot be called back: the old primary goes on only where those who could acknowledge to the new one are seen stopped.";
    R8a: "A returning node follows under a neutral name until it is vetted.";
    R8b: "A node on the epoch's timeline and past the term row is vetted and gets its own name.";
    R8c: "A node with WAL that the primary does not have is rewound before it follows.";
    R8d: "A node that claims to be a primary and is not the recorded one is quarantined and fenced.";
    R8e: "The standby signal is armed on the running primary.";
    R8f: "A node that cannot be brought back by us stays in quarantine until a person acts.";
    R8g: "A node that may have a timeline of the primary's number with another content is not brought back by us, unless its files rule that out.";
    R8h: "A server that crashed is started as it is, where somebody can: a replica, and the primary when no other can be promoted.";
    R8i: "A standby whose acknowledgements count streams from the primary itself: one that hangs on another is turned to the primary.";
    R9a: "A promotion done by others is proven by its newer timeline and adopted.";
    R9b: "A newer timeline, but the recorded primary still has its quorum of followers: not adopted, quarantined.";
    R10a: "Automatic failovers on soft evidence are rate-limited.";
    R10b: "A second failure during an attempt: give the attempt up and choose again.";
    R10c: "An attempt that is given up repoints what it recruited to the old primary.";
    R10d: "Automatic failover is paused: hold back and tell a person.";
    R10e: "The old primary is back before anything was promoted: give the attempt up.";
    S1a: "Switchover: the checks are done before anything is touched.";
    S1b: "Switchover: writes are held and clients drained.";
    S1c: "Switchover: the old primary is quiesced, and its last position is what the target must have.";
    S1d: "Switchover: the target has everything.";
    S1e: "Switchover given up: the old primary goes on.";
    S1f: "Switchover: the old primary, fenced and caught up with, is restarted as a standby in immediate mode.";
    Q1a: "The same synchronous_standby_names on every node, so that a new primary is fenced from its first commit.";
    Q1b: "While the cohort changes, both the old and the new one count.";
    Q1c: "wal_receiver_timeout is set so that a silent primary is noticed.";
    Q1d: "A setting that is overridden elsewhere is made ever more rarely, and a person is told.";
    Q1e: "The old cohort counts until enough standbys of the new one have what was acknowledged before.";
    Q1f: "Too few replicas acknowledge for too long, and degrading is allowed: fewer have to, noted durably before; undone when they return.";
    Q1g: "A node that is not configured any more is asked, and may be recruited, until its acknowledgements do not count; it is never promoted.";
    V1a: "The topology as it is seen now is published.";
    V1b: "A replica that is not on the epoch's timeline, or does not stream while there is a primary, serves no reads.";
    C1a: "A command was carried out, refused or answered.";
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
