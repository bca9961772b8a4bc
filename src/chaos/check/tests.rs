//! Hand-made histories, one for every kind of anomaly, and some that only look like one.

#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

use super::super::history::Op::{self, Append, Read};
use super::*;

/// Transactions one after another in time, each of a client of its own.
fn serial(all: &[(End, &[Op])]) -> Vec<Transaction> {
    timed(
        &all.iter()
            .enumerate()
            .map(|(n, (end, ops))| (n as u32, 10 * n as u64, 10 * n as u64 + 5, *end, *ops))
            .collect::<Vec<_>>(),
    )
}

/// Transactions that all overlap.
fn concurrent(all: &[&[Op]]) -> Vec<Transaction> {
    timed(
        &all.iter().enumerate().map(|(n, ops)| (n as u32, 0, 100, End::Committed, *ops)).collect::<Vec<_>>(),
    )
}

fn timed(all: &[(u32, u64, u64, End, &[Op])]) -> Vec<Transaction> {
    let transaction = |(client, begun, ended, end, ops): &(u32, u64, u64, End, &[Op])| Transaction {
        client: *client,
        begun: *begun,
        ended: *ended,
        end: *end,
        ops: ops.to_vec(),
        anywhere: false,
    };
    all.iter().map(transaction).collect()
}

fn lists(all: &[(List, &[Member])]) -> Lists {
    all.iter().map(|(list, members)| (*list, members.to_vec())).collect()
}

fn kinds(history: &[Transaction], last: &Lists) -> Vec<Kind> {
    anomalies(history, last).into_iter().map(|anomaly| anomaly.kind).collect()
}

#[test]
fn what_one_copy_could_have_done_is_in_order() {
    let history = serial(&[
        (End::Committed, &[Append(1, 1), Append(2, 2)]),
        (End::Committed, &[Read(1, vec![1]), Append(1, 3), Read(1, vec![1, 3])]),
        (End::RolledBack, &[Append(1, 4)]),
        (End::Unknown, &[Append(1, 5)]),
        (End::Unknown, &[Append(1, 6)]),
        (End::Committed, &[Read(1, vec![1, 3, 6]), Read(2, vec![2]), Read(3, vec![])]),
    ]);
    assert_eq!(anomalies(&history, &lists(&[(1, &[1, 3, 6]), (2, &[2])])), []);
    // Write skew on different lists in different orders is fine where one saw the other.
    let history = concurrent(&[&[Read(1, vec![]), Append(2, 1)], &[Read(2, vec![1]), Append(1, 2)]]);
    assert_eq!(anomalies(&history, &lists(&[(1, &[2]), (2, &[1])])), []);
}

#[test]
fn an_acknowledged_append_that_is_gone_is_lost() {
    let history = serial(&[(End::Committed, &[Append(1, 1)]), (End::Committed, &[Append(1, 2)])]);
    assert_eq!(kinds(&history, &lists(&[(1, &[1])])), [Kind::Lost]);
    assert_eq!(kinds(&history, &lists(&[])), [Kind::Lost, Kind::Lost]);
    let torn = serial(&[(End::Unknown, &[Append(1, 1), Append(2, 2)])]);
    assert_eq!(kinds(&torn, &lists(&[(1, &[1])])), [Kind::Lost], "half of a transaction");
}

#[test]
fn what_is_twice_made_up_or_rolled_back_is_found() {
    let history = serial(&[(End::Committed, &[Append(1, 1)]), (End::RolledBack, &[Append(1, 2)])]);
    assert_eq!(kinds(&history, &lists(&[(1, &[1, 1])])), [Kind::Duplicated]);
    assert_eq!(kinds(&history, &lists(&[(1, &[1, 7])])), [Kind::Invented]);
    assert_eq!(kinds(&history, &lists(&[(1, &[1, 2])])), [Kind::AbortedRead]);
    let history = serial(&[(End::RolledBack, &[Append(1, 1)]), (End::Committed, &[Read(1, vec![1])])]);
    assert_eq!(kinds(&history, &lists(&[])), [Kind::AbortedRead, Kind::Forked]);
}

#[test]
fn a_list_that_is_no_beginning_of_the_last_one_is_a_fork() {
    let history = serial(&[
        (End::Committed, &[Append(1, 1)]),
        (End::Committed, &[Append(1, 2)]),
        (End::Committed, &[Read(1, vec![2])]),
    ]);
    assert_eq!(kinds(&history, &lists(&[(1, &[1, 2])])), [Kind::Forked]);
}

#[test]
fn half_of_a_transaction_that_is_seen_is_found() {
    let history = concurrent(&[&[Append(1, 1), Append(1, 2)], &[Read(1, vec![1])]]);
    assert_eq!(kinds(&history, &lists(&[(1, &[1, 2])])), [Kind::IntermediateRead]);
}

#[test]
fn cycles_are_told_apart() {
    let writes = concurrent(&[&[Append(1, 1), Append(2, 4)], &[Append(1, 2), Append(2, 3)]]);
    assert_eq!(kinds(&writes, &lists(&[(1, &[1, 2]), (2, &[3, 4])])), [Kind::WriteCycle]);

    let reads = concurrent(&[&[Append(1, 1), Read(2, vec![2])], &[Append(2, 2), Read(1, vec![1])]]);
    assert_eq!(kinds(&reads, &lists(&[(1, &[1]), (2, &[2])])), [Kind::ReadCycle]);

    let skew = concurrent(&[&[Append(1, 1), Append(2, 2)], &[Read(1, vec![1]), Read(2, vec![])]]);
    assert_eq!(kinds(&skew, &lists(&[(1, &[1]), (2, &[2])])), [Kind::ReadSkew]);

    let lost_update = concurrent(&[&[Read(1, vec![]), Append(1, 1)], &[Read(1, vec![]), Append(1, 2)]]);
    assert_eq!(kinds(&lost_update, &lists(&[(1, &[1, 2])])), [Kind::ReadSkew]);

    let write_skew = concurrent(&[&[Read(1, vec![]), Append(2, 1)], &[Read(2, vec![]), Append(1, 2)]]);
    assert_eq!(kinds(&write_skew, &lists(&[(1, &[2]), (2, &[1])])), [Kind::WriteSkew]);
}

#[test]
fn answers_that_were_waited_for_bind() {
    let stale =
        [(1, 0, 5, End::Committed, &[Append(1, 1)][..]), (1, 10, 15, End::Committed, &[Read(1, vec![])])];
    assert_eq!(
        kinds(&timed(&stale), &lists(&[(1, &[1])])),
        [Kind::OutOfOrder],
        "a client misses its own write"
    );
    let mut others =
        timed(&[(1, 0, 5, End::Committed, &[Append(1, 1)]), (2, 10, 15, End::Committed, &[Read(1, vec![])])]);
    assert_eq!(kinds(&others, &lists(&[(1, &[1])])), [Kind::OutOfOrder], "and on the primary another's");
    others[1].anywhere = true;
    assert_eq!(kinds(&others, &lists(&[(1, &[1])])), [], "on a replica that is allowed");
    others[1].client = 1;
    assert_eq!(kinds(&others, &lists(&[(1, &[1])])), [Kind::OutOfOrder], "but for the client's own");
    // Two serializable transactions, and a plain read that fits neither order of them: nobody isolates that.
    let mut three = timed(&[
        (1, 0, 5, End::Committed, &[Read(2, vec![]), Append(1, 1)]),
        (1, 10, 15, End::Committed, &[Read(2, vec![])]),
        (2, 0, 20, End::Committed, &[Read(1, vec![]), Append(2, 2)]),
    ]);
    assert_eq!(kinds(&three, &lists(&[(1, &[1]), (2, &[2])])), [Kind::WriteSkew]);
    three[0].ops.remove(0);
    assert_eq!(kinds(&three, &lists(&[(1, &[1]), (2, &[2])])), [Kind::OutOfOrder]);
    three[1].anywhere = true;
    assert_eq!(kinds(&three, &lists(&[(1, &[1]), (2, &[2])])), []);
    let overlapping = timed(&[
        (1, 0, 12, End::Committed, &[Append(1, 1)]),
        (2, 10, 15, End::Committed, &[Read(1, vec![])]),
    ]);
    assert_eq!(kinds(&overlapping, &lists(&[(1, &[1])])), []);
}

#[test]
fn time_binds_across_many_transactions_and_long_histories_do_not_overflow() {
    let mut all = Vec::new();
    for n in 0..5_000_u64 {
        all.push(Transaction {
            client: (n % 7) as u32,
            begun: 10 * n,
            ended: 10 * n + 25,
            end: End::Committed,
            ops: vec![Append((n % 5) as u32, n)],
            anywhere: false,
        });
    }
    let mut last = Lists::new();
    for n in 0..5_000_u64 {
        last.entry((n % 5) as u32).or_default().push(n);
    }
    assert_eq!(anomalies(&all, &last), []);
    // The very last one does not see the very first.
    all.push(Transaction {
        client: 99,
        begun: 70_000,
        ended: 70_001,
        end: End::Committed,
        ops: vec![Read(0, vec![])],
        anywhere: false,
    });
    assert_eq!(kinds(&all, &last), [Kind::OutOfOrder]);
}
