//! What the control plane tells people and programs: the JSON of the API, the CLI and the dashboard.
//!
//! The names of the fields are a promise; new ones may come. Positions and identifiers are text as PostgreSQL writes
//! them, times are in milliseconds.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// What the decision core is doing: `steady`, `suspect`, `recruiting`, ...
    pub state: String,
    /// The rule that brought it there.
    pub rule: String,
    /// Why, in words; empty in peace.
    pub reason: String,
    /// Whether statements for the primary go out: `open`, `held`, `read-only`.
    pub service: String,
    /// One more at every change of primary.
    pub epoch: u64,
    /// The timeline of this epoch.
    pub timeline: u32,
    /// The primary's name.
    pub primary: Option<String>,
    /// The cluster's identity.
    pub system_id: Option<String>,
    /// Whether automatic failover is on.
    pub automatic: bool,
    /// Whether the journal survives a restart.
    pub journal_durable: bool,
    /// Whose acknowledgements a commit needs, once known.
    pub quorum: Option<QuorumReport>,
    /// What people were told and is still so.
    pub alarms: Vec<String>,
    /// Every configured node.
    pub nodes: Vec<NodeReport>,
}

/// Whose acknowledgements count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumReport {
    /// The primary and every standby that may acknowledge.
    pub size: usize,
    /// How many standbys must have a commit before it is acknowledged; 0: none.
    pub standbys: usize,
    /// The configured nodes among them.
    pub members: Vec<String>,
    /// How many standbys a failover needs so that nothing acknowledged is lost.
    pub recruits_needed: usize,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// `primary`, `replica`, `unknown`.
    pub role: String,
    /// What it is to this epoch: `member`, `vetting`, `rejoining`, `quarantined`, ...
    pub standing: String,
    /// What came of the last probe: `answered`, `refused`, `timeout`, ...
    pub reach: String,
    /// The last probe's error; empty where it was answered.
    pub error: String,
    /// Whether it serves reads.
    pub readable: bool,
    /// Why it serves none.
    pub unreadable: Option<String>,
    /// The timeline that it was last seen on.
    pub timeline: u32,
    /// Received (replica) or written (primary).
    pub received: String,
    /// Replayed (replica) or written (primary).
    pub replayed: String,
    /// Bytes behind the primary.
    pub lag_bytes: u64,
    /// Time behind the primary.
    pub lag_ms: u64,
    /// The node that it streams from.
    pub streams_from: Option<String>,
    /// What its acknowledgements are worth to the primary: `async`, `potential`, `sync`, `quorum`.
    pub sync_state: Option<String>,
    /// Availability zone.
    pub zone: String,
    /// Share of reads.
    pub weight: u32,
    /// `server_version_num`.
    pub server_version: u32,
    /// Age of the last answer.
    pub answered_ms_ago: Option<u64>,
}

/// One change of primary, or the attempt at one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When it ended (UTC, RFC 3339).
    pub at: String,
    /// The epoch of the attempt.
    pub epoch: u64,
    /// `failover`, `commanded`, `switchover`, `adopted`.
    pub cause: String,
    /// The rule that confirmed it.
    pub rule: String,
    /// The primary before.
    pub from: Option<String>,
    /// The primary after; none where the attempt was abandoned.
    pub to: Option<String>,
    /// The timeline after.
    pub timeline: u32,
    /// Where it left the one before.
    pub fork: String,
    /// The steps.
    pub steps: Vec<StepReport>,
    /// What may have been lost.
    pub lost: Option<LostReport>,
    /// Why it was abandoned; empty where it was not.
    pub abandoned: String,
}

/// A step of a change of primary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// `held`, `confirmed`, `recruited`, `promoted`, ...
    pub step: String,
    /// Since the first sign of trouble, or the command.
    pub after_ms: f64,
}

/// WAL of the old primary that the new one does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostReport {
    /// The old timeline.
    pub timeline: u32,
    /// The last position that the new primary has.
    pub after: String,
    /// The last position that the old primary was seen at.
    pub seen: String,
}

/// A moment as RFC 3339 text in UTC, to the millisecond.
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, days) = (since.as_secs() % 86_400, since.as_secs() / 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The Gregorian date, `days` after 1970-01-01. Years begin in March here, so that the leap day is a year's last and a
/// month's first day is a linear function of the month.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_400_YEARS: u64 = 146_097;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / DAYS_400_YEARS, days % DAYS_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / (DAYS_400_YEARS - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        let at = |seconds, millis: u32| {
            timestamp(SystemTime::UNIX_EPOCH + Duration::new(seconds, 1_000_000 * millis))
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399, 7), "2000-02-28T23:59:59.007Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(951_868_800, 0), "2000-03-01T00:00:00.000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }
}
