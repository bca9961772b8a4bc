//! Fuzzing without a fuzzer: every input of the corpora is replayed, and for a while new ones are made of them by cutting,
//! doubling, flipping and joining. What breaks something is written to the corpus and stays there as a test.
//!
//! `PRIMACY_FUZZ_MS` sets the time per surface (default: 300), `PRIMACY_FUZZ_SEED` the seed that a failure has printed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

#[path = "../../fuzz/entries.rs"]
mod entries;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use entries::{ENTRIES, Entry};

/// Longest input that is made.
const LEN_MAX: usize = 4096;

/// Longest time that one input may take in a build without optimization.
const PATIENCE: Duration = Duration::from_secs(5);

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

fn inputs(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut inputs: Vec<_> = std::fs::read_dir(corpus(name))
        .unwrap_or_else(|error| panic!("no corpus for {name}: {error}"))
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "the corpus of {name} is empty");
    inputs
}

/// Runs one input; what it died of, or that it took too long.
fn tried((name, entry): Entry, input: &[u8]) -> Result<(), String> {
    let begun = Instant::now();
    let run = catch_unwind(AssertUnwindSafe(|| entry(input)));
    if run.is_err() {
        return Err(format!("{name} panicked"));
    }
    let took = begun.elapsed();
    if took > PATIENCE { Err(format!("{name} took {took:?}")) } else { Ok(()) }
}

#[test]
fn what_was_once_found_stays_mended() {
    for entry in ENTRIES {
        for (file, input) in inputs(entry.0) {
            if let Err(why) = tried(entry, &input) {
                panic!("fuzz/corpus/{}/{file}: {why}", entry.0);
            }
        }
    }
}

#[test]
fn new_inputs_break_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_millis(number("PRIMACY_FUZZ_MS").unwrap_or(300));
    for entry in ENTRIES {
        let seed = number("PRIMACY_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut pool: Vec<Vec<u8>> = inputs(entry.0).into_iter().map(|(_, input)| input).collect();
        let (begun, mut runs) = (Instant::now(), 0_u64);
        while begun.elapsed() < time {
            let input = mutated(&pool, &mut dice);
            if let Err(why) = tried(entry, &input) {
                let file = corpus(entry.0).join(format!("bug-{seed:016x}"));
                std::fs::write(&file, &input).unwrap();
                panic!("{why}; seed {seed}; the input is in {}", file.display());
            }
            // Without feedback from the code every input is as good as another: a few go back, to be changed further.
            if dice.u32(..64) == 0 && pool.len() < 4096 {
                pool.push(input);
            }
            runs += 1;
        }
        println!("{:<13} {runs} inputs in {:?}, seed {seed}", entry.0, begun.elapsed());
        assert!(runs > 0);
    }
}

/// A new input from old ones.
fn mutated(pool: &[Vec<u8>], dice: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = pool[dice.usize(..pool.len())].clone();
    for _ in 0..=dice.u32(..4) {
        let at = dice.usize(..=input.len());
        match dice.u32(..9) {
            0 => input.truncate(at),
            1 => input.insert(at, dice.u8(..)),
            2 if at < input.len() => input[at] ^= 1 << dice.u32(..8),
            3 if at < input.len() => drop(input.remove(at)),
            4 => input
                .insert(at, [0, 0xff, 0x7f, 0x80, b'\'', b'"', b'(', b'\n', b'/', b'$'][dice.usize(..10)]),
            // A piece of another input.
            5 | 6 => {
                let other = &pool[dice.usize(..pool.len())];
                let (from, to) = (dice.usize(..=other.len()), dice.usize(..=other.len()));
                let piece: Vec<u8> = other[from.min(to)..from.max(to)].to_vec();
                input.splice(at..at, piece);
            }
            // The same over and over: deep nesting.
            7 => {
                let piece: Vec<u8> = input[at..input.len().min(at + 8)].to_vec();
                let many = piece.repeat(dice.usize(..200));
                input.splice(at..at, many);
            }
            // A length that lies.
            _ if at + 4 <= input.len() => {
                let lie = [0, 3, 4, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, dice.u32(..)][dice.usize(..7)];
                input[at..at + 4].copy_from_slice(&lie.to_be_bytes());
            }
            _ => {}
        }
        input.truncate(LEN_MAX);
    }
    input
}
