//! `primacy chaos` as its user runs it: a few faults, and a verdict that holds.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::installation;

async fn run(arguments: &[&str]) -> (Option<i32>, Value) {
    let installation = installation().await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_primacy"));
    command.arg("chaos").arg("--json").args(arguments).arg("--pg-bin").arg(&installation.bin_dir);
    command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(240), command.output());
    let output = output.await.expect("no verdict in time").unwrap();
    let report = serde_json::from_slice(&output.stdout).expect("a report in JSON");
    (output.status.code(), report)
}

#[tokio::test]
async fn promises_hold_through_a_kill_and_a_partition() {
    let (status, report) = run(&[
        "--faults",
        "kill,partition,switchover",
        "--count",
        "3",
        "--for",
        "60",
        "--clients",
        "6",
        "--seed",
        "3",
    ])
    .await;
    assert_eq!((status, &report["held"]), (Some(0), &Value::Bool(true)), "{report}");
    assert_eq!(report["faults"].as_array().map(Vec::len), Some(3), "{report}");
    assert!(report["acknowledged"].as_u64() > Some(20), "{report}");
    assert!(report["transactions"].as_u64() > Some(10), "{report}");
}

#[tokio::test]
async fn a_death_in_the_middle_of_a_rewind_costs_nothing() {
    let (status, report) =
        run(&["--faults", "chase,double", "--count", "2", "--for", "90", "--clients", "3"]).await;
    assert_eq!((status, &report["held"]), (Some(0), &Value::Bool(true)), "{report}");
}
