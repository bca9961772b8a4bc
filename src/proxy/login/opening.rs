//! The opening of a connection: requests for encryption are answered until there is a startup packet or a cancel request.

use std::io;

use futures_util::FutureExt;
use tokio::io::AsyncReadExt;

use super::{Door, LoginError};
use crate::proxy::Stream;
use crate::session::ClientError;
use crate::wire::startup::{Opening, StartupError, StartupPacket, Version};

/// Requests for encryption that one connection may make: TLS and GSSAPI, once each.
const REQUESTS_MAX: usize = 2;

/// How an opening ends.
pub(super) enum Opened {
    Startup { version: Version, params: Vec<(String, String)> },
    Cancel { pid: i32, secret: Vec<u8> },
}

impl Door<'_> {
    /// Reads and answers until the client says what it wants.
    pub(super) async fn open(&mut self) -> Result<Opened, LoginError> {
        if self.begins_with_tls().await? {
            self.handshake(true).await?;
        }
        for _ in 0..=REQUESTS_MAX {
            match self.read_packet().await? {
                StartupPacket::Ssl if self.may_upgrade() => {
                    self.refuse_early_bytes()?;
                    self.write(b"S").await?;
                    self.handshake(false).await?;
                }
                StartupPacket::Ssl | StartupPacket::Gss => self.write(b"N").await?,
                StartupPacket::Cancel { pid, secret } => return Ok(Opened::Cancel { pid, secret }),
                StartupPacket::Startup { version, params } => return Ok(Opened::Startup { version, params }),
            }
        }
        Err(StartupError::TooManyRequests.into())
    }

    fn may_upgrade(&self) -> bool {
        self.tls.offered() && matches!(self.stream, Some(Stream::Tcp(_)))
    }

    /// Looks at the first byte and leaves it there: TLS without an SSLRequest begins with a handshake record.
    async fn begins_with_tls(&mut self) -> Result<bool, LoginError> {
        if !self.may_upgrade() {
            return Ok(false);
        }
        let Stream::Tcp(tcp) = self.stream()? else { return Ok(false) };
        let mut first = [0];
        match tcp.peek(&mut first).await {
            Ok(0) => Err(LoginError::Gone),
            Ok(_) => Ok(matches!(Opening::peek(&first, u32::MAX), Ok(Some(Opening::DirectTls)))),
            Err(source) => Err(LoginError::Io { step: "reading", source }),
        }
    }

    /// A client sends nothing between its request and our answer. Bytes that are there already were put there by
    /// somebody else, who hopes that they are taken for a part of the encrypted conversation (CVE-2021-23214).
    /// They could not be: nothing is read ahead here, so they would spoil the handshake; but the reason is told.
    fn refuse_early_bytes(&mut self) -> Result<(), LoginError> {
        let Stream::Tcp(tcp) = self.stream()? else { return Ok(()) };
        match tcp.peek(&mut [0]).now_or_never() {
            Some(Ok(1..)) => Err(ClientError::DataBeforeTls.into()),
            _ => Ok(()),
        }
    }

    /// While it runs the connection belongs to it: a failed handshake leaves nobody to talk to.
    async fn handshake(&mut self, direct: bool) -> Result<(), LoginError> {
        let Stream::Tcp(tcp) = self.take()? else { return Err(LoginError::Gone) };
        let stream = self.tls.accept(tcp, direct).await.map_err(LoginError::Tls)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Reads one packet and not a byte more.
    async fn read_packet(&mut self) -> Result<StartupPacket, LoginError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => LoginError::Gone,
            _ => LoginError::Io { step: "reading", source },
        };
        let len_max = self.context.settings.load().limits.login_message_max;
        let stream = self.stream()?;
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.map_err(failed)?;
        let Some(Opening::Packet { len }) = Opening::peek(&four, len_max)? else {
            // TLS where it is not offered. As PostgreSQL does, its first bytes are taken for a length.
            let declared = u32::from_be_bytes(four);
            return Err(StartupError::Length { declared, declared_max: len_max }.into());
        };
        let mut packet = vec![0; len - four.len()];
        stream.read_exact(&mut packet).await.map_err(failed)?;
        Ok(StartupPacket::decode(&packet)?)
    }
}
