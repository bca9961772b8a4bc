//! Connections of the control plane to the servers, and what went wrong with them.
//!
//! In: a node's settings. Out: a `Link` (one connection, opened within a deadline) or a `LinkError` that says what
//! kind of failure it was, because the decision core treats a refused connection, silence and "starting up"
//! differently. Every wait here has a deadline: TCP connects to a frozen server too.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket};

use super::settings::{Credentials, NodeSettings, Settings};
use super::task::{self, Task};
use super::tls::{Connector, Stream, TlsError, channel_binding, negotiation, ssl_mode};
use crate::model::{Address, NodeId, SqlState};
use crate::tls::Way;

/// How primacy's own connections name themselves in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "primacy";

/// To deliver a cancel request.
const CANCEL_MAX: Duration = Duration::from_secs(1);

/// Why a connection could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// The connection broke.
    #[error("connection lost")]
    Lost,
    /// No answer within the deadline.
    #[error("no answer within {} ms", after.as_millis())]
    Timeout {
        /// The deadline.
        after: Duration,
    },
    /// The host cannot be reached or its name is unknown.
    #[error("host cannot be reached")]
    Unreachable {
        /// Why.
        source: io::Error,
    },
    /// The server answered with an error.
    #[error("{code}: {message}")]
    Server {
        /// Its SQLSTATE.
        code: SqlState,
        /// Its text.
        message: String,
    },
    /// TLS could not be prepared or agreed on.
    #[error("TLS failed: {detail}")]
    Tls {
        /// What rustls says.
        detail: String,
    },
    /// The server wants a password.
    #[error("the server asks for a password, and none is set")]
    NoPassword,
    /// The server's answer was not what the question asks for.
    #[error("unexpected answer: {detail}")]
    Answer {
        /// What was wrong.
        detail: String,
    },
}

impl LinkError {
    /// The server's error code, where it sent one.
    pub fn code(&self) -> Option<SqlState> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the server said that it is starting, stopping or recovering from a crash (57P01 to 57P03).
    pub fn is_transient_state(&self) -> bool {
        matches!(
            self.code(),
            Some(SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW)
        )
    }

    /// Whether the connection itself is of no further use.
    pub fn breaks_link(&self) -> bool {
        !matches!(self, Self::Server { .. } | Self::Answer { .. }) || self.is_transient_state()
    }

    fn from_io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            // A missing socket file is the Unix way of refusing.
            Kind::ConnectionRefused | Kind::NotFound => Self::Refused,
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
            | Kind::NotConnected => Self::Lost,
            Kind::TimedOut => Self::Timeout { after: Duration::ZERO },
            Kind::InvalidData if is_tls(error) => Self::Tls { detail: chain(error) },
            _ => Self::Unreachable { source: io::Error::new(error.kind(), error.to_string()) },
        }
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// Whether the server may let us in with TLS where it did not without, or the other way round.
fn another_way_may_do(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        return SqlState::from_bytes(code.code().as_bytes())
            == Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.downcast_ref::<io::Error>().is_some_and(is_tls) {
            return true;
        }
        source = cause.source();
    }
    false
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<tokio_postgres::Error> for LinkError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let code = SqlState::from_bytes(db.code().code().as_bytes()).unwrap_or(SqlState::INTERNAL_ERROR);
            return Self::Server { code, message: db.message().to_owned() };
        }
        if error.is_closed() {
            return Self::Lost;
        }
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            if let Some(found) = cause.downcast_ref::<io::Error>().map(Self::from_io) {
                return found;
            }
            source = cause.source();
        }
        let detail = chain(&error);
        if detail.contains("password missing") {
            return Self::NoPassword;
        }
        // The crate's own word for "TLS was required and the server said no" has no type of its own.
        if detail.contains("TLS") { Self::Tls { detail } } else { Self::Answer { detail } }
    }
}

/// A server as the control plane reaches it: everything needed to open a connection, resolved once.
#[derive(Clone)]
pub struct Target {
    /// Which node.
    pub id: NodeId,
    /// Its name.
    pub name: Arc<str>,
    config: Config,
    /// In the order in which they are tried.
    ways: &'static [Way],
    connector: Connector,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration holds the password.
        f.debug_struct("Target").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Target {
    /// Every configured node as a target. Reads certificate files.
    pub fn all(settings: &Settings) -> Result<Vec<Self>, TlsError> {
        settings
            .ids()
            .zip(&settings.nodes)
            .map(|(id, node)| Self::new(id, node, &settings.service, &settings.database))
            .collect()
    }

    /// One node as a target.
    pub fn new(
        id: NodeId,
        node: &NodeSettings,
        role: &Credentials,
        database: &str,
    ) -> Result<Self, TlsError> {
        let mut config = Config::new();
        match &node.address {
            Address::Tcp { host, port } => config.host(host).port(*port),
            Address::Unix { dir, port } => config.host_path(dir).port(*port),
        };
        config
            .user(&*role.user)
            .dbname(database)
            .application_name(APPLICATION_NAME)
            .ssl_negotiation(negotiation(node.tls.negotiation))
            .channel_binding(channel_binding(node.tls.channel_binding))
            // Found dead by the kernel where no deadline of ours is running.
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3)
            // Roles may have defaults that would make our own statements fail or wait.
            .options("-c statement_timeout=0 -c lock_timeout=0 -c search_path=pg_catalog -c standard_conforming_strings=on");
        if !role.password.is_empty() {
            config.password(role.password.reveal());
        }
        let ways = match node.address {
            Address::Unix { .. } => &[Way::Plain],
            Address::Tcp { .. } => node.tls.mode.ways(),
        };
        Ok(Self { id, name: node.name.clone(), config, ways, connector: Connector::new(&node.tls)? })
    }

    /// The parameters, for a pool of connections.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Connects and signs in, with TLS or without as `sslmode` says.
    async fn connect_as(&self, mut config: Config) -> Result<Connected, tokio_postgres::Error> {
        let mut ways = self.ways.iter();
        loop {
            config.ssl_mode(ssl_mode(ways.next().copied().unwrap_or(Way::Plain)));
            match config.connect(self.connector.clone()).await {
                Err(error) if ways.len() > 0 && another_way_may_do(&error) => {}
                tried => return tried,
            }
        }
    }
}

/// A client, and what moves its bytes.
type Connected = (Client, Connection<Socket, Stream>);

impl Connect for Target {
    /// Pooled connections find their way as those that watch do.
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let config = config.clone();
        Box::pin(async {
            let (client, connection) = self.connect_as(config).await?;
            let driver = task::spawn_driver("pooled", &self.name, async {
                drop(connection.await);
            });
            Ok((client, driver))
        })
    }
}

/// A pooled connection being made.
type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>>;

/// One open connection. Dropping it closes it.
pub struct Link {
    client: Client,
    closed: watch::Receiver<bool>,
    quorum_wait_cancelled: Arc<AtomicBool>,
    _driver: Task,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects and signs in within `deadline`.
    pub async fn open(target: &Target, deadline: Duration) -> Result<Self, LinkError> {
        within(deadline, async {
            let (client, connection) = target.connect_as(target.config.clone()).await?;
            let (announce, closed) = watch::channel(false);
            let quorum_wait_cancelled = Arc::new(AtomicBool::new(false));
            let cancelled = quorum_wait_cancelled.clone();
            let driver = task::spawn("link", &target.name, async move {
                drive(connection, &cancelled).await;
                announce.send_replace(true);
            });
            Ok::<_, LinkError>(Self { client, closed, quorum_wait_cancelled, _driver: driver })
        })
        .await
    }

    /// The client, for statements.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the server warned that a commit on this connection was acknowledged without its quorum.
    pub fn quorum_wait_cancelled(&self) -> bool {
        self.quorum_wait_cancelled.load(Ordering::SeqCst)
    }

    /// Asks the server to cancel what runs on this connection. Best effort.
    pub(crate) async fn cancel(&self, target: &Target) {
        let cancel = self.client.cancel_token();
        drop(within(CANCEL_MAX, cancel.cancel_query(target.connector.clone())).await);
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow() || self.client.is_closed()
    }

    /// Waits until the connection has ended, whoever ended it. Cancellation-safe.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means that the driver is gone, which is the same news.
        drop(closed.wait_for(|closed| *closed).await);
    }
}

/// Moves the connection's bytes until it ends. How it ended is of no interest: whoever uses the link gets an error from
/// his own statement.
async fn drive<S, T>(mut connection: Connection<S, T>, quorum_wait_cancelled: &AtomicBool)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        // The routine's name is the same in every language; the text is not.
        if let AsyncMessage::Notice(notice) = message
            && notice.routine() == Some("SyncRepWaitForLSN")
        {
            quorum_wait_cancelled.store(true, Ordering::SeqCst);
        }
    }
}

/// Runs `work`, at most for `deadline`.
pub async fn within<T, E, F>(deadline: Duration, work: F) -> Result<T, LinkError>
where
    F: Future<Output = Result<T, E>>,
    LinkError: From<E>,
{
    match tokio::time::timeout(deadline, work).await {
        Ok(result) => result.map_err(LinkError::from),
        Err(_elapsed) => Err(LinkError::Timeout { after: deadline }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: Address) -> Target {
        let role = Credentials { user: "nobody".into(), password: crate::model::Secret::new("hidden") };
        Target::new(NodeId(0), &NodeSettings::new("n0", address), &role, "postgres").unwrap()
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let target = target(Address::Tcp { host: "127.0.0.1".into(), port });
        let error = Link::open(&target, Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(error, LinkError::Refused), "{error:?}");
    }

    #[tokio::test]
    async fn a_missing_socket_file_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(Address::Unix { dir: dir.path().to_owned(), port: 5432 });
        let error = Link::open(&target, Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(error, LinkError::Refused), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_times_out() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = target(Address::Tcp { host: "127.0.0.1".into(), port });
        let error = Link::open(&target, Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, LinkError::Timeout { .. }), "{error:?}");
        drop(listener);
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_is_lost() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = target(Address::Tcp { host: "127.0.0.1".into(), port });
        let hang_up = async {
            let (socket, _) = listener.accept().await.unwrap();
            drop(socket);
        };
        let (error, ()) = tokio::join!(Link::open(&target, Duration::from_secs(2)), hang_up);
        assert!(matches!(error, Err(LinkError::Lost)), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_asks_for_a_password_nobody_set_is_told_as_that() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        let role = Credentials { user: "nobody".into(), password: crate::model::Secret::new("") };
        let mut node = NodeSettings::new("n0", address);
        node.tls.mode = crate::tls::ServerTlsMode::Disable;
        let target = Target::new(NodeId(0), &node, &role, "postgres").unwrap();
        let ask = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            assert!(socket.read(&mut [0; 1024]).await.unwrap() > 8);
            let mut question = Vec::new();
            crate::wire::encode::auth_md5(&mut question, [1; 4]);
            socket.write_all(&question).await.unwrap();
            drop(socket.read(&mut [0; 1024]).await);
        };
        let (error, ()) = tokio::join!(Link::open(&target, Duration::from_secs(2)), ask);
        assert!(matches!(error, Err(LinkError::NoPassword)), "{error:?}");
    }

    #[test]
    fn a_target_does_not_show_the_password() {
        let target = target(Address::Tcp { host: "127.0.0.1".into(), port: 1 });
        assert!(!format!("{target:?}").contains("hidden"));
    }
}
