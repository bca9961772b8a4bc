//! Free ports that stay ours: below the range that the kernel gives to outgoing connections, and each with a locked
//! file so that tests in other processes pass it by.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;

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
            let port = fastrand::u16(15_000..32_000);
            let file =
                OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(port.to_string()));
            let Ok(lock) = Flock::lock(file.unwrap(), FlockArg::LockExclusiveNonblock) else { continue };
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Self { port, _lock: lock };
            }
        }
        panic!("no free port between 15000 and 32000");
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
