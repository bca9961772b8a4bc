//! Traces: which statements a collector is told of, and what. In: a batch's text and times. Out: spans in OTLP's JSON.
//!
//! A statement whose text says `traceparent='...'` (W3C, as sqlcommenter and others write it) is told when its trace is
//! sampled; of the others a share is. The data path hands a span over and goes on: where nobody keeps up, it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What the comment begins with, up to the version that is known.
const MARK: &[u8] = b"traceparent='00-";

/// So far into a batch the comment is looked for.
const LOOK_BYTES_MAX: usize = 16 * 1024;

/// Spans that wait to be sent.
const WAITING_MAX: usize = 4096;

/// Kinds of spans in OTLP.
const SERVER: u32 = 2;
const CLIENT: u32 = 3;
const INTERNAL: u32 = 1;

/// The status of what failed.
const FAILED: u32 = 2;

/// Where a statement stands in its application's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: u128,
    /// The application's span.
    pub span: u64,
    /// Whether the trace is kept.
    pub sampled: bool,
}

impl Parent {
    /// Looks for it in a batch of messages.
    pub fn find(batch: &[u8]) -> Option<Self> {
        let text = batch.get(..batch.len().min(LOOK_BYTES_MAX))?;
        let at = text.windows(MARK.len()).position(|window| window == MARK)?;
        let text = text.get(at + MARK.len()..)?;
        let text = std::str::from_utf8(text.get(..32 + 1 + 16 + 1 + 2)?).ok()?;
        let mut parts = text.split('-');
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let lower = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if (trace.len(), span.len(), flags.len()) != (32, 16, 2)
            || ![trace, span, flags].into_iter().all(lower)
        {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let found = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            sampled: flags & 1 == 1,
        };
        // Zeros are no ids.
        Some(found).filter(|found| found.trace != 0 && found.span != 0)
    }
}

/// Where a statement that is told of stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its application's trace.
    Under(Parent),
    /// It begins one.
    Alone,
}

/// One statement, or one batch of them, that was answered.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Where it stands.
    pub place: Place,
    /// When it was answered.
    pub ended: SystemTime,
    /// How long it waited for a connection, a replica or a primary.
    pub waited: Duration,
    /// From sending to the last answer.
    pub on_server: Duration,
    /// The node.
    pub node: Arc<str>,
    /// The role.
    pub user: Arc<str>,
    /// The database.
    pub database: Arc<str>,
    /// Why it went there.
    pub route: &'static str,
    /// Its text without literals; empty for a batch of several.
    pub text: String,
    /// It was answered with an error.
    pub failed: bool,
}

/// Where the data path hands spans over.
#[derive(Clone, Debug)]
pub struct Traces {
    spans: mpsc::Sender<Statement>,
    share: f64,
    dropped: Arc<AtomicU64>,
}

/// Where they come out.
#[derive(Debug)]
pub struct Told {
    /// In their order.
    pub spans: mpsc::Receiver<Statement>,
    dropped: Arc<AtomicU64>,
}

impl Traces {
    /// `share`: of the statements that do not say themselves, from 0 to 1.
    pub fn new(share: f64) -> (Self, Told) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::<AtomicU64>::default();
        (Self { spans: sender, share, dropped: Arc::clone(&dropped) }, Told { spans: receiver, dropped })
    }

    /// Whether a batch is told of, and where it stands. `dice` is from 0 to 1.
    pub fn wants(&self, batch: &[u8], dice: f64) -> Option<Place> {
        match Parent::find(batch) {
            Some(parent) => parent.sampled.then_some(Place::Under(parent)),
            None => (dice < self.share).then_some(Place::Alone),
        }
    }

    /// Hands one over, if there is room.
    pub fn tell(&self, statement: Statement) {
        if self.spans.try_send(statement).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Told {
    /// How many there was no room for since the last look.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// One request to a collector (OTLP over HTTP, JSON).
pub fn encode(statements: &[Statement], mut ids: impl FnMut() -> u64) -> Value {
    let mut spans = Vec::with_capacity(statements.len() * 3);
    for statement in statements {
        push_spans(statement, &mut ids, &mut spans);
    }
    let resource = [text("service.name", "primacy"), text("service.version", env!("CARGO_PKG_VERSION"))];
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "primacy" }, "spans": spans }],
    }] })
}

/// The statement as its client saw it; in it the wait, if there was one, and the server's part.
fn push_spans(statement: &Statement, ids: &mut impl FnMut() -> u64, spans: &mut Vec<Value>) {
    let mut id = || ids().max(1);
    let (trace, parent) = match statement.place {
        Place::Under(parent) => (parent.trace, Some(parent.span)),
        Place::Alone => ((u128::from(id()) << 64) | u128::from(id()), None),
    };
    let trace = format!("{trace:032x}");
    let (whole, part) = (id(), statement.ended - statement.on_server);
    let begun = part - statement.waited;
    let span =
        |id: u64, parent: Option<u64>, (name, kind): (&str, u32), (from, to): (SystemTime, SystemTime)| {
            let mut span = json!({
                "traceId": trace, "spanId": format!("{id:016x}"), "name": name, "kind": kind,
                "startTimeUnixNano": nanos(from), "endTimeUnixNano": nanos(to),
            });
            if let Some(parent) = parent {
                span["parentSpanId"] = format!("{parent:016x}").into();
            }
            if statement.failed && kind != INTERNAL {
                span["status"] = json!({ "code": FAILED });
            }
            span
        };
    let verb = statement.text.split_whitespace().next().unwrap_or("batch").to_owned();
    let mut outer = span(whole, parent, (&verb, SERVER), (begun, statement.ended));
    let mut attributes = vec![
        text("db.system.name", "postgresql"),
        text("db.namespace", &statement.database),
        text("primacy.role", &statement.user),
        text("primacy.route", statement.route),
    ];
    if !statement.text.is_empty() {
        attributes.push(text("db.query.text", &statement.text));
    }
    outer["attributes"] = attributes.into();
    spans.push(outer);
    if !statement.waited.is_zero() {
        spans.push(span(id(), Some(whole), ("wait", INTERNAL), (begun, part)));
    }
    let mut server = span(id(), Some(whole), ("server", CLIENT), (part, statement.ended));
    server["attributes"] =
        json!([text("db.system.name", "postgresql"), text("primacy.node", &statement.node)]);
    spans.push(server);
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// Numbers of 64 bits are text in protobuf's JSON.
fn nanos(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn find(comment: &str) -> Option<Parent> {
        Parent::find(format!("Q\0\0\0\x20SELECT 1 /*{comment}*/\0").as_bytes())
    }

    #[test]
    fn a_place_in_a_trace_is_found_where_it_is_well_formed() {
        let found = find(&format!("route='/x',traceparent='00-{TRACE}-00f067aa0ba902b7-01'"));
        let trace = u128::from_str_radix(TRACE, 16).unwrap();
        assert_eq!(found, Some(Parent { trace, span: 0x00f0_67aa_0ba9_02b7, sampled: true }));
        assert_eq!(
            find(&format!("traceparent='00-{TRACE}-00f067aa0ba902b7-00'")).map(|one| one.sampled),
            Some(false)
        );
        for wrong in [
            String::new(),
            format!("traceparent='01-{TRACE}-00f067aa0ba902b7-01'"),
            format!("traceparent='00-{}-00f067aa0ba902b7-01'", TRACE.to_uppercase()),
            format!("traceparent='00-{}-00f067aa0ba902b7-01'", "0".repeat(32)),
            format!("traceparent='00-{TRACE}-0000000000000000-01'"),
            format!("traceparent='00-{TRACE}-00f067aa0ba902b7"),
            format!("traceparent='00-{TRACE}+00f067aa0ba902b7-01'"),
        ] {
            assert_eq!(find(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn who_says_so_is_told_of_and_a_share_of_the_others() {
        let (traces, told) = Traces::new(0.25);
        assert_eq!(traces.wants(b"SELECT 1", 0.2), Some(Place::Alone));
        assert_eq!(traces.wants(b"SELECT 1", 0.3), None);
        let unsampled = format!("/*traceparent='00-{TRACE}-00f067aa0ba902b7-00'*/");
        assert_eq!(traces.wants(unsampled.as_bytes(), 0.0), None, "its application has decided");
        for _ in 0..=WAITING_MAX {
            traces.tell(statement());
        }
        assert_eq!((told.take_dropped(), told.take_dropped()), (1, 0));
    }

    fn statement() -> Statement {
        let parent = find(&format!("traceparent='00-{TRACE}-00f067aa0ba902b7-01'"));
        Statement {
            place: Place::Under(parent.unwrap()),
            ended: UNIX_EPOCH + Duration::from_nanos(1_000_000_007),
            waited: Duration::from_nanos(3),
            on_server: Duration::from_nanos(4),
            node: "n1".into(),
            user: "app".into(),
            database: "shop".into(),
            route: "replica",
            text: "SELECT $1".into(),
            failed: true,
        }
    }

    #[test]
    fn a_statement_is_one_span_with_its_wait_and_its_server_inside() {
        let mut last = 0;
        let ids = || {
            last += 1;
            last
        };
        let request = encode(&[statement()], ids);
        let scope = &request["resourceSpans"][0];
        assert_eq!(scope["resource"]["attributes"][0]["value"]["stringValue"], "primacy");
        let spans = scope["scopeSpans"][0]["spans"].as_array().unwrap();
        let shown: Vec<_> = spans
            .iter()
            .map(|span| {
                assert_eq!(span["traceId"], TRACE);
                let word = |key: &str| span[key].as_str().unwrap().to_owned();
                (word("name"), word("parentSpanId"), word("startTimeUnixNano"), word("endTimeUnixNano"))
            })
            .collect();
        let row = |name: &str, parent: &str, from: &str, to: &str| {
            (name.to_owned(), parent.to_owned(), from.to_owned(), to.to_owned())
        };
        let whole = "0000000000000001";
        assert_eq!(
            shown,
            [
                row("SELECT", "00f067aa0ba902b7", "1000000000", "1000000007"),
                row("wait", whole, "1000000000", "1000000003"),
                row("server", whole, "1000000003", "1000000007"),
            ]
        );
        assert_eq!(spans[0]["spanId"], whole);
        assert_eq!(
            [&spans[0]["status"]["code"], &spans[1]["status"]["code"]],
            [&json!(FAILED), &Value::Null]
        );
    }
}
