//! TLS for the control plane's own connections: what `tls` prepares, in the shape in which tokio-postgres takes it.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::config::{ChannelBinding as Binding, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

pub use crate::tls::TlsError;
use crate::tls::{self, ALPN, Negotiation, ServerTls, Way};

/// Makes TLS connections for one node. Copies share what was read.
#[derive(Clone)]
pub(crate) struct Connector {
    files: Arc<Files>,
    /// TLS begins at once, so the server has to name the protocol.
    direct: bool,
}

/// What was read of the files, and when they had been written: certificates are renewed while we run.
struct Files {
    settings: ServerTls,
    read: Mutex<Read>,
}

#[derive(Clone)]
struct Read {
    written: Vec<Option<SystemTime>>,
    /// `None`: TLS is not used.
    config: Option<Arc<ClientConfig>>,
}

impl Files {
    fn written(settings: &ServerTls) -> Vec<Option<SystemTime>> {
        let ServerTls { ca_file, crl_file, cert_file, key_file, .. } = settings;
        let files = [ca_file, crl_file, cert_file, key_file].into_iter().flatten();
        files.map(|file| file.metadata().and_then(|data| data.modified()).ok()).collect()
    }

    fn read(settings: &ServerTls) -> Result<Read, TlsError> {
        // Before they are read: what is written meanwhile is read again.
        let written = Self::written(settings);
        Ok(Read { written, config: tls::towards_server(settings)? })
    }

    /// What is in the files now; where they cannot be used, as when only half of them are written, what was before.
    fn now(&self) -> Option<Arc<ClientConfig>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let written = Self::written(&self.settings);
        if written != read.written {
            match Self::read(&self.settings) {
                Ok(new) => *read = new,
                Err(error) => {
                    read.written = written;
                    let error = super::link::chain(&error);
                    tracing::warn!(error, "changed files for TLS cannot be used; the former ones count");
                }
            }
        }
        read.config.clone()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads the authorities and prepares the handshake. Files that change are read again by the next connection.
    pub(crate) fn new(tls: &ServerTls) -> Result<Self, TlsError> {
        let direct = tls.negotiation == Negotiation::Direct && tls.mode.required();
        let files = Files { read: Mutex::new(Files::read(tls)?), settings: tls.clone() };
        Ok(Self { files: Arc::new(files), direct })
    }
}

/// What tokio-postgres calls these ways; checking the certificate is the connector's part.
pub(crate) fn ssl_mode(way: Way) -> SslMode {
    match way {
        Way::Plain => SslMode::Disable,
        Way::Offered => SslMode::Prefer,
        Way::Tls => SslMode::Require,
    }
}

/// What tokio-postgres calls the ways in which TLS begins.
pub(crate) fn negotiation(negotiation: Negotiation) -> SslNegotiation {
    match negotiation {
        Negotiation::Postgres => SslNegotiation::Postgres,
        Negotiation::Direct => SslNegotiation::Direct,
    }
}

/// What tokio-postgres calls channel binding.
pub(crate) fn channel_binding(binding: tls::ChannelBinding) -> Binding {
    match binding {
        tls::ChannelBinding::Disable => Binding::Disable,
        tls::ChannelBinding::Prefer => Binding::Prefer,
        tls::ChannelBinding::Require => Binding::Require,
    }
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        // A Unix socket's directory is no name; TLS is not used there, but the handshake must be preparable.
        let host = if host.is_empty() || host.starts_with('/') { "localhost" } else { host };
        let name = ServerName::try_from(host)?.to_owned();
        let connector = self.files.now().map(tokio_rustls::TlsConnector::from);
        Ok(Handshake { connector, name, direct: self.direct })
    }
}

/// One handshake to be made.
pub(crate) struct Handshake {
    connector: Option<tokio_rustls::TlsConnector>,
    name: ServerName<'static>,
    direct: bool,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let connector = self.connector.ok_or(io::ErrorKind::Unsupported)?;
            let stream = connector.connect(self.name, socket).await?;
            if self.direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
                return Err(tls::without_name());
            }
            Ok(Stream(Box::new(stream)))
        })
    }
}

/// A socket under TLS.
pub(crate) struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let shown = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first);
        shown.and_then(tls::end_point).map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tls::ServerTlsMode;

    fn authority() -> String {
        let made = std::process::Command::new("openssl")
            .args(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a -keyout /dev/null"
                    .split(' '),
            )
            .output();
        String::from_utf8(made.expect("openssl").stdout).expect("PEM")
    }

    #[test]
    fn renewed_files_count_for_the_next_connection_and_broken_ones_do_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = dir.path().join("ca.crt");
        let mut times = 0;
        let mut write = |text: &str| {
            std::fs::write(&ca, text).expect("written");
            // The clock of the file system is coarser than this test.
            times += 1;
            let file = std::fs::File::options().write(true).open(&ca).expect("the file");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(times)).expect("a time");
        };
        write(&authority());
        let mode = ServerTlsMode::VerifyFull;
        let settings = ServerTls { mode, ca_file: Some(ca.clone()), ..ServerTls::default() };
        let connector = Connector::new(&settings).expect("a connector");
        let now = || connector.files.now().expect("TLS");
        let first = now();
        assert!(Arc::ptr_eq(&first, &now()), "nothing has changed");
        write("half a certif");
        assert!(Arc::ptr_eq(&first, &now()), "the former ones count");
        write(&authority());
        let second = now();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &connector.clone().files.now().expect("TLS")), "copies share it");
    }
}
