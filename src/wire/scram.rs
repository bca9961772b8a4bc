//! SCRAM-SHA-256 as steps on values, both sides (RFC 5802, RFC 7677; PostgreSQL manual 55.3). Nonces are arguments.
//!
//! The server side gives back the client's key, which a proof reveals to who holds the verifier. With that key primacy
//! signs in on the servers as the same role, without ever having seen the password, as long as they hold the same
//! verifier: and standbys are copies of their primary.
//!
//! Channel binding (SCRAM-SHA-256-PLUS) ties each side's sign-in to the certificate of that side's own connection: the
//! client's to ours, ours to the server's. The key that a proof reveals does not depend on it.

mod client;
mod server;
mod verifier;

pub use client::{AwaitingServerFinal, AwaitingServerFirst, Bind};
pub use server::{AwaitingProof, Binding};
pub use verifier::{ITERATIONS_DEFAULT, Verifier, VerifierError};

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The mechanism's name.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// The same, bound to the server's certificate.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// How it is bound: to the hash of the certificate (RFC 5929). The only way that PostgreSQL knows.
const BINDING_TYPE: &str = "p=tls-server-end-point,,";

/// Bytes of chance in a nonce, before they are made printable.
pub const NONCE_BYTES: usize = 18;

/// Length of every key.
pub const KEY_LEN: usize = 32;

/// What is wrong with an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message breaks the grammar of RFC 5802, section 7.
    #[error("malformed SCRAM message: {what}")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// The peer wants what is not done here.
    #[error("SCRAM: {what} is not supported")]
    Unsupported {
        /// The thing.
        what: &'static str,
    },
    /// The client's proof does not fit the verifier: wrong password, or no such role.
    #[error("SCRAM: the proof does not fit the verifier")]
    WrongProof,
    /// The server's signature is wrong: it does not know the role's verifier.
    #[error("SCRAM: the server's signature is wrong")]
    WrongServer,
    /// The server holds another verifier than the one that our keys were made from.
    #[error("SCRAM: the server's verifier has another salt or iteration count")]
    OtherVerifier,
    /// The client believes that we offer no channel binding, and we did: somebody between has taken the offer out.
    #[error("SCRAM: the offer of channel binding was taken out on the way")]
    Downgrade,
    /// The server said that signing in failed.
    #[error("SCRAM: the server refused")]
    Refused,
}

/// What can sign in as a role without its password: the client's key and what it was derived with.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    client_key: [u8; KEY_LEN],
    stored_key: [u8; KEY_LEN],
    server_key: [u8; KEY_LEN],
    salt: Vec<u8>,
    iterations: u32,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

impl Keys {
    /// Derives the keys from a password: thousands of hashes, a millisecond or more.
    pub fn from_password(password: &str, salt: &[u8], iterations: u32) -> Self {
        let password = prepared(password);
        let salted = salted_password(password.as_bytes(), salt, iterations);
        let client_key = hmac(&*salted, &[b"Client Key"]);
        let server_key = hmac(&*salted, &[b"Server Key"]);
        Self { client_key, stored_key: sha256(&client_key), server_key, salt: salt.to_vec(), iterations }
    }

    /// The verifier that these keys belong to.
    pub fn verifier(&self) -> Verifier {
        Verifier::genuine(self.stored_key, self.server_key, self.salt.clone(), self.iterations)
    }
}

/// A nonce from bytes of chance.
pub fn nonce(chance: [u8; NONCE_BYTES]) -> String {
    BASE64_STANDARD.encode(chance)
}

/// The password as it is hashed. As in PostgreSQL, what SASLprep refuses is taken as it is.
fn prepared(password: &str) -> Zeroizing<String> {
    Zeroizing::new(stringprep::saslprep(password).map_or_else(|_| password.to_owned(), Cow::into_owned))
}

fn sha256(data: &[u8]) -> [u8; KEY_LEN] {
    Sha256::digest(data).into()
}

/// HMAC keyed with `key`. A key longer than a block of the hash is hashed first, a shorter one is filled up (RFC 2104).
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0_u8; 64]);
    let hashed;
    let key = if key.len() > block.len() {
        hashed = Zeroizing::new(sha256(key));
        hashed.as_slice()
    } else {
        key
    };
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::new((&*block).into())
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; KEY_LEN] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `Hi()` of RFC 5802: PBKDF2 with one block of output.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<[u8; KEY_LEN]> {
    let keyed = keyed(password);
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1_u32.to_be_bytes());
    let mut round: [u8; KEY_LEN] = first.finalize().into_bytes().into();
    let mut sum = Zeroizing::new(round);
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&round);
        round = next.finalize().into_bytes().into();
        xor(&mut sum, &round);
    }
    round.zeroize();
    sum
}

fn xor(into: &mut [u8; KEY_LEN], other: &[u8; KEY_LEN]) {
    for (to, from) in into.iter_mut().zip(other) {
        *to ^= from;
    }
}

/// The three messages that proof and signature are made over.
fn auth_message<'a>(
    client_first_bare: &'a str,
    server_first: &'a str,
    client_final: &'a str,
) -> [&'a [u8]; 5] {
    [client_first_bare.as_bytes(), b",", server_first.as_bytes(), b",", client_final.as_bytes()]
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).or(Err(ScramError::Malformed { what: "not UTF-8" }))
}

/// The value of an attribute `letter=value` that must stand here.
fn attribute<'a>(part: Option<&'a str>, prefix: &str, what: &'static str) -> Result<&'a str, ScramError> {
    part.and_then(|part| part.strip_prefix(prefix)).ok_or(ScramError::Malformed { what })
}

fn decode_base64(text: &str, what: &'static str) -> Result<Vec<u8>, ScramError> {
    BASE64_STANDARD.decode(text).or(Err(ScramError::Malformed { what }))
}

fn decode_key(text: &str, what: &'static str) -> Result<[u8; KEY_LEN], ScramError> {
    decode_base64(text, what)?.try_into().or(Err(ScramError::Malformed { what }))
}

/// Printable, without commas, and bounded: 24 characters are usual.
fn check_nonce(nonce: &str) -> Result<(), ScramError> {
    let fits = (1..=256).contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(ScramError::Malformed { what: "nonce" }) }
}

#[cfg(test)]
mod tests;
