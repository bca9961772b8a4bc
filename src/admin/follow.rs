//! Counts the changes of primary: whenever the topology changes, what the history has more than before.

use super::json::ChangeReport;
use super::report::took;
use super::server::AdminContext;
use crate::observe::ChangeOfPrimary;

/// Runs for ever.
pub(super) async fn changes_of_primary(context: AdminContext) {
    let mut published = context.board.changes();
    let mut counted = newest(&context.operator.history());
    // An error means that the board is gone, and with it everything that could change.
    while published.changed().await.is_ok() {
        let history = context.operator.history();
        for change in history.iter().filter(|change| key(change) > counted) {
            context.metrics.primary_changed(how(change), took(change));
        }
        counted = counted.max(newest(&history));
    }
}

/// An attempt has an epoch of its own; one that was given up may be written later than its successor.
fn key(change: &ChangeReport) -> (u64, String) {
    (change.epoch, change.at.clone())
}

fn newest(history: &[ChangeReport]) -> (u64, String) {
    history.iter().map(key).max().unwrap_or_default()
}

fn how(change: &ChangeReport) -> ChangeOfPrimary {
    if change.to.is_none() {
        return ChangeOfPrimary::Abandoned;
    }
    match change.cause.as_str() {
        "failover" => ChangeOfPrimary::Failover,
        "commanded" => ChangeOfPrimary::Commanded,
        "switchover" => ChangeOfPrimary::Switchover,
        _ => ChangeOfPrimary::Adopted,
    }
}
