//! The proxy answers as PostgreSQL does, message by message: every script runs on a server itself and through the proxy,
//! and what comes back has to be the same. Through the proxy all clients share one connection per node, and between any
//! two steps outside of a transaction another client uses all of them, with settings and statements of its own.

mod queries;
mod sessions;
mod transactions;

use crate::harness::{Cluster, Proxy, Raw, steps};

/// What one client does; its name for the report.
struct Script {
    name: &'static str,
    /// The session gets tied to its connection: nobody else could use it in between.
    pins: bool,
    text: &'static str,
}

/// A script whose session stays free between transactions.
const fn script(name: &'static str, text: &'static str) -> Script {
    Script { name, pins: false, text }
}

/// A script that ties its session to a connection.
const fn pinning(name: &'static str, text: &'static str) -> Script {
    Script { name, pins: true, text }
}

const SETUP: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v text);
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    CREATE SCHEMA intruder; CREATE TABLE intruder.t (id int, v text); INSERT INTO intruder.t VALUES (0, 'intruder');
    CREATE VIEW opened AS SELECT name FROM pg_prepared_statements UNION ALL SELECT name FROM pg_cursors;
    CREATE FUNCTION opened() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT count(*) FROM pg_cursors';
    CREATE FUNCTION forgets() RETURNS text LANGUAGE plpgsql VOLATILE AS 'BEGIN DEALLOCATE ALL; RETURN ''gone''; END';
    GRANT ALL ON SCHEMA intruder TO app; GRANT ALL ON ALL TABLES IN SCHEMA public, intruder TO app;
    CREATE ROLE other; GRANT other TO app; ALTER ROLE app SET IntervalStyle TO 'sql_standard'; GRANT ALL ON t TO other;
    CREATE FUNCTION notices(n int) RETURNS int LANGUAGE plpgsql VOLATILE
        AS $$ BEGIN RAISE WARNING 'number %', n; RETURN n; END $$;";

/// A client that uses every server connection, leaving as much behind as it can.
struct Intruder {
    raw: Raw,
}

impl Intruder {
    async fn enter(proxy: &Proxy) -> Self {
        let mut raw = Raw::connect(proxy.port(), &[("application_name", "intruder")]).await;
        raw.run(
            "Q SET search_path TO intruder
             Q SET TimeZone TO 'Asia/Tokyo'
             Q SET DateStyle TO 'German'
             Q SET extra_float_digits TO -7
             P:s1 SELECT 'intruder'
             P:s2 SELECT 'intruder', $1::text
             S",
        )
        .await;
        Self { raw }
    }

    async fn use_all(&mut self) {
        for _ in 0..2 {
            for node in ["primary", "replica"] {
                let seen = self
                    .raw
                    .run(&format!(
                        "Q /* primacy: {node} */ SELECT v FROM t
                         P: /* primacy: {node} */ SELECT 'intruder'
                         B::
                         E:
                         B::s1
                         E:
                         S"
                    ))
                    .await;
                let rows: Vec<&String> = seen.iter().filter(|shown| shown.starts_with("D ")).collect();
                assert_eq!(rows, ["D intruder"; 3], "{seen:?}");
            }
        }
    }
}

/// Runs a script where `intruder` may use the same connections between its steps.
async fn transcript(port: u16, script: &Script, mut intruder: Option<&mut Intruder>) -> Vec<String> {
    let mut raw = Raw::connect(port, &[("application_name", "script")]).await;
    let mut seen = Vec::new();
    for step in steps(script.text) {
        let answers = raw.step(&step).await;
        let outside = answers.last().is_some_and(|last| last == "Z I");
        let over = answers.last().is_some_and(|last| last == "silence" || last == "closed");
        seen.extend(answers);
        if over {
            return seen;
        }
        if let Some(intruder) = intruder.as_deref_mut()
            && outside
            && !script.pins
        {
            intruder.use_all().await;
        }
    }
    seen
}

/// The same through the proxy as on a direct connection, wherever transactions may begin.
async fn compare(scripts: &[Script]) {
    let cluster = Cluster::builder(2).setting("max_prepared_transactions", "5").run().await;
    cluster.sql(0, SETUP).await;
    let mut different = Vec::new();
    for transactions in ["primary", "optimistic"] {
        let proxy =
            cluster.proxy().set("pool.default_pool_size", 1).set("routing.transactions", transactions);
        let proxy = proxy.run().await;
        let mut intruder = Intruder::enter(&proxy).await;
        for script in scripts {
            let direct = transcript(cluster.node(0).port(), script, None).await;
            let through = transcript(proxy.port(), script, Some(&mut intruder)).await;
            let longer = direct.len().max(through.len());
            if let Some(at) = (0..longer).find(|&at| direct.get(at) != through.get(at)) {
                different.push(format!(
                    "{}, transactions = {transactions}, message {at}\n   before:  {:?}\n   direct:  {:?}\n   through: {:?}",
                    script.name,
                    &direct[at.saturating_sub(6)..at],
                    &direct[at..],
                    &through[at..],
                ));
            }
        }
    }
    assert!(different.is_empty(), "{} scripts differ:\n{}", different.len(), different.join("\n"));
}

#[tokio::test]
async fn queries_and_pipelines_are_answered_as_by_a_server() {
    compare(queries::QUERIES).await;
}

#[tokio::test]
async fn transactions_are_answered_as_by_a_server() {
    compare(transactions::TRANSACTIONS).await;
}

#[tokio::test]
async fn sessions_are_answered_as_by_a_server() {
    compare(sessions::SESSIONS).await;
}
