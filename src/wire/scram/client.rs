//! The client's side: towards servers.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{
    BINDING_TYPE, KEY_LEN, Keys, ScramError, attribute, auth_message, check_nonce, decode_base64, decode_key,
    hmac, text, xor,
};

/// Whether we bind our sign-in to the server's certificate.
#[derive(Clone, Copy, Debug)]
pub enum Bind<'a> {
    /// We neither bind nor could.
    No,
    /// We could, and the server did not offer it. Saying so lets it see whether somebody took its offer out.
    NotOffered,
    /// To this hash of its certificate.
    To(&'a [u8]),
}

impl Bind<'_> {
    fn header(self) -> &'static str {
        match self {
            Self::No => "n,,",
            Self::NotOffered => "y,,",
            Self::To(_) => BINDING_TYPE,
        }
    }

    /// What the final message repeats as `c=`.
    fn repeated(self) -> String {
        let data: &[u8] = if let Self::To(end_point) = self { end_point } else { &[] };
        BASE64_STANDARD.encode([self.header().as_bytes(), data].concat())
    }
}

/// Most iterations that are computed for a server; PostgreSQL's default is 4096, and a million takes about a second.
const ITERATIONS_MAX: u32 = 1_000_000;

/// The first message is sent; the server's challenge is awaited.
#[derive(Debug)]
pub struct AwaitingServerFirst {
    pub(super) nonce: String,
    pub(super) client_first_bare: String,
    pub(super) binding: String,
}

impl AwaitingServerFirst {
    /// Gives the state and the first message to send. PostgreSQL takes the role from the startup packet, so no name is
    /// given here.
    pub fn begin(nonce: &str) -> (Self, String) {
        Self::begin_bound(nonce, Bind::No)
    }

    /// The same, with what is known of the channel.
    pub fn begin_bound(nonce: &str, bind: Bind<'_>) -> (Self, String) {
        let client_first_bare = format!("n=,r={nonce}");
        let message = format!("{}{client_first_bare}", bind.header());
        (Self { nonce: nonce.to_owned(), client_first_bare, binding: bind.repeated() }, message)
    }

    /// Answers the challenge with a proof from the password.
    pub fn prove_password(
        self,
        server_first: &[u8],
        password: &str,
    ) -> Result<(AwaitingServerFinal, String), ScramError> {
        let challenge = self.challenge(server_first)?;
        let keys = Keys::from_password(password, &challenge.salt, challenge.iterations);
        Ok(self.answer(&challenge, &keys))
    }

    /// Answers the challenge with a proof from keys, where they belong to the verifier that the server holds.
    pub fn prove_keys(
        self,
        server_first: &[u8],
        keys: &Keys,
    ) -> Result<(AwaitingServerFinal, String), ScramError> {
        let challenge = self.challenge(server_first)?;
        if challenge.salt != keys.salt || challenge.iterations != keys.iterations {
            return Err(ScramError::OtherVerifier);
        }
        Ok(self.answer(&challenge, keys))
    }

    fn challenge<'a>(&self, server_first: &'a [u8]) -> Result<Challenge<'a>, ScramError> {
        let message = text(server_first)?;
        let mut parts = message.split(',');
        let nonce = attribute(parts.next(), "r=", "nonce")?;
        check_nonce(nonce)?;
        // The server adds to our nonce; one that does not might replay an old exchange.
        if nonce.strip_prefix(&self.nonce).is_none_or(str::is_empty) {
            return Err(ScramError::Malformed { what: "nonce" });
        }
        let salt = decode_base64(attribute(parts.next(), "s=", "salt")?, "salt")?;
        let iterations = attribute(parts.next(), "i=", "iteration count")?;
        match iterations.parse() {
            Ok(iterations @ 1..=ITERATIONS_MAX) => Ok(Challenge { message, nonce, salt, iterations }),
            _ => Err(ScramError::Malformed { what: "iteration count" }),
        }
    }

    fn answer(self, challenge: &Challenge<'_>, keys: &Keys) -> (AwaitingServerFinal, String) {
        let signed = format!("c={},r={}", self.binding, challenge.nonce);
        let message = auth_message(&self.client_first_bare, challenge.message, &signed);
        let mut proof = hmac(&keys.stored_key, &message);
        xor(&mut proof, &keys.client_key);
        let signature = hmac(&keys.server_key, &message);
        let answer = format!("{signed},p={}", BASE64_STANDARD.encode(proof));
        proof.zeroize();
        (AwaitingServerFinal { signature }, answer)
    }
}

/// What the server's first message says.
struct Challenge<'a> {
    message: &'a str,
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

/// The proof is sent; the server's signature is awaited.
#[derive(Debug)]
pub struct AwaitingServerFinal {
    pub(super) signature: [u8; KEY_LEN],
}

impl AwaitingServerFinal {
    /// Checks that the server knows the role's verifier.
    pub fn finish(self, server_final: &[u8]) -> Result<(), ScramError> {
        let message = text(server_final)?;
        if message.starts_with("e=") {
            return Err(ScramError::Refused);
        }
        let signature = attribute(message.split(',').next(), "v=", "signature")?;
        let signature = decode_key(signature, "signature")?;
        if bool::from(signature.ct_eq(&self.signature)) { Ok(()) } else { Err(ScramError::WrongServer) }
    }
}
