//! Asks a server for a role's verifier, as primacy's own role and on a connection of its own, which is kept for the next
//! question.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Stored;
use crate::clock;
use crate::control::Board;
use crate::model::{NodeId, Service as Availability, SqlState, Unreadable};
use crate::proxy::Stream;
use crate::proxy::frames::{FrameReadError, FrameReader};
use crate::proxy::server::{self, ConnectError, Credential, SignIn};
use crate::proxy::settings::{Node, Service, Settings};
use crate::proxy::tls::ServerTlsConfig;
use crate::wire::backend::DataRow;
use crate::wire::{ErrorFields, FrameError, Tag, encode};

/// Longest message of an answer.
const MESSAGE_LEN_MAX: usize = 64 * 1024;

/// Questions at one time. A flood of sign-ins as roles that nobody knows must not become a flood of connections.
const QUESTIONS_MAX: usize = 4;

/// One server gets at most this long, so that the next one is tried while the client still waits.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// A kept connection that was not used for longer is not trusted to be still there: somebody between may have forgotten
/// it without a word, and the question would wait in vain.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no server that could be asked.
    #[error("there is no server to ask for the verifier")]
    NoNode,
    /// We cannot sign in on the server.
    #[error("cannot sign in on \"{node}\" to ask for the verifier")]
    Connect {
        /// The node.
        node: Arc<str>,
        /// Why.
        source: ConnectError,
    },
    /// The query failed.
    #[error("the auth query failed on \"{node}\" with {sqlstate}: {message}")]
    Query {
        /// The node.
        node: Arc<str>,
        /// The server's code.
        sqlstate: SqlState,
        /// The server's message.
        message: String,
    },
    /// The connection broke while we asked.
    #[error("the connection to \"{node}\" broke while it was asked for the verifier")]
    Broken {
        /// The node.
        node: Arc<str>,
        /// Why.
        source: FrameReadError,
    },
    /// No answer in time.
    #[error("\"{node}\" did not answer the auth query within {} ms", deadline.as_millis())]
    Timeout {
        /// The node.
        node: Arc<str>,
        /// The time.
        deadline: Duration,
    },
    /// The query's rows are not (name, verifier).
    #[error("the auth query must give rows (name, verifier)")]
    Shape,
}

/// What failed on one node; the node is added by the caller.
enum Failure {
    Read(FrameReadError),
    Query { sqlstate: SqlState, message: String },
    Shape,
}

impl From<FrameReadError> for Failure {
    fn from(error: FrameReadError) -> Self {
        Self::Read(error)
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        Self::Read(FrameReadError::Malformed(error))
    }
}

/// A connection between two questions.
#[derive(Debug)]
struct Kept {
    node: NodeId,
    stream: Stream,
    used_at: Instant,
}

/// Asks.
#[derive(Debug)]
pub(super) struct Asker {
    sql: Arc<str>,
    nodes: Vec<Node>,
    tls: Arc<[ServerTlsConfig]>,
    service: Service,
    patience: Duration,
    board: Arc<Board>,
    questions: Semaphore,
    /// Taken out while it is in use, so that a question that is given up half way closes it.
    kept: Mutex<Option<Kept>>,
}

impl Asker {
    pub(super) fn new(
        sql: Arc<str>,
        settings: &Settings,
        tls: Arc<[ServerTlsConfig]>,
        board: Arc<Board>,
    ) -> Self {
        Self {
            sql,
            nodes: settings.nodes.clone(),
            tls,
            service: settings.service.clone(),
            patience: settings.pool.connect_timeout.min(PATIENCE_MAX),
            board,
            questions: Semaphore::new(QUESTIONS_MAX),
            kept: Mutex::default(),
        }
    }

    /// Asks one server after the other until one answers; `None` where there is no such role, or it has no password.
    pub(super) async fn ask(&self, user: &str) -> Result<Option<Stored>, AskError> {
        // The semaphore is never closed; were it, we would ask without a permit.
        let _permit = self.questions.acquire().await.ok();
        let mut last = AskError::NoNode;
        for node in self.candidates() {
            match self.ask_node(node, user).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The primary, then what may be read from, then what is behind or was not seen lately: a verifier that is a little
    /// old is better than none. Never another cluster's.
    fn candidates(&self) -> Vec<NodeId> {
        let snapshot = self.board.snapshot();
        let mut ranked: Vec<_> = snapshot
            .nodes
            .iter()
            .filter_map(|node| {
                let primary = snapshot.primary == Some(node.id) && snapshot.service == Availability::Open;
                let rank = match node.unreadable {
                    _ if primary => 0,
                    None => 1,
                    Some(Unreadable::Lagging | Unreadable::NotStreaming) => 2,
                    Some(Unreadable::Starting | Unreadable::Down) => 3,
                    Some(Unreadable::OtherCluster | Unreadable::Quarantined | Unreadable::Disabled) => {
                        return None;
                    }
                };
                Some((rank, node.id))
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, id)| id).collect()
    }

    async fn ask_node(&self, id: NodeId, user: &str) -> Result<Option<Stored>, AskError> {
        // One that the server has closed meanwhile says nothing about the server: a new one is tried.
        if let Some(mut stream) = self.take_kept(id)
            && let Ok(Ok(answer)) = timeout(self.patience, question(&mut stream, &self.sql, user)).await
        {
            self.keep(id, stream);
            return Ok(answer);
        }
        let (Some(node), Some(tls)) = (self.nodes.get(id.index()), self.tls.get(id.index())) else {
            return Err(AskError::NoNode);
        };
        let name = || Arc::clone(&node.name);
        let mut stream = self.connect(id, node, tls).await?;
        match timeout(self.patience, question(&mut stream, &self.sql, user)).await {
            Err(_elapsed) => Err(AskError::Timeout { node: name(), deadline: self.patience }),
            Ok(Ok(answer)) => {
                self.keep(id, stream);
                Ok(answer)
            }
            Ok(Err(Failure::Read(source))) => Err(AskError::Broken { node: name(), source }),
            Ok(Err(Failure::Query { sqlstate, message })) => {
                Err(AskError::Query { node: name(), sqlstate, message })
            }
            Ok(Err(Failure::Shape)) => Err(AskError::Shape),
        }
    }

    async fn connect(&self, id: NodeId, node: &Node, tls: &ServerTlsConfig) -> Result<Stream, AskError> {
        let startup = [("application_name".to_owned(), "primacy auth".to_owned())];
        let who = SignIn {
            user: &self.service.user,
            database: &self.service.database,
            startup: &startup,
            credential: &Credential::Password(self.service.password.clone()),
        };
        let connected = server::connect(node, tls, &who, self.patience).await.map_err(|source| {
            if source.node_is_suspect() {
                self.board.suspect(id);
            }
            AskError::Connect { node: Arc::clone(&node.name), source }
        })?;
        Ok(connected.stream)
    }

    /// The kept connection, if it leads to that node. One that leads elsewhere is closed: who is asked first has changed.
    fn take_kept(&self, id: NodeId) -> Option<Stream> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let idle = clock::now().saturating_duration_since(kept.used_at);
        // Whatever came unasked, the end included, makes it useless.
        (kept.node == id && idle < KEPT_FOR && kept.stream.is_quiet()).then_some(kept.stream)
    }

    fn keep(&self, node: NodeId, stream: Stream) {
        let kept = Kept { node, stream, used_at: clock::now() };
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
}

/// Runs the query with the role's name as its parameter and reads its first row.
async fn question(stream: &mut Stream, sql: &str, user: &str) -> Result<Option<Stored>, Failure> {
    let mut out = Vec::with_capacity(256);
    encode::parse_typed(&mut out, b"", sql.as_bytes(), &[]);
    encode::bind_text(&mut out, b"", b"", &[Some(user.as_bytes())]);
    encode::execute(&mut out, b"", 1);
    encode::sync(&mut out);
    let sent = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    sent.await.map_err(FrameReadError::Io)?;

    let mut frames = FrameReader::new(MESSAGE_LEN_MAX);
    let (mut answer, mut failure) = (None, None);
    loop {
        let frame = frames.next(stream).await?;
        match frame.tag {
            Tag::DATA_ROW => answer = stored(frame.body())?,
            Tag::ERROR_RESPONSE => {
                let fields = ErrorFields::new(frame.body());
                failure = Some(Failure::Query {
                    sqlstate: fields.code().unwrap_or(SqlState::INTERNAL_ERROR),
                    message: fields.message().into_owned(),
                });
            }
            Tag::READY_FOR_QUERY => return failure.map_or(Ok(answer), Err),
            _ => {}
        }
    }
}

/// The second column of a row, where it is not NULL.
fn stored(row: &[u8]) -> Result<Option<Stored>, Failure> {
    let values: Vec<_> = DataRow::decode(row)?.values().take(2).collect::<Result<_, _>>()?;
    let [_name, verifier] = values[..] else { return Err(Failure::Shape) };
    // A verifier is ASCII; what is not UTF-8 can only be a password that nobody could send us.
    let text = verifier.and_then(|bytes| std::str::from_utf8(bytes).ok()).filter(|text| !text.is_empty());
    Ok(text.map(Stored::from_text))
}
