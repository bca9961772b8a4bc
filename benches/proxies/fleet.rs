//! Many clients that do nothing: what each costs in memory, and what its sign-in cost.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use tokio_postgres::{Client, NoTls};

use super::Outcome;
use super::contender::{Contender, Mode};
use super::process;

/// Sign-ins under way at one time.
const AT_ONCE: usize = 32;

/// What a number of idle clients costs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Fleet {
    pub(crate) clients: usize,
    /// Resident memory, over what was there without clients, for each of them.
    pub(crate) bytes_per_client: f64,
    /// CPU time of the contender for each sign-in (SCRAM).
    pub(crate) sign_in_us: f64,
}

/// Connects clients in steps; each runs one statement and then rests. Empty where a contender cannot hold them.
pub(crate) async fn measure(contender: &Contender, clients_max: usize) -> Outcome<Vec<Fleet>> {
    let port = contender.port(Mode::Usual);
    let Some(pid) = port.pid.filter(|_| contender.shares_server_connections()) else { return Ok(Vec::new()) };
    allow_files(clients_max)?;
    let url = url(port.number);
    // Buffers and tables that the first clients make are there for all.
    drop(connect(&url, 50).await?);
    let empty = process::resident_bytes(pid)?;
    let mut fleets = Vec::new();
    let mut clients: Vec<Client> = Vec::new();
    for step in [1_000, 10_000].into_iter().filter(|step| *step <= clients_max) {
        eprintln!("bench: {step} idle clients of {}", contender.name());
        let more = step - clients.len();
        let before = process::cpu(pid)?;
        clients.extend(connect(&url, more).await?);
        let spent = process::cpu(pid)?.saturating_sub(before);
        stream::iter(&clients).map(Ok).try_for_each_concurrent(AT_ONCE, ask).await?;
        let held = process::resident_bytes(pid)?.saturating_sub(empty);
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers of clients and bytes of one process are small"
        )]
        fleets.push(Fleet {
            clients: step,
            bytes_per_client: held as f64 / step as f64,
            sign_in_us: spent.as_secs_f64() * 1e6 / more as f64,
        });
    }
    drop(clients);
    Ok(fleets)
}

async fn ask(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.simple_query("SELECT 1").await.map(drop)
}

/// How to reach a port as the role `app`.
pub(crate) fn url(port: u16) -> String {
    format!("host=127.0.0.1 port={port} user=app password=app dbname=app sslmode=disable")
}

/// Lets this process open so many connections.
pub(crate) fn allow_files(clients_max: usize) -> Outcome<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let needed = clients_max as u64 + 1000;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard)?)
}

pub(crate) async fn connect(url: &str, count: usize) -> Outcome<Vec<Client>> {
    let one = |_| async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        drop(tokio::spawn(connection));
        Ok::<_, tokio_postgres::Error>(client)
    };
    Ok(stream::iter(0..count).map(one).buffer_unordered(AT_ONCE).try_collect().await?)
}
