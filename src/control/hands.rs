//! Short-lived statements on the nodes: a small pool of connections per node, and the order of deeds on it.
//!
//! Deeds on one node that change its settings take turns in the order in which they were asked for; waiting for their
//! effect happens outside the turn. Otherwise "follow nobody" of an abandoned attempt could overtake the "follow the
//! old primary" that undoes it.

use std::fmt;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::future::try_join_all;
use tokio::sync::oneshot;
use tokio_postgres::Client;

use super::conninfo::{Conninfo, literal};
use super::link::{LinkError, Target, within};
use crate::model::Secret;

/// Connections per node; a deed holds one, and few run at a time.
const CONNECTIONS_MAX: usize = 6;

/// To open a connection and sign in.
const OPEN_MAX: Duration = Duration::from_secs(3);

/// One node, as the actuator reaches it.
pub(crate) struct Hand {
    pub(crate) target: Target,
    pool: Pool,
    last_turn: Mutex<Option<oneshot::Receiver<()>>>,
    remembered: Mutex<Remembered>,
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
        let manager = Manager::from_config(target.config().clone(), target.connector(), recycling);
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| LinkError::Answer { detail: error.to_string() })?;
        Ok(Self { target, pool, last_turn: Mutex::default(), remembered: Mutex::default() })
    }

    /// A connection for statements.
    pub(crate) async fn lease(&self) -> Result<Lease, LinkError> {
        let object = within(OPEN_MAX, self.pool.get()).await?;
        Ok(Lease { object: Some(object) })
    }

    /// Has a connection ready, so that the next deed does not wait for a sign-in.
    pub(crate) async fn warm(&self) {
        if let Ok(lease) = self.lease().await {
            lease.done();
        }
    }

    /// A place in the order of the node's deeds. Take it when the deed is asked for, not when it begins.
    pub(crate) fn turn(&self) -> Turn {
        let (done, next) = oneshot::channel();
        let mut last = self.last_turn.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { before: last.replace(next), _done: done }
    }

    /// What was set on the node before.
    pub(crate) fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the order of a node's deeds; dropping it lets the next one begin.
#[derive(Debug)]
pub(crate) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    _done: oneshot::Sender<()>,
}

impl Turn {
    /// Waits until every deed before has finished its turn or was given up. Cancellation-safe.
    pub(crate) async fn come(&mut self) {
        if let Some(before) = &mut self.before {
            // An error is the usual news: the sender was dropped.
            drop(before.await);
        }
        self.before = None;
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
        let (mut first, mut second, mut third) = (hand.turn(), hand.turn(), hand.turn());
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

    #[test]
    fn changes_quote_their_values() {
        assert_eq!(Change::set("a", "it's").sql(), "ALTER SYSTEM SET a = 'it''s'");
        assert_eq!(Change::Reset("a").sql(), "ALTER SYSTEM RESET a");
        assert!(!format!("{:?}", Change::set("primary_conninfo", "hidden")).contains("hidden"));
    }
}
