//! TLS in both directions: what configuration says, as rustls wants it. Errors name the file and what is wrong with it.

mod load;
mod verify;

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::Stream;
use super::settings::{ClientTls, ClientTlsMode, ServerTls, ServerTlsMode};
pub use load::TlsError;

/// The protocol's name in the handshake (ALPN); asked for where TLS comes without an SSLRequest (manual, 55.2.11).
const ALPN: &[u8] = b"postgresql";

/// TLS towards clients.
#[derive(Clone)]
pub struct ClientTlsConfig {
    mode: ClientTlsMode,
    acceptor: Option<TlsAcceptor>,
}

impl std::fmt::Debug for ClientTlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTlsConfig").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl ClientTlsConfig {
    /// No TLS.
    pub fn disabled() -> Self {
        Self { mode: ClientTlsMode::Disable, acceptor: None }
    }

    /// Reads certificate, key and authorities.
    pub fn load(settings: &ClientTls) -> Result<Self, TlsError> {
        if settings.mode == ClientTlsMode::Disable {
            return Ok(Self::disabled());
        }
        let cert_file = settings.cert_file.as_deref().ok_or(TlsError::Missing { setting: "cert_file" })?;
        let key_file = settings.key_file.as_deref().ok_or(TlsError::Missing { setting: "key_file" })?;
        let builder = ServerConfig::builder_with_provider(load::provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Rustls { source })?;
        let builder = if settings.mode == ClientTlsMode::VerifyCa {
            let ca_file = settings.ca_file.as_deref().ok_or(TlsError::Missing { setting: "ca_file" })?;
            let roots = load::roots(ca_file)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots.store), load::provider())
                    .build()
                    .map_err(|source| TlsError::ClientAuthorities { path: ca_file.to_owned(), source })?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(load::certificates(cert_file)?, load::key(key_file)?)
            .map_err(|source| TlsError::CertificateAndKey {
                cert_file: cert_file.to_owned(),
                key_file: key_file.to_owned(),
                source,
            })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { mode: settings.mode, acceptor: Some(TlsAcceptor::from(Arc::new(config))) })
    }

    /// Whether TLS is offered.
    pub fn offered(&self) -> bool {
        self.acceptor.is_some()
    }

    /// Whether a client over TCP must use it.
    pub fn required(&self) -> bool {
        matches!(self.mode, ClientTlsMode::Require | ClientTlsMode::VerifyCa)
    }

    /// The server's half of a handshake. `direct`: without an SSLRequest before it, so the client must name the
    /// protocol, lest another protocol's client be talked into speaking with us.
    pub async fn accept(&self, tcp: TcpStream, direct: bool) -> std::io::Result<Stream> {
        let Some(acceptor) = &self.acceptor else { return Err(std::io::ErrorKind::Unsupported.into()) };
        let tls = acceptor.accept(tcp).await?;
        if direct && tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "direct TLS without the protocol name postgresql (ALPN)",
            ));
        }
        Ok(Stream::Tls(Box::new(TlsStream::Server(tls))))
    }
}

/// TLS towards one server.
#[derive(Clone)]
pub struct ServerTlsConfig {
    mode: ServerTlsMode,
    connector: Option<TlsConnector>,
}

impl std::fmt::Debug for ServerTlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTlsConfig").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl ServerTlsConfig {
    /// No TLS.
    pub fn disabled() -> Self {
        Self { mode: ServerTlsMode::Disable, connector: None }
    }

    /// Reads the authorities where the mode checks certificates.
    pub fn load(settings: &ServerTls) -> Result<Self, TlsError> {
        let verifier = match settings.mode {
            ServerTlsMode::Disable => return Ok(Self::disabled()),
            ServerTlsMode::Prefer | ServerTlsMode::Require => verify::Checks::Nothing,
            ServerTlsMode::VerifyCa => {
                verify::Checks::Chain(load::server_roots(settings.ca_file.as_deref())?)
            }
            ServerTlsMode::VerifyFull => {
                verify::Checks::ChainAndName(load::server_roots(settings.ca_file.as_deref())?)
            }
        };
        let mut config = ClientConfig::builder_with_provider(load::provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Rustls { source })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verify::ServerVerifier::new(verifier)))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { mode: settings.mode, connector: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// Whether TLS is asked for.
    pub fn wanted(&self) -> bool {
        self.connector.is_some()
    }

    /// Whether a server without TLS is refused.
    pub fn required(&self) -> bool {
        !matches!(self.mode, ServerTlsMode::Disable | ServerTlsMode::Prefer)
    }

    /// The client's half of a handshake.
    pub async fn connect(&self, tcp: TcpStream, host: &str) -> std::io::Result<Stream> {
        let Some(connector) = &self.connector else { return Err(std::io::ErrorKind::Unsupported.into()) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        let tls = connector.connect(name, tcp).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(tls))))
    }
}
