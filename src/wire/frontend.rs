//! Views of the messages that clients send. In: a message body without its header. Out: its fields, borrowed.
//! What nobody here needs (parameter values, format codes) stays raw in `rest`.

use super::reader::Reader;
use super::{FrameError, Tag};

/// A simple query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The text, possibly several statements.
    pub sql: &'a [u8],
}

impl<'a> Query<'a> {
    /// Reads the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(Tag::QUERY, body);
        let sql = reader.cstr("query")?;
        reader.end()?;
        Ok(Self { sql })
    }
}

/// Prepares a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Its name, empty for the unnamed one.
    pub name: &'a [u8],
    /// The text, one statement.
    pub sql: &'a [u8],
    /// Number and oids of the parameter types that the client gives, raw.
    pub rest: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(Tag::PARSE, body);
        let name = reader.cstr("statement")?;
        let sql = reader.cstr("query")?;
        Ok(Self { name, sql, rest: reader.rest() })
    }
}

/// Makes a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Its name, empty for the unnamed one.
    pub portal: &'a [u8],
    /// The prepared statement.
    pub statement: &'a [u8],
    /// Formats, parameters and result formats, raw.
    pub rest: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads the body, or the beginning of one: the parameters need not be there yet.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(Tag::BIND, body);
        let portal = reader.cstr("portal")?;
        let statement = reader.cstr("statement")?;
        Ok(Self { portal, statement, rest: reader.rest() })
    }
}

/// The result formats that a Bind without parameters asks for: 0 for text, 1 for binary; one for all columns, or one each.
pub fn result_formats(rest: &[u8]) -> Result<Vec<u16>, FrameError> {
    let mut reader = Reader::new(Tag::BIND, rest);
    for _ in 0..reader.int16("parameter formats")? {
        reader.int16("parameter format")?;
    }
    match reader.int16("parameters")? {
        0 => {}
        found => return Err(reader.unknown("parameters", i32::from(found))),
    }
    let count = reader.int16("result formats")?;
    (0..count).map(|_| reader.int16("result format")).collect()
}

/// What Describe and Close point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

impl Target {
    /// The byte that stands for it.
    pub fn letter(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        match reader.byte("kind")? {
            b'S' => Ok(Self::Statement),
            b'P' => Ok(Self::Portal),
            other => Err(reader.unknown("kind", i32::from(other))),
        }
    }
}

/// Asks for the shape of a statement or portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Describe<'a> {
    /// Which of the two.
    pub target: Target,
    /// Its name.
    pub name: &'a [u8],
}

impl<'a> Describe<'a> {
    /// Reads the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let (target, name) = target_and_name(Tag::DESCRIBE, body)?;
        Ok(Self { target, name })
    }
}

/// Drops a statement or portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// Which of the two.
    pub target: Target,
    /// Its name.
    pub name: &'a [u8],
}

impl<'a> Close<'a> {
    /// Reads the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let (target, name) = target_and_name(Tag::CLOSE, body)?;
        Ok(Self { target, name })
    }
}

fn target_and_name(tag: Tag, body: &[u8]) -> Result<(Target, &[u8]), FrameError> {
    let mut reader = Reader::new(tag, body);
    let target = Target::read(&mut reader)?;
    let name = reader.cstr("name")?;
    reader.end()?;
    Ok((target, name))
}

/// Runs a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// Its name.
    pub portal: &'a [u8],
    /// Most rows to return before the portal is suspended; zero or less: all.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(Tag::EXECUTE, body);
        let portal = reader.cstr("portal")?;
        let max_rows = reader.int32("max rows")?;
        reader.end()?;
        Ok(Self { portal, max_rows })
    }
}

/// First answer of a client to AuthenticationSASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism that it chose.
    pub mechanism: &'a [u8],
    /// Its first message, where it sent one.
    pub initial: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Reads the body of a password message in this place.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(Tag::PASSWORD, body);
        let mechanism = reader.cstr("mechanism")?;
        let declared = reader.int32("response length")?;
        if declared == -1 {
            reader.end()?;
            return Ok(Self { mechanism, initial: None });
        }
        let rest = reader.rest();
        if usize::try_from(declared).is_ok_and(|len| len == rest.len()) {
            Ok(Self { mechanism, initial: Some(rest) })
        } else {
            Err(reader.unknown("response length", declared))
        }
    }
}

/// The text of a cleartext or md5 password message.
pub fn password(body: &[u8]) -> Result<&[u8], FrameError> {
    let mut reader = Reader::new(Tag::PASSWORD, body);
    let password = reader.cstr("password")?;
    reader.end()?;
    Ok(password)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{HEADER_LEN, encode};

    #[test]
    fn bodies_are_cut_where_the_protocol_says() {
        assert_eq!(Query::decode(b"select 1\0"), Ok(Query { sql: b"select 1" }));
        assert_eq!(
            Parse::decode(b"s\0select $1\0\0\x01\0\0\0\x17"),
            Ok(Parse { name: b"s", sql: b"select $1", rest: b"\0\x01\0\0\0\x17" })
        );
        assert_eq!(
            Bind::decode(b"\0s\0\0\0\0\0\0\0"),
            Ok(Bind { portal: b"", statement: b"s", rest: b"\0\0\0\0\0\0" })
        );
        assert_eq!(Describe::decode(b"Sx\0"), Ok(Describe { target: Target::Statement, name: b"x" }));
        assert_eq!(Close::decode(b"P\0"), Ok(Close { target: Target::Portal, name: b"" }));
        assert_eq!(Execute::decode(b"p\0\0\0\0\x05"), Ok(Execute { portal: b"p", max_rows: 5 }));
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_named() {
        assert_eq!(Query::decode(b"x"), Err(FrameError::Truncated { tag: Tag::QUERY, field: "query" }));
        assert_eq!(Query::decode(b"x\0yz"), Err(FrameError::TrailingBytes { tag: Tag::QUERY, extra: 2 }));
        assert_eq!(
            Describe::decode(b"Xa\0"),
            Err(FrameError::UnknownValue { tag: Tag::DESCRIBE, field: "kind", found: i32::from(b'X') })
        );
        assert_eq!(
            Execute::decode(b"p\0\0\0"),
            Err(FrameError::Truncated { tag: Tag::EXECUTE, field: "max rows" })
        );
        assert!(SaslInitialResponse::decode(b"SCRAM-SHA-256\0\0\0\0\x09n,,").is_err());
        assert!(SaslInitialResponse::decode(b"SCRAM-SHA-256\0\xff\xff\xff\xfe").is_err());
    }

    /// The body of the message that `write` writes.
    fn body(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out.split_off(HEADER_LEN)
    }

    proptest! {
        #[test]
        fn whatever_is_understood_is_written_back_byte_for_byte(
            bytes in proptest::collection::vec(prop_oneof![Just(0), Just(b'S'), Just(b'P'), any::<u8>()], 0..24)
        ) {
            if let Ok(Query { sql }) = Query::decode(&bytes) {
                assert_eq!(body(|out| encode::query(out, sql)), bytes);
            }
            if let Ok(Parse { name, sql, rest }) = Parse::decode(&bytes) {
                assert_eq!(body(|out| encode::parse(out, name, sql, rest)), bytes);
            }
            if let Ok(Bind { portal, statement, rest }) = Bind::decode(&bytes) {
                assert_eq!(body(|out| encode::bind(out, portal, statement, rest)), bytes);
            }
            if let Ok(Describe { target, name }) = Describe::decode(&bytes) {
                assert_eq!(body(|out| encode::describe(out, target, name)), bytes);
            }
            if let Ok(Close { target, name }) = Close::decode(&bytes) {
                assert_eq!(body(|out| encode::close(out, target, name)), bytes);
            }
            if let Ok(Execute { portal, max_rows }) = Execute::decode(&bytes) {
                assert_eq!(body(|out| encode::execute(out, portal, max_rows)), bytes);
            }
            if let Ok(password) = password(&bytes) {
                assert_eq!(body(|out| encode::password(out, password)), bytes);
            }
            if let Ok(response) = SaslInitialResponse::decode(&bytes) {
                assert!(response.mechanism.len() + response.initial.map_or(0, <[u8]>::len) < bytes.len());
            }
        }
    }
}
