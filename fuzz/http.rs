//! The HTTP address, asked with arbitrary bytes over a real socket. One server for all inputs, with an operator that only
//! counts the commands that reach it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use primacy::admin::json::{ChangeReport, ClusterReport, CommandReport, ExplainReport, ExplainRequest};
use primacy::admin::{AdminContext, CommandError, Done, Operator, Settings, bind, serve};
use primacy::control::Board;
use primacy::model::{Epoch, Lsn, Service, Snapshot, Timeline};
use primacy::observe::{Events, Metrics};
use primacy::proxy::report::{Want, WorkerReport};

/// An answer comes within this time, or the connection ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer that is read: the page is the longest.
const ANSWER_LEN_MAX: u64 = 1 << 20;

#[derive(Debug, Default)]
struct Counting {
    commands: AtomicU64,
}

impl Counting {
    fn done(&self) -> BoxFuture<'_, Done> {
        self.commands.fetch_add(1, Ordering::SeqCst);
        async { Ok("done".to_owned()) }.boxed()
    }
}

impl Operator for Counting {
    fn status(&self) -> BoxFuture<'_, Result<ClusterReport, CommandError>> {
        async { Ok(ClusterReport::default()) }.boxed()
    }

    fn history(&self) -> Vec<ChangeReport> {
        Vec::new()
    }

    fn switchover(&self, _: Option<String>, _: bool) -> BoxFuture<'_, Done> {
        self.done()
    }

    fn failover(&self, _: Option<String>, _: bool) -> BoxFuture<'_, Done> {
        self.done()
    }

    fn pause(&self) -> BoxFuture<'_, Done> {
        self.done()
    }

    fn resume(&self) -> BoxFuture<'_, Done> {
        self.done()
    }

    fn rejoin(&self, _: String) -> BoxFuture<'_, Done> {
        self.done()
    }

    fn reload(&self) -> BoxFuture<'_, Result<CommandReport, CommandError>> {
        self.commands.fetch_add(1, Ordering::SeqCst);
        async { Ok(CommandReport::done("done")) }.boxed()
    }

    fn explain(&self, _: ExplainRequest) -> BoxFuture<'_, Result<ExplainReport, CommandError>> {
        async { Err(CommandError::Stopping) }.boxed()
    }

    fn workers(&self, _: Want) -> BoxFuture<'_, Vec<WorkerReport>> {
        async { Vec::new() }.boxed()
    }
}

struct Server {
    address: SocketAddr,
    operator: Arc<Counting>,
    _runtime: tokio::runtime::Runtime,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let listener = runtime
        .block_on(bind(SocketAddr::from(([127, 0, 0, 1], 0))))
        .unwrap_or_else(|error| panic!("no port: {error}"));
    let address = listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
    let operator = Arc::new(Counting::default());
    let board = Board::new(Snapshot {
        version: 0,
        epoch: Epoch(0),
        timeline: Timeline(1),
        fork: Lsn::ZERO,
        system_id: None,
        primary: None,
        service: Service::Open,
        nodes: Vec::new(),
    });
    let context = AdminContext {
        board,
        metrics: Metrics::new(Vec::new(), 1),
        events: Events::new(4),
        operator: operator.clone(),
    };
    let settings = Settings { listen: Some(address), ..Settings::default() };
    runtime.spawn(serve((listener, None), settings, context, std::future::pending()));
    Server { address, operator, _runtime: runtime }
});

/// Whatever is sent, the answer is HTTP or none; and a command is carried out only for what says that it is JSON, by POST,
/// to this machine by a name that cannot be rebound.
pub(crate) fn ask(bytes: &[u8]) {
    let server = &*SERVER;
    let before = server.operator.commands.load(Ordering::SeqCst);
    let mut answer = Vec::new();
    let connected = TcpStream::connect(server.address);
    let mut stream = connected.unwrap_or_else(|error| panic!("it does not accept any more: {error}"));
    let patient = stream.set_read_timeout(Some(PATIENCE));
    patient.unwrap_or_else(|error| panic!("no time limit: {error}"));
    // It may hang up in the middle of what it does not want to hear.
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let read = (&mut stream).take(ANSWER_LEN_MAX).read_to_end(&mut answer);
    if let Err(error) = &read {
        assert!(error.kind() != std::io::ErrorKind::WouldBlock, "no answer and no end: {sent:?}");
    }
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
    let done = server.operator.commands.load(Ordering::SeqCst) - before;
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let may = text.matches("application/json").count().min(text.matches("post").count());
    assert!(done <= may as u64, "{done} commands for {may} that may be ones");
    let status = answer.get(9..12).unwrap_or_default();
    assert!(status != b"500", "{:?}", String::from_utf8_lossy(&answer));
}
