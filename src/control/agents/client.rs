//! One request to an agent: connect, ask, read the answer, all within one limit.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::api::{BODY_BYTES_MAX, DeedReport, Kind, PREFIX, Refusal};
use super::{AgentSettings, AgentTls};
use crate::model::Secret;
use crate::tls::TlsError;

/// To connect and shake hands; an agent that is not there must not hold up what can be done without it.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Why an agent cannot be talked to at all.
#[derive(Debug, thiserror::Error)]
pub enum AgentSetupError {
    /// A file, or certificate and key.
    #[error("TLS towards agents cannot be set up")]
    Tls(#[from] TlsError),
    /// A name that no certificate could be for.
    #[error("the agent's host is no name that a certificate could be for")]
    Name(#[from] InvalidDnsNameError),
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// It cannot be reached.
    #[error("the agent at {address} cannot be reached")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("the agent at {address} did not answer within {limit:?}")]
    TooSlow {
        /// Where.
        address: String,
        /// How long it had.
        limit: Duration,
    },
    /// The connection broke, or what answers is no agent.
    #[error("the agent at {address} did not answer as one does: {detail}")]
    Answer {
        /// Where.
        address: String,
        /// What came.
        detail: String,
    },
    /// It said no.
    #[error("the agent at {address}: {message}")]
    Refused {
        /// Where.
        address: String,
        /// What kind of no.
        kind: Kind,
        /// In its words.
        message: String,
    },
}

/// How to reach one agent.
#[derive(Clone)]
pub(super) struct AgentClient {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    token: Option<Secret>,
}

impl fmt::Debug for AgentClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentClient").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl AgentClient {
    pub(super) fn new(settings: &AgentSettings) -> Result<Self, AgentSetupError> {
        let AgentSettings { host, port, tls, token } = settings;
        let tls = match tls {
            Some(tls) => Some((connector(tls)?, ServerName::try_from(host.clone())?)),
            None => None,
        };
        Ok(Self { host: host.clone(), port: *port, tls, token: token.clone() })
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Asks for a deed; `limit` is for all of it. The agent goes on where it takes longer.
    pub(super) async fn post<R: serde::Serialize>(
        &self,
        path: &str,
        request: &R,
        limit: Duration,
    ) -> Result<(), CallError> {
        let answered = timeout(limit, self.ask(path, request)).await;
        answered.map_err(|_elapsed| CallError::TooSlow { address: self.address(), limit })?
    }

    async fn ask<R: serde::Serialize>(&self, path: &str, request: &R) -> Result<(), CallError> {
        let body = serde_json::to_vec(request).map_err(|error| self.nonsense(&error))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{PREFIX}/{path}"))
            .header(HOST, self.address())
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| self.nonsense(&error))?;
        let connected = timeout(CONNECT_LIMIT, self.connect()).await;
        let stream = connected
            .map_err(|_elapsed| CallError::TooSlow { address: self.address(), limit: CONNECT_LIMIT })?
            .map_err(|source| CallError::Unreachable { address: self.address(), source })?;
        self.exchange(stream, request).await
    }

    async fn connect(&self) -> io::Result<Box<dyn Duplex>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        Ok(match &self.tls {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
            None => Box::new(tcp),
        })
    }

    async fn exchange(
        &self,
        stream: Box<dyn Duplex>,
        request: Request<Full<Bytes>>,
    ) -> Result<(), CallError> {
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.nonsense(&error))?;
        let conversation = async {
            let answer = sender.send_request(request).await.map_err(|error| self.nonsense(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.nonsense(&*error))?.to_bytes();
            if status.is_success() {
                let done: DeedReport =
                    serde_json::from_slice(&body).map_err(|error| self.nonsense(&error))?;
                tracing::debug!(agent = self.address(), message = done.message, "the agent has done it");
                return Ok(());
            }
            match serde_json::from_slice::<Refusal>(&body) {
                Ok(Refusal { error: kind, message }) => {
                    Err(CallError::Refused { address: self.address(), kind, message })
                }
                Err(_) => Err(CallError::Answer { address: self.address(), detail: status.to_string() }),
            }
        };
        tokio::pin!(conversation, connection);
        tokio::select! {
            biased;
            answered = &mut conversation => answered,
            // It ends when all was sent and read; what came before it is still to be looked at.
            ended = &mut connection => match ended {
                Ok(()) => conversation.await,
                Err(error) => Err(self.nonsense(&error)),
            },
        }
    }

    fn nonsense(&self, error: &(dyn std::error::Error + 'static)) -> CallError {
        CallError::Answer { address: self.address(), detail: crate::control::link::chain(error) }
    }
}

/// A socket, plain or under TLS.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

fn connector(tls: &AgentTls) -> Result<TlsConnector, TlsError> {
    let own = tls.own.as_ref().map(|(cert_file, key_file)| (cert_file.as_path(), key_file.as_path()));
    Ok(TlsConnector::from(Arc::new(crate::tls::towards(tls.ca_file.as_deref(), own)?)))
}
