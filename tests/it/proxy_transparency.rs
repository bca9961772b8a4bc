//! The proxy answers as PostgreSQL does, message by message: every script runs on a server itself and through the proxy,
//! and what comes back has to be the same. Through the proxy all clients share one connection per node, and between any
//! two steps outside of a transaction another client uses all of them, with settings and statements of its own.

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
    GRANT ALL ON SCHEMA intruder TO app; GRANT ALL ON ALL TABLES IN SCHEMA public, intruder TO app;
    CREATE ROLE other; GRANT other TO app; GRANT ALL ON t TO other;
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
    let cluster = Cluster::with_replicas(2).await;
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
    compare(QUERIES).await;
}

#[tokio::test]
async fn transactions_and_settings_are_answered_as_by_a_server() {
    compare(TRANSACTIONS).await;
}

const QUERIES: &[Script] = &[
    script(
        "writes outside of a transaction block",
        "Q INSERT INTO t VALUES (101, 'a')
         Q INSERT INTO t VALUES (102, 'b') RETURNING id, v
         Q INSERT INTO t VALUES (101, 'again')
         Q INSERT INTO t VALUES (103, nothing)
         Q INSERT INTO t VALUES (103, $1)
         Q INSERT INTO t VALUES (103, 'c
         Q INSERT INTO t VALUES (103, '$1 c');
         Q INSERT INTO t VALUES (104, 'd'); INSERT INTO t VALUES (105, 'e')
         Q INSERT INTO t VALUES (106, 'd'); INSERT INTO t VALUES (105, 'e')
         Q INSERT INTO child VALUES (1)
         Q INSERT INTO child VALUES (1) RETURNING id
         Q SELECT notices(7)
         Q UPDATE t SET v = notices(id)::text WHERE id IN (101, 102) RETURNING v
         Q UPDATE t SET v = v WHERE id IN (101, 102) RETURNING 1 / (id - 102)
         Q WITH gone AS (DELETE FROM t WHERE id > 1000 RETURNING id) SELECT count(*), 'x' FROM gone
         Q SELECT id FROM t WHERE id = 101 FOR UPDATE
         Q INSERT INTO nowhere VALUES (1)
         Q INSRT INTO t VALUES (1)
         Q SELECT count(*) FROM t WHERE id > 100
         Q DELETE FROM t WHERE id > 100",
    ),
    script(
        "writes in pipelines outside of a transaction block",
        "P:w INSERT INTO t VALUES ($1, $2)
         D:S:w
         B:p:w 201 x
         D:P:p
         E:p
         S
         B::w 202 y
         E:
         B::w 203 z
         E:
         S
         B::w 204 y
         E:
         B::w 202 z
         E:
         S
         Q DEALLOCATE ALL
         P:w INSERT INTO t VALUES ($1, $2) RETURNING v
         B::w 206 y
         D:P:
         E:
         S
         P: UPDATE t SET v = 'u' WHERE id > 200 RETURNING id
         B::
         E: 1
         S
         P: INSERT INTO child VALUES (1)
         B::
         E:
         S
         P: INSERT INTO child VALUES (1)
         B::
         E:
         P: SELECT notices(8)
         B::
         E:
         S
         C:S:w
         S
         P: DELETE FROM t WHERE id > 200
         B::
         E:
         S
         P: SELECT count(*) FROM t WHERE id > 200
         B::
         E:
         S",
    ),
    script(
        "there is no unnamed statement after one that could not be parsed",
        "P: SELECT 1
         S
         P: SELEC 1
         S
         B::
         E:
         S
         P: SELECT 1/0
         B::
         E:
         S
         B::
         E:
         S",
    ),
    script(
        "settings of which a statement changes a part",
        "Q SET datestyle TO 'SQL'
         Q SELECT date '1999-01-08'
         Q SET datestyle TO ymd
         Q SELECT date '99-01-08'
         Q SET datestyle TO German
         Q SELECT date '1999-01-08'
         Q BEGIN
         Q SET datestyle TO dmy
         Q ROLLBACK
         Q SELECT date '1999-01-08'
         Q RESET datestyle
         Q SELECT date '1999-01-08'",
    ),
    script(
        "settings that nobody has defined",
        "Q SHOW nobodys.own
         Q SET nobodys.own TO 'x'
         Q SHOW nobodys.own
         Q RESET nobodys.own
         Q SHOW nobodys.own
         Q SET nobodys.own TO 'y'
         Q RESET ALL
         Q SHOW nobodys.own",
    ),
    script(
        "who the session acts as",
        "Q SET ROLE other
         Q SELECT current_user, session_user, current_setting('role')
         Q SET SESSION AUTHORIZATION app
         Q SELECT current_user, session_user, current_setting('role')
         Q SET ROLE other
         Q RESET ALL
         Q SELECT current_user
         Q RESET SESSION AUTHORIZATION
         Q SELECT current_user, session_user, current_setting('role')
         Q BEGIN
         Q SET SESSION AUTHORIZATION app
         Q ROLLBACK
         Q SELECT current_user, session_user, current_setting('role')",
    ),
    script(
        "simple queries",
        "Q SELECT 1
         Q
         Q ;
         Q SELECT 1; SELECT 2
         Q SELECT
         Q SELEC
         Q SELECT 1/0
         Q SELECT 1; SELECT 1/0; SELECT 2
         Q TRUNCATE t; INSERT INTO t VALUES (1, 'a'), (2, NULL)
         Q TABLE t ORDER BY id
         Q INSERT INTO t VALUES (1, 'again')
         Q SELECT count(*) FROM t
         Q SELECT notices(3)
         Q UPDATE t SET v = 'b' WHERE id = 1 RETURNING v",
    ),
    script(
        "an implicit transaction of several statements is undone as a whole",
        "Q TRUNCATE t
         Q INSERT INTO t VALUES (1, 'a'); SELECT 1/0
         Q SELECT count(*) FROM t
         Q INSERT INTO t VALUES (1, 'a'); COMMIT; SELECT 1/0
         Q SELECT count(*) FROM t
         Q BEGIN; INSERT INTO t VALUES (2, 'b')
         Q SELECT count(*) FROM t
         Q ROLLBACK
         Q SELECT count(*) FROM t",
    ),
    script(
        "the unnamed statement, described, executed, bound again in a later batch",
        "P: SELECT $1::text
         D:S:
         B:: x
         D:P:
         E:
         S
         B:: y
         E:
         S
         P: SELECT 'second'
         S
         B::
         E:
         S
         D:S:
         S
         Q SELECT 3
         B::
         E:
         S",
    ),
    script(
        "the unnamed statement is gone after it was closed",
        "P: SELECT 1
         C:S:
         S
         B::
         S
         P: SELECT 1
         S
         C:S:
         P: SELECT 2
         S
         B::
         E:
         S
         P:s1 SELECT 'named'
         B::s1
         E:
         S
         B::
         E:
         S",
    ),
    script(
        "named statements",
        "P:s1 SELECT $1::int + 1
         S
         B::s1 4
         E:
         S
         D:S:s1
         S
         P:s1 SELECT 'other'
         S
         C:S:s1
         S
         B::s1 4
         E:
         S
         P:s1 SELECT 'other'
         B::s1
         E:
         S
         C:S:s1
         P:s1 SELECT 'third'
         B::s1
         E:
         S
         D:S:s2
         S
         C:S:nosuch
         S",
    ),
    script(
        "a named statement that fails to parse does not exist",
        "P:s1 SELEC
         S
         B::s1
         S
         P:s1 SELECT * FROM nosuch
         S
         P:s1 SELECT 5
         B::s1
         E:
         S",
    ),
    script(
        "an error in the middle: what follows up to Sync is not done",
        "P:s1 SELECT 1/$1::int
         B::s1 1
         E:
         B::s1 0
         E:
         P:s2 SELECT 2
         B::s2
         E:
         S
         B::s2
         E:
         S
         B::s1 1
         E:
         S",
    ),
    script(
        "DEALLOCATE of what the protocol prepared",
        "P:s1 SELECT 1
         P:s2 SELECT 2
         S
         Q DEALLOCATE s1
         B::s1
         E:
         S
         B::s2
         E:
         S
         Q BEGIN
         Q SELECT 1
         Q DEALLOCATE s2
         Q COMMIT
         B::s2
         E:
         S
         P:s1 SELECT 1
         P:s3 SELECT 3
         S
         Q DEALLOCATE ALL
         B::s3
         E:
         S
         Q DEALLOCATE nosuch",
    ),
    script(
        "DISCARD ALL",
        "P:s1 SELECT 1
         S
         Q SET extra_float_digits TO 1
         Q DISCARD ALL
         B::s1
         E:
         S
         Q SHOW extra_float_digits
         Q SHOW application_name
         P:s1 SELECT 2
         B::s1
         E:
         S",
    ),
    pinning(
        "SQL-level PREPARE",
        "Q PREPARE q AS SELECT $1::int + 1
         Q EXECUTE q(1)
         Q BEGIN
         Q EXECUTE q(2)
         Q COMMIT
         Q PREPARE q AS SELECT 1
         Q DEALLOCATE q
         Q EXECUTE q(1)",
    ),
    script(
        "portals and their limits",
        "Q BEGIN
         P: SELECT generate_series(1, 5)
         B:p:
         D:P:p
         E:p 2
         S
         E:p 2
         S
         E:p 2
         S
         E:p 2
         S
         C:P:p
         S
         E:p 2
         S
         Q ROLLBACK
         P: SELECT generate_series(1, 5)
         B:p:
         E:p 2
         E:p 2
         S
         E:p 2
         S",
    ),
    script(
        "Flush without Sync",
        "P:s1 SELECT $1::text
         D:S:s1
         H 3
         B::s1 a
         E:
         H 3
         B::s1 b
         E:
         S
         P: SELECT 1/0
         B::
         E:
         H 3
         P: SELECT 1
         S
         P: SELECT 'fine'
         B::
         E:
         H 4
         S",
    ),
    script(
        "prepared with Flush, then something else",
        "P:s1 SELECT $1::text
         D:S:s1
         H 3
         Q UPDATE t SET v = 'x' WHERE id = 1
         P:s2 SELECT no_such_column
         D:S:s2
         H 1
         S
         B::s1 a
         E:
         S",
    ),
    script(
        "a pipeline that reads, waits with Flush, and writes",
        "P: SELECT 1
         B::
         E:
         H 4
         P: UPDATE t SET v = 'y' WHERE id = 1
         B::
         E:
         S
         P: SELECT 2
         B::
         E:
         H 4
         Q UPDATE t SET v = 'z' WHERE id = 1",
    ),
    script(
        "an implicit transaction of a pipeline is undone as a whole",
        "Q TRUNCATE t
         P: INSERT INTO t VALUES (1, 'a')
         B::
         E:
         P: SELECT 1/0
         B::
         E:
         S
         Q SELECT count(*) FROM t
         P: INSERT INTO t VALUES (1, 'a')
         B::
         E:
         S
         Q SELECT count(*) FROM t",
    ),
    script(
        "COPY",
        "Q TRUNCATE t
         Q COPY t FROM STDIN
         d 1\ta
         d 2\tb
         c
         W
         Q COPY (SELECT * FROM t ORDER BY id) TO STDOUT
         Q COPY t FROM STDIN
         d 3\tc
         f given up
         W
         Q COPY t FROM STDIN
         d 1\tdouble
         d 4\td
         c
         W
         Q COPY t FROM STDIN
         d x\ty
         c
         W
         Q SELECT count(*) FROM t
         Q COPY nosuch FROM STDIN
         Q COPY t TO STDOUT; SELECT 1
         Q SELECT 'still there'",
    ),
    script(
        "COPY in the extended protocol",
        "Q TRUNCATE t
         P: COPY t FROM STDIN
         B::
         E:
         S
         d 1\ta
         c
         S
         P: COPY (SELECT * FROM t) TO STDOUT
         B::
         E:
         S
         P: COPY t FROM STDIN
         B::
         E:
         S
         f given up
         S
         Q SELECT count(*) FROM t",
    ),
    script(
        "large values",
        "Q SELECT length(repeat('x', 100000))
         Q SELECT repeat('x', 40000)
         P: SELECT repeat($1, 40000)
         B:: y
         E:
         S
         Q SELECT repeat('a', 20000) FROM generate_series(1, 30)",
    ),
    script(
        "cursors in a transaction",
        "Q BEGIN
         Q DECLARE c CURSOR FOR SELECT generate_series(1, 5)
         Q FETCH 2 FROM c
         Q MOVE 1 FROM c
         Q FETCH ALL FROM c
         Q COMMIT
         Q FETCH 1 FROM c",
    ),
    script(
        "only Sync, only Flush, and stray COPY messages",
        "S
         S
         H 0
         S
         d stray
         c
         S
         Q SELECT 1",
    ),
];

const TRANSACTIONS: &[Script] = &[
    script(
        "BEGIN and what ends it",
        "Q BEGIN
         Q COMMIT
         Q BEGIN
         Q ROLLBACK
         Q COMMIT
         Q ROLLBACK
         Q BEGIN
         Q BEGIN
         Q COMMIT
         Q START TRANSACTION ISOLATION LEVEL REPEATABLE READ
         Q SHOW transaction_isolation
         Q END
         Q BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE
         Q SHOW transaction_isolation
         Q COMMIT
         Q BEGIN READ ONLY
         Q SHOW transaction_read_only
         Q DELETE FROM t
         Q SELECT 1
         Q COMMIT
         Q BEGIN; SELECT 1; COMMIT
         Q BEGIN; COMMIT
         Q BEGIN ISOLATION LEVEL nonsense
         Q SELECT 1",
    ),
    script(
        "a transaction that fails",
        "Q TRUNCATE t
         Q BEGIN
         Q SELECT 1/0
         Q SELECT 1
         Q COMMIT
         Q BEGIN
         Q INSERT INTO t VALUES (1, 'a')
         Q SELEC
         Q ROLLBACK
         Q SELECT count(*) FROM t
         Q BEGIN
         Q SELECT 1/0
         Q BEGIN
         Q ROLLBACK
         Q SELECT count(*) FROM t",
    ),
    script(
        "BEGIN in the extended protocol",
        "P: BEGIN
         B::
         D:P:
         E:
         S
         P: INSERT INTO t VALUES (77, 'x') ON CONFLICT DO NOTHING
         B::
         E:
         S
         P: ROLLBACK
         B::
         E:
         S
         P:begin BEGIN
         D:S:begin
         S
         B::begin
         E:
         S
         P:commit COMMIT
         B::commit
         E:
         S
         B::begin
         E:
         P: SELECT 1
         B::
         E:
         B::commit
         E:
         S
         P: BEGIN
         B::
         E:
         P:bad SELEC
         S
         Q ROLLBACK
         P: BEGIN
         B::
         E:
         P:good SELECT $1::int
         D:S:good
         S
         Q COMMIT
         B::good 4
         E:
         S",
    ),
    script(
        "SET TRANSACTION ahead of the first statement",
        "Q BEGIN
         Q SET TRANSACTION ISOLATION LEVEL REPEATABLE READ
         Q SET TRANSACTION READ ONLY
         Q SHOW transaction_isolation
         Q SHOW transaction_read_only
         Q COMMIT
         Q SET TRANSACTION READ ONLY
         Q SHOW transaction_read_only",
    ),
    script(
        "savepoints",
        "Q TRUNCATE t
         Q BEGIN
         Q SAVEPOINT a
         Q INSERT INTO t VALUES (1, 'a')
         Q SAVEPOINT b
         Q INSERT INTO t VALUES (1, 'again')
         Q SELECT 1
         Q ROLLBACK TO b
         Q SELECT count(*) FROM t
         Q RELEASE a
         Q ROLLBACK TO a
         Q ROLLBACK
         Q SELECT count(*) FROM t
         Q SAVEPOINT a",
    ),
    script(
        "AND CHAIN",
        "Q BEGIN ISOLATION LEVEL REPEATABLE READ
         Q SELECT 1
         Q COMMIT AND CHAIN
         Q SHOW transaction_isolation
         Q ROLLBACK AND CHAIN
         Q COMMIT
         Q BEGIN
         Q COMMIT AND CHAIN
         Q SELECT 1
         Q ROLLBACK
         Q COMMIT AND CHAIN",
    ),
    script(
        "a constraint that fails at COMMIT",
        "Q BEGIN
         Q SET extra_float_digits TO 1
         Q INSERT INTO child VALUES (5)
         Q COMMIT
         Q SELECT count(*) FROM child
         Q SHOW extra_float_digits
         P: INSERT INTO child VALUES (5)
         B::
         E:
         S
         Q SELECT count(*) FROM child",
    ),
    script(
        "settings follow the session and are undone with its transactions",
        "Q SHOW application_name
         Q SHOW TimeZone
         Q SET TimeZone TO 'Europe/Berlin'
         Q SHOW TimeZone
         Q SELECT '2024-01-01 12:00:00+00'::timestamptz
         Q BEGIN
         Q SET TimeZone TO 'America/New_York'
         Q SHOW TimeZone
         Q ROLLBACK
         Q SHOW TimeZone
         Q BEGIN
         Q SET work_mem TO '1MB'
         Q SAVEPOINT a
         Q SET work_mem TO '2MB'
         Q SET LOCAL DateStyle TO 'SQL'
         Q SHOW DateStyle
         Q ROLLBACK TO a
         Q SHOW work_mem
         Q SHOW DateStyle
         Q COMMIT
         Q SHOW work_mem
         Q SET SESSION work_mem = '3MB'
         Q SHOW work_mem
         Q RESET work_mem
         Q SHOW work_mem
         Q RESET ALL
         Q SHOW TimeZone
         Q SHOW application_name
         Q SET application_name TO 'mine'
         Q SHOW application_name
         Q RESET application_name
         Q SHOW application_name
         Q SET nosuch TO 1
         Q SET work_mem TO 'much'
         Q SHOW work_mem",
    ),
    script(
        "set_config, custom settings, roles and the search path",
        "Q SELECT set_config('my.thing', 'one', false)
         Q SELECT current_setting('my.thing')
         Q BEGIN
         Q SELECT set_config('my.thing', 'two', true)
         Q SELECT current_setting('my.thing')
         Q COMMIT
         Q SELECT current_setting('my.thing')
         Q SET my.thing TO 'quoted ''text'''
         Q SELECT current_setting('my.thing')
         Q SET search_path TO intruder, public
         Q SELECT v FROM t
         Q SHOW search_path
         Q SET search_path TO DEFAULT
         Q SHOW search_path
         Q SET ROLE other
         Q SELECT current_user
         Q RESET ROLE
         Q SELECT current_user
         Q SET ROLE nosuch
         Q SELECT current_user
         Q SET statement_timeout TO '5s'
         Q SHOW statement_timeout
         Q SET DateStyle TO 'German'; SELECT '2024-12-31'::date
         Q SELECT '2024-12-31'::date
         Q SET TimeZone TO 'Asia/Tokyo'; SELECT 1/0
         Q SHOW TimeZone
         Q SHOW client_encoding
         Q SET NAMES 'LATIN1'
         Q SHOW client_encoding
         Q SET client_encoding TO DEFAULT
         Q SHOW client_encoding",
    ),
    pinning(
        "settings in a text that begins and ends transactions itself",
        "Q BEGIN; SET work_mem TO '9MB'; ROLLBACK
         Q SHOW work_mem
         Q SET work_mem TO '10MB'; BEGIN; SET work_mem TO '11MB'; SELECT 1/0
         Q SHOW work_mem
         Q ROLLBACK
         Q SHOW work_mem",
    ),
    pinning(
        "what an error does not undo",
        "Q SELECT pg_advisory_lock(1), 1/0
         Q SELECT pg_advisory_unlock(1)
         Q SELECT pg_advisory_lock(2); SELECT 1/0
         Q SELECT pg_advisory_unlock(2)
         P: PREPARE kept AS SELECT 'kept'
         B::
         E:
         P: SELECT 1/0
         B::
         E:
         S
         Q EXECUTE kept",
    ),
    script(
        "settings in a pipeline",
        "P: SET work_mem TO '5MB'
         B::
         E:
         P: SHOW work_mem
         B::
         E:
         S
         Q SHOW work_mem
         P: SET work_mem TO '6MB'
         B::
         E:
         P: SELECT 1/0
         B::
         E:
         S
         Q SHOW work_mem
         Q BEGIN
         P: SET work_mem TO '7MB'
         B::
         E:
         S
         Q COMMIT
         Q SHOW work_mem",
    ),
    pinning(
        "temporary tables",
        "Q CREATE TEMP TABLE tt (id int)
         Q INSERT INTO tt VALUES (1)
         Q SELECT count(*) FROM tt
         Q BEGIN
         Q CREATE TEMP TABLE t2 (id int)
         Q ROLLBACK
         Q SELECT count(*) FROM t2
         Q SELECT count(*) FROM tt
         Q DISCARD TEMP
         Q SELECT count(*) FROM tt",
    ),
    pinning(
        "cursors WITH HOLD",
        "Q BEGIN
         Q DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 3)
         Q COMMIT
         Q FETCH 1 FROM c
         Q FETCH ALL FROM c
         Q CLOSE c
         Q FETCH 1 FROM c",
    ),
    pinning(
        "session advisory locks",
        "Q SELECT pg_try_advisory_lock(4711)
         Q SELECT pg_advisory_unlock(4711)
         Q SELECT pg_advisory_unlock(4711)
         Q SELECT pg_advisory_lock(4711)
         Q SELECT pg_advisory_unlock_all()",
    ),
    script(
        "after sessions with pins, nothing of them is left",
        "Q SELECT count(*) FROM tt
         Q FETCH 1 FROM c
         Q EXECUTE q(1)
         Q SELECT pg_try_advisory_xact_lock(4711)
         Q SHOW extra_float_digits
         Q SELECT count(*) FROM pg_prepared_statements WHERE from_sql
         Q SELECT count(*) FROM pg_cursors WHERE name <> ''",
    ),
];
