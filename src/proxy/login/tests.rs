//! Clients played by hand. What a real libpq does is tested in `tests/`.

use std::io::Write;

use proptest::prelude::*;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::*;
use crate::control::Board;
use crate::model::{Epoch, Lsn, Secret, Service, Snapshot, SqlState, Timeline};
use crate::proxy::frames::{Frame, FrameReader};
use crate::proxy::links::Links;
use crate::proxy::settings::{Auth, ClientTls, Limits, PoolMode, PoolSettings, Settings};
use crate::wire::backend::Authentication;
use crate::wire::scram::AwaitingServerFirst;
use crate::wire::startup::StartupError;
use crate::wire::{ErrorFields, Tag, md5};

fn board() -> Arc<Board> {
    Board::new(Snapshot {
        version: 0,
        epoch: Epoch(0),
        timeline: Timeline(1),
        fork: Lsn::ZERO,
        system_id: None,
        primary: None,
        service: Service::Open,
        nodes: Vec::new(),
    })
}

/// Roles: app/secret by password, old/secret by md5.
fn context() -> LoginContext {
    let mut users = tempfile::NamedTempFile::new().unwrap();
    writeln!(users, "\"app\" \"secret\"\n\"old\" \"{}\"", *md5::stored("old", "secret")).unwrap();
    context_with(Auth::File(users.path().to_owned()))
}

fn context_with(auth: Auth) -> LoginContext {
    let settings = Settings {
        listen: Vec::new(),
        unix_socket_dir: None,
        workers: 1,
        pool_mode: PoolMode::Transaction,
        resolve_commits: true,
        replay: None,
        nodes: Vec::new(),
        service: crate::proxy::settings::Service {
            user: "service".into(),
            password: Secret::default(),
            database: "postgres".into(),
        },
        auth,
        client_tls: ClientTls::default(),
        hba: Arc::new(crate::proxy::hba::password_for_everybody()),
        balancers: Vec::new(),
        pool: PoolSettings::default(),
        limits: Limits {
            login_timeout: Duration::from_secs(10),
            login_message_max: 1000,
            auth_delay_max: Duration::ZERO,
            ..Limits::default()
        },
        slow_statement: Duration::ZERO,
        read_functions: "".into(),
    };
    let verifiers = Verifiers::new(&settings, Links::new(Vec::new()), board()).unwrap();
    LoginContext::new(&settings, ClientTlsConfig::disabled(), Arc::new(verifiers))
}

/// Runs a login against a client; gives what the login came to, and what the client saw.
async fn against<T>(
    context: &LoginContext,
    client: impl AsyncFnOnce(UnixStream) -> T,
) -> (Result<Outcome, LoginError>, T) {
    let (near, far) = UnixStream::pair().unwrap();
    // Whoever lets a client in sends what is still to be sent.
    let door = async {
        let mut outcome = login(near.into(), None, context).await;
        if let Ok(Outcome::Admitted(admitted)) = &mut outcome {
            admitted.stream.write_all(&admitted.unsent).await.unwrap();
        }
        outcome
    };
    tokio::join!(door, client(far))
}

/// A client that sends these bytes and reads to the end; gives the last error that it was sent.
fn sends(bytes: &[u8]) -> impl AsyncFnOnce(UnixStream) -> Option<(String, SqlState, String)> {
    async move |mut stream: UnixStream| {
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut frames = FrameReader::new(10_000);
        let mut stream = Stream::from(stream);
        loop {
            let frame = frames.next(&mut stream).await.ok()?;
            if frame.tag == Tag::ERROR_RESPONSE {
                let fields = ErrorFields::new(frame.body());
                break Some((fields.severity().into(), fields.code().unwrap(), fields.message().into()));
            }
        }
    }
}

fn startup(params: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::startup(&mut out, Version::V3_0, params.iter().copied());
    out
}

/// Signs in with SCRAM as a client does; gives the frames that came back before the proof was sent.
async fn scram(stream: UnixStream, startup: &[u8], password: &str) -> (Stream, Vec<Frame>, Frame) {
    let mut stream = Stream::from(stream);
    let mut frames = FrameReader::new(10_000);
    stream.write_all(startup).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|frame: &Frame| frame.tag != Tag::AUTHENTICATION) {
        seen.push(frames.next(&mut stream).await.unwrap());
    }
    let (state, first) = AwaitingServerFirst::begin("abc");
    let mut out = Vec::new();
    encode::sasl_initial_response(&mut out, "SCRAM-SHA-256", first.as_bytes());
    stream.write_all(&out).await.unwrap();
    let frame = frames.next(&mut stream).await.unwrap();
    let Authentication::SaslContinue(challenge) = Authentication::decode(frame.body()).unwrap() else {
        panic!("no challenge")
    };
    let (state, proof) = state.prove_password(challenge, password).unwrap();
    out.clear();
    encode::sasl_response(&mut out, proof.as_bytes());
    stream.write_all(&out).await.unwrap();
    let last = frames.next(&mut stream).await.unwrap();
    if last.tag == Tag::AUTHENTICATION {
        let Authentication::SaslFinal(signature) = Authentication::decode(last.body()).unwrap() else {
            panic!("no signature")
        };
        state.finish(signature).unwrap();
    }
    (stream, seen, last)
}

#[tokio::test]
async fn the_right_password_is_admitted_and_no_authentication_ok_is_sent() {
    let params = [
        ("user", "app"),
        ("database", "shop"),
        ("options", "-c geqo=off --work-mem=1MB"),
        ("GEQO", "on"),
        ("application_name", "x"),
    ];
    let (outcome, (stream, _, _)) =
        against(&context(), async |stream| scram(stream, &startup(&params), "secret").await).await;
    let Outcome::Admitted(admitted) = outcome.unwrap() else { panic!("not admitted") };
    assert_eq!((&*admitted.user, &*admitted.database), ("app", "shop"));
    assert_eq!(admitted.version, Version::V3_0);
    assert_eq!(admitted.replication, None);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(admitted.params, [pair("geqo", "on"), pair("work_mem", "1MB"), pair("application_name", "x")]);
    assert!(matches!(admitted.credential, Credential::Password(password) if password.reveal() == "secret"));
    assert!(stream.try_read(&mut [0; 10]).is_err(), "nothing follows the signature yet");
}

#[tokio::test]
async fn an_unknown_role_sees_what_a_wrong_password_sees() {
    let mut shown = Vec::new();
    for user in ["app", "nobody"] {
        let (outcome, (_, _, last)) =
            against(&context(), async |stream| scram(stream, &startup(&[("user", user)]), "wrong").await)
                .await;
        let error = ClientError::WrongPassword { user: user.to_owned() };
        assert_eq!(outcome.unwrap_err().shown(), Some(&error));
        let fields = ErrorFields::new(last.body());
        assert_eq!((fields.severity(), fields.code()), ("FATAL", Some(SqlState::INVALID_PASSWORD)));
        shown.push(fields.message().replace(user, "x"));
    }
    assert_eq!(shown[0], shown[1]);
}

#[tokio::test]
async fn md5_roles_sign_in_with_md5() {
    for (password, right) in [("secret", true), ("wrong", false)] {
        let client = async |stream: UnixStream| {
            let mut stream = Stream::from(stream);
            stream.write_all(&startup(&[("user", "old")])).await.unwrap();
            let frame = FrameReader::new(100).next(&mut stream).await.unwrap();
            let Authentication::Md5 { salt } = Authentication::decode(frame.body()).unwrap() else {
                panic!("not md5")
            };
            let mut out = Vec::new();
            encode::password(&mut out, md5::answer(&md5::stored("old", password), salt).as_bytes());
            stream.write_all(&out).await.unwrap();
        };
        let (outcome, ()) = against(&context(), client).await;
        match outcome {
            Ok(Outcome::Admitted(admitted)) => {
                assert!(right && matches!(admitted.credential, Credential::Md5(_)));
            }
            outcome => assert!(!right, "{outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_newer_minor_version_is_negotiated_down() {
    let mut packet = Vec::new();
    let version = Version { major: 3, minor: 9 };
    encode::startup(&mut packet, version, [("user", "app"), ("_pq_.new", "1"), ("replication", "database")]);
    let (outcome, (_, seen, _)) =
        against(&context(), async |stream| scram(stream, &packet, "secret").await).await;
    assert_eq!(seen[0].tag, Tag::NEGOTIATE_PROTOCOL_VERSION);
    assert_eq!(seen[0].body(), b"\0\x03\0\x02\0\0\0\x01_pq_.new\0");
    let Outcome::Admitted(admitted) = outcome.unwrap() else { panic!("not admitted") };
    assert_eq!(admitted.version, Version::V3_2);
    assert_eq!(admitted.replication.as_deref(), Some("database"));
}

#[tokio::test]
async fn encryption_is_declined_where_it_is_not_offered() {
    let client = async |mut stream: UnixStream| {
        let mut request = Vec::new();
        encode::ssl_request(&mut request);
        stream.write_all(&request).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'N');
        stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'N', "GSSAPI");
        scram(stream, &startup(&[("user", "app")]), "secret").await;
    };
    let (outcome, ()) = against(&context(), client).await;
    assert!(matches!(outcome, Ok(Outcome::Admitted(_))));
}

#[tokio::test]
async fn cancel_requests_and_port_checks_are_told_apart() {
    let mut request = Vec::new();
    encode::cancel_request(&mut request, 7, &[1; 32]);
    let (outcome, _) = against(&context(), async |mut stream| {
        stream.write_all(&request).await.unwrap();
        stream
    })
    .await;
    assert!(matches!(outcome, Ok(Outcome::Cancel { pid: 7, secret, .. }) if secret == [1; 32]));
    let (outcome, ()) = against(&context(), async |stream| drop(stream)).await;
    assert!(matches!(outcome, Ok(Outcome::Closed)));
    let (outcome, shown) = against(&context(), sends(&startup(&[("user", "app")]))).await;
    assert!(matches!(outcome, Ok(Outcome::Closed)), "psql without a password hangs up and asks for one");
    assert_eq!(shown, None);
}

#[tokio::test]
async fn nobody_asks_for_encryption_for_ever() {
    let mut request = Vec::new();
    encode::ssl_request(&mut request);
    let client = async |mut stream: UnixStream| {
        stream.write_all(&request.repeat(4)).await.unwrap();
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).await.unwrap();
        seen
    };
    let (outcome, seen) = against(&context(), client).await;
    let error = ClientError::Startup(StartupError::TooManyRequests);
    assert_eq!(outcome.unwrap_err().shown(), Some(&error));
    let mut expected = b"NNN".to_vec();
    error.encode_fatal(&mut expected);
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_is_wrong_is_told_before_the_connection_ends() {
    let mut terminate_early = startup(&[("user", "app")]);
    encode::query(&mut terminate_early, b"select 1");
    let mut long = startup(&[("user", "app")]);
    encode::password(&mut long, &[b'x'; 2000]);
    let mut other_mechanism = startup(&[("user", "app")]);
    encode::sasl_initial_response(&mut other_mechanism, "SCRAM-SHA-256-PLUS", b"p=x,,n=,r=a");
    let mut plus = startup(&[("user", "app")]);
    encode::sasl_initial_response(&mut plus, "SCRAM-SHA-256", b"p=x,,n=,r=a");
    for (bytes, code) in [
        (startup(&[("database", "x")]), "28000"),
        (startup(&[("user", "app"), ("options", "-d 5")]), "0A000"),
        (b"\0\0\0\x08\0\x04\0\0".to_vec(), "0A000"),
        (b"\0\0\0\x07".to_vec(), "08P01"),
        (b"\x16\x03\x01\x02\0".to_vec(), "08P01"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "08P01"),
        (b"\0\0\0\x0c\0\x03\0\0user".to_vec(), "08P01"),
        (terminate_early, "08P01"),
        (long, "08P01"),
        (other_mechanism, "08P01"),
        (plus, "08P01"),
    ] {
        let (outcome, shown) = against(&context(), sends(&bytes)).await;
        let error = outcome.unwrap_err();
        let shown = shown.unwrap_or_else(|| panic!("nothing shown for {error:?}"));
        assert_eq!((&*shown.0, shown.1.as_str()), ("FATAL", code), "{error:?}");
        assert_eq!(error.shown().map(ClientError::message), Some(shown.2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_sent_away() {
    let context = context();
    let client = async |stream: UnixStream| {
        let frame = FrameReader::new(1000).next(&mut Stream::from(stream)).await.unwrap();
        ErrorFields::new(frame.body()).code()
    };
    let (outcome, code) = against(&context, client).await;
    assert_eq!(
        outcome.unwrap_err().shown(),
        Some(&ClientError::SignInTimeout { limit: Duration::from_secs(10) })
    );
    assert_eq!(code, Some(SqlState::QUERY_CANCELED));
}

#[tokio::test]
async fn without_a_server_to_ask_the_client_is_told_so() {
    let auth = Auth::Query {
        sql: "select".into(),
        cache_for: Duration::from_secs(1),
        recheck_after: Duration::from_secs(1),
        users_file: None,
    };
    let (outcome, shown) = against(&context_with(auth), sends(&startup(&[("user", "app")]))).await;
    assert!(matches!(outcome, Err(LoginError::NoVerifier { source: AskError::NoNode, .. })));
    assert_eq!(shown.unwrap().1, SqlState::CANNOT_CONNECT_NOW);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_end_in_an_answer(noise in proptest::collection::vec(any::<u8>(), 0..60), begin in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut bytes = if begin { startup(&[("user", "nobody")]) } else { Vec::new() };
        bytes.extend_from_slice(&noise);
        let (outcome, _) = runtime.block_on(against(&context(), sends(&bytes)));
        prop_assert!(!matches!(outcome, Ok(Outcome::Admitted(_))));
    }
}

#[tokio::test]
async fn what_a_client_sends_ahead_is_kept_for_its_session() {
    let (outcome, ()) = against(&context(), async |stream| {
        let mut stream = Stream::from(stream);
        let mut frames = FrameReader::new(10_000);
        stream.write_all(&startup(&[("user", "old")])).await.unwrap();
        let asked = frames.next(&mut stream).await.unwrap();
        let Authentication::Md5 { salt } = Authentication::decode(asked.body()).unwrap() else {
            panic!("no md5")
        };
        let mut out = Vec::new();
        encode::password(&mut out, md5::answer(&md5::stored("old", "secret"), salt).as_bytes());
        out.extend_from_slice(b"Q\0\0\0\x0eSELECT 1;\0");
        stream.write_all(&out).await.unwrap();
    })
    .await;
    let Ok(Outcome::Admitted(admitted)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(admitted.ahead, b"Q\0\0\0\x0eSELECT 1;\0");
}
