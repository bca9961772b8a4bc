//! What names a node and where it listens.

use std::fmt;
use std::path::PathBuf;

/// A configured server, by its place in the configuration; stable while the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

impl NodeId {
    /// The place as an index into per-node tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Where a PostgreSQL server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host name or IP address, and port.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The directory of a Unix socket, and the port that is part of the socket's name.
    Unix {
        /// Directory that holds `.s.PGSQL.<port>`.
        dir: PathBuf,
        /// The number in the file's name.
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { dir, port } => write!(f, "{}/.s.PGSQL.{port}", dir.display()),
        }
    }
}
