//! Replication connections (`replication=database` and `replication=true`): each gets a server connection of its own to
//! the primary, and from the greeting on bytes go both ways as they are.
//!
//! Nothing here can be pooled, split or moved: a walsender's state is its connection, its messages may come from both
//! sides at any time (manual, 55.4 and 55.5), and only the primary has the publisher's slots. When the primary changes the connection ends,
//! as it would have done with the server; replication clients connect again by themselves.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::client::Farewell;
use super::handle::{Doing, Handle, Held, Kick};
use super::hang_ups::HangUps;
use super::links::NodeLink;
use super::login::Admitted;
use super::server::{self, ConnectError, Connected, SignIn};
use super::stream::Stream;
use super::worker::Worker;
use crate::clock;
use crate::model::{Epoch, NodeId};
use crate::observe::Origin;
use crate::session::{ClientError, Pins};
use crate::sql::PinCause;
use crate::wire::{HEADER_LEN, Header, TxStatus, encode};

/// Bytes that are under way in one direction at most.
const CHUNK_LEN: usize = 64 * 1024;

/// How long after a failed attempt the primary is tried again, where nothing else changes.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A client gets this long to take the last bytes.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// A server connection that speaks the replication protocol.
#[derive(Debug)]
pub(super) struct Tunnel {
    server: Connected,
    node: NodeId,
    epoch: Epoch,
}

impl Tunnel {
    /// Signs in on the primary as this client, with its own settings; waits for a primary within the sign-in time.
    pub(super) async fn open(worker: &Worker, client: &Admitted) -> Result<Self, Farewell> {
        let limit = worker.shared.settings.load().limits.login_timeout;
        let opening = Self::open_on_primary(worker, client);
        let within = if limit.is_zero() { Duration::MAX } else { limit };
        let late = Farewell::Error(ClientError::NoPrimary { waited: limit });
        tokio::time::timeout(within, opening).await.unwrap_or(Err(late))
    }

    async fn open_on_primary(worker: &Worker, client: &Admitted) -> Result<Self, Farewell> {
        let mut startup = client.params.clone();
        startup.extend(client.replication.iter().map(|mode| ("replication".to_owned(), mode.clone())));
        let who = SignIn {
            user: &client.user,
            database: &client.database,
            startup: &startup,
            credential: &client.credential,
        };
        let deadline = worker.shared.settings.load().pool.connect_timeout;
        let mut changes = worker.board().changes();
        let mut hang_ups = HangUps::default();
        loop {
            changes.mark_unchanged();
            let (primary, epoch) = {
                let snapshot = worker.board().snapshot();
                (snapshot.writable_primary(), snapshot.epoch)
            };
            if let Some((node, link)) = primary.and_then(|node| Some((node, worker.shared.links.get(node)?)))
            {
                let started = clock::now();
                match server::connect(&link.node, &link.tls, &who, deadline).await {
                    Ok(server) => {
                        worker.meter.server_opened(node, clock::now().duration_since(started));
                        worker.meter.server_leased(node);
                        return Ok(Self { server, node, epoch });
                    }
                    Err(error) => {
                        worker.meter.server_open_failed(node);
                        failed(worker, (node, &link), client, (error, &mut hang_ups))?;
                    }
                }
            }
            drop(tokio::time::timeout(RETRY_PAUSE, changes.changed()).await);
        }
    }

    /// AuthenticationOk to ReadyForQuery as this server says it, but with a key for cancel requests of ours.
    pub(super) fn greet(&self, handle: &Handle, out: &mut Vec<u8>) {
        encode::auth_ok(out);
        for (name, value) in &self.server.params {
            encode::parameter_status(out, name.as_bytes(), value.as_bytes());
        }
        encode::backend_key_data(out, handle.pid, &handle.secret);
        encode::ready(out, TxStatus::Idle);
    }

    /// Carries bytes both ways until one side has enough, the primary changes or the proxy stops; `ahead` is what the client
    /// has sent already.
    pub(super) async fn run(self, worker: &Worker, handle: &Rc<Handle>, (client, ahead): (Stream, &[u8])) {
        let mut pins = Pins::default();
        pins.add(PinCause::Replication);
        handle.set_pins(pins);
        worker.meter.pinned(PinCause::Replication);
        // Never idle: the time limits are for sessions that hold something up.
        handle.set_doing(Doing::Active, worker.coarse_now());
        handle.set_held(Some(Held {
            node: self.node,
            epoch: self.epoch,
            key: (self.server.pid, Rc::from(self.server.secret.as_slice())),
            cancels: Rc::default(),
            opened: clock::now(),
            tls: self.server.stream.is_tls(),
        }));
        let (client_read, mut client_write) = tokio::io::split(client);
        let (server_read, server_write) = tokio::io::split(self.server.stream);
        let mut told = Boundary::default();
        let ended = tokio::select! {
            () = carry(ahead.chain(client_read), server_write) => None,
            () = carry_counted(server_read, &mut client_write, &mut told) => None,
            error = poll_fn(|cx| poll_end(handle, self.epoch < worker.board().snapshot().epoch, cx)) => Some(error),
        };
        handle.set_held(None);
        worker.meter.server_returned(self.node);
        worker.meter.server_closed(self.node);
        let mut farewell = Vec::new();
        if let Some(error) = ended {
            worker.meter.error(Origin::Proxy, error.sqlstate());
            // In the middle of a message nothing can be said.
            if told.is_between_messages() {
                error.encode_fatal(&mut farewell);
            }
        }
        let saying = async {
            client_write.write_all(&farewell).await?;
            client_write.shutdown().await
        };
        if !matches!(tokio::time::timeout(FAREWELL_TIMEOUT, saying).await, Ok(Ok(()))) {
            tracing::debug!("a replication client left before it was told why its connection ends");
        }
    }
}

/// A failed attempt: fatal for the client, or worth another one.
fn failed(
    worker: &Worker,
    (node, link): (NodeId, &NodeLink),
    client: &Admitted,
    (error, hang_ups): (ConnectError, &mut HangUps),
) -> Result<(), Farewell> {
    if error.node_is_suspect() {
        worker.board().suspect(node);
        let ended = hang_ups.one_too_many((node, &link.node.name), &error, worker.board());
        return ended.map_or(Ok(()), |ended| Err(Farewell::Error(ended)));
    }
    tracing::warn!(node = %link.node.name, user = %client.user, %error, "cannot open a replication connection");
    if error.credential_is_doubtful() {
        worker.shared.verifiers.distrust(&client.user);
    }
    let fault = error.fault();
    match error {
        ConnectError::Refused { frame, .. } => Err(Farewell::Server(frame)),
        _ => Err(Farewell::Error(ClientError::ServerSignIn {
            node: link.node.name.to_string(),
            user: client.user.clone(),
            fault,
        })),
    }
}

/// Ready with the reason when the connection must end.
fn poll_end(handle: &Handle, primary_changed: bool, cx: &Context<'_>) -> Poll<ClientError> {
    handle.register(cx);
    if handle.has(Kick::Killed) {
        return Poll::Ready(ClientError::Killed);
    }
    if handle.has(Kick::Drain) {
        return Poll::Ready(ClientError::Drain);
    }
    if primary_changed || handle.has(Kick::Fenced) {
        return Poll::Ready(ClientError::SessionLost { pin: PinCause::Replication.as_str() });
    }
    Poll::Pending
}

/// Copies until the end of what there is to read, or an error on either side.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: WriteHalf<Stream>) {
    let mut chunk = vec![0; CHUNK_LEN];
    while let Ok(len @ 1..) = from.read(&mut chunk).await {
        let bytes = chunk.get(..len).unwrap_or_default();
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// The same towards the client, noting where its messages end.
async fn carry_counted(mut from: ReadHalf<Stream>, to: &mut WriteHalf<Stream>, told: &mut Boundary) {
    let mut chunk = vec![0; CHUNK_LEN];
    while let Ok(len @ 1..) = from.read(&mut chunk).await {
        let bytes = chunk.get(..len).unwrap_or_default();
        // Should the write be given up in its middle, nobody knows what the client has seen.
        let sent = std::mem::replace(told, Boundary::Lost).after(bytes);
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
        *told = sent;
    }
}

/// Where in the stream of messages a side is.
#[derive(Debug, PartialEq, Eq)]
enum Boundary {
    /// In a header of which so many bytes have come; none: between two messages.
    Header([u8; HEADER_LEN], usize),
    /// In a body of which so many bytes are missing.
    Body(usize),
    /// Nobody knows.
    Lost,
}

impl Default for Boundary {
    fn default() -> Self {
        Self::Header([0; HEADER_LEN], 0)
    }
}

impl Boundary {
    fn is_between_messages(&self) -> bool {
        matches!(self, Self::Header(_, 0))
    }

    fn after(self, mut bytes: &[u8]) -> Self {
        let mut now = self;
        while !bytes.is_empty() {
            match &mut now {
                Self::Lost => return Self::Lost,
                Self::Body(left) => {
                    let taken = bytes.len().min(*left);
                    bytes = bytes.get(taken..).unwrap_or_default();
                    *left -= taken;
                    if *left == 0 {
                        now = Self::default();
                    }
                }
                Self::Header(header, have) => {
                    let taken = bytes.len().min(HEADER_LEN - *have);
                    for (to, from) in header.iter_mut().skip(*have).zip(bytes.iter().take(taken)) {
                        *to = *from;
                    }
                    bytes = bytes.get(taken..).unwrap_or_default();
                    *have += taken;
                    if *have == HEADER_LEN {
                        now = match Header::peek(header) {
                            Ok(Some(Header { len: HEADER_LEN, .. })) => Self::default(),
                            Ok(Some(Header { len, .. })) => Self::Body(len - HEADER_LEN),
                            Ok(None) | Err(_) => return Self::Lost,
                        };
                    }
                }
            }
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_the_stream_is_the_same_however_it_is_cut() {
        let mut stream = Vec::new();
        encode::ready(&mut stream, TxStatus::Idle);
        encode::auth_ok(&mut stream);
        stream.extend_from_slice(b"c\0\0\0\x04");
        let ends = [6, 15, 20];
        for size in 1..=stream.len() {
            let (mut place, mut at) = (Boundary::default(), 0);
            for chunk in stream.chunks(size) {
                place = place.after(chunk);
                at += chunk.len();
                assert_eq!(place.is_between_messages(), ends.contains(&at), "cut in {size}, at {at}");
            }
        }
        let lost = Boundary::default().after(b"Z\0\0\0\0....");
        assert_eq!(lost, Boundary::Lost, "a length that no message has");
    }
}
