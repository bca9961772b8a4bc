//! What is done to the cluster, and how it is undone.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::arena::{Arena, ArenaError};
use super::relay::Link;
use crate::clock;
use crate::postgres::{Instance, StopMode};

/// How long a state that does not end by itself is kept up.
const KEPT: Duration = Duration::from_secs(3);

/// The second blow of `double` comes so much later.
const SECOND_BLOW: Duration = Duration::from_millis(50);

const POLL: Duration = Duration::from_millis(20);

const STOP_LIMIT: Duration = Duration::from_secs(20);

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of the primary's postmaster.
    Kill,
    /// kill -9 of a replica's postmaster.
    KillReplica,
    /// kill -9 of one of the primary's backends: the whole server restarts.
    Backend,
    /// SIGSTOP of the primary, all its processes; woken later.
    Stop,
    /// SIGSTOP of a replica, woken later.
    StopReplica,
    /// The primary is shut down at once.
    Immediate,
    /// The primary is shut down in order.
    Fast,
    /// The link between proxy and primary falls silent; the replicas still hear the primary.
    Partition,
    /// The proxy does not hear the primary, but is heard.
    OneWay,
    /// Replay is paused on a replica.
    Replay,
    /// kill -9 of primacy; it is started again at once.
    Proxy,
    /// kill -9 of the primary, and of primacy in the middle of the failover.
    ProxyToo,
    /// kill -9 of the primary, and 50 ms later of a replica.
    Double,
    /// kill -9 of the primary, and of the next one before the first is back.
    Chase,
    /// kill -9 of the primary while the proxy cannot reach the one replica that has the last commits.
    Ahead,
    /// A planned switchover.
    Switchover,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 16] = [
        Self::Kill,
        Self::KillReplica,
        Self::Backend,
        Self::Stop,
        Self::StopReplica,
        Self::Immediate,
        Self::Fast,
        Self::Partition,
        Self::OneWay,
        Self::Replay,
        Self::Proxy,
        Self::ProxyToo,
        Self::Double,
        Self::Chase,
        Self::Ahead,
        Self::Switchover,
    ];

    /// The word of the command line and of reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillReplica => "kill-replica",
            Self::Backend => "backend",
            Self::Stop => "stop",
            Self::StopReplica => "stop-replica",
            Self::Immediate => "immediate",
            Self::Fast => "fast",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Replay => "replay",
            Self::Proxy => "proxy",
            Self::ProxyToo => "proxy-too",
            Self::Double => "double",
            Self::Chase => "chase",
            Self::Ahead => "ahead",
            Self::Switchover => "switchover",
        }
    }

    /// Whether a change of primary is right (`Some(true)`), wrong (`Some(false)`), or either way allowed.
    pub fn promotes(self) -> Option<bool> {
        match self {
            Self::Kill | Self::Immediate | Self::Stop | Self::ProxyToo | Self::Switchover => Some(true),
            // The primary is alive, and its replicas know: whoever promoted then would split the cluster.
            Self::Partition
            | Self::OneWay
            | Self::KillReplica
            | Self::StopReplica
            | Self::Replay
            | Self::Proxy => Some(false),
            // With two of three servers down, or out of reach, nobody may be promoted; the primary, started again, goes on.
            Self::Backend | Self::Fast | Self::Double | Self::Chase | Self::Ahead => None,
        }
    }

    /// Whether clients lose their connections: to a proxy that is killed, nothing can be kept open.
    pub fn breaks_connections(self) -> bool {
        matches!(self, Self::Proxy | Self::ProxyToo)
    }

    /// Whether writes cannot go on while it lasts.
    pub fn lasts(self) -> bool {
        matches!(self, Self::Partition | Self::OneWay)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|fault| fault.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no fault; there are: {}", known()))
    }
}

/// A blow that fell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Struck {
    /// On which node.
    pub(super) node: usize,
    /// Just before.
    pub(super) at: Instant,
}

/// Strikes. `None`: there was nothing to strike at.
pub(super) async fn strike(
    arena: &mut Arena,
    fault: Fault,
    dice: &mut fastrand::Rng,
) -> Result<Option<Struck>, ArenaError> {
    let Some(primary) = arena.primary().await else { return Ok(None) };
    let replicas: Vec<usize> = (0..arena.nodes().len()).filter(|node| *node != primary).collect();
    let replica = dice.choice(&replicas).copied();
    let node = match fault {
        Fault::KillReplica | Fault::StopReplica | Fault::Replay => replica,
        _ => Some(primary),
    };
    let Some(at) = node else { return Ok(None) };
    if fault == Fault::Ahead {
        let Some(replica) = replica else { return Ok(None) };
        leave_one_ahead(arena, &replicas, replica).await;
    }
    let Some(server) = arena.nodes().get(at) else { return Ok(None) };
    let begun = clock::now();
    match fault {
        Fault::Kill | Fault::KillReplica | Fault::Ahead => kill_postmaster(server),
        Fault::Backend => kill_backend(arena, at).await?,
        Fault::Stop | Fault::StopReplica => server.freeze(true),
        Fault::Immediate => server.stop(StopMode::Immediate, STOP_LIMIT).await?,
        Fault::Fast => server.stop(StopMode::Fast, STOP_LIMIT).await?,
        Fault::Partition => set(arena, at, Link::Silent),
        Fault::OneWay => set(arena, at, Link::NoAnswers),
        Fault::Replay => replay(arena, at, "pg_wal_replay_pause").await?,
        Fault::Proxy => arena.kill_demo()?,
        Fault::ProxyToo => {
            kill_postmaster(server);
            // Anywhere between the first suspicion and the last step.
            tokio::time::sleep(Duration::from_millis(dice.u64(0..120))).await;
            arena.kill_demo()?;
        }
        Fault::Double => {
            kill_postmaster(server);
            tokio::time::sleep(SECOND_BLOW).await;
            if let Some(second) = replica.and_then(|replica| arena.nodes().get(replica)) {
                kill_postmaster(second);
            }
        }
        Fault::Chase => {
            kill_postmaster(server);
            let next = next_primary(arena, at).await;
            // At any moment of the first one's return.
            tokio::time::sleep(Duration::from_millis(dice.u64(0..4000))).await;
            if let Some(next) = next.and_then(|next| arena.nodes().get(next)) {
                kill_postmaster(next);
            }
        }
        Fault::Switchover => {
            if let Err(why) = arena.switchover().await {
                tracing::warn!(why, "the switchover was refused");
                return Ok(None);
            }
        }
    }
    if fault == Fault::Ahead {
        // The others have missed the last commits; they are there again, and the one that has them is out of reach.
        replicas.iter().filter_map(|replica| arena.nodes().get(*replica)).for_each(|node| node.freeze(false));
    }
    Ok(Some(Struck { node: at, at: begun }))
}

/// Cuts one replica off from the proxy, and freezes the others for a moment in which only that one acknowledges commits.
async fn leave_one_ahead(arena: &Arena, replicas: &[usize], ahead: usize) {
    set(arena, ahead, Link::Silent);
    for other in replicas.iter().filter(|replica| **replica != ahead) {
        if let Some(server) = arena.nodes().get(*other) {
            server.freeze(true);
        }
    }
    tokio::time::sleep(SECOND_BLOW * 4).await;
}

/// Undoes what does not end by itself.
pub(super) async fn heal(arena: &mut Arena, fault: Fault, node: usize) -> Result<(), ArenaError> {
    match fault {
        Fault::Stop | Fault::StopReplica => {
            tokio::time::sleep(KEPT).await;
            if let Some(server) = arena.nodes().get(node) {
                server.freeze(false);
            }
        }
        Fault::Partition | Fault::OneWay => {
            tokio::time::sleep(KEPT).await;
            set(arena, node, Link::Whole);
        }
        Fault::Ahead => {
            tokio::time::sleep(KEPT).await;
            (0..arena.nodes().len()).for_each(|node| set(arena, node, Link::Whole));
        }
        Fault::Replay => {
            tokio::time::sleep(KEPT).await;
            replay(arena, node, "pg_wal_replay_resume").await?;
        }
        Fault::Proxy | Fault::ProxyToo => arena.start_demo().await?,
        _ => {}
    }
    Ok(())
}

/// Waits for another primary than this.
async fn next_primary(arena: &Arena, last: usize) -> Option<usize> {
    let deadline = clock::now() + KEPT;
    while clock::now() < deadline {
        match arena.primary().await {
            Some(next) if next != last => return Some(next),
            _ => tokio::time::sleep(POLL).await,
        }
    }
    None
}

fn kill_postmaster(server: &Instance) {
    if let Some(pid) = server.running() {
        // One that has ended meanwhile is as dead.
        kill(pid, Signal::SIGKILL).ok();
    }
}

/// One of the proxy's own sessions, in the middle of whatever it does.
async fn kill_backend(arena: &Arena, node: usize) -> Result<(), ArenaError> {
    let client = arena.superuser_on(node).await?;
    let sessions =
        "SELECT pid FROM pg_stat_activity WHERE usename = 'app' ORDER BY state = 'active' DESC LIMIT 1";
    if let Ok(Some(row)) = client.query_opt(sessions, &[]).await {
        kill(nix::unistd::Pid::from_raw(row.get(0)), Signal::SIGKILL).ok();
    }
    Ok(())
}

async fn replay(arena: &Arena, node: usize, function: &str) -> Result<(), ArenaError> {
    let client = arena.superuser_on(node).await?;
    // A server that was promoted meanwhile replays nothing; that is as good.
    client.batch_execute(&format!("SELECT {function}()")).await.ok();
    Ok(())
}

fn set(arena: &Arena, node: usize, link: Link) {
    if let Some(relay) = arena.relay(node) {
        relay.set(link);
    }
}
