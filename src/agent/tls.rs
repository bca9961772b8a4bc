//! The agent's side of TLS: certificate, key, and the authorities of clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::settings::Tls;

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("cannot read {}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Certificate and key do not go together.
    #[error("the certificate and its key cannot be used")]
    Rustls(#[from] rustls::Error),
    /// The authorities of clients.
    #[error("the authorities of clients' certificates cannot be used")]
    Clients(#[from] VerifierBuilderError),
}

/// Reads the files.
pub(super) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &tls.ca_file {
        Some(file) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&tls.key_file).map_err(failed(&tls.key_file))?;
    let config = builder.with_single_cert(certificates(&tls.cert_file)?, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(file).map_err(failed(file))?;
    read.collect::<Result<_, _>>().map_err(failed(file))
}

fn failed(file: &Path) -> impl FnOnce(pem::Error) -> TlsError + use<> {
    let file = file.to_path_buf();
    move |source| TlsError::File { file, source }
}
