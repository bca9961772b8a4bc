//! Signing in against a server that is played by hand: what a real one does is tested in `tests/`.

use proptest::prelude::*;

use super::*;
use crate::session::client_error::SignInFault;
use crate::wire::TxStatus;

const WHO: SignIn<'static> =
    SignIn { user: "app", database: "app", startup: &[], credential: &Credential::None };

/// Signs in on a connection whose other end sends `bytes` and then closes.
async fn against(bytes: &[u8], credential: Credential) -> Result<Connected, ConnectError> {
    let (near, mut far) = UnixStream::pair().unwrap();
    let conversation = Conversation {
        stream: near.into(),
        frames: FrameReader::new(MESSAGE_LEN_MAX),
        binding: ChannelBinding::Prefer,
    };
    let server = async {
        let mut startup = [0; 64];
        assert!(far.read(&mut startup).await.unwrap() > 8);
        far.write_all(bytes).await.unwrap();
        far.shutdown().await.unwrap();
        // What else the client says is taken, so that its writes do not fail.
        far.read_to_end(&mut Vec::new()).await.unwrap();
        std::future::pending::<()>().await;
    };
    let client = async { conversation.sign_in(&SignIn { credential: &credential, ..WHO }).await };
    tokio::select! { result = client => result, () = server => panic!("the client ends first") }
}

fn greeting() -> Vec<u8> {
    let mut out = Vec::new();
    encode::auth_ok(&mut out);
    encode::notice_response(&mut out, &[(b'M', "hello")]);
    encode::parameter_status(&mut out, b"server_version", b"18.0");
    encode::backend_key_data(&mut out, 42, &[7; 4]);
    encode::ready(&mut out, TxStatus::Idle);
    out
}

#[tokio::test]
async fn a_trusting_server_is_signed_in_on() {
    let connected = against(&greeting(), Credential::None).await.unwrap();
    assert_eq!((connected.pid, &connected.secret[..]), (42, &[7; 4][..]));
    assert_eq!(connected.params, [("server_version".to_owned(), "18.0".to_owned())]);
}

#[tokio::test]
async fn bytes_behind_ready_for_query_are_refused() {
    let mut bytes = greeting();
    encode::command_complete(&mut bytes, "DROP TABLE");
    let error = against(&bytes, Credential::None).await.unwrap_err();
    assert!(matches!(error, ConnectError::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn an_error_is_kept_whole() {
    for (code, suspect) in [("57P03", true), ("57P01", true), ("28P01", false), ("53300", false)] {
        let mut bytes = Vec::new();
        encode::error_response(&mut bytes, &[(b'S', "FATAL"), (b'C', code), (b'M', "no")]);
        let error = against(&bytes, Credential::None).await.unwrap_err();
        assert_eq!(error.node_is_suspect(), suspect, "{code}");
        let ConnectError::Refused { frame, sqlstate } = error else { panic!("not refused") };
        assert_eq!((frame, sqlstate.as_str()), (bytes, code));
    }
}

#[tokio::test]
async fn questions_that_cannot_be_answered_are_named() {
    let ask = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    };
    let md5 = ask(&|out| encode::auth_md5(out, [1; 4]));
    let clear = ask(&encode::auth_cleartext);
    let sasl = ask(&|out| encode::auth_sasl(out, &["SCRAM-SHA-256"]));
    let other = ask(&|out| encode::auth_sasl(out, &["OAUTHBEARER"]));
    let keys = || Credential::Scram(Arc::new(Keys::from_password("x", b"salt", 1)));
    let hash = || Credential::Md5(Secret::new("md5"));
    for (bytes, credential) in
        [(&md5, keys()), (&md5, Credential::None), (&clear, keys()), (&sasl, hash()), (&other, keys())]
    {
        let error = against(bytes, credential).await.unwrap_err();
        assert!(matches!(error, ConnectError::CredentialUnfit { .. }), "{error:?}");
        assert!(!error.node_is_suspect());
    }
}

#[test]
fn the_client_is_told_what_kind_of_thing_is_wrong() {
    let nonsense = ConnectError::Protocol { what: "x" };
    let unfit = unfit(Asked::Md5, &Credential::None);
    let told = [
        (unfit, SignInFault::Unproven { asked: Asked::Md5, has: Known::Nothing }),
        (ConnectError::Scram(ScramError::OtherVerifier), SignInFault::OtherVerifier),
        (ConnectError::Scram(ScramError::WrongServer), SignInFault::FalseServer),
        (ConnectError::Scram(ScramError::Malformed { what: "x" }), SignInFault::Nonsense),
        (nonsense, SignInFault::Nonsense),
        (ConnectError::NoReason, SignInFault::NoReason),
        (ConnectError::NoTls, SignInFault::NoTls),
        (ConnectError::Tls(io::ErrorKind::InvalidData.into()), SignInFault::Tls),
        (ConnectError::NoBinding, SignInFault::NoBinding),
    ];
    for (error, fault) in told {
        assert_eq!(error.fault(), fault, "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_or_is_silent_is_suspect() {
    assert!(against(b"", Credential::None).await.unwrap_err().node_is_suspect());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Node {
        name: "n".into(),
        address: Address::Tcp { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() },
        tls: crate::tls::ServerTls::default(),
        zone: "".into(),
        weight: 1,
        priority: 0,
    };
    let deadline = Duration::from_millis(50);
    let error = connect(&node, &ServerTlsConfig::disabled(), &WHO, deadline).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }) && error.node_is_suspect());
    drop(listener);
    let error = connect(&node, &ServerTlsConfig::disabled(), &WHO, deadline).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io { .. }) && error.node_is_suspect());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_end_in_an_answer(
        cut in 0_usize..60, noise in proptest::collection::vec(any::<u8>(), 0..40)
    ) {
        let mut bytes = greeting();
        bytes.truncate(cut);
        bytes.extend_from_slice(&noise);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(against(&bytes, Credential::Password(Secret::new("x"))));
        prop_assert!(result.is_err() || cut + noise.len() >= 50);
    }
}
