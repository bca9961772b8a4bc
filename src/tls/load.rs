//! Certificates, keys, authorities and revocations from PEM files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::VerifierBuilderError;

/// What is wrong with TLS settings, by file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The mode needs a file that is not named.
    #[error("TLS needs {setting}, which is not set")]
    Missing {
        /// The setting.
        setting: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no PEM file, or lacks what it is named for.
    #[error("{} holds no {what} in PEM format", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// A certificate in a file of authorities cannot be understood.
    #[error("{} holds a certificate that cannot be an authority", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities, or the revocations that belong to them, are not usable.
    #[error("the authorities cannot be used to check certificates")]
    Authorities(#[from] VerifierBuilderError),
    /// Certificate and key do not belong together, or are of an unknown kind.
    #[error("{} and {} cannot be used together", cert_file.display(), key_file.display())]
    CertificateAndKey {
        /// The certificate chain.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// This system has no trusted authorities.
    #[error("the system has no trusted certificate authorities; name a ca_file")]
    NoSystemRoots,
    /// rustls refused for another reason.
    #[error("TLS cannot be set up")]
    Rustls {
        /// Why.
        source: rustls::Error,
    },
}

/// The cryptography that is used everywhere here.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Trusted authorities, and the certificates as they are in the file: see `verify`.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) store: RootCertStore,
    pub(crate) listed: Vec<CertificateDer<'static>>,
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// A certificate chain: at least one certificate.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |source| TlsError::Pem { path: path.to_owned(), what: "certificate", source };
    let bytes = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(error)?;
    if chain.is_empty() { Err(error(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

/// A private key: PKCS#8, PKCS#1 or SEC1.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        what: "private key",
        source,
    })
}

/// Lists of revoked certificates: at least one.
pub(crate) fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let error = |source| TlsError::Pem { path: path.to_owned(), what: "certificate revocation list", source };
    let bytes = read(path)?;
    let lists: Vec<_> =
        CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(error)?;
    if lists.is_empty() { Err(error(pem::Error::NoItemsFound)) } else { Ok(lists) }
}

/// Authorities from a file.
pub(crate) fn roots(path: &Path) -> Result<Roots, TlsError> {
    let listed = certificates(path)?;
    let mut store = RootCertStore::empty();
    for certificate in &listed {
        store
            .add(certificate.clone())
            .map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(Roots { store, listed })
}

/// Authorities that sign servers' certificates: from a file, else the system's.
pub(crate) fn server_roots(path: Option<&Path>) -> Result<Roots, TlsError> {
    if let Some(path) = path {
        return roots(path);
    }
    let mut store = RootCertStore::empty();
    // A few of the system's certificates may be too odd for rustls; the others serve.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(Roots { store, listed: Vec::new() }) }
}
