//! The network between the proxy and one server: a relay whose links can be cut, or fall silent in one direction or both.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const CHUNK_LEN: usize = 64 * 1024;

/// What the network does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Everything arrives.
    #[default]
    Whole,
    /// Nothing arrives in either direction, and nobody is told.
    Silent,
    /// The server hears the proxy, but is not heard.
    NoAnswers,
    /// Connections break, and new ones are refused.
    Broken,
}

impl Link {
    fn carries(self, answers: bool) -> bool {
        self == Self::Whole || (self == Self::NoAnswers && !answers)
    }
}

/// A relay to one server. Dropping it closes everything.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    link: watch::Sender<Link>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Listens on a free port of 127.0.0.1 for connections to `server`.
    pub async fn open(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (link, seen) = watch::channel(Link::Whole);
        let accepting = tokio::spawn(accept(listener, server, seen));
        Ok(Self { port, link, accepting })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what the network does, for every connection at once.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.link.send_replace(Link::Broken);
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, link: watch::Receiver<Link>) {
    // An error of one connection (its client has gone already) is not the listener's.
    loop {
        if let Ok((client, _)) = listener.accept().await {
            tokio::spawn(connect(client, server, link.clone()));
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut link: watch::Receiver<Link>) {
    // A silent network takes the connection, for all that the client can see.
    let whole = link.wait_for(|link| matches!(link, Link::Whole | Link::Broken)).await;
    if whole.is_ok_and(|link| *link == Link::Broken) {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let broken =
        async |mut link: watch::Receiver<Link>| drop(link.wait_for(|link| *link == Link::Broken).await);
    tokio::select! {
        () = carry(client_read, server_write, (link.clone(), false)) => {}
        () = carry(server_read, client_write, (link.clone(), true)) => {}
        () = broken(link.clone()) => {}
    }
}

/// Carries bytes while the link does.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (mut link, answers): (watch::Receiver<Link>, bool),
) {
    let mut chunk = vec![0; CHUNK_LEN];
    while let Ok(len @ 1..) = from.read(&mut chunk).await {
        if link.wait_for(|link| link.carries(answers)).await.is_err() {
            return;
        }
        if to.write_all(chunk.get(..len).unwrap_or_default()).await.is_err() {
            return;
        }
    }
    // The end arrives as little as anything else does.
    drop(link.wait_for(|link| link.carries(answers)).await);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A server that sends everything back, and a client of it behind a relay.
    async fn echo() -> (Relay, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::open(listener.local_addr().unwrap()).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    drop(tokio::io::copy(&mut read, &mut write).await);
                });
            }
        });
        let client = TcpStream::connect(("127.0.0.1", relay.port())).await.unwrap();
        (relay, client)
    }

    async fn arrives(client: &mut TcpStream, text: &[u8]) -> bool {
        let mut got = vec![0; text.len()];
        matches!(
            tokio::time::timeout(Duration::from_millis(200), client.read_exact(&mut got)).await,
            Ok(Ok(_))
        ) && got == text
    }

    #[tokio::test]
    async fn a_silent_link_keeps_what_was_sent_and_a_broken_one_ends() {
        let (relay, mut client) = echo().await;
        client.write_all(b"one").await.unwrap();
        assert!(arrives(&mut client, b"one").await);
        for link in [Link::Silent, Link::NoAnswers] {
            relay.set(link);
            client.write_all(b"two").await.unwrap();
            assert!(!arrives(&mut client, b"two").await, "{link:?}");
            relay.set(Link::Whole);
            assert!(arrives(&mut client, b"two").await, "{link:?}");
        }
        relay.set(Link::Broken);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
        let mut refused = TcpStream::connect(("127.0.0.1", relay.port())).await.unwrap();
        assert_eq!(refused.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }
}
