//! What is written here must read back as the same values.

use proptest::prelude::*;

use super::*;
use crate::model::SqlState;
use crate::wire::frontend::{Bind, Close, Describe, Execute, Parse, Query, SaslInitialResponse, Target};
use crate::wire::startup::Version;
use crate::wire::{ErrorFields, HEADER_LEN, Header, TxStatus};

/// The body of the one message that `write` writes.
fn body(tag: Tag, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(&mut out);
    let frame = out.split_off(6);
    assert_eq!(Header::peek(&frame), Ok(Some(Header { tag, len: frame.len() })));
    frame[HEADER_LEN..].to_vec()
}

#[test]
fn rows_are_laid_out_as_in_section_55_7() {
    assert_eq!(
        body(Tag::DATA_ROW, |out| data_row(out, &[Some(b"ab"), None])),
        b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff"
    );
    assert_eq!(
        body(Tag::ROW_DESCRIPTION, |out| row_description(out, &["a"])),
        b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
    );
    assert_eq!(
        body(Tag::PARAMETER_DESCRIPTION, |out| parameter_description(out, &[23])),
        b"\0\x01\0\0\0\x17"
    );
}

#[test]
fn a_bind_in_two_parts_is_the_bind_in_one() {
    let rest = b"\0\0\0\x01\0\0\0\x01x\0\0";
    let mut two = Vec::new();
    bind_header(&mut two, b"p", b"s", rest.len());
    two.extend_from_slice(rest);
    let mut one = Vec::new();
    bind(&mut one, b"p", b"s", rest);
    assert_eq!(one, two);
    let mut text = Vec::new();
    bind_text(&mut text, b"p", b"s", &[Some(b"x")]);
    assert_eq!(one, text);
}

#[test]
fn text_ends_at_its_first_zero_byte() {
    assert_eq!(body(Tag::ERROR_RESPONSE, |out| error_response(out, &[(b'M', "a\0b")])), b"Ma\0\0");
}

#[test]
fn sign_in_messages_read_back() {
    use crate::wire::backend::Authentication;
    let decoded = |bytes: &[u8]| format!("{:?}", Authentication::decode(bytes));
    assert_eq!(decoded(&body(Tag::AUTHENTICATION, auth_ok)), "Ok(Ok)");
    assert_eq!(decoded(&body(Tag::AUTHENTICATION, auth_cleartext)), "Ok(Cleartext)");
    assert_eq!(
        Authentication::decode(&body(Tag::AUTHENTICATION, |out| auth_md5(out, [1, 2, 3, 4]))),
        Ok(Authentication::Md5 { salt: [1, 2, 3, 4] })
    );
    assert_eq!(
        body(Tag::AUTHENTICATION, |out| auth_sasl(out, &["SCRAM-SHA-256"])),
        b"\0\0\0\x0aSCRAM-SHA-256\0\0"
    );
    let initial = body(Tag::PASSWORD, |out| sasl_initial_response(out, "M", b"n,,"));
    assert_eq!(
        SaslInitialResponse::decode(&initial),
        Ok(SaslInitialResponse { mechanism: b"M", initial: Some(b"n,,") })
    );
}

#[test]
fn a_version_negotiation_lists_what_is_unknown() {
    let unknown = ["_pq_.a".to_owned()];
    assert_eq!(
        body(Tag::NEGOTIATE_PROTOCOL_VERSION, |out| {
            negotiate_protocol_version(out, Version::V3_2, &unknown);
        }),
        b"\0\x03\0\x02\0\0\0\x01_pq_.a\0"
    );
}

proptest! {
    #[test]
    fn client_messages_read_back(
        name in "[^\0]{0,8}", sql in "[^\0]{0,40}",
        rest in proptest::collection::vec(any::<u8>(), 0..20), max_rows in any::<i32>()
    ) {
        let (name, sql) = (name.as_bytes(), sql.as_bytes());
        assert_eq!(Query::decode(&body(Tag::QUERY, |out| query(out, sql))), Ok(Query { sql }));
        assert_eq!(
            Parse::decode(&body(Tag::PARSE, |out| parse(out, name, sql, &rest))),
            Ok(Parse { name, sql, rest: &rest })
        );
        assert_eq!(
            Bind::decode(&body(Tag::BIND, |out| bind(out, sql, name, &rest))),
            Ok(Bind { portal: sql, statement: name, rest: &rest })
        );
        assert_eq!(
            Execute::decode(&body(Tag::EXECUTE, |out| execute(out, name, max_rows))),
            Ok(Execute { portal: name, max_rows })
        );
        for target in [Target::Statement, Target::Portal] {
            assert_eq!(
                Describe::decode(&body(Tag::DESCRIBE, |out| describe(out, target, name))),
                Ok(Describe { target, name })
            );
            assert_eq!(
                Close::decode(&body(Tag::CLOSE, |out| close(out, target, name))),
                Ok(Close { target, name })
            );
        }
    }

    #[test]
    fn server_messages_read_back(
        name in "[^\0]{0,8}", value in "[^\0]{0,20}", pid in any::<i32>(),
        secret in proptest::collection::vec(any::<u8>(), 4..=256)
    ) {
        use crate::wire::backend;
        assert_eq!(
            backend::parameter_status(&body(Tag::PARAMETER_STATUS, |out| {
                parameter_status(out, name.as_bytes(), value.as_bytes());
            })),
            Ok((name.as_bytes(), value.as_bytes()))
        );
        assert_eq!(
            backend::backend_key(&body(Tag::BACKEND_KEY_DATA, |out| backend_key_data(out, pid, &secret))),
            Ok((pid, &secret[..]))
        );
        let error = body(Tag::ERROR_RESPONSE, |out| {
            error_response(out, &[(b'S', "ERROR"), (b'V', "ERROR"), (b'C', "57P03"), (b'M', &value)]);
        });
        let fields = ErrorFields::new(&error);
        assert_eq!(fields.message(), value.as_str());
        assert_eq!(fields.code(), Some(SqlState::CANNOT_CONNECT_NOW));
        assert_eq!(
            backend::command_tag(&body(Tag::COMMAND_COMPLETE, |out| command_complete(out, &value))),
            value.as_bytes()
        );
        for status in [TxStatus::Idle, TxStatus::InTransaction, TxStatus::Failed] {
            assert_eq!(
                backend::ready_status(&body(Tag::READY_FOR_QUERY, |out| ready(out, status))),
                Ok(status)
            );
        }
    }
}
