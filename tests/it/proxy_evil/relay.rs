//! The evil server: a relay before a real one that knows its victims by their roles.

use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::frame;

/// When it shows its face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Instead of the answer to the startup packet.
    SigningIn,
    /// Instead of the answer to a statement with the word `evil` in it.
    Asked,
}

/// What it says then to the role of that name: some bytes, then a piece over and over, `total` bytes in all. Then it goes; without
/// a piece and with a `total` it stays and says nothing more.
#[derive(Clone, Debug)]
pub(super) struct Evil {
    pub(super) name: &'static str,
    pub(super) moment: Moment,
    pub(super) before: Vec<u8>,
    /// Nine number signs in it are a number that grows.
    pub(super) piece: Vec<u8>,
    pub(super) total: usize,
}

impl Evil {
    async fn say(&self, proxy: &mut TcpStream) {
        if proxy.write_all(&self.before).await.is_err() || self.piece.is_empty() {
            // What it has to say is read before the connection is reset.
            if self.total == 0 {
                drop(proxy.shutdown().await);
            }
            drop(proxy.read_to_end(&mut Vec::new()).await);
            return;
        }
        let marked = self.piece.windows(9).position(|nine| nine == b"#########");
        let (mut chunk, mut said, mut number) = (Vec::new(), 0, 0_u32);
        while said < self.total {
            chunk.clear();
            while chunk.len() < 64 * 1024 {
                let at = chunk.len();
                chunk.extend_from_slice(&self.piece);
                if let Some(marked) = marked {
                    number += 1;
                    chunk[at + marked..at + marked + 9].copy_from_slice(format!("a{number:08}").as_bytes());
                }
            }
            said += chunk.len();
            if proxy.write_all(&chunk).await.is_err() {
                return;
            }
        }
        drop(proxy.shutdown().await);
        drop(proxy.read_to_end(&mut Vec::new()).await);
    }
}

/// How often each has happened.
type Visits = Arc<Mutex<std::collections::BTreeMap<&'static str, u32>>>;

/// The listening relay; ends with the test.
#[derive(Debug)]
pub(super) struct Relay {
    port: u16,
    done: Visits,
    accepting: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// Before the real server at that port.
    pub(super) async fn before(server: u16, evils: Vec<Evil>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let done = Visits::default();
        let (evils, marks) = (Arc::new(evils), Arc::clone(&done));
        let accepting = tokio::spawn(async move {
            while let Ok((proxy, _)) = listener.accept().await {
                let (evils, marks) = (Arc::clone(&evils), Arc::clone(&marks));
                tokio::spawn(async move { serve(proxy, server, &evils, &marks).await });
            }
        });
        Self { port, done, accepting }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How often each of the evils has happened.
    pub(super) fn done(&self) -> std::collections::BTreeMap<&'static str, u32> {
        self.done.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let len = stream.read_u32().await.ok()?;
    let mut packet = len.to_be_bytes().to_vec();
    packet.resize(len as usize, 0);
    stream.read_exact(&mut packet[4..]).await.ok()?;
    Some(packet)
}

async fn serve(mut proxy: TcpStream, server: u16, evils: &[Evil], done: &Visits) -> Option<()> {
    let mut first = packet(&mut proxy).await?;
    // SSLRequest: no TLS here.
    while first.len() == 8 {
        proxy.write_all(b"N").await.ok()?;
        first = packet(&mut proxy).await?;
    }
    let words: Vec<&[u8]> = first[8..].split(|byte| *byte == 0).collect();
    let user = words.chunks(2).find(|pair| pair[0] == b"user").map(|pair| pair[1]);
    let evil = evils.iter().find(|evil| Some(evil.name.as_bytes()) == user);
    if let Some(evil) = evil.filter(|evil| evil.moment == Moment::SigningIn) {
        *done.lock().unwrap().entry(evil.name).or_default() += 1;
        evil.say(&mut proxy).await;
        return Some(());
    }
    let mut real = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
    real.write_all(&first).await.ok()?;
    let (mut from_proxy, mut from_real) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            read = proxy.read(&mut from_proxy) => {
                let bytes = &from_proxy[..read.ok().filter(|len| *len > 0)?];
                let asked = bytes.windows(4).any(|four| four == b"evil");
                if let Some(evil) = evil.filter(|_| asked) {
                    *done.lock().unwrap().entry(evil.name).or_default() += 1;
                    drop(real.write_all(&frame(b'X', b"")).await);
                    evil.say(&mut proxy).await;
                    return Some(());
                }
                real.write_all(bytes).await.ok()?;
            }
            read = real.read(&mut from_real) => {
                let bytes = &from_real[..read.ok().filter(|len| *len > 0)?];
                proxy.write_all(bytes).await.ok()?;
            }
        }
    }
}
