//! Handshakes of the data path in both directions. A reload makes these anew; connections that there are go on as they began.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::Stream;
use super::settings::{ClientTls, ClientTlsMode};
use crate::tls::{
    self, ALPN, ChannelBinding, Negotiation, ServerTls, ServerTlsMode, TlsError, Visitors, Way, load,
};

/// TLS towards clients.
#[derive(Clone)]
pub struct ClientTlsConfig {
    mode: ClientTlsMode,
    acceptor: Option<TlsAcceptor>,
    /// What a client's sign-in is bound to: the hash of our certificate.
    end_point: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for ClientTlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTlsConfig").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl ClientTlsConfig {
    /// No TLS.
    pub fn disabled() -> Self {
        Self { mode: ClientTlsMode::Disable, acceptor: None, end_point: None }
    }

    /// Reads certificate, key and authorities.
    pub fn load(settings: &ClientTls) -> Result<Self, TlsError> {
        if settings.mode == ClientTlsMode::Disable {
            return Ok(Self::disabled());
        }
        let cert_file = settings.cert_file.as_deref().ok_or(TlsError::Missing { setting: "cert_file" })?;
        let key_file = settings.key_file.as_deref().ok_or(TlsError::Missing { setting: "key_file" })?;
        let ca_file = settings.ca_file.as_deref();
        if ca_file.is_none() && settings.mode == ClientTlsMode::VerifyCa {
            return Err(TlsError::Missing { setting: "ca_file" });
        }
        let visitors = Visitors {
            ca_file,
            crl_file: settings.crl_file.as_deref(),
            // Rules may look at it. Who shows none and must reads why once the handshake is over, as with PostgreSQL.
            must_show: false,
        };
        let end_point = load::certificates(cert_file)?.first().and_then(tls::end_point).map(Arc::from);
        let mut config = tls::at_our_port((cert_file, key_file), visitors)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { mode: settings.mode, acceptor: Some(TlsAcceptor::from(Arc::new(config))), end_point })
    }

    /// Whether TLS is offered.
    pub fn offered(&self) -> bool {
        self.acceptor.is_some()
    }

    /// Whether a client over TCP must use it.
    pub fn required(&self) -> bool {
        matches!(self.mode, ClientTlsMode::Require | ClientTlsMode::VerifyCa)
    }

    /// Whether a client over TCP must show a certificate.
    pub fn certificate_required(&self) -> bool {
        self.mode == ClientTlsMode::VerifyCa
    }

    /// What SCRAM-SHA-256-PLUS binds to, where our certificate allows it.
    pub fn end_point(&self) -> Option<Arc<[u8]>> {
        self.end_point.clone()
    }

    /// The server's half of a handshake. `direct`: without an SSLRequest before it, so the client must name the
    /// protocol, lest another protocol's client be talked into speaking with us.
    pub async fn accept(&self, tcp: TcpStream, direct: bool) -> std::io::Result<Stream> {
        let Some(acceptor) = &self.acceptor else { return Err(std::io::ErrorKind::Unsupported.into()) };
        let tls = tls::handshake::accept(acceptor, tcp).await?;
        if direct && tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(tls::without_name());
        }
        Ok(Stream::Tls(Box::new(TlsStream::Server(tls))))
    }
}

/// TLS towards one server. Copies share what was read.
#[derive(Clone)]
pub struct ServerTlsConfig {
    prepared: Arc<Prepared>,
}

/// What the files held when they were read.
struct Prepared {
    mode: ServerTlsMode,
    channel_binding: ChannelBinding,
    negotiation: Negotiation,
    connector: Option<TlsConnector>,
}

impl std::fmt::Debug for ServerTlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTlsConfig").field("mode", &self.prepared.mode).finish_non_exhaustive()
    }
}

impl Prepared {
    fn load(settings: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self {
            mode: settings.mode,
            channel_binding: settings.channel_binding,
            negotiation: settings.negotiation,
            connector: tls::towards_server(settings)?.map(TlsConnector::from),
        })
    }
}

impl ServerTlsConfig {
    /// No TLS.
    pub fn disabled() -> Self {
        let prepared = Prepared {
            mode: ServerTlsMode::Disable,
            channel_binding: ChannelBinding::default(),
            negotiation: Negotiation::default(),
            connector: None,
        };
        Self { prepared: Arc::new(prepared) }
    }

    /// Reads the files that the settings name.
    pub fn load(settings: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self { prepared: Arc::new(Prepared::load(settings)?) })
    }

    /// How to connect, in the order in which it is tried.
    pub(crate) fn ways(&self) -> &'static [Way] {
        self.prepared.mode.ways()
    }

    /// How to cancel: over TLS where there may be any, lest the secret be seen.
    pub(crate) fn way_to_cancel(&self) -> Way {
        if self.prepared.mode == ServerTlsMode::Disable {
            Way::Plain
        } else if self.prepared.mode.required() {
            Way::Tls
        } else {
            Way::Offered
        }
    }

    /// Whether TLS begins without asking the server first.
    pub(crate) fn direct(&self) -> bool {
        self.prepared.negotiation == Negotiation::Direct && self.prepared.mode.required()
    }

    /// Whether SCRAM is bound to the server's certificate.
    pub fn channel_binding(&self) -> ChannelBinding {
        self.prepared.channel_binding
    }

    /// The client's half of a handshake.
    pub async fn connect(&self, tcp: TcpStream, host: &str) -> std::io::Result<Stream> {
        let Some(connector) = self.prepared.connector.clone() else {
            return Err(std::io::ErrorKind::Unsupported.into());
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        let tls = connector.connect(name, tcp).await?;
        if self.direct() && tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(tls::without_name());
        }
        Ok(Stream::Tls(Box::new(TlsStream::Client(tls))))
    }
}
