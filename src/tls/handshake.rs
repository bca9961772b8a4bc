//! Our half of a handshake at a port of ours. Who is refused is told why: with TLS 1.3 the other side has gone on when its
//! certificate is looked at, and what it has sent unread would make the kernel take the alert back with a reset.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The other side gets this long to read its alert.
const LINGER: Duration = Duration::from_secs(1);

/// What it may have sent meanwhile.
const UNREAD_MAX: usize = 64 * 1024;

/// Shakes hands. On an error the other side has been told, and has left or had its time.
pub(crate) async fn accept(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            // Nothing depends on how this ends.
            drop(tokio::time::timeout(LINGER, leave(stream)).await);
            Err(error)
        }
    }
}

/// Says that nothing more comes, and reads until the other side says so too.
async fn leave(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let (mut chunk, mut unread) = ([0; 4096], 0);
    while unread < UNREAD_MAX {
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            len => unread += len,
        }
    }
    Ok(())
}
