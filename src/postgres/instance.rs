//! One PostgreSQL server: its place on disk, its configuration, how its data directory comes to be.
//!
//! Our settings live in `primacy.conf`, included from `postgresql.conf`; what moves at run time (whom a standby
//! follows) in `postgresql.auto.conf`, where `ALTER SYSTEM` keeps it too and so wins over both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

use super::command::run;
use super::conf::{conf_value, edit_auto_conf};
use super::{ConnInfo, Installation, PostgresError};
use crate::model::Secret;

const CONF: &str = "primacy.conf";
const AUTO_CONF: &str = "postgresql.auto.conf";
const STANDBY_SIGNAL: &str = "standby.signal";
/// A Unix socket's path may have 107 bytes; the file's name takes up to 15 of them.
const SOCKET_DIR_BYTES_MAX: usize = 90;

/// Where a server lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name: `cluster_name`, and the `application_name` of its walreceiver once it is trusted.
    pub name: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// The file that takes its log.
    pub log_file: PathBuf,
    /// The directory for its Unix socket; must exist.
    pub socket_dir: PathBuf,
    /// The file that is there while its history is being rewound. Not in the data directory, whose files pg_rewind removes.
    pub rewind_mark: PathBuf,
}

/// Whose configuration a server runs with.
#[derive(Clone, Debug)]
pub(super) enum Conf {
    /// Ours, with settings beyond the fixed ones, in order; later ones win.
    Ours(Vec<(String, String)>),
    /// Its owner's. `config_file`: where it is not in the data directory; `kept`: a directory for copies of what is, because a
    /// rewind and a new copy bring the configuration of another server.
    Theirs { config_file: Option<PathBuf>, kept: PathBuf },
}

/// A server to connect to, for PostgreSQL's programs: their arguments can be read by everybody, so the password is apart.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The keyword/value string, without a password.
    pub conninfo: String,
    /// The password; empty for none.
    pub password: Secret,
}

impl From<&ConnInfo> for Remote {
    fn from(conn: &ConnInfo) -> Self {
        Self { conninfo: conn.to_string(), password: conn.password.clone() }
    }
}

/// How a new data directory is made.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Name and password of the superuser.
    pub superuser: (String, Secret),
    /// Whether everything is flushed to disk before initdb returns.
    pub sync: bool,
    /// More arguments for initdb, e.g. `--wal-segsize=1`.
    pub extra: Vec<String>,
}

/// One server on this machine.
#[derive(Clone, Debug)]
pub struct Instance {
    installation: Arc<Installation>,
    place: Place,
    conf: Conf,
}

impl Instance {
    /// A server with these settings on top of the fixed ones. Nothing is written yet.
    pub fn new(installation: Arc<Installation>, place: Place, settings: Vec<(String, String)>) -> Self {
        Self { installation, place, conf: Conf::Ours(settings) }
    }

    /// Somebody else's server, which keeps its owner's configuration: in the data directory, or in `config_file`. Copies of
    /// what is in the data directory go to `kept`.
    pub fn given(
        installation: Arc<Installation>,
        place: Place,
        config_file: Option<PathBuf>,
        kept: PathBuf,
    ) -> Self {
        Self { installation, place, conf: Conf::Theirs { config_file, kept } }
    }

    pub(super) fn conf(&self) -> &Conf {
        &self.conf
    }

    pub(super) fn rewind_mark(&self) -> &Path {
        &self.place.rewind_mark
    }

    /// The programs it runs on.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.place.data_dir
    }

    /// The file with its log.
    pub fn log_file(&self) -> &Path {
        &self.place.log_file
    }

    /// Whether it will start as a standby.
    pub fn is_standby(&self) -> bool {
        self.data_dir().join(STANDBY_SIGNAL).exists()
    }

    /// Makes a new data directory: checksums, SCRAM, UTF-8, locale C.
    pub async fn init(&self, options: &InitOptions, limit: Duration) -> Result<(), PostgresError> {
        let account = &self.installation.account;
        account.create_dir(self.data_dir())?;
        let (user, password) = &options.superuser;
        let password_file = self.place.socket_dir.join(format!(".{}.password", self.name()));
        write(&password_file, password.reveal(), "write")?;
        account.own(&password_file)?;
        let mut command = self.installation.command("initdb");
        command.arg("-D").arg(self.data_dir()).arg("--data-checksums");
        command.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
        command.arg(format!("--username={user}")).arg("--pwfile").arg(&password_file);
        command.args(&options.extra);
        if !options.sync {
            command.arg("--no-sync");
        }
        let made = run(command, limit).await;
        // The file is gone before the outcome is looked at; that it could not be removed would show in its place.
        let removed = std::fs::remove_file(&password_file);
        made?;
        removed.map_err(|source| PostgresError::File { doing: "remove", path: password_file, source })?;
        self.write_conf()
    }

    /// Copies a running server into a new data directory, over the replication protocol; `slot` keeps what the copy
    /// will need next.
    pub async fn base_backup(
        &self,
        from: &Remote,
        slot: Option<&str>,
        sync: bool,
        limit: Duration,
    ) -> Result<(), PostgresError> {
        self.installation.account.create_dir(self.data_dir())?;
        self.base_backup_to(self.data_dir(), from, (slot, sync), limit).await?;
        self.write_conf()
    }

    pub(super) async fn base_backup_to(
        &self,
        dir: &Path,
        from: &Remote,
        (slot, sync): (Option<&str>, bool),
        limit: Duration,
    ) -> Result<(), PostgresError> {
        let mut command = self.tool("pg_basebackup");
        command.arg("-D").arg(dir).arg("-d").arg(&from.conninfo);
        command.args(["-Xstream", "--checkpoint=fast", "--no-password"]);
        if let Some(slot) = slot {
            command.args(["--slot", slot]);
        }
        if !sync {
            command.arg("--no-sync");
        }
        with_password(&mut command, from);
        run(command, limit).await.map(drop)
    }

    /// A program that works on the data directory. It runs in it, so that it is found and ended with whatever else a dead
    /// server has left there, should we die before it.
    pub(super) fn tool(&self, name: &str) -> Command {
        let mut command = self.installation.command(name);
        command.current_dir(self.data_dir());
        command
    }

    /// Makes the server a standby from its next start on, of whatever `conninfo` names.
    pub fn follow(&self, conninfo: &Secret, slot: Option<&str>) -> Result<(), PostgresError> {
        self.edit_auto_conf(&[
            ("primary_conninfo", Some(conninfo.reveal())),
            ("primary_slot_name", slot),
            ("restore_command", None),
        ])?;
        self.write_owned(&self.data_dir().join(STANDBY_SIGNAL), "")
    }

    /// Takes the mark of a standby away: the data directory then recovers as a primary, and can be rewound.
    pub(super) fn unfollow(&self) -> Result<(), PostgresError> {
        let file = self.data_dir().join(STANDBY_SIGNAL);
        match std::fs::remove_file(&file) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(PostgresError::File { doing: "remove", path: file, source })
            }
            _ => Ok(()),
        }
    }

    /// Writes our settings, whatever a backup or a rewind has brought in from elsewhere.
    pub fn write_conf(&self) -> Result<(), PostgresError> {
        self.write_conf_with(&[])
    }

    /// The same, with settings that win over all others.
    pub(super) fn write_conf_with(&self, more: &[(&str, &str)]) -> Result<(), PostgresError> {
        let Conf::Ours(settings) = &self.conf else { return Ok(()) };
        self.write_owned(&self.data_dir().join(CONF), &self.render_conf(settings, more))?;
        let main = self.data_dir().join("postgresql.conf");
        let text = read(&main)?;
        let include = format!("include = '{CONF}'");
        if text.lines().any(|line| line == include) {
            return Ok(());
        }
        self.write_owned(&main, &format!("{text}\n# primacy's settings\n{include}\n"))
    }

    /// What says whose its Unix socket is; `None` where that is its owner's business, or where it has none.
    pub(super) fn socket_lock(&self) -> Option<PathBuf> {
        let has_one = self.place.socket_dir.as_os_str().len() <= SOCKET_DIR_BYTES_MAX;
        let ours = matches!(self.conf, Conf::Ours(_)) && has_one;
        ours.then(|| self.place.socket_dir.join(format!(".s.PGSQL.{}.lock", self.place.port)))
    }

    fn render_conf(&self, settings: &[(String, String)], more: &[(&str, &str)]) -> String {
        use std::fmt::Write as _;
        let sockets = self.place.socket_dir.display().to_string();
        let port = self.place.port.to_string();
        let own = [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            (
                "unix_socket_directories",
                if sockets.len() > SOCKET_DIR_BYTES_MAX { "" } else { sockets.as_str() },
            ),
            ("cluster_name", self.name()),
        ];
        let extra = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut text = String::from(
            "# Written by primacy at every start; edit postgresql.conf below the include instead.\n",
        );
        for (key, value) in own.into_iter().chain(FIXED_SETTINGS).chain(extra).chain(more.iter().copied()) {
            writeln!(text, "{key} = {}", conf_value(value)).ok();
        }
        text
    }

    pub(super) fn edit_auto_conf(&self, changes: &[(&str, Option<&str>)]) -> Result<(), PostgresError> {
        let file = self.data_dir().join(AUTO_CONF);
        let old = if file.exists() { read(&file)? } else { String::new() };
        self.write_owned(&file, &edit_auto_conf(&old, changes))
    }

    pub(super) fn write_owned(&self, file: &Path, text: &str) -> Result<(), PostgresError> {
        write(file, text, "write")?;
        self.installation.account.own(file)
    }
}

/// What every server of ours runs with.
const FIXED_SETTINGS: [(&str, &str); 22] = [
    ("max_connections", "200"),
    ("superuser_reserved_connections", "10"),
    ("password_encryption", "scram-sha-256"),
    ("wal_level", "replica"),
    ("hot_standby", "on"),
    ("hot_standby_feedback", "on"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    // A node that was away for a while finds what it needs, and one that never returns does not fill the disk.
    // A killed primary is rewound to its last checkpoint before the fork: WAL since then has to be there still, and
    // checkpoints have to be near. The second is far below the first.
    ("wal_keep_size", "512MB"),
    ("max_wal_size", "256MB"),
    ("max_slot_wal_keep_size", "1GB"),
    // pg_rewind needs hint bits in the log (or checksums; both cost the same here).
    ("wal_log_hints", "on"),
    // Replicas are witnesses of the primary's death: they must notice silence within a second, and reconnect at once.
    ("wal_receiver_timeout", "1s"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_sender_timeout", "3s"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("restart_after_crash", "on"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_timezone", "UTC"),
    ("log_checkpoints", "off"),
];

pub(super) fn with_password(command: &mut Command, remote: &Remote) {
    // The environment of a process can be read by its own user only; its arguments by everybody.
    if !remote.password.is_empty() {
        command.env("PGPASSWORD", remote.password.reveal());
    }
}

fn read(file: &Path) -> Result<String, PostgresError> {
    std::fs::read_to_string(file).map_err(|source| PostgresError::File {
        doing: "read",
        path: file.to_path_buf(),
        source,
    })
}

fn write(file: &Path, text: &str, doing: &'static str) -> Result<(), PostgresError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file);
    opened.and_then(|mut out| out.write_all(text.as_bytes())).map_err(|source| PostgresError::File {
        doing,
        path: file.to_path_buf(),
        source,
    })
}
