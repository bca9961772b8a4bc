//! Carries spans to a collector: OTLP over HTTP, JSON, a request a second at most. A collector that does not take them costs
//! a line in the log and the spans; nobody waits for it.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::observe::settings::Collector;
use crate::observe::trace::{Told, encode};
use crate::tls::TlsError;

/// Spans are gathered for so long.
const GATHER: Duration = Duration::from_secs(1);

/// Statements of one request.
const STATEMENTS_MAX: usize = 1000;

/// For one request.
const LIMIT: Duration = Duration::from_secs(5);

/// The way to a collector.
pub(super) struct Carrier {
    collector: Collector,
    tls: Option<TlsConnector>,
}

/// Why spans were not taken; in words, because nothing depends on it.
type Untaken = Box<dyn std::error::Error + Send + Sync>;

impl Carrier {
    /// Reads the system's authorities where the collector is asked by HTTPS.
    pub(super) fn new(collector: Collector) -> Result<Self, TlsError> {
        let tls = if collector.secure { Some(crate::tls::towards(None, None)?) } else { None };
        Ok(Self { collector, tls: tls.map(|config| TlsConnector::from(std::sync::Arc::new(config))) })
    }

    /// Carries until nobody tells anything any more.
    pub(super) async fn carry(self, mut told: Told) {
        let (mut statements, mut failing) = (Vec::new(), false);
        let (mut dice, mut lost) = (fastrand::Rng::new(), 0);
        while told.spans.recv_many(&mut statements, STATEMENTS_MAX).await > 0 {
            let request = encode(&statements, || dice.u64(..));
            match self.post(request.to_string()).await {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(collector = %self.collector, lost, "the collector takes traces again");
                        lost = 0;
                    }
                }
                Err(error) => {
                    lost += statements.len();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(collector = %self.collector, %error, "the collector takes no traces; they are dropped");
                    }
                }
            }
            statements.clear();
            let dropped = told.take_dropped();
            if dropped > 0 {
                tracing::warn!(dropped, "more traces than the collector takes in time");
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn post(&self, body: String) -> Result<(), Untaken> {
        tokio::time::timeout(LIMIT, self.try_post(body)).await?
    }

    async fn try_post(&self, body: String) -> Result<(), Untaken> {
        let Collector { host, port, path, .. } = &self.collector;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, format!("{host}:{port}"))
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))?;
        let tcp = TcpStream::connect((host.as_str(), *port)).await?;
        match &self.tls {
            Some(tls) => {
                exchange(tls.connect(ServerName::try_from(host.clone())?, tcp).await?, request).await
            }
            None => exchange(tcp, request).await,
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(), Untaken> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let conversation = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        // Its words are not needed, its end is: then it has taken them.
        http_body_util::Limited::new(answer.into_body(), STATEMENTS_MAX * 1024).collect().await?;
        if status.is_success() { Ok(()) } else { Err(Untaken::from(format!("HTTP status {status}"))) }
    };
    tokio::pin!(conversation);
    tokio::select! {
        biased;
        answered = &mut conversation => answered,
        ended = connection => {
            ended?;
            conversation.await
        }
    }
}
