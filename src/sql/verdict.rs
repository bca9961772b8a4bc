//! The verdict on one text (a simple query or a prepared statement), as a value.

use std::sync::Arc;

use super::catalog::Change;
use super::usage::Usage;
use crate::model::Consistency;

/// Where a text may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Proven to be a read: any node.
    Anywhere,
    /// The primary only.
    Primary,
}

/// Why a text has its place. One word each for metrics and `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Every part is proven to be a read.
    Read,
    /// Nothing in it (comments, semicolons).
    Empty,
    /// It writes, or is DDL or a utility that a replica refuses.
    Write,
    /// It changes the session or the transaction.
    SessionState,
    /// It locks rows or tables.
    Locks,
    /// A data-modifying statement inside WITH.
    WritingCte,
    /// It calls a function that is volatile or unknown.
    VolatileFunction,
    /// It asks what differs from node to node (statistics, locks, addresses).
    NodeLocal,
    /// Its session has looked at the primary's counters, which reads elsewhere do not raise.
    NodeLocalSession,
    /// It reads an unlogged, temporary or foreign relation.
    UnreadableRelation,
    /// It mentions a relation that the catalog facts do not know.
    UnknownRelation,
    /// The catalog facts of this database are not loaded yet.
    NoCatalog,
    /// The parser does not know the statement.
    Unparsed,
    /// Longer or deeper than the parser is given.
    TooLarge,
    /// Several statements of which one is not a read.
    Several,
    /// A replica refused it before: learned.
    Learned,
}

impl Reason {
    /// Every reason, for tables and metrics.
    pub const ALL: [Self; 16] = [
        Self::Read,
        Self::Empty,
        Self::Write,
        Self::SessionState,
        Self::Locks,
        Self::WritingCte,
        Self::VolatileFunction,
        Self::NodeLocal,
        Self::NodeLocalSession,
        Self::UnreadableRelation,
        Self::UnknownRelation,
        Self::NoCatalog,
        Self::Unparsed,
        Self::TooLarge,
        Self::Several,
        Self::Learned,
    ];

    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Empty => "empty",
            Self::Write => "write",
            Self::SessionState => "session-state",
            Self::Locks => "locks",
            Self::WritingCte => "writing-cte",
            Self::VolatileFunction => "volatile-function",
            Self::NodeLocal => "node-local",
            Self::NodeLocalSession => "node-local-session",
            Self::UnreadableRelation => "unreadable-relation",
            Self::UnknownRelation => "unknown-relation",
            Self::NoCatalog => "no-catalog",
            Self::Unparsed => "unparsed",
            Self::TooLarge => "too-large",
            Self::Several => "several",
            Self::Learned => "learned",
        }
    }
}

/// What a person asked for in a comment (`/* primacy: replica */`) or by setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Run it on the primary.
    Primary,
    /// Run it on a replica, whatever the classifier thinks.
    Replica,
}

/// How a transaction was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BeginMode {
    /// `READ ONLY` (`Some(true)`), `READ WRITE` (`Some(false)`) or neither.
    pub read_only: Option<bool>,
    /// `ISOLATION LEVEL SERIALIZABLE`.
    pub serializable: bool,
    /// `ISOLATION LEVEL` anything was given.
    pub isolation_given: bool,
    /// `DEFERRABLE`.
    pub deferrable: bool,
}

/// What it means for a text that the transaction it ran in goes on on another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Moving {
    /// Nothing: it read what any transaction of that moment would have read.
    Free,
    /// It did something to the transaction that running it again elsewhere does there.
    Again,
    /// It cannot be: it wrote, locked, or showed what belongs to its transaction alone, such as the time of its start.
    #[default]
    Never,
}

impl Moving {
    /// The words for `explain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "may run on a replica",
            Self::Again => "may run on a replica, and is repeated on the primary",
            Self::Never => "runs on the primary",
        }
    }
}

/// What a text does when it runs on its own, as far as that is certain: whether it can be told afterwards that it was
/// committed, and whether it may be run again if it was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Alone {
    /// It may begin, end or leave transactions by itself, or do what no transaction undoes.
    #[default]
    Unknown,
    /// One query, which ends with its transaction; functions in it may do what no transaction undoes.
    Query,
    /// INSERT, UPDATE, DELETE or MERGE: run again after it was undone, it does the same.
    Change,
}

/// What the text is, as far as the session machine treats it differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No statement at all.
    Empty,
    /// BEGIN or START TRANSACTION, alone.
    Begin(BeginMode),
    /// COMMIT or END, alone.
    Commit {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// ROLLBACK or ABORT, alone.
    Rollback {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// PREPARE TRANSACTION.
    PrepareTransaction,
    /// SAVEPOINT name.
    Savepoint(Arc<str>),
    /// RELEASE name.
    Release(Arc<str>),
    /// ROLLBACK TO name.
    RollbackTo(Arc<str>),
    /// `SET TRANSACTION ...`: changes the open transaction's mode.
    SetTransaction(BeginMode),
    /// `SHOW primacy.name`: answered by the proxy.
    ShowPrimacy(Arc<str>),
    /// `SET primacy.name = value` (`None`: RESET): carried out by the proxy.
    SetPrimacy(Arc<str>, Option<Arc<str>>),
    /// One statement that returns or changes data, or a utility.
    Plain,
    /// Several statements in one text, none of which begins or ends a transaction or a savepoint.
    Several,
    /// Several statements in one text, with transaction control among them.
    Block,
}

impl Kind {
    /// Whether it begins or ends a transaction or a savepoint, alone or among others.
    pub fn controls_transactions(&self) -> bool {
        matches!(
            self,
            Self::Begin(_)
                | Self::Commit { .. }
                | Self::Rollback { .. }
                | Self::PrepareTransaction
                | Self::Savepoint(_)
                | Self::Release(_)
                | Self::RollbackTo(_)
                | Self::Block
        )
    }
}

/// What ties a session to one server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PinCause {
    /// A temporary table, view or sequence.
    TemporaryTable,
    /// LISTEN.
    Listen,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// A cursor WITH HOLD.
    HoldCursor,
    /// PREPARE as SQL.
    SqlPrepare,
    /// LOAD.
    Load,
    /// A setting whose value the proxy cannot know.
    UnknownSetting,
    /// SET SESSION AUTHORIZATION for one transaction only, or by `set_config`.
    SessionAuthorization,
    /// The session asks for `currval` or `lastval`: what these give lives in one server session.
    Sequence,
    /// `pool_mode = "session"`.
    SessionMode,
    /// The session speaks the replication protocol.
    Replication,
}

impl PinCause {
    /// The word for logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TemporaryTable => "temporary-table",
            Self::Listen => "listen",
            Self::AdvisoryLock => "advisory-lock",
            Self::HoldCursor => "hold-cursor",
            Self::SqlPrepare => "sql-prepare",
            Self::Load => "load",
            Self::UnknownSetting => "unknown-setting",
            Self::SessionAuthorization => "session-authorization",
            Self::Sequence => "sequence",
            Self::SessionMode => "session-mode",
            Self::Replication => "replication",
        }
    }
}

/// Which names of relations and types a text shows or looks up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shows {
    /// Any, as far as is known.
    #[default]
    Anything,
    /// Those of relations that its literals give, by number or by name, and of what these are made of.
    Given {
        /// A literal is the pattern of a name.
        pattern: bool,
        /// Those of relations that inherit from these, too.
        children: bool,
    },
}

/// What a statement does to the session when it succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEffect {
    /// `SET name TO value` for the session, `set_config(name, value, false)`, SET TIME ZONE, SET NAMES, SET ROLE,
    /// SET SESSION CHARACTERISTICS ...: run `sql` on another connection to have the same there.
    Set {
        /// The setting, in lower case, under its own name (`timezone`, `client_encoding`, `role`).
        name: Arc<str>,
        /// One statement without a trailing semicolon that sets it again.
        sql: Arc<str>,
    },
    /// `SET name TO DEFAULT` or `RESET name`.
    Reset(Arc<str>),
    /// RESET ALL.
    ResetAll,
    /// DISCARD ALL.
    DiscardAll,
    /// DISCARD TEMP.
    DiscardTemp,
    /// A temporary relation of this name was made; comes with `Pin(TemporaryTable)`.
    Temporary(Arc<str>),
    /// A temporary relation was made that inherits from this one: who reads that reads it too.
    TemporaryChildOf(Arc<str>),
    /// The temporary relation that is named next is a part of this one, and goes when that is dropped.
    TemporaryPartOf(Arc<str>),
    /// A relation of this name was made, or given it, that is temporary if it is made of temporary ones.
    MayBeTemporary(Arc<str>),
    /// Other relations may show temporary ones from now on: some do, or do if this relation is temporary.
    MayShowTemporary(Option<Arc<str>>),
    /// A temporary table was made that goes with its transaction.
    PassingTemporary,
    /// A relation of this name was dropped; a temporary one, where there was one.
    Dropped(Arc<str>),
    /// LISTEN on this channel: the session is tied to its connection, and listens again on another.
    Listen(Arc<str>),
    /// UNLISTEN of this channel.
    Unlisten(Arc<str>),
    /// From now on the session is tied to its connection for this cause.
    Pin(PinCause),
    /// The cause has gone (UNLISTEN *, pg_advisory_unlock_all, CLOSE ALL, DEALLOCATE ALL ...).
    Unpin(PinCause),
    /// `PREPARE name`.
    PrepareSql(Arc<str>),
    /// `DEALLOCATE name`.
    Deallocate(Arc<str>),
    /// DEALLOCATE ALL.
    DeallocateAll,
    /// It may ask for `currval` or `lastval`, which know what *this* server session has taken from sequences.
    AsksSequences,
    /// DISCARD SEQUENCES.
    DiscardSequences,
    /// Code that it runs may look at the session's prepared statements and cursors, or drop statements.
    TouchesStatements,
    /// It looks at counters of what was done on its node (`pg_stat_user_tables` and the like).
    LooksAtCounters,
    /// It changed the catalog (DDL): facts and verdicts of this database that this touches are stale.
    Ddl(Change),
}

/// What the classifier has to say about one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where it may run.
    pub place: Place,
    /// Why.
    pub reason: Reason,
    /// What caused the reason, for people (`nextval`, `public.log`, the parser's complaint); bounded in length.
    pub detail: Option<Arc<str>>,
    /// What it is.
    pub kind: Kind,
    /// A routing hint in its comments.
    pub hint: Option<Hint>,
    /// The promise that its comments ask for.
    pub consistency: Option<Consistency>,
    /// What it means that its transaction goes on elsewhere.
    pub moving: Moving,
    /// What it does when it runs on its own.
    pub alone: Alone,
    /// By the extended protocol it gives the same answer as by the simple one, parameters apart.
    pub either_protocol: bool,
    /// What it does to the session, in the order of its statements.
    pub effects: Box<[SessionEffect]>,
    /// It runs code of the database's own: functions other than the built-in ones, of views and operators too. What names
    /// mean in there is not known.
    pub own_code: bool,
    /// What it shows, or looks up, of names.
    pub shows: Shows,
    /// It may show the session's prepared statements and cursors (`pg_prepared_statements`, `pg_cursors`).
    pub shows_statements: bool,
    /// How many statements the text holds (1 where it was not parsed).
    pub statements: u32,
    /// What became of its statements.
    pub usage: Usage,
}
