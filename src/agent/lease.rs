//! The lease: a primary that primacy has not vouched for in too long is stopped.
//!
//! Off unless its configuration says after how long. Under quorum commit nothing acknowledged depends on it; it bounds how
//! long a primary that primacy has lost sight of goes on taking writes where commits wait for nobody. The time is this
//! machine's monotonic clock, which stands still while a virtual machine is paused: that is no fence against a paused one.

use std::time::{Duration, Instant};

use super::keeper::Keeper;
use crate::clock;
use crate::postgres::StopMode;

const POLL: Duration = Duration::from_millis(100);

/// Watches over the lease for as long as the agent runs.
pub(super) async fn watch(keeper: &Keeper) {
    let Some(limit) = keeper.settings().fence_after else { return std::future::pending().await };
    // A restarted agent does not know how old the last lease is: it counts from its own start.
    let started = clock::now();
    loop {
        tokio::time::sleep(POLL).await;
        if keeper.leased() && run_out(keeper.renewed_at().unwrap_or(started), clock::now(), limit) {
            fence(keeper).await;
        }
    }
}

fn run_out(renewed: Instant, now: Instant, limit: Duration) -> bool {
    now.duration_since(renewed) >= limit
}

/// Stops a primary; a standby takes no writes.
async fn fence(keeper: &Keeper) {
    let server = keeper.instance();
    if server.is_standby() || server.running().is_none() {
        return;
    }
    tracing::error!("primacy has not renewed the lease: stopping the server");
    let noted = keeper.note_fenced(true);
    let stopped = server.stop(StopMode::Immediate, keeper.settings().limits.stop / 2).await;
    let stopped = match stopped {
        Ok(()) => Ok(()),
        Err(_) => server.kill(keeper.settings().limits.stop / 2).await,
    };
    if let Err(error) = stopped {
        tracing::error!(%error, "the server could not be stopped; trying again");
    }
    if let Err(error) = noted {
        tracing::error!(%error, "the journal could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_runs_out_at_its_limit_and_not_before() {
        let now = clock::now();
        let limit = Duration::from_secs(3);
        assert!(!run_out(now, now + Duration::from_millis(2999), limit));
        assert!(run_out(now, now + limit, limit));
    }
}
