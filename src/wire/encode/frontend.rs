//! Messages that primacy sends to servers.

use super::{count, counted, cstr, length, message};
use crate::wire::frontend::Target;
use crate::wire::startup::{CANCEL_REQUEST, SSL_REQUEST, Version};
use crate::wire::{HEADER_LEN, Tag};

/// The first message of a connection.
pub fn startup<'a>(
    out: &mut Vec<u8>,
    version: Version,
    params: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    counted(out, |out| {
        out.extend_from_slice(&version.code().to_be_bytes());
        for (name, value) in params {
            cstr(out, name.as_bytes());
            cstr(out, value.as_bytes());
        }
        out.push(0);
    });
}

/// Asks for TLS before the startup message.
pub fn ssl_request(out: &mut Vec<u8>) {
    counted(out, |out| out.extend_from_slice(&SSL_REQUEST.to_be_bytes()));
}

/// Asks to cancel what the session of that process id runs; on a connection of its own.
pub fn cancel_request(out: &mut Vec<u8>, pid: i32, secret: &[u8]) {
    counted(out, |out| {
        out.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// Cleartext or md5 password.
pub fn password(out: &mut Vec<u8>, password: &[u8]) {
    message(out, Tag::PASSWORD, |out| cstr(out, password));
}

/// Chooses a SASL mechanism and gives the first message.
pub fn sasl_initial_response(out: &mut Vec<u8>, mechanism: &str, initial: &[u8]) {
    message(out, Tag::PASSWORD, |out| {
        cstr(out, mechanism.as_bytes());
        out.extend_from_slice(&length(initial.len()));
        out.extend_from_slice(initial);
    });
}

/// A further SASL message.
pub fn sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    message(out, Tag::PASSWORD, |out| out.extend_from_slice(data));
}

/// A simple query.
pub fn query(out: &mut Vec<u8>, sql: &[u8]) {
    message(out, Tag::QUERY, |out| cstr(out, sql));
}

/// Parse; `rest` is what stands behind the text: number and oids of the parameter types.
pub fn parse(out: &mut Vec<u8>, name: &[u8], sql: &[u8], rest: &[u8]) {
    message(out, Tag::PARSE, |out| {
        cstr(out, name);
        cstr(out, sql);
        out.extend_from_slice(rest);
    });
}

/// Parse with parameter types as oids.
pub fn parse_typed(out: &mut Vec<u8>, name: &[u8], sql: &[u8], types: &[u32]) {
    message(out, Tag::PARSE, |out| {
        cstr(out, name);
        cstr(out, sql);
        out.extend_from_slice(&count(types.len()));
        for oid in types {
            out.extend_from_slice(&oid.to_be_bytes());
        }
    });
}

/// Bind; `rest` is what stands behind the names: formats, parameters, result formats.
pub fn bind(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], rest: &[u8]) {
    message(out, Tag::BIND, |out| {
        cstr(out, portal);
        cstr(out, statement);
        out.extend_from_slice(rest);
    });
}

/// The beginning of a Bind, up to its names: `rest_len` bytes of the client's own Bind follow it from elsewhere.
/// The names must not hold zero bytes.
pub fn bind_header(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], rest_len: usize) {
    out.push(Tag::BIND.0);
    let body_len = portal.len() + statement.len() + 2 + rest_len;
    out.extend_from_slice(&length(body_len + HEADER_LEN - 1));
    cstr(out, portal);
    cstr(out, statement);
}

/// Bind with text parameters and text results.
pub fn bind_text(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], params: &[Option<&[u8]>]) {
    message(out, Tag::BIND, |out| {
        cstr(out, portal);
        cstr(out, statement);
        out.extend_from_slice(&count(0));
        out.extend_from_slice(&count(params.len()));
        for value in params {
            super::value(out, *value);
        }
        out.extend_from_slice(&count(0));
    });
}

/// Describe.
pub fn describe(out: &mut Vec<u8>, target: Target, name: &[u8]) {
    message(out, Tag::DESCRIBE, |out| {
        out.push(target.letter());
        cstr(out, name);
    });
}

/// Close.
pub fn close(out: &mut Vec<u8>, target: Target, name: &[u8]) {
    message(out, Tag::CLOSE, |out| {
        out.push(target.letter());
        cstr(out, name);
    });
}

/// Execute.
pub fn execute(out: &mut Vec<u8>, portal: &[u8], max_rows: i32) {
    message(out, Tag::EXECUTE, |out| {
        cstr(out, portal);
        out.extend_from_slice(&max_rows.to_be_bytes());
    });
}

/// Sync.
pub fn sync(out: &mut Vec<u8>) {
    message(out, Tag::SYNC, |_| ());
}

/// Flush.
pub fn flush(out: &mut Vec<u8>) {
    message(out, Tag::FLUSH, |_| ());
}

/// Gives up a COPY FROM STDIN.
pub fn copy_fail(out: &mut Vec<u8>, reason: &str) {
    message(out, Tag::COPY_FAIL, |out| cstr(out, reason.as_bytes()));
}

/// Says goodbye.
pub fn terminate(out: &mut Vec<u8>) {
    message(out, Tag::TERMINATE, |_| ());
}
