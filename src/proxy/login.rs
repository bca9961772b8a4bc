//! Takes a new connection from its first byte to a proven role. In: a stream and what signing in needs to know. Out: who
//! it is and what it may use towards the servers, or a cancel request, or nothing.
//!
//! It stops before AuthenticationOk: only a server knows whether the database exists and the role may use it, so the
//! caller asks one first, and then sends AuthenticationOk and what follows it, or the server's own error.
//! What is read ahead is refused at the border to TLS, and handed on at the border to the session.

mod inbox;
mod opening;
mod origin;
mod proof;
mod rules;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Stream;
use super::auth::{AskError, Verifiers};
use super::guesses::Guesses;
use super::quota::{Place, Quotas, Subject};
use super::server::Credential;
use super::settings::Settings;
use super::tls::ClientTlsConfig;
use crate::clock;
use crate::session::ClientError;
use crate::wire::encode;
use crate::wire::startup::{OptionsError, Request, Version, options};
use inbox::Inbox;
use opening::Opened;

/// A client that is refused gets this long to take the reason.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// And so much of what it has sent meanwhile is thrown away.
const FAREWELL_READ_MAX: u64 = 64 * 1024;

/// What signing in needs to know. A reload replaces settings and certificates; who is signing in goes on with the old.
#[derive(Debug)]
pub struct LoginContext {
    /// What passwords are checked against.
    pub verifiers: Arc<Verifiers>,
    tls: ArcSwap<ClientTlsConfig>,
    settings: ArcSwap<Settings>,
    quotas: Arc<Quotas>,
    guesses: Arc<Guesses>,
}

impl LoginContext {
    /// With nobody counted yet.
    pub fn new(settings: &Settings, tls: ClientTlsConfig, verifiers: Arc<Verifiers>) -> Self {
        Self {
            verifiers,
            tls: ArcSwap::from_pointee(tls),
            settings: ArcSwap::from_pointee(settings.clone()),
            quotas: Arc::default(),
            guesses: Arc::default(),
        }
    }

    /// From now on these settings and certificates.
    pub fn reload(&self, settings: &Settings, tls: ClientTlsConfig) {
        self.settings.store(Arc::new(settings.clone()));
        self.tls.store(Arc::new(tls));
    }
}

/// What a connection turned out to be.
pub enum Outcome {
    /// A client that has proven its role.
    Admitted(Box<Admitted>),
    /// A cancel request. The client waits until the stream is closed: close it when the request was passed on.
    Cancel {
        /// The connection.
        stream: Stream,
        /// Process id from the BackendKeyData that we gave.
        pid: i32,
        /// Secret from there.
        secret: Vec<u8>,
        /// Its place among the connections of its address.
        places: Vec<Place>,
    },
    /// The client went away: a port check, or psql on its way to ask for a password.
    Closed,
}

impl fmt::Debug for Outcome {
    // Without the secret of a cancel request: it is the key to somebody's statements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admitted(admitted) => f.debug_tuple("Admitted").field(admitted).finish(),
            Self::Cancel { pid, .. } => f.debug_struct("Cancel").field("pid", pid).finish_non_exhaustive(),
            Self::Closed => f.write_str("Closed"),
        }
    }
}

/// A client that has proven its role, and awaits AuthenticationOk.
#[derive(Debug)]
pub struct Admitted {
    /// The connection.
    pub stream: Stream,
    /// Whose connection it is: the other end's address, or what a trusted balancer says; `None` on a Unix socket.
    pub address: Option<SocketAddr>,
    /// What is still to be sent, ahead of AuthenticationOk: the server's proof. It needs no answer, so it goes in one packet
    /// with what follows. (An error may come in its place.)
    pub unsent: Vec<u8>,
    /// What the client has sent already of its session: it need not wait for AuthenticationOk.
    pub ahead: Vec<u8>,
    /// The role.
    pub user: String,
    /// The database that it wants.
    pub database: String,
    /// Settings from the startup packet, those in `options` among them; each name once.
    pub params: Vec<(String, String)>,
    /// The protocol version that is spoken.
    pub version: Version,
    /// What to sign in with on servers as this role.
    pub credential: Credential,
    /// The value of `replication`, where it wants a replication connection.
    pub replication: Option<String>,
    /// Its places in counts that are limited; to be kept as long as the client stays.
    pub places: Vec<Place>,
}

/// Why there is nobody.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Refused; the client was told.
    #[error("refused: {0}")]
    Refused(ClientError),
    /// Its verifier could not be had; the client was told.
    #[error("refused: {shown}")]
    NoVerifier {
        /// What the client was told.
        shown: ClientError,
        /// Why.
        source: AskError,
    },
    /// The connection failed.
    #[error("the connection failed while {step}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// No source of chance for a nonce.
    #[error("the system gives no random bytes")]
    Chance(#[source] getrandom::Error),
    /// The client went away. Not for callers: they get `Outcome::Closed`.
    #[error("the client went away")]
    Gone,
}

impl LoginError {
    /// What the client was told.
    pub fn shown(&self) -> Option<&ClientError> {
        match self {
            Self::Refused(shown) | Self::NoVerifier { shown, .. } => Some(shown),
            _ => None,
        }
    }

    /// The whole of it for the log.
    pub fn in_words(&self) -> String {
        match self {
            Self::Tls(cause) => format!("{self}: {}", crate::tls::in_words(cause)),
            Self::Io { source, .. } => format!("{self}: {source}"),
            Self::NoVerifier { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

impl<E: Into<ClientError>> From<E> for LoginError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// Signs a client in that connects from `peer`. A client that is refused has been told why when this returns, and so has
/// the log.
pub async fn login(
    stream: Stream,
    peer: Option<SocketAddr>,
    context: &LoginContext,
) -> Result<Outcome, LoginError> {
    let mut door = Door {
        stream: Some(stream),
        context,
        tls: context.tls.load_full(),
        address: peer,
        places: Vec::new(),
        inbox: Inbox::default(),
        unsent: Vec::new(),
    };
    let limit = context.settings.load().limits.login_timeout;
    let result = {
        // Pinned here: several kilobytes that would be moved from hand to hand.
        let admitting = std::pin::pin!(door.admit());
        timeout(limit, admitting).await
    };
    let result = result.unwrap_or(Err(LoginError::Refused(ClientError::SignInTimeout { limit })));
    match result {
        Err(LoginError::Gone) => Ok(Outcome::Closed),
        Err(error) => {
            let peer = door.address.map_or_else(|| "the Unix socket".to_owned(), |peer| peer.to_string());
            tracing::info!(peer, error = error.in_words(), "a client was not let in");
            if let Some(shown) = error.shown() {
                door.say_farewell(shown).await;
            }
            Err(error)
        }
        outcome => outcome,
    }
}

/// A connection on its way in. The stream is away while a handshake owns it.
struct Door<'a> {
    stream: Option<Stream>,
    context: &'a LoginContext,
    tls: Arc<ClientTlsConfig>,
    /// Whose connection it is.
    address: Option<SocketAddr>,
    places: Vec<Place>,
    inbox: Inbox,
    unsent: Vec<u8>,
}

impl Door<'_> {
    async fn admit(&mut self) -> Result<Outcome, LoginError> {
        self.settle_origin().await?;
        let (version, params) = match self.open().await? {
            Opened::Startup { version, params } => (version, params),
            Opened::Cancel { pid, secret } => {
                let places = std::mem::take(&mut self.places);
                return Ok(Outcome::Cancel { stream: self.take()?, pid, secret, places });
            }
        };
        let mut request = Request::new(version, params)?;
        if self.tls.required() && matches!(self.stream, Some(Stream::Tcp(_))) {
            return Err(ClientError::TlsRequired.into());
        }
        if self.tls.certificate_required() && self.stream()?.is_tls() && !self.stream()?.shows_certificate() {
            return Err(ClientError::NoCertificate.into());
        }
        let params = settings(std::mem::take(&mut request.params))?;

        let mut greeting = Vec::with_capacity(128);
        if request.negotiated {
            encode::negotiate_protocol_version(&mut greeting, request.version, &request.unknown_options);
        }
        let credential = self.admit_by_rule(&request, greeting).await?;
        self.context.guesses.succeeded(&request.user);
        let limits = self.context.settings.load().limits.clone();
        self.take_place(limits.clients_per_user_max, "role", || Subject::User(request.user.clone()))?;
        let database = || Subject::Database(request.database.clone());
        self.take_place(limits.clients_per_database_max, "database", database)?;
        Ok(Outcome::Admitted(Box::new(Admitted {
            stream: self.take()?,
            address: self.address,
            unsent: std::mem::take(&mut self.unsent),
            ahead: std::mem::take(&mut self.inbox).into_rest(),
            user: request.user,
            database: request.database,
            params,
            version: request.version,
            credential,
            replication: request.replication,
            places: std::mem::take(&mut self.places),
        })))
    }

    fn stream(&mut self) -> Result<&mut Stream, LoginError> {
        self.stream.as_mut().ok_or(LoginError::Gone)
    }

    fn take(&mut self) -> Result<Stream, LoginError> {
        self.stream.take().ok_or(LoginError::Gone)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), LoginError> {
        let stream = self.stream()?;
        let written = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        written.await.map_err(|source| LoginError::Io { step: "writing", source })
    }

    /// Notes that somebody failed to prove a role, and lets them wait for the answer.
    async fn hold_back(&mut self, user: &str, error: ClientError) -> LoginError {
        let max = self.context.settings.load().limits.auth_delay_max;
        if !max.is_zero() {
            let address = self.address.map(|address| Subject::of_address(address.ip()));
            let subjects = address.into_iter().chain([Subject::User(user.to_owned())]).collect();
            let (delay, held) = self.context.guesses.failed(subjects, clock::now(), max);
            tokio::time::sleep(delay).await;
            drop(held);
        }
        error.into()
    }

    /// Tells the client why, if it listens. There is nobody to tell where that fails.
    async fn say_farewell(&mut self, shown: &ClientError) {
        let Some(stream) = &mut self.stream else { return };
        let mut message = Vec::with_capacity(256);
        shown.encode_fatal(&mut message);
        let told = async {
            stream.write_all(&message).await?;
            stream.shutdown().await?;
            // A socket that is closed with unread bytes in it resets the connection, and the reason would be lost.
            let mut unread = stream.take(FAREWELL_READ_MAX);
            tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
        };
        drop(timeout(FAREWELL_TIMEOUT, told).await);
    }
}

/// The settings of a startup packet: first those in `options`, then the others, as in PostgreSQL; the last one of a name
/// counts, and names do not care about case.
fn settings(params: Vec<(String, String)>) -> Result<Vec<(String, String)>, OptionsError> {
    let (command_line, others): (Vec<_>, Vec<_>) = if params.iter().any(|(name, _)| name == "options") {
        params.into_iter().partition(|(name, _)| name == "options")
    } else {
        (Vec::new(), params)
    };
    let mut settings: Vec<(String, String)> = Vec::with_capacity(others.len());
    let mut set = |name: String, value: String| match settings
        .iter_mut()
        .find(|(known, _)| known.eq_ignore_ascii_case(&name))
    {
        Some((_, old)) => *old = value,
        None => settings.push((name, value)),
    };
    for (_, text) in command_line {
        for (name, value) in options(&text)? {
            set(name, value);
        }
    }
    for (name, value) in others {
        set(name, value);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
