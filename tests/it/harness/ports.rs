//! Free ports that stay ours: below the range that the kernel gives to outgoing connections, and each with a locked
//! file so that tests in other processes pass it by.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// A port of 127.0.0.1 that nobody else in these tests uses while this lives.
#[derive(Debug)]
pub(crate) struct PortLease {
    port: u16,
    _lock: Flock<File>,
}

impl PortLease {
    /// Finds a free one.
    pub(crate) fn take() -> Self {
        let dir = shared_dir().join("ports");
        std::fs::create_dir_all(&dir).unwrap();
        for _ in 0..10_000 {
            if let Some(lease) = Self::try_take(&dir, fastrand::u16(15_000..32_000)) {
                return lease;
            }
        }
        panic!("no free port between 15000 and 32000");
    }

    /// Finds `count` of them side by side.
    pub(crate) fn take_row(count: u16) -> Vec<Self> {
        let dir = shared_dir().join("ports");
        std::fs::create_dir_all(&dir).unwrap();
        for _ in 0..10_000 {
            let first = fastrand::u16(15_000..32_000 - count);
            let row: Vec<Self> =
                (first..first + count).map_while(|port| Self::try_take(&dir, port)).collect();
            if row.len() == usize::from(count) {
                return row;
            }
        }
        panic!("no {count} free ports side by side between 15000 and 32000");
    }

    fn try_take(dir: &Path, port: u16) -> Option<Self> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(port.to_string()));
        let lock = Flock::lock(file.unwrap(), FlockArg::LockExclusiveNonblock).ok()?;
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(Self { port, _lock: lock })
    }

    /// Its number.
    pub(crate) fn number(&self) -> u16 {
        self.port
    }
}

/// What all test processes of this user share.
pub(crate) fn shared_dir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("primacy-it-{}", nix::unistd::geteuid()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
