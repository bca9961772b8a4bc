//! Opens a connection to a server and signs in on it. In: where, as whom, with what. Out: a connection that waits for
//! its first query and has nothing buffered, or why there is none.
//!
//! Protocol 3.0 is spoken towards servers; every version of PostgreSQL does.

mod error;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Stream;
use super::frames::{Frame, FrameReader};
use super::settings::Node;
use super::tls::ServerTlsConfig;
use crate::model::{Address, Secret};
use crate::session::client_error::{Asked, Known};
use crate::tls::{ChannelBinding, Way};
use crate::wire::backend::{Authentication, Mechanisms};
use crate::wire::scram::{self, AwaitingServerFinal, AwaitingServerFirst, Bind, Keys, ScramError};
use crate::wire::startup::Version;
use crate::wire::{ErrorFields, Tag, backend, encode, md5};
pub use error::ConnectError;

/// Longest message while signing in. The longest is an error with its context, or a ParameterStatus.
const MESSAGE_LEN_MAX: usize = 256 * 1024;

/// Most settings that a server may report while signing in; PostgreSQL 18 reports 15.
const PARAMS_MAX: usize = 1000;

/// A cancel request is carried out or given up within this time.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// What we can prove about a role.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Its password.
    Password(Secret),
    /// Its SCRAM keys, without the password.
    Scram(Arc<Keys>),
    /// The md5 hash that the server keeps: `md5` and 32 digits.
    Md5(Secret),
    /// Nothing: works where the server trusts us.
    None,
}

/// Who signs in, and how the session begins.
#[derive(Clone, Copy, Debug)]
pub struct SignIn<'a> {
    /// The role.
    pub user: &'a str,
    /// The database.
    pub database: &'a str,
    /// Further startup parameters: settings.
    pub startup: &'a [(String, String)],
    /// What proves that we may.
    pub credential: &'a Credential,
}

/// A connection that waits for its first query.
pub struct Connected {
    /// The connection; nothing of it has been read ahead.
    pub stream: Stream,
    /// Process id for cancel requests.
    pub pid: i32,
    /// Secret for cancel requests.
    pub secret: Vec<u8>,
    /// The settings that the server reported (ParameterStatus), in its order.
    pub params: Vec<(String, String)>,
}

impl fmt::Debug for Connected {
    // Without the secret: who has it can cancel our statements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Connected");
        shown.field("stream", &self.stream).field("pid", &self.pid).field("params", &self.params);
        shown.finish_non_exhaustive()
    }
}

/// Connects and signs in, all within `deadline`.
pub async fn connect(
    node: &Node,
    tls: &ServerTlsConfig,
    who: &SignIn<'_>,
    deadline: Duration,
) -> Result<Connected, ConnectError> {
    let work = async {
        let ways = match node.address {
            Address::Unix { .. } => &[Way::Plain],
            Address::Tcp { .. } => tls.ways(),
        };
        for way in ways.iter().take(ways.len() - 1) {
            match try_one(node, (tls, *way), who).await {
                Err(error) if error.another_way_may_do() => {}
                tried => return tried,
            }
        }
        try_one(node, (tls, ways.last().copied().unwrap_or(Way::Plain)), who).await
    };
    timeout(deadline, work).await.unwrap_or(Err(ConnectError::Timeout { deadline }))
}

async fn try_one(
    node: &Node,
    (tls, way): (&ServerTlsConfig, Way),
    who: &SignIn<'_>,
) -> Result<Connected, ConnectError> {
    let stream = open(&node.address, tls, way).await?;
    let (frames, binding) = (FrameReader::new(MESSAGE_LEN_MAX), tls.channel_binding());
    Conversation { stream, frames, binding }.sign_in(who).await
}

/// Asks a server to cancel what the session of that process id runs, and waits until the server has taken note.
/// The server never says whether there was anything to cancel.
pub async fn cancel(node: &Node, tls: &ServerTlsConfig, pid: i32, secret: &[u8]) -> Result<(), ConnectError> {
    let work = async {
        let mut stream = open(&node.address, tls, tls.way_to_cancel()).await?;
        let mut request = Vec::with_capacity(16 + secret.len());
        encode::cancel_request(&mut request, pid, secret);
        write(&mut stream, &request).await?;
        // The server closes when it has signalled; before that the cancel might still overtake a later statement.
        match stream.read(&mut [0; 16]).await {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                Err(ConnectError::Io { step: "cancelling", source: error })
            }
            _ => Ok(()),
        }
    };
    timeout(CANCEL_TIMEOUT, work).await.unwrap_or(Err(ConnectError::Timeout { deadline: CANCEL_TIMEOUT }))
}

/// A connection on which TLS is settled and nothing else has been said.
async fn open(address: &Address, tls: &ServerTlsConfig, way: Way) -> Result<Stream, ConnectError> {
    let failed = |source| ConnectError::Io { step: "connecting", source };
    let (host, port) = match address {
        // As in libpq, TLS is not used on Unix sockets, whatever the mode.
        Address::Unix { dir, port } => return unix(dir, *port).await.map_err(failed),
        Address::Tcp { host, port } => (host.as_str(), *port),
    };
    // An address needs no resolver, which would cost a trip to a thread of the blocking pool.
    let tcp = match host.parse::<IpAddr>() {
        Ok(ip) => TcpStream::connect((ip, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    }
    .map_err(failed)?;
    let mut stream = Stream::tcp(tcp).map_err(failed)?;
    if way == Way::Plain {
        return Ok(stream);
    }
    if tls.direct()
        && let Stream::Tcp(tcp) = stream
    {
        return tls.connect(tcp, host).await.map_err(ConnectError::Tls);
    }

    let mut request = Vec::with_capacity(8);
    encode::ssl_request(&mut request);
    write(&mut stream, &request).await?;
    // Exactly one byte is read: whatever somebody in the middle puts behind it becomes part of the handshake and fails.
    let answer =
        stream.read_u8().await.map_err(|source| ConnectError::Io { step: "asking for TLS", source })?;
    match (answer, stream) {
        (b'S', Stream::Tcp(tcp)) => tls.connect(tcp, host).await.map_err(ConnectError::Tls),
        (b'N', _) if way == Way::Tls => Err(ConnectError::NoTls),
        (b'N', stream) => Ok(stream),
        _ => Err(ConnectError::Protocol { what: "neither yes nor no to a request for TLS" }),
    }
}

async fn unix(dir: &Path, port: u16) -> io::Result<Stream> {
    UnixStream::connect(dir.join(format!(".s.PGSQL.{port}"))).await.map(Stream::from)
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> Result<(), ConnectError> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    written.await.map_err(|source| ConnectError::Io { step: "writing", source })
}

/// A connection while we sign in on it.
struct Conversation {
    stream: Stream,
    frames: FrameReader,
    binding: ChannelBinding,
}

impl Conversation {
    async fn sign_in(mut self, who: &SignIn<'_>) -> Result<Connected, ConnectError> {
        let mut startup = Vec::with_capacity(256);
        let first = [("user", who.user), ("database", who.database)];
        let settings = who.startup.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        encode::startup(&mut startup, Version::V3_0, first.into_iter().chain(settings));
        write(&mut self.stream, &startup).await?;
        self.authenticate(who).await?;
        self.until_ready().await
    }

    /// The next message that is neither a notice nor an error.
    async fn next(&mut self) -> Result<Frame, ConnectError> {
        loop {
            let frame = self.frames.next(&mut self.stream).await?;
            match frame.tag {
                Tag::NOTICE_RESPONSE => {}
                Tag::ERROR_RESPONSE => {
                    let fields = ErrorFields::new(frame.body());
                    let Some(sqlstate) = fields.code().filter(|_| fields.are_whole()) else {
                        return Err(ConnectError::NoReason);
                    };
                    return Err(ConnectError::Refused { frame: frame.bytes.to_vec(), sqlstate });
                }
                _ => return Ok(frame),
            }
        }
    }

    async fn next_authentication(&mut self) -> Result<Frame, ConnectError> {
        match self.next().await? {
            frame if frame.tag == Tag::AUTHENTICATION => Ok(frame),
            frame => Err(ConnectError::Unexpected { tag: frame.tag, awaited: "Authentication" }),
        }
    }

    /// Answers what the server asks until it is content.
    async fn authenticate(&mut self, who: &SignIn<'_>) -> Result<(), ConnectError> {
        let frame = self.next_authentication().await?;
        match Authentication::decode(frame.body())? {
            // Whoever lets us in without a bound proof may be anybody.
            Authentication::Sasl(mechanisms) => self.scram(mechanisms, who.credential).await?,
            _ if self.binding == ChannelBinding::Require => return Err(ConnectError::NoBinding),
            Authentication::Ok => return Ok(()),
            Authentication::Cleartext => self.send_cleartext(who.credential).await?,
            Authentication::Md5 { salt } => self.send_md5(who, salt).await?,
            Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
                return Err(ConnectError::Protocol { what: "SASL before it was offered" });
            }
            Authentication::Other(_) => {
                return Err(unfit(Asked::OtherMethod, who.credential));
            }
        }
        let frame = self.next_authentication().await?;
        match Authentication::decode(frame.body())? {
            Authentication::Ok => Ok(()),
            _ => Err(ConnectError::Protocol { what: "a second question while signing in" }),
        }
    }

    async fn send_cleartext(&mut self, credential: &Credential) -> Result<(), ConnectError> {
        let Credential::Password(password) = credential else {
            return Err(unfit(Asked::Password, credential));
        };
        if !self.stream.is_private() {
            return Err(unfit(Asked::PasswordInTheOpen, credential));
        }
        self.send_password(password.reveal()).await
    }

    async fn send_md5(&mut self, who: &SignIn<'_>, salt: [u8; 4]) -> Result<(), ConnectError> {
        let answer = match who.credential {
            Credential::Password(password) => md5::answer(&md5::stored(who.user, password.reveal()), salt),
            Credential::Md5(stored) => md5::answer(stored.reveal(), salt),
            credential => return Err(unfit(Asked::Md5, credential)),
        };
        self.send_password(&answer).await
    }

    async fn send_password(&mut self, password: &str) -> Result<(), ConnectError> {
        let mut message = zeroize::Zeroizing::new(Vec::with_capacity(password.len() + 8));
        encode::password(&mut message, password.as_bytes());
        write(&mut self.stream, &message).await
    }

    async fn scram(
        &mut self,
        mechanisms: Mechanisms<'_>,
        credential: &Credential,
    ) -> Result<(), ConnectError> {
        if !matches!(credential, Credential::Password(_) | Credential::Scram(_)) {
            return Err(unfit(Asked::Scram, credential));
        }
        let offers = |wanted: &str| mechanisms.iter().any(|name| name == wanted.as_bytes());
        let end_point = match self.binding {
            ChannelBinding::Disable => None,
            ChannelBinding::Prefer | ChannelBinding::Require => self.stream.server_end_point(),
        };
        let (mechanism, bind) = match &end_point {
            Some(end_point) if offers(scram::MECHANISM_PLUS) => (scram::MECHANISM_PLUS, Bind::To(end_point)),
            _ if self.binding == ChannelBinding::Require => return Err(ConnectError::NoBinding),
            _ if !offers(scram::MECHANISM) => {
                return Err(unfit(Asked::OtherMechanism, credential));
            }
            Some(_) => (scram::MECHANISM, Bind::NotOffered),
            None => (scram::MECHANISM, Bind::No),
        };
        let mut chance = [0; scram::NONCE_BYTES];
        getrandom::fill(&mut chance).map_err(ConnectError::Chance)?;
        let (state, first) = AwaitingServerFirst::begin_bound(&scram::nonce(chance), bind);
        let mut message = Vec::with_capacity(64);
        encode::sasl_initial_response(&mut message, mechanism, first.as_bytes());
        write(&mut self.stream, &message).await?;

        let frame = self.next_authentication().await?;
        let Authentication::SaslContinue(challenge) = Authentication::decode(frame.body())? else {
            return Err(ConnectError::Protocol { what: "no SCRAM challenge" });
        };
        let (state, proof) = match credential {
            Credential::Password(password) => prove_password(state, challenge, password).await?,
            Credential::Scram(keys) => state.prove_keys(challenge, keys),
            Credential::Md5(_) | Credential::None => return Err(unfit(Asked::Scram, credential)),
        }
        .map_err(ConnectError::Scram)?;
        message.clear();
        encode::sasl_response(&mut message, proof.as_bytes());
        write(&mut self.stream, &message).await?;

        let frame = self.next_authentication().await?;
        let Authentication::SaslFinal(signature) = Authentication::decode(frame.body())? else {
            return Err(ConnectError::Protocol { what: "no SCRAM signature" });
        };
        state.finish(signature).map_err(ConnectError::Scram)
    }

    /// Collects what the server reports until it waits for a query.
    async fn until_ready(mut self) -> Result<Connected, ConnectError> {
        let (mut pid, mut secret, mut params) = (0, Vec::new(), Vec::new());
        loop {
            let frame = self.next().await?;
            match frame.tag {
                Tag::PARAMETER_STATUS if params.len() < PARAMS_MAX => {
                    let (name, value) = backend::parameter_status(frame.body())?;
                    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                    params.push((text(name), text(value)));
                }
                Tag::BACKEND_KEY_DATA => {
                    let (its_pid, its_secret) = backend::backend_key(frame.body())?;
                    (pid, secret) = (its_pid, its_secret.to_vec());
                }
                Tag::READY_FOR_QUERY => break,
                tag => return Err(ConnectError::Unexpected { tag, awaited: "ReadyForQuery" }),
            }
        }
        // Nobody has asked anything, so what follows ReadyForQuery would be taken for an answer to the first query.
        match self.frames.buffered() {
            0 => Ok(Connected { stream: self.stream, pid, secret, params }),
            _ => Err(ConnectError::Protocol { what: "an answer before the first query" }),
        }
    }
}

/// Thousands of hashes take a millisecond or more, in which this thread's other sessions would stand still.
async fn prove_password(
    state: AwaitingServerFirst,
    challenge: &[u8],
    password: &Secret,
) -> Result<Result<(AwaitingServerFinal, String), ScramError>, ConnectError> {
    let (challenge, password) = (challenge.to_vec(), password.clone());
    let hashing = tokio::task::spawn_blocking(move || state.prove_password(&challenge, password.reveal()));
    hashing.await.map_err(|error| ConnectError::Io { step: "hashing the password", source: error.into() })
}

fn unfit(asked: Asked, credential: &Credential) -> ConnectError {
    let has = match credential {
        Credential::Password(_) => Known::Password,
        Credential::Scram(_) => Known::ScramKey,
        Credential::Md5(_) => Known::Md5Hash,
        Credential::None => Known::Nothing,
    };
    ConnectError::CredentialUnfit { asked, has }
}

#[cfg(test)]
mod tests;
