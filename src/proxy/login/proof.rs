//! The proof: a client shows that it knows its password. A role that does not exist goes through the same steps and is
//! refused with the same words.

use std::sync::Arc;

use super::{Door, LoginError};
use crate::model::Secret;
use crate::proxy::auth::Stored;
use crate::proxy::hba::Method;
use crate::proxy::server::Credential;
use crate::session::ClientError;
use crate::wire::frontend::{self, SaslInitialResponse};
use crate::wire::scram::{self, AwaitingProof, Binding, Keys, ScramError, Verifier};
use crate::wire::{encode, md5};

impl Door<'_> {
    /// Asks for the proof, `greeting` before it. Gives what signs in as the role on servers.
    pub(super) async fn prove(
        &mut self,
        user: &str,
        method: Method,
        greeting: Vec<u8>,
    ) -> Result<Credential, LoginError> {
        let verifiers = Arc::clone(&self.context.verifiers);
        let stored = verifiers.lookup(user).await.map_err(|source| LoginError::NoVerifier {
            shown: ClientError::VerifierUnavailable { user: user.to_owned() },
            source,
        })?;
        let proven = match (method, &*stored) {
            (Method::Password, _) => self.cleartext(user, &stored, greeting).await?,
            (_, Stored::Scram(verifier)) => {
                let keys = self.scram(Arc::clone(verifier), greeting).await?;
                keys.map(|keys| Credential::Scram(Arc::new(keys)))
            }
            (_, Stored::Password { password, verifier }) => {
                let verifier = verifiers.verifier_of_password(user, password, verifier);
                let keys = self.scram(verifier, greeting).await?;
                keys.map(|_| Credential::Password(password.clone()))
            }
            // An md5 hash proves nothing in SCRAM: it goes as for a role without a password.
            (Method::Scram, Stored::Md5(_)) => self.scram(verifiers.mock(user), greeting).await?.and(None),
            (_, Stored::Md5(stored)) => self.md5(stored, greeting).await?,
        };
        if let Some(credential) = proven {
            return Ok(credential);
        }
        verifiers.distrust(user);
        let error = ClientError::WrongPassword { user: user.to_owned() };
        Err(self.hold_back(user, error).await)
    }

    /// The password itself; only where nobody can listen in. `None` where it is wrong.
    async fn cleartext(
        &mut self,
        user: &str,
        stored: &Arc<Stored>,
        mut message: Vec<u8>,
    ) -> Result<Option<Credential>, LoginError> {
        encode::auth_cleartext(&mut message);
        self.write(&message).await?;
        let frame = self.read_password().await?;
        let given = frontend::password(frame.body())?;
        let Ok(given) = std::str::from_utf8(given) else { return Ok(None) };
        let given = Secret::new(given);
        let (stored, asked, user) = (Arc::clone(stored), given.clone(), user.to_owned());
        // Thousands of hashes, in which this thread's other sessions would stand still.
        let checking = tokio::task::spawn_blocking(move || stored.is_password(&user, &asked));
        let fits =
            checking.await.map_err(|error| LoginError::Io { step: "hashing", source: error.into() })?;
        Ok(fits.then_some(Credential::Password(given)))
    }

    /// `None` where the proof is wrong.
    async fn scram(
        &mut self,
        verifier: Arc<Verifier>,
        mut message: Vec<u8>,
    ) -> Result<Option<Keys>, LoginError> {
        let end_point = self.stream()?.is_tls().then(|| self.tls.end_point()).flatten();
        let offered = [scram::MECHANISM_PLUS, scram::MECHANISM];
        encode::auth_sasl(&mut message, if end_point.is_some() { &offered } else { &offered[1..] });
        self.write(&message).await?;

        let frame = self.read_password().await?;
        let response = SaslInitialResponse::decode(frame.body())?;
        let binding = match &end_point {
            Some(end_point) if response.mechanism == scram::MECHANISM_PLUS.as_bytes() => {
                Binding::Taken(end_point)
            }
            _ if response.mechanism != scram::MECHANISM.as_bytes() => {
                return Err(ClientError::Scram { what: "a mechanism that was not offered" }.into());
            }
            Some(_) => Binding::NotTaken,
            None => Binding::NotOffered,
        };
        let first = response.initial.ok_or(ClientError::Scram { what: "no initial response" })?;
        let mut chance = [0; scram::NONCE_BYTES];
        getrandom::fill(&mut chance).map_err(LoginError::Chance)?;
        let (state, challenge) =
            AwaitingProof::begin_bound(verifier, first, &scram::nonce(chance), binding).map_err(broken)?;
        message.clear();
        encode::auth_sasl_continue(&mut message, challenge.as_bytes());
        self.write(&message).await?;

        let frame = self.read_password().await?;
        let (keys, signature) = match state.finish(frame.body()) {
            Err(ScramError::WrongProof) => return Ok(None),
            result => result.map_err(broken)?,
        };
        encode::auth_sasl_final(&mut self.unsent, signature.as_bytes());
        Ok(Some(keys))
    }

    /// `None` where the answer is wrong.
    async fn md5(&mut self, stored: &Secret, mut message: Vec<u8>) -> Result<Option<Credential>, LoginError> {
        let mut salt = [0; 4];
        getrandom::fill(&mut salt).map_err(LoginError::Chance)?;
        encode::auth_md5(&mut message, salt);
        self.write(&message).await?;

        let frame = self.read_password().await?;
        let answer = frontend::password(frame.body())?;
        let fits = md5::fits(stored.reveal(), salt, answer);
        Ok(fits.then(|| Credential::Md5(stored.clone())))
    }
}

/// A message that breaks SCRAM's rules, as the client is told.
fn broken(error: ScramError) -> LoginError {
    let what = match error {
        ScramError::Malformed { what } | ScramError::Unsupported { what } => what,
        ScramError::Downgrade => "the offer of channel binding was taken out on the way",
        _ => "out of place",
    };
    ClientError::Scram { what }.into()
}
