//! The server's side: towards clients.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;

use super::{
    BINDING_TYPE, Keys, ScramError, Verifier, attribute, auth_message, check_nonce, decode_key, hmac, sha256,
    text, xor,
};

/// What was offered to the client, and what it took.
#[derive(Clone, Copy, Debug)]
pub enum Binding<'a> {
    /// Channel binding was not offered.
    NotOffered,
    /// It was offered, and the client chose the mechanism without.
    NotTaken,
    /// The client chose the mechanism with it; the hash of our certificate.
    Taken(&'a [u8]),
}

/// The challenge is sent; the client's proof is awaited.
#[derive(Debug)]
pub struct AwaitingProof {
    verifier: Arc<Verifier>,
    /// The first part of the client's first message and what it is bound to, base64: the final message repeats it as `c=`.
    bound_header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl AwaitingProof {
    /// Answers the client's first message where channel binding was not offered. Gives the state and the challenge to
    /// send.
    pub fn begin(
        verifier: Arc<Verifier>,
        client_first: &[u8],
        server_nonce: &str,
    ) -> Result<(Self, String), ScramError> {
        Self::begin_bound(verifier, client_first, server_nonce, Binding::NotOffered)
    }

    /// The same, with what was offered and taken.
    pub fn begin_bound(
        verifier: Arc<Verifier>,
        client_first: &[u8],
        server_nonce: &str,
        binding: Binding<'_>,
    ) -> Result<(Self, String), ScramError> {
        let client_first = text(client_first)?;
        let bare = without_gs2_header(client_first, binding)?;
        let gs2_header = client_first.strip_suffix(bare).unwrap_or_default();
        let bound_to = if let Binding::Taken(end_point) = binding { end_point } else { &[] };

        let mut parts = bare.split(',');
        let name = parts.next();
        if name.is_some_and(|part| part.starts_with("m=")) {
            return Err(ScramError::Unsupported { what: "a mandatory extension" });
        }
        // PostgreSQL knows the role from the startup packet, and so do we; what stands here is ignored.
        attribute(name, "n=", "user name")?;
        let client_nonce = attribute(parts.next(), "r=", "nonce")?;
        check_nonce(client_nonce)?;

        let nonce = [client_nonce, server_nonce].concat();
        let mut server_first = String::with_capacity(nonce.len() + 64);
        for part in ["r=", &nonce, ",s="] {
            server_first.push_str(part);
        }
        BASE64_STANDARD.encode_string(&verifier.salt, &mut server_first);
        server_first.push_str(",i=");
        server_first.push_str(&verifier.iterations.to_string());
        let state = Self {
            verifier,
            bound_header: BASE64_STANDARD.encode([gs2_header.as_bytes(), bound_to].concat()),
            client_first_bare: bare.to_owned(),
            server_first: server_first.clone(),
            nonce,
        };
        Ok((state, server_first))
    }

    /// Checks the client's final message. Gives the keys that the proof revealed, and the signature to send.
    pub fn finish(self, client_final: &[u8]) -> Result<(Keys, String), ScramError> {
        let client_final = text(client_final)?;
        // The proof is the last attribute; everything before it is signed.
        let (signed, proof) =
            client_final.rsplit_once(",p=").ok_or(ScramError::Malformed { what: "no proof" })?;
        let mut parts = signed.split(',');
        if attribute(parts.next(), "c=", "channel binding")? != self.bound_header {
            return Err(ScramError::Malformed { what: "channel binding" });
        }
        if attribute(parts.next(), "r=", "nonce")? != self.nonce {
            return Err(ScramError::Malformed { what: "nonce" });
        }
        let mut client_key = decode_key(proof, "proof")?;

        let message = auth_message(&self.client_first_bare, &self.server_first, signed);
        let verifier = &*self.verifier;
        xor(&mut client_key, &hmac(&verifier.stored_key, &message));
        let fits = sha256(&client_key).ct_eq(&verifier.stored_key);
        let signature = hmac(&verifier.server_key, &message);
        if verifier.mock || !bool::from(fits) {
            return Err(ScramError::WrongProof);
        }
        let keys = Keys {
            client_key,
            stored_key: verifier.stored_key,
            server_key: verifier.server_key,
            salt: verifier.salt.clone(),
            iterations: verifier.iterations,
        };
        let mut answer = String::with_capacity(64);
        answer.push_str("v=");
        BASE64_STANDARD.encode_string(signature, &mut answer);
        Ok((keys, answer))
    }
}

/// The client's first message behind its header `n,,`, `y,,` or `p=...,,`.
fn without_gs2_header<'a>(message: &'a str, binding: Binding<'_>) -> Result<&'a str, ScramError> {
    let flag = message.as_bytes().first();
    if let Binding::Taken(_) = binding {
        return match flag {
            Some(b'p') => message
                .strip_prefix(BINDING_TYPE)
                .ok_or(ScramError::Unsupported { what: "this type of channel binding" }),
            _ => Err(ScramError::Malformed { what: "channel binding flag" }),
        };
    }
    let rest = match (flag, binding) {
        // `y` says that the client could bind and believes that we cannot.
        (Some(b'y'), Binding::NotTaken) => return Err(ScramError::Downgrade),
        (Some(b'n' | b'y'), _) => message.get(1..),
        (Some(b'p'), _) => return Err(ScramError::Unsupported { what: "channel binding" }),
        _ => None,
    };
    let rest = rest
        .and_then(|rest| rest.strip_prefix(','))
        .ok_or(ScramError::Malformed { what: "channel binding flag" })?;
    if rest.starts_with("a=") {
        return Err(ScramError::Unsupported { what: "an authorization identity" });
    }
    rest.strip_prefix(',').ok_or(ScramError::Malformed { what: "authorization identity" })
}
