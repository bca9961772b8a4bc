//! The rules applied to one connection: which method its sign-in takes, and whether its certificate or its account may
//! use the role.

use super::{Door, LoginError};
use crate::proxy::Stream;
use crate::proxy::hba::{Asked, Identity, Method};
use crate::proxy::server::Credential;
use crate::session::ClientError;
use crate::wire::startup::Request;

impl Door<'_> {
    /// Finds the rule, proves the role as it says; gives what signs in as the role on servers.
    pub(super) async fn admit_by_rule(
        &mut self,
        request: &Request,
        greeting: Vec<u8>,
    ) -> Result<Credential, LoginError> {
        let settings = self.context.settings.load_full();
        let stream = self.stream()?;
        let tls = stream.is_tls();
        let certificate = stream.peer_owner();
        let asked = Asked {
            address: self.address.map(|address| address.ip()),
            tls,
            user: &request.user,
            database: &request.database,
            // Logical replication is to a database, and found by its name.
            replication: request
                .replication
                .as_ref()
                .is_some_and(|word| !word.eq_ignore_ascii_case("database")),
        };
        let refused = |rejected| {
            let from = asked.address.map_or_else(|| "[local]".to_owned(), |address| address.to_string());
            let encryption = if tls { "SSL encryption" } else { "no encryption" };
            let Request { user, database, .. } = request;
            let connection =
                format!("host \"{from}\", user \"{user}\", database \"{database}\", {encryption}");
            ClientError::NoRule { connection, rejected }
        };
        let Some(rule) = settings.hba.find(&asked) else { return Err(refused(false).into()) };
        let method = rule.method();
        if method == Method::Reject {
            return Err(refused(true).into());
        }
        let account = if method == Method::Peer { account_of(self.stream()?).await } else { None };
        let identity = Identity { certificate, account };
        if !settings.hba.identity_fits(rule, &identity, &request.user) {
            let user = request.user.clone();
            let error = match &identity.certificate {
                _ if method == Method::Peer => ClientError::WrongIdentity { user, method: "Peer" },
                Some(_) => ClientError::WrongIdentity { user, method: "certificate" },
                None => ClientError::NoCertificate,
            };
            return Err(self.hold_back(&request.user, error).await);
        }
        match method {
            Method::Trust | Method::Cert | Method::Peer => {
                self.write(&greeting).await?;
                Ok(self.context.verifiers.credential(&request.user).await)
            }
            _ => self.prove(&request.user, method, greeting).await,
        }
    }
}

/// The account that holds the other end of a Unix socket.
async fn account_of(stream: &Stream) -> Option<String> {
    let Stream::Unix(unix) = stream else { return None };
    let uid = unix.peer_cred().ok()?.uid();
    // May ask a directory over the network.
    let asked = tokio::task::spawn_blocking(move || {
        nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
    });
    asked.await.ok().flatten()
}
