//! What a certificate says: the names of its owner, and the hash that binds a sign-in to it (RFC 5929, section 4).

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Object identifier of a common name.
const COMMON_NAME: &str = "2.5.4.3";

/// Signatures over SHA-384 and SHA-512: RSA and ECDSA.
const OVER_SHA384: [&str; 2] = ["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"];
const OVER_SHA512: [&str; 2] = ["1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"];
/// Over SHA-256, and over MD5 and SHA-1, for which RFC 5929 says SHA-256.
const OVER_SHA256: [&str; 5] = [
    "1.2.840.113549.1.1.11",
    "1.2.840.10045.4.3.2",
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.2.840.10045.4.1",
];

/// `tls-server-end-point`: the hash of a server's certificate. `None` for signatures that name no hash (Ed25519) or
/// hide it in parameters (PSS): there PostgreSQL offers no channel binding either.
pub(crate) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = parsed.signature_algorithm().oid.to_string();
    let among = |known: &[&str]| known.contains(&algorithm.as_str());
    if among(&OVER_SHA256) {
        Some(Sha256::digest(certificate).to_vec())
    } else if among(&OVER_SHA384) {
        Some(Sha384::digest(certificate).to_vec())
    } else if among(&OVER_SHA512) {
        Some(Sha512::digest(certificate).to_vec())
    } else {
        None
    }
}

/// Whether it is this certificate's time.
pub(super) fn in_force(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = Certificate::from_der(certificate).or(Err(Error::from(CertificateError::BadEncoding)))?;
    let validity = parsed.tbs_certificate().validity();
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        Err(CertificateError::NotValidYet.into())
    } else if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}

/// Whether a certificate that has no name of a host or address beside its common name has the host's there, with a star
/// for one label or without. Whoever made certificates as PostgreSQL's manual shows it has such ones (18.9.5).
pub(super) fn common_name_is(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let Ok(parsed) = Certificate::from_der(certificate) else { return false };
    let names_hosts = match parsed.tbs_certificate().get_extension::<SubjectAltName>() {
        Ok(None) => false,
        Ok(Some((_, names))) => {
            names.0.iter().any(|name| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_)))
        }
        Err(_) => true,
    };
    let Some(owner) = Owner::of(certificate).filter(|owner| !names_hosts && !owner.common_name.is_empty())
    else {
        return false;
    };
    let host = host.to_str();
    match owner.common_name.strip_prefix("*.") {
        // A star stands for a label, and not for a part of an address.
        Some(domain) => {
            matches!(host.split_once('.'), Some((label, rest)) if !label.is_empty() && rest.eq_ignore_ascii_case(domain))
                && host.parse::<std::net::IpAddr>().is_err()
        }
        None => owner.common_name.eq_ignore_ascii_case(&host),
    }
}

/// Whether a certificate is for this host, a name or an address.
pub(crate) fn names_host(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(name), Ok(parsed)) = (ServerName::try_from(host), ParsedCertificate::try_from(certificate))
    else {
        return false;
    };
    rustls::client::verify_server_name(&parsed, &name).is_ok() || common_name_is(certificate, &name)
}

/// Whose certificate it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The common name; empty where there is none, or more than one.
    pub common_name: String,
    /// The distinguished name as RFC 4514 writes it: `CN=app,O=example`.
    pub distinguished_name: String,
    /// Further names: of hosts, mail addresses, URIs.
    pub alternatives: Vec<String>,
}

impl Owner {
    /// Reads a certificate. Names with control characters are left out: a zero byte in a name has fooled many a reader.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = Certificate::from_der(certificate).ok()?;
        let subject = parsed.tbs_certificate().subject();
        let printable = |text: &String| !text.is_empty() && !text.chars().any(char::is_control);
        let mut names = subject.iter().filter(|name| name.oid.to_string() == COMMON_NAME);
        let common_name = match (names.next(), names.next()) {
            (Some(only), None) => text(only).filter(printable).unwrap_or_default(),
            _ => String::new(),
        };
        let alternatives = match parsed.tbs_certificate().get_extension::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0.iter().filter_map(alternative).filter(printable).collect(),
            _ => Vec::new(),
        };
        Some(Self { common_name, distinguished_name: subject.to_string(), alternatives })
    }
}

fn text(name: &AttributeTypeAndValue) -> Option<String> {
    let value = &name.value;
    match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned())
        }
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::TeletexString => {
            value.decode_as::<TeletexStringRef<'_>>().ok().map(|text| text.as_str().to_owned())
        }
        _ => None,
    }
}

fn alternative(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(text)
        | GeneralName::Rfc822Name(text)
        | GeneralName::UniformResourceIdentifier(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}
