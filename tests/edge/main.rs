//! The edges of the data path against real peers: PostgreSQL servers on one side, libpq (psql) on the other.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail by panicking, too"
)]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod harness;
mod matrix;
mod tls;

use std::time::Duration;

use harness::{DEADLINE, Door, Postgres, eventually};
use primacy::model::{Secret, SqlState};
use primacy::proxy::login::Outcome;
use primacy::proxy::server::{self, ConnectError, Credential};
use primacy::proxy::settings::ClientTls;
use primacy::proxy::tls::ServerTlsConfig;
use primacy::session::ClientError;
use primacy::tls::ServerTls;
use primacy::wire::{ErrorFields, HEADER_LEN, encode, md5};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SCRAM_HBA: &str = "host all all 127.0.0.1/32 scram-sha-256";

fn password(text: &str) -> Credential {
    Credential::Password(Secret::new(text))
}

/// The server's refusal: its code and message.
fn refusal(error: &ConnectError) -> (String, String) {
    let ConnectError::Refused { frame, sqlstate } = error else { panic!("not refused: {error:?}") };
    (sqlstate.to_string(), ErrorFields::new(&frame[HEADER_LEN..]).message().into_owned())
}

#[tokio::test]
async fn signing_in_on_a_server_with_a_password() {
    let Some(mut postgres) = Postgres::start(SCRAM_HBA, "").await else { return };
    postgres.sql("create role app login password 'päss'").await.unwrap();
    postgres.sql("create role idle password 'x'").await.unwrap();

    let connected = postgres.connect("app", "postgres", &password("päss")).await.unwrap();
    assert!(connected.pid > 0 && connected.secret.len() == 4);
    let version = connected.params.iter().find(|(name, _)| name == "server_version");
    assert!(version.is_some(), "{:?}", connected.params);

    for (user, database, secret, code) in [
        ("app", "postgres", "wrong", "28P01"),
        ("nobody", "postgres", "päss", "28P01"),
        ("app", "nowhere", "päss", "3D000"),
        ("idle", "postgres", "x", "28000"),
    ] {
        let error = postgres.connect(user, database, &password(secret)).await.unwrap_err();
        assert_eq!(refusal(&error).0, code, "{user} {database}");
        assert!(!error.node_is_suspect());
    }
    let error = postgres.connect("app", "postgres", &Credential::None).await.unwrap_err();
    assert!(matches!(error, ConnectError::CredentialUnfit { .. }), "{error:?}");

    postgres.stop();
    let error = postgres.connect("app", "postgres", &password("päss")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io { .. }) && error.node_is_suspect(), "{error:?}");
}

#[tokio::test]
async fn psql_signs_in_here_and_its_keys_sign_in_there() {
    let Some(postgres) = Postgres::start(SCRAM_HBA, "").await else { return };
    postgres.sql("create role app login password 'secret'").await.unwrap();
    let door = Door::before(&postgres, ClientTls::default(), DEADLINE).await;

    let (printed, served) = door
        .psql(
            &postgres,
            "user=app password=secret dbname=postgres options='-c geqo=off'",
            "select current_user, current_setting('geqo')",
        )
        .await;
    assert_eq!(printed, "app|off");
    let credential = served.unwrap();
    assert!(matches!(credential, Credential::Scram(_)), "the password was never seen: {credential:?}");
    // The keys go on working without the client, as often as pools need them.
    for _ in 0..3 {
        postgres.connect("app", "postgres", &credential).await.unwrap();
    }

    // A new password has another salt, so the old keys are not even tried against it.
    postgres.sql("alter role app password 'other'").await.unwrap();
    let error = postgres.connect("app", "postgres", &credential).await.unwrap_err();
    assert!(matches!(error, ConnectError::Scram(_)) && !error.node_is_suspect(), "{error:?}");
}

#[tokio::test]
async fn clients_that_may_not_come_in_are_told_as_postgresql_tells_them() {
    let Some(postgres) = Postgres::start(SCRAM_HBA, "").await else { return };
    for sql in [
        "create role app login password 'secret'",
        "create role idle password 'secret'",
        "create role expired login password 'secret' valid until '2001-01-01'",
        "create role bare login",
    ] {
        postgres.sql(sql).await.unwrap();
    }
    let door = Door::before(&postgres, ClientTls::default(), DEADLINE).await;
    let through = async |user: &str, password: &str, database: &str| {
        let conninfo = format!("user={user} password={password} dbname={database}");
        door.psql(&postgres, &conninfo, "select 1").await.0
    };
    for (user, password) in
        [("app", "wrong"), ("nobody", "secret"), ("expired", "secret"), ("bare", "secret"), ("idle", "wrong")]
    {
        let expected = format!("FATAL:  password authentication failed for user \"{user}\"");
        let complaint = through(user, password, "postgres").await;
        assert!(complaint.ends_with(&expected), "{complaint}");
    }
    let complaint = through("idle", "secret", "postgres").await;
    assert!(complaint.ends_with("FATAL:  role \"idle\" is not permitted to log in"), "{complaint}");
    let complaint = through("app", "secret", "nowhere").await;
    assert!(complaint.ends_with("FATAL:  database \"nowhere\" does not exist"), "{complaint}");

    // psql without a password hangs up when it is asked for one.
    let (complaint, served) = door.psql(&postgres, "user=app dbname=postgres", "select 1").await;
    assert!(complaint.contains("no password supplied"), "{complaint}");
    assert_eq!(served.unwrap_err(), "gone");
}

#[tokio::test]
async fn verifiers_are_remembered_and_a_changed_password_is_noticed() {
    let Some(mut postgres) = Postgres::start(SCRAM_HBA, "").await else { return };
    postgres.sql("create role app login password 'old'").await.unwrap();
    let door = Door::before(&postgres, ClientTls::default(), Duration::from_secs(3600)).await;
    let sign_in = async |password: &str| {
        let conninfo = format!("user=app password={password} dbname=postgres");
        door.psql(&postgres, &conninfo, "select 1").await.0 == "1"
    };
    assert!(sign_in("old").await);
    postgres.sql("alter role app password 'new'").await.unwrap();
    assert!(sign_in("new").await, "the first attempt counts");
    assert!(!sign_in("old").await);

    postgres.stop();
    let proven = async |user| {
        // The connection ends with the outcome, so that who knocks does not wait for AuthenticationOk.
        let admitted = async { door.admit().await.map(|outcome| matches!(outcome, Outcome::Admitted(_))) };
        tokio::join!(admitted, knock(&door, user, "new")).0
    };
    assert!(proven("app").await.unwrap(), "what is remembered serves while no server answers");
    let shown = proven("other").await.unwrap_err().shown().map(ClientError::sqlstate);
    assert_eq!(shown, Some(SqlState::CANNOT_CONNECT_NOW));
}

/// Signs in at a door with our own client side, until AuthenticationOk would come.
async fn knock(door: &Door, user: &str, secret: &str) {
    let node = primacy::proxy::settings::Node {
        name: "door".into(),
        address: primacy::model::Address::Tcp { host: "127.0.0.1".into(), port: door.port },
        tls: ServerTls::default(),
        zone: "".into(),
        weight: 1,
        priority: 0,
    };
    let credential = password(secret);
    let who = server::SignIn { user, database: "x", startup: &[], credential: &credential };
    let refused = server::connect(&node, &ServerTlsConfig::disabled(), &who, DEADLINE).await;
    assert!(refused.is_err(), "nobody answers behind the door");
}

#[tokio::test]
async fn md5_roles_sign_in_on_both_sides() {
    let hba = "host all all 127.0.0.1/32 md5";
    let Some(postgres) = Postgres::start(hba, "password_encryption=md5").await else { return };
    postgres.sql("create role app login password 'secret'").await.unwrap();
    let stored = Credential::Md5(Secret::new(md5::stored("app", "secret").as_str()));
    postgres.connect("app", "postgres", &password("secret")).await.unwrap();
    postgres.connect("app", "postgres", &stored).await.unwrap();
    assert!(postgres.connect("app", "postgres", &password("wrong")).await.is_err());

    let door = Door::before(&postgres, ClientTls::default(), DEADLINE).await;
    let (printed, served) =
        door.psql(&postgres, "user=app password=secret dbname=postgres", "select current_user").await;
    assert_eq!(printed, "app");
    assert!(matches!(served, Ok(Credential::Md5(_))));
    let (complaint, _) = door.psql(&postgres, "user=app password=wrong dbname=postgres", "select 1").await;
    assert!(complaint.ends_with("password authentication failed for user \"app\""), "{complaint}");
}

#[tokio::test]
async fn clear_text_passwords_go_to_this_machine_only_and_cancel_requests_arrive() {
    let hba = "host all all 127.0.0.1/32 password";
    let Some(postgres) = Postgres::start(hba, "").await else { return };
    postgres.sql("create role app login password 'secret'").await.unwrap();
    let mut connected = postgres.connect("app", "postgres", &password("secret")).await.unwrap();

    let mut out = Vec::new();
    encode::query(&mut out, b"select pg_sleep(60)");
    connected.stream.write_all(&out).await.unwrap();
    let asleep =
        "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'";
    eventually(async || postgres.sql(asleep).await.unwrap() == "1").await;
    let node = postgres.node("127.0.0.1", ServerTls::default());
    server::cancel(&node, &ServerTlsConfig::disabled(), connected.pid, &connected.secret).await.unwrap();

    let mut answer = Vec::new();
    let cancelled = async {
        while !answer.windows(7).any(|part| part == b"C57014\0") {
            assert_ne!(connected.stream.read_buf(&mut answer).await.unwrap(), 0);
        }
    };
    tokio::time::timeout(DEADLINE, cancelled).await.expect("the statement is cancelled");
}
