//! What errors are made of: limits, faults, blame.

use crate::model::SqlState;

/// What is wrong with a command of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandFault {
    /// There is no such command.
    Syntax,
    /// It names something that does not exist.
    Unknown,
    /// This role may look and not act.
    NotAllowed,
    /// It is not possible now.
    NotNow,
}

/// Which bound on waiting statements was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldLimit {
    /// The setting `holds_max`.
    Statements(u32),
    /// The setting `hold_bytes_max`.
    Bytes(u64),
}

impl CommandFault {
    pub(super) fn sqlstate(self) -> SqlState {
        match self {
            Self::Syntax => SqlState::SYNTAX_ERROR,
            Self::Unknown => SqlState::UNDEFINED_OBJECT,
            Self::NotAllowed => SqlState::INSUFFICIENT_PRIVILEGE,
            Self::NotNow => SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        }
    }
}

/// Whose fault an error is; a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The client broke a rule, or asked for what cannot be.
    Client,
    /// A server failed.
    Server,
    /// A limit or a bug of this proxy.
    Proxy,
    /// Configuration, or an operator's command.
    Operator,
}

impl Blame {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Proxy => "proxy",
            Self::Operator => "operator",
        }
    }
}
