//! Many clients and few server connections: whether everybody gets a turn, and how long they wait for it.

use std::time::Duration;

use primacy::clock;
use serde::Serialize;
use tokio_postgres::Client;

use super::Outcome;
use super::contender::{Contender, Mode};
use super::fleet;

/// Server connections that the crowd shares: the pool's size of every contender that has one.
pub(crate) const SERVERS: u32 = 50;

/// What each active client asks again and again. It runs on the primary, so that all contenders share as many server
/// connections, and it keeps one for a while, so that there is something to wait for.
const ASKED: &str = "/* primacy: primary */ SELECT pg_sleep(0.001)";

/// Statements that are begun earlier do not count: until all server connections are open, everybody waits for sign-ins, and
/// the first statement of each client would be more than a hundredth of all.
const WARM_UP: Duration = Duration::from_secs(1);

/// How a crowd fared.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Crowd {
    pub(crate) connected: usize,
    pub(crate) active: usize,
    pub(crate) statements: usize,
    pub(crate) errors: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) highest_ms: f64,
    /// Statements of the client that got the fewest, and of the one that got the most.
    pub(crate) fewest: usize,
    pub(crate) most: usize,
}

/// Connects a crowd, of which a tenth is active. `None` where a contender cannot hold it.
pub(crate) async fn measure(
    contender: &Contender,
    connected: usize,
    lasts: Duration,
) -> Outcome<Option<Crowd>> {
    let port = contender.port(Mode::Usual);
    if !contender.shares_server_connections() {
        return Ok(None);
    }
    fleet::allow_files(connected)?;
    let active = (connected / 10).max(1);
    eprintln!("bench: {connected} clients of {}, {active} of them active", contender.name());
    let clients = fleet::connect(&fleet::url(port.number), connected).await?;
    let counts_from = clock::now() + WARM_UP;
    let end = counts_from + lasts;
    let asking = clients.iter().take(active).map(|client| ask_until(client, counts_from, end));
    let ran: Vec<(Vec<f64>, usize)> = futures_util::future::join_all(asking).await;
    Ok(Some(summary(connected, &ran)))
}

/// Asks until the end; the milliseconds that each answer took to a statement that counts, and how many errors came.
async fn ask_until(
    client: &Client,
    counts_from: std::time::Instant,
    end: std::time::Instant,
) -> (Vec<f64>, usize) {
    let (mut took, mut errors) = (Vec::new(), 0);
    loop {
        let began = clock::now();
        if began >= end {
            return (took, errors);
        }
        match client.simple_query(ASKED).await {
            Ok(_) if began < counts_from => {}
            Ok(_) => took.push(clock::now().duration_since(began).as_secs_f64() * 1e3),
            Err(_) => errors += 1,
        }
    }
}

fn summary(connected: usize, ran: &[(Vec<f64>, usize)]) -> Crowd {
    let mut all: Vec<f64> = ran.iter().flat_map(|(took, _)| took.iter().copied()).collect();
    all.sort_by(f64::total_cmp);
    let at = |share: usize| all.get(all.len() * share / 100).or(all.last()).copied().unwrap_or_default();
    let turns = || ran.iter().map(|(took, _)| took.len());
    Crowd {
        connected,
        active: ran.len(),
        statements: all.len(),
        errors: ran.iter().map(|(_, errors)| errors).sum(),
        p50_ms: at(50),
        p99_ms: at(99),
        highest_ms: at(100),
        fewest: turns().min().unwrap_or_default(),
        most: turns().max().unwrap_or_default(),
    }
}
