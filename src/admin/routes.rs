//! Where statements go and why, and which reads could not leave the primary: the workers' counts by fingerprint, put
//! together, with what would change it.

use std::collections::HashMap;

use super::json::{ReadReport, RoutesReport, StatementReport};
use crate::proxy::report::{STATEMENTS_MAX, Used, WorkerReport};

/// The report, each list with at most `top` entries.
pub fn report(workers: &[WorkerReport], top: usize) -> RoutesReport {
    let mut all: HashMap<&str, Used> = HashMap::new();
    for used in workers.iter().flat_map(|worker| &worker.statements) {
        all.entry(&used.text).and_modify(|have| have.add(used)).or_insert_with(|| used.clone());
    }
    let mut all: Vec<Used> = all.into_values().collect();
    all.sort_by(|one, other| other.count().cmp(&one.count()).then_with(|| one.text.cmp(&other.text)));
    let reads = || all.iter().filter(|used| is_query(&used.text));
    let top = top.min(STATEMENTS_MAX);
    RoutesReport {
        fingerprints: all.len(),
        reads_on_replicas: reads().map(|used| used.replicas).sum(),
        reads_on_primary: reads().map(|used| used.primary).sum(),
        would_go_to_replica: reads()
            .filter(|used| used.why_primary == OBSERVED)
            .map(|used| used.primary)
            .sum(),
        statements: all.iter().take(top).map(statement).collect(),
        reads: stayed(&all, top),
    }
}

/// The router's word for what would have gone to a replica if splitting were not only observed.
const OBSERVED: &str = "would-go-to-replica";

/// Reads that stayed on the primary, the most frequent first.
fn stayed(all: &[Used], top: usize) -> Vec<ReadReport> {
    let mut stayed: Vec<&Used> = all
        .iter()
        .filter(|used| used.primary > 0 && is_query(&used.text) && used.why_primary != OBSERVED)
        .collect();
    stayed.sort_by(|one, other| other.primary.cmp(&one.primary).then_with(|| one.text.cmp(&other.text)));
    stayed.into_iter().take(top).map(read).collect()
}

fn read(used: &Used) -> ReadReport {
    // The verdict's reason says more than that the verdict decided.
    let by_verdict = used.reason.map(crate::proxy::report::Reason::as_str).filter(|_| !used.anywhere);
    let reason = by_verdict.unwrap_or(used.why_primary);
    ReadReport {
        statement: used.text.clone(),
        count: used.primary,
        reason: reason.to_owned(),
        detail: used.detail.clone(),
        change: change_of(reason, used.detail.as_deref()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
fn statement(used: &Used) -> StatementReport {
    StatementReport {
        statement: used.text.clone(),
        count: used.count(),
        primary: used.primary,
        replicas: used.replicas,
        why_primary: used.why_primary.to_owned(),
        why_replica: used.why_replica.to_owned(),
        reason: used.reason.map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
        detail: used.detail.clone(),
        total_ms: used.total_us as f64 / 1e3,
        mean_ms: used.total_us as f64 / 1e3 / used.count().max(1) as f64,
        slowest_ms: used.slowest_us as f64 / 1e3,
    }
}

/// Whether a statement asks for rows.
fn is_query(text: &str) -> bool {
    let word =
        text.trim_start_matches('(').split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default();
    ["select", "with", "values", "table"].iter().any(|query| word.eq_ignore_ascii_case(query))
}

/// What a person can do, with the line of the configuration where that is known.
pub fn change_of(reason: &str, detail: Option<&str>) -> String {
    let general = what_would_change_it(reason);
    let function =
        detail.filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    match function {
        // Built-in functions are known; nobody vouches for them.
        Some(name) if reason == "volatile-function" && !is_known(name) => {
            format!("{general}; where it is your own and only reads: routing.read_functions = [\"{name}\"]")
        }
        _ => general.to_owned(),
    }
}

/// What is not a function of the database's own: statements, and the functions that write which every server has.
fn is_known(name: &str) -> bool {
    const KNOWN: [&str; 7] = ["do", "call", "nextval", "setval", "lo_create", "loread", "lowrite"];
    KNOWN.contains(&name) || name.starts_with("pg_")
}

/// What a person can do so that a read may run on a replica.
pub fn what_would_change_it(reason: &str) -> &'static str {
    match reason {
        "volatile-function" => {
            "mark the function STABLE or IMMUTABLE if it is, or send it with the hint /* primacy: replica */"
        }
        "unknown-relation" => {
            "nothing, if it is a temporary table; else it is known after the next look at the catalog"
        }
        "unreadable-relation" => {
            "make the table a permanent one: unlogged and foreign tables are not on replicas"
        }
        "node-local" => {
            "nothing: the answer differs from node to node; the hint /* primacy: replica */ takes any node's"
        }
        "node-local-session" => {
            "look at counters (pg_stat_user_tables and the like) in a session of its own, or end this with DISCARD ALL"
        }
        "locks" => "leave FOR UPDATE or FOR SHARE out if the rows are only read",
        "writing-cte" | "write" => "nothing: it writes",
        "session-state" => "nothing: it changes the session",
        "no-catalog" => "nothing: the catalog facts were not loaded yet",
        "unparsed" => "the hint /* primacy: replica */ if it is a read; please report the statement",
        "too-large" => "raise routing.max_parse, or send it with the hint /* primacy: replica */",
        "several" => "send its statements one by one",
        "learned" => "nothing until the catalog changes: a replica refused it",
        "transaction" => "open the transaction READ ONLY, or set routing.transactions = \"optimistic\"",
        "moved-transaction" => "nothing: its transaction has written",
        "serializable" => "a lower isolation level: replicas know no SERIALIZABLE",
        "freshness" => {
            "raise routing.causal_wait, or accept routing.consistency = \"eventual\" for these sessions"
        }
        "no-replica" => "look at `primacy status`: no replica could serve reads",
        "pinned" => "see SHOW PINS: the session is tied to its connection",
        "splitting-off" => "set routing.splitting = true",
        "hint" => "leave the hint out, or change routing.sessions",
        "share" => "nothing: the primary takes its share of reads (routing.primary_reads = \"always\")",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::report::Reason;

    fn used(text: &str, primary: u64, replicas: u64, why: &'static str, reason: Reason) -> Used {
        Used {
            text: text.to_owned(),
            anywhere: reason == Reason::Read,
            reason: Some(reason),
            primary,
            replicas,
            total_us: 2_000 * (primary + replicas),
            slowest_us: 5_000,
            why_primary: why,
            ..Used::default()
        }
    }

    #[test]
    fn workers_are_added_up_and_reads_that_stayed_are_explained() {
        let one = WorkerReport {
            statements: vec![
                used("select ?", 1, 9, "freshness", Reason::Read),
                used("select f()", 4, 0, "volatile-function", Reason::VolatileFunction),
                used("insert into t values (?)", 50, 0, "write", Reason::Write),
            ],
            ..WorkerReport::default()
        };
        let two = WorkerReport {
            statements: vec![used("select ?", 2, 8, "freshness", Reason::Read)],
            ..WorkerReport::default()
        };
        let report = report(&[one, two], 10);
        let texts: Vec<&str> = report.statements.iter().map(|s| s.statement.as_str()).collect();
        assert_eq!(texts, ["insert into t values (?)", "select ?", "select f()"]);
        assert_eq!((report.reads_on_replicas, report.reads_on_primary), (17, 7));
        let reads: Vec<(&str, u64, &str)> =
            report.reads.iter().map(|r| (r.statement.as_str(), r.count, r.reason.as_str())).collect();
        assert_eq!(reads, [("select f()", 4, "volatile-function"), ("select ?", 3, "freshness")]);
        assert!((report.statements[1].mean_ms - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_volatile_function_comes_with_the_line_that_vouches_for_it() {
        let line = "routing.read_functions = [\"total_of\"]";
        assert!(change_of("volatile-function", Some("total_of")).ends_with(line));
        for detail in [None, Some("==="), Some("nextval"), Some("do"), Some("pg_notify")] {
            let change = change_of("volatile-function", detail);
            assert_eq!(change, what_would_change_it("volatile-function"), "{detail:?}");
        }
        assert_eq!(change_of("write", Some("total_of")), what_would_change_it("write"));
    }

    #[test]
    fn every_reason_says_what_would_change_it() {
        use crate::observe::Label as _;
        for reason in crate::proxy::report::RouteReason::ALL {
            let harmless = ["read", "empty", "read-only-transaction", "optimistic-transaction", OBSERVED];
            let word = reason.as_str();
            assert_eq!(what_would_change_it(word).is_empty(), harmless.contains(&word), "{word}");
        }
    }
}
