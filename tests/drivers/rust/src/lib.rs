//! What the two programs share: steps that print `ok NAME`, and the count of an insert loop.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::time::{Duration, Instant};

/// Errors of a step.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The URL, and for how long rows are to be inserted (`None`: run the steps).
pub fn arguments() -> (String, Option<Duration>) {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_default();
    let inserts = args.next().is_some_and(|word| word == "inserts");
    let seconds = args.next().and_then(|text| text.parse().ok()).unwrap_or(4.0);
    (url, inserts.then(|| Duration::from_secs_f64(seconds)))
}

/// Counts what failed.
#[derive(Debug, Default)]
pub struct Steps {
    failed: bool,
}

impl Steps {
    /// Runs one step.
    pub async fn run(&mut self, name: &str, step: impl Future<Output = Result<(), Error>>) {
        match step.await {
            Ok(()) => println!("ok {name}"),
            Err(error) => {
                self.failed = true;
                println!("FAILED {name}");
                eprintln!("{name}: {error:?}");
            }
        }
    }

    /// Ends the program.
    pub fn end(&self) -> ! {
        std::process::exit(i32::from(self.failed))
    }
}

/// Fails where the two differ.
pub fn same<T: PartialEq + Debug>(found: T, wanted: T) -> Result<(), Error> {
    if found == wanted { Ok(()) } else { Err(format!("found {found:?}, wanted {wanted:?}").into()) }
}

/// Autocommitted inserts over one connection.
#[derive(Debug)]
pub struct Inserts {
    end: Instant,
    asked: Instant,
    longest: Duration,
    next: i32,
    acknowledged: Vec<i32>,
    errors: Vec<String>,
}

impl Inserts {
    /// A loop of this length.
    pub fn new(length: Duration) -> Self {
        let now = Instant::now();
        Self {
            end: now + length,
            asked: now,
            longest: Duration::ZERO,
            next: 0,
            acknowledged: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The next number to insert.
    pub fn again(&mut self) -> Option<i32> {
        self.asked = Instant::now();
        self.next += 1;
        (self.asked < self.end && self.errors.len() < 20).then_some(self.next)
    }

    /// How the insert ended.
    pub fn note<T, E: Display>(&mut self, outcome: Result<T, E>) {
        self.longest = self.longest.max(self.asked.elapsed());
        match outcome {
            Ok(_) => self.acknowledged.push(self.next),
            Err(error) => self.errors.push(error.to_string()),
        }
    }

    /// Ends the program: 1 where a row that was acknowledged is not among those found.
    pub fn judge(&self, found: &[i32]) -> ! {
        let missing = self.acknowledged.iter().filter(|n| !found.contains(n)).count();
        let good = missing == 0 && !self.acknowledged.is_empty() && self.errors.len() < 20;
        let (word, count, errors) =
            (if good { "ok" } else { "FAILED" }, self.acknowledged.len(), self.errors.len());
        let longest = self.longest.as_millis();
        println!(
            "{word} inserts acknowledged={count} missing={missing} errors={errors} longest_ms={longest}"
        );
        for error in &self.errors {
            println!("   error: {error}");
        }
        std::process::exit(i32::from(!good))
    }
}
