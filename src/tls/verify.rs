//! What is checked of a server's certificate, by `sslmode`'s words.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::certificate;
use super::load::{self, Roots, TlsError};

/// How much is checked.
#[derive(Debug)]
pub(super) enum Checks {
    /// Below `verify-ca`, without authorities: encryption against listening in, no protection against an impostor. As in libpq.
    Nothing,
    /// `verify-ca`: a trusted authority signed it, for whichever name.
    Chain(Authorities),
    /// `verify-full`: and it is for this host.
    ChainAndName(Authorities),
}

/// Who is trusted, and what was revoked.
#[derive(Debug)]
pub(super) struct Authorities {
    listed: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Authorities {
    pub(super) fn new(
        roots: Roots,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, TlsError> {
        let Roots { store, listed } = roots;
        let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), load::provider());
        if !revoked.is_empty() {
            // As libpq: a list is asked for every certificate of the chain that it could concern; authorities without
            // a list of their own pass.
            builder = builder.with_crls(revoked).allow_unknown_revocation_status();
        }
        Ok(Self { listed, verifier: builder.build()? })
    }

    fn check(&self, shown: &Shown<'_>, named: bool) -> Result<(), Error> {
        // A self-signed server certificate that is its own authority is what `openssl req -x509` makes and what many
        // clusters use. It is trusted by being listed; chain building would refuse it as an authority's.
        if self.listed.iter().any(|listed| listed == shown.server) {
            certificate::in_force(shown.server, shown.now)?;
            return if named { shown.is_named() } else { Ok(()) };
        }
        let verified =
            self.verifier.verify_server_cert(shown.server, shown.intermediates, shown.name, &[], shown.now);
        match verified {
            // The name is looked at last, when everything else has been found right.
            Err(error) if is_about_the_name(&error) => {
                if named {
                    shown.is_named()
                } else {
                    Ok(())
                }
            }
            verified => verified.map(|_| ()),
        }
    }
}

fn is_about_the_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

/// What a server shows, and when and as whom.
struct Shown<'a> {
    server: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    now: UnixTime,
}

impl Shown<'_> {
    /// Whether it is for this host: by its names of hosts, or where it has none by its common name, as in libpq.
    fn is_named(&self) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(self.server)?;
        match rustls::client::verify_server_name(&parsed, self.name) {
            Err(error)
                if is_about_the_name(&error) && certificate::common_name_is(self.server, self.name) =>
            {
                Ok(())
            }
            checked => checked,
        }
    }
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
        let shown = Shown { server, intermediates, name, now };
        match &self.checks {
            Checks::Nothing => {}
            Checks::Chain(authorities) => authorities.check(&shown, false)?,
            Checks::ChainAndName(authorities) => authorities.check(&shown, true)?,
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
