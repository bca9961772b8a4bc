//! Nothing of one client reaches another: many sessions share two server connections, do everything that leaves traces,
//! break off at any message, cancel early and late, and check each answer against what they themselves have done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually, frame, send_cancel};

/// Sessions at one time, and what each of them does in its life.
const SESSIONS: u64 = 8;
const STEPS: usize = 60;

/// What one session knows of itself.
struct Session {
    raw: Raw,
    port: u16,
    /// Unique to this connection: found in an answer elsewhere, it has leaked.
    mark: u64,
    tag: Option<String>,
    prepared: Option<String>,
    temporary: bool,
    dice: fastrand::Rng,
}

static MARKS: AtomicU64 = AtomicU64::new(1);

impl Session {
    async fn begin(port: u16, dice: fastrand::Rng) -> Self {
        let raw = Raw::connect(port, &[]).await;
        let mark = MARKS.fetch_add(1, Ordering::Relaxed);
        Self { raw, port, mark, tag: None, prepared: None, temporary: false, dice }
    }

    async fn expect(&mut self, sql: &str, expected: &[&str]) {
        let seen = self.raw.query(sql).await;
        assert_eq!(seen, expected, "session {}: {sql}", self.mark);
    }

    /// One step; `false`: the session has ended.
    async fn step(&mut self) -> bool {
        match self.dice.u32(..13) {
            0 => {
                let tag = format!("tag-{}", self.mark);
                self.expect(&format!("SET app.tag = '{tag}'"), &["C SET", "Z I"]).await;
                self.tag = Some(tag);
            }
            1 | 2 => {
                // An unset setting of one's own is NULL in a new session, and empty where a ROLLBACK took it back.
                let seen = self.raw.query("SELECT coalesce(current_setting('app.tag', true), '')").await;
                let own = format!("D {}", self.tag.clone().unwrap_or_default());
                assert_eq!(seen, ["T 1", &own, "C SELECT 1", "Z I"], "session {}", self.mark);
            }
            3 => self.prepare().await,
            4 => self.execute().await,
            5 => {
                self.expect("SELECT 1 / 0", &["E 22012 division by zero", "Z I"]).await;
            }
            6 => self.transaction().await,
            7 => self.notice().await,
            8 => self.cancel_late().await,
            9 => self.cancel_while_it_runs().await,
            10 => self.temporary_table().await,
            11 => {
                let reset = self.raw.query("DISCARD ALL").await;
                assert_eq!(reset.last().unwrap(), "Z I", "{reset:?}");
                (self.tag, self.prepared, self.temporary) = (None, None, false);
            }
            _ => {
                self.break_off().await;
                return false;
            }
        }
        true
    }

    async fn prepare(&mut self) {
        if self.prepared.is_some() {
            let seen = self.raw.run("C:S:s\nS").await;
            assert_eq!(seen, ["3", "Z I"]);
        }
        let value = format!("prepared-{}", self.mark);
        let seen = self.raw.run(&format!("P:s SELECT '{value}'\nS")).await;
        assert_eq!(seen, ["1", "Z I"], "session {}", self.mark);
        self.prepared = Some(value);
    }

    async fn execute(&mut self) {
        let seen = self.raw.run("B::s\nE: 0\nS").await;
        match &self.prepared {
            Some(value) => assert_eq!(seen, ["2", &format!("D {value}"), "C SELECT 1", "Z I"]),
            None => assert!(seen[0].starts_with("E 26000"), "session {}: {seen:?}", self.mark),
        }
    }

    async fn transaction(&mut self) {
        let mark = self.mark;
        self.raw.query("BEGIN").await;
        let seen = self.raw.query(&format!("SET LOCAL app.tag = 'inside-{mark}'")).await;
        assert_eq!(seen, ["C SET", "Z T"]);
        let seen = self.raw.query("SELECT current_setting('app.tag')").await;
        assert_eq!(seen[1], format!("D inside-{mark}"));
        let end = if self.dice.bool() { "ROLLBACK" } else { "COMMIT" };
        let seen = self.raw.query(end).await;
        assert_eq!(seen, [format!("C {end}"), "Z I".to_owned()]);
    }

    async fn notice(&mut self) {
        let sql = format!("DO $$ BEGIN RAISE NOTICE 'notice-{}'; END $$\0", self.mark);
        self.raw.send(&frame(b'Q', sql.as_bytes())).await;
        loop {
            let message = self.raw.message().await.expect("the session goes on");
            if message.tag == b'N' {
                assert_eq!(message.field(b'M'), format!("notice-{}", self.mark));
            }
            if message.tag == b'Z' {
                return;
            }
        }
    }

    /// A cancel request for a statement that has ended: nobody's statement may end with it.
    async fn cancel_late(&mut self) {
        self.raw.query("SELECT 1").await;
        send_cancel(self.port, &self.raw.key).await;
    }

    /// A cancel request that may come before, during or after: only its own statement may end with it.
    async fn cancel_while_it_runs(&mut self) {
        let sleep = f64::from(self.dice.u32(..20)) / 1000.0;
        let sql = format!("/* primacy: primary */ SELECT pg_sleep({sleep}), 'own-{}'\0", self.mark);
        self.raw.send(&frame(b'Q', sql.as_bytes())).await;
        let key = self.raw.key.clone();
        let (seen, ()) = tokio::join!(self.raw.until_ready(), send_cancel(self.port, &key));
        let own = format!("D ,own-{}", self.mark);
        let done = seen == ["T 2", &own, "C SELECT 1", "Z I"];
        let cancelled = seen.iter().any(|message| message.starts_with("E 57014"));
        assert!((done || cancelled) && seen.last().unwrap() == "Z I", "session {}: {seen:?}", self.mark);
    }

    async fn temporary_table(&mut self) {
        if self.temporary {
            let seen = self.raw.query("SELECT mark FROM mine").await;
            assert_eq!(seen, ["T 1", &format!("D {}", self.mark), "C SELECT 1", "Z I"]);
            let seen = self.raw.query("DROP TABLE mine").await;
            assert_eq!(seen, ["C DROP TABLE", "Z I"]);
        } else {
            let seen = self.raw.query("SELECT mark FROM mine").await;
            assert!(seen[0].starts_with("E 42P01"), "session {}: another's table: {seen:?}", self.mark);
            let seen =
                self.raw.query(&format!("CREATE TEMP TABLE mine AS SELECT {} AS mark", self.mark)).await;
            assert_eq!(seen, ["C SELECT 1", "Z I"]);
        }
        self.temporary = !self.temporary;
    }

    /// Ends at a message's border or in the middle of one, with all kinds of things begun.
    async fn break_off(&mut self) {
        let mark = self.mark;
        let begun = [
            frame(b'Q', b"BEGIN\0"),
            frame(b'Q', format!("SET app.tag = 'left-{mark}'\0").as_bytes()),
            frame(b'P', format!("s\0SELECT 'left-{mark}'\0\0\0").as_bytes()),
            frame(b'B', b"\0s\0\0\0\0\0\0\0"),
            frame(b'E', b"\0\0\0\0\0"),
            frame(b'S', b""),
            frame(b'Q', b"CREATE TEMP TABLE mine (a int)\0"),
            frame(b'Q', b"COPY (SELECT repeat('x', 1000) FROM generate_series(1, 2000)) TO STDOUT\0"),
            frame(b'Q', b"LISTEN marks; NOTIFY marks, 'left'\0"),
            frame(b'Q', b"SELECT pg_advisory_lock(1, 1) FROM (SELECT 1) x WHERE false\0"),
            frame(b'Q', b"SELECT pg_sleep(0.02)\0"),
        ];
        let mut bytes = Vec::new();
        for _ in 0..self.dice.usize(1..5) {
            bytes.extend_from_slice(&begun[self.dice.usize(..begun.len())]);
        }
        if self.dice.bool() {
            bytes.truncate(self.dice.usize(..bytes.len()));
        }
        self.raw.send(&bytes).await;
        if self.dice.bool() {
            send_cancel(self.port, &self.raw.key).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_one_client_reaches_another_whatever_they_do() {
    let cluster = Cluster::with_replicas(1).await;
    // Fewer connections than sessions and breakers-off leave behind would need if nothing were given back.
    let proxy = Arc::new(cluster.proxy().set("pool.default_pool_size", 10).run().await);
    let seed = std::env::var("PRIMACY_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed} (PRIMACY_SEED)");
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut tasks = Vec::new();
    for _ in 0..SESSIONS {
        let (port, mut dice) = (proxy.port(), dice.fork());
        tasks.push(tokio::spawn(async move {
            let mut session = Session::begin(port, dice.fork()).await;
            for _ in 0..STEPS {
                if !session.step().await {
                    session = Session::begin(port, dice.fork()).await;
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap_or_else(|error| panic!("{error}, seed {seed}"));
    }
    assert!(!proxy.log().contains("panicked"));
}

/// What a process has in use.
#[derive(Debug)]
struct Use {
    resident_kib: u64,
    descriptors: usize,
    threads: usize,
    clients: u64,
    server_sessions: u64,
}

async fn used(cluster: &Cluster, proxy: &Proxy) -> Use {
    let of = format!("/proc/{}", proxy.pid());
    let status = std::fs::read_to_string(format!("{of}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let count = |dir: &str| std::fs::read_dir(format!("{of}/{dir}")).unwrap().count();
    let metrics = proxy.metrics().await;
    let clients = metrics
        .lines()
        .filter(|line| line.starts_with("primacy_clients{") || line.starts_with("primacy_clients "));
    let mut server_sessions = 0;
    for node in 0..2 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
        server_sessions += cluster.value(node, count).await.parse::<u64>().unwrap();
    }
    Use {
        resident_kib: line.trim().trim_end_matches(" kB").parse().unwrap(),
        descriptors: count("fd"),
        threads: count("task"),
        clients: clients.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum(),
        server_sessions,
    }
}

/// Churn, errors and kills for a long time: what the process has in use at the end is what it had after the first minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour: scripts/soak"]
async fn an_hour_of_churn_errors_and_kills_leaves_nothing_behind() {
    let seconds =
        std::env::var("PRIMACY_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3600);
    let cluster = Arc::new(Cluster::with_replicas(1).await);
    let configured = cluster.proxy().set("log.level", "warn").set("limits.client_login_timeout", "5s");
    let proxy = Arc::new(configured.set("pool.server_idle_timeout", "2s").run().await);
    let done = Arc::new(Done::default());
    let mut before = None;
    let ends = [Duration::from_secs(seconds.min(600) / 10), Duration::from_secs(seconds)];
    let begun = Instant::now();
    for end in ends {
        churn(&cluster, &proxy, &done, begun + end).await;
        let now = eventually(LIMIT, "everybody has left", async || {
            let now = used(&cluster, &proxy).await;
            (now.clients == 0 && now.server_sessions == 0).then_some(now)
        })
        .await;
        eprintln!("MEASURED after {:?}: {now:?}, {done:?}", begun.elapsed());
        let Some(first): Option<Use> = before.replace(now) else { continue };
        let last = before.as_ref().unwrap();
        assert!(last.descriptors <= first.descriptors + 3, "{first:?} -> {last:?}");
        assert!(last.threads <= first.threads + 1, "{first:?} -> {last:?}");
        assert!(last.resident_kib <= first.resident_kib + 16 * 1024, "{first:?} -> {last:?}");
    }
    assert!(!proxy.log().contains("panicked"));
}

/// What the churn has done so far.
#[derive(Debug, Default)]
struct Done {
    sessions: AtomicU64,
    answers: AtomicU64,
    cut_off: AtomicU64,
    switchovers: AtomicU64,
}

/// Sessions as above, with half of a life each, while server sessions are terminated, garbage is sent and the roles change
/// hands once a minute.
async fn churn(cluster: &Arc<Cluster>, proxy: &Arc<Proxy>, done: &Arc<Done>, until: Instant) {
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let (port, done) = (proxy.port(), Arc::clone(done));
        tasks.push(tokio::spawn(async move {
            while Instant::now() < until {
                half_a_life(port, &done).await;
            }
        }));
    }
    let (cluster, proxy, done) = (Arc::clone(cluster), Arc::clone(proxy), Arc::clone(done));
    tasks.push(tokio::spawn(async move {
        let mut next = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            for node in 0..2 {
                let end =
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' LIMIT 1";
                cluster.sql(node, end).await;
            }
            let mut raw = Raw::dial(proxy.port()).await;
            raw.send(&std::iter::repeat_with(|| fastrand::u8(..)).take(100).collect::<Vec<_>>()).await;
            if Instant::now() >= next {
                // One that comes before the roles have settled is refused.
                if proxy.program(&cluster, &["switchover"]).await.is_ok() {
                    done.switchovers.fetch_add(1, Ordering::Relaxed);
                }
                next = Instant::now() + Duration::from_secs(60);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
}

/// Signs in, makes statements and mistakes, and goes without a word.
async fn half_a_life(port: u16, done: &Done) {
    let mut raw = Raw::connect(port, &[]).await;
    done.sessions.fetch_add(1, Ordering::Relaxed);
    for _ in 0..fastrand::u32(1..30) {
        let sql = [
            "SELECT 1",
            "SELECT 1/0",
            "BEGIN; SELECT 1; COMMIT",
            "SET app.tag = 'x'",
            "/* primacy: primary */ SELECT 2",
        ];
        let seen = raw.query(sql[fastrand::usize(..sql.len())]).await;
        let (name, number) = (fastrand::u32(..3), fastrand::u32(..1000));
        let text = format!("P:s{name} SELECT {number}\nB::s{name}\nE: 0\nS");
        // A statement of that name may be there already, and a terminated server session is an error too.
        let ended = |answer: &[String]| answer.last().is_some_and(|last| last == "closed");
        if ended(&seen) || ended(&raw.run(&text).await) {
            done.cut_off.fetch_add(1, Ordering::Relaxed);
            return;
        }
        done.answers.fetch_add(2, Ordering::Relaxed);
    }
}
