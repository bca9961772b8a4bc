//! Replay on the replicas is paused, slowed and stopped at random, and let go again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::Client;

use crate::harness::Cluster;

/// What was done to replay, for the report.
#[derive(Debug, Default)]
pub(crate) struct Disturbed {
    pub(crate) pauses: u32,
    pub(crate) delays: u32,
    pub(crate) stops: u32,
}

/// One replica whose replay is disturbed until `stop` is set; at the end it is let go.
pub(crate) async fn disturb(
    cluster: &Cluster,
    replica: usize,
    seed: u64,
    stop: Arc<AtomicBool>,
) -> Disturbed {
    let client = cluster.client(replica).await;
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut done = Disturbed::default();
    while !stop.load(Ordering::SeqCst) {
        match dice.u32(0..4) {
            0 => {
                done.pauses += 1;
                run(&client, "SELECT pg_wal_replay_pause()").await;
                rest(&mut dice, 20..300).await;
                run(&client, "SELECT pg_wal_replay_resume()").await;
            }
            1 => {
                done.delays += 1;
                let delay = dice.u32(5..150);
                run(&client, &format!("ALTER SYSTEM SET recovery_min_apply_delay = '{delay}ms'")).await;
                run(&client, "SELECT pg_reload_conf()").await;
                rest(&mut dice, 100..400).await;
                run(&client, "ALTER SYSTEM RESET recovery_min_apply_delay").await;
                run(&client, "SELECT pg_reload_conf()").await;
            }
            2 => {
                done.stops += 1;
                stop_startup(&client, Duration::from_millis(dice.u64(2..120))).await;
            }
            _ => {}
        }
        rest(&mut dice, 0..200).await;
    }
    done
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn rest(dice: &mut fastrand::Rng, between_ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(dice.u64(between_ms))).await;
}

/// Freezes the process that replays, for a moment: that is a replica that is too busy.
async fn stop_startup(client: &Client, moment: Duration) {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'";
    let pid = Pid::from_raw(client.query_one(sql, &[]).await.unwrap().get(0));
    kill(pid, Signal::SIGSTOP).unwrap();
    tokio::time::sleep(moment).await;
    kill(pid, Signal::SIGCONT).unwrap();
}
