//! The clients: what applications do, with a note of everything that they were told.

mod bank;
mod ledger;
mod lists;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

pub(super) use bank::SUM;

use super::history::Transaction;
use crate::clock;

/// No statement and no sign-in may take longer, whatever happens to the servers.
const STATEMENT_LIMIT: Duration = Duration::from_secs(40);

/// Between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// How many clients there are of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    /// Autocommitted inserts, each read back at once.
    pub ledger: u32,
    /// Serializable transactions on lists.
    pub lists: u32,
    /// Transfers between accounts.
    pub bank: u32,
}

/// What one autocommitted insert was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The unique number that was inserted.
    pub token: i64,
    /// Before its first byte was sent, in microseconds since the run began.
    pub begun: u64,
    /// After its answer.
    pub ended: u64,
    /// What it was told.
    pub end: super::history::End,
}

/// What the clients have seen.
#[derive(Debug, Default)]
pub struct Notes {
    /// Inserts.
    pub entries: Vec<Entry>,
    /// Transactions on lists.
    pub history: Vec<Transaction>,
    /// Reads that did not show what the same client had been told is there, each in words.
    pub stale: Vec<String>,
    /// Sums of all accounts that were wrong, each in words.
    pub wrong_sums: Vec<String>,
    /// Transfers that were acknowledged.
    pub transfers: u64,
    /// Errors by SQLSTATE.
    pub errors: BTreeMap<String, u64>,
    /// The first ones of each SQLSTATE, in words.
    pub examples: BTreeMap<String, Vec<String>>,
    /// Connections that broke, and when.
    pub broken: Vec<u64>,
}

/// The load, running.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

/// What the clients share.
#[derive(Debug)]
struct Shared {
    config: Config,
    begun: Instant,
    stop: AtomicBool,
    paused: AtomicBool,
    next: AtomicU64,
    notes: Mutex<Notes>,
}

impl Load {
    /// Makes the tables.
    pub async fn prepare(url: &Config) -> Result<(), tokio_postgres::Error> {
        let client = open(url).await?;
        for table in [ledger::TABLE, lists::TABLE, bank::TABLE] {
            client.batch_execute(table).await?;
        }
        Ok(())
    }

    /// Lets clients loose. Times are counted from `begun`.
    pub fn start(config: &Config, begun: Instant, clients: Clients) -> Self {
        let shared = Arc::new(Shared {
            config: config.clone(),
            begun,
            stop: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            next: AtomicU64::new(1),
            notes: Mutex::default(),
        });
        let mut running = JoinSet::new();
        for number in 0..clients.ledger {
            running.spawn(ledger::run(Session::new(&shared, number)));
        }
        for number in 0..clients.lists {
            running.spawn(lists::run(Session::new(&shared, clients.ledger + number)));
        }
        for number in 0..clients.bank {
            running.spawn(bank::run(Session::new(&shared, clients.ledger + clients.lists + number)));
        }
        Self { shared, clients: running }
    }

    /// Acknowledged inserts until now.
    pub fn acknowledged(&self) -> usize {
        self.shared.notes().entries.iter().filter(|entry| entry.end == super::history::End::Committed).count()
    }

    /// Has every client rest after what it does, or go on.
    pub fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::Relaxed);
    }

    /// Lets every client finish what it does, and gives what they have seen.
    pub async fn finish(mut self) -> Notes {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        std::mem::take(&mut *self.shared.notes())
    }
}

impl Shared {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn micros(&self) -> u64 {
        u64::try_from(clock::now().duration_since(self.begun).as_micros()).unwrap_or(u64::MAX)
    }
}

/// One client, that connects again whenever its connection breaks.
struct Session {
    shared: Arc<Shared>,
    number: u32,
    client: Option<Client>,
    dice: fastrand::Rng,
    /// Its last error, in a word.
    last_error: String,
}

/// How many errors of each SQLSTATE are told one by one.
const EXAMPLES_MAX: usize = 5;

/// Why a statement has no answer.
enum Failed {
    /// An error; the connection is usable.
    Error(tokio_postgres::Error),
    /// The connection is gone, or stuck.
    Broken,
}

impl Session {
    fn new(shared: &Arc<Shared>, number: u32) -> Self {
        Self {
            shared: Arc::clone(shared),
            number,
            client: None,
            dice: fastrand::Rng::new(),
            last_error: "none".to_owned(),
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn unique(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The connection, made if need be. `None`: the run is over.
    async fn client(&mut self) -> Option<&Client> {
        while self.shared.paused.load(Ordering::Relaxed) && !self.stopped() {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
        while self.client.is_none() && !self.stopped() {
            match open(&self.shared.config).await {
                Ok(client) => self.client = Some(client),
                Err(error) => {
                    self.note_error(&error);
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
        }
        self.client.as_ref().filter(|_| !self.stopped())
    }

    /// One statement on the connection that is there.
    async fn ask<T>(
        &mut self,
        statement: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failed> {
        let Some(client) = &self.client else { return Err(Failed::Broken) };
        match tokio::time::timeout(STATEMENT_LIMIT, statement(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                // The library notices the end of a connection a moment after it was told of a fatal error.
                let fatal = error.as_db_error().is_none_or(|db| db.severity() == "FATAL");
                let ended = fatal || client.is_closed();
                self.note_error(&error);
                if ended {
                    self.break_off();
                    return Err(Failed::Broken);
                }
                Err(Failed::Error(error))
            }
            Err(_elapsed) => {
                self.note("no answer", "");
                self.break_off();
                Err(Failed::Broken)
            }
        }
    }

    fn break_off(&mut self) {
        self.client = None;
        let at = self.shared.micros();
        self.shared.notes().broken.push(at);
    }

    fn note_error(&mut self, error: &tokio_postgres::Error) {
        let code = error.code().map_or("connection", |code| code.code());
        let text = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        self.note(code, &text);
    }

    fn note(&mut self, code: &str, text: &str) {
        let brief = format!("{code} at {} ms", self.shared.micros() / 1000);
        let last = std::mem::replace(&mut self.last_error, brief.clone());
        let mut notes = self.shared.notes();
        *notes.errors.entry(code.to_owned()).or_default() += 1;
        let examples = notes.examples.entry(code.to_owned()).or_default();
        if examples.len() < EXAMPLES_MAX {
            examples.push(format!("{brief}, client {}: {text} (the one before: {last})", self.number));
        }
    }
}

async fn open(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // It ends with the client; a failure shows in the statement that it interrupts.
        connection.await.ok();
    });
    Ok(client)
}

/// Whether an error leaves it open what became of the statement that committed.
fn is_doubtful(error: &tokio_postgres::Error) -> bool {
    error.code().is_none_or(|code| code.code().starts_with("08"))
}
