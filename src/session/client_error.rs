//! The one door by which our own errors reach a client. In: facts. Out: an ErrorResponse with severity, SQLSTATE,
//! message, detail and hint, chosen here and nowhere else. Errors of servers do not pass here: they are forwarded
//! byte for byte.
//!
//! FATAL says that the connection ends with the error, ERROR that the session goes on. While a client signs in every
//! error ends the connection, whatever it is: there `encode_fatal` is used.

mod parts;
mod sign_in;
mod words;

use std::time::Duration;

use crate::model::SqlState;
use crate::wire::proxy_header::ProxyHeaderError;
use crate::wire::startup::{OptionsError, StartupError};
use crate::wire::{FrameError, Tag, encode};
pub use parts::{Blame, CommandFault, HoldLimit};
pub use sign_in::{Asked, Known, SignInFault};

/// An error of ours that a client may see. The texts are the message; what PostgreSQL has words for is said in its words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    // ---- the protocol ----
    /// A frame or body that no client library sends.
    #[error("{0}")]
    Frame(FrameError),
    /// A startup packet likewise, or a version that is not spoken here.
    #[error("{0}")]
    Startup(StartupError),
    /// A message longer than is taken before the client has signed in.
    #[error("message {tag} has {len} bytes, at most {len_max} are taken before sign-in")]
    LongBeforeSignIn {
        /// The message.
        tag: Tag,
        /// Its length.
        len: usize,
        /// The setting `login_message_max`.
        len_max: u32,
    },
    /// A message that has no place here.
    #[error("unexpected message {tag}, expected {awaited}")]
    UnexpectedMessage {
        /// What came.
        tag: Tag,
        /// What was awaited.
        awaited: &'static str,
    },
    /// Bytes behind the SSLRequest, before the handshake: somebody in the middle may have put them there.
    #[error("received unencrypted data after SSL request")]
    DataBeforeTls,

    // ---- signing in ----
    /// As many clients as there may be.
    #[error("sorry, too many clients already")]
    TooManyClients {
        /// The setting `clients_max`.
        clients_max: u32,
    },
    /// As many of an address, a role or a database as there may be.
    #[error("too many connections for this {what}")]
    TooManyClientsOf {
        /// Of what: `address`, `role` or `database`.
        what: &'static str,
        /// The limit.
        max: u32,
    },
    /// So many refusals of this address are held back that nothing more is done for it.
    #[error("too many failed sign-ins from this address")]
    TooManyFailures,
    /// A balancer that is trusted to name its clients did not, or not in an orderly way.
    #[error("{0}")]
    ProxyHeader(ProxyHeaderError),
    /// No rule lets this connection in, or one refuses it.
    #[error("{} {connection}", if *rejected { "pg_hba.conf rejects connection for" } else { "no pg_hba.conf entry for" })]
    NoRule {
        /// Where from, as whom, to what, and whether it is encrypted, in PostgreSQL's words.
        connection: String,
        /// A rule says so.
        rejected: bool,
    },
    /// The certificate, or the account on the other end, may not use the role.
    #[error("{method} authentication failed for user \"{user}\"")]
    WrongIdentity {
        /// The role.
        user: String,
        /// What was looked at.
        method: &'static str,
    },
    /// The rule wants a certificate, and none was shown.
    #[error("connection requires a valid client certificate")]
    NoCertificate,
    /// Not signed in within the setting `login_timeout`.
    #[error("canceling authentication due to timeout")]
    SignInTimeout {
        /// The setting.
        limit: Duration,
    },
    /// The client must use TLS and does not.
    #[error("connection requires TLS")]
    TlsRequired,
    /// Wrong password, or no such role: the client is not told which.
    #[error("password authentication failed for user \"{user}\"")]
    WrongPassword {
        /// The role.
        user: String,
    },
    /// A role without LOGIN.
    #[error("role \"{user}\" is not permitted to log in")]
    NoLogin {
        /// The role.
        user: String,
    },
    /// A database that does not exist, or that this proxy does not serve.
    #[error("database \"{database}\" does not exist")]
    UnknownDatabase {
        /// Its name.
        database: String,
    },
    /// A database that an operator has disabled.
    #[error("database \"{database}\" is disabled")]
    DatabaseDisabled {
        /// Its name.
        database: String,
    },
    /// A role that may not use the console.
    #[error("role \"{user}\" may not use the console \"{database}\"")]
    NotForConsole {
        /// The role.
        user: String,
        /// The console's database.
        database: String,
    },
    /// A command of the console that it does not know, or cannot carry out; in its words.
    #[error("{message}")]
    Command {
        /// What is wrong.
        message: String,
        /// Whose fault it is, as far as the code tells: a syntax error, or no right to do it, or not now.
        fault: CommandFault,
        /// What to do.
        hint: &'static str,
    },
    /// No server answered the question for the role's verifier, and none is remembered.
    #[error("cannot check the password of user \"{user}\": no server answers")]
    VerifierUnavailable {
        /// The role.
        user: String,
    },
    /// A SASL message that breaks its rules; the mechanism's own words.
    #[error("malformed SCRAM message: {what}")]
    Scram {
        /// What is wrong.
        what: &'static str,
    },
    /// The startup parameter `options` holds more than settings.
    #[error("{0}")]
    Options(OptionsError),

    // ---- servers ----
    /// No primary came up while the statement waited.
    #[error("there is no primary to run this statement on")]
    NoPrimary {
        /// How long it waited.
        waited: Duration,
    },
    /// With `strict` reads: the primary did not come to show what a replica had shown the session.
    #[error("the primary does not show yet what this session has read on a replica")]
    PrimaryBehind {
        /// How long the statement waited.
        waited: Duration,
    },
    /// Reads may not run on the primary by configuration, and no replica may serve them.
    #[error("there is no replica to run this statement on")]
    NoReplica,
    /// As many statements wait for a primary as may.
    #[error("too many statements wait for a primary")]
    TooManyHolds {
        /// The setting that was reached.
        limit: HoldLimit,
    },
    /// No server connection became free in time.
    #[error("no server connection became free within {} ms", waited.as_millis())]
    PoolTimeout {
        /// How long the statement waited.
        waited: Duration,
    },
    /// As many statements wait for a server connection as may.
    #[error("too many statements wait for a server connection")]
    TooManyWaiters {
        /// The setting `waiters_max`.
        waiters_max: u32,
    },
    /// The node ends each connection while we sign in, and answers the monitor meanwhile.
    #[error("server \"{node}\" closed the connection while signing in")]
    ServerUnreachable {
        /// The node's name.
        node: String,
    },
    /// The node says nothing while we sign in, and answers the monitor meanwhile.
    #[error("server \"{node}\" did not finish signing in within {} ms", limit.as_millis())]
    ServerSilent {
        /// The node's name.
        node: String,
        /// The setting `server_connect_timeout`.
        limit: Duration,
    },
    /// The server does not let us in as the role, and has no words of its own for it.
    #[error("{}", fault.message(node, user))]
    ServerSignIn {
        /// The node's name.
        node: String,
        /// The role.
        user: String,
        /// Why.
        fault: SignInFault,
    },
    /// The transaction's server was lost before COMMIT was sent: nothing of it happened.
    #[error("the transaction was lost with its server before it was committed")]
    TransactionLost {
        /// The node's name.
        node: String,
    },
    /// The server was lost while it committed, and nobody can tell any more whether it did.
    #[error("it is not known whether the transaction was committed: the connection to its server was lost")]
    CommitUnknown {
        /// The node's name.
        node: String,
    },
    /// The wait for synchronous replicas was cancelled: committed on the primary, perhaps not on a replica.
    #[error("the transaction is committed on the primary, but may be lost if that fails now")]
    CommitNotReplicated,
    /// A read was lost when part of its result had been sent.
    #[error("the server was lost while it was answering this statement")]
    StatementLost {
        /// The node's name.
        node: String,
    },
    /// The server's ErrorResponse has no code or no message, which PostgreSQL's always have.
    #[error("the server reported an error and did not say which")]
    UnspecifiedError,
    /// What the session kept on its server is gone.
    #[error("terminating connection because the server that held its session state was lost")]
    SessionLost {
        /// What it kept there: the reason of the pin.
        pin: &'static str,
    },

    // ---- the session ----
    /// A prepared statement that does not exist.
    #[error("prepared statement \"{name}\" does not exist")]
    UnknownStatement {
        /// Its name.
        name: String,
    },
    /// A prepared statement that exists already.
    #[error("prepared statement \"{name}\" already exists")]
    DuplicateStatement {
        /// Its name.
        name: String,
    },
    /// A portal that does not exist.
    #[error("portal \"{name}\" does not exist")]
    UnknownPortal {
        /// Its name.
        name: String,
    },
    /// Statement in a transaction that has failed.
    #[error("current transaction is aborted, commands ignored until end of transaction block")]
    FailedTransaction,
    /// More or longer prepared statements than one client may have.
    #[error("a client may have at most {max} {what}")]
    PreparedLimit {
        /// What is limited.
        what: &'static str,
        /// The setting.
        max: u64,
    },
    /// A setting of primacy's own was given a value that it does not have.
    #[error("invalid value for parameter \"{setting}\": \"{value}\"")]
    InvalidSetting {
        /// Its name.
        setting: String,
        /// What the client gave.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A setting of primacy's own that does not exist.
    #[error("unrecognized configuration parameter \"{setting}\"")]
    UnknownSetting {
        /// Its name.
        setting: String,
    },
    /// The client asked for it by a cancel request while the statement had not reached a server.
    #[error("canceling statement due to user request")]
    Cancelled,
    /// Idle for longer than the setting `idle_timeout`.
    #[error("terminating connection due to idle-session timeout")]
    IdleSession,
    /// It did not read its results for longer than the setting `write_timeout`.
    #[error("terminating connection because the client does not read its results")]
    SlowReader {
        /// The setting.
        limit: Duration,
    },
    /// Idle inside a transaction for longer than the setting `idle_in_transaction_timeout`.
    #[error("terminating connection due to idle-in-transaction timeout")]
    IdleInTransaction,
    /// The proxy is stopping.
    #[error("terminating connection because the proxy is shutting down")]
    Drain,
    /// An operator ended the session.
    #[error("terminating connection due to administrator command")]
    Killed,
    /// A bug of ours.
    #[error("internal error: {what}")]
    Internal {
        /// Which rule of ours was broken.
        what: &'static str,
    },
}

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Error,
    Fatal,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

impl ClientError {
    /// The table: code, severity, blame.
    fn facts(&self) -> (SqlState, Severity, Blame) {
        use Blame::{Client, Operator, Proxy, Server};
        use Severity::{Error, Fatal};
        match self {
            Self::Startup(StartupError::Version { .. }) | Self::Options(_) => {
                (SqlState::FEATURE_NOT_SUPPORTED, Fatal, Client)
            }
            Self::Startup(StartupError::NoUser)
            | Self::TlsRequired
            | Self::NoLogin { .. }
            | Self::NoRule { .. }
            | Self::NoCertificate
            | Self::WrongIdentity { .. } => (SqlState::INVALID_AUTHORIZATION_SPECIFICATION, Fatal, Client),
            Self::ProxyHeader(_) => (SqlState::PROTOCOL_VIOLATION, Fatal, Operator),
            Self::TooManyFailures => (SqlState::TOO_MANY_CONNECTIONS, Fatal, Client),
            Self::Frame(_)
            | Self::Startup(_)
            | Self::LongBeforeSignIn { .. }
            | Self::UnexpectedMessage { .. }
            | Self::DataBeforeTls
            | Self::Scram { .. } => (SqlState::PROTOCOL_VIOLATION, Fatal, Client),
            Self::TooManyClients { .. } | Self::TooManyClientsOf { .. } => {
                (SqlState::TOO_MANY_CONNECTIONS, Fatal, Proxy)
            }
            Self::SignInTimeout { .. } | Self::SlowReader { .. } => (SqlState::QUERY_CANCELED, Fatal, Client),
            Self::WrongPassword { .. } => (SqlState::INVALID_PASSWORD, Fatal, Client),
            Self::DatabaseDisabled { .. } => (SqlState::CANNOT_CONNECT_NOW, Fatal, Operator),
            Self::NotForConsole { .. } => (SqlState::INSUFFICIENT_PRIVILEGE, Fatal, Client),
            Self::Command { fault, .. } => (fault.sqlstate(), Error, Client),
            Self::UnknownDatabase { .. } => (SqlState::INVALID_CATALOG_NAME, Fatal, Client),
            Self::VerifierUnavailable { .. } => (SqlState::CANNOT_CONNECT_NOW, Fatal, Server),
            Self::NoPrimary { .. }
            | Self::NoReplica
            | Self::ServerUnreachable { .. }
            | Self::ServerSilent { .. } => (SqlState::CANNOT_CONNECT_NOW, Error, Server),
            // PgBouncer ends the connection here with 08P01. Neither is needed: the statement has not been sent to
            // anybody and the session is whole, so it goes on; and class 53 says what was short.
            Self::PoolTimeout { .. } | Self::TooManyWaiters { .. } | Self::TooManyHolds { .. } => {
                (SqlState::TOO_MANY_CONNECTIONS, Error, Proxy)
            }
            Self::ServerSignIn { fault, .. } => {
                let (sqlstate, blame) = fault.facts();
                (sqlstate, Error, blame)
            }
            Self::TransactionLost { .. } | Self::PrimaryBehind { .. } => {
                (SqlState::SERIALIZATION_FAILURE, Error, Server)
            }
            Self::CommitUnknown { .. } | Self::CommitNotReplicated => {
                (SqlState::TRANSACTION_RESOLUTION_UNKNOWN, Error, Server)
            }
            Self::StatementLost { .. } => (SqlState::CONNECTION_FAILURE, Error, Server),
            Self::UnspecifiedError => (SqlState::PROTOCOL_VIOLATION, Error, Server),
            // 57P01 is what drivers and pools take for "reconnect", which is what has to be done.
            Self::SessionLost { .. } => (SqlState::ADMIN_SHUTDOWN, Fatal, Server),
            Self::UnknownStatement { .. } => (SqlState::INVALID_SQL_STATEMENT_NAME, Error, Client),
            Self::DuplicateStatement { .. } => (SqlState::DUPLICATE_PREPARED_STATEMENT, Error, Client),
            Self::UnknownPortal { .. } => (SqlState::INVALID_CURSOR_NAME, Error, Client),
            Self::FailedTransaction => (SqlState::IN_FAILED_SQL_TRANSACTION, Error, Client),
            Self::PreparedLimit { .. } => (SqlState::PROGRAM_LIMIT_EXCEEDED, Error, Proxy),
            Self::InvalidSetting { .. } => (SqlState::INVALID_PARAMETER_VALUE, Error, Client),
            Self::UnknownSetting { .. } => (SqlState::UNDEFINED_OBJECT, Error, Client),
            Self::Cancelled => (SqlState::QUERY_CANCELED, Error, Client),
            Self::IdleSession => (SqlState::IDLE_SESSION_TIMEOUT, Fatal, Client),
            Self::IdleInTransaction => (SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT, Fatal, Client),
            Self::Drain | Self::Killed => (SqlState::ADMIN_SHUTDOWN, Fatal, Operator),
            // What our own state is worth is unknown, so the session does not go on with it.
            Self::Internal { .. } => (SqlState::INTERNAL_ERROR, Fatal, Proxy),
        }
    }

    /// The error code.
    pub fn sqlstate(&self) -> SqlState {
        self.facts().0
    }

    /// Whether the connection ends with it.
    pub fn fatal(&self) -> bool {
        self.facts().1 == Severity::Fatal
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        self.facts().2
    }

    /// The primary message.
    pub fn message(&self) -> String {
        self.to_string()
    }

    /// Appends the whole ErrorResponse.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_with(self.facts().1, out);
    }

    /// Appends the ErrorResponse with severity FATAL: where the connection ends with it, whatever it is.
    pub fn encode_fatal(&self, out: &mut Vec<u8>) {
        self.encode_with(Severity::Fatal, out);
    }

    fn encode_with(&self, severity: Severity, out: &mut Vec<u8>) {
        let (sqlstate, message, detail) = (self.sqlstate(), self.message(), self.detail());
        let mut fields = vec![
            (b'S', severity.as_str()),
            (b'V', severity.as_str()),
            (b'C', sqlstate.as_str()),
            (b'M', message.as_str()),
        ];
        fields.extend(detail.as_deref().map(|text| (b'D', text)));
        fields.extend(self.hint().map(|text| (b'H', text)));
        encode::error_response(out, &fields);
    }
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<StartupError> for ClientError {
    fn from(error: StartupError) -> Self {
        Self::Startup(error)
    }
}

impl From<OptionsError> for ClientError {
    fn from(error: OptionsError) -> Self {
        Self::Options(error)
    }
}

#[cfg(test)]
mod tests;
