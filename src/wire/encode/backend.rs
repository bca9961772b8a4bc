//! Messages that primacy sends to clients.

use super::{count, cstr, length, message};
use crate::wire::startup::Version;
use crate::wire::{Tag, TxStatus};

fn authentication(out: &mut Vec<u8>, step: i32, rest: &[u8]) {
    message(out, Tag::AUTHENTICATION, |out| {
        out.extend_from_slice(&step.to_be_bytes());
        out.extend_from_slice(rest);
    });
}

/// Signed in.
pub fn auth_ok(out: &mut Vec<u8>) {
    authentication(out, 0, b"");
}

/// Asks for the password itself.
pub fn auth_cleartext(out: &mut Vec<u8>) {
    authentication(out, 3, b"");
}

/// Asks for an md5 of the password.
pub fn auth_md5(out: &mut Vec<u8>, salt: [u8; 4]) {
    authentication(out, 5, &salt);
}

/// Offers SASL mechanisms.
pub fn auth_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    message(out, Tag::AUTHENTICATION, |out| {
        out.extend_from_slice(&10_i32.to_be_bytes());
        for name in mechanisms {
            cstr(out, name.as_bytes());
        }
        out.push(0);
    });
}

/// The next SASL message.
pub fn auth_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 11, data);
}

/// The last SASL message.
pub fn auth_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 12, data);
}

/// Process id and secret for cancel requests.
pub fn backend_key_data(out: &mut Vec<u8>, pid: i32, secret: &[u8]) {
    message(out, Tag::BACKEND_KEY_DATA, |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// Value of a reported setting.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    message(out, Tag::PARAMETER_STATUS, |out| {
        cstr(out, name);
        cstr(out, value);
    });
}

/// The newest minor version that is spoken here, and the startup options that are not known.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, newest: Version, unknown: &[String]) {
    message(out, Tag::NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.extend_from_slice(&newest.code().to_be_bytes());
        out.extend_from_slice(&length(unknown.len()));
        for name in unknown {
            cstr(out, name.as_bytes());
        }
    });
}

/// ReadyForQuery.
pub fn ready(out: &mut Vec<u8>, status: TxStatus) {
    message(out, Tag::READY_FOR_QUERY, |out| out.push(status.letter()));
}

/// CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, Tag::COMMAND_COMPLETE, |out| cstr(out, tag.as_bytes()));
}

/// ParseComplete.
pub fn parse_complete(out: &mut Vec<u8>) {
    message(out, Tag::PARSE_COMPLETE, |_| ());
}

/// BindComplete.
pub fn bind_complete(out: &mut Vec<u8>) {
    message(out, Tag::BIND_COMPLETE, |_| ());
}

/// CloseComplete.
pub fn close_complete(out: &mut Vec<u8>) {
    message(out, Tag::CLOSE_COMPLETE, |_| ());
}

/// The statement returns no rows.
pub fn no_data(out: &mut Vec<u8>) {
    message(out, Tag::NO_DATA, |_| ());
}

/// The query string was empty.
pub fn empty_query_response(out: &mut Vec<u8>) {
    message(out, Tag::EMPTY_QUERY_RESPONSE, |_| ());
}

/// Execute stopped at its row limit.
pub fn portal_suspended(out: &mut Vec<u8>) {
    message(out, Tag::PORTAL_SUSPENDED, |_| ());
}

/// Types of a statement's parameters.
pub fn parameter_description(out: &mut Vec<u8>, types: &[u32]) {
    message(out, Tag::PARAMETER_DESCRIPTION, |out| {
        out.extend_from_slice(&count(types.len()));
        for oid in types {
            out.extend_from_slice(&oid.to_be_bytes());
        }
    });
}

/// Oid of the type `text`.
const TEXT_OID: u32 = 25;

/// RowDescription of columns of type text.
pub fn row_description(out: &mut Vec<u8>, columns: &[&str]) {
    let text = |name| (name, (TEXT_OID, -1_i16), 0_u16);
    row_description_of(out, &columns.iter().map(|name| text(*name)).collect::<Vec<_>>());
}

/// RowDescription of columns with a name, a type's OID and length, and a format: 0 for text, 1 for binary.
pub fn row_description_of(out: &mut Vec<u8>, columns: &[(&str, (u32, i16), u16)]) {
    message(out, Tag::ROW_DESCRIPTION, |out| {
        out.extend_from_slice(&count(columns.len()));
        for (name, (oid, len), format) in columns {
            cstr(out, name.as_bytes());
            out.extend_from_slice(&0_u32.to_be_bytes()); // no table
            out.extend_from_slice(&0_u16.to_be_bytes()); // no column of it
            out.extend_from_slice(&oid.to_be_bytes());
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&(-1_i32).to_be_bytes()); // no type modifier
            out.extend_from_slice(&format.to_be_bytes());
        }
    });
}

/// A value with its length, or NULL.
pub(super) fn value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&length(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

/// A row.
pub fn data_row(out: &mut Vec<u8>, values: &[Option<&[u8]>]) {
    message(out, Tag::DATA_ROW, |out| {
        out.extend_from_slice(&count(values.len()));
        for item in values {
            value(out, *item);
        }
    });
}

fn fields(out: &mut Vec<u8>, tag: Tag, fields: &[(u8, &str)]) {
    message(out, tag, |out| {
        for (letter, text) in fields {
            out.push(*letter);
            cstr(out, text.as_bytes());
        }
        out.push(0);
    });
}

/// ErrorResponse from letters and texts (55.8).
pub fn error_response(out: &mut Vec<u8>, list: &[(u8, &str)]) {
    fields(out, Tag::ERROR_RESPONSE, list);
}

/// NoticeResponse from letters and texts (55.8).
pub fn notice_response(out: &mut Vec<u8>, list: &[(u8, &str)]) {
    fields(out, Tag::NOTICE_RESPONSE, list);
}

/// NOTIFY from some session.
pub fn notification(out: &mut Vec<u8>, pid: i32, channel: &str, payload: &str) {
    message(out, Tag::NOTIFICATION_RESPONSE, |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        cstr(out, channel.as_bytes());
        cstr(out, payload.as_bytes());
    });
}
