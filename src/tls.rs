//! TLS below both planes: `sslmode`'s words, certificates and keys from files, what is checked of a server's certificate,
//! and what a certificate says. In: settings. Out: what rustls wants. It opens no connection.

mod certificate;
pub(crate) mod handshake;
pub(crate) mod load;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};

pub use certificate::Owner;
pub(crate) use certificate::{end_point, names_host};
pub use load::TlsError;
use verify::{Authorities, Checks, ServerVerifier};

/// The protocol's name in the handshake (ALPN); asked for where TLS comes without an SSLRequest (manual, 55.2.11).
pub(crate) const ALPN: &[u8] = b"postgresql";

/// Direct TLS in which the other side did not say which protocol it speaks.
pub(crate) fn without_name() -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        "direct TLS without the protocol name postgresql (ALPN)",
    )
}

/// Why a handshake failed, in words that help: rustls names what it looked at.
pub(crate) fn in_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    if text.contains("UnsupportedCertVersion") {
        // What `openssl x509 -req` makes without a file of extensions.
        return "the certificate has X.509 version 1, and version 3 is needed: sign it with extensions (openssl x509 -extfile)"
            .to_owned();
    }
    text
}

/// `sslmode`'s words towards servers (PostgreSQL manual, 34.19.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServerTlsMode {
    /// Never TLS.
    Disable,
    /// Without TLS, and with it where the server wants it so. Like the next two it checks the certificate as `verify-ca` does
    /// where authorities are named, and else not.
    Allow,
    /// TLS where the server offers it, and without where it lets nobody in so.
    #[default]
    Prefer,
    /// TLS or nothing.
    Require,
    /// TLS with a certificate from a trusted authority.
    VerifyCa,
    /// The same, and the certificate names the host.
    VerifyFull,
}

impl ServerTlsMode {
    /// libpq's words.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    /// The word as libpq spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether a connection without TLS is none.
    pub fn required(self) -> bool {
        matches!(self, Self::Require | Self::VerifyCa | Self::VerifyFull)
    }

    /// How to connect, in the order in which it is tried: the next where the server refuses us on this one in a way that
    /// another may change.
    pub(crate) fn ways(self) -> &'static [Way] {
        match self {
            Self::Disable => &[Way::Plain],
            Self::Allow => &[Way::Plain, Way::Offered],
            Self::Prefer => &[Way::Offered, Way::Plain],
            Self::Require | Self::VerifyCa | Self::VerifyFull => &[Way::Tls],
        }
    }
}

/// With or without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Without.
    Plain,
    /// With TLS if the server says yes to it.
    Offered,
    /// With TLS.
    Tls,
}

/// How TLS begins, in libpq's words (`sslnegotiation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Negotiation {
    /// The server is asked first (SSLRequest).
    #[default]
    Postgres,
    /// At once, which saves a round trip: PostgreSQL 17 and later.
    Direct,
}

impl Negotiation {
    /// libpq's words.
    pub const WORDS: [(&'static str, Self); 2] = [("postgres", Self::Postgres), ("direct", Self::Direct)];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Direct => "direct",
        }
    }
}

/// Whether a sign-in with SCRAM is bound to the server's certificate, in libpq's words (`channel_binding`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// Or not at all: who stands between cannot pass the sign-in on.
    Require,
}

impl ChannelBinding {
    /// libpq's words.
    pub const WORDS: [(&'static str, Self); 3] =
        [("disable", Self::Disable), ("prefer", Self::Prefer), ("require", Self::Require)];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

/// TLS towards a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// When TLS is used and what is checked.
    pub mode: ServerTlsMode,
    /// PEM file with trusted authorities; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// PEM file with lists of revoked certificates.
    pub crl_file: Option<PathBuf>,
    /// PEM file with the certificate chain that we show the server, where it asks for one.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// Whether SCRAM is bound to the server's certificate.
    pub channel_binding: ChannelBinding,
    /// How TLS begins.
    pub negotiation: Negotiation,
}

/// What a handshake with a server needs; `None` where TLS is not used. Reads the files.
pub(crate) fn towards_server(settings: &ServerTls) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    let authorities = || {
        let revoked = settings.crl_file.as_deref().map(load::revocations).transpose()?;
        Authorities::new(load::server_roots(settings.ca_file.as_deref())?, revoked.unwrap_or_default())
    };
    let checks = match settings.mode {
        ServerTlsMode::Disable => return Ok(None),
        ServerTlsMode::Allow | ServerTlsMode::Prefer | ServerTlsMode::Require
            if settings.ca_file.is_none() =>
        {
            Checks::Nothing
        }
        // As libpq: who names authorities wants them asked, whatever the mode. Where TLS need not be, it is done without.
        ServerTlsMode::Allow | ServerTlsMode::Prefer | ServerTlsMode::Require | ServerTlsMode::VerifyCa => {
            Checks::Chain(authorities()?)
        }
        ServerTlsMode::VerifyFull => Checks::ChainAndName(authorities()?),
    };
    let own = match (&settings.cert_file, &settings.key_file) {
        (Some(cert_file), Some(key_file)) => Some((cert_file.as_path(), key_file.as_path())),
        (None, None) => None,
        (Some(_), None) => return Err(TlsError::Missing { setting: "sslkey" }),
        (None, Some(_)) => return Err(TlsError::Missing { setting: "sslcert" }),
    };
    let mut config = client_side(checks, own)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Some(Arc::new(config)))
}

/// What a handshake needs with whoever is asked for his name and for a certificate of these authorities (the system's where
/// none are named), and to whom we may show one.
pub(crate) fn towards(ca_file: Option<&Path>, own: Option<(&Path, &Path)>) -> Result<ClientConfig, TlsError> {
    let authorities = Authorities::new(load::server_roots(ca_file)?, Vec::new())?;
    client_side(Checks::ChainAndName(authorities), own)
}

fn client_side(checks: Checks, own: Option<(&Path, &Path)>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(load::provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Rustls { source })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(checks)));
    let Some((cert_file, key_file)) = own else { return Ok(builder.with_no_client_auth()) };
    builder
        .with_client_auth_cert(load::certificates(cert_file)?, load::key(key_file)?)
        .map_err(|source| unfit(cert_file, key_file, source))
}

fn unfit(cert_file: &Path, key_file: &Path, source: rustls::Error) -> TlsError {
    TlsError::CertificateAndKey { cert_file: cert_file.to_owned(), key_file: key_file.to_owned(), source }
}

/// Who may come to a port of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitors<'a> {
    /// Authorities of their certificates; nobody is asked for one where absent.
    pub(crate) ca_file: Option<&'a Path>,
    /// Lists of revoked ones.
    pub(crate) crl_file: Option<&'a Path>,
    /// Whether who shows none is sent away.
    pub(crate) must_show: bool,
}

/// What a handshake on a port of ours needs. Reads the files.
pub(crate) fn at_our_port(
    (cert_file, key_file): (&Path, &Path),
    visitors: Visitors<'_>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(load::provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Rustls { source })?;
    let builder = match visitors.ca_file {
        Some(ca_file) => {
            let roots = Arc::new(load::roots(ca_file)?.store);
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, load::provider());
            if let Some(crl_file) = visitors.crl_file {
                verifier = verifier.with_crls(load::revocations(crl_file)?).allow_unknown_revocation_status();
            }
            if !visitors.must_show {
                verifier = verifier.allow_unauthenticated();
            }
            builder.with_client_cert_verifier(verifier.build()?)
        }
        None => builder.with_no_client_auth(),
    };
    builder
        .with_single_cert(load::certificates(cert_file)?, load::key(key_file)?)
        .map_err(|source| unfit(cert_file, key_file, source))
}
