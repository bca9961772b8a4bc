//! Our own questions to a server over a raw connection: a simple query, its rows as text.

use std::io;

use tokio::io::AsyncWriteExt;

use super::Stream;
use super::frames::{FrameReadError, FrameReader};
use crate::model::SqlState;
use crate::wire::{ErrorFields, FrameError, Tag, TxStatus, backend, encode};

/// Longest message of an answer to a question of ours, in bytes.
const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// Most rows of an answer to a question of ours.
const ROWS_MAX: usize = 1_000_000;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// No message of the protocol.
    #[error("the answer could not be read")]
    Read(#[from] FrameReadError),
    /// A malformed message.
    #[error("the answer is malformed")]
    Malformed(#[from] FrameError),
    /// The server said no.
    #[error("the server answered {code}: {message}")]
    Refused {
        /// The code.
        code: SqlState,
        /// The message.
        message: String,
    },
    /// More rows than any such question has.
    #[error("the answer has more than {ROWS_MAX} rows")]
    TooManyRows,
}

/// One row: its columns as text.
pub type Row = Vec<Option<String>>;

/// Asks one question on a connection that is ready and gives its rows. Not cancellation-safe: dropped half-way, the
/// connection is of no more use.
///
/// # Errors
/// Where the connection fails, or the server says no.
pub async fn rows(stream: &mut Stream, sql: &str) -> Result<(Vec<Row>, TxStatus), QueryError> {
    let mut query = Vec::with_capacity(sql.len() + 6);
    encode::query(&mut query, sql.as_bytes());
    stream.write_all(&query).await?;
    stream.flush().await?;
    let mut frames = FrameReader::new(MESSAGE_LEN_MAX);
    let mut rows = Vec::new();
    let mut refused = None;
    loop {
        let frame = frames.next(stream).await?;
        match frame.tag {
            Tag::DATA_ROW if rows.len() >= ROWS_MAX => return Err(QueryError::TooManyRows),
            Tag::DATA_ROW => rows.push(columns(frame.body())?),
            Tag::ERROR_RESPONSE => {
                let fields = ErrorFields::new(frame.body());
                refused = Some(QueryError::Refused {
                    code: fields.code().unwrap_or(SqlState::INTERNAL_ERROR),
                    message: fields.message().into_owned(),
                });
            }
            Tag::READY_FOR_QUERY => {
                let status = backend::ready_status(frame.body())?;
                return refused.map_or(Ok((rows, status)), Err);
            }
            _ => {}
        }
    }
}

/// The columns of a DataRow (manual, 55.7), as text.
fn columns(body: &[u8]) -> Result<Row, FrameError> {
    let cut = || FrameError::Truncated { tag: Tag::DATA_ROW, field: "column" };
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(cut)?;
    let count = u16::from_be_bytes(*count);
    let mut columns = Vec::with_capacity(usize::from(count).min(64));
    for _ in 0..count {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        rest = tail;
        let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else {
            columns.push(None);
            continue;
        };
        let (value, tail) = rest.split_at_checked(len).ok_or_else(cut)?;
        rest = tail;
        columns.push(Some(String::from_utf8_lossy(value).into_owned()));
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_and_cut_rows_refused() {
        let mut row = Vec::new();
        encode::data_row(&mut row, &[Some(b"a"), None, Some(b"")]);
        let body = &row[5..];
        assert_eq!(columns(body), Ok(vec![Some("a".to_owned()), None, Some(String::new())]));
        for len in 0..body.len() {
            assert!(columns(&body[..len]).is_err(), "{len}");
        }
    }
}
