//! Reads whole messages one by one, where a conversation is short and each message matters: signing in, and our own
//! questions to servers. The data path does not pass here; it forwards runs of messages uncut.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::Stream;
use crate::wire::{FrameError, HEADER_LEN, Header, Tag};

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub enum FrameReadError {
    /// The connection failed, or ended inside a message.
    #[error("reading failed")]
    Io(#[source] io::Error),
    /// The connection ended between two messages.
    #[error("the connection was closed")]
    Closed,
    /// No message of the protocol.
    #[error("malformed message")]
    Malformed(#[source] FrameError),
    /// Longer than is taken here.
    #[error("message {tag} has {len} bytes, at most {len_max} are taken")]
    TooLong {
        /// The message.
        tag: Tag,
        /// Its length.
        len: usize,
        /// The limit.
        len_max: usize,
    },
}

/// A whole message.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The message.
    pub tag: Tag,
    /// Its bytes, header included.
    pub bytes: Bytes,
}

impl Frame {
    /// What is behind the header.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }
}

/// Reads ahead in chunks and cuts.
#[derive(Debug)]
pub struct FrameReader {
    buf: BytesMut,
    len_max: usize,
}

impl FrameReader {
    /// A reader that takes messages up to `len_max` bytes.
    pub fn new(len_max: usize) -> Self {
        Self::after(BytesMut::new(), len_max)
    }

    /// The same, on a connection of which this has been read.
    pub fn after(ahead: BytesMut, len_max: usize) -> Self {
        Self { buf: ahead, len_max }
    }

    /// What was read and not asked for, for whoever goes on with the connection.
    pub fn into_rest(self) -> BytesMut {
        self.buf
    }

    /// The next message. Cancellation-safe: what was read stays here.
    pub async fn next(&mut self, stream: &mut Stream) -> Result<Frame, FrameReadError> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(frame);
            }
            self.buf.reserve(1024);
            let read = stream.read_buf(&mut self.buf).await.map_err(FrameReadError::Io)?;
            if read == 0 {
                return Err(if self.buf.is_empty() {
                    FrameReadError::Closed
                } else {
                    FrameReadError::Io(io::ErrorKind::UnexpectedEof.into())
                });
            }
        }
    }

    fn cut(&mut self) -> Result<Option<Frame>, FrameReadError> {
        let Some(Header { tag, len }) = Header::peek(self.buf.chunk()).map_err(FrameReadError::Malformed)?
        else {
            return Ok(None);
        };
        if len > self.len_max {
            return Err(FrameReadError::TooLong { tag, len, len_max: self.len_max });
        }
        if self.buf.len() < len {
            return Ok(None);
        }
        Ok(Some(Frame { tag, bytes: self.buf.split_to(len).freeze() }))
    }

    /// Bytes that were read and not asked for yet.
    pub fn buffered(&self) -> usize {
        self.buf.len()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;
    use crate::wire::{TxStatus, encode};

    fn pair() -> (Stream, Stream) {
        let (near, far) = UnixStream::pair().unwrap();
        (near.into(), far.into())
    }

    #[tokio::test]
    async fn messages_are_cut_however_they_arrive() {
        let (mut near, mut far) = pair();
        let mut bytes = Vec::new();
        encode::parameter_status(&mut bytes, b"a", b"b");
        encode::ready(&mut bytes, TxStatus::Idle);
        let writer = async move {
            for byte in bytes {
                near.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let reader = async {
            let mut frames = FrameReader::new(100);
            assert_eq!(frames.next(&mut far).await.unwrap().tag, Tag::PARAMETER_STATUS);
            assert_eq!(frames.next(&mut far).await.unwrap().body(), b"I");
            assert_eq!(frames.buffered(), 0);
            assert!(matches!(frames.next(&mut far).await, Err(FrameReadError::Closed)));
        };
        tokio::join!(writer, reader);
    }

    #[tokio::test]
    async fn long_cut_and_malformed_messages_are_told_apart() {
        for (bytes, expected) in [
            (&b"p\0\0\0\x64"[..], "TooLong"),
            (b"p\0\0\0\x03", "Malformed"),
            (b"p\0\0\0\x05", "Io"),
            (b"", "Closed"),
        ] {
            let (mut near, mut far) = pair();
            near.write_all(bytes).await.unwrap();
            drop(near);
            let error = FrameReader::new(100).next(&mut far).await.unwrap_err();
            assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        }
    }
}
