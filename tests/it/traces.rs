//! Traces by OTLP: what a collector is told of statements, and what happens where there is none.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Cluster, LIMIT, Proxy, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector that keeps what it is sent.
struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Value>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Collector {
    async fn listen(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let spans = Arc::<Mutex<Vec<Value>>>::default();
        let kept = Arc::clone(&spans);
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = request(&mut stream).await;
                kept.lock().unwrap().extend(spans_of(&request));
                let answer =
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                stream.write_all(answer).await.unwrap();
            }
        });
        Self { port, spans, serving }
    }

    /// Waits for the spans of a trace.
    async fn spans(&self, trace: &str, least: usize) -> Vec<Value> {
        eventually(LIMIT, "the spans come", async || {
            let all = self.spans.lock().unwrap().clone();
            let of_trace: Vec<Value> = all.into_iter().filter(|span| span["traceId"] == trace).collect();
            (of_trace.len() >= least).then_some(of_trace)
        })
        .await
    }
}

/// The body of a request to the place where traces go.
async fn request(stream: &mut tokio::net::TcpStream) -> Value {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
            let length = head
                .to_lowercase()
                .lines()
                .find_map(|line| Some(line.strip_prefix("content-length: ")?.to_owned()));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                return serde_json::from_str(body).unwrap();
            }
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "cut off: {text}");
    }
}

fn spans_of(request: &Value) -> Vec<Value> {
    let resource = &request["resourceSpans"][0];
    assert_eq!(attribute(&resource["resource"], "service.name").as_deref(), Some("primacy"));
    resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn attribute(of: &Value, key: &str) -> Option<String> {
    let found = of["attributes"].as_array()?.iter().find(|one| one["key"] == key)?;
    Some(found["value"]["stringValue"].as_str()?.to_owned())
}

fn nanos(span: &Value, key: &str) -> u128 {
    span[key].as_str().unwrap().parse().unwrap()
}

async fn say(proxy: &Proxy, text: &str) {
    // An answer with an error is an answer.
    drop(proxy.client().await.simple_query(text).await);
}

#[tokio::test]
async fn a_collector_hears_of_the_statements_whose_trace_is_kept() {
    let cluster = Cluster::with_replicas(1).await;
    let collector = Collector::listen(0).await;
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let proxy = cluster.proxy().set("log.otlp_endpoint", endpoint).run().await;
    let comment = |span: &str, flags: &str| format!("/*app='x',traceparent='00-{TRACE}-{span}-{flags}'*/");
    say(&proxy, &format!("SELECT 'secret' {}", comment("00f067aa0ba90001", "00"))).await;
    say(&proxy, "SELECT 'untold'").await;
    say(&proxy, &format!("SELECT pg_sleep(0.05), 'secret' {}", comment("00f067aa0ba90002", "01"))).await;
    say(&proxy, &format!("SELECT 1 / 0 {}", comment("00f067aa0ba90003", "01"))).await;

    let spans = collector.spans(TRACE, 4).await;
    let of = |parent: &str| -> Vec<&Value> {
        spans.iter().filter(|span| span["parentSpanId"] == parent).collect()
    };
    assert!(of("00f067aa0ba90001").is_empty(), "its application does not keep it");
    let [slept] = of("00f067aa0ba90002")[..] else { panic!("{spans:#?}") };
    assert_eq!((slept["name"].as_str(), slept["kind"].as_u64()), (Some("SELECT"), Some(2)));
    assert_eq!(attribute(slept, "db.namespace").as_deref(), Some("app"));
    let text = attribute(slept, "db.query.text").unwrap();
    assert!(text.contains("pg_sleep") && !text.contains("secret"), "{text}");
    assert!(attribute(slept, "primacy.route").is_some());
    let inner = of(slept["spanId"].as_str().unwrap());
    let server = inner.iter().find(|span| span["name"] == "server").unwrap();
    assert!(attribute(server, "primacy.node").unwrap().starts_with("node"));
    let took = nanos(server, "endTimeUnixNano") - nanos(server, "startTimeUnixNano");
    assert!(took >= 50_000_000, "{took}");
    assert!(nanos(slept, "startTimeUnixNano") <= nanos(server, "startTimeUnixNano"));
    assert!(slept["status"].is_null());
    let [failed] = of("00f067aa0ba90003")[..] else { panic!("{spans:#?}") };
    assert_eq!(failed["status"]["code"], 2);
    assert!(!format!("{:?}", collector.spans.lock().unwrap()).contains("untold"), "the share is 0");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_one_line_and_a_share_is_told_when_it_comes() {
    let cluster = Cluster::with_replicas(0).await;
    let away = Collector::listen(0).await;
    let port = away.port;
    away.serving.abort();
    assert!(away.serving.await.unwrap_err().is_cancelled());
    let proxy = cluster
        .proxy()
        .set("log.otlp_endpoint", format!("http://127.0.0.1:{port}"))
        .set("log.otlp_share", 1.0)
        .run()
        .await;
    let client = proxy.client().await;
    eventually(LIMIT, "the log says it", async || {
        client.simple_query("SELECT 1").await.unwrap();
        proxy.log().contains("the collector takes no traces").then_some(())
    })
    .await;
    for _ in 0..200 {
        client.simple_query("SELECT 1").await.unwrap();
    }
    let back = Collector::listen(port).await;
    eventually(LIMIT, "it takes them again", async || {
        client.simple_query("SELECT 1").await.unwrap();
        proxy.log().contains("takes traces again").then_some(())
    })
    .await;
    assert_eq!(proxy.log().matches("the collector takes no traces").count(), 1);
    eventually(LIMIT, "and has some", async || {
        let spans = back.spans.lock().unwrap();
        // Nobody named a trace: each statement begins one.
        spans.iter().any(|span| span["name"] == "SELECT" && span["parentSpanId"].is_null()).then_some(())
    })
    .await;
}
