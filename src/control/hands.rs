//! Short-lived statements on the nodes: a small pool of connections per node, and the order of deeds on it.
//!
//! Deeds of one kind on one node take turns in the order in which they were asked for. A newer deed that decides whom
//! the node follows ends an older one that still waits: otherwise "follow nobody" of an abandoned attempt could
//! overtake the "follow the old primary" that undoes it.

use std::fmt;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::future::{join_all, try_join_all};
use tokio::sync::{Notify, oneshot, watch};
use tokio_postgres::{Client, Statement};

use super::conninfo::{Conninfo, literal};
use super::link::{Link, LinkError, Target, within};
use crate::clock;
use crate::model::Secret;

/// Connections per node; a deed holds one, and few run at a time.
const CONNECTIONS_MAX: usize = 6;

/// How many are kept ready: the candidate replays, gets a slot made for a follower and has its settings looked at, all at
/// once.
const CONNECTIONS_WARM: usize = 3;

/// To open a connection and sign in.
const OPEN_MAX: Duration = Duration::from_secs(3);

/// To have a connection opened and its statements prepared, when nobody waits for it: a node that has gone silent meanwhile
/// must not keep the next round away.
const READY_MAX: Duration = Duration::from_secs(5);

/// A connection, and the term row's statement if its table was there.
pub(crate) type TermLink = (Link, Option<Statement>);

/// How long the connection for the term row is kept: until it is used, a promotion has to end.
const TERM_LINK_MAX: Duration = Duration::from_secs(30);

/// One node, as the actuator reaches it.
pub(crate) struct Hand {
    pub(crate) target: Target,
    pool: Pool,
    /// Asks for a round of `keep_warm`. One that is asked for during another waits for its end; more are the same one.
    cold: Notify,
    following: Queue,
    setting: Queue,
    /// Counts the deeds that decide whom the node follows.
    newest: watch::Sender<u64>,
    remembered: Mutex<Remembered>,
    /// A connection for the term row, opened while the promotion runs.
    term: Mutex<Option<(Instant, TermLink)>>,
}

/// What was set on a node before primacy changed it, so that it can be put back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    /// Its own `primary_conninfo`: password files and certificates in it stay in use.
    pub(crate) conninfo: Option<Conninfo>,
    /// Its own `restore_command`.
    pub(crate) restore_command: Option<Secret>,
    /// Its `synchronous_standby_names` before it was fenced.
    pub(crate) sync_names: Option<String>,
}

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hand").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Hand {
    /// For one node. Opens nothing yet.
    pub(crate) fn new(target: Target) -> Result<Self, LinkError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(target.config().clone(), target.clone(), recycling);
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| LinkError::Answer { detail: error.to_string() })?;
        let (following, setting) = (Queue::default(), Queue::default());
        Ok(Self {
            target,
            pool,
            cold: Notify::new(),
            following,
            setting,
            newest: watch::Sender::new(0),
            remembered: Mutex::default(),
            term: Mutex::default(),
        })
    }

    /// A connection for statements.
    pub(crate) async fn lease(&self) -> Result<Lease, LinkError> {
        let object = within(OPEN_MAX, self.pool.get()).await?;
        Ok(Lease { object: Some(object) })
    }

    /// Asks for connections that are ready.
    pub(crate) fn warm(&self) {
        self.cold.notify_one();
    }

    /// Has connections ready, whenever it is asked for, on which these statements are prepared, so that the deeds of a
    /// failover wait neither for a sign-in nor for a new session's first look at the catalog. Never ends.
    ///
    /// A round runs to its end: one that is broken off closes its connections half ready, and a server that is frozen
    /// at that moment lets nobody sign in again.
    pub(crate) async fn keep_warm(&self, statements: &[&str]) {
        loop {
            self.cold.notified().await;
            let ready = async |_| {
                let lease = self.lease().await?;
                for statement in statements {
                    lease.prepare(statement).await?;
                }
                Ok::<_, LinkError>(lease)
            };
            // All at once, or one and the same would be taken again and again.
            let ready = (0..CONNECTIONS_WARM).map(|n| within(READY_MAX, ready(n)));
            join_all(ready).await.into_iter().flatten().for_each(Lease::done);
        }
    }

    /// Keeps a connection that was opened for the term row before it is needed.
    pub(crate) fn keep_for_term(&self, link: TermLink) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = Some((clock::now(), link));
    }

    /// That connection, if it is not from an attempt of long ago and still stands.
    pub(crate) fn take_for_term(&self) -> Option<TermLink> {
        let (opened, link) = self.term.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        (clock::now().duration_since(opened) < TERM_LINK_MAX && !link.0.is_closed()).then_some(link)
    }

    /// A place among the deeds that decide whom the node follows; ends those that still wait. Take it when the deed is
    /// asked for, not when it begins.
    pub(crate) fn turn_to_follow(&self) -> Turn {
        let turn = self.following.next();
        self.newest.send_modify(|newest| *newest += 1);
        let mut newest = self.newest.subscribe();
        newest.mark_unchanged();
        Turn { newest: Some(newest), ..turn }
    }

    /// A place among the deeds that change the node's other settings.
    pub(crate) fn turn_to_set(&self) -> Turn {
        self.setting.next()
    }

    /// What was set on the node before.
    pub(crate) fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the deed that was asked for last.
#[derive(Debug, Default)]
struct Queue(Mutex<Option<oneshot::Receiver<()>>>);

impl Queue {
    fn next(&self) -> Turn {
        let (done, next) = oneshot::channel();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { before: last.replace(next), newest: None, _done: done }
    }
}

/// A place in the order of a node's deeds; dropping it lets the next one begin.
#[derive(Debug)]
pub(crate) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    newest: Option<watch::Receiver<u64>>,
    _done: oneshot::Sender<()>,
}

impl Turn {
    /// The same place, that no newer deed ends.
    pub(crate) fn for_good(self) -> Self {
        Self { newest: None, ..self }
    }

    /// Waits until every deed before has ended or was given up. Cancellation-safe.
    pub(crate) async fn come(&mut self) {
        if let Some(before) = &mut self.before {
            // An error is the usual news: the sender was dropped.
            drop(before.await);
        }
        self.before = None;
    }

    /// Waits until a newer deed of the kind takes this one's place, if ever.
    pub(crate) fn superseded(&self) -> impl Future<Output = ()> + use<> {
        let newest = self.newest.clone();
        async move {
            if let Some(mut newest) = newest
                && newest.changed().await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        }
    }
}

/// A pooled connection. It goes back to the pool only by `done`: one that is dropped with a statement under way (a
/// deed was given up) may have an answer outstanding, and is closed.
pub(crate) struct Lease {
    object: Option<Object>,
}

impl Lease {
    /// Gives the connection back.
    pub(crate) fn done(mut self) {
        drop(self.object.take());
    }

    /// A statement, prepared once for as long as the connection is kept.
    pub(crate) async fn prepare(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        match &self.object {
            Some(object) => object.prepare_cached(sql).await,
            None => Client::prepare(self, sql).await,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl Deref for Lease {
    type Target = Client;

    #[expect(
        clippy::expect_used,
        reason = "the object is taken by `done` and `drop` only, which end the lease"
    )]
    fn deref(&self) -> &Client {
        self.object.as_ref().expect("a lease has its connection until it ends")
    }
}

impl From<PoolError> for LinkError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => Self::Timeout { after: OPEN_MAX },
            PoolError::Closed => Self::Lost,
            other => Self::Answer { detail: other.to_string() },
        }
    }
}

/// One change of a server parameter: a new value, or back to what the configuration file says.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set(&'static str, Secret),
    Reset(&'static str),
}

impl Change {
    /// Sets a parameter.
    pub(crate) fn set(name: &'static str, value: impl Into<String>) -> Self {
        Self::Set(name, Secret::new(value))
    }

    fn sql(&self) -> String {
        match self {
            Self::Set(name, value) => format!("ALTER SYSTEM SET {name} = {}", literal(value.reveal())),
            Self::Reset(name) => format!("ALTER SYSTEM RESET {name}"),
        }
    }
}

/// Makes the changes durable on the server and has it reload, in one round trip. The reload takes effect a little later.
pub(crate) async fn alter(client: &Client, changes: &[Change]) -> Result<(), LinkError> {
    // `ALTER SYSTEM` refuses to be one of several statements of a query, so each is a query of its own; the client
    // sends them in this order without waiting.
    let mut statements: Vec<String> = changes.iter().map(Change::sql).collect();
    statements.push("SELECT pg_reload_conf()".to_owned());
    try_join_all(statements.iter().map(|sql| client.batch_execute(sql))).await?;
    Ok(())
}

/// Keeps a password in a following statement out of the server's log, as far as our role may.
pub(crate) async fn hush(client: &Client) -> Result<(), LinkError> {
    let hushed = "SELECT set_config('log_statement', 'none', false), \
        set_config('log_min_duration_statement', '-1', false), set_config('log_min_error_statement', 'panic', false) \
        FROM pg_roles WHERE rolname = current_user AND rolsuper";
    client.batch_execute(hushed).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand() -> Hand {
        use super::super::settings::{Credentials, NodeSettings};
        use crate::model::{Address, NodeId};
        let node = NodeSettings::new("n", Address::Tcp { host: "127.0.0.1".into(), port: 1 });
        let role = Credentials { user: "u".into(), password: Secret::default() };
        Hand::new(Target::new(NodeId(0), &node, &role, "postgres").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn turns_come_in_the_order_in_which_they_were_taken() {
        let hand = hand();
        let (mut first, mut second, mut third) = (hand.turn_to_set(), hand.turn_to_set(), hand.turn_to_set());
        first.come().await;
        let soon = Duration::from_millis(10);
        assert!(tokio::time::timeout(soon, second.come()).await.is_err());
        drop(first);
        second.come().await;
        assert!(tokio::time::timeout(soon, third.come()).await.is_err());
        // A deed that is given up does not hold the next one up.
        drop(second);
        third.come().await;
    }

    #[tokio::test]
    async fn a_newer_deed_ends_an_older_one_of_its_kind_only() {
        let hand = hand();
        let (older, other) = (hand.turn_to_follow(), hand.turn_to_set());
        let soon = Duration::from_millis(10);
        assert!(tokio::time::timeout(soon, older.superseded()).await.is_err());
        let newer = hand.turn_to_follow();
        older.superseded().await;
        assert!(tokio::time::timeout(soon, newer.superseded()).await.is_err());
        assert!(tokio::time::timeout(soon, other.superseded()).await.is_err());
    }

    #[test]
    fn changes_quote_their_values() {
        assert_eq!(Change::set("a", "it's").sql(), "ALTER SYSTEM SET a = 'it''s'");
        assert_eq!(Change::Reset("a").sql(), "ALTER SYSTEM RESET a");
        assert!(!format!("{:?}", Change::set("primary_conninfo", "hidden")).contains("hidden"));
    }
}
