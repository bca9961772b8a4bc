//! The table of everything that a client may see.

use std::collections::HashSet;
use std::mem::discriminant;

use super::*;
use crate::wire::startup::Version;
use crate::wire::{ErrorFields, HEADER_LEN, Header};

fn sign_in(fault: SignInFault) -> ClientError {
    ClientError::ServerSignIn { node: "x".to_owned(), user: "x".to_owned(), fault }
}

/// What a client may see of a sign-in on a server.
fn of_sign_ins_on_servers() -> Vec<(ClientError, &'static str, &'static str)> {
    let (text, short) = (|| "x".to_owned(), Duration::from_millis(1500));
    vec![
        (ClientError::ServerUnreachable { node: text() }, "57P03", "ERROR"),
        (ClientError::ServerSilent { node: text(), limit: short }, "57P03", "ERROR"),
        (sign_in(SignInFault::Unproven { asked: Asked::Md5, has: Known::Nothing }), "28000", "ERROR"),
        (sign_in(SignInFault::Unproven { asked: Asked::OtherMethod, has: Known::Nothing }), "28000", "ERROR"),
        (
            sign_in(SignInFault::Unproven { asked: Asked::PasswordInTheOpen, has: Known::Password }),
            "28000",
            "ERROR",
        ),
        (sign_in(SignInFault::OtherVerifier), "28P01", "ERROR"),
        (sign_in(SignInFault::FalseServer), "08001", "ERROR"),
        (sign_in(SignInFault::Nonsense), "08P01", "ERROR"),
        (sign_in(SignInFault::NoReason), "08P01", "ERROR"),
        (sign_in(SignInFault::NoTls), "08001", "ERROR"),
        (sign_in(SignInFault::Tls), "08001", "ERROR"),
        (sign_in(SignInFault::NoBinding), "08001", "ERROR"),
    ]
}

/// One of each, with the code and severity that is promised for it.
fn table() -> Vec<(ClientError, &'static str, &'static str)> {
    let text = || "x".to_owned();
    let (short, tag) = (Duration::from_millis(1500), Tag::QUERY);
    let switch = OptionsError::Switch { switch: "-d".into() };
    let version = StartupError::Version { found: Version { major: 2, minor: 0 } };
    let mut all = of_sign_ins_on_servers();
    all.extend([
        (ClientError::Frame(FrameError::Truncated { tag, field: "query" }), "08P01", "FATAL"),
        (ClientError::Startup(StartupError::Params), "08P01", "FATAL"),
        (ClientError::Startup(StartupError::NoUser), "28000", "FATAL"),
        (ClientError::Startup(version), "0A000", "FATAL"),
        (ClientError::LongBeforeSignIn { tag, len: 9, len_max: 8 }, "08P01", "FATAL"),
        (ClientError::UnexpectedMessage { tag, awaited: "a password" }, "08P01", "FATAL"),
        (ClientError::DataBeforeTls, "08P01", "FATAL"),
        (ClientError::TooManyClients { clients_max: 5 }, "53300", "FATAL"),
        (ClientError::TooManyClientsOf { what: "role", max: 5 }, "53300", "FATAL"),
        (ClientError::TooManyFailures, "53300", "FATAL"),
        (ClientError::ProxyHeader(ProxyHeaderError { what: "x" }), "08P01", "FATAL"),
        (ClientError::NoRule { connection: text(), rejected: false }, "28000", "FATAL"),
        (ClientError::WrongIdentity { user: text(), method: "Peer" }, "28000", "FATAL"),
        (ClientError::NoCertificate, "28000", "FATAL"),
        (ClientError::SignInTimeout { limit: short }, "57014", "FATAL"),
        (ClientError::TlsRequired, "28000", "FATAL"),
        (ClientError::WrongPassword { user: text() }, "28P01", "FATAL"),
        (ClientError::NoLogin { user: text() }, "28000", "FATAL"),
        (ClientError::UnknownDatabase { database: text() }, "3D000", "FATAL"),
        (ClientError::VerifierUnavailable { user: text() }, "57P03", "FATAL"),
        (ClientError::Scram { what: "no nonce" }, "08P01", "FATAL"),
        (ClientError::Options(switch), "0A000", "FATAL"),
        (ClientError::NoPrimary { waited: short }, "57P03", "ERROR"),
        (ClientError::PrimaryBehind { waited: short }, "40001", "ERROR"),
        (ClientError::NoReplica, "57P03", "ERROR"),
        (ClientError::TooManyHolds { limit: HoldLimit::Statements(3) }, "53300", "ERROR"),
        (ClientError::TooManyHolds { limit: HoldLimit::Bytes(3) }, "53300", "ERROR"),
        (ClientError::PoolTimeout { waited: short }, "53300", "ERROR"),
        (ClientError::TooManyWaiters { waiters_max: 5 }, "53300", "ERROR"),
        (ClientError::TransactionLost { node: text() }, "40001", "ERROR"),
        (ClientError::CommitUnknown { node: text() }, "08007", "ERROR"),
        (ClientError::CommitNotReplicated, "08007", "ERROR"),
        (ClientError::StatementLost { node: text() }, "08006", "ERROR"),
        (ClientError::UnspecifiedError, "08P01", "ERROR"),
        (ClientError::SessionLost { pin: "temporary table" }, "57P01", "FATAL"),
        (ClientError::UnknownStatement { name: text() }, "26000", "ERROR"),
        (ClientError::DuplicateStatement { name: text() }, "42P05", "ERROR"),
        (ClientError::UnknownPortal { name: text() }, "34000", "ERROR"),
        (ClientError::FailedTransaction, "25P02", "ERROR"),
        (ClientError::PreparedLimit { what: "prepared statements", max: 3 }, "54000", "ERROR"),
        (ClientError::InvalidSetting { setting: text(), value: text(), allowed: "y" }, "22023", "ERROR"),
        (ClientError::UnknownSetting { setting: text() }, "42704", "ERROR"),
        (ClientError::Cancelled, "57014", "ERROR"),
        (ClientError::SlowReader { limit: short }, "57014", "FATAL"),
        (ClientError::IdleSession, "57P05", "FATAL"),
        (ClientError::IdleInTransaction, "25P03", "FATAL"),
        (ClientError::Drain, "57P01", "FATAL"),
        (ClientError::Killed, "57P01", "FATAL"),
        (ClientError::DatabaseDisabled { database: text() }, "57P03", "FATAL"),
        (ClientError::NotForConsole { user: text(), database: text() }, "42501", "FATAL"),
        (
            ClientError::Command { message: text(), fault: CommandFault::Syntax, hint: "Ask for help." },
            "42601",
            "ERROR",
        ),
        (ClientError::Internal { what: "x" }, "XX000", "FATAL"),
    ]);
    all
}

#[test]
fn every_error_is_in_the_table() {
    let source = include_str!("../client_error.rs");
    let variants = source.matches("\n    #[error(").count();
    let listed: HashSet<_> = table().iter().map(|(error, ..)| discriminant(error)).collect();
    assert_eq!(listed.len(), variants);
}

#[test]
fn every_error_is_sent_as_the_table_says() {
    for (error, code, severity) in table() {
        let mut frame = Vec::new();
        error.encode(&mut frame);
        assert_eq!(Header::peek(&frame), Ok(Some(Header { tag: Tag::ERROR_RESPONSE, len: frame.len() })));
        let fields = ErrorFields::new(&frame[HEADER_LEN..]);
        assert_eq!(fields.code(), Some(error.sqlstate()));
        assert_eq!(fields.code().map(|code| code.to_string()).as_deref(), Some(code), "{error:?}");
        assert_eq!(fields.severity(), severity, "{error:?}");
        assert_eq!(fields.field(b'S'), Some(severity.as_bytes()));
        assert_eq!(error.fatal(), severity == "FATAL");
        assert_eq!(fields.message(), error.message());
        let text = |letter| fields.field(letter).map(String::from_utf8_lossy);
        assert_eq!(text(b'D').as_deref(), error.detail().as_deref());
        assert_eq!(text(b'H').as_deref(), error.hint());
        assert_eq!(frame.last(), Some(&0));
    }
}

#[test]
fn each_fault_of_a_sign_in_has_words_of_its_own() {
    let unproven = |asked| SignInFault::Unproven { asked, has: Known::ScramKey };
    let faults = [
        unproven(Asked::Md5),
        unproven(Asked::Scram),
        unproven(Asked::PasswordInTheOpen),
        unproven(Asked::OtherMethod),
        SignInFault::OtherVerifier,
        SignInFault::FalseServer,
        SignInFault::Nonsense,
        SignInFault::NoReason,
        SignInFault::NoTls,
        SignInFault::Tls,
        SignInFault::NoBinding,
    ];
    let words: HashSet<_> = faults.iter().map(|fault| (sign_in(*fault).message(), fault.hint())).collect();
    assert_eq!(words.len(), faults.len());
    // A verifier is the matter of one of them only, and most have nothing to do with passwords.
    let speaks_of =
        |word| faults.iter().filter(|fault| fault.hint().contains(word)).copied().collect::<Vec<_>>();
    assert_eq!(speaks_of("verifier"), [SignInFault::OtherVerifier]);
    assert_eq!(
        speaks_of("password"),
        [unproven(Asked::Md5), unproven(Asked::Scram), SignInFault::OtherVerifier]
    );
}

#[test]
fn texts_follow_postgresqls_style() {
    for (error, ..) in table() {
        let message = error.message();
        assert!(!message.ends_with('.') && !message.is_empty(), "{message}");
        for sentence in error.detail().into_iter().chain(error.hint().map(str::to_owned)) {
            assert!(sentence.ends_with('.'), "{sentence}");
        }
    }
}

#[test]
fn while_signing_in_every_error_is_fatal() {
    let mut frame = Vec::new();
    ClientError::NoReplica.encode_fatal(&mut frame);
    assert_eq!(ErrorFields::new(&frame[HEADER_LEN..]).severity(), "FATAL");
}
