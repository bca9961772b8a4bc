//! The agent's side of TLS: certificate, key, and the authorities of clients.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use super::settings::Tls;
pub use crate::tls::TlsError;
use crate::tls::{Visitors, at_our_port};

/// Reads the files. Where there are authorities, each client has to show a certificate of theirs.
pub(super) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, TlsError> {
    let visitors = Visitors { ca_file: tls.ca_file.as_deref(), crl_file: None, must_show: true };
    let config = at_our_port((&tls.cert_file, &tls.key_file), visitors)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
