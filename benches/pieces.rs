//! What the pieces of the data path cost, each alone: framing, verdicts, routing, one statement through the session
//! machine, with the allocations of each. `cargo bench --bench pieces`; for instructions see `tests/cost`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a program for whoever works on the data path")]

#[path = "../tests/cost/conversation.rs"]
mod conversation;

use conversation::{Conversation, Exchange};
use divan::{AllocProfiler, Bencher, black_box};
use primacy::session::batch::{Lookahead, Scanner};
use primacy::sql::{Classifier, Settings};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const TEXT: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 123456;";

#[divan::bench]
fn framing(bencher: Bencher<'_, '_>) {
    let batch = conversation::extended().batch;
    let limits = Lookahead { batch_max: 1 << 20, text_max: 1 << 24 };
    bencher.bench_local(|| Scanner::default().scan(black_box(&batch), limits));
}

#[divan::bench]
fn verdict_known(bencher: Bencher<'_, '_>) {
    let catalog = conversation::catalog();
    let mut classifier = Classifier::new(&Settings::default());
    bencher.bench_local(|| classifier.classify(black_box(TEXT), &catalog));
}

/// Texts that differ in their strings: none is recognised by comparing it with another, and all have one fingerprint.
#[divan::bench]
fn verdict_by_fingerprint(bencher: Bencher<'_, '_>) {
    let catalog = conversation::catalog();
    let mut classifier = Classifier::new(&Settings::default());
    let texts: Vec<String> = ('a'..='z')
        .flat_map(|first| ('a'..='z').map(move |second| format!("{first}{second}")))
        .map(|word| format!("SELECT abalance FROM pgbench_accounts WHERE filler = '{word}';"))
        .collect();
    let mut next = texts.iter().cycle();
    bencher.bench_local(|| classifier.classify(next.next().unwrap().as_bytes(), &catalog));
}

#[divan::bench]
fn verdict_new(bencher: Bencher<'_, '_>) {
    let catalog = conversation::catalog();
    let mut classifier = Classifier::new(&Settings::default());
    bencher.bench_local(|| {
        classifier.forget(catalog.id());
        classifier.classify(black_box(TEXT), &catalog)
    });
}

#[divan::bench]
fn route(bencher: Bencher<'_, '_>) {
    let mut session = Conversation::new();
    bencher.bench_local(|| session.route(black_box(&conversation::READ)));
}

#[divan::bench(args = ["simple", "extended", "prepared", "tpcb-like"])]
fn transaction(bencher: Bencher<'_, '_>, what: &str) {
    let mut session = Conversation::new();
    let exchanges: Vec<Exchange> = conversation::transaction(&mut session, what);
    bencher.bench_local(|| exchanges.iter().map(|exchange| session.exchange(exchange)).sum::<usize>());
}
