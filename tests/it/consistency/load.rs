//! Many sessions that write and read registers and append to lists, and write down what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error};

use super::history::{Key, Op, What};
use crate::harness::Proxy;

/// Few keys, so that sessions meet.
const REGISTERS: Key = 6;
const LISTS: Key = 3;

/// Every other single write is to this register.
const HOT: Key = 0;

/// A list longer than this is left alone: reading it would be all that happens.
const LIST_MAX: i32 = 2_000;

/// What the servers hold before the sessions begin. The name of the node is asked for in a way that the proxy does not
/// look through: it has to believe the declaration, and route the read like any other.
pub(crate) const SETUP: &str = "
    CREATE TABLE registers (key int PRIMARY KEY, version bigint NOT NULL);
    INSERT INTO registers SELECT key, 0 FROM generate_series(0, 5) AS key;
    CREATE TABLE lists (key int PRIMARY KEY, members bigint[] NOT NULL);
    INSERT INTO lists SELECT key, '{}' FROM generate_series(0, 2) AS key;
    CREATE FUNCTION served_by() RETURNS text STABLE LANGUAGE plpgsql AS $$
        DECLARE port int; standby bool;
        BEGIN
            EXECUTE 'SELECT inet_server' || '_port(), pg_is_in' || '_recovery()' INTO port, standby;
            RETURN port || CASE WHEN standby THEN 'r' ELSE 'p' END;
        END $$;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app;";

const READ: &str = "SELECT version, served_by() FROM registers WHERE key = $1";
const READ_ALL: &str = "SELECT version, served_by(), key FROM registers ORDER BY key";
const READ_ON_PRIMARY: &str =
    "/* primacy: primary */ SELECT version, served_by() FROM registers WHERE key = $1";
const READ_LIST: &str = "SELECT members, served_by() FROM lists WHERE key = $1";
const WRITE: &str = "UPDATE registers SET version = version + 1 WHERE key = $1 RETURNING version";
const APPEND: &str = "UPDATE lists SET members = members || $2::bigint
    WHERE key = $1 AND cardinality(members) < $3 RETURNING cardinality(members)";

/// A list as one session saw it, or the place of a member as it was acknowledged.
#[derive(Clone, Debug)]
pub(crate) enum Listed {
    Seen { list: Key, members: Vec<i64> },
    Appended { list: Key, place: usize, member: i64 },
}

/// What the sessions wrote down.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) history: Vec<Op>,
    pub(crate) listed: Vec<Listed>,
    /// Errors that a session went on from, by SQLSTATE; empty where there was none.
    pub(crate) errors: Vec<String>,
}

/// How the sessions run.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) sessions: u32,
    pub(crate) duration: Duration,
    /// Errors are written down and gone on from; otherwise the first one ends the test.
    pub(crate) errors_happen: bool,
    pub(crate) seed: u64,
}

impl Load {
    /// Runs the sessions for as long as they are meant to.
    pub(crate) async fn run(&self, proxy: &Proxy) -> Notes {
        self.run_during(proxy, std::future::ready(())).await.0
    }

    /// The same, from when this is over; what came of it, too.
    pub(crate) async fn run_during<T>(&self, proxy: &Proxy, event: impl Future<Output = T>) -> (Notes, T) {
        let began = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let names = Arc::new(AtomicU32::new(0));
        let sessions: Vec<_> = (0..self.sessions)
            .map(|number| {
                let session = Session {
                    url: proxy.url("app", "app"),
                    name: 0,
                    names: names.clone(),
                    dice: fastrand::Rng::with_seed(self.seed.wrapping_add(u64::from(number))),
                    began,
                    stop: stop.clone(),
                    errors_happen: self.errors_happen,
                    member: i64::from(number) << 32,
                    notes: Notes::default(),
                };
                tokio::spawn(session.run())
            })
            .collect();
        let came = event.await;
        tokio::time::sleep(self.duration).await;
        stop.store(true, Ordering::SeqCst);
        let mut all = Notes::default();
        for session in sessions {
            let notes = session.await.unwrap();
            all.history.extend(notes.history);
            all.listed.extend(notes.listed);
            all.errors.extend(notes.errors);
        }
        (all, came)
    }
}

struct Session {
    url: String,
    /// What it is called in the history; another one after each connection.
    name: u32,
    names: Arc<AtomicU32>,
    dice: fastrand::Rng,
    began: Instant,
    stop: Arc<AtomicBool>,
    errors_happen: bool,
    member: i64,
    notes: Notes,
}

impl Session {
    async fn run(mut self) -> Notes {
        while !self.stop.load(Ordering::SeqCst) {
            let connected = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await;
            let (client, connection) = match connected {
                Ok(connected) => connected,
                Err(error) => {
                    self.failed(&error);
                    continue;
                }
            };
            let connection = tokio::spawn(connection);
            // What one connection was promised does not bind the next.
            self.name = self.names.fetch_add(1, Ordering::SeqCst);
            while !self.stop.load(Ordering::SeqCst) && !client.is_closed() {
                if let Err(error) = self.step(&client).await {
                    self.failed(&error);
                    // What was open in it is over, whatever it was.
                    client.batch_execute("ROLLBACK").await.ok();
                }
                // A session that never rests would have the machine to itself.
                tokio::time::sleep(Duration::from_micros(self.dice.u64(0..3_000))).await;
            }
            drop(client);
            connection.await.ok();
        }
        self.notes
    }

    fn failed(&mut self, error: &Error) {
        let code = error.code().map_or_else(|| "connection".to_owned(), |code| code.code().to_owned());
        assert!(self.errors_happen, "session {}: {error:?}", self.name);
        self.notes.errors.push(code);
    }

    async fn step(&mut self, client: &Client) -> Result<(), Error> {
        let register = self.dice.u32(0..REGISTERS);
        match self.dice.u32(0..100) {
            0..18 => self.write(client, register).await?,
            18..26 => self.append(client).await?,
            26..32 => self.write_two(client).await?,
            32..42 => self.read_list(client).await?,
            42..52 => self.read_all(client).await?,
            52..57 => self.read(client, READ_ON_PRIMARY, register).await?,
            57..69 => self.read_hot(client).await?,
            _ => self.read(client, READ, register).await?,
        }
        Ok(())
    }

    fn note(&mut self, started: Instant, what: What) {
        let (started, ended) = (started - self.began, self.began.elapsed());
        self.notes.history.push(Op { session: self.name, started, ended, what });
    }

    async fn write(&mut self, client: &Client, register: Key) -> Result<(), Error> {
        let register = if self.dice.bool() { HOT } else { register };
        let started = Instant::now();
        let row = client.query_one(WRITE, &[&number(register)]).await?;
        self.note(started, What::Wrote(vec![(register, version(row.get(0)))]));
        Ok(())
    }

    /// Two registers in one transaction, in the order of their keys so that nobody waits in a circle.
    async fn write_two(&mut self, client: &Client) -> Result<(), Error> {
        let first = self.dice.u32(0..REGISTERS - 1);
        let second = self.dice.u32(first + 1..REGISTERS);
        let started = Instant::now();
        client.batch_execute("BEGIN").await?;
        let mut wrote = Vec::new();
        for register in [first, second] {
            let row = client.query_one(WRITE, &[&number(register)]).await?;
            wrote.push((register, version(row.get(0))));
        }
        client.batch_execute("COMMIT").await?;
        self.note(started, What::Wrote(wrote));
        Ok(())
    }

    async fn append(&mut self, client: &Client) -> Result<(), Error> {
        let list = self.dice.u32(0..LISTS);
        self.member += 1;
        let member = self.member;
        let started = Instant::now();
        let row = client.query_opt(APPEND, &[&number(list), &member, &LIST_MAX]).await?;
        if let Some(row) = row {
            let place = usize::try_from(row.get::<_, i32>(0)).unwrap();
            self.note(started, What::Wrote(vec![(REGISTERS + list, place as u64)]));
            self.notes.listed.push(Listed::Appended { list, place, member });
        }
        Ok(())
    }

    async fn read(&mut self, client: &Client, sql: &str, register: Key) -> Result<(), Error> {
        let started = Instant::now();
        let row = client.query_one(sql, &[&number(register)]).await?;
        let (node, on_replica) = served_by(row.get(1));
        let seen = vec![(register, version(row.get(0)))];
        self.note(started, What::Read { on_replica, node, seen });
        Ok(())
    }

    /// The register that is written most, on a replica and right behind that on the primary: a commit that a replica shows
    /// while its primary still waits for replicas is met by nothing slower.
    async fn read_hot(&mut self, client: &Client) -> Result<(), Error> {
        for _ in 0..3 {
            self.read(client, READ, HOT).await?;
            self.read(client, READ_ON_PRIMARY, HOT).await?;
        }
        Ok(())
    }

    async fn read_all(&mut self, client: &Client) -> Result<(), Error> {
        let started = Instant::now();
        let rows = client.query(READ_ALL, &[]).await?;
        let (node, on_replica) = served_by(rows[0].get(1));
        let seen =
            rows.iter().map(|row| (row.get::<_, i32>(2).unsigned_abs(), version(row.get(0)))).collect();
        self.note(started, What::Read { on_replica, node, seen });
        Ok(())
    }

    async fn read_list(&mut self, client: &Client) -> Result<(), Error> {
        let list = self.dice.u32(0..LISTS);
        let started = Instant::now();
        let row = client.query_one(READ_LIST, &[&number(list)]).await?;
        let (node, on_replica) = served_by(row.get(1));
        let members: Vec<i64> = row.get(0);
        self.note(
            started,
            What::Read { on_replica, node, seen: vec![(REGISTERS + list, members.len() as u64)] },
        );
        self.notes.listed.push(Listed::Seen { list, members });
        Ok(())
    }
}

fn number(key: Key) -> i32 {
    i32::try_from(key).unwrap()
}

fn version(value: i64) -> u64 {
    u64::try_from(value).unwrap()
}

/// The port of the server, and whether it is a replica.
fn served_by(text: &str) -> (u16, bool) {
    let (port, role) = text.split_at(text.len() - 1);
    (port.parse().unwrap(), role == "r")
}
