//! Taking clients from the listening sockets. Out of descriptors the kernel would have us spin: each failure is followed
//! by a moment's rest in which others finish. The log hears of the first, and of how it ended.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, UnixListener};
use tokio::task::spawn_local;

use super::login::LoginContext;
use super::stream::{Stream, gives_options};
use super::worker::Worker;
use crate::clock;

/// The rest.
const REST: Duration = Duration::from_millis(100);

/// The log hears no more often of it: at the limit one descriptor may come free and be taken again and again.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Failures of one socket.
#[derive(Debug, Default)]
struct Failing {
    told: Option<Instant>,
    /// The log has heard of it, and not yet of its end.
    open: bool,
}

impl Failing {
    async fn failed(&mut self, error: &io::Error) {
        let now = clock::now();
        if self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            self.open = true;
            tracing::warn!(
                %error,
                "cannot accept clients; those who are in are served, others wait (open files: LimitNOFILE, ulimit -n)"
            );
        }
        tokio::time::sleep(REST).await;
    }

    fn worked(&mut self) {
        if std::mem::take(&mut self.open) {
            tracing::info!("clients are accepted again");
        }
    }
}

pub(super) async fn tcp(worker: Rc<Worker>, listener: TcpListener, login: Arc<LoginContext>) {
    let mut failing = Failing::default();
    let inherits = gives_options(&listener);
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                failing.worked();
                match Stream::accepted(socket, inherits) {
                    Ok(stream) => {
                        let from = (stream, Some(peer));
                        spawn_local(super::client::serve(Rc::clone(&worker), from, Arc::clone(&login)));
                    }
                    Err(error) => tracing::debug!(%error, "a client was gone before it was accepted"),
                }
            }
            Err(error) => failing.failed(&error).await,
        }
    }
}

pub(super) async fn unix(worker: Rc<Worker>, listener: UnixListener, login: Arc<LoginContext>) {
    let mut failing = Failing::default();
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                failing.worked();
                let from = (Stream::from(socket), None);
                spawn_local(super::client::serve(Rc::clone(&worker), from, Arc::clone(&login)));
            }
            Err(error) => failing.failed(&error).await,
        }
    }
}
