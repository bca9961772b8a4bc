//! Times of many changes of primary: what each step took, and how they are spread.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::report::percentile;
use crate::admin::json::ChangeReport;

/// Columns of a distribution, and the milliseconds of each; the last one holds everything beyond.
const COLUMNS: usize = 40;
const COLUMN_MS: f64 = 25.0;

/// One step of the failovers of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PhaseReport {
    /// What was reached by it.
    pub step: String,
    /// Milliseconds since the step before, one by one.
    pub each_ms: Vec<f64>,
}

/// The steps of all failovers that were carried through, in their order.
pub(super) fn phases(changes: &[ChangeReport]) -> Vec<PhaseReport> {
    let mut phases: Vec<PhaseReport> = Vec::new();
    for change in changes.iter().filter(|change| change.cause == "failover" && change.to.is_some()) {
        let mut before = 0.0;
        for step in &change.steps {
            let took = step.after_ms - before;
            before = step.after_ms;
            add(&mut phases, &step.step, took);
        }
    }
    phases
}

/// Microseconds from the first sign of trouble to the last step.
pub(super) fn took(change: &ChangeReport) -> u64 {
    let last = change.steps.last().map_or(0.0, |step| step.after_ms);
    Duration::try_from_secs_f64(last / 1000.0).map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(0))
}

/// The phases of several runs together.
pub(super) fn together(phases: &mut Vec<PhaseReport>, more: &[PhaseReport]) {
    for phase in more {
        for took in &phase.each_ms {
            add(phases, &phase.step, *took);
        }
    }
}

fn add(phases: &mut Vec<PhaseReport>, step: &str, took: f64) {
    if let Some(phase) = phases.iter_mut().find(|phase| phase.step == step) {
        phase.each_ms.push(took);
    } else {
        phases.push(PhaseReport { step: step.to_owned(), each_ms: vec![took] });
    }
}

/// Values in order, with what is asked of them.
#[derive(Clone, Debug)]
pub(super) struct Spread(Vec<f64>);

impl Spread {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn at(&self, percent: usize) -> f64 {
        percentile(&self.0, percent)
    }
}

/// What each phase took, and bare promotions beside them.
pub(super) fn write(
    out: &mut String,
    phases: &[PhaseReport],
    bare_ms: [&[f64]; 2],
    kills_ms: &[f64],
) -> std::fmt::Result {
    if !phases.is_empty() {
        writeln!(out, "\nsteps of a failover, ms since the one before   median      p99      max")?;
    }
    for phase in phases {
        let spread = Spread::of(phase.each_ms.iter().copied());
        writeln!(
            out,
            "  {:<42} {:>8.1} {:>8.1} {:>8.1}",
            phase.step,
            spread.at(50),
            spread.at(99),
            spread.at(100)
        )?;
    }
    let kills = Spread::of(kills_ms.iter().copied());
    if kills.count() >= 10 {
        writeln!(out, "\nkill to first write, {COLUMN_MS:.0} ms a column, 0 to {:.0}:", COLUMN_MS * 40.0)?;
        writeln!(out, "  |{}|", super::report::bars(&columns(&kills.0)))?;
    }
    if kills.count() > 0 {
        writeln!(out, "\nkill to first write through primacy, {}", in_words(&kills))?;
    }
    for (how, each_ms) in ["as it waits by itself", "looked at each millisecond"].into_iter().zip(bare_ms) {
        let bare = Spread::of(each_ms.iter().copied());
        if bare.count() > 0 {
            writeln!(out, "bare pg_promote in the same minutes, {how}, {}", in_words(&bare))?;
        }
        if bare.count() > 0 && kills.count() > 0 {
            writeln!(out, "  medians {:.2} : 1", kills.at(50) / bare.at(50))?;
        }
    }
    writeln!(out)
}

fn in_words(spread: &Spread) -> String {
    let [median, p99, max] = [50, 99, 100].map(|percent| spread.at(percent));
    format!("{} times: median {median:.0} ms, p99 {p99:.0}, max {max:.0}", spread.count())
}

fn columns(values: &[f64]) -> Vec<usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for value in values {
        // Counted up rather than divided: no cast between kinds of numbers.
        let column = (1..COLUMNS).take_while(|column| *value >= edge(*column)).count();
        *counts.entry(column).or_default() += 1;
    }
    (0..COLUMNS).map(|column| counts.get(&column).copied().unwrap_or(0)).collect()
}

fn edge(column: usize) -> f64 {
    u32::try_from(column).map_or(f64::MAX, f64::from) * COLUMN_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::json::StepReport;

    fn change(cause: &str, to: Option<&str>, steps: &[(&str, f64)]) -> ChangeReport {
        let step = |(step, after_ms): &(&str, f64)| StepReport { step: (*step).into(), after_ms: *after_ms };
        ChangeReport {
            cause: cause.into(),
            to: to.map(str::to_owned),
            steps: steps.iter().map(step).collect(),
            ..ChangeReport::default()
        }
    }

    #[test]
    fn phases_are_differences_of_failovers_that_were_carried_through() {
        let all = [
            change("failover", Some("a"), &[("held", 1.0), ("recruited", 31.0), ("opened", 100.0)]),
            change("failover", None, &[("held", 900.0)]),
            change("switchover", Some("a"), &[("held", 900.0)]),
            change("failover", Some("b"), &[("held", 3.0), ("recruited", 13.0), ("opened", 90.0)]),
        ];
        let phases = phases(&all);
        let each: Vec<(&str, &[f64])> = phases.iter().map(|p| (&*p.step, &*p.each_ms)).collect();
        assert_eq!(
            each,
            [("held", &[1.0, 3.0][..]), ("recruited", &[30.0, 10.0]), ("opened", &[69.0, 77.0])]
        );
    }

    #[test]
    fn what_is_beyond_the_chart_is_in_its_last_column() {
        let columns = columns(&[0.0, 24.9, 25.0, 99_999.0]);
        assert_eq!((columns[0], columns[1], columns[COLUMNS - 1]), (2, 1, 1));
    }

    #[test]
    fn the_ratios_are_of_medians() {
        let mut text = String::new();
        let bare = [[100.0, 110.0, 500.0], [50.0, 55.0, 400.0]];
        write(&mut text, &[], bare.each_ref().map(<[f64; 3]>::as_slice), &[200.0, 220.0, 900.0]).unwrap();
        assert!(
            text.contains("by itself, 3 times: median 110 ms, p99 500, max 500\n  medians 2.00 : 1"),
            "{text}"
        );
        assert!(
            text.contains("millisecond, 3 times: median 55 ms, p99 400, max 400\n  medians 4.00 : 1"),
            "{text}"
        );
    }
}
