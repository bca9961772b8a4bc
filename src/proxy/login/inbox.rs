//! What a client sends while it signs in. A message is taken with one read where it has come whole, so some of what follows
//! may be read too: it stays here, is refused where encryption begins, and is handed to the session at the end.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::{Door, LoginError};
use crate::proxy::Stream;
use crate::proxy::frames::{Frame, FrameReadError, FrameReader};
use crate::session::ClientError;
use crate::wire::Tag;
use crate::wire::startup::{Opening, StartupError, StartupPacket};

/// What a read has room for at least, in bytes: any message of a usual sign-in.
const READ_LEN: usize = 512;

/// Bytes that were read and not taken yet.
#[derive(Debug, Default)]
pub(super) struct Inbox(BytesMut);

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left, for whoever goes on with the connection.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Reads until there are so many bytes. Cancellation-safe: what was read stays here.
    async fn fill(&mut self, stream: &mut Stream, len: usize) -> io::Result<()> {
        while self.0.len() < len {
            self.0.reserve((len - self.0.len()).max(READ_LEN));
            if stream.read_buf(&mut self.0).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// The first packet, without its length field.
    async fn packet(&mut self, stream: &mut Stream, len_max: u32) -> Result<Bytes, LoginError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => LoginError::Gone,
            _ => LoginError::Io { step: "reading", source },
        };
        self.fill(stream, 4).await.map_err(failed)?;
        let mut four = [0; 4];
        four.copy_from_slice(self.0.get(..4).unwrap_or(&[0; 4]));
        let Some(Opening::Packet { len }) = Opening::peek(&four, len_max)? else {
            // TLS where it is not offered. As PostgreSQL does, its first bytes are taken for a length.
            let declared = u32::from_be_bytes(four);
            return Err(StartupError::Length { declared, declared_max: len_max }.into());
        };
        self.fill(stream, len).await.map_err(failed)?;
        Ok(self.0.split_to(len).split_off(4).freeze())
    }

    /// The next message.
    async fn frame(&mut self, stream: &mut Stream, len_max: usize) -> Result<Frame, FrameReadError> {
        let mut frames = FrameReader::after(std::mem::take(&mut self.0), len_max);
        let frame = frames.next(stream).await;
        self.0 = frames.into_rest();
        frame
    }
}

impl Door<'_> {
    /// The client's first packet, or the one after its request for encryption was answered.
    pub(super) async fn read_packet(&mut self) -> Result<StartupPacket, LoginError> {
        let len_max = self.context.settings.load().limits.login_message_max;
        let stream = self.stream.as_mut().ok_or(LoginError::Gone)?;
        Ok(StartupPacket::decode(&self.inbox.packet(stream, len_max).await?)?)
    }

    /// The client's next message, which must be a password or a part of one.
    pub(super) async fn read_password(&mut self) -> Result<Frame, LoginError> {
        let len_max = self.context.settings.load().limits.login_message_max;
        let stream = self.stream.as_mut().ok_or(LoginError::Gone)?;
        match self.inbox.frame(stream, len_max as usize).await {
            Ok(frame) if frame.tag == Tag::PASSWORD => Ok(frame),
            Ok(Frame { tag: Tag::TERMINATE, .. }) | Err(FrameReadError::Closed) => Err(LoginError::Gone),
            Ok(Frame { tag, .. }) => {
                Err(ClientError::UnexpectedMessage { tag, awaited: "a password" }.into())
            }
            Err(FrameReadError::Io(source)) => Err(LoginError::Io { step: "reading", source }),
            Err(FrameReadError::Malformed(error)) => Err(error.into()),
            Err(FrameReadError::TooLong { tag, len, .. }) => {
                Err(ClientError::LongBeforeSignIn { tag, len, len_max }.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;

    fn pair() -> (Stream, Stream) {
        let (near, far) = UnixStream::pair().unwrap();
        (near.into(), far.into())
    }

    #[tokio::test]
    async fn messages_are_cut_however_they_arrive_and_what_follows_is_kept() {
        let bytes = b"\0\0\0\x08\x04\xd2\x16/p\0\0\0\x06ab-rest";
        for chunk in [1, 3, 8, 100] {
            let (mut near, mut far) = pair();
            let writer = async {
                for part in bytes.chunks(chunk) {
                    near.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let reader = async {
                let mut inbox = Inbox::default();
                assert_eq!(&*inbox.packet(&mut far, 100).await.unwrap(), b"\x04\xd2\x16/");
                let frame = inbox.frame(&mut far, 100).await.unwrap();
                assert_eq!((frame.tag, frame.body()), (Tag::PASSWORD, &b"ab"[..]));
                inbox.fill(&mut far, 5).await.unwrap();
                assert_eq!(&*inbox.into_rest(), b"-rest");
            };
            tokio::join!(writer, reader);
        }
    }
}
