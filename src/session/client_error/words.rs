//! What is said besides an error's message: details and hints.

use super::{ClientError, HoldLimit};

impl ClientError {
    /// Facts beyond the message.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::TooManyClients { clients_max } => {
                Some(format!("The limit is {clients_max} (limits.max_client_conn)."))
            }
            Self::TooManyClientsOf { what, max } => {
                let setting = match *what {
                    "address" => "max_clients_per_address",
                    "role" => "max_clients_per_user",
                    _ => "max_clients_per_database",
                };
                Some(format!("The limit is {max} (limits.{setting})."))
            }
            Self::SlowReader { limit } => {
                Some(format!("The limit is {} s (limits.client_write_timeout).", limit.as_secs_f64()))
            }
            Self::SignInTimeout { limit } => {
                Some(format!("The limit is {} s (login_timeout).", limit.as_secs_f64()))
            }
            Self::NoPrimary { waited } => {
                Some(format!("The statement waited {} ms for one.", waited.as_millis()))
            }
            Self::PrimaryBehind { waited } => {
                Some(format!("The statement waited {} ms for it.", waited.as_millis()))
            }
            Self::TooManyHolds { limit: HoldLimit::Statements(max) } => {
                Some(format!("The limit is {max} statements (failover.max_held)."))
            }
            Self::TooManyHolds { limit: HoldLimit::Bytes(max) } => {
                Some(format!("The limit is {max} bytes (failover.max_held_bytes)."))
            }
            Self::TooManyWaiters { waiters_max } => {
                Some(format!("The limit is {waiters_max} per pool (pool.max_waiting)."))
            }
            Self::ServerSignIn { fault, .. } => fault.detail(),
            Self::ServerUnreachable { .. } | Self::ServerSilent { .. } => {
                Some("It was tried several times, and answers others meanwhile.".to_owned())
            }
            Self::TransactionLost { node } => {
                Some(format!("The server was \"{node}\". Nothing of the transaction took effect."))
            }
            Self::CommitUnknown { node } => Some(format!("The server was \"{node}\".")),
            Self::CommitNotReplicated => {
                Some("The wait for synchronous replicas was cancelled before they confirmed.".to_owned())
            }
            Self::StatementLost { node } => {
                Some(format!("The server was \"{node}\". The result is incomplete."))
            }
            Self::SessionLost { pin } => Some(format!("The session was bound to that server: {pin}.")),
            Self::InvalidSetting { allowed, .. } => Some(format!("Allowed are: {allowed}.")),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::DatabaseDisabled { .. } => Some("On the console: ENABLE followed by the database's name."),
            Self::NotForConsole { .. } => Some("Add it to console.admin_users or console.stats_users."),
            Self::Command { hint, .. } => Some(hint).filter(|hint| !hint.is_empty()).copied(),
            Self::TlsRequired => Some("Connect with sslmode=require or stricter."),
            Self::TooManyFailures => Some("Wait a few seconds, and try again with the right password."),
            Self::ProxyHeader(_) => {
                Some("proxy_protocol names networks whose connections begin with a PROXY header.")
            }
            Self::VerifierUnavailable { .. }
            | Self::NoReplica
            | Self::ServerUnreachable { .. }
            | Self::ServerSilent { .. } => {
                Some("Try again; `primacy status` shows the state of the servers.")
            }
            Self::NoPrimary { .. } => Some(
                "A failover may be under way: try again. `primacy status` shows the state of the servers.",
            ),
            Self::ServerSignIn { fault, .. } => Some(fault.hint()),
            Self::PoolTimeout { .. } => Some("Raise pool.default_pool_size, or shorten transactions."),
            Self::TransactionLost { .. } => Some("Run the transaction again from its beginning."),
            Self::CommitUnknown { .. } | Self::CommitNotReplicated => {
                Some("Check whether the changes are there before you repeat them.")
            }
            Self::StatementLost { .. } | Self::PrimaryBehind { .. } => Some("Run the statement again."),
            Self::SessionLost { .. } | Self::Drain => Some("Reconnect."),
            Self::Internal { .. } => Some("This is a bug in primacy; please report it."),
            _ => None,
        }
    }
}
