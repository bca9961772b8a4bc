//! The promises of the consistency modes, held against what many sessions see while replay on the replicas is paused,
//! slowed and stopped at random; and the proof that the check can fail: `eventual` promises nothing, and breaks it.
//!
//! A few seconds per mode by default; `scripts/consistency` runs as long as one likes, and prints what was seen.

mod faults;
mod history;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use faults::{Disturbed, disturb};
use history::{Broken, Promise, What, is_beginning, violations};
use load::{Listed, Load, Notes, SETUP};

use crate::harness::{Cluster, LIMIT, Proxy, eventually};

/// What each mode promises. `session` leaves one thing out, which PostgreSQL does by itself: a replica shows a commit
/// before its primary does.
const SESSION: Promise = Promise { from_replica_to_primary: false, everyones: false };
const STRICT: Promise = Promise { from_replica_to_primary: true, everyones: false };
const GLOBAL: Promise = Promise { from_replica_to_primary: false, everyones: true };

/// How long each mode runs: `PRIMACY_CONSISTENCY_SECONDS`, else a few seconds.
fn duration() -> Duration {
    let given = std::env::var("PRIMACY_CONSISTENCY_SECONDS").ok();
    Duration::from_secs(given.map_or(4, |seconds| seconds.parse().expect("a number of seconds")))
}

/// The seed of this run: `PRIMACY_CONSISTENCY_SEED`, else drawn.
fn seed() -> u64 {
    let given = std::env::var("PRIMACY_CONSISTENCY_SEED").ok();
    given.map_or_else(|| fastrand::u64(0..1_000_000), |seed| seed.parse().expect("a number"))
}

/// A cluster with the tables in it, and everything replayed.
async fn cluster() -> Cluster {
    let cluster = Cluster::with_replicas(2).await;
    cluster.sql(0, SETUP).await;
    for replica in [1, 2] {
        cluster.caught_up(replica, 0).await;
    }
    cluster
}

async fn proxy(cluster: &Cluster, mode: &str) -> Proxy {
    let proxy = cluster.proxy().set("routing.consistency", mode).set("log.level", "info").run().await;
    let client = proxy.client().await;
    eventually(LIMIT, "the catalog is known and replicas serve", async || {
        let row = client.query_one("SELECT served_by()", &[]).await.ok()?;
        row.get::<_, &str>(0).ends_with('r').then_some(())
    })
    .await;
    proxy
}

/// Runs the load while replay is disturbed.
async fn run(cluster: &Cluster, proxy: &Proxy, seed: u64) -> (Notes, [Disturbed; 2]) {
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load { sessions: 12, duration: duration(), errors_happen: false, seed };
    let loaded = async {
        let notes = load.run(proxy).await;
        stop.store(true, Ordering::SeqCst);
        notes
    };
    let (notes, first, second) = tokio::join!(
        loaded,
        disturb(cluster, 1, seed ^ 1, Arc::clone(&stop)),
        disturb(cluster, 2, seed ^ 2, Arc::clone(&stop)),
    );
    (notes, [first, second])
}

/// The lists as they are at the end hold every acknowledged member in its place, and every list that was seen is a
/// beginning of them.
async fn check_lists(cluster: &Cluster, primary: usize, notes: &Notes) {
    let mut last = BTreeMap::new();
    for row in cluster.client(primary).await.query("SELECT key, members FROM lists", &[]).await.unwrap() {
        last.insert(row.get::<_, i32>(0).unsigned_abs(), row.get::<_, Vec<i64>>(1));
    }
    for listed in &notes.listed {
        match listed {
            Listed::Seen { list, members } => {
                assert!(is_beginning(members, &last[list]), "list {list} was seen as {members:?}");
            }
            Listed::Appended { list, place, member } => {
                assert_eq!(last[list].get(place - 1), Some(member), "an acknowledged member of list {list}");
            }
        }
    }
}

/// What was seen, by kind of broken promise.
fn report(mode: &str, seed: u64, notes: &Notes, broken: &BTreeMap<Broken, u32>) {
    let (mut writes, mut on_replicas, mut on_primary) = (0, 0, 0);
    for op in &notes.history {
        match op.what {
            What::Wrote(_) => writes += 1,
            What::Read { on_replica: true, .. } => on_replicas += 1,
            What::Read { .. } => on_primary += 1,
        }
    }
    eprintln!(
        "{mode}: {writes} writes, {on_replicas} reads on replicas, {on_primary} on the primary, {} lists read or \
         appended to; broken: {broken:?} (seed {seed})",
        notes.listed.len()
    );
    assert!(writes > 20 && on_replicas > 20, "{mode}: the run was worth nothing");
}

/// Counts what a promise's check finds, and says the first few.
fn broken(notes: &Notes, promise: Promise) -> BTreeMap<Broken, u32> {
    let found = violations(&notes.history, promise);
    for violation in found.iter().take(5) {
        eprintln!("  {violation}");
    }
    let mut counts = BTreeMap::new();
    for violation in found {
        *counts.entry(violation.broken).or_insert(0) += 1;
    }
    counts
}

async fn holds(mode: &str, promise: Promise) {
    let (cluster, seed) = (cluster().await, seed());
    let proxy = proxy(&cluster, mode).await;
    let (notes, disturbed) = run(&cluster, &proxy, seed).await;
    eprintln!("{mode}: replay {disturbed:?}");
    let broken = broken(&notes, promise);
    report(mode, seed, &notes, &broken);
    assert!(broken.is_empty(), "{mode} broke its promise (seed {seed}): {broken:?}");
    check_lists(&cluster, 0, &notes).await;
    // What the mode does not promise, for comparison: with `strict` there would be none.
    let back = violations(&notes.history, STRICT).len();
    eprintln!("{mode}: {back} reads on the primary were older than what a replica had shown their session");
}

#[tokio::test]
async fn session_sees_its_own_writes_and_never_goes_back_on_replicas() {
    holds("session", SESSION).await;
}

#[tokio::test]
async fn strict_never_goes_back_to_the_primary_either() {
    holds("strict", STRICT).await;
}

#[tokio::test]
async fn global_sees_what_anybody_was_told() {
    holds("global", GLOBAL).await;
}

#[tokio::test]
async fn eventual_breaks_what_it_does_not_promise() {
    let (cluster, seed) = (cluster().await, seed());
    let proxy = proxy(&cluster, "eventual").await;
    let kinds = [Broken::OwnWrite, Broken::BackOnReplica, Broken::Everyones];
    let mut seen = BTreeMap::new();
    // What is left to chance, on a machine that may be busy, gets more than one.
    for round in 0..8 {
        let (notes, disturbed) = run(&cluster, &proxy, seed + round).await;
        eprintln!("eventual: replay {disturbed:?}");
        let found = broken(&notes, GLOBAL);
        report("eventual", seed + round, &notes, &found);
        // What a replica shows was there once, however late it shows it.
        check_lists(&cluster, 0, &notes).await;
        seen.extend(found);
        if kinds.iter().all(|kind| seen.contains_key(kind)) {
            return;
        }
    }
    panic!("the check does not see all of {kinds:?}, but {seen:?} (seed {seed})");
}

/// The primary is killed in the middle, twice where there is time for it: what sessions were told and shown is not
/// taken back by the next primary or its replicas.
#[tokio::test]
async fn session_holds_when_the_primary_is_killed() {
    let (cluster, seed) = (cluster().await, seed());
    let proxy = proxy(&cluster, "session").await;
    let load =
        Load { sessions: 12, duration: duration() + Duration::from_secs(1), errors_happen: true, seed };
    let killed = async {
        tokio::time::sleep(duration() / 2).await;
        // One replica is far behind the other when the primary dies: who has read on the better one, which is promoted,
        // must not be shown less by the worse one.
        cluster.pause_replay(2).await;
        let behind = "SELECT pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 100000";
        eventually(LIMIT, "a replica is behind", async || {
            (cluster.value(2, behind).await == "t").then_some(())
        })
        .await;
        let dead = cluster.kill_primary().await;
        eprintln!("node{dead} killed");
        dead
    };
    // However long it takes until the replica is so far behind, the load goes on beyond the kill.
    let (notes, dead) = load.run_during(&proxy, killed).await;
    let primary = cluster.primary().await;
    assert_ne!(primary, dead);
    let mut errors = BTreeMap::new();
    for code in &notes.errors {
        *errors.entry(code.as_str()).or_insert(0) += 1;
    }
    eprintln!("session, primary killed: errors {errors:?}");
    let found = broken(&notes, SESSION);
    report("session, primary killed", seed, &notes, &found);
    assert!(found.is_empty(), "session broke its promise (seed {seed}): {found:?}");
    check_lists(&cluster, primary, &notes).await;
}
