//! What the dashboard's curves are made of: a sample every two seconds, kept for ten minutes, so that who opens the page
//! sees what was before. In: metrics and topology. Out: a bounded list.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::json::{NodeSample, Sample, SeriesReport};
use super::server::AdminContext;
use crate::control::report::timestamp;
use crate::observe::Wait;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(2);

/// Samples that are kept.
const SAMPLES_MAX: usize = 300;

/// Statements by how long they took: upper bounds in seconds, and how many fell in there.
type Buckets = Vec<(f64, u64)>;

/// The samples.
#[derive(Debug, Default)]
pub(super) struct Series(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    samples: VecDeque<Sample>,
    buckets: Buckets,
}

impl Series {
    /// Looks again and again. Runs for ever.
    pub(super) async fn keep(&self, context: &AdminContext) {
        let mut interval = tokio::time::interval(EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.take(context);
        }
    }

    fn take(&self, context: &AdminContext) {
        let metrics = &context.metrics;
        let snapshot = std::sync::Arc::clone(&context.board.snapshot());
        let nodes = snapshot.nodes.iter().map(|node| {
            let counts = metrics.node(node.id);
            NodeSample {
                requests: counts.requests,
                connections: counts.open,
                leased: counts.leased,
                lag_bytes: node.lag_bytes,
                lag_ms: u64::try_from(node.lag.as_millis()).unwrap_or(u64::MAX),
            }
        });
        let reasons: BTreeMap<String, u64> =
            metrics.by_reason().into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
        let buckets = metrics.statement_times();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = difference(&buckets, &kept.buckets);
        kept.buckets = buckets;
        if kept.samples.len() == SAMPLES_MAX {
            kept.samples.pop_front();
        }
        kept.samples.push_back(Sample {
            at: timestamp(crate::clock::wall()),
            transactions: metrics.transactions(),
            clients: metrics.clients(),
            holds: metrics.waiting(Wait::Primary),
            pool_waits: metrics.waiting(Wait::Pool),
            freshness_waits: metrics.waiting(Wait::Freshness),
            p50_ms: quantile(&since, 0.5).map(|s| s * 1e3),
            p99_ms: quantile(&since, 0.99).map(|s| s * 1e3),
            service: snapshot.service.as_str().to_owned(),
            primary: snapshot.primary.and_then(|id| snapshot.node(id)).map(|node| node.name.to_string()),
            nodes: nodes.collect(),
            reasons,
        });
    }

    /// Everything that is kept, oldest first.
    pub(super) fn report(&self, context: &AdminContext) -> SeriesReport {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SeriesReport {
            every_ms: u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX),
            nodes: context.board.snapshot().nodes.iter().map(|node| node.name.to_string()).collect(),
            samples: kept.samples.iter().cloned().collect(),
        }
    }
}

fn difference(now: &Buckets, before: &Buckets) -> Buckets {
    let old = |at: usize| before.get(at).map_or(0, |(_, count)| *count);
    now.iter().enumerate().map(|(at, (bound, count))| (*bound, count.saturating_sub(old(at)))).collect()
}

/// The value below which this share lies, as straight a line as there is between a bucket's bounds. `None`: nothing was.
#[expect(clippy::cast_precision_loss, reason = "counts of two seconds")]
fn quantile(buckets: &Buckets, share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().map(|(_, count)| count).sum();
    if all == 0 {
        return None;
    }
    let wanted = all as f64 * share;
    let (mut below, mut lower) = (0.0, 0.0);
    for (upper, count) in buckets {
        let count = *count as f64;
        if below + count >= wanted && count > 0.0 {
            // The last bucket has no upper bound: all that is known is the lower.
            let width = if upper.is_finite() { upper - lower } else { 0.0 };
            return Some(lower + width * (wanted - below) / count);
        }
        below += count;
        lower = *upper;
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_where_the_counts_lie() {
        let buckets = vec![(0.001, 50), (0.01, 40), (0.1, 10), (f64::INFINITY, 0)];
        let near = |share: f64, value: f64| {
            let found = quantile(&buckets, share).expect("some");
            assert!((found - value).abs() < 1e-9, "{share}: {found}");
        };
        near(0.5, 0.001);
        near(0.25, 0.000_5);
        near(0.9, 0.01);
        near(0.99, 0.091);
        assert_eq!(quantile(&vec![(0.1, 0)], 0.5), None);
        assert_eq!(quantile(&vec![(0.1, 0), (f64::INFINITY, 3)], 0.5), Some(0.1));
        assert_eq!(difference(&buckets, &vec![(0.001, 20)])[0], (0.001, 30));
    }
}
