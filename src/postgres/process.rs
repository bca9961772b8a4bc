//! A server as a process: is it there, start it, stop it, kill it.
//!
//! The postmaster is our direct child in a process group of its own, so that Ctrl-C at the terminal reaches us and
//! not it, and so that it is reaped when somebody kills it. Everything else goes by `postmaster.pid`, so that a
//! server that an earlier run of this program started is handled just the same.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use tokio::time::{sleep, timeout};

use super::command::tail;
use super::instance::Conf;
use super::{Instance, PostgresError};

const POLL: Duration = Duration::from_millis(5);
const ORPHANS_LIMIT: Duration = Duration::from_secs(5);
const LOG_TAIL_BYTES: u64 = 3000;

/// The postmaster's process id.
pub type Pid = nix::unistd::Pid;

/// How a server is asked to stop (manual, 19.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients to leave.
    Smart,
    /// Ends sessions, writes a shutdown checkpoint.
    Fast,
    /// Ends at once; recovery follows at the next start.
    Immediate,
}

impl StopMode {
    fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::SIGTERM,
            Self::Fast => Signal::SIGINT,
            Self::Immediate => Signal::SIGQUIT,
        }
    }
}

/// What `postmaster.pid` says (line 1: process id, line 8: state).
struct PidFile {
    pid: Pid,
    accepts_connections: bool,
}

fn read_pid_file(data_dir: &Path) -> Option<PidFile> {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let mut lines = text.lines();
    let pid: i32 = lines.next()?.trim().parse().ok()?;
    let state = lines.nth(6).unwrap_or_default().trim();
    (pid > 1).then(|| PidFile { pid: Pid::from_raw(pid), accepts_connections: state == "ready" })
}

/// Whether `pid` is a process that works in `data_dir`. Process ids are used again, so where /proc tells the
/// working directory (a zombie has none) it must be the server's.
fn works_in(pid: Pid, data_dir: &Path) -> bool {
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    match std::fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => std::fs::canonicalize(data_dir).is_ok_and(|dir| dir == cwd),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => !Path::new("/proc/self").exists(),
        Err(_) => true,
    }
}

impl Instance {
    /// The postmaster's process id, if it runs.
    pub fn running(&self) -> Option<Pid> {
        let file = read_pid_file(self.data_dir())?;
        works_in(file.pid, self.data_dir()).then_some(file.pid)
    }

    /// Whether it ended without having been told to: its process file is there, and its process is not.
    pub fn has_crashed(&self) -> bool {
        self.data_dir().join("postmaster.pid").exists() && self.running().is_none()
    }

    /// Starts the server and returns when it accepts connections. A server that already runs is waited for.
    ///
    /// A standby accepts connections only once it is consistent, so its primary must be there for the first start.
    /// Dropping the future leaves a started server running.
    pub async fn start(&self, limit: Duration) -> Result<Pid, PostgresError> {
        let log_from = std::fs::metadata(self.log_file()).map_or(0, |meta| meta.len());
        match timeout(limit, self.start_and_wait(log_from)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                let log = self.log_since(log_from);
                Err(PostgresError::NotReady { name: self.name().to_owned(), limit, log })
            }
        }
    }

    async fn start_and_wait(&self, log_from: u64) -> Result<Pid, PostgresError> {
        if let Some(pid) = self.running() {
            return self.wait_ready(pid).await;
        }
        self.check_whole()?;
        loop {
            self.end_orphans().await;
            self.check_port()?;
            let mut child = self.spawn()?;
            let pid =
                child.id().and_then(|id| i32::try_from(id).ok()).map_or(Pid::from_raw(0), Pid::from_raw);
            let status = tokio::select! {
                ready = self.wait_ready(pid) => {
                    // Somebody has to wait for the child, or it stays a zombie when it is killed from outside.
                    tokio::spawn(async move { child.wait().await });
                    return ready;
                }
                ended = child.wait() => ended.map_err(|source| self.spawn_failed(source))?,
            };
            let log = self.log_since(log_from);
            // Backends of a killed postmaster that have not noticed yet hold its shared memory: a matter of moments.
            if !log.contains("pre-existing shared memory block") {
                return Err(PostgresError::Died { name: self.name().to_owned(), status, log });
            }
            sleep(POLL * 4).await;
        }
    }

    /// Whether the server could listen on its port.
    pub(super) fn check_port(&self) -> Result<(), PostgresError> {
        if !matches!(self.conf(), Conf::Ours(_)) {
            // Where somebody else's server listens is its own configuration's to say, and its log's if it cannot.
            return Ok(());
        }
        TcpListener::bind(("127.0.0.1", self.port()))
            .map(drop)
            .map_err(|_in_use| PostgresError::PortBusy { name: self.name().to_owned(), port: self.port() })
    }

    async fn wait_ready(&self, pid: Pid) -> Result<Pid, PostgresError> {
        loop {
            match read_pid_file(self.data_dir()) {
                Some(file) if file.pid == pid && file.accepts_connections => return Ok(pid),
                _ => sleep(POLL).await,
            }
        }
    }

    fn spawn(&self) -> Result<tokio::process::Child, PostgresError> {
        let log = self.open_log()?;
        let log_too = log.try_clone().map_err(|source| self.log_failed(source))?;
        let mut command = self.installation().command("postgres");
        command.arg("-D").arg(self.data_dir());
        if let Conf::Theirs { config_file: Some(file), .. } = self.conf() {
            command.arg("-c").arg(conf_argument(file));
        }
        command.stdout(Stdio::from(log)).stderr(Stdio::from(log_too));
        command.process_group(0).kill_on_drop(false);
        command.spawn().map_err(|source| self.spawn_failed(source))
    }

    fn spawn_failed(&self, source: std::io::Error) -> PostgresError {
        PostgresError::Spawn { program: self.installation().program("postgres"), source }
    }

    fn log_failed(&self, source: std::io::Error) -> PostgresError {
        PostgresError::File { doing: "open", path: self.log_file().to_path_buf(), source }
    }

    fn open_log(&self) -> Result<File, PostgresError> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file());
        let log = log.map_err(|source| self.log_failed(source))?;
        self.installation().account.own(self.log_file())?;
        Ok(log)
    }

    /// The end of what the server has written to its log.
    pub fn log_tail(&self) -> String {
        self.log_since(0)
    }

    fn log_since(&self, from: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.log_file())?;
            let end = log.metadata()?.len();
            let cut = from.max(end.saturating_sub(LOG_TAIL_BYTES));
            log.seek(SeekFrom::Start(cut))?;
            let mut text = Vec::new();
            log.take(LOG_TAIL_BYTES).read_to_end(&mut text)?;
            Ok(tail(&text, text.len()))
        };
        read().unwrap_or_else(|error| format!("({} cannot be read: {error})", self.log_file().display()))
    }

    /// Stops the server and returns when it is gone. One that does not run is stopped already.
    pub async fn stop(&self, mode: StopMode, limit: Duration) -> Result<(), PostgresError> {
        let Some(pid) = self.running() else { return Ok(()) };
        self.signal(pid, mode.signal())?;
        // A postmaster that somebody has frozen takes no other signal.
        self.signal(pid, Signal::SIGCONT)?;
        self.wait_gone(pid, limit).await
    }

    /// Kills the postmaster, as a crash would, and what it leaves behind.
    pub async fn kill(&self, limit: Duration) -> Result<(), PostgresError> {
        if let Some(pid) = self.running() {
            self.signal(pid, Signal::SIGKILL)?;
            self.wait_gone(pid, limit).await?;
        }
        self.end_orphans().await;
        Ok(())
    }

    /// Stops the server by whatever it takes: fast, after half of `limit` at once, in the end by force.
    pub async fn stop_surely(&self, limit: Duration) -> Result<(), PostgresError> {
        if self.stop(StopMode::Fast, limit / 2).await.is_ok() {
            return Ok(());
        }
        if self.stop(StopMode::Immediate, limit / 4).await.is_ok() {
            return Ok(());
        }
        self.kill(limit / 4).await
    }

    /// Makes a running server read its configuration again.
    pub fn reload(&self) -> Result<(), PostgresError> {
        self.running().map_or(Ok(()), |pid| self.signal(pid, Signal::SIGHUP))
    }

    /// Freezes (`SIGSTOP`) or wakes (`SIGCONT`) the postmaster and every process that works in the data directory.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        for pid in processes_in(self.data_dir()) {
            // One that has ended meanwhile needs no signal.
            kill(pid, signal).ok();
        }
    }

    async fn wait_gone(&self, pid: Pid, limit: Duration) -> Result<(), PostgresError> {
        let gone = async {
            while works_in(pid, self.data_dir()) {
                sleep(POLL).await;
            }
        };
        timeout(limit, gone).await.map_err(|_elapsed| PostgresError::NotStopped {
            name: self.name().to_owned(),
            pid: pid.as_raw(),
            limit,
            log: self.log_tail(),
        })
    }

    fn signal(&self, pid: Pid, signal: Signal) -> Result<(), PostgresError> {
        match kill(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(source) => {
                Err(PostgresError::Signal { name: self.name().to_owned(), pid: pid.as_raw(), source })
            }
        }
    }

    /// Ends what a dead postmaster left behind: an orphaned backend that is busy goes on committing, and keeps the
    /// server from starting again. Only where /proc shows which processes work in the data directory.
    pub async fn end_orphans(&self) {
        if self.running().is_some() || !Path::new("/proc/self").exists() {
            return;
        }
        let gone = async {
            loop {
                let orphans = processes_in(self.data_dir());
                if orphans.is_empty() {
                    return;
                }
                for pid in orphans {
                    kill(pid, Signal::SIGKILL).ok();
                }
                sleep(POLL).await;
            }
        };
        // A postmaster that nobody has waited for is a zombie, whose number PostgreSQL takes for a living server's.
        if timeout(ORPHANS_LIMIT, gone).await.is_ok() {
            std::fs::remove_file(self.data_dir().join("postmaster.pid")).ok();
            self.free_socket();
        }
    }

    /// The same of the Unix socket: a dead server of this data directory keeps it from nobody.
    fn free_socket(&self) {
        let Some(lock) = self.socket_lock() else { return };
        let Ok(text) = std::fs::read_to_string(&lock) else { return };
        let mut lines = text.lines().map(str::trim);
        let pid = lines.next().and_then(|pid| pid.parse::<i32>().ok()).map(Pid::from_raw);
        let canonical = |dir: &Path| std::fs::canonicalize(dir).ok();
        let ours = lines.next().and_then(|dir| canonical(Path::new(dir))) == canonical(self.data_dir());
        if ours && pid.is_some_and(|pid| !works_in(pid, self.data_dir())) {
            // Where it cannot be removed the server says why it does not start.
            std::fs::remove_file(&lock).ok();
        }
    }
}

/// The configuration file as an argument of `postgres -c`.
pub(super) fn conf_argument(file: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from("config_file=");
    argument.push(file);
    argument
}

/// Every process whose working directory is `data_dir`; server processes stay in it all their life.
fn processes_in(data_dir: &Path) -> Vec<Pid> {
    let Ok(dir) = std::fs::canonicalize(data_dir) else { return Vec::new() };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir))
        .map(Pid::from_raw)
        .collect()
}
