//! HTTPS towards the running proxy: what `tls` prepares, in the shape in which ureq takes it.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::failure::{Failure, chain};

/// The certificates that count, and the one that is shown.
#[derive(Debug, clap::Args)]
pub(super) struct TlsArgs {
    /// Ask by HTTPS; PEM file with the authorities of the proxy's certificate (default with https://: the system's).
    #[arg(long = "tls-ca", env = "PRIMACY_ADMIN_TLS_CA", value_name = "FILE")]
    authorities: Option<PathBuf>,
    /// Ask by HTTPS; PEM file with the certificate chain that the proxy is shown, which may stand in for a token.
    #[arg(long = "tls-cert", env = "PRIMACY_ADMIN_TLS_CERT", value_name = "FILE", requires = "own_key")]
    own_certificate: Option<PathBuf>,
    /// PEM file with its key.
    #[arg(
        long = "tls-key",
        env = "PRIMACY_ADMIN_TLS_KEY",
        value_name = "FILE",
        requires = "own_certificate"
    )]
    own_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Whether one of them is given, which means HTTPS.
    pub(super) fn are_given(&self) -> bool {
        self.authorities.is_some() || self.own_certificate.is_some()
    }

    /// Reads the files.
    pub(super) fn layer(&self) -> Result<Tls, Failure> {
        let own = self.own_certificate.as_deref().zip(self.own_key.as_deref());
        let config = crate::tls::towards(self.authorities.as_deref(), own);
        let config = config.map_err(|error| Failure::TlsFiles { why: chain(&error) })?;
        Ok(Tls { config: Arc::new(config) })
    }
}

/// Puts TLS over a connection.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Wrapped<In>>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        below: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(below) = below else { return Err(Error::ConnectionFailed) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(below)));
        }
        let host = details.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut conn = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut sock = TransportAdapter::new(below, Arc::clone(&details.current_time));
        sock.set_timeout(details.timeout);
        conn.complete_io(&mut sock)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(Wrapped { buffers, stream: StreamOwned { conn, sock } })))
    }
}

/// A connection under TLS.
pub(super) struct Wrapped<In: Transport> {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter<In>>,
}

impl<In: Transport> fmt::Debug for Wrapped<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapped").finish_non_exhaustive()
    }
}

impl<In: Transport> Transport for Wrapped<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
