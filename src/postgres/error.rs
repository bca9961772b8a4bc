//! What can go wrong with a local server, as facts: which program or server, what it wrote, what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// An operation on a local PostgreSQL server failed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// A rewind was broken off, which leaves blocks of two histories in the data directory.
    #[error(
        "{name}: its rewind was broken off; it must not be started, and has to be copied anew from the primary"
    )]
    HalfRewound {
        /// The node.
        name: String,
    },
    /// It died while it was being promoted, and may have gone on by itself.
    #[error(
        "{name} may have another history under the number of timeline {timeline}: it died while it was being promoted"
    )]
    PerhapsPromoted {
        /// The node.
        name: String,
        /// The timeline.
        timeline: u32,
    },
    /// A new copy had not taken the old one's place yet when that was broken off.
    #[error("{name}: a new copy of it is only partly in place; rejoin it")]
    HalfCopied {
        /// The node.
        name: String,
    },
    /// It would have to be copied anew, and nobody allows that.
    #[error("{name} has to be copied anew from the primary ({why}), which is not allowed here")]
    CopyForbidden {
        /// The node.
        name: String,
        /// Why a rewind will not do.
        why: String,
    },
    /// A copy into its place would leave or touch something outside of it.
    #[error("{name}: {what} is outside of the data directory; copy it anew by hand")]
    Outside {
        /// The node.
        name: String,
        /// What.
        what: &'static str,
    },
    /// What was copied is another cluster.
    #[error("{name}: the copy is of cluster {copied}, and this is {ours}; nothing was replaced")]
    OtherCluster {
        /// The node.
        name: String,
        /// The system identifier of the copy.
        copied: u64,
        /// The one that was expected.
        ours: u64,
    },
    /// A program could not be started at all.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program was still running at its time limit and was ended.
    #[error("{} was not done after {limit:?}", program.display())]
    ProgramTooSlow {
        /// The program.
        program: PathBuf,
        /// Its time limit.
        limit: Duration,
    },
    /// A program reported a failure.
    #[error("{} failed ({status}): {output}", program.display())]
    ProgramFailed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// The verb: read, write, create, ...
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The account that runs the servers cannot enter a directory.
    #[error(
        "the servers run as user {user}, who may not enter {}: choose a directory elsewhere (for example under /tmp) \
         or let others enter this one (chmod o+x)", path.display()
    )]
    NoEntry {
        /// The account's name.
        user: String,
        /// The first directory on the way that it may not enter.
        path: PathBuf,
    },
    /// Neither `postgres` nor `nobody` exists, and root may not run servers.
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody to run it as"
    )]
    NoAccount,
    /// The owner of a data directory has no name here.
    #[error("there is no user number {uid}, to whom the data directory belongs")]
    NoSuchUser {
        /// Its number.
        uid: u32,
    },
    /// Somebody else listens on the port.
    #[error("port {port} of 127.0.0.1, meant for {name}, is in use: choose another one")]
    PortBusy {
        /// The server that wanted it.
        name: String,
        /// The port.
        port: u16,
    },
    /// The server ended while it was starting.
    #[error("{name} ended while it was starting ({status}); the end of its log:\n{log}")]
    Died {
        /// The server.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server did not become ready in time.
    #[error("{name} was not ready after {limit:?}; the end of its log:\n{log}")]
    NotReady {
        /// The server.
        name: String,
        /// The time limit.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// The server did not stop in time.
    #[error("{name} (process {pid}) had not stopped after {limit:?}; the end of its log:\n{log}")]
    NotStopped {
        /// The server.
        name: String,
        /// Its postmaster.
        pid: i32,
        /// The time limit.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// A signal could not be sent.
    #[error("cannot signal process {pid} of {name}")]
    Signal {
        /// The server.
        name: String,
        /// Its postmaster.
        pid: i32,
        /// Why.
        source: nix::errno::Errno,
    },
    /// A statement failed.
    #[error("{name}: {doing} failed")]
    Sql {
        /// The server.
        name: String,
        /// What the statement was for.
        doing: &'static str,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// A statement or a sign-in took too long.
    #[error("{name}: {doing} was not done after {limit:?}")]
    SqlTooSlow {
        /// The server.
        name: String,
        /// What the statement was for.
        doing: &'static str,
        /// The time limit.
        limit: Duration,
    },
    /// The cluster has no such node.
    #[error("there is no node number {index}: the cluster has {nodes}")]
    NoSuchNode {
        /// What was asked for.
        index: usize,
        /// How many there are.
        nodes: usize,
    },
    /// The directory holds something that this program did not finish building.
    #[error("{} holds {found}, but no complete cluster: remove it, or choose another directory", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// What was found there.
        found: String,
    },
    /// The directory holds another kind of cluster than was asked for.
    #[error("{} holds a cluster with {has}, but {wanted} was asked for", dir.display())]
    Differs {
        /// The directory.
        dir: PathBuf,
        /// What is there.
        has: String,
        /// What was wanted.
        wanted: String,
    },
    /// Every server of an existing cluster is a standby.
    #[error("none of the servers in {} is a primary; promote one (remove its standby.signal) and try again", dir.display())]
    NoPrimary {
        /// The directory.
        dir: PathBuf,
    },
    /// The work was ended from within: the program is stopping, or a bug.
    #[error("ended before it was done: {reason}")]
    Interrupted {
        /// What is known about it.
        reason: String,
    },
    /// The programs were not found.
    #[error(transparent)]
    Find(#[from] FindError),
}

/// No usable set of PostgreSQL server programs.
#[derive(Debug)]
pub struct FindError {
    /// A directory that the user named: then nothing else was tried.
    pub given: Option<PathBuf>,
    /// The major version that was needed, where only one would do.
    pub major: Option<u32>,
    /// Candidates that were found and why they would not do.
    pub rejected: Vec<(PathBuf, Rejected)>,
    /// The places that were searched.
    pub searched: Vec<String>,
}

/// Why a directory with PostgreSQL programs would not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Programs are missing.
    Lacks(Vec<&'static str>),
    /// The account that would run it may not.
    NotExecutable {
        /// The account.
        user: String,
    },
    /// `postgres --version` failed or said nothing that could be understood.
    Unintelligible(String),
    /// A version outside of what is supported or wanted.
    Version(u32),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(programs) => write!(f, "lacks {}", programs.join(", ")),
            Self::NotExecutable { user } => write!(f, "user {user} may not run the programs there"),
            Self::Unintelligible(said) => write!(f, "postgres --version said {said:?}"),
            Self::Version(major) => write!(f, "is version {major}"),
        }
    }
}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.major {
            Some(major) => {
                write!(f, "no usable PostgreSQL {major} server programs (the data there needs them)")
            }
            None => f.write_str("no usable PostgreSQL server programs, version 14 to 18"),
        }?;
        match &self.given {
            Some(dir) => write!(f, " in {} (--pg-bin)", dir.display())?,
            None => write!(f, "; looked in {}", self.searched.join(", "))?,
        }
        for (dir, why) in &self.rejected {
            write!(f, "; {} {why}", dir.display())?;
        }
        f.write_str(
            "; install them (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; \
             macOS: brew install postgresql@17) or name their directory with --pg-bin",
        )
    }
}

impl std::error::Error for FindError {}
