//! What a server keeps of a password: enough to check a proof, not enough to make one.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{KEY_LEN, Keys, MECHANISM, hmac};

/// PostgreSQL's own count (`scram_iterations`).
pub const ITERATIONS_DEFAULT: u32 = 4096;

/// Bytes of salt in PostgreSQL's own verifiers.
const SALT_LEN: usize = 16;

/// Salt and keys of a role.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Verifier {
    pub(super) stored_key: [u8; KEY_LEN],
    pub(super) server_key: [u8; KEY_LEN],
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    /// Made up for a role that does not exist or has no password: every proof is wrong.
    pub(super) mock: bool,
}

/// The text is not `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed SCRAM-SHA-256 verifier")]
pub struct VerifierError;

impl Verifier {
    pub(super) fn genuine(
        stored_key: [u8; KEY_LEN],
        server_key: [u8; KEY_LEN],
        salt: Vec<u8>,
        iterations: u32,
    ) -> Self {
        Self { stored_key, server_key, salt, iterations, mock: false }
    }

    /// Reads a verifier as `pg_authid.rolpassword` shows it.
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        Self::parts(text).ok_or(VerifierError)
    }

    fn parts(text: &str) -> Option<Self> {
        let (iterations, rest) = text.strip_prefix(MECHANISM)?.strip_prefix('$')?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let decode = |text: &str| BASE64_STANDARD.decode(text).ok();
        let iterations = iterations.parse().ok().filter(|count| *count > 0)?;
        let salt = decode(salt).filter(|salt| !salt.is_empty())?;
        let [stored_key, server_key] = [stored_key, server_key].map(|key| decode(key)?.try_into().ok());
        Some(Self::genuine(stored_key?, server_key?, salt, iterations))
    }

    /// Makes a verifier of a password.
    pub fn from_password(password: &str, salt: &[u8], iterations: u32) -> Self {
        Keys::from_password(password, salt, iterations).verifier()
    }

    /// Whether it was made of this password. Takes thousands of hashes.
    pub fn is_of(&self, password: &str) -> bool {
        let keys = Keys::from_password(password, &self.salt, self.iterations);
        let fits = keys.stored_key.ct_eq(&self.stored_key);
        !self.mock && bool::from(fits)
    }

    /// A salt for a role: the same at every call, another one in every process that has another secret.
    pub fn salt(secret: &[u8], user: &str) -> Vec<u8> {
        hmac(secret, &[b"salt", user.as_bytes()]).into_iter().take(SALT_LEN).collect()
    }

    /// A verifier for a role that has none, so that signing in as it looks the same and costs the same, and fails. The
    /// same role always gets the same salt, or two attempts would tell that the role does not exist.
    pub fn mock(secret: &[u8], user: &str) -> Self {
        let make = |what: &[u8]| hmac(secret, &[what, user.as_bytes()]);
        Self {
            stored_key: make(b"stored"),
            server_key: make(b"server"),
            salt: Self::salt(secret, user),
            iterations: ITERATIONS_DEFAULT,
            mock: true,
        }
    }

    /// Writes the verifier as `pg_authid.rolpassword` shows it. That lets nobody sign in, but passwords can be guessed
    /// against it: not for logs.
    pub fn to_text(&self) -> String {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| BASE64_STANDARD.encode(bytes));
        format!("{MECHANISM}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}
