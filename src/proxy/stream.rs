//! A connection to a client or a server, whatever it runs over: TCP, a Unix socket, or TLS over TCP.
//!
//! `shutdown_both` needs only `&self`, so that a connection can be ended from outside while its task waits on it: the
//! task sees end of file. No descriptor is duplicated for that.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use crate::wire::encode;

/// A silent TCP peer is probed after this time, so that one that vanished does not hold its place for ever.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// And then again at this distance.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP; towards a client we are its server, towards a server its client.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Takes a TCP connection over and sets its options: no delay, keepalive.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        set_options(&SockRef::from(&stream))?;
        Ok(Self::Tcp(stream))
    }

    /// Takes over what a listening socket has given; `inherits`: it has the options already.
    pub(super) fn accepted(stream: TcpStream, inherits: bool) -> io::Result<Self> {
        if inherits { Ok(Self::Tcp(stream)) } else { Self::tcp(stream) }
    }

    /// The other side's address; `None` on a Unix socket, and where it is gone.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.as_tcp().and_then(|tcp| tcp.peer_addr().ok())
    }

    /// This side's address; `None` on a Unix socket, and where it is gone.
    pub fn local(&self) -> Option<SocketAddr> {
        self.as_tcp().and_then(|tcp| tcp.local_addr().ok())
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What a sign-in here can be bound to: the hash of the certificate that the server has shown.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        self.shown().and_then(crate::tls::end_point)
    }

    /// Whose certificate the other side has shown; `None` where it has shown none.
    pub fn peer_owner(&self) -> Option<crate::tls::Owner> {
        self.shown().and_then(crate::tls::Owner::of)
    }

    /// Whether the client has shown a certificate, which is good then.
    pub fn shows_certificate(&self) -> bool {
        self.shown().is_some()
    }

    fn shown(&self) -> Option<&rustls::pki_types::CertificateDer<'static>> {
        let Self::Tls(tls) = self else { return None };
        tls.get_ref().1.peer_certificates().and_then(<[_]>::first)
    }

    /// Whether nobody can listen in: encrypted, or not leaving this machine.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tls(_) => true,
            Self::Tcp(_) => self.peer().is_some_and(|peer| peer.ip().is_loopback()),
        }
    }

    /// Ends the connection in both directions at once. Pending reads see end of file.
    pub fn shutdown_both(&self) -> io::Result<()> {
        match self {
            Self::Unix(unix) => SockRef::from(unix).shutdown(Shutdown::Both),
            Self::Tcp(tcp) => SockRef::from(tcp).shutdown(Shutdown::Both),
            Self::Tls(tls) => SockRef::from(tls.get_ref().0).shutdown(Shutdown::Both),
        }
    }

    /// Writes what the socket takes without waiting. `WouldBlock` where it is full, and always under TLS, which cannot
    /// write through `&self`.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.try_write(bytes),
            Self::Unix(unix) => unix.try_write(bytes),
            Self::Tls(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Reads what is there without waiting. `WouldBlock` where nothing is, and always under TLS.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.try_read(buf),
            Self::Unix(unix) => unix.try_read(buf),
            Self::Tls(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether nothing has come that nobody has read, not even the end. Costs no system call where it is so. Only for a
    /// connection that no task waits on: one that does would miss its wake-up.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        let mut cx = Context::from_waker(Waker::noop());
        let mut peek = |tcp: &TcpStream| tcp.poll_peek(&mut cx, &mut ReadBuf::uninit(&mut byte)).is_pending();
        match self {
            Self::Tcp(tcp) => peek(tcp),
            Self::Unix(unix) => {
                matches!(unix.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(tls) => {
                let (tcp, state) = tls.get_ref();
                // While rustls holds plaintext that nobody has read it wants nothing more.
                state.wants_read() && peek(tcp)
            }
        }
    }

    /// Whether a read is worth trying: lets a connection rest without a buffer. Under TLS a ready socket may still hold
    /// no whole record, so that the read that follows waits.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Unix(unix) => unix.poll_read_ready(cx),
            Self::Tls(tls) => {
                let (tcp, state) = tls.get_ref();
                // rustls wants nothing more from the socket while it holds plaintext that nobody has read.
                if state.wants_read() { tcp.poll_read_ready(cx) } else { Poll::Ready(Ok(())) }
            }
        }
    }

    /// Waits until a read is worth trying. Cancellation-safe.
    pub async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_readable(cx)).await
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Tls(tls) => Some(tls.get_ref().0),
            Self::Unix(_) => None,
        }
    }
}

/// Sets the options of a TCP socket. Those of a listening one are for the connections that it gives.
pub(super) fn set_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive)
}

/// Whether what a listening socket gives has all of these options: on Linux that saves four system calls for each client. One
/// that was handed over without them may have clients waiting already, so it is asked, and not changed.
pub(super) fn gives_options(listener: &TcpListener) -> bool {
    let socket = SockRef::from(listener);
    cfg!(target_os = "linux")
        && matches!(socket.tcp_nodelay(), Ok(true))
        && matches!(socket.keepalive(), Ok(true))
        && matches!(socket.tcp_keepalive_time(), Ok(KEEPALIVE_AFTER))
        && matches!(socket.tcp_keepalive_interval(), Ok(KEEPALIVE_EVERY))
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

/// Calls a method of whichever stream is inside.
macro_rules! inner {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Tcp($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
            Stream::Unix($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
            Stream::Tls($inner) => {
                let $inner = Pin::new(&mut **$inner);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        inner!(self, inner => inner.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        inner!(self, inner => inner.poll_write(cx, bytes))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inner!(self, inner => inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Unix(unix) => unix.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, inner => inner.poll_shutdown(cx))
    }
}

/// Ends a connection politely, as far as that needs no waiting.
pub(super) fn say_goodbye(mut stream: Stream) {
    let mut terminate = Vec::with_capacity(5);
    encode::terminate(&mut terminate);
    let mut cx = Context::from_waker(Waker::noop());
    // Whether it arrives does not matter: the server notices the end anyway.
    drop(Pin::new(&mut stream).poll_write(&mut cx, &terminate));
    drop(Pin::new(&mut stream).poll_flush(&mut cx));
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn tcp_pair() -> (Stream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Stream::tcp(near.unwrap()).unwrap(), Stream::tcp(far.unwrap().0).unwrap())
    }

    #[tokio::test]
    async fn bytes_go_through_and_options_are_set() {
        let (mut near, mut far) = tcp_pair().await;
        near.write_all(b"hello").await.unwrap();
        far.readable().await.unwrap();
        let mut buf = [0; 8];
        assert_eq!(far.try_read(&mut buf).unwrap(), 5);
        assert_eq!(far.try_read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(far.try_write(b"bye").unwrap(), 3);
        let mut bye = [0; 3];
        near.read_exact(&mut bye).await.unwrap();
        assert_eq!(&bye, b"bye");
        let Stream::Tcp(tcp) = &far else { panic!("not TCP") };
        assert!(tcp.nodelay().unwrap() && SockRef::from(tcp).keepalive().unwrap());
        assert!(far.is_private() && !far.is_tls());
        far.write_all(b"x").await.unwrap();
    }

    #[tokio::test]
    async fn a_client_has_the_options_whether_its_listening_socket_has_them_or_not() {
        for ours in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if ours {
                set_options(&SockRef::from(&listener)).unwrap();
            }
            let inherits = gives_options(&listener);
            assert_eq!(inherits, ours && cfg!(target_os = "linux"));
            let address = listener.local_addr().unwrap();
            let (_near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
            let far = Stream::accepted(far.unwrap().0, inherits).unwrap();
            let Stream::Tcp(tcp) = &far else { panic!("not TCP") };
            let socket = SockRef::from(tcp);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_EVERY);
        }
    }

    #[tokio::test]
    async fn a_shutdown_from_outside_wakes_the_reader() {
        let (near, mut far) = tcp_pair().await;
        let near = std::rc::Rc::new(near);
        let waiting = async {
            near.readable().await.unwrap();
            near.try_read(&mut [0; 8]).unwrap()
        };
        let (read, ()) = tokio::join!(waiting, async { near.shutdown_both().unwrap() });
        assert_eq!(read, 0, "end of file here");
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0, "and there");
    }

    #[tokio::test]
    async fn quiet_is_a_connection_on_which_nothing_and_no_end_has_come() {
        let (tcp, mut tcp_peer) = tcp_pair().await;
        let (unix, unix_peer) = UnixStream::pair().unwrap();
        let (unix, mut unix_peer) = (Stream::from(unix), Stream::from(unix_peer));
        for (stream, peer) in [(tcp, &mut tcp_peer), (unix, &mut unix_peer)] {
            assert!(stream.is_quiet());
            peer.write_all(b"x").await.unwrap();
            stream.readable().await.unwrap();
            assert!(!stream.is_quiet());
            peer.shutdown_both().unwrap();
        }
        let (near, far) = tcp_pair().await;
        drop(far);
        near.readable().await.unwrap();
        assert!(!near.is_quiet(), "its peer has closed");
    }

    #[tokio::test]
    async fn unix_sockets_have_no_peer_address() {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, mut far) = (Stream::from(near), Stream::from(far));
        assert_eq!(near.peer(), None);
        assert!(near.is_private());
        near.shutdown_both().unwrap();
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
