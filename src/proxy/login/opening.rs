//! The opening of a connection: requests for encryption are answered until there is a startup packet or a cancel request.

use futures_util::FutureExt;

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
    /// They could not be: what was read ahead is no part of a handshake, and what was not would spoil it.
    fn refuse_early_bytes(&mut self) -> Result<(), LoginError> {
        if !self.inbox.is_empty() {
            return Err(ClientError::DataBeforeTls.into());
        }
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
}
