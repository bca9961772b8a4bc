//! Real servers for tests, reading as prose:
//! `let cluster = Cluster::with_replicas(2).await; let proxy = cluster.proxy().run().await;`
//!
//! A data directory is prepared once per version and kept in the temporary directory; a cluster is made of copies
//! of it. Everything that a test starts ends with it, also when it panics or is killed. Works as root and not.

mod certificates;
mod cluster;
mod disk;
mod ports;
mod proxy;
mod raw;
mod template;
mod wait;

pub(crate) use certificates::Certificates;
pub(crate) use cluster::Cluster;
pub(crate) use disk::SmallDisk;
pub(crate) use ports::PortLease;
pub(crate) use proxy::{Proxy, ProxyBuilder};
pub(crate) use raw::{Raw, frame, send_cancel, startup, startup_of, steps};
pub(crate) use template::installation;
pub(crate) use wait::{LIMIT, eventually};
