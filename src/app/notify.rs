//! The service manager (systemd's protocol): sockets that it has opened, readiness, the watchdog. Does nothing elsewhere.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Proxy;
use super::handover::sort;
use crate::proxy::listener::Inherited;
use crate::proxy::worker::Command;

/// The sockets of socket activation, where there are any.
pub(super) fn sockets() -> Inherited {
    let mut inherited = Inherited::default();
    let mut given = listenfd::ListenFd::from_env();
    for index in 0..given.len() {
        // Either kind is taken for TCP first and then sorted by its address.
        match given.take_tcp_listener(index) {
            Ok(Some(socket)) => sort(&mut inherited, socket.into()),
            Ok(None) => {}
            Err(_other) => match given.take_unix_listener(index) {
                Ok(Some(socket)) => sort(&mut inherited, socket.into()),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, index, "a socket of the service manager cannot be used"),
            },
        }
    }
    inherited
}

/// Ends the watchdog's signs of life when it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog(Option<tokio::task::JoinHandle<()>>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Says that this process serves, and that it is the main one from now on; keeps the watchdog quiet while every part lives.
pub(super) fn ready(proxy: &Proxy) -> Watchdog {
    tell(&format!("MAINPID={}\nREADY=1\nSTATUS=serving\n", std::process::id()));
    let Some(every) = watchdog_every() else { return Watchdog(None) };
    let (control, workers) = (proxy.control.clone(), proxy.workers.shared.workers.clone());
    Watchdog(Some(tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            let alive = async {
                control.status().await.ok()?;
                for worker in &workers {
                    let (tell, told) = oneshot::channel();
                    worker.send(Command::Pulse(tell)).await.ok()?;
                    told.await.ok()?;
                }
                Some(())
            };
            if matches!(tokio::time::timeout(every, alive).await, Ok(Some(()))) {
                tell("WATCHDOG=1\n");
            } else {
                tracing::error!(
                    "a part of this process does not answer: the watchdog is not told that all is well"
                );
            }
        }
    })))
}

/// Says that this process is leaving, which the service manager gives a limited time.
pub(super) fn stopping() {
    tell("STOPPING=1\n");
}

/// Half of what the service manager allows between two signs of life; `None` where it wants none.
fn watchdog_every() -> Option<Duration> {
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros / 2))
}

fn tell(text: &str) {
    let Some(place) = variable("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&place, text) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn send(place: &str, text: &str) -> io::Result<()> {
    let address = match place.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(place)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[expect(clippy::disallowed_methods, reason = "the service manager speaks through the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
