//! Why there is no connection to a server, and what that says: about the server, about a password, about the way.

use std::io;
use std::time::Duration;

use super::super::frames::FrameReadError;
use crate::model::SqlState;
use crate::session::client_error::{Asked, Known, SignInFault};
use crate::wire::scram::ScramError;
use crate::wire::{FrameError, Tag};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The network, or the server's process.
    #[error("{step} failed")]
    Io {
        /// What was being done.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Not done in time.
    #[error("not connected within {} ms", deadline.as_millis())]
    Timeout {
        /// The time.
        deadline: Duration,
    },
    /// The server said no.
    #[error("the server refused with {sqlstate}")]
    Refused {
        /// Its ErrorResponse, whole.
        frame: Vec<u8>,
        /// The code in it.
        sqlstate: SqlState,
    },
    /// TLS is required and the server has none.
    #[error("the server does not speak TLS")]
    NoTls,
    /// The handshake failed: certificate, name, version.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The server asks for a proof that we do not have.
    #[error("the server asks for {}, and there is {}", asked.as_str(), has.as_str())]
    CredentialUnfit {
        /// What it asks for.
        asked: Asked,
        /// What there is.
        has: Known,
    },
    /// The SCRAM exchange failed on our side.
    #[error("signing in with SCRAM failed")]
    Scram(#[source] ScramError),
    /// `channel_binding = "require"`, and the server lets nobody bind.
    #[error("channel binding is required and the server does not offer it")]
    NoBinding,
    /// An error that lacks what each of PostgreSQL's has.
    #[error("the server refused with an error that does not say what is wrong")]
    NoReason,
    /// No source of chance for a nonce.
    #[error("the system gives no random bytes")]
    Chance(#[source] getrandom::Error),
    /// A message that is malformed.
    #[error("the server sent a malformed message")]
    Malformed(#[source] FrameError),
    /// A message that has no place here.
    #[error("the server sent {tag} while we awaited {awaited}")]
    Unexpected {
        /// What came.
        tag: Tag,
        /// What was awaited.
        awaited: &'static str,
    },
    /// Something that no PostgreSQL server does.
    #[error("the server broke the protocol: {what}")]
    Protocol {
        /// What.
        what: &'static str,
    },
}

impl ConnectError {
    /// Whether the server did not take what we know of the role's password.
    pub fn credential_is_doubtful(&self) -> bool {
        match self {
            Self::Scram(_) | Self::CredentialUnfit { .. } => true,
            Self::Refused { sqlstate, .. } => *sqlstate == SqlState::INVALID_PASSWORD,
            _ => false,
        }
    }

    /// What the client is told of it, where the server has no words of its own: those, and what says that the node may be
    /// dying, are not for here.
    pub(in crate::proxy) fn fault(&self) -> SignInFault {
        match self {
            Self::CredentialUnfit { asked, has } => SignInFault::Unproven { asked: *asked, has: *has },
            Self::Scram(ScramError::OtherVerifier) => SignInFault::OtherVerifier,
            Self::Scram(ScramError::WrongServer) => SignInFault::FalseServer,
            Self::NoTls => SignInFault::NoTls,
            Self::Tls(_) => SignInFault::Tls,
            Self::NoBinding => SignInFault::NoBinding,
            Self::NoReason => SignInFault::NoReason,
            Self::Scram(_)
            | Self::Malformed(_)
            | Self::Unexpected { .. }
            | Self::Protocol { .. }
            | Self::Chance(_)
            | Self::Io { .. }
            | Self::Timeout { .. }
            | Self::Refused { .. } => SignInFault::Nonsense,
        }
    }

    /// Whether the server may let us in with TLS where it did not without, or the other way round. libpq tries again after
    /// any refusal; only a rule of access can depend on it.
    pub(super) fn another_way_may_do(&self) -> bool {
        match self {
            Self::Tls(_) => true,
            Self::Refused { sqlstate, .. } => *sqlstate == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            _ => false,
        }
    }

    /// Whether the server had taken the connection, and ended it without a word, or never said one.
    pub(in crate::proxy) fn is_without_a_word(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let (step, source) = match self {
            Self::Timeout { .. } => return true,
            Self::Io { step, source } => (step, source),
            _ => return false,
        };
        *step != "connecting"
            && matches!(source.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
    }

    /// Whether it says something about the node's health, so that the monitor should look at once. A refusal for this
    /// role or database does not.
    pub fn node_is_suspect(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Timeout { .. } => true,
            Self::Refused { sqlstate, .. } => matches!(
                *sqlstate,
                SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW
            ),
            _ => false,
        }
    }
}

impl From<FrameReadError> for ConnectError {
    fn from(error: FrameReadError) -> Self {
        match error {
            FrameReadError::Io(source) => Self::Io { step: "reading", source },
            FrameReadError::Closed => {
                Self::Io { step: "signing in", source: io::ErrorKind::UnexpectedEof.into() }
            }
            FrameReadError::Malformed(source) => Self::Malformed(source),
            FrameReadError::TooLong { .. } => {
                Self::Protocol { what: "a message that is too long to sign in" }
            }
        }
    }
}

impl From<FrameError> for ConnectError {
    fn from(error: FrameError) -> Self {
        Self::Malformed(error)
    }
}
