//! The console: databases on the proxy's own port for which primacy itself answers, with PgBouncer's verbs, columns and
//! types, and some of its own. In: a guest that the data path has signed in. Out: tables, and commands carried out.
//!
//! It sees what the HTTP API sees, and acts through the same operator; what it adds is in the workers: who is connected,
//! which pools there are, databases that wait. Roles of `admin_users` may do everything, those of `stats_users` may look.

mod averages;
mod command;
mod deeds;
mod help;
mod ours;
mod pgbouncer;
mod protocol;
mod sockets;
mod table;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, FutureExt as _, LocalBoxFuture};

use crate::admin::AdminContext;
use crate::proxy::console::{Console, Guest};
use crate::proxy::listener::Ending;
use crate::proxy::worker::Shared;

use averages::Averages;

/// What configuration says about the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Databases that are the console; none: there is none.
    pub databases: Vec<String>,
    /// Roles that may do everything.
    pub admin_users: Vec<String>,
    /// Roles that may look.
    pub stats_users: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            databases: vec!["primacy".to_owned(), "pgbouncer".to_owned()],
            admin_users: Vec::new(),
            stats_users: Vec::new(),
        }
    }
}

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingInForce {
    /// Its path in the configuration.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it is where configuration says nothing.
    pub default: String,
    /// Whether it can be changed while primacy runs.
    pub changeable: bool,
}

/// What only the composition root can do.
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// Every setting in force.
    fn settings(&self) -> BoxFuture<'_, Vec<SettingInForce>>;
    /// Changes one until the next reload; says what is wrong with it.
    fn set(&self, key: String, value: String) -> BoxFuture<'_, Result<(), String>>;
    /// Ends the process.
    fn shut_down(&self, how: Ending);
}

/// The console of a running proxy.
#[derive(Clone, Debug)]
pub struct Room(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    context: AdminContext,
    shared: Arc<Shared>,
    host: Arc<dyn Host>,
    settings: Arc<ArcSwap<Settings>>,
    averages: Averages,
}

impl Room {
    /// A console that shows and does this.
    pub fn new(
        context: AdminContext,
        shared: Arc<Shared>,
        host: Arc<dyn Host>,
        settings: Arc<ArcSwap<Settings>>,
    ) -> Self {
        Self(Arc::new(Inside { context, shared, host, settings, averages: Averages::default() }))
    }

    /// Keeps the averages of SHOW STATS. Runs for ever.
    pub async fn keep_averages(self) {
        self.0.averages.keep(&self.0.shared).await;
    }
}

impl Console for Room {
    fn has_database(&self, name: &str) -> bool {
        self.0.settings.load().databases.iter().any(|database| database == name)
    }

    fn admits(&self, user: &str) -> bool {
        let settings = self.0.settings.load();
        settings.admin_users.iter().chain(&settings.stats_users).any(|name| name == user)
    }

    fn serve(&self, guest: Guest) -> LocalBoxFuture<'static, ()> {
        let inside = Arc::clone(&self.0);
        async move { protocol::serve(&inside, guest).await }.boxed_local()
    }
}

impl Inside {
    /// Whether this role may do more than look. Asked for each command, so that a reload counts at once.
    fn may_act(&self, user: &str) -> bool {
        self.settings.load().admin_users.iter().any(|name| name == user)
    }
}
