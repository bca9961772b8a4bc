//! Why a server does not let us in as a client's role, where it has no words of its own for it. In: what went wrong. Out:
//! code, message, detail and hint.
//!
//! The client learns what kind of thing is wrong and who can mend it, and nothing of what the server sent or what is known
//! of the role: that is in the log, if anywhere.

use super::Blame;
use crate::model::SqlState;

/// What a server asks for as proof of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// The password itself.
    Password,
    /// The password itself, on a connection that others may read.
    PasswordInTheOpen,
    /// A hash of it.
    Md5,
    /// A proof by SCRAM.
    Scram,
    /// A mechanism of SASL that is not spoken here.
    OtherMechanism,
    /// A method that is not spoken here: GSSAPI and the like.
    OtherMethod,
}

impl Asked {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "the password",
            Self::PasswordInTheOpen => "the password in clear text, without TLS",
            Self::Md5 => "an md5 of the password",
            Self::Scram => "a SCRAM proof",
            Self::OtherMechanism => "a SASL mechanism other than SCRAM-SHA-256",
            Self::OtherMethod => "a method other than password and SCRAM",
        }
    }
}

/// What is known of a role, to prove it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// Its password.
    Password,
    /// Its SCRAM keys.
    ScramKey,
    /// The md5 hash of its password.
    Md5Hash,
    /// Nothing.
    Nothing,
}

impl Known {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "a password",
            Self::ScramKey => "a SCRAM key",
            Self::Md5Hash => "an md5 hash",
            Self::Nothing => "no password",
        }
    }
}

/// Why there is no signing in on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignInFault {
    /// It asks for what cannot be given with what is known of the role.
    Unproven {
        /// For what.
        asked: Asked,
        /// What is known of the role.
        has: Known,
    },
    /// Its challenge is not of the verifier that the client was checked against: it keeps another one, or the password has
    /// expired, and then PostgreSQL makes one up.
    OtherVerifier,
    /// It did not prove that it knows the role's verifier.
    FalseServer,
    /// It said what no PostgreSQL server says.
    Nonsense,
    /// It said that it refuses, and neither why nor with which code.
    NoReason,
    /// It has no TLS, which the node's `sslmode` wants.
    NoTls,
    /// The handshake failed: a certificate, a name, a version.
    Tls,
    /// `channel_binding = "require"`, and it lets nobody bind.
    NoBinding,
}

impl SignInFault {
    pub(super) fn facts(self) -> (SqlState, Blame) {
        match self {
            Self::Unproven { .. } => (SqlState::INVALID_AUTHORIZATION_SPECIFICATION, Blame::Operator),
            Self::OtherVerifier => (SqlState::INVALID_PASSWORD, Blame::Client),
            Self::Nonsense | Self::NoReason => (SqlState::PROTOCOL_VIOLATION, Blame::Server),
            Self::FalseServer => (SqlState::UNABLE_TO_ESTABLISH_CONNECTION, Blame::Server),
            Self::NoTls | Self::Tls | Self::NoBinding => {
                (SqlState::UNABLE_TO_ESTABLISH_CONNECTION, Blame::Operator)
            }
        }
    }

    pub(super) fn message(self, node: &str, user: &str) -> String {
        match self {
            Self::OtherVerifier => format!("password authentication failed for user \"{user}\""),
            Self::Unproven { .. } => {
                format!("cannot sign in on server \"{node}\" as user \"{user}\"")
            }
            Self::FalseServer => format!("server \"{node}\" did not prove that it knows user \"{user}\""),
            Self::Nonsense => format!("server \"{node}\" broke the protocol while signing in"),
            Self::NoReason => format!("server \"{node}\" refused user \"{user}\" and did not say why"),
            Self::NoTls => format!("server \"{node}\" does not speak TLS"),
            Self::Tls => format!("the TLS handshake with server \"{node}\" failed"),
            Self::NoBinding => format!("server \"{node}\" offers no channel binding"),
        }
    }

    pub(super) fn detail(self) -> Option<String> {
        match self {
            Self::Unproven { asked, has } => Some(format!(
                "The server asks for {}; known of the role is {}.",
                asked.as_str(),
                has.as_str()
            )),
            _ => None,
        }
    }

    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Unproven { asked: Asked::PasswordInTheOpen, .. } => {
                "Set the node's sslmode to require or stricter, or let the server's pg_hba.conf ask for scram-sha-256."
            }
            Self::Unproven { asked: Asked::OtherMechanism | Asked::OtherMethod, .. } => {
                "Let the server's pg_hba.conf ask connections from primacy for scram-sha-256 or md5."
            }
            Self::OtherVerifier => {
                "The password may have expired, or just been changed; and roles need the same SCRAM verifier on every server."
            }
            Self::Unproven { asked: Asked::Scram, .. } => {
                "Put the role's password into the users file, or let clients sign in with scram-sha-256."
            }
            Self::Unproven { .. } => {
                "Let the server's pg_hba.conf ask for scram-sha-256, or put the role's password into the users file."
            }
            Self::FalseServer => {
                "It may not be the server that it is taken for: check the node's address, and its TLS."
            }
            Self::Nonsense | Self::NoReason => {
                "Check that the node's address leads to PostgreSQL; primacy's log says what came."
            }
            Self::NoTls => "Turn ssl on in the server, or set the node's sslmode to prefer.",
            Self::Tls => "primacy's log says why; `primacy check` tries it again.",
            Self::NoBinding => {
                "It needs TLS and scram-sha-256 on the server, or channel_binding = \"prefer\"."
            }
        }
    }
}
