//! The configuration that the demo's proxy runs with: an ordinary file, for `primacy serve` as well.

use std::fmt::Write as _;
use std::path::Path;

use toml::Value;

use super::{DemoArgs, DemoError, DurabilityArg};
use crate::postgres::Cluster;

/// Writes the file anew; what it says follows from the arguments.
pub(super) fn write(file: &Path, args: &DemoArgs, cluster: &Cluster) -> Result<(), DemoError> {
    std::fs::write(file, render(args, cluster)).map_err(|source| DemoError::File {
        doing: "write",
        path: file.to_path_buf(),
        source,
    })
}

fn render(args: &DemoArgs, cluster: &Cluster) -> String {
    let state_dir = cluster.dir().join("state").display().to_string();
    let (user, password) = Cluster::SUPERUSER;
    let (replication_user, replication_password) = Cluster::REPLICATION;
    let durability = match args.durability {
        // Nobody but the primary is there to have it.
        DurabilityArg::Quorum if cluster.nodes().len() == 1 => "async",
        DurabilityArg::Quorum => "quorum",
        DurabilityArg::Async => "async",
    };
    let mut text = format!(
        "# Written by `primacy demo` at every start: a change here is lost.\n\
         listen = {}\nstate_dir = {}\n\n\
         [service]\nuser = {}\npassword = {}\n\n\
         [replication]\nuser = {}\npassword = {}\n\n\
         [failover]\ndurability = {}\n{}\n\
         # Ctrl-C ends transactions that are still running after this.\n\
         [limits]\ndrain_timeout = \"3s\"\n\n\
         [admin]\nlisten = {}\n",
        quoted(&args.listen.to_string()),
        quoted(&state_dir),
        quoted(user),
        quoted(password),
        quoted(replication_user),
        quoted(replication_password),
        quoted(durability),
        // Who stands in between freezes one primary after another, and wants to see each of them replaced.
        if args.via.is_empty() { "" } else { "max_soft_per_hour = 1000\nsoft_interval = \"0s\"\n" },
        quoted(&args.admin.to_string()),
    );
    for (number, node) in cluster.nodes().iter().enumerate() {
        let (name, own) = (quoted(node.name()), node.port());
        let port = args.via.get(number).copied().unwrap_or(own);
        // Writing to a string cannot fail.
        write!(text, "\n[[nodes]]\nname = {name}\nhost = \"127.0.0.1\"\nport = {port}\n").ok();
        if port != own {
            writeln!(text, "replication_address = \"127.0.0.1:{own}\"").ok();
        }
    }
    text
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
