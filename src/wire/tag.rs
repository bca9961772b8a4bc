//! The letters of the protocol. They appear here and nowhere else.

use std::fmt;

/// The first byte of a message (55.7). Client and server use some letters for different messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub u8);

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $letter:literal;)*) => {
        impl Tag {
            $($(#[$doc])* pub const $name: Self = Self($letter);)*
        }
    };
}

// Sent by clients.
tags! {
    /// Simple query.
    QUERY = b'Q';
    /// Prepares a statement.
    PARSE = b'P';
    /// Makes a portal of a statement and parameters.
    BIND = b'B';
    /// Asks for the shape of a statement or portal.
    DESCRIBE = b'D';
    /// Runs a portal.
    EXECUTE = b'E';
    /// Drops a statement or portal.
    CLOSE = b'C';
    /// Ends a pipeline.
    SYNC = b'S';
    /// Asks for the answers so far.
    FLUSH = b'H';
    /// Calls a function by oid (the old fast path).
    FUNCTION_CALL = b'F';
    /// Gives up a COPY FROM STDIN.
    COPY_FAIL = b'f';
    /// Says goodbye.
    TERMINATE = b'X';
    /// Password, SASL or GSS answer while signing in.
    PASSWORD = b'p';
}

// Sent by both sides.
tags! {
    /// Data of a COPY.
    COPY_DATA = b'd';
    /// End of a COPY.
    COPY_DONE = b'c';
}

// Sent by servers.
tags! {
    /// A step of signing in.
    AUTHENTICATION = b'R';
    /// Process id and secret for cancel requests.
    BACKEND_KEY_DATA = b'K';
    /// The server waits for the next command.
    READY_FOR_QUERY = b'Z';
    /// An error.
    ERROR_RESPONSE = b'E';
    /// A notice.
    NOTICE_RESPONSE = b'N';
    /// Value of a reported setting.
    PARAMETER_STATUS = b'S';
    /// A command is done.
    COMMAND_COMPLETE = b'C';
    /// A row.
    DATA_ROW = b'D';
    /// The columns of the rows.
    ROW_DESCRIPTION = b'T';
    /// The statement returns no rows.
    NO_DATA = b'n';
    /// Parse is done.
    PARSE_COMPLETE = b'1';
    /// Bind is done.
    BIND_COMPLETE = b'2';
    /// Close is done.
    CLOSE_COMPLETE = b'3';
    /// Execute stopped at its row limit.
    PORTAL_SUSPENDED = b's';
    /// Types of a statement's parameters.
    PARAMETER_DESCRIPTION = b't';
    /// The query string was empty.
    EMPTY_QUERY_RESPONSE = b'I';
    /// The server waits for COPY data.
    COPY_IN_RESPONSE = b'G';
    /// The server sends COPY data.
    COPY_OUT_RESPONSE = b'H';
    /// Both directions (replication).
    COPY_BOTH_RESPONSE = b'W';
    /// NOTIFY from some session.
    NOTIFICATION_RESPONSE = b'A';
    /// Result of a function call.
    FUNCTION_CALL_RESPONSE = b'V';
    /// Older minor version, or startup options that the server does not know.
    NEGOTIATE_PROTOCOL_VERSION = b'v';
}

impl Tag {
    /// Whether a server sends it to a client that has signed in to a database. CopyBothResponse begins streaming
    /// replication, and there is none in such a session.
    pub fn is_answer(self) -> bool {
        matches!(
            self,
            Self::COPY_DATA
                | Self::COPY_DONE
                | Self::READY_FOR_QUERY
                | Self::ERROR_RESPONSE
                | Self::NOTICE_RESPONSE
                | Self::PARAMETER_STATUS
                | Self::COMMAND_COMPLETE
                | Self::DATA_ROW
                | Self::ROW_DESCRIPTION
                | Self::NO_DATA
                | Self::PARSE_COMPLETE
                | Self::BIND_COMPLETE
                | Self::CLOSE_COMPLETE
                | Self::PORTAL_SUSPENDED
                | Self::PARAMETER_DESCRIPTION
                | Self::EMPTY_QUERY_RESPONSE
                | Self::COPY_IN_RESPONSE
                | Self::COPY_OUT_RESPONSE
                | Self::NOTIFICATION_RESPONSE
                | Self::FUNCTION_CALL_RESPONSE
        )
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(f, "'{}'", char::from(self.0))
        } else {
            write!(f, "0x{:02x}", self.0)
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}
