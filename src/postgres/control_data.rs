//! What a stopped server's control file says: which cluster it is of, and whether it was shut down in order.

use std::path::Path;
use std::time::Duration;

use super::command::run;
use super::{Installation, PostgresError};

const LIMIT: Duration = Duration::from_secs(10);

/// The few lines of `pg_controldata` that count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlData {
    /// The cluster's identity: the same on a primary and all its replicas.
    pub system_id: u64,
    /// It was shut down in order, and needs no recovery.
    pub shut_down: bool,
}

impl ControlData {
    /// Reads it from a data directory.
    pub async fn read(installation: &Installation, data_dir: &Path) -> Result<Self, PostgresError> {
        let mut command = installation.command("pg_controldata");
        command.arg("-D").arg(data_dir);
        let said = run(command, LIMIT).await?;
        Self::parse(&said).ok_or_else(|| PostgresError::File {
            doing: "understand pg_controldata of",
            path: data_dir.to_path_buf(),
            source: std::io::ErrorKind::InvalidData.into(),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.strip_prefix(':')).map(str::trim)
        };
        let system_id = value("Database system identifier")?.parse().ok()?;
        let state = value("Database cluster state")?;
        Some(Self { system_id, shut_down: matches!(state, "shut down" | "shut down in recovery") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_count_are_read() {
        let text = "pg_control version number:            1300\nDatabase system identifier:           7391\n\
                    Database cluster state:               in production\n";
        assert_eq!(ControlData::parse(text), Some(ControlData { system_id: 7391, shut_down: false }));
        let down = text.replace("in production", "shut down in recovery");
        assert!(ControlData::parse(&down).unwrap().shut_down);
        assert_eq!(ControlData::parse("Database system identifier: x\n"), None);
    }
}
