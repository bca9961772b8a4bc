//! What `config/` publishes for Grafana and Prometheus, held against the metrics that there are.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Metrics;
use crate::model::{Epoch, Lsn, Service, Snapshot, Timeline};

fn exposed() -> BTreeSet<String> {
    let snapshot = Snapshot {
        version: 1,
        epoch: Epoch(1),
        timeline: Timeline(1),
        fork: Lsn::ZERO,
        system_id: None,
        primary: None,
        service: Service::Open,
        nodes: Vec::new(),
    };
    let text = Metrics::new(vec![Arc::from("n0")], 1).render(Arc::new(snapshot)).expect("text");
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let named = families.flat_map(|line| {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        let suffixes: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            _ => &[""],
        };
        suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect::<Vec<_>>()
    });
    named.collect()
}

fn config(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every name of a metric in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("primacy_")).map(str::to_owned).collect()
}

#[test]
fn what_is_published_names_metrics_that_there_are() {
    let exposed = exposed();
    for file in ["grafana-dashboard.json", "alerts.yaml"] {
        let text = config(file);
        let wrong: Vec<String> = named(&text).into_iter().filter(|name| !exposed.contains(name)).collect();
        assert!(wrong.is_empty(), "{file} names {wrong:?}, there are {exposed:?}");
        assert!(named(&text).len() >= 8, "{file}");
    }
}

#[test]
fn the_dashboard_is_json_and_each_panel_asks_something() {
    let board: serde_json::Value = serde_json::from_str(&config("grafana-dashboard.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    assert!(panels.len() >= 12);
    for panel in panels {
        let asks = panel["targets"][0]["expr"].as_str().is_some_and(|expr| expr.contains("primacy_"));
        assert!(asks, "{}", panel["title"]);
    }
}

/// Every metric is explained where operators look.
#[test]
fn every_metric_is_documented() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto-notes/metrics.md");
    let documented = named(&std::fs::read_to_string(path).expect("the page"));
    let known = |name: &str| {
        let base =
            ["_total", "_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
        documented.contains(name) || base.is_some_and(|base| documented.contains(base))
    };
    let missing: Vec<String> = exposed().into_iter().filter(|name| !known(name)).collect();
    assert!(missing.is_empty(), "proto-notes/metrics.md does not explain {missing:?}");
}
