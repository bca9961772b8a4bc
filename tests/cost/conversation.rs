//! A client, the session machine and a server that answers by heart: what one statement costs inside the proxy when
//! sockets cost nothing. Used by the cost test and by the microbenchmarks.

use std::sync::Arc;
use std::time::Duration;

use primacy::model::{Address, Epoch, Lsn, NodeId, NodeView, Role, Service, Snapshot, Timeline};
use primacy::route::{self, Decision, Floor, Positions, Request, Scene, Transaction};
use primacy::session::batch::{Lookahead, Scan, Scanner};
use primacy::session::overlay::Overlay;
use primacy::session::{
    Event, Facts, Hold, Judge, Machine, Outgoing, ServerSession, Settings, Statements, Step,
};
use primacy::sql::{Catalog, CatalogBuilder, Classifier, Place, Reason};

/// One client's session in the middle of its life, and everything that it needs.
pub(crate) struct Conversation {
    machine: Machine,
    classifier: Classifier,
    statements: Statements,
    catalog: Catalog,
    server: ServerSession,
    snapshot: Snapshot,
    settings: route::Settings,
    dice: fastrand::Rng,
    held: bool,
    out: Vec<u8>,
}

/// A client's message or messages up to Sync, and what the server says to what reaches it.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) batch: Vec<u8>,
    answer: Vec<u8>,
}

struct NoFacts;

impl Facts for NoFacts {
    fn show(&self, _name: &str) -> Option<String> {
        None
    }

    fn timeline(&self) -> (Timeline, (Epoch, Lsn, u64)) {
        (Timeline(1), (Epoch(1), Lsn::ZERO, 1))
    }
}

impl Conversation {
    pub(crate) fn new() -> Self {
        let settings = Settings {
            session_mode: false,
            prepared_max: 1000,
            prepared_bytes_max: 1 << 20,
            server_prepared_max: 200,
            settings_bytes_max: 64 * 1024,
            resolve_commits: true,
            replay: None,
        };
        let name = Overlay::default()
            .with(&Arc::from("application_name"), &Arc::from("SET application_name TO E'pgbench'"));
        let mut server = ServerSession::new(NodeId(1));
        server.applied = name.clone();
        Self {
            machine: Machine::new(1, settings.into(), name),
            classifier: Classifier::new(&primacy::sql::Settings::default()),
            statements: Statements::default(),
            catalog: catalog(),
            server,
            snapshot: snapshot(),
            settings: route::Settings::default(),
            dice: fastrand::Rng::with_seed(1),
            held: false,
            out: Vec::with_capacity(64 * 1024),
        }
    }

    /// Asks the router.
    pub(crate) fn route(&mut self, request: &Request) -> Decision {
        let replayed = [Lsn(100); 3];
        let positions = Positions { sample: (1, Lsn(90)), replayed: &replayed, missed: Lsn::ZERO };
        let scene = Scene { snapshot: &self.snapshot, positions, load: &[0; 3], settings: &self.settings };
        route::decide(request, &scene, &mut self.dice)
    }

    /// One batch from the client's first byte to the answer's last. The number of bytes that the client gets.
    pub(crate) fn exchange(&mut self, exchange: &Exchange) -> usize {
        let limits = Lookahead { batch_max: 1 << 20, text_max: 1 << 24 };
        let Ok(Scan::Whole { len, end }) = Scanner::default().scan(&exchange.batch, limits) else {
            panic!("not one whole batch")
        };
        assert_eq!(len, exchange.batch.len(), "one batch");
        let mut judge = Judge {
            classifier: &mut self.classifier,
            catalog: &self.catalog,
            statements: &mut self.statements,
        };
        let plan = self.machine.plan(&exchange.batch, end, &mut judge).unwrap();
        self.out.clear();
        match self.machine.step(&plan, self.held) {
            Step::Local => {
                self.machine.answer(&exchange.batch, &plan, &NoFacts, &mut self.out);
                return self.out.len();
            }
            Step::Held => {}
            Step::Move => panic!("nothing here runs on a replica in a transaction"),
            Step::Route(request) => {
                assert!(matches!(self.route(&request), Decision::Primary(_) | Decision::Replica(..)));
            }
        }
        self.held = true;
        let sent = self.machine.dispatch(
            (&exchange.batch, &plan),
            &mut self.server,
            Hold::UntilDecided,
            &mut self.out,
        );
        assert!(sent == Outgoing::Raw || !self.out.is_empty());
        self.out.clear();
        let relayed = self.machine.relay(&exchange.answer, &mut self.server, &mut self.out).unwrap();
        let Some(Event::Ready(status)) = relayed.event else { panic!("{:?}", relayed.event) };
        assert_eq!(relayed.consumed, exchange.answer.len());
        self.machine.take_written();
        self.machine.finish(status, &mut self.server);
        self.held = !self.machine.may_release();
        if self.out.is_empty() { relayed.forward.len() } else { self.out.len() }
    }
}

/// What the router is asked about a read outside of a transaction, after an earlier read on another replica.
#[allow(dead_code, reason = "only the microbenchmarks ask the router alone")]
pub(crate) const READ: Request = Request {
    place: Place::Anywhere,
    verdict_reason: Reason::Read,
    hint: None,
    transaction: Transaction::None,
    consistency: None,
    floor: Floor::NONE,
    home: None,
    waited: false,
    avoid: None,
};

/// Facts about pgbench's tables.
pub(crate) fn catalog() -> Catalog {
    let mut builder = CatalogBuilder::new(1, 1);
    for table in ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"] {
        builder.add(["r", "public", table, "", "", "s"]).unwrap();
    }
    builder.finish()
}

fn snapshot() -> Snapshot {
    let node = |id: u16| NodeView {
        id: NodeId(id),
        name: Arc::from(format!("n{id}")),
        address: Address::Tcp { host: "127.0.0.1".into(), port: 5432 },
        role: if id == 0 { Role::Primary } else { Role::Replica },
        unreadable: None,
        weight: 100,
        zone: Arc::from(""),
        timeline: Timeline(1),
        received: Lsn(100),
        replayed: Lsn(100),
        lag_bytes: 0,
        lag: Duration::ZERO,
        server_version: 150_000,
    };
    Snapshot {
        version: 1,
        epoch: Epoch(1),
        timeline: Timeline(1),
        fork: Lsn::ZERO,
        system_id: None,
        primary: Some(NodeId(0)),
        service: Service::Open,
        nodes: (0..3).map(node).collect(),
    }
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![tag];
    frame.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', format!("{sql}\0").as_bytes())
}

fn complete(tag: &str) -> Vec<u8> {
    frame(b'C', format!("{tag}\0").as_bytes())
}

fn ready(status: u8) -> Vec<u8> {
    frame(b'Z', &[status])
}

/// RowDescription of one int4 column, one row, completion.
fn one_row(described: bool) -> Vec<u8> {
    let mut column = b"\0\x01abalance\0".to_vec();
    column.extend_from_slice(&[0, 0, 0x40, 1, 0, 3, 0, 0, 0, 23, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    let row = frame(b'D', b"\0\x01\0\0\0\x04-123");
    let head = if described { frame(b'T', &column) } else { Vec::new() };
    [head, row, complete("SELECT 1")].concat()
}

/// What a transaction of this kind consists of, twice over, so that texts differ; what has to happen once has happened.
pub(crate) fn transaction(session: &mut Conversation, what: &str) -> Vec<Exchange> {
    match what {
        "simple" => vec![simple(1), simple(99_999)],
        "extended" => vec![extended(), extended()],
        "prepared" => {
            session.exchange(&prepare());
            vec![prepared(), prepared()]
        }
        _ => [tpcb_like(), tpcb_like()].concat(),
    }
}

/// `pgbench -S`, simple protocol; the key differs from call to call.
fn simple(key: u32) -> Exchange {
    let batch = query(&format!("SELECT abalance FROM pgbench_accounts WHERE aid = {key};"));
    Exchange { batch, answer: [one_row(true), ready(b'I')].concat() }
}

/// The same, extended protocol with the unnamed statement.
pub(crate) fn extended() -> Exchange {
    let batch = [
        frame(b'P', b"\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0"),
        frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x06123456\0\0"),
        frame(b'D', b"P\0"),
        frame(b'E', b"\0\0\0\0\0"),
        frame(b'S', b""),
    ]
    .concat();
    let answer = [frame(b'1', b""), frame(b'2', b""), one_row(true), ready(b'I')].concat();
    Exchange { batch, answer }
}

/// What prepares the statement of `prepared`.
fn prepare() -> Exchange {
    let batch =
        [frame(b'P', b"P0_1\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0"), frame(b'S', b"")]
            .concat();
    Exchange { batch, answer: [frame(b'1', b""), ready(b'I')].concat() }
}

/// The same, prepared before.
fn prepared() -> Exchange {
    let batch = [
        frame(b'B', b"\0P0_1\0\0\0\0\x01\0\0\0\x06123456\0\0"),
        frame(b'D', b"P\0"),
        frame(b'E', b"\0\0\0\0\0"),
        frame(b'S', b""),
    ]
    .concat();
    Exchange { batch, answer: [frame(b'2', b""), one_row(true), ready(b'I')].concat() }
}

/// `pgbench`'s own transaction.
fn tpcb_like() -> Vec<Exchange> {
    let update =
        |sql: &str| Exchange { batch: query(sql), answer: [complete("UPDATE 1"), ready(b'T')].concat() };
    let begun = [complete("BEGIN"), ready(b'T'), complete("UPDATE 1"), ready(b'T')].concat();
    let xid = [one_row(true), ready(b'T'), complete("COMMIT"), ready(b'I')].concat();
    vec![
        Exchange { batch: query("BEGIN;"), answer: Vec::new() },
        Exchange {
            batch: query("UPDATE pgbench_accounts SET abalance = abalance + 42 WHERE aid = 1234;"),
            answer: begun,
        },
        Exchange {
            batch: query("SELECT abalance FROM pgbench_accounts WHERE aid = 1234;"),
            answer: [one_row(true), ready(b'T')].concat(),
        },
        update("UPDATE pgbench_tellers SET tbalance = tbalance + 42 WHERE tid = 7;"),
        update("UPDATE pgbench_branches SET bbalance = bbalance + 42 WHERE bid = 1;"),
        Exchange {
            batch: query(
                "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (7, 1, 1234, 42, CURRENT_TIMESTAMP);",
            ),
            answer: [complete("INSERT 0 1"), ready(b'T')].concat(),
        },
        Exchange { batch: query("END;"), answer: xid },
    ]
}
