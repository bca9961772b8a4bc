//! The first packet of a connection (55.2.1, 55.2.8 to 55.2.11): what the client wants, which minor version is spoken,
//! and its startup options. It has no letter, so it is told by a code where versions stand.

use super::backend::SECRET_LEN;

mod options;

pub use options::{OptionsError, options};

/// Codes that stand where a version would: major 1234 is no version.
pub(super) const CANCEL_REQUEST: u32 = 80_877_102;
pub(super) const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// First byte of a TLS handshake record: a client that starts with TLS at once (`sslnegotiation=direct`).
const TLS_HANDSHAKE: u8 = 0x16;

/// Prefix of options of the protocol itself, as opposed to settings.
const PROTOCOL_OPTION: &str = "_pq_.";

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 3 since PostgreSQL 7.4.
    pub major: u16,
    /// 0, or 2 since PostgreSQL 18; 3.1 was never used.
    pub minor: u16,
}

impl Version {
    /// Spoken by every server and client.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// Longer cancel secrets; PostgreSQL 18.
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    /// As it is written on the wire.
    pub fn code(self) -> u32 {
        u32::from(self.major) << 16 | u32::from(self.minor)
    }

    fn from_code([major_high, major_low, minor_high, minor_low]: [u8; 4]) -> Self {
        Self {
            major: u16::from_be_bytes([major_high, major_low]),
            minor: u16::from_be_bytes([minor_high, minor_low]),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What is wrong with a first packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// Length field below the least or above the limit.
    #[error("length of the startup packet is {declared}, allowed are 8 to {declared_max}")]
    Length {
        /// What the length field said.
        declared: u32,
        /// The most that is taken.
        declared_max: u32,
    },
    /// Not a version that is spoken here.
    #[error("protocol version {found} is not supported, only 3.0 to 3.2 are")]
    Version {
        /// What the client asked for.
        found: Version,
    },
    /// The parameters are not pairs of texts with an empty name at the end.
    #[error("the startup packet's parameters are malformed")]
    Params,
    /// A name or value is not UTF-8.
    #[error("the startup packet holds text that is not UTF-8")]
    NotUtf8,
    /// There is no user.
    #[error("no user name in the startup packet")]
    NoUser,
    /// Encryption was asked for again and again.
    #[error("too many requests for encryption before the startup packet")]
    TooManyRequests,
    /// Secret of a cancel request out of bounds.
    #[error("a cancel request has {secret_len} bytes of secret, allowed are 4 to 256")]
    CancelSecret {
        /// Its length.
        secret_len: usize,
    },
}

/// The first bytes of a connection, as far as they tell what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A TLS handshake without asking first.
    DirectTls,
    /// A packet of so many bytes, its length field included.
    Packet {
        /// The whole length.
        len: usize,
    },
}

impl Opening {
    /// Reads the first four bytes; `None` where they are not all there and it cannot be told yet.
    pub fn peek(bytes: &[u8], packet_len_max: u32) -> Result<Option<Self>, StartupError> {
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Ok(Some(Self::DirectTls));
        }
        let Some(four) = bytes.first_chunk() else { return Ok(None) };
        let declared = u32::from_be_bytes(*four);
        if (8..=packet_len_max).contains(&declared) {
            Ok(Some(Self::Packet { len: declared as usize }))
        } else {
            Err(StartupError::Length { declared, declared_max: packet_len_max })
        }
    }
}

/// A first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartupPacket {
    /// Asks for TLS.
    Ssl,
    /// Asks for GSSAPI encryption.
    Gss,
    /// Asks to cancel what another connection runs.
    Cancel {
        /// Process id from its BackendKeyData.
        pid: i32,
        /// Secret from its BackendKeyData.
        secret: Vec<u8>,
    },
    /// Wants to sign in.
    Startup {
        /// The version that the client would like to speak.
        version: Version,
        /// Names and values, in the order in which they came.
        params: Vec<(String, String)>,
    },
}

impl StartupPacket {
    /// Reads a packet without its length field.
    pub fn decode(packet: &[u8]) -> Result<Self, StartupError> {
        let Some((code, rest)) = packet.split_first_chunk() else { return Err(StartupError::Params) };
        let version = Version::from_code(*code);
        match u32::from_be_bytes(*code) {
            SSL_REQUEST => Ok(Self::Ssl),
            GSSENC_REQUEST => Ok(Self::Gss),
            CANCEL_REQUEST => decode_cancel(rest),
            _ if version.major == 3 => Ok(Self::Startup { version, params: decode_params(rest)? }),
            _ => Err(StartupError::Version { found: version }),
        }
    }
}

fn decode_cancel(rest: &[u8]) -> Result<StartupPacket, StartupError> {
    match rest.split_first_chunk() {
        Some((pid, secret)) if SECRET_LEN.contains(&secret.len()) => {
            Ok(StartupPacket::Cancel { pid: i32::from_be_bytes(*pid), secret: secret.to_vec() })
        }
        _ => Err(StartupError::CancelSecret { secret_len: rest.len().saturating_sub(4) }),
    }
}

fn decode_params(rest: &[u8]) -> Result<Vec<(String, String)>, StartupError> {
    // Every text ends with a zero byte, and a last one ends the list.
    let texts = rest.strip_suffix(b"\0").ok_or(StartupError::Params)?;
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let texts = texts.strip_suffix(b"\0").ok_or(StartupError::Params)?;
    // Drivers send some four to eight.
    let mut params = Vec::with_capacity(8);
    let mut texts = texts.split(|byte| *byte == 0);
    while let Some(name) = texts.next() {
        let value = texts.next().ok_or(StartupError::Params)?;
        if name.is_empty() {
            return Err(StartupError::Params);
        }
        let [name, value] = [name, value].map(|text| std::str::from_utf8(text).map(str::to_owned));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(StartupError::NotUtf8) };
        params.push((name, value));
    }
    Ok(params)
}

/// What a startup packet comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The role.
    pub user: String,
    /// The database; the role's name where the client named none.
    pub database: String,
    /// The version that will be spoken.
    pub version: Version,
    /// Options of the protocol that are not known here.
    pub unknown_options: Vec<String>,
    /// Whether the client has to be told version and unknown options (NegotiateProtocolVersion).
    pub negotiated: bool,
    /// The value of `replication`, where it is not off.
    pub replication: Option<String>,
    /// Everything else: settings and `options`, in order, unparsed.
    pub params: Vec<(String, String)>,
}

impl Request {
    /// Sorts the parameters of a startup packet and settles the version.
    pub fn new(asked: Version, params: Vec<(String, String)>) -> Result<Self, StartupError> {
        let version = match asked {
            Version { major: 3, minor: 0 | 1 } => Version::V3_0,
            Version { major: 3, .. } => Version::V3_2,
            found => return Err(StartupError::Version { found }),
        };
        let (mut user, mut database) = (String::new(), String::new());
        let (mut replication, mut unknown_options, mut rest) = (None, Vec::new(), Vec::new());
        for (name, value) in params {
            match name.as_str() {
                "user" => user = value,
                "database" => database = value,
                "replication" => replication = (!is_off(&value)).then_some(value),
                _ if name.starts_with(PROTOCOL_OPTION) => unknown_options.push(name),
                _ => rest.push((name, value)),
            }
        }
        if user.is_empty() {
            return Err(StartupError::NoUser);
        }
        if database.is_empty() {
            database.clone_from(&user);
        }
        let negotiated = version != asked || !unknown_options.is_empty();
        Ok(Self { user, database, version, unknown_options, negotiated, replication, params: rest })
    }
}

fn is_off(value: &str) -> bool {
    ["", "0", "f", "fa", "fal", "fals", "false", "n", "no", "of", "off"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests;
