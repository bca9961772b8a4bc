//! Both sides against the RFC's example, against each other, and against another implementation.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// RFC 7677, section 3: user "user", password "pencil".
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn verifier(password: &str) -> Arc<Verifier> {
    Arc::new(Verifier::from_password(password, &BASE64_STANDARD.decode(SALT).unwrap(), 4096))
}

#[test]
fn the_server_side_follows_the_example_of_rfc_7677() {
    let first = format!("n,,n=user,r={CLIENT_NONCE}");
    let (state, challenge) =
        AwaitingProof::begin(verifier("pencil"), first.as_bytes(), SERVER_NONCE).unwrap();
    assert_eq!(challenge, SERVER_FIRST);
    let (keys, signature) = state.finish(CLIENT_FINAL.as_bytes()).unwrap();
    assert_eq!(signature, SERVER_FINAL);
    assert_eq!(keys, Keys::from_password("pencil", &BASE64_STANDARD.decode(SALT).unwrap(), 4096));
}

#[test]
fn the_client_side_follows_the_example_of_rfc_7677() {
    // The example names the user; PostgreSQL's clients do not, so the first message is put in by hand.
    let start = || AwaitingServerFirst {
        nonce: CLIENT_NONCE.to_owned(),
        client_first_bare: format!("n=user,r={CLIENT_NONCE}"),
        binding: "biws".to_owned(),
    };
    let (state, proof) = start().prove_password(SERVER_FIRST.as_bytes(), "pencil").unwrap();
    assert_eq!(proof, CLIENT_FINAL);
    assert_eq!(state.finish(SERVER_FINAL.as_bytes()), Ok(()));
    let (state, _) = start().prove_password(SERVER_FIRST.as_bytes(), "other").unwrap();
    assert_eq!(state.finish(SERVER_FINAL.as_bytes()), Err(ScramError::WrongServer));
}

#[test]
fn a_verifier_of_postgresql_is_read_and_written() {
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert_eq!(verifier("pencil").to_text(), text);
    assert_eq!(Verifier::parse(text).as_ref(), Ok(&*verifier("pencil")));
    for broken in ["", "md5abc", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:YQ==$YQ==:YQ==", &text[..text.len() - 4]]
    {
        assert_eq!(Verifier::parse(broken), Err(VerifierError), "{broken}");
    }
    assert!(Verifier::parse(&text.replace("$4096:", "$0:")).is_err(), "no iterations");
}

#[test]
fn nothing_secret_is_printed() {
    let keys = Keys::from_password("pencil", b"salt", 1);
    assert_eq!(format!("{keys:?} {:?}", keys.verifier()), "Keys(***) Verifier(***)");
}

#[test]
fn headers_and_extensions_are_taken_as_the_rfc_says() {
    let begin = |first: &str| {
        AwaitingProof::begin(verifier("pencil"), first.as_bytes(), SERVER_NONCE).map(|_| ()).err()
    };
    let malformed = |what| Some(ScramError::Malformed { what });
    let unsupported = |what| Some(ScramError::Unsupported { what });
    assert_eq!(begin("n,,n=,r=abc"), None);
    assert_eq!(begin("y,,n=,r=abc"), None);
    assert_eq!(begin("n,,n=,r=abc,x=later"), None);
    assert_eq!(begin("p=tls-server-end-point,,n=,r=abc"), unsupported("channel binding"));
    assert_eq!(begin("n,a=other,n=,r=abc"), unsupported("an authorization identity"));
    assert_eq!(begin("n,,m=x,n=,r=abc"), unsupported("a mandatory extension"));
    assert_eq!(begin(""), malformed("channel binding flag"));
    assert_eq!(begin("x,,n=,r=abc"), malformed("channel binding flag"));
    assert_eq!(begin("n,,r=abc"), malformed("user name"));
    assert_eq!(begin("n,,n=,r="), malformed("nonce"));
    assert_eq!(begin("n,,n=,r=a b"), malformed("nonce"));
    assert_eq!(begin(&format!("n,,n=,r={}", "x".repeat(257))), malformed("nonce"));
}

#[test]
fn the_final_message_repeats_header_and_nonce() {
    let finish = |final_message: &str| {
        let (state, _) = AwaitingProof::begin(verifier("pencil"), b"y,,n=,r=abc", "def").unwrap();
        state.finish(final_message.as_bytes()).map(|_| ()).err()
    };
    let proof = BASE64_STANDARD.encode([0; KEY_LEN]);
    assert_eq!(finish(&format!("c=eSws,r=abcdef,p={proof}")), Some(ScramError::WrongProof));
    let malformed = |what| Some(ScramError::Malformed { what });
    assert_eq!(finish(&format!("c=biws,r=abcdef,p={proof}")), malformed("channel binding"));
    assert_eq!(finish(&format!("c=eSws,r=abc,p={proof}")), malformed("nonce"));
    assert_eq!(finish("c=eSws,r=abcdef"), malformed("no proof"));
    assert_eq!(finish("c=eSws,r=abcdef,p=YQ=="), malformed("proof"));
}

#[test]
fn a_challenge_must_extend_our_nonce_and_stay_affordable() {
    let prove = |challenge: &str| {
        let (state, _) = AwaitingServerFirst::begin("abc");
        state.prove_password(challenge.as_bytes(), "x").map(|_| ()).err()
    };
    assert_eq!(prove("r=abcd,s=YQ==,i=1"), None);
    let malformed = |what| Some(ScramError::Malformed { what });
    assert_eq!(prove("r=abc,s=YQ==,i=1"), malformed("nonce"));
    assert_eq!(prove("r=xabc,s=YQ==,i=1"), malformed("nonce"));
    for count in ["0", "-1", "x", "1000001", "99999999999"] {
        assert_eq!(prove(&format!("r=abcd,s=YQ==,i={count}")), malformed("iteration count"));
    }
}

#[test]
fn keys_are_not_used_against_another_verifier() {
    let keys = Keys::from_password("pencil", b"salt", 2);
    let prove = |challenge: &str| {
        let (state, _) = AwaitingServerFirst::begin("abc");
        state.prove_keys(challenge.as_bytes(), &keys).map(|_| ()).err()
    };
    assert_eq!(prove("r=abcd,s=c2FsdA==,i=2"), None);
    assert_eq!(prove("r=abcd,s=c2FsdA==,i=3"), Some(ScramError::OtherVerifier));
    assert_eq!(prove("r=abcd,s=cGVwcGVy,i=2"), Some(ScramError::OtherVerifier));
}

#[test]
fn a_mock_verifier_is_steady_per_role_and_lets_nobody_in() {
    let mock = |user| Verifier::mock(b"secret of this process", user);
    assert_eq!(mock("a"), mock("a"));
    assert_ne!(mock("a").salt, mock("b").salt);
    assert_ne!(mock("a").salt, Verifier::mock(b"other", "a").salt);
    assert_eq!(mock("a").salt.len(), 16);
    assert_eq!(exchange(Arc::new(mock("a")), "pencil").err(), Some(ScramError::WrongProof));
}

/// A whole exchange of our two sides.
fn exchange(verifier: Arc<Verifier>, password: &str) -> Result<Keys, ScramError> {
    let (client, first) = AwaitingServerFirst::begin(&nonce([1; NONCE_BYTES]));
    let (server, challenge) = AwaitingProof::begin(verifier, first.as_bytes(), &nonce([2; NONCE_BYTES]))?;
    let (client, proof) = client.prove_password(challenge.as_bytes(), password)?;
    let (keys, signature) = server.finish(proof.as_bytes())?;
    client.finish(signature.as_bytes())?;
    Ok(keys)
}

/// The same with keys instead of a password.
fn exchange_with_keys(verifier: Arc<Verifier>, keys: &Keys) -> Result<Keys, ScramError> {
    let (client, first) = AwaitingServerFirst::begin(&nonce([3; NONCE_BYTES]));
    let (server, challenge) = AwaitingProof::begin(verifier, first.as_bytes(), &nonce([4; NONCE_BYTES]))?;
    let (client, proof) = client.prove_keys(challenge.as_bytes(), keys)?;
    let (keys, signature) = server.finish(proof.as_bytes())?;
    client.finish(signature.as_bytes())?;
    Ok(keys)
}

proptest! {
    #[test]
    fn the_right_password_signs_in_and_its_keys_do_so_again(
        password in "\\PC{0,80}", salt in proptest::collection::vec(any::<u8>(), 1..32), iterations in 1_u32..20
    ) {
        let verifier = Arc::new(Verifier::from_password(&password, &salt, iterations));
        let keys = exchange(Arc::clone(&verifier), &password).unwrap();
        prop_assert_eq!(&keys.verifier(), &*verifier);
        prop_assert_eq!(exchange_with_keys(verifier, &keys).unwrap(), keys);
    }

    #[test]
    fn a_wrong_password_does_not_sign_in(right in "[a-z]{1,12}", wrong in "[A-Z]{0,12}") {
        let verifier = Arc::new(Verifier::from_password(&right, b"salt", 2));
        prop_assert_eq!(exchange(verifier, &wrong), Err(ScramError::WrongProof));
    }

    #[test]
    fn verifiers_read_as_they_were_written(
        password in ".{0,20}", salt in proptest::collection::vec(any::<u8>(), 1..32), iterations in 1_u32..5
    ) {
        let verifier = Verifier::from_password(&password, &salt, iterations);
        prop_assert_eq!(Verifier::parse(&verifier.to_text()), Ok(verifier));
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[a-z=,$:0-9]{0,40}") {
        let cheap = Arc::new(Verifier::from_password("x", b"s", 1));
        for message in [&bytes[..], text.as_bytes(), format!("n,,{text}").as_bytes()] {
            drop(AwaitingProof::begin(Arc::clone(&cheap), message, "s"));
            let (state, _) = AwaitingProof::begin(Arc::clone(&cheap), b"n,,n=,r=a", "s").unwrap();
            assert!(state.finish(message).is_err());
            drop(AwaitingServerFirst::begin("a").0.prove_keys(message, &Keys::from_password("x", b"s", 1)));
            assert!(AwaitingServerFinal { signature: [0; KEY_LEN] }.finish(message).is_err());
            drop(Verifier::parse(&String::from_utf8_lossy(message)));
        }
    }
}

/// Both sides against each other; the certificates' hashes that each side sees.
fn bound(client_sees: Bind<'_>, server_has: Binding<'_>) -> Result<(), ScramError> {
    let (state, first) = AwaitingServerFirst::begin_bound("abc", client_sees);
    let (server, challenge) =
        AwaitingProof::begin_bound(verifier("pencil"), first.as_bytes(), "def", server_has)?;
    let (state, proof) = state.prove_password(challenge.as_bytes(), "pencil")?;
    let (_, signature) = server.finish(proof.as_bytes())?;
    state.finish(signature.as_bytes())
}

#[test]
fn a_bound_sign_in_holds_for_one_certificate_and_sees_a_downgrade() {
    assert_eq!(bound(Bind::To(b"ours"), Binding::Taken(b"ours")), Ok(()));
    assert_eq!(bound(Bind::No, Binding::NotTaken), Ok(()));
    assert_eq!(bound(Bind::NotOffered, Binding::NotOffered), Ok(()));
    let relayed = bound(Bind::To(b"theirs"), Binding::Taken(b"ours"));
    assert_eq!(relayed, Err(ScramError::Malformed { what: "channel binding" }));
    assert_eq!(bound(Bind::NotOffered, Binding::NotTaken), Err(ScramError::Downgrade));
    assert!(bound(Bind::To(b"ours"), Binding::NotOffered).is_err());
    assert!(bound(Bind::To(b"ours"), Binding::NotTaken).is_err());
    assert!(bound(Bind::No, Binding::Taken(b"ours")).is_err());
    let other = "p=tls-unique,,n=,r=abc";
    let begun = AwaitingProof::begin_bound(verifier("x"), other.as_bytes(), "def", Binding::Taken(b"ours"));
    assert!(matches!(begun, Err(ScramError::Unsupported { .. })));
}
