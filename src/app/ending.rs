//! The end of the process: nobody new is let in; the clients that are there leave as it was asked for; a second signal hurries
//! them.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Proxy;
use super::notify::{self, Watchdog};
use crate::proxy::listener::Ending;

impl Proxy {
    /// Ends: running transactions finish, then the control plane.
    pub async fn stop(self) {
        self.end(Ending::Transactions, None).await;
    }

    /// Ends as it says. The watchdog is kept quiet as long as clients are waited for.
    pub(super) async fn end(mut self, ending: Ending, watchdog: Option<Watchdog>) {
        // Nobody may wait in the queue of a socket that nobody accepts from any more: these refuse, or a successor has them too.
        self.sockets = None;
        if ending == Ending::HandedOver {
            self.http.send_replace(true);
            self.workers.leave_socket_file();
        }
        let mut hurry = Hurry::listen();
        if let Some(limit) = self.waits_for_clients(ending) {
            tracing::info!(
                clients = self.workers.connections(),
                "nobody new is let in; clients stay until they leave"
            );
            self.workers.close_door().await;
            hurry.or(self.workers.ended(limit)).await;
            tracing::info!(clients = self.workers.connections(), "the last clients are leaving");
        }
        if ending != Ending::HandedOver {
            notify::stopping();
        }
        drop(watchdog);
        if ending != Ending::Now {
            let limit = self.workers.shared.settings.load().limits.drain_timeout;
            self.workers.drain().await;
            hurry.or(self.workers.ended(limit)).await;
        }
        self.workers.stop().await;
        self.http.send_replace(true);
        self.stop.send_replace(true);
        drop((self.control, self.running));
        drop(tokio::time::timeout(Duration::from_secs(2), self.control_ended).await);
    }

    /// How long clients may stay as they like.
    fn waits_for_clients(&self, ending: Ending) -> Option<Duration> {
        match ending {
            Ending::Now | Ending::Transactions => None,
            Ending::Clients => Some(Duration::MAX),
            Ending::HandedOver => Some(self.workers.shared.settings.load().limits.handover_timeout),
        }
    }
}

/// Signals that come while the process is ending already.
struct Hurry(io::Result<(Signal, Signal)>);

impl Hurry {
    fn listen() -> Self {
        let signals = signal(SignalKind::terminate())
            .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
        Self(signals)
    }

    /// Waits for `ended`, or until somebody is in a hurry.
    async fn or(&mut self, ended: impl Future<Output = bool>) {
        let Ok((terminate, interrupt)) = &mut self.0 else {
            ended.await;
            return;
        };
        tokio::select! {
            _ = ended => {}
            _ = terminate.recv() => tracing::info!("told again to stop: not waiting any longer"),
            _ = interrupt.recv() => tracing::info!("told again to stop: not waiting any longer"),
        }
    }
}
