//! An upgrade without a refused or broken connection: a new process takes the place of the running one.
//!
//! The running process offers its listening sockets at a Unix socket in its `state_dir`. The new one takes them and says
//! `ready`; the old one stops deciding as soon as nothing is under way, gives the journal's lock up and answers `yours`; the
//! new one starts and says `serving`. From then on the old one accepts nobody, follows the topology that the new one makes,
//! and serves its clients until they leave. Until `serving` the old one accepts too, so there is no gap; should the new one
//! fail on the way, the old one takes the decisions back and nothing has happened.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::Proxy;
use crate::config::Settings;
use crate::control::ControlHandle;
use crate::proxy::links::NodeLink;
use crate::proxy::listener::{Inherited, Sockets};
use crate::proxy::tls::ClientTlsConfig;

/// The socket's name in `state_dir`.
const SOCKET: &str = "handover";

/// What the old process says first, with the sockets.
const GREETING: &[u8] = b"primacy-handover 1\n";

/// The new process has the sockets and could start.
const READY: &str = "ready";

/// The old process decides no more.
const YOURS: &str = "yours";

/// The new process serves.
const SERVING: &str = "serving";

/// The longest that either side waits for the other. The old one waits up to 10 s for what is under way.
const STEP_MAX: Duration = Duration::from_secs(30);

/// Most sockets that are handed over.
const SOCKETS_MAX: usize = 64;

/// Why the place of the running process was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// There is no directory in which to meet.
    #[error("a takeover needs `state_dir`, the same as the running primacy's")]
    NoStateDir,
    /// The running process would not.
    #[error("the running primacy keeps its place: {0}")]
    Refused(String),
    /// The conversation failed.
    #[error("the running primacy could not be taken over from: {doing}")]
    Io {
        /// At what.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Something that must be in order before the old one is bothered.
    #[error("the configuration cannot be served, so the running primacy goes on: {0}")]
    Unusable(String),
}

// ---- the new process ------------------------------------------------------------------------------------------------

/// The conversation with the process whose place is taken.
#[derive(Debug)]
pub(super) struct Takeover(UnixStream);

impl Takeover {
    /// Takes the running process's sockets where that is wanted and there is one; else those of the service manager.
    pub(super) fn begin(
        wanted: bool,
        settings: &Settings,
    ) -> Result<(Option<Self>, Inherited), TakeoverError> {
        if !wanted {
            return Ok((None, super::notify::sockets()));
        }
        let dir = settings.control.state_dir.as_deref().ok_or(TakeoverError::NoStateDir)?;
        let stream = match UnixStream::connect(dir.join(SOCKET)) {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                tracing::info!("no primacy runs here: nothing to take over");
                return Ok((None, super::notify::sockets()));
            }
            Err(source) => return Err(TakeoverError::Io { doing: "connecting", source }),
        };
        let limits =
            stream.set_read_timeout(Some(STEP_MAX)).and_then(|()| stream.set_write_timeout(Some(STEP_MAX)));
        limits.map_err(|source| TakeoverError::Io { doing: "connecting", source })?;
        let inherited =
            receive(&stream).map_err(|source| TakeoverError::Io { doing: "taking the sockets", source })?;
        Ok((Some(Self(stream)), inherited))
    }

    /// Has the old process stop deciding. Whatever can be found wrong is found before.
    pub(super) fn control(&mut self, settings: &Settings) -> Result<(), TakeoverError> {
        let unusable = |error: &dyn std::error::Error| TakeoverError::Unusable(super::reload::chain(error));
        NodeLink::all(&settings.proxy.nodes).map_err(|error| unusable(&error))?;
        ClientTlsConfig::load(&settings.proxy.client_tls).map_err(|error| unusable(&error))?;
        self.say(READY)?;
        let mut answer = String::new();
        let mut byte = [0];
        while answer.len() < 4096 && !answer.ends_with('\n') {
            let got = self
                .0
                .read(&mut byte)
                .map_err(|source| TakeoverError::Io { doing: "waiting for it", source })?;
            if got == 0 {
                break;
            }
            answer.push(char::from(byte[0]));
        }
        match answer.trim() {
            YOURS => Ok(()),
            "" => Err(TakeoverError::Refused("it has ended the conversation".to_owned())),
            other => Err(TakeoverError::Refused(other.to_owned())),
        }
    }

    /// Tells the old process that it may leave.
    pub(super) fn serves(mut self) -> Result<(), TakeoverError> {
        self.say(SERVING)
    }

    fn say(&mut self, word: &str) -> Result<(), TakeoverError> {
        let said = self.0.write_all(format!("{word}\n").as_bytes());
        said.map_err(|source| TakeoverError::Io { doing: "telling it", source })
    }
}

fn receive(stream: &UnixStream) -> io::Result<Inherited> {
    let mut text = [0; GREETING.len()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut text)];
    rustix::net::recvmsg(stream, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut inherited = Inherited::default();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            sockets.for_each(|socket| sort(&mut inherited, socket));
        }
    }
    if text != GREETING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks another version of the handover"));
    }
    Ok(inherited)
}

/// A socket whose address is one of the Internet's, or a file's.
pub(super) fn sort(inherited: &mut Inherited, socket: OwnedFd) {
    let tcp = TcpListener::from(socket);
    if tcp.local_addr().is_ok() {
        inherited.tcp.push(tcp);
    } else {
        inherited.unix.push(UnixListener::from(OwnedFd::from(tcp)));
    }
}

// ---- the old process ------------------------------------------------------------------------------------------------

/// What is handed over.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) sockets: Sockets,
    pub(super) admin: Option<TcpListener>,
}

/// Waits for another process that takes this one's place; drop it and the offer ends.
#[derive(Debug)]
pub struct Handover(Option<tokio::task::JoinHandle<()>>);

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some(offer) = &self.0 {
            offer.abort();
        }
    }
}

impl Handover {
    /// Ready when another process serves; never where none can.
    pub(super) async fn done(mut self) {
        if let Some(offer) = &mut self.0
            && offer.await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

impl Proxy {
    /// Offers the sockets to a process that wants to take over.
    pub(super) fn offer_handover(&self) -> Handover {
        let (Some(dir), Some(offered)) = (self.running.state_dir.clone(), self.sockets.clone()) else {
            return Handover(None);
        };
        match bind(&dir) {
            Ok(listener) => {
                let control = self.control.clone();
                Handover(Some(tokio::spawn(async move {
                    while let Err(error) = hand_over(&listener, &offered, &control).await {
                        tracing::error!(%error, "nobody has taken over: this process goes on");
                    }
                })))
            }
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "upgrades without a pause are not possible");
                Handover(None)
            }
        }
    }
}

fn bind(dir: &Path) -> io::Result<tokio::net::UnixListener> {
    // Whoever listened there has been taken over from, or is dead: the journal's lock is ours.
    let path = dir.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// One process that wants to take over. `Ok` only when it serves.
async fn hand_over(
    listener: &tokio::net::UnixListener,
    offered: &Offered,
    control: &ControlHandle,
) -> io::Result<()> {
    let (stream, _) = listener.accept().await?;
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != nix::unistd::getuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {peer} asked for the sockets"),
        ));
    }
    stream.writable().await?;
    send(&stream, offered)?;
    let mut lines = BufReader::new(stream);
    expect(&mut lines, READY).await?;
    tracing::info!("another process is ready to take over");
    if let Err(error) = control.release().await {
        lines.get_mut().write_all(format!("{error}\n").as_bytes()).await?;
        return Err(io::Error::other(error));
    }
    let told = async {
        lines.get_mut().write_all(format!("{YOURS}\n").as_bytes()).await?;
        expect(&mut lines, SERVING).await
    };
    if let Err(error) = told.await {
        if let Err(kept) = control.reacquire().await {
            // It died with the lock in its hands, or has it still: whoever holds it decides.
            tracing::error!(%kept, "the decisions could not be taken back");
        }
        return Err(error);
    }
    Ok(())
}

async fn expect(lines: &mut BufReader<tokio::net::UnixStream>, word: &str) -> io::Result<()> {
    let mut line = String::new();
    let read = tokio::time::timeout(STEP_MAX, lines.read_line(&mut line)).await;
    match read {
        Err(_late) => Err(io::ErrorKind::TimedOut.into()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) if line.trim() == word => Ok(()),
        Ok(Ok(_)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("it did not say {word:?}"))),
    }
}

fn send(stream: &tokio::net::UnixStream, offered: &Offered) -> io::Result<()> {
    let mut sockets = offered.sockets.handles();
    sockets.extend(offered.admin.as_ref().map(AsFd::as_fd));
    sockets.truncate(SOCKETS_MAX);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("more sockets than can be handed over"));
    }
    rustix::net::sendmsg(stream, &[IoSlice::new(GREETING)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Starts the program anew, from the file that it was started from, to take this process's place.
pub(super) fn start_successor() {
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--takeover");
    let begun = program().and_then(|program| {
        tokio::process::Command::new(program).args(arguments).arg("--takeover").kill_on_drop(false).spawn()
    });
    match begun {
        Ok(mut successor) => {
            tracing::info!(pid = successor.id(), "started to take this process's place");
            tokio::spawn(async move {
                match successor.wait().await {
                    Ok(status) if status.success() => {}
                    Ok(status) => tracing::error!(%status, "the process that was to take over has ended"),
                    Err(error) => {
                        tracing::error!(%error, "the process that was to take over is out of sight");
                    }
                }
            });
        }
        Err(error) => tracing::error!(%error, "no process could be started to take over"),
    }
}

/// The program's file; where it was replaced the system marks the old one's name, and the new one is wanted.
fn program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}
