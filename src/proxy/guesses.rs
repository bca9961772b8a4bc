//! Slows down who guesses passwords. Each failed sign-in of an address or a role makes the next answer "no" take longer;
//! a right password is never delayed and locks nobody out. And of one address only a few may wait for their "no" at one
//! time: beyond that it is turned away before any work is done for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::quota::Subject;

/// Addresses and roles that are remembered at one time.
const SUBJECTS_MAX: usize = 10_000;

/// Failures that cost nothing: people mistype.
const FREE: u32 = 3;

/// The first delay; it doubles with each further failure.
const FIRST: Duration = Duration::from_millis(100);

/// A subject without failures for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Refusals of one address that are held back at one time.
const HELD_MAX: u32 = 10;

/// What is remembered.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<HashMap<Subject, Record>>);

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    held: u32,
    last: Instant,
}

/// A refusal that is held back.
#[derive(Debug)]
pub struct Held {
    guesses: Arc<Guesses>,
    subjects: Vec<Subject>,
}

impl Guesses {
    /// Whether so many refusals of an address are held back that nothing more is done for it.
    pub fn overrun(&self, address: &Subject) -> bool {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(address).is_some_and(|record| record.held >= HELD_MAX)
    }

    /// Notes a failed sign-in; how long the answer is to be held back.
    pub fn failed(self: &Arc<Self>, subjects: Vec<Subject>, now: Instant, max: Duration) -> (Duration, Held) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() + subjects.len() > SUBJECTS_MAX {
            make_room(&mut records, now);
        }
        let mut failures = 0;
        for subject in &subjects {
            let record = records.entry(subject.clone()).or_insert(Record { failures: 0, held: 0, last: now });
            if now.saturating_duration_since(record.last) >= FORGOTTEN_AFTER {
                record.failures = 0;
            }
            record.failures = record.failures.saturating_add(1);
            record.held += 1;
            record.last = now;
            failures = failures.max(record.failures);
        }
        let held = Held { guesses: Arc::clone(self), subjects };
        if failures <= FREE {
            return (Duration::ZERO, held);
        }
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(failures - FREE - 1).unwrap_or(u32::MAX));
        (doubled.min(max), held)
    }

    /// A role has signed in: what failed before were mistakes. Its address is not forgiven, or one known password would
    /// let its owner guess others undisturbed.
    pub fn succeeded(&self, user: &str) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.is_empty() {
            return;
        }
        if let Some(record) = records.get_mut(&Subject::User(user.to_owned())) {
            record.failures = 0;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut records = self.guesses.0.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in &self.subjects {
            if let Some(record) = records.get_mut(subject) {
                record.held = record.held.saturating_sub(1);
            }
        }
    }
}

/// Forgets who has not failed for longest, and a tenth at least.
fn make_room(records: &mut HashMap<Subject, Record>, now: Instant) {
    records
        .retain(|_, record| record.held > 0 || now.saturating_duration_since(record.last) < FORGOTTEN_AFTER);
    let surplus = (records.len() + SUBJECTS_MAX / 10).saturating_sub(SUBJECTS_MAX);
    let victims: Vec<_> = records
        .iter()
        .filter(|(_, record)| record.held == 0)
        .map(|(subject, _)| subject.clone())
        .take(surplus)
        .collect();
    for victim in victims {
        records.remove(&victim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MAX: Duration = Duration::from_secs(5);

    fn subjects(address: &str, user: &str) -> Vec<Subject> {
        vec![Subject::of_address(address.parse().unwrap()), Subject::User(user.to_owned())]
    }

    #[test]
    fn each_failure_makes_the_next_no_slower_up_to_the_limit() {
        let guesses = Arc::new(Guesses::default());
        let now = clock::now();
        let delays: Vec<_> =
            (0..12).map(|_| guesses.failed(subjects("10.0.0.1", "app"), now, MAX).0.as_millis()).collect();
        assert_eq!(delays, [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        // From another address against the same role, and from the same address against another role.
        assert_eq!(guesses.failed(subjects("10.0.0.2", "app"), now, MAX).0, MAX);
        assert_eq!(guesses.failed(subjects("10.0.0.1", "b"), now, MAX).0, MAX);
        assert_eq!(guesses.failed(subjects("10.0.0.3", "c"), now, MAX).0, Duration::ZERO);
        let later = now + FORGOTTEN_AFTER;
        assert_eq!(guesses.failed(subjects("10.0.0.1", "d"), later, MAX).0, Duration::ZERO);
    }

    #[test]
    fn success_forgives_the_role_and_not_the_address() {
        let guesses = Arc::new(Guesses::default());
        let now = clock::now();
        for _ in 0..8 {
            drop(guesses.failed(subjects("10.0.0.1", "app"), now, MAX));
        }
        guesses.succeeded("app");
        assert_eq!(guesses.failed(subjects("10.0.0.9", "app"), now, MAX).0, Duration::ZERO);
        assert!(guesses.failed(subjects("10.0.0.1", "x"), now, MAX).0 > Duration::ZERO);
    }

    #[test]
    fn few_refusals_of_an_address_are_held_at_one_time() {
        let guesses = Arc::new(Guesses::default());
        let now = clock::now();
        let address = Subject::of_address("10.0.0.1".parse().unwrap());
        let mut held: Vec<_> =
            (0..HELD_MAX).map(|n| guesses.failed(subjects("10.0.0.1", &n.to_string()), now, MAX).1).collect();
        assert!(guesses.overrun(&address));
        held.pop();
        assert!(!guesses.overrun(&address));
        assert!(!guesses.overrun(&Subject::of_address("10.0.0.2".parse().unwrap())));
    }

    #[test]
    fn the_table_is_bounded() {
        let guesses = Arc::new(Guesses::default());
        let now = clock::now();
        for number in 0..SUBJECTS_MAX * 2 {
            drop(guesses.failed(vec![Subject::User(number.to_string())], now, MAX));
        }
        assert!(guesses.0.lock().unwrap().len() <= SUBJECTS_MAX);
    }
}
