//! Keeps one server: every deed on it, one at a time, and never on another data directory than its own.
//!
//! A deed goes on when whoever asked for it hangs up: a rewind that is broken off costs a new copy. Meanwhile others are
//! told that the server is busy.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Mutex as Busy;

use super::journal::Journal;
use super::settings::Settings;
use crate::clock;
use crate::control::agents::api::{AgentStatus, Kind, Refusal, RejoinRequest, StartRequest, Stop};
use crate::control::conninfo::Conninfo;
use crate::control::link::chain;
use crate::control::store::StoreError;
use crate::model::{Secret, Timeline};
use crate::postgres::{
    Account, Comeback, ControlData, Installation, Instance, Place, PostgresError, Remote, Search, StopMode,
};

/// Why the agent does not take this server on.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// PostgreSQL, its programs or its files.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] StoreError),
    /// There is no such directory.
    #[error("data_dir {}: there is no such directory", dir.display())]
    NoDirectory {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A server must not run as root.
    #[error("data_dir {} belongs to root, and PostgreSQL never runs as root: give it to its own user", dir.display())]
    OwnedByRoot {
        /// Which.
        dir: PathBuf,
    },
    /// Only its owner can start it.
    #[error("data_dir {} belongs to user number {owner}: run the agent as that user, or as root", dir.display())]
    OwnedByOther {
        /// Which.
        dir: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// Something else than a PostgreSQL server is there.
    #[error("data_dir {} holds something, but no PostgreSQL server (there is no PG_VERSION)", dir.display())]
    NotPostgres {
        /// Which.
        dir: PathBuf,
    },
    /// The journal is of another cluster's server.
    #[error(
        "data_dir {} is of cluster {found}, and state_dir of an agent of cluster {known}: give each server its own \
         state_dir", dir.display()
    )]
    OtherCluster {
        /// Which.
        dir: PathBuf,
        /// What is there.
        found: u64,
        /// What was there.
        known: u64,
    },
}

/// The server, and what is being done to it.
#[derive(Debug)]
pub(super) struct Keeper {
    settings: Settings,
    instance: Instance,
    journal: Journal,
    busy: Arc<Busy<()>>,
    renewed: Mutex<Option<Instant>>,
}

impl Keeper {
    /// Looks at the directory, its owner, its cluster and the journal. Touches nothing but the journal.
    pub(super) async fn open(settings: Settings, path: Option<OsString>) -> Result<Self, OpenError> {
        let dir = &settings.data_dir;
        let account = account_for(dir)?;
        let held = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        let version = std::fs::read_to_string(dir.join("PG_VERSION")).ok();
        let major = version.as_deref().and_then(|text| text.trim().parse().ok());
        let installation = Search { given: settings.pg_bin.clone(), path, major }.run_as(account).await?;
        let journal = Journal::open(&settings.state_dir)?;
        let instance = instance(&settings, Arc::new(installation));
        if held && version.is_none() && !instance.is_half_copied() && !instance.is_half_rewound() {
            return Err(OpenError::NotPostgres { dir: dir.clone() });
        }
        let keeper = Self { settings, instance, journal, busy: Arc::default(), renewed: Mutex::default() };
        keeper.check_cluster().await?;
        keeper.take_up().await?;
        Ok(keeper)
    }

    /// Whose data it is must not change under us.
    async fn check_cluster(&self) -> Result<(), OpenError> {
        let dir = self.instance.data_dir();
        let whole = dir.join("PG_VERSION").exists() && !self.instance.is_half_copied();
        if !whole {
            return Ok(());
        }
        let found = ControlData::read(self.instance.installation(), dir).await?.system_id;
        match self.journal.notes().system_id {
            Some(known) if known != found => {
                Err(OpenError::OtherCluster { dir: dir.to_path_buf(), found, known })
            }
            _ => Ok(self.journal.change(|notes| notes.system_id = Some(found))?),
        }
    }

    /// An earlier agent died in the middle of something: what it began is ended, and it stays a matter of record.
    async fn take_up(&self) -> Result<(), OpenError> {
        if let Some(doing) = self.journal.notes().doing {
            let state = self.state();
            tracing::warn!(doing, state, "the last agent died in the middle of something");
            self.instance.end_orphans().await;
        }
        Ok(())
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Returns when nothing is being done to the server.
    pub(super) async fn quiet(&self) {
        drop(self.busy.lock().await);
    }

    fn state(&self) -> &'static str {
        let server = &self.instance;
        if server.is_half_rewound() {
            "half-rewound"
        } else if server.is_half_copied() {
            "half-copied"
        } else if server.running().is_some() {
            "running"
        } else if server.has_crashed() {
            "crashed"
        } else {
            "stopped"
        }
    }

    /// What there is to know.
    pub(super) fn status(&self) -> AgentStatus {
        let notes = self.journal.notes();
        AgentStatus {
            node: self.settings.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server: self.state().to_owned(),
            standby: self.instance.is_standby(),
            system_id: notes.system_id,
            doing: notes.doing,
            fenced: notes.fenced,
            reclone: self.settings.reclone,
        }
    }

    // ---- the lease ---------------------------------------------------------------------------------------------

    /// primacy says that this is the primary of `epoch`.
    pub(super) fn renew(&self, epoch: u64) -> Result<String, Refusal> {
        if let Some(newer) = self.journal.notes().leased.filter(|newer| *newer > epoch) {
            let message = format!("a lease of epoch {newer} was given already, this is of {epoch}");
            return Err(Refusal { error: Kind::Forbidden, message });
        }
        self.journal.change(|notes| notes.leased = Some(epoch)).map_err(|error| failed(&error))?;
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::now());
        Ok(format!("leased for epoch {epoch}"))
    }

    pub(super) fn leased(&self) -> bool {
        self.journal.notes().leased.is_some()
    }

    pub(super) fn renewed_at(&self) -> Option<Instant> {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_fenced(&self, fenced: bool) -> Result<(), StoreError> {
        self.journal.change(|notes| notes.fenced = fenced)
    }

    // ---- deeds -------------------------------------------------------------------------------------------------

    /// Starts the server as it is.
    pub(super) async fn start(self: Arc<Self>, request: StartRequest) -> Result<String, Refusal> {
        self.deed("start", |keeper| async move {
            let server = &keeper.instance;
            let ours_to_start = server.has_crashed() || keeper.journal.notes().fenced;
            if server.running().is_none() && request.only_crashed && !ours_to_start {
                let message = "it was stopped in order".to_owned();
                return Err(Refusal { error: Kind::Forbidden, message });
            }
            if let Some(timeline) = request.twin.map(Timeline)
                && server.running().is_none()
            {
                server.has_not_begun(timeline).await.map_err(refused)?;
            }
            // It gets the whole time of a lease to have it renewed.
            *keeper.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::now());
            server.start(keeper.settings.limits.start).await.map_err(refused)?;
            keeper.note_fenced(false).map_err(|error| failed(&error))?;
            Ok("it runs".to_owned())
        })
        .await
    }

    /// Stops the server.
    pub(super) async fn stop(self: Arc<Self>, how: Stop) -> Result<String, Refusal> {
        self.deed("stop", |keeper| async move {
            keeper.instance.stop(mode(how), keeper.settings.limits.stop).await.map_err(refused)?;
            Ok("it is stopped".to_owned())
        })
        .await
    }

    /// Stops and starts it.
    pub(super) async fn restart(self: Arc<Self>, how: Stop) -> Result<String, Refusal> {
        self.deed("restart", |keeper| async move {
            keeper.instance.stop(mode(how), keeper.settings.limits.stop).await.map_err(refused)?;
            keeper.instance.start(keeper.settings.limits.start).await.map_err(refused)?;
            Ok("it runs again".to_owned())
        })
        .await
    }

    /// Makes a standby of it.
    pub(super) async fn rejoin(self: Arc<Self>, request: RejoinRequest) -> Result<String, Refusal> {
        let comeback = self.comeback(&request)?;
        self.deed("rejoin", |keeper| async move {
            let changed = keeper.instance.come_back(&comeback).await.map_err(refused)?;
            keeper.check_cluster().await.map_err(|error| failed(&error))?;
            keeper.note_fenced(false).map_err(|error| failed(&error))?;
            Ok(format!("it follows{}", if changed { ", with another history than before" } else { "" }))
        })
        .await
    }

    fn comeback(&self, request: &RejoinRequest) -> Result<Comeback, Refusal> {
        let malformed = |message: &str| Refusal { error: Kind::Malformed, message: message.to_owned() };
        let mut follow = Conninfo::parse(&request.conninfo).map_err(|error| malformed(&error.to_string()))?;
        if request.conninfo.contains(char::is_control) || follow.value("host").is_none() {
            return Err(malformed("the connection string names no host, or has control characters in it"));
        }
        let password = follow.value("password").map(Secret::new);
        let password = request.password.as_deref().map(Secret::new).or(password).unwrap_or_default();
        follow.remove("password");
        let plain = Remote { conninfo: follow.text().reveal().to_owned(), password: password.clone() };
        let rewind = self.source(follow.clone(), &password);
        if !password.is_empty() {
            follow.set("password", password.reveal());
        }
        let settings = &self.settings;
        Ok(Comeback {
            follow: follow.text(),
            slot: request.slot.clone(),
            stop: mode(request.stop),
            rewind: request.rewind.then_some(rewind),
            twin: request.twin.map(Timeline),
            copy: settings.reclone.then_some(plain),
            system_id: self.journal.notes().system_id,
            sync: true,
            limits: settings.limits,
        })
    }

    /// What pg_rewind connects to: the same server, as a role that may read its files.
    fn source(&self, mut conninfo: Conninfo, password: &Secret) -> Remote {
        let mut password = password.clone();
        if let Some(role) = &self.settings.source {
            conninfo.set("user", &*role.user);
            password = role.password.clone();
        }
        conninfo.set("dbname", &*self.settings.source_database).set("application_name", "primacy-rewind");
        Remote { conninfo: conninfo.text().reveal().to_owned(), password }
    }

    /// Does one thing, if nothing else is being done. It is done to its end, whoever is waiting for it.
    async fn deed<F>(
        self: Arc<Self>,
        name: &'static str,
        deed: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<String, Refusal>
    where
        F: Future<Output = Result<String, Refusal>> + Send + 'static,
    {
        let Ok(busy) = Arc::clone(&self.busy).try_lock_owned() else {
            let doing = self.journal.notes().doing.unwrap_or_default();
            let message = format!("something else is being done to the server: {doing}");
            return Err(Refusal { error: Kind::Busy, message });
        };
        self.journal.change(|notes| notes.doing = Some(name.to_owned())).map_err(|error| failed(&error))?;
        tracing::info!(deed = name, "begun");
        let work = deed(Arc::clone(&self));
        let working = tokio::spawn(async move {
            let done = work.await;
            match &done {
                Ok(message) => tracing::info!(deed = name, message, "done"),
                Err(refusal) => tracing::warn!(deed = name, why = refusal.message, "not done"),
            }
            let noted = self.journal.change(|notes| notes.doing = None);
            drop(busy);
            noted.map_err(|error| failed(&error)).and(done)
        });
        working.await.unwrap_or_else(|ended| Err(failed(&ended)))
    }
}

/// Who runs the server: whoever owns its data.
fn account_for(dir: &Path) -> Result<Account, OpenError> {
    let meta = std::fs::metadata(dir);
    let meta = meta.map_err(|source| OpenError::NoDirectory { dir: dir.to_path_buf(), source })?;
    match (nix::unistd::geteuid().as_raw(), meta.uid()) {
        (_, 0) => Err(OpenError::OwnedByRoot { dir: dir.to_path_buf() }),
        (0, owner) => Ok(Account::of_user(owner)?),
        (own, owner) if own == owner => Ok(Account::Own),
        (_, owner) => Err(OpenError::OwnedByOther { dir: dir.to_path_buf(), owner }),
    }
}

fn instance(settings: &Settings, installation: Arc<Installation>) -> Instance {
    let state = &settings.state_dir;
    let place = Place {
        name: settings.node.to_string(),
        // Where it listens is in its own configuration.
        port: 0,
        data_dir: settings.data_dir.clone(),
        log_file: settings.log_file.clone(),
        socket_dir: PathBuf::new(),
        rewind_mark: state.join("rewinding"),
    };
    Instance::given(installation, place, settings.config_file.clone(), state.join("kept"))
}

fn mode(stop: Stop) -> StopMode {
    match stop {
        Stop::Fast => StopMode::Fast,
        Stop::Immediate => StopMode::Immediate,
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal { error: Kind::Failed, message: chain(error) }
}

/// What only a person can change is told apart from what may do at the next attempt.
#[expect(clippy::needless_pass_by_value, reason = "it is the last that is heard of the error")]
fn refused(error: PostgresError) -> Refusal {
    let (error_kind, hint) = match &error {
        PostgresError::CopyForbidden { .. } => {
            (Kind::Forbidden, "; `reclone = true` in the agent's configuration allows it")
        }
        PostgresError::PerhapsPromoted { .. } => (
            Kind::Forbidden,
            "; start it, which shows whether it was, or allow a new copy (`reclone = true`)",
        ),
        PostgresError::HalfRewound { .. }
        | PostgresError::OtherCluster { .. }
        | PostgresError::Outside { .. } => (Kind::Forbidden, ""),
        _ => (Kind::Failed, ""),
    };
    Refusal { error: error_kind, message: format!("{}{hint}", chain(&error)) }
}

#[cfg(test)]
mod tests;
