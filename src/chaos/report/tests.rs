//! The verdict on hand-made notes.

use super::*;

fn entry(token: i64, begun: u64, ended: u64, end: End) -> Entry {
    Entry { token, begun, ended, end }
}

fn blow(fault: Fault, at: u64, whole_at: u64, promoted: bool) -> Blow {
    Blow { fault, node: "node0".to_owned(), at, whole_at, whole: true, promoted, epoch: None, took: 0 }
}

fn report(notes: &Notes, tokens: &[i64], blows: &[Blow]) -> Report {
    let mut report = Report::new(7, 10.0, notes, tokens, blows);
    report.settle();
    report
}

fn notes() -> Notes {
    let mut notes = Notes::default();
    // One every 10 ms, for a second; then nothing for 250 ms.
    notes.entries.extend(
        (0..100_u32)
            .map(|n| entry(n.into(), u64::from(n) * 10_000, u64::from(n) * 10_000 + 9_000, End::Committed)),
    );
    notes.entries.push(entry(100, 995_000, 1_001_000, End::Unknown));
    notes.entries.push(entry(101, 1_002_000, 1_240_000, End::Committed));
    notes.entries.push(entry(102, 1_241_000, 1_250_000, End::RolledBack));
    notes
}

#[test]
fn a_good_run_holds_and_the_pause_is_measured() {
    let tokens: Vec<i64> = (0..100).chain([101]).collect();
    let report = report(&notes(), &tokens, &[blow(Fault::Kill, 1_000_000, 2_000_000, true)]);
    assert!(report.held, "{:?}", report.broken_promises);
    assert_eq!(report.unknown, [0, 1]);
    let kill = &report.by_fault["kill"];
    assert!((kill.first_write_median_ms - 240.0).abs() < 0.01, "{kill:?}");
    assert!((kill.pause_max_ms - 241.0).abs() < 10.01, "{kill:?}");
    assert!(report.text().contains("every promise was kept"));
}

#[test]
fn every_broken_promise_breaks_the_verdict() {
    let good: Vec<i64> = (0..100).chain([101]).collect();
    let kill = [blow(Fault::Kill, 1_000_000, 2_000_000, true)];
    let lost = report(&notes(), &good[1..], &kill);
    assert_eq!((lost.held, lost.lost), (false, vec![0]));
    let twice = report(&notes(), &[&good[..], &[5]].concat(), &kill);
    assert_eq!((twice.held, twice.duplicated), (false, vec![5]));
    let refused = report(&notes(), &[&good[..], &[102]].concat(), &kill);
    assert_eq!((refused.held, refused.refused_but_there), (false, vec![102]));
    let unknown = report(&notes(), &[&good[..], &[100]].concat(), &kill);
    assert_eq!((unknown.held, unknown.unknown), (true, [1, 0]));
    let none = report(&notes(), &good, &[blow(Fault::Kill, 1_000_000, 2_000_000, false)]);
    assert_eq!((none.held, none.wrong_promotions.len()), (false, 1));
    let needless = report(&notes(), &good, &[blow(Fault::Partition, 1_000_000, 2_000_000, true)]);
    assert_eq!((needless.held, needless.wrong_promotions.len()), (false, 1));
    let empty = report(&Notes::default(), &[], &[]);
    assert!(!empty.held);
}

#[test]
fn a_broken_connection_counts_unless_the_proxy_was_killed() {
    let tokens: Vec<i64> = (0..100).chain([101]).collect();
    let mut notes = notes();
    notes.broken.push(1_100_000);
    let kill = report(&notes, &tokens, &[blow(Fault::Kill, 1_000_000, 2_000_000, true)]);
    assert_eq!((kill.held, kill.connections_broken), (false, 1));
    let proxy = report(&notes, &tokens, &[blow(Fault::ProxyToo, 1_000_000, 2_000_000, true)]);
    assert_eq!((proxy.held, proxy.connections_broken), (true, 0));
}

#[test]
fn what_comes_after_all_was_whole_again_is_not_the_pause() {
    let mut notes = Notes::default();
    // A pause of 90 ms by the kill, whole at 400 ms; then a rest of the clients of one second.
    let ends = [100_000, 190_000, 300_000, 395_000, 1_395_000, 1_400_000];
    notes.entries.extend((0..).zip(ends).map(|(n, ended)| entry(n, ended - 1_000, ended, End::Committed)));
    let kill = Blow { took: 85_000, ..blow(Fault::Kill, 100_500, 400_000, true) };
    let seen = &report(&notes, &[0, 1, 2, 3, 4, 5], &[kill]).faults[0];
    assert_eq!((seen.pause_ms.round(), seen.first_write_ms.map(f64::round)), (110.0, Some(90.0)));
}

#[test]
fn the_first_write_is_the_new_primarys_and_no_later_pause_counts_for_it() {
    // An answer that was under way when the primary died is not the new one's; nor does it end the pause.
    let mut notes = Notes::default();
    let ends = [100_000, 101_000, 401_000, 402_000, 1_002_000];
    notes.entries.extend((0..).zip(ends).map(|(n, ended)| entry(n, ended - 500, ended, End::Committed)));
    let kill = Blow { took: 250_000, ..blow(Fault::Kill, 100_400, 2_000_000, true) };
    let seen = &report(&notes, &[0, 1, 2, 3, 4], &[kill]).faults[0];
    // The longest pause came later, when the old primary returned.
    assert_eq!((seen.pause_ms.round(), seen.first_write_ms.map(f64::round)), (600.0, Some(301.0)));
}

#[test]
fn what_a_dying_primary_still_answers_is_not_the_first_write_after_it() {
    let mut notes = Notes::default();
    // Begun and answered within 3 ms of the blow; then nothing for 5 s, and the same primary again.
    let ends = [100_000, 103_000, 5_103_000, 5_104_000];
    notes.entries.extend((0..).zip(ends).map(|(n, ended)| entry(n, ended - 500, ended, End::Committed)));
    let double = blow(Fault::Double, 101_000, 6_000_000, false);
    let seen = &report(&notes, &[0, 1, 2, 3], &[double]).faults[0];
    assert_eq!((seen.pause_ms.round(), seen.first_write_ms.map(f64::round)), (5000.0, Some(5002.0)));
}

#[test]
fn a_longer_pause_that_begins_later_is_not_the_first_write() {
    let mut notes = Notes::default();
    // 200 ms without a primary; seconds later 400 ms while the old one is copied.
    let ends = [100_000, 301_000, 2_300_000, 2_301_000, 2_701_000, 2_702_000];
    let filled = (1..200).map(|n| 301_000 + n * 10_000);
    let all: Vec<u64> = ends.into_iter().chain(filled).collect();
    notes.entries.extend((0..).zip(all).map(|(n, ended)| entry(n, ended - 900, ended, End::Committed)));
    let tokens: Vec<i64> = notes.entries.iter().map(|entry| entry.token).collect();
    let kill = Blow { took: 150_000, ..blow(Fault::Kill, 101_000, 3_000_000, true) };
    let seen = &report(&notes, &tokens, &[kill]).faults[0];
    assert_eq!((seen.pause_ms.round(), seen.first_write_ms.map(f64::round)), (400.0, Some(200.0)));
}

#[test]
fn percentiles_are_of_what_was_seen() {
    let values: Vec<f64> = (1..=100).map(f64::from).collect();
    let seen = [50, 99, 100].map(|percent| format!("{:.1}", percentile(&values, percent)));
    assert_eq!(seen, ["50.0", "99.0", "100.0"]);
    assert_eq!([percentile(&[7.0], 50), percentile(&[], 50)].map(|value| value.to_string()), ["7", "0"]);
}
