//! SQLSTATE codes by name (PostgreSQL manual, appendix A).

use std::fmt;

/// A five-character error code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

macro_rules! sqlstates {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$doc])* pub const $name: Self = Self(*$code);)*
        }
    };
}

sqlstates! {
    /// Successful completion.
    SUCCESS = b"00000";
    /// Warning.
    WARNING = b"01000";
    /// No connection to a server.
    UNABLE_TO_ESTABLISH_CONNECTION = b"08001";
    /// Connection failure.
    CONNECTION_FAILURE = b"08006";
    /// It is not known whether the transaction committed.
    TRANSACTION_RESOLUTION_UNKNOWN = b"08007";
    /// The peer broke the protocol.
    PROTOCOL_VIOLATION = b"08P01";
    /// Not supported.
    FEATURE_NOT_SUPPORTED = b"0A000";
    /// Invalid parameter value.
    INVALID_PARAMETER_VALUE = b"22023";
    /// Statement on the wrong kind of transaction: a write in a read-only one, or on a hot standby.
    READ_ONLY_SQL_TRANSACTION = b"25006";
    /// No transaction is open.
    NO_ACTIVE_SQL_TRANSACTION = b"25P01";
    /// The transaction has failed already.
    IN_FAILED_SQL_TRANSACTION = b"25P02";
    /// Idle in transaction for too long.
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = b"25P03";
    /// No prepared statement of that name.
    INVALID_SQL_STATEMENT_NAME = b"26000";
    /// The role may not sign in (or not from there).
    INVALID_AUTHORIZATION_SPECIFICATION = b"28000";
    /// Wrong password.
    INVALID_PASSWORD = b"28P01";
    /// No portal of that name.
    INVALID_CURSOR_NAME = b"34000";
    /// No such database.
    INVALID_CATALOG_NAME = b"3D000";
    /// The transaction has to be run again.
    SERIALIZATION_FAILURE = b"40001";
    /// Syntax error.
    SYNTAX_ERROR = b"42601";
    /// Not allowed.
    INSUFFICIENT_PRIVILEGE = b"42501";
    /// A prepared statement of that name exists.
    DUPLICATE_PREPARED_STATEMENT = b"42P05";
    /// Unknown parameter or object.
    UNDEFINED_OBJECT = b"42704";
    /// Out of memory.
    OUT_OF_MEMORY = b"53200";
    /// Too many connections.
    TOO_MANY_CONNECTIONS = b"53300";
    /// A limit of the program was exceeded.
    PROGRAM_LIMIT_EXCEEDED = b"54000";
    /// The object is not in the state that the command needs.
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000";
    /// The statement was cancelled, or waited too long.
    QUERY_CANCELED = b"57014";
    /// The server (or proxy) is shutting down.
    ADMIN_SHUTDOWN = b"57P01";
    /// A server process crashed.
    CRASH_SHUTDOWN = b"57P02";
    /// The server cannot take connections now.
    CANNOT_CONNECT_NOW = b"57P03";
    /// Idle for too long.
    IDLE_SESSION_TIMEOUT = b"57P05";
    /// A bug of ours.
    INTERNAL_ERROR = b"XX000";
}

impl SqlState {
    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?????")
    }

    /// Reads a code as a server sends it; `None` where it has not five bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({self})")
    }
}
