//! The cells that metrics are made of: plain relaxed atomics, summed only when somebody looks.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::label::Label;

/// A number that grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Shows what somebody else counts.
    pub(super) fn show(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. One worker may raise it and another lower it: only the sum means something.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicI64);

impl Gauge {
    pub(super) fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lower(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter per value of an enum.
#[derive(Debug)]
pub(super) struct Tally<L> {
    cells: Box<[Counter]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Default for Tally<L> {
    fn default() -> Self {
        Self { cells: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> Tally<L> {
    pub(super) fn count(&self, value: L) {
        if let Some(cell) = self.cells.get(value.index()) {
            cell.add(1);
        }
    }

    pub(super) fn value(&self, value: L) -> u64 {
        self.cells.get(value.index()).map_or(0, Counter::value)
    }
}

/// Upper bounds of the buckets, in microseconds: from what nobody notices to what everybody does.
const BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub(super) struct Durations {
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl Durations {
    pub(super) fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        if let Some(cell) = self.buckets.get(bucket) {
            cell.add(1);
        }
        self.sum_us.add(us);
    }
}

/// Several workers' durations together, as a scrape shows them.
#[derive(Debug, Default)]
pub(super) struct DurationsShown {
    pub(super) sum_s: f64,
    pub(super) count: u64,
    /// Upper bound in seconds, and how many fell into this bucket alone.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl DurationsShown {
    pub(super) fn of<'d>(all: &(impl Iterator<Item = &'d Durations> + Clone)) -> Self {
        let sum_us: u64 = all.clone().map(|durations| durations.sum_us.value()).sum();
        let bounds =
            BOUNDS_US.iter().map(|us| Duration::from_micros(*us).as_secs_f64()).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .enumerate()
            .map(|(n, bound)| (bound, all.clone().filter_map(|d| d.buckets.get(n)).map(Counter::value).sum()))
            .collect();
        Self {
            sum_s: Duration::from_micros(sum_us).as_secs_f64(),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}
