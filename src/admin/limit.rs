//! How many HTTP connections there may be at one time, and for how long one may say nothing.
//!
//! Beyond the limit nothing more is accepted until one ends: whoever connects waits in the kernel's queue. So that
//! connections that nobody uses any more cannot hold all places for ever, a silent one is closed in the end. A handshake
//! takes a place, too, and holds up nobody else.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::door::{Door, Visitor};
use crate::clock;

/// Connections at one time.
const CONNECTIONS_MAX: usize = 256;

/// Longer than the longest command is waited for (`failover.rejoin_timeout`, unless somebody raised it).
const SILENCE_MAX: Duration = Duration::from_secs(15 * 60);

/// A place; `None` only if the semaphore were closed, which nobody does.
type Place = Option<OwnedSemaphorePermit>;

/// The listener with the limits.
pub(super) struct Limited {
    listener: TcpListener,
    door: Option<Arc<Door>>,
    handshakes: FuturesUnordered<BoxFuture<'static, Option<(Socket, Peer, Place)>>>,
    places: Arc<Semaphore>,
    silence_max: Duration,
}

/// The other side, for handlers.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// From where.
    pub(super) address: SocketAddr,
    /// What TLS says of him.
    pub(super) visitor: Option<Visitor>,
}

/// What bytes go over.
#[derive(Debug)]
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection in its place.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Socket,
    silent: Pin<Box<Sleep>>,
    silence_max: Duration,
    _place: Place,
}

impl Limited {
    pub(super) fn new(listener: TcpListener, door: Option<Door>) -> Self {
        Self { door: door.map(Arc::new), ..Self::with(listener, CONNECTIONS_MAX, SILENCE_MAX) }
    }

    fn with(listener: TcpListener, connections_max: usize, silence_max: Duration) -> Self {
        let places = Arc::new(Semaphore::new(connections_max));
        Self { listener, door: None, handshakes: FuturesUnordered::new(), places, silence_max }
    }

    /// The next one that has come in.
    async fn visit(&mut self) -> (Socket, Peer, Place) {
        let Self { listener, door, handshakes, places, .. } = self;
        loop {
            tokio::select! {
                Some(shaken) = handshakes.next() => if let Some(visit) = shaken {
                    return visit;
                },
                (stream, address, place) = knock(listener, places) => match door {
                    Some(door) => {
                        handshakes.push(Box::pin(shake_hands(Arc::clone(door), stream, address, place)));
                    }
                    None => return (Socket::Plain(stream), Peer { address, visitor: None }, place),
                },
            }
        }
    }
}

/// The next one that has connected, once there is a place.
async fn knock(listener: &mut TcpListener, places: &Arc<Semaphore>) -> (TcpStream, SocketAddr, Place) {
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (stream, address) = Listener::accept(listener).await;
    (stream, address, place)
}

/// A handshake in its place. `None`: there is nobody to talk to.
async fn shake_hands(
    door: Arc<Door>,
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
) -> Option<(Socket, Peer, Place)> {
    match door.let_in(stream).await {
        Ok((stream, visitor)) => {
            Some((Socket::Tls(Box::new(stream)), Peer { address, visitor: Some(visitor) }, place))
        }
        Err(error) => {
            tracing::info!(peer = %address, error, "no TLS handshake on the HTTP address");
            None
        }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        let (stream, peer, place) = self.visit().await;
        let silence_max = self.silence_max;
        (Connection { stream, silent: Box::pin(sleep(silence_max)), silence_max, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: self.listener.local_addr()?, visitor: None })
    }
}

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        stream.remote_addr().clone()
    }
}

impl Connection {
    /// Something moved: the time begins anew.
    fn heard<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            let until = clock::now() + self.silence_max;
            self.silent.as_mut().reset(until.into());
        }
        polled
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if polled.is_pending() && self.silent.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.heard(polled)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.heard(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Asks for `/` and leaves the connection open; what came.
    async fn ask(address: SocketAddr) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let len = stream.read(&mut answer).await.unwrap();
        (stream, String::from_utf8_lossy(&answer[..len]).into_owned())
    }

    #[tokio::test]
    async fn silent_connections_give_their_places_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        let limited = Limited::with(listener, 2, Duration::from_millis(300));
        let server = tokio::spawn(async move { axum::serve(limited, router).await });
        let (first, second) = (ask(address).await, ask(address).await);
        assert!(first.1.ends_with("here") && second.1.ends_with("here"));
        // Both places are taken. The third is served when one of them has been silent for too long, and not before.
        let begun = clock::now();
        let third = tokio::time::timeout(Duration::from_secs(20), ask(address)).await.unwrap();
        assert!(third.1.ends_with("here"));
        assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
        // A place is free at once where its holder hangs up.
        drop((first, second));
        let fourth = tokio::time::timeout(Duration::from_secs(20), ask(address)).await.unwrap();
        assert!(fourth.1.ends_with("here"));
        server.abort();
    }
}
