//! What is checked of a server's certificate, by `sslmode`'s words.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::load::{self, Roots};

/// How much is checked.
#[derive(Debug)]
pub(super) enum Checks {
    /// `prefer` and `require`: encryption against listening in, no protection against an impostor. As in libpq.
    Nothing,
    /// `verify-ca`: a trusted authority signed it, for whichever name.
    Chain(Roots),
    /// `verify-full`: and it is for this host.
    ChainAndName(Roots),
}

/// The verifier that rustls asks.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    checks: Checks,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    pub(super) fn new(checks: Checks) -> Self {
        Self { checks, provider: load::provider() }
    }

    fn check_chain(
        &self,
        roots: &Roots,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // A self-signed server certificate that is its own authority is what `openssl req -x509` makes and what many
        // clusters use. It is trusted by being listed; chain building would refuse it as an authority's.
        if roots.listed.iter().any(|listed| listed == server) {
            return Ok(());
        }
        let parsed = ParsedCertificate::try_from(server)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots.store, intermediates, now, algorithms)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.checks {
            Checks::Nothing => {}
            Checks::Chain(roots) => self.check_chain(roots, server, intermediates, now)?,
            Checks::ChainAndName(roots) => {
                self.check_chain(roots, server, intermediates, now)?;
                verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
