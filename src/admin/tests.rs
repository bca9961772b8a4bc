//! The HTTP API over real sockets, with an operator that only remembers what it was asked for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::json::{
    ChangeReport, ClusterReport, CommandReport, ExplainReport, ExplainRequest, NodeReport, StatusReport,
};
use super::*;
use crate::clock;
use crate::control::Board;
use crate::model::{
    Address, Epoch, Lsn, NodeId, NodeView, Role, Secret, Service, Snapshot, Timeline, Unreadable,
};
use crate::observe::{EventKind, Events, Metrics};
use crate::proxy::report::{Want, WorkerReport};

/// Remembers what it was asked for and refuses failovers.
#[derive(Debug, Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    later: Mutex<Vec<ChangeReport>>,
}

impl Fake {
    fn asked(&self, what: String) -> BoxFuture<'_, Done> {
        self.asked.lock().expect("lock").push(what);
        async { Ok("done so".to_owned()) }.boxed()
    }
}

impl Operator for Fake {
    fn status(&self) -> BoxFuture<'_, Result<ClusterReport, CommandError>> {
        let primary = NodeReport { name: "n0".into(), lag_bytes: 7, ..NodeReport::default() };
        let report = ClusterReport {
            epoch: 3,
            primary: Some("n0".into()),
            nodes: vec![primary],
            ..ClusterReport::default()
        };
        async { Ok(report) }.boxed()
    }

    fn history(&self) -> Vec<ChangeReport> {
        let before = ChangeReport { epoch: 4, to: Some("n1".into()), ..ChangeReport::default() };
        std::iter::once(before).chain(self.later.lock().expect("lock").clone()).collect()
    }

    fn switchover(&self, to: Option<String>, dry_run: bool) -> BoxFuture<'_, Done> {
        if to.as_deref() == Some("n9") {
            return async { Err(CommandError::UnknownNode("the nodes are n0, n1".into())) }.boxed();
        }
        self.asked(format!("switchover {to:?} {dry_run}"))
    }

    fn failover(&self, to: Option<String>, allow_data_loss: bool) -> BoxFuture<'_, Done> {
        drop(self.asked(format!("failover {to:?} {allow_data_loss}")));
        async { Err(CommandError::Refused("not now".into())) }.boxed()
    }

    fn pause(&self) -> BoxFuture<'_, Done> {
        self.asked("pause".into())
    }

    fn resume(&self) -> BoxFuture<'_, Done> {
        self.asked("resume".into())
    }

    fn rejoin(&self, node: String) -> BoxFuture<'_, Done> {
        self.asked(format!("rejoin {node}"))
    }

    fn reload(&self) -> BoxFuture<'_, Result<CommandReport, CommandError>> {
        async { Ok(CommandReport::done("read again")) }.boxed()
    }

    fn workers(&self, _: Want) -> BoxFuture<'_, Vec<WorkerReport>> {
        async { Vec::new() }.boxed()
    }

    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainReport, CommandError>> {
        async move { Ok(ExplainReport { detail: Some(request.sql), ..ExplainReport::default() }) }.boxed()
    }
}

fn node(id: u16, role: Role, unreadable: Option<Unreadable>) -> NodeView {
    NodeView {
        id: NodeId(id),
        name: format!("n{id}").into(),
        address: Address::Tcp { host: "h".into(), port: id },
        role,
        unreadable,
        weight: 100,
        zone: "".into(),
        timeline: Timeline(2),
        received: Lsn(16),
        replayed: Lsn(16),
        lag_bytes: 7,
        lag: Duration::from_millis(3),
        server_version: 150_000,
    }
}

fn snapshot(service: Service, nodes: Vec<NodeView>) -> Snapshot {
    Snapshot {
        version: 1,
        epoch: Epoch(3),
        timeline: Timeline(2),
        fork: Lsn(0),
        system_id: None,
        primary: Some(NodeId(0)),
        service,
        nodes,
    }
}

struct Running {
    address: SocketAddr,
    operator: Arc<Fake>,
    board: Arc<Board>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn running(token: Option<&str>) -> Running {
    let operator = Arc::new(Fake::default());
    let nodes = vec![node(0, Role::Primary, None), node(1, Role::Replica, None)];
    let board = Board::new(snapshot(Service::Open, nodes));
    let metrics = Metrics::new(vec!["n0".into(), "n1".into()], 1);
    let events = Events::new(10);
    events.record(EventKind::NodeUp, Some("n1"), "n1 answers");
    let context = AdminContext { board: board.clone(), metrics, events, operator: operator.clone() };
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let settings = Settings { listen: Some(address), token: token.map(Secret::new), ..Settings::default() };
    let task = tokio::spawn(serve((listener, None), settings, context, std::future::pending()));
    Running { address, operator, board, task }
}

impl Running {
    /// Sends a request as it is written and gives status and body.
    async fn send(&self, head: &str, body: &str) -> (u16, String) {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.expect("connected");
            let host = if head.contains("host:") { "" } else { "host: 127.0.0.1\r\n" };
            let mut text =
                head.replacen('\n', " HTTP/1.1\r\n", 1).replace('\n', "\r\n").replace("\r\r", "\r");
            if !head.contains('\n') {
                text.push_str(" HTTP/1.1");
            }
            let length = body.len();
            let text = format!("{text}\r\n{host}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("answered");
            answer
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await.expect("in time");
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path}"), "").await
    }

    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.send(&format!("POST {path}\ncontent-type: application/json"), body).await
    }
}

#[tokio::test]
async fn what_can_be_looked_at_is_shown() {
    let admin = running(None).await;
    let (code, body) = admin.get("/api/v1/status").await;
    let status: StatusReport = serde_json::from_str(&body).expect("a status");
    assert_eq!((code, status.cluster.epoch, status.cluster.primary.as_deref()), (200, 3, Some("n0")));
    assert_eq!((status.cluster.nodes[0].lag_bytes, status.traffic.len()), (7, 2));
    assert!(body.contains("\"epoch\":3"), "the cluster's fields stand beside the others: {body}");
    assert!(admin.get("/api/v1/history").await.1.contains("\"epoch\":4"));
    assert!(admin.get("/api/v1/events").await.1.contains("n1 answers"));
    assert_eq!(admin.get("/api/v1/events?after=1").await.1, "[]");
    assert!(admin.get("/metrics").await.1.contains("primacy_epoch 3"));
    assert!(admin.get("/").await.1.contains("<!doctype html>"));
    assert_eq!(admin.get("/nowhere").await.0, 404);
}

#[tokio::test]
async fn health_checks_answer_by_status() {
    let admin = running(None).await;
    for path in ["/health", "/ready", "/primary", "/replica", "/replica?lag=7"] {
        assert_eq!(admin.get(path).await.0, 200, "{path}");
    }
    assert_eq!(admin.get("/replica?lag=6").await.0, 503);
    let down = vec![node(0, Role::Unknown, Some(Unreadable::Down)), node(1, Role::Replica, None)];
    admin.board.publish(snapshot(Service::Held, down));
    let codes = [admin.get("/health").await.0, admin.get("/ready").await.0, admin.get("/primary").await.0];
    assert_eq!(codes, [200, 200, 503]);
    let gone = vec![node(0, Role::Unknown, Some(Unreadable::Down))];
    admin.board.publish(snapshot(Service::ReadOnly, gone));
    assert_eq!((admin.get("/ready").await.0, admin.get("/replica").await.0), (503, 503));
}

#[tokio::test]
async fn verbs_reach_the_core_and_its_answers_come_back() {
    let admin = running(None).await;
    let (code, body) = admin.post("/api/v1/switchover", r#"{"to":"n1","dry_run":true}"#).await;
    assert_eq!(code, 200, "{body}");
    assert!(body.contains("done so"));
    let (code, body) = admin.post("/api/v1/failover", "{}").await;
    assert_eq!((code, body.contains("not now")), (409, true), "{body}");
    assert_eq!(admin.post("/api/v1/rejoin", r#"{"node":"n1"}"#).await.0, 200);
    assert_eq!(admin.post("/api/v1/pause", "{}").await.0, 200);
    assert_eq!(admin.post("/api/v1/reload", "{}").await.0, 200);
    assert!(admin.post("/api/v1/explain", r#"{"sql":"select 1"}"#).await.1.contains("select 1"));
    let asked = admin.operator.asked.lock().expect("lock").clone();
    assert_eq!(asked, ["switchover Some(\"n1\") true", "failover None false", "rejoin n1", "pause"]);
}

#[tokio::test]
async fn wrong_requests_change_nothing_and_say_why() {
    let admin = running(None).await;
    let (code, body) = admin.post("/api/v1/switchover", r#"{"to":"n9"}"#).await;
    assert_eq!(code, 404);
    assert!(body.contains("n0, n1"), "{body}");
    assert_eq!(admin.post("/api/v1/failover", r#"{"allow_dataloss":true}"#).await.0, 422);
    assert_eq!(admin.get("/api/v1/pause").await.0, 415);
    assert_eq!(admin.send("POST /api/v1/pause\ncontent-type: text/plain", "{}").await.0, 415);
    let rebound = "POST /api/v1/pause\nhost: evil.example\ncontent-type: application/json";
    assert_eq!(admin.send(rebound, "{}").await.0, 421);
    assert_eq!(admin.send("GET /api/v1/status\nhost: evil.example", "").await.0, 421);
    let long = format!("{{\"sql\":\"{}\"}}", "x".repeat(300 * 1024));
    assert_eq!(admin.post("/api/v1/explain", &long).await.0, 413);
    assert!(admin.operator.asked.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn a_token_that_is_set_is_asked_for() {
    let admin = running(Some("right-token")).await;
    let (code, body) = admin.post("/api/v1/pause", "{}").await;
    assert_eq!(code, 401);
    assert!(body.contains("PRIMACY_ADMIN_TOKEN"), "{body}");
    assert_eq!(admin.get("/api/v1/routes").await.0, 401, "statement texts are an application's");
    assert_eq!(admin.send("GET /api/v1/routes\nauthorization: Bearer right-token", "").await.0, 200);
    assert_eq!(admin.get("/api/v1/status").await.0, 200);
    assert_eq!(admin.get("/").await.0, 200);
    let with = "POST /api/v1/pause\ncontent-type: application/json\nauthorization: Bearer right-token";
    assert_eq!(admin.send(with, "{}").await.0, 200);
    assert_eq!(admin.get("/api/v1/status").await.0, 200);
}

#[tokio::test]
async fn changes_of_primary_are_counted_as_they_come() {
    let admin = running(None).await;
    let count = |text: &str| {
        let line =
            text.lines().find(|line| line.starts_with("primacy_primary_changes_total{how=\"failover\"}"));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse::<u64>().ok())
    };
    assert_eq!(count(&admin.get("/metrics").await.1), Some(0), "what was before the start does not count");
    let failover =
        ChangeReport { epoch: 5, cause: "failover".into(), to: Some("n0".into()), ..ChangeReport::default() };
    admin.operator.later.lock().expect("lock").push(failover);
    let deadline = clock::now() + Duration::from_secs(10);
    while count(&admin.get("/metrics").await.1) != Some(1) {
        assert!(clock::now() < deadline, "not counted in time");
        // Published again and again, as the control plane does; the same change counts once.
        admin.board.publish(snapshot(Service::Open, vec![node(0, Role::Primary, None)]));
    }
}
