//! Whose connection it is: the address on the other end, or the one that a trusted balancer names in a PROXY header.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;

use super::{Door, LoginError};
use crate::proxy::quota::Subject;
use crate::session::ClientError;
use crate::wire::proxy_header::{self, BEGINNING, LINE_MAX, ProxyHeaderError, Version};

impl Door<'_> {
    /// Settles the address, and takes a place among its connections.
    pub(super) async fn settle_origin(&mut self) -> Result<(), LoginError> {
        let Some(peer) = self.address else { return Ok(()) };
        let balanced =
            self.context.settings.load().balancers.iter().any(|network| network.contains(peer.ip()));
        let address = if balanced { self.read_header().await?.unwrap_or(peer) } else { peer };
        self.address = Some(address);
        let subject = Subject::of_address(address.ip());
        if self.context.guesses.overrun(&subject) {
            return Err(ClientError::TooManyFailures.into());
        }
        let max = self.context.settings.load().limits.clients_per_address_max;
        self.take_place(max, "address", || subject)
    }

    /// Takes a place where they are limited, which is kept as long as the connection.
    pub(super) fn take_place(
        &mut self,
        max: u32,
        what: &'static str,
        subject: impl FnOnce() -> Subject,
    ) -> Result<(), LoginError> {
        if max == 0 {
            return Ok(());
        }
        let place = self.context.quotas.take(subject(), max);
        self.places.extend(place.map_err(|max| ClientError::TooManyClientsOf { what, max })?);
        Ok(())
    }

    /// Reads the header and not a byte more. From where one is expected a connection without one is refused: its address
    /// would be the balancer's, which the rules may trust.
    async fn read_header(&mut self) -> Result<Option<SocketAddr>, LoginError> {
        let mut beginning = [0; BEGINNING];
        self.read_whole(&mut beginning).await?;
        match proxy_header::version(&beginning).map_err(broken)? {
            Version::One => {
                let mut line = beginning.to_vec();
                while line.last() != Some(&b'\n') {
                    if line.len() >= LINE_MAX {
                        return Err(broken(ProxyHeaderError { what: "the line's length" }));
                    }
                    let mut byte = [0];
                    self.read_whole(&mut byte).await?;
                    line.extend(byte);
                }
                proxy_header::line(&line).map_err(broken)
            }
            Version::Two => {
                let mut four = [0; 4];
                self.read_whole(&mut four).await?;
                let frame = proxy_header::frame(four).map_err(broken)?;
                let mut rest = vec![0; frame.rest];
                self.read_whole(&mut rest).await?;
                proxy_header::address(frame, &rest).map_err(broken)
            }
        }
    }

    async fn read_whole(&mut self, bytes: &mut [u8]) -> Result<(), LoginError> {
        // A balancer that looks whether the port is open says nothing.
        self.stream()?.read_exact(bytes).await.map(|_| ()).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => LoginError::Gone,
            _ => LoginError::Io { step: "reading", source },
        })
    }
}

fn broken(error: ProxyHeaderError) -> LoginError {
    ClientError::ProxyHeader(error).into()
}
