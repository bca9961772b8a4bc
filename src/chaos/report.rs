//! The verdict, as values, as JSON and for people.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::faults::Fault;
use super::history::End;
use super::load::{Entry, Notes};
use super::times::{self, PhaseReport};

/// Columns of the chart.
const CHART_COLUMNS: usize = 100;

/// One fault that happened. Times are microseconds since the run began.
#[derive(Clone, Debug)]
pub struct Blow {
    /// What was done.
    pub fault: Fault,
    /// To which node.
    pub node: String,
    /// When.
    pub at: u64,
    /// When everything was as before, or was waited for no longer.
    pub whole_at: u64,
    /// Whether it was.
    pub whole: bool,
    /// There is another primary than before.
    pub promoted: bool,
    /// The epoch after it.
    pub epoch: Option<u64>,
    /// How long the proxy took for the change of primary, from the first sign that it saw, which came after the blow. No write
    /// that was acknowledged sooner is the new primary's.
    pub took: u64,
}

/// What a fault did to the clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlowReport {
    /// What was done.
    pub fault: String,
    /// To which node.
    pub node: String,
    /// Seconds since the run began.
    pub at_s: f64,
    /// Milliseconds to the first acknowledged write among those that were sent after it. Where another primary took over: to
    /// its first one, for the last moments of the old one are not the new one's merit.
    pub first_write_ms: Option<f64>,
    /// The longest time without an acknowledged write from then until all was whole, in milliseconds.
    pub pause_ms: f64,
    /// Whether there was another primary afterwards.
    pub promoted: bool,
    /// Milliseconds until all nodes served again.
    pub whole_ms: Option<f64>,
}

/// Times of one kind of fault, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FaultReport {
    /// How many there were.
    pub count: usize,
    /// Of them with another primary afterwards.
    pub promoted: usize,
    /// Median of `first_write_ms`.
    pub first_write_median_ms: f64,
    /// 99th percentile.
    pub first_write_p99_ms: f64,
    /// The longest.
    pub first_write_max_ms: f64,
    /// Median of `pause_ms`.
    pub pause_median_ms: f64,
    /// The longest.
    pub pause_max_ms: f64,
}

/// What a run has found. Lists of stories are empty in a good one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Whether every promise was kept.
    pub held: bool,
    /// What was not, in short.
    pub broken_promises: Vec<String>,
    /// Where the dice started.
    pub seed: u64,
    /// How long clients ran.
    pub seconds: f64,
    /// Inserts that were acknowledged.
    pub acknowledged: usize,
    /// Of them not there in the end.
    pub lost: Vec<i64>,
    /// Inserts that are there more than once.
    pub duplicated: Vec<i64>,
    /// Inserts that were refused, and are there all the same.
    pub refused_but_there: Vec<i64>,
    /// Inserts whose client was told that nobody knows (08007): there, and not there.
    pub unknown: [usize; 2],
    /// Transactions on lists that were acknowledged.
    pub transactions: usize,
    /// Transfers that were acknowledged.
    pub transfers: u64,
    /// Reads that missed what their client knew to be there.
    pub stale_reads: Vec<String>,
    /// Sums of all accounts that were wrong.
    pub wrong_sums: Vec<String>,
    /// What no order of the transactions explains.
    pub anomalies: Vec<String>,
    /// Connections that broke without the proxy having been killed.
    pub connections_broken: usize,
    /// Errors that clients got, by SQLSTATE.
    pub errors: BTreeMap<String, u64>,
    /// The first ones of each SQLSTATE in each run, in words: when, whose, what, and that client's error before.
    #[serde(default)]
    pub error_examples: BTreeMap<String, Vec<String>>,
    /// Promotions where there should have been none, and none where there should have been one.
    pub wrong_promotions: Vec<String>,
    /// Faults after which not all nodes served again.
    pub not_whole: Vec<String>,
    /// By kind of fault.
    pub by_fault: BTreeMap<String, FaultReport>,
    /// What the steps of the failovers took.
    pub phases: Vec<PhaseReport>,
    /// Bare promotions beside, looked at each millisecond, in milliseconds.
    pub bare_ms: Vec<f64>,
    /// Bare `pg_promote()` as it waits by itself, in milliseconds.
    #[serde(default)]
    pub bare_waiting_ms: Vec<f64>,
    /// One by one.
    pub faults: Vec<BlowReport>,
    /// Acknowledged inserts over time, `CHART_COLUMNS` equal parts.
    pub writes_over_time: Vec<usize>,
}

impl Report {
    /// From what was noted and what is there in the end; `settle` gives the verdict.
    pub(super) fn new(seed: u64, seconds: f64, notes: &Notes, tokens: &[i64], blows: &[Blow]) -> Self {
        let mut there: HashMap<i64, u32> = HashMap::with_capacity(tokens.len());
        for token in tokens {
            *there.entry(*token).or_default() += 1;
        }
        let with = |end: End, is_there: bool| {
            let chosen = |entry: &&Entry| entry.end == end && there.contains_key(&entry.token) == is_there;
            notes.entries.iter().filter(chosen).map(|entry| entry.token).collect::<Vec<_>>()
        };
        let duplicated = duplicates(tokens);
        let (lost, refused_but_there) = (with(End::Committed, false), with(End::RolledBack, true));
        let unknown = [with(End::Unknown, true).len(), with(End::Unknown, false).len()];
        let mut acks: Vec<(u64, u64)> = notes
            .entries
            .iter()
            .filter(|entry| entry.end == End::Committed)
            .map(|entry| (entry.begun, entry.ended))
            .collect();
        acks.sort_by_key(|(_, ended)| *ended);
        let excused = |at: u64| {
            blows
                .iter()
                .any(|blow| blow.fault.breaks_connections() && (blow.at..=blow.whole_at).contains(&at))
        };
        let faults: Vec<BlowReport> = blows.iter().map(|blow| measured(blow, &acks)).collect();
        Self {
            held: false,
            broken_promises: Vec::new(),
            seed,
            seconds,
            acknowledged: acks.len(),
            lost,
            duplicated,
            refused_but_there,
            unknown,
            transactions: notes.history.iter().filter(|t| t.end == End::Committed).count(),
            transfers: notes.transfers,
            stale_reads: notes.stale.clone(),
            wrong_sums: notes.wrong_sums.clone(),
            anomalies: Vec::new(),
            connections_broken: notes.broken.iter().filter(|at| !excused(**at)).count(),
            errors: notes.errors.clone(),
            error_examples: notes.examples.clone(),
            wrong_promotions: blows.iter().filter_map(wrong_promotion).collect(),
            not_whole: blows
                .iter()
                .filter(|blow| !blow.whole)
                .map(|b| format!("{} of {}", b.fault, b.node))
                .collect(),
            by_fault: by_fault(&faults),
            phases: Vec::new(),
            bare_ms: Vec::new(),
            bare_waiting_ms: Vec::new(),
            writes_over_time: over_time(&acks, seconds),
            faults,
        }
    }

    /// Counts another run in. The chart stays that of the first.
    pub fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.acknowledged += other.acknowledged;
        self.transactions += other.transactions;
        self.transfers += other.transfers;
        self.connections_broken += other.connections_broken;
        for (all, more) in [
            (&mut self.lost, other.lost),
            (&mut self.duplicated, other.duplicated),
            (&mut self.refused_but_there, other.refused_but_there),
        ] {
            all.extend(more);
        }
        for (all, more) in [
            (&mut self.stale_reads, other.stale_reads),
            (&mut self.wrong_sums, other.wrong_sums),
            (&mut self.anomalies, other.anomalies),
            (&mut self.wrong_promotions, other.wrong_promotions),
            (&mut self.not_whole, other.not_whole),
        ] {
            all.extend(more);
        }
        self.unknown.iter_mut().zip(other.unknown).for_each(|(all, more)| *all += more);
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        for (code, examples) in other.error_examples {
            self.error_examples.entry(code).or_default().extend(examples);
        }
        times::together(&mut self.phases, &other.phases);
        self.bare_ms.extend(other.bare_ms);
        self.bare_waiting_ms.extend(other.bare_waiting_ms);
        self.faults.extend(other.faults);
        self.by_fault = by_fault(&self.faults);
        self.settle();
    }

    /// Gives the verdict.
    pub(super) fn settle(&mut self) {
        let counts = [
            ("acknowledged writes lost", self.lost.len()),
            ("writes duplicated", self.duplicated.len()),
            ("refused writes that are there", self.refused_but_there.len()),
            ("stale reads", self.stale_reads.len()),
            ("wrong sums", self.wrong_sums.len()),
            ("anomalies", self.anomalies.len()),
            ("connections broken", self.connections_broken),
            ("wrong promotions", self.wrong_promotions.len()),
            ("faults without recovery", self.not_whole.len()),
            ("run without a single acknowledged write", usize::from(self.acknowledged == 0)),
        ];
        self.broken_promises = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        self.held = self.broken_promises.is_empty();
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        self.write(&mut out).ok();
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "writes acknowledged over {:.0} s, and faults:", self.seconds)?;
        writeln!(out, "  {}\n  {}", bars(&self.writes_over_time), self.marks())?;
        writeln!(out)?;
        writeln!(
            out,
            "{:<13} {:>5} {:>8}   first write after it, ms          longest pause, ms",
            "FAULT", "COUNT", "PROMOTED"
        )?;
        writeln!(
            out,
            "{:<13} {:>5} {:>8} {:>8} {:>8} {:>8}   {:>8} {:>8}",
            "", "", "", "median", "p99", "max", "median", "max"
        )?;
        for (fault, seen) in &self.by_fault {
            writeln!(
                out,
                "{fault:<13} {:>5} {:>8} {:>8.0} {:>8.0} {:>8.0}   {:>8.0} {:>8.0}",
                seen.count,
                seen.promoted,
                seen.first_write_median_ms,
                seen.first_write_p99_ms,
                seen.first_write_max_ms,
                seen.pause_median_ms,
                seen.pause_max_ms
            )?;
        }
        let kills = self.faults.iter().filter(|blow| blow.fault == Fault::Kill.as_str() && blow.promoted);
        let kills: Vec<f64> = kills.filter_map(|blow| blow.first_write_ms).collect();
        times::write(out, &self.phases, [&self.bare_waiting_ms, &self.bare_ms], &kills)?;
        let [there, not_there] = self.unknown;
        writeln!(
            out,
            "inserts: {} acknowledged, {} lost, {} duplicated; {} unknown (08007), of which {there} are there",
            self.acknowledged,
            self.lost.len(),
            self.duplicated.len(),
            there + not_there
        )?;
        writeln!(
            out,
            "transactions: {} on lists ({} anomalies), {} transfers ({} wrong sums); {} stale reads",
            self.transactions,
            self.anomalies.len(),
            self.transfers,
            self.wrong_sums.len(),
            self.stale_reads.len()
        )?;
        let errors: Vec<String> =
            self.errors.iter().map(|(code, count)| format!("{count} x {code}")).collect();
        let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
        writeln!(out, "connections broken: {}; errors that clients got: {errors}", self.connections_broken)?;
        let stories =
            [&self.stale_reads, &self.wrong_sums, &self.anomalies, &self.wrong_promotions, &self.not_whole];
        for story in stories.into_iter().flat_map(|stories| stories.iter().take(10)) {
            writeln!(out, "  ! {story}")?;
        }
        for (what, tokens) in
            [("lost", &self.lost), ("duplicated", &self.duplicated), ("refused", &self.refused_but_there)]
        {
            if !tokens.is_empty() {
                writeln!(out, "  ! {what}: {:?}", tokens.iter().take(10).collect::<Vec<_>>())?;
            }
        }
        if self.held {
            writeln!(out, "\nevery promise was kept (seed {})", self.seed)
        } else {
            writeln!(out, "\nBROKEN (seed {}): {}", self.seed, self.broken_promises.join(", "))
        }
    }

    /// A mark under the column of each fault.
    fn marks(&self) -> String {
        let mut marks = vec![' '; CHART_COLUMNS];
        for fault in &self.faults {
            let column = column_of(fault.at_s, self.seconds);
            if let Some(mark) = marks.get_mut(column) {
                *mark = '^';
            }
        }
        marks.into_iter().collect::<String>().trim_end().to_owned()
    }
}

fn duplicates(tokens: &[i64]) -> Vec<i64> {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    let mut twice: Vec<i64> = sorted
        .windows(2)
        .filter(|pair| pair.first() == pair.last())
        .filter_map(|pair| pair.first().copied())
        .collect();
    twice.dedup();
    twice
}

fn wrong_promotion(blow: &Blow) -> Option<String> {
    match (blow.fault.promotes(), blow.promoted) {
        (Some(true), false) => Some(format!("{} of {}: no other primary", blow.fault, blow.node)),
        (Some(false), true) => Some(format!("{} of {}: another primary", blow.fault, blow.node)),
        _ => None,
    }
}

/// What the inserts say of one fault; `acks` are begin and end of the acknowledged ones, by their end.
fn measured(blow: &Blow, acks: &[(u64, u64)]) -> BlowReport {
    let promoted = |(_, ended): &&(u64, u64)| *ended >= blow.at + blow.took;
    // From the last one before it to the first one after.
    let before = acks.iter().rev().find(|(_, ended)| *ended <= blow.at).map(|(_, ended)| *ended);
    let during = acks.iter().map(|(_, ended)| *ended).filter(|ended| *ended > blow.at);
    let mut last = before.unwrap_or(blow.at);
    let (mut pause, mut resumed) = (0, None);
    for ended in during {
        if last > blow.whole_at {
            break;
        }
        // Where all was whole before it ended, only the part until then is this blow's: the rest may be a rest of the clients,
        // or the next blow's.
        if ended.min(blow.whole_at) - last > pause {
            (pause, resumed) = (ended - last, Some(ended));
        }
        last = ended;
    }
    // Where nobody took over, a primary that dies may still have answered after the blow: what counts is when it went on.
    let first = if blow.promoted && blow.took > 0 {
        acks.iter().find(promoted).map(|(_, ended)| *ended)
    } else {
        resumed
    };
    BlowReport {
        fault: blow.fault.as_str().to_owned(),
        node: blow.node.clone(),
        at_s: millis(blow.at) / 1000.0,
        first_write_ms: first.map(|ended| millis(ended.saturating_sub(blow.at))),
        pause_ms: millis(pause),
        promoted: blow.promoted,
        whole_ms: blow.whole.then(|| millis(blow.whole_at - blow.at)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a run has fewer microseconds than would matter")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn by_fault(faults: &[BlowReport]) -> BTreeMap<String, FaultReport> {
    let mut groups: BTreeMap<String, Vec<&BlowReport>> = BTreeMap::new();
    for fault in faults {
        groups.entry(fault.fault.clone()).or_default().push(fault);
    }
    let report = |group: Vec<&BlowReport>| {
        let sorted = |values: Vec<f64>| {
            let mut values = values;
            values.sort_by(f64::total_cmp);
            values
        };
        let first = sorted(group.iter().filter_map(|blow| blow.first_write_ms).collect());
        let pause = sorted(group.iter().map(|blow| blow.pause_ms).collect());
        FaultReport {
            count: group.len(),
            promoted: group.iter().filter(|blow| blow.promoted).count(),
            first_write_median_ms: percentile(&first, 50),
            first_write_p99_ms: percentile(&first, 99),
            first_write_max_ms: percentile(&first, 100),
            pause_median_ms: percentile(&pause, 50),
            pause_max_ms: percentile(&pause, 100),
        }
    };
    groups.into_iter().map(|(fault, group)| (fault, report(group))).collect()
}

/// The smallest value that so many percent do not exceed.
pub(super) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a column between 0 and 99 of times that are not negative"
)]
fn column_of(seconds: f64, all: f64) -> usize {
    ((seconds / all.max(0.001) * CHART_COLUMNS as f64) as usize).min(CHART_COLUMNS - 1)
}

fn over_time(acks: &[(u64, u64)], seconds: f64) -> Vec<usize> {
    let mut columns = vec![0; CHART_COLUMNS];
    for (_, ended) in acks {
        if let Some(column) = columns.get_mut(column_of(millis(*ended) / 1000.0, seconds)) {
            *column += 1;
        }
    }
    columns
}

pub(super) fn bars(columns: &[usize]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: &usize| BARS.get((count * (BARS.len() - 1)).div_ceil(most)).copied().unwrap_or('█');
    columns.iter().map(bar).collect()
}

#[cfg(test)]
mod tests;
