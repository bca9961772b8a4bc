//! Tests of the first packet.

use proptest::prelude::*;

use super::*;
use crate::wire::encode;

fn encoded(version: Version, params: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::startup(&mut out, version, params.iter().copied());
    out
}

fn pairs(params: &[(&str, &str)]) -> Vec<(String, String)> {
    params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_opening_tells_tls_from_a_packet() {
    assert_eq!(Opening::peek(b"", 100), Ok(None));
    assert_eq!(Opening::peek(b"\0\0\0", 100), Ok(None));
    assert_eq!(Opening::peek(&[0x16], 100), Ok(Some(Opening::DirectTls)));
    assert_eq!(Opening::peek(&8_u32.to_be_bytes(), 100), Ok(Some(Opening::Packet { len: 8 })));
    for declared in [0, 4, 7, 101, u32::MAX] {
        assert_eq!(
            Opening::peek(&declared.to_be_bytes(), 100),
            Err(StartupError::Length { declared, declared_max: 100 })
        );
    }
}

#[test]
fn requests_without_parameters_are_told_by_their_code() {
    let mut ssl = Vec::new();
    encode::ssl_request(&mut ssl);
    assert_eq!(StartupPacket::decode(&ssl[4..]), Ok(StartupPacket::Ssl));
    assert_eq!(StartupPacket::decode(&GSSENC_REQUEST.to_be_bytes()), Ok(StartupPacket::Gss));
}

#[test]
fn cancel_secrets_of_both_versions_are_taken() {
    for (len, fits) in [(0, false), (3, false), (4, true), (256, true), (257, false)] {
        let mut out = Vec::new();
        encode::cancel_request(&mut out, -7, &vec![9; len]);
        let decoded = StartupPacket::decode(&out[4..]);
        if fits {
            assert_eq!(decoded, Ok(StartupPacket::Cancel { pid: -7, secret: vec![9; len] }));
        } else {
            assert_eq!(decoded, Err(StartupError::CancelSecret { secret_len: len }));
        }
    }
}

#[test]
fn other_majors_are_refused() {
    for version in [Version { major: 2, minor: 0 }, Version { major: 4, minor: 0 }] {
        let packet = encoded(version, &[("user", "u")]);
        assert_eq!(StartupPacket::decode(&packet[4..]), Err(StartupError::Version { found: version }));
    }
}

#[test]
fn the_version_is_settled_at_or_below_what_was_asked() {
    for (minor, spoken, negotiated) in [
        (0, Version::V3_0, false),
        (1, Version::V3_0, true),
        (2, Version::V3_2, false),
        (9999, Version::V3_2, true),
    ] {
        let request = Request::new(Version { major: 3, minor }, pairs(&[("user", "u")])).unwrap();
        assert_eq!((request.version, request.negotiated), (spoken, negotiated), "3.{minor}");
    }
}

#[test]
fn parameters_are_sorted() {
    let params = [("user", "u"), ("_pq_.x", "1"), ("replication", "database"), ("geqo", "off")];
    let request = Request::new(Version::V3_0, pairs(&params)).unwrap();
    assert_eq!(request.database, "u", "the database is named like the role unless the client says otherwise");
    assert_eq!(request.unknown_options, ["_pq_.x"]);
    assert!(request.negotiated);
    assert_eq!(request.replication.as_deref(), Some("database"));
    assert_eq!(request.params, pairs(&[("geqo", "off")]));
    assert_eq!(Request::new(Version::V3_0, pairs(&[("database", "d")])), Err(StartupError::NoUser));
    let off = Request::new(Version::V3_0, pairs(&[("user", "u"), ("replication", "FALSE")])).unwrap();
    assert_eq!(off.replication, None);
}

#[test]
fn malformed_parameters_are_refused() {
    let decode = |rest: &[u8]| {
        let mut packet = Version::V3_0.code().to_be_bytes().to_vec();
        packet.extend_from_slice(rest);
        StartupPacket::decode(&packet)
    };
    assert!(decode(b"\0").is_ok());
    for rest in
        [&b""[..], b"user", b"user\0", b"user\0u", b"user\0u\0", b"user\0\0", b"\0u\0\0", b"a\0b\0c\0\0"]
    {
        assert_eq!(decode(rest), Err(StartupError::Params), "{rest:?}");
    }
    assert_eq!(decode(b"user\0\xff\0\0"), Err(StartupError::NotUtf8));
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        assert!(matches!(Opening::peek(&bytes, 1000), Err(_) | Ok(Some(_))) || bytes.len() < 4);
        drop(StartupPacket::decode(&bytes));
        let mut packet = Version::V3_0.code().to_be_bytes().to_vec();
        packet.extend_from_slice(&bytes);
        if let Ok(StartupPacket::Startup { version, params }) = StartupPacket::decode(&packet) {
            drop(Request::new(version, params));
        }
    }

    #[test]
    fn a_startup_packet_reads_as_it_was_written(
        params in proptest::collection::vec(("[a-z_.]{1,8}", "[^\0]{0,8}"), 0..6)
    ) {
        let mut out = Vec::new();
        encode::startup(&mut out, Version::V3_2, params.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        prop_assert_eq!(Opening::peek(&out, 10_000), Ok(Some(Opening::Packet { len: out.len() })));
        let expected = StartupPacket::Startup { version: Version::V3_2, params };
        prop_assert_eq!(StartupPacket::decode(&out[4..]), Ok(expected));
    }
}
