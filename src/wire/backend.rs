//! Views of the messages that servers send. In: a message body without its header. Out: its fields, borrowed.
//! Clients' rows are never decoded; `DataRow` serves our own questions.

use std::borrow::Cow;

use super::reader::Reader;
use super::{FrameError, Tag};
use crate::model::SqlState;

/// The transaction status in ReadyForQuery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TxStatus {
    /// No transaction is open.
    #[default]
    Idle,
    /// Inside a transaction.
    InTransaction,
    /// Inside a transaction that has failed.
    Failed,
}

impl TxStatus {
    /// The byte that stands for it.
    pub fn letter(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Reads the body of ReadyForQuery.
#[inline]
pub fn ready_status(body: &[u8]) -> Result<TxStatus, FrameError> {
    match body {
        b"I" => Ok(TxStatus::Idle),
        b"T" => Ok(TxStatus::InTransaction),
        b"E" => Ok(TxStatus::Failed),
        _ => Err(bad_ready_status(body)),
    }
}

#[cold]
fn bad_ready_status(body: &[u8]) -> FrameError {
    let mut reader = Reader::new(Tag::READY_FOR_QUERY, body);
    match reader.byte("status") {
        Err(error) => error,
        Ok(found) => reader.end().err().unwrap_or_else(|| reader.unknown("status", i32::from(found))),
    }
}

/// The fields of an ErrorResponse or NoticeResponse (55.8), looked up when asked.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFields<'a> {
    body: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// A view of the body. Nothing is checked: absent and malformed fields read as absent.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// The field of that letter.
    pub fn field(self, letter: u8) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == letter).map(|(_, text)| text)
    }

    /// All fields in the order in which they were sent.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut reader = Reader::new(Tag::ERROR_RESPONSE, self.body);
        std::iter::from_fn(move || match reader.byte("field") {
            Ok(0) | Err(_) => None,
            Ok(letter) => reader.cstr("value").ok().map(|text| (letter, text)),
        })
    }

    /// ERROR, FATAL, PANIC, WARNING, ...: the word that is never translated, where the server sends it.
    pub fn severity(self) -> &'a str {
        self.text(b'V').or_else(|| self.text(b'S')).unwrap_or_default()
    }

    /// The error code.
    pub fn code(self) -> Option<SqlState> {
        self.field(b'C').and_then(SqlState::from_bytes)
    }

    /// The message, in the server's language; bytes that are not UTF-8 are replaced.
    pub fn message(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.field(b'M').unwrap_or_default())
    }

    /// Whether a client can tell from them what is wrong: code and message are always there (manual, 55.8).
    pub fn are_whole(self) -> bool {
        self.code().is_some() && self.field(b'M').is_some()
    }

    /// The C function that reported it; empty where absent.
    pub fn routine(self) -> &'a str {
        self.text(b'R').unwrap_or_default()
    }

    fn text(self, letter: u8) -> Option<&'a str> {
        self.field(letter).and_then(|text| std::str::from_utf8(text).ok())
    }
}

/// The tag of a CommandComplete: `INSERT 0 1`.
pub fn command_tag(body: &[u8]) -> &[u8] {
    body.strip_suffix(b"\0").unwrap_or(body)
}

/// Name and value of a ParameterStatus.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    let mut reader = Reader::new(Tag::PARAMETER_STATUS, body);
    let name = reader.cstr("name")?;
    let value = reader.cstr("value")?;
    reader.end()?;
    Ok((name, value))
}

/// Bytes of a cancel secret: exactly 4 in protocol 3.0, 4 to 256 in 3.2 (55.2.8).
pub(super) const SECRET_LEN: std::ops::RangeInclusive<usize> = 4..=256;

/// Process id and secret of a BackendKeyData.
pub fn backend_key(body: &[u8]) -> Result<(i32, &[u8]), FrameError> {
    let mut reader = Reader::new(Tag::BACKEND_KEY_DATA, body);
    let pid = reader.int32("process id")?;
    let secret = reader.rest();
    if SECRET_LEN.contains(&secret.len()) {
        Ok((pid, secret))
    } else {
        Err(reader.unknown("secret length", i32::try_from(secret.len()).unwrap_or(i32::MAX)))
    }
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRow<'a> {
    columns: u16,
    values: &'a [u8],
}

impl<'a> DataRow<'a> {
    /// Reads the number of columns; the values are cut when asked.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(Tag::DATA_ROW, body);
        let columns = reader.int16("columns")?;
        Ok(Self { columns, values: reader.rest() })
    }

    /// The values, `None` for NULL.
    pub fn values(self) -> impl Iterator<Item = Result<Option<&'a [u8]>, FrameError>> {
        let mut reader = Reader::new(Tag::DATA_ROW, self.values);
        (0..self.columns).map(move |_| match reader.int32("value length")? {
            -1 => Ok(None),
            len => {
                let fits = usize::try_from(len).or(Err(reader.unknown("value length", len)))?;
                reader.bytes(fits, "value").map(Some)
            }
        })
    }
}

/// A step of signing in, as the server asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Signed in.
    Ok,
    /// The password itself.
    Cleartext,
    /// The password hashed with user name and this salt.
    Md5 {
        /// The salt.
        salt: [u8; 4],
    },
    /// SASL with one of these mechanisms.
    Sasl(Mechanisms<'a>),
    /// The server's next SASL message.
    SaslContinue(&'a [u8]),
    /// The server's last SASL message.
    SaslFinal(&'a [u8]),
    /// Kerberos, GSSAPI, SSPI, ...
    Other(i32),
}

impl<'a> Authentication<'a> {
    /// Reads the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(Tag::AUTHENTICATION, body);
        let step = reader.int32("request")?;
        let rest = reader.rest();
        match step {
            0 => reader.end().map(|()| Self::Ok),
            3 => reader.end().map(|()| Self::Cleartext),
            5 => {
                let salt = reader.int32("salt")?.to_be_bytes();
                reader.end().map(|()| Self::Md5 { salt })
            }
            10 => Ok(Self::Sasl(Mechanisms { list: rest })),
            11 => Ok(Self::SaslContinue(rest)),
            12 => Ok(Self::SaslFinal(rest)),
            other => Ok(Self::Other(other)),
        }
    }
}

/// Names of SASL mechanisms, the server's favourite first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms<'a> {
    list: &'a [u8],
}

impl<'a> Mechanisms<'a> {
    /// The names.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.list.split(|byte| *byte == 0).take_while(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn error_fields_are_found_by_letter() {
        let body = b"SFEHLER\0VERROR\0C25006\0Mcannot execute INSERT\0RPreventCommandIfReadOnly\0\0";
        let fields = ErrorFields::new(body);
        assert_eq!(fields.severity(), "ERROR");
        assert_eq!(fields.code(), Some(SqlState::READ_ONLY_SQL_TRANSACTION));
        assert_eq!(fields.message(), "cannot execute INSERT");
        assert_eq!(fields.routine(), "PreventCommandIfReadOnly");
        assert_eq!(fields.field(b'D'), None);
        assert_eq!(ErrorFields::new(b"SERROR\0").severity(), "ERROR", "servers before 9.6 send no V");
        assert!(fields.are_whole());
        for body in [&b""[..], b"\0", b"SERROR\0\0", b"SERROR\0C25006\0\0", b"C2500\0Mx\0\0", b"C25006\0Mx"] {
            assert!(!ErrorFields::new(body).are_whole(), "{body:?}");
        }
    }

    #[test]
    fn the_ready_status_has_three_values() {
        for status in [TxStatus::Idle, TxStatus::InTransaction, TxStatus::Failed] {
            assert_eq!(ready_status(&[status.letter()]), Ok(status));
        }
        for body in [&b""[..], b"X", b"II"] {
            assert!(ready_status(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn cancel_secrets_have_4_to_256_bytes() {
        for (len, fits) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
            let mut body = 7_i32.to_be_bytes().to_vec();
            body.resize(4 + len, 1);
            assert_eq!(backend_key(&body).is_ok(), fits, "{len}");
        }
    }

    #[test]
    fn mechanisms_end_at_the_empty_name() {
        let body = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let Authentication::Sasl(list) = Authentication::decode(body).unwrap() else { panic!("not SASL") };
        assert_eq!(list.iter().collect::<Vec<_>>(), [&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]);
    }

    #[test]
    fn the_values_of_a_row_are_cut_by_their_lengths() {
        let values = |body| DataRow::decode(body).unwrap().values().collect::<Result<Vec<_>, _>>();
        assert_eq!(
            values(b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0"),
            Ok(vec![Some(&b"ab"[..]), None, Some(b"")])
        );
        assert!(values(b"\0\x01\0\0\0\x03ab").is_err());
        assert!(values(b"\0\x01\xff\xff\xff\xfe").is_err());
        assert!(values(b"\0\x02\0\0\0\0").is_err());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            assert_eq!(ready_status(&body).is_ok(), matches!(body[..], [b'I' | b'T' | b'E']));
            let fields = ErrorFields::new(&body);
            drop((fields.severity(), fields.code(), fields.message(), fields.routine()));
            assert!(command_tag(&body).len() <= body.len());
            if let Ok((name, value)) = parameter_status(&body) {
                assert_eq!(name.len() + value.len() + 2, body.len());
            }
            assert_eq!(backend_key(&body).is_ok(), body.len() >= 8);
            if let Ok(row) = DataRow::decode(&body) {
                let len: usize = row.values().map_while(Result::ok).flatten().map(<[u8]>::len).sum();
                assert!(len <= body.len());
            }
            if let Ok(Authentication::Sasl(list)) = Authentication::decode(&body) {
                assert!(list.iter().count() <= body.len());
            }
        }
    }
}
