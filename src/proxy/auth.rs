//! Where the verifiers of clients' roles come from: a query on the servers, or a file. In: a role's name. Out: what its
//! password is checked against; for a role that does not exist something that looks the same and fits no password.
//!
//! Shared by all workers. Answers are remembered for a while, and longer while no server answers, so that clients can
//! sign in while there is no primary.

mod ask;
mod cache;
mod users_file;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

use super::server::Credential;
use super::settings::{Auth, Settings};
use super::tls::ServerTlsConfig;
use crate::control::Board;
use crate::model::Secret;
use crate::wire::md5;
use crate::wire::scram::{ITERATIONS_DEFAULT, Verifier};

pub use ask::AskError;
use ask::Asker;
use cache::Cache;
use users_file::UsersFile;
pub use users_file::UsersFileError;

/// The query that is used where configuration names none. A role whose password has expired is treated as one without
/// a password, as PostgreSQL does; one that may not log in is refused by the server, after its password was checked.
pub const AUTH_QUERY_DEFAULT: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END \
                                      FROM pg_catalog.pg_authid WHERE rolname = $1";

/// What is kept of a role's password.
#[derive(Debug)]
pub enum Stored {
    /// A SCRAM verifier: genuine, or made up for a role without one.
    Scram(Arc<Verifier>),
    /// `md5` and a hash of password and role.
    Md5(Secret),
    /// The password itself (users file only).
    Password {
        /// The password.
        password: Secret,
        /// Made of it when it is first needed, because that takes thousands of hashes.
        verifier: OnceLock<Arc<Verifier>>,
    },
}

impl Stored {
    /// Reads what `pg_authid.rolpassword` or a users file holds: its beginning tells what it is.
    fn from_text(text: &str) -> Self {
        if let Ok(verifier) = Verifier::parse(text) {
            Self::Scram(Arc::new(verifier))
        } else if md5::is_stored(text) {
            Self::Md5(Secret::new(text))
        } else {
            Self::Password { password: Secret::new(text), verifier: OnceLock::new() }
        }
    }
}

impl Stored {
    /// Whether this is the password. Takes thousands of hashes, also for a role that does not exist.
    pub(super) fn is_password(&self, user: &str, given: &Secret) -> bool {
        use subtle::ConstantTimeEq as _;
        match self {
            Self::Scram(verifier) => verifier.is_of(given.reveal()),
            Self::Md5(stored) => {
                md5::stored(user, given.reveal()).as_bytes().ct_eq(stored.reveal().as_bytes()).into()
            }
            Self::Password { password, .. } => {
                given.reveal().as_bytes().ct_eq(password.reveal().as_bytes()).into()
            }
        }
    }
}

/// Configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VerifiersError {
    /// The users file.
    #[error("the users file {} cannot be used", path.display())]
    UsersFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: UsersFileError,
    },
    /// No source of chance.
    #[error("the system gives no random bytes")]
    Chance(#[source] getrandom::Error),
}

/// Looks verifiers up.
pub struct Verifiers {
    /// Looked into first.
    file: Option<UsersFile>,
    /// Asked for who is not in it.
    query: Option<(Box<Asker>, Cache)>,
    /// Of this process: makes salts that cannot be told from genuine ones.
    secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifiers").field("query", &self.query).finish_non_exhaustive()
    }
}

impl Verifiers {
    /// Reads the users file, or gets ready to ask the servers. `tls` is by `NodeId`.
    pub fn new(
        settings: &Settings,
        tls: Arc<[ServerTlsConfig]>,
        board: Arc<Board>,
    ) -> Result<Self, VerifiersError> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).map_err(VerifiersError::Chance)?;
        let (path, query) = match &settings.auth {
            Auth::File(path) => (Some(path), None),
            Auth::Query { sql, cache_for, recheck_after, users_file } => {
                let asker = Asker::new(Arc::clone(sql), settings, tls, board);
                (users_file.as_ref(), Some((Box::new(asker), Cache::new(*cache_for, *recheck_after))))
            }
        };
        let read = |path: &PathBuf| {
            UsersFile::read(path).map_err(|source| VerifiersError::UsersFile { path: path.clone(), source })
        };
        Ok(Self { file: path.map(read).transpose()?, query, secret })
    }

    /// What the role's password is checked against. A role that does not exist, or has no password, gets a verifier
    /// that fits none.
    pub async fn lookup(&self, user: &str) -> Result<Arc<Stored>, AskError> {
        let listed = self.file.as_ref().and_then(|file| file.find(user));
        let found = match &self.query {
            Some((asker, cache)) if listed.is_none() => {
                cache.lookup(user, async || asker.ask(user).await).await?
            }
            _ => listed,
        };
        Ok(found.unwrap_or_else(|| Arc::new(Stored::Scram(self.mock(user)))))
    }

    /// A verifier that fits no password.
    pub(super) fn mock(&self, user: &str) -> Arc<Verifier> {
        Arc::new(Verifier::mock(&*self.secret, user))
    }

    /// What signs in on servers as a role that has shown no password here (`trust`, `cert`, `peer`): what the users file
    /// has of it. Of a verifier alone no proof can be made.
    pub(super) async fn credential(&self, user: &str) -> Credential {
        match self.lookup(user).await.as_deref() {
            Ok(Stored::Password { password, .. }) => Credential::Password(password.clone()),
            Ok(Stored::Md5(stored)) => Credential::Md5(stored.clone()),
            Ok(Stored::Scram(_)) | Err(_) => Credential::None,
        }
    }

    /// Says that a sign-in of this role failed, here or on a server: its password may have been changed. What is
    /// remembered of it is asked again before it is used again, unless it has only just been asked.
    pub fn distrust(&self, user: &str) {
        if let Some((_, cache)) = &self.query {
            cache.distrust(user);
        }
    }

    /// The SCRAM verifier of a role whose password is known.
    pub(super) fn verifier_of_password(
        &self,
        user: &str,
        password: &Secret,
        made: &OnceLock<Arc<Verifier>>,
    ) -> Arc<Verifier> {
        let make = || {
            let salt = Verifier::salt(&*self.secret, user);
            Arc::new(Verifier::from_password(password.reveal(), &salt, ITERATIONS_DEFAULT))
        };
        Arc::clone(made.get_or_init(make))
    }
}
