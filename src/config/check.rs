//! The checks that `resolve` is made of: each takes what is written, gives what is meant, and notes what is wrong.
//!
//! A check that fails gives the default, so that the rest can be checked too; the caller refuses the whole at the end.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::document::{Places, nearest};
use super::problem::Problem;
use super::units::{WrittenDuration, WrittenSize, show_duration, show_size};

/// Collects problems on the way.
#[derive(Debug, Default)]
pub(super) struct Checker {
    places: Places,
    problems: Vec<Problem>,
    /// What is allowed and still unwise.
    pub(super) warnings: Vec<String>,
}

impl Checker {
    /// A checker that starts with the problems of reading.
    pub(super) fn new(places: Places, problems: Vec<Problem>) -> Self {
        Self { places, problems, warnings: Vec::new() }
    }

    /// Notes a problem.
    pub(super) fn problem(
        &mut self,
        key: &str,
        found: impl Display,
        allowed: impl Display,
        hint: Option<&str>,
    ) {
        // A key that could not be read is missing now: one complaint about it is enough.
        if self.problems.iter().any(|p| p.key == key) {
            return;
        }
        self.problems.push(Problem {
            key: key.to_owned(),
            position: self.places.of(key),
            found: found.to_string(),
            allowed: allowed.to_string(),
            hint: hint.map(str::to_owned),
        });
    }

    /// Every problem in the order of the file, those without a place first.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<String>) {
        self.problems.sort_by_key(|p| p.position);
        (self.problems, self.warnings)
    }

    /// A whole number within a range.
    pub(super) fn number<N>(
        &mut self,
        key: &str,
        written: Option<i64>,
        default: N,
        range: RangeInclusive<N>,
    ) -> N
    where
        N: TryFrom<i64> + PartialOrd + Copy + Display,
    {
        let Some(written) = written else { return default };
        if let Some(number) = N::try_from(written).ok().filter(|n| range.contains(n)) {
            return number;
        }
        self.problem(key, format!("found {written}"), format!("{} to {}", range.start(), range.end()), None);
        default
    }

    /// A duration within a range.
    pub(super) fn duration(
        &mut self,
        key: &str,
        written: Option<WrittenDuration>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        match written {
            Some(WrittenDuration(duration)) if range.contains(&duration) => duration,
            None => default,
            Some(WrittenDuration(duration)) => {
                let allowed = format!("{} to {}", show_duration(*range.start()), show_duration(*range.end()));
                self.problem(key, format!("found {}", show_duration(duration)), allowed, None);
                default
            }
        }
    }

    /// A size within a range.
    pub(super) fn size<N>(
        &mut self,
        key: &str,
        written: Option<WrittenSize>,
        default: N,
        range: RangeInclusive<u64>,
    ) -> N
    where
        N: TryFrom<u64> + Copy,
    {
        let Some(WrittenSize(bytes)) = written else { return default };
        if let Some(size) = N::try_from(bytes).ok().filter(|_| range.contains(&bytes)) {
            return size;
        }
        let allowed = format!("{} to {}", show_size(*range.start()), show_size(*range.end()));
        self.problem(key, format!("found {}", show_size(bytes)), allowed, None);
        default
    }

    /// One of some words.
    pub(super) fn word<T: Copy + Default>(
        &mut self,
        key: &str,
        written: Option<&str>,
        words: &[(&str, T)],
    ) -> T {
        let Some(written) = written else { return T::default() };
        let folded = written.to_ascii_lowercase();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == folded) {
            return *value;
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = nearest(&folded, &known).map(|near| format!("did you mean \"{near}\"?"));
        let allowed = known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        self.problem(key, format!("found {written:?}"), allowed, hint.as_deref());
        T::default()
    }

    /// A file that must be readable.
    pub(super) fn readable(&mut self, key: &str, file: &Path) {
        if let Err(error) = std::fs::File::open(file) {
            self.problem(key, format!("cannot read {}: {error}", file.display()), "a readable file", None);
        }
    }
}
