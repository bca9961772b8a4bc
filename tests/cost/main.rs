//! What a statement costs, in figures that no clock decides: allocations, and instructions where valgrind is installed.
//!
//! Compared with what is written down here: a change that makes statements dearer has to say so, by changing it. One test
//! runs all of it, because the allocations of a test beside it would be counted too.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail by panicking, too"
)]

mod conversation;

use std::process::Command;

use conversation::Conversation;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// What is measured, what it may allocate, and its instructions in an unoptimized build (Rust 1.95).
const BASELINE: [(&str, f64, f64); 4] = [
    ("simple", 0.01, 21_992.0),
    ("extended", 0.01, 31_861.0),
    ("prepared", 0.01, 36_068.0),
    ("tpcb-like", 0.01, 101_514.0),
];

/// By how much instructions may differ: compilers and C libraries differ that much.
const TOLERANCE: f64 = 0.25;

/// Runs one kind of transaction some times, after it has run often enough to be known.
fn run(what: &str, times: u32) -> f64 {
    let mut session = Conversation::new();
    let exchanges = conversation::transaction(&mut session, what);
    let mut both = |times| {
        for _ in 0..times {
            for exchange in &exchanges {
                session.exchange(exchange);
            }
        }
    };
    both(10);
    let region = Region::new(ALLOCATOR);
    both(times);
    let change = region.change();
    let count = u32::try_from(change.allocations + change.reallocations).unwrap();
    f64::from(count) / f64::from(times * 2)
}

/// Instructions that a process needs for a number of transactions, its start and its end included.
fn instructions(what: &str, times: u32) -> Option<f64> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap());
    valgrind.args(["--ignored", "--exact", "one_conversation", "--test-threads=1"]);
    let output = valgrind.env(ASKED, format!("{what} {times}")).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let collected = text.lines().find_map(|line| line.split_once("Collected : ")).expect(&text);
    Some(collected.1.trim().parse().unwrap())
}

/// The variable that tells the ignored test below what to do.
const ASKED: &str = "PRIMACY_COST";

#[test]
#[ignore = "not a test: the conversation whose instructions valgrind counts"]
fn one_conversation() {
    #[expect(clippy::disallowed_methods, reason = "the test beside this one says by it what to run")]
    let asked = std::env::var(ASKED).unwrap_or_default();
    if let Some((what, times)) = asked.split_once(' ') {
        run(what, times.parse().unwrap());
    }
}

#[test]
fn statements_cost_no_more_than_they_did() {
    let mut complaints = Vec::new();
    for (what, allocations_max, instructions_before) in BASELINE {
        let allocations = run(what, 1000);
        if allocations > allocations_max {
            complaints
                .push(format!("{what}: {allocations} allocations a transaction, at most {allocations_max}"));
        }
        let Some((few, many)) = instructions(what, 5).zip(instructions(what, 55)) else {
            eprintln!("{what}: {allocations} allocations; no valgrind here to count instructions with");
            continue;
        };
        let now = (many - few) / 100.0;
        eprintln!("{what}: {allocations} allocations, {now:.0} instructions a transaction");
        if (now / instructions_before - 1.0).abs() > TOLERANCE {
            complaints.push(format!(
                "{what}: {now:.0} instructions a transaction, {instructions_before} written down"
            ));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
