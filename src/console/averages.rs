//! What SHOW STATS averages over: the counts of a moment ago, kept for one period.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::proxy::counts::Counted;
use crate::proxy::report::{Want, WorkerReport};
use crate::proxy::worker::Shared;

/// PgBouncer's `stats_period`.
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// Counts by database.
pub(super) type ByDatabase = BTreeMap<Arc<str>, Counted>;

/// What happened in the last whole period.
#[derive(Debug, Default)]
pub(super) struct Averages(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: Option<(Instant, ByDatabase)>,
    period: ByDatabase,
    length: Duration,
}

impl Averages {
    /// Looks once per period. Runs for ever.
    pub(super) async fn keep(&self, shared: &Shared) {
        let mut interval = tokio::time::interval(PERIOD);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let now = together(&shared.report(Want::Sessions).await);
            self.take(clock::now(), now);
        }
    }

    fn take(&self, at: Instant, now: ByDatabase) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, last)) = kept.last.take() {
            kept.length = at.saturating_duration_since(before);
            let none = Counted::default();
            let since = |(name, counted): (&Arc<str>, &Counted)| {
                (Arc::clone(name), counted.since(last.get(name).unwrap_or(&none)))
            };
            kept.period = now.iter().map(since).collect();
        }
        kept.last = Some((at, now));
    }

    /// A database's counts of the last period, and its length; nothing before the first one has passed.
    pub(super) fn of(&self, database: &str) -> (Counted, Duration) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.period.get(database).copied().unwrap_or_default(), kept.length)
    }
}

/// All workers' counts.
pub(super) fn together(reports: &[WorkerReport]) -> ByDatabase {
    let mut all = ByDatabase::new();
    for (name, counted) in reports.iter().flat_map(|report| &report.databases) {
        all.entry(Arc::clone(name)).or_default().add(counted);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_what_came_between_two_looks() {
        let averages = Averages::default();
        let counted =
            |queries| ByDatabase::from([(Arc::from("app"), Counted { queries, ..Counted::default() })]);
        let begin = clock::now();
        averages.take(begin, counted(10));
        assert_eq!(averages.of("app"), (Counted::default(), Duration::ZERO));
        averages.take(begin + PERIOD, counted(25));
        assert_eq!(averages.of("app").0.queries, 15);
        averages.take(begin + PERIOD * 2, counted(25));
        assert_eq!(averages.of("app"), (Counted::default(), PERIOD));
        assert_eq!(averages.of("other").0, Counted::default());
    }
}
