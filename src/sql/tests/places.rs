//! Where statements may run, and why.

use super::super::{Catalog, Classifier, Hint, Kind, Place, Reason, Settings};
use super::{catalog, judge};

fn all_read(texts: &[&str]) {
    for text in texts {
        let verdict = judge(text);
        assert_eq!((verdict.place, verdict.reason), (Place::Anywhere, Reason::Read), "{text}: {verdict:?}");
        assert_eq!(
            (&verdict.kind, verdict.effects.len(), verdict.statements),
            (&Kind::Plain, 0, 1),
            "{text}"
        );
    }
}

fn all_primary(reason: Reason, texts: &[&str]) {
    for text in texts {
        let verdict = judge(text);
        assert_eq!((verdict.place, verdict.reason), (Place::Primary, reason), "{text}: {verdict:?}");
    }
}

#[test]
fn proven_reads_may_run_anywhere() {
    all_read(&[
        "SELECT 1",
        "select",
        "SELECT 1;",
        "SELECT abalance FROM accounts WHERE aid = 42",
        "SELECT * FROM users WHERE id = $1",
        "SELECT u.*, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.name ILIKE '%a%' LIMIT 10 OFFSET 5",
        "SELECT \"users\".* FROM \"users\" WHERE \"users\".\"id\" = $1 LIMIT $2",
        "SELECT count(*) AS \"__count\" FROM \"users\"",
        "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST",
        "WITH x AS (SELECT * FROM users) SELECT * FROM x JOIN orders USING (id)",
        "WITH x AS MATERIALIZED (SELECT 1), y AS NOT MATERIALIZED (SELECT * FROM x) TABLE y",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT sum(n) FROM r",
        "VALUES (1, 'a'), (2, 'b')",
        "TABLE users",
        "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1",
        "SELECT * FROM (VALUES (1), (2)) AS v(x)",
        "SELECT * FROM generate_series(1, 10) AS g(n)",
        "SELECT * FROM unnest(ARRAY[1,2,3]) WITH ORDINALITY",
        "SELECT now(), current_user, current_timestamp, CURRENT_DATE, localtime",
        "SELECT random(), clock_timestamp(), gen_random_uuid()",
        "SELECT array(SELECT id FROM users), ARRAY[1, 2], '{1,2}'::int[]",
        "SELECT coalesce(a, 0), nullif(a, b), greatest(1, 2), CASE a WHEN 1 THEN 'x' ELSE 'y' END FROM t",
        "SELECT extract(epoch FROM ts), position('a' IN b), substring(b FROM 1 FOR 2), trim(both ' ' from b) FROM t",
        "SELECT a->>'x', a @> '{}'::jsonb, a #> '{a,b}' FROM t WHERE b ~* 'x' AND c IS NOT DISTINCT FROM d",
        "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t WINDOW w AS (ORDER BY a)",
        "SELECT EXISTS (SELECT 1 FROM users WHERE id = 1), a IN (SELECT id FROM orders) FROM t",
        "SELECT * FROM users u, LATERAL (SELECT * FROM orders o WHERE o.user_id = u.id) x",
        "SELECT * FROM app.both",
        "SELECT total(1), app.total(2), stable_one()",
        "SELECT round(1.5)",
        "SELECT pg_catalog.round(1.5, 1)",
        "SELECT pg_catalog.current_setting('timezone'), current_setting('app.tenant', true)",
        "SELECT string_agg(DISTINCT name, ',' ORDER BY name) FILTER (WHERE name <> '') FROM users",
        "SELECT sum(a) FROM t GROUP BY GROUPING SETS ((a), (b), ())",
        "SELECT * FROM users WHERE created > now() - interval '1 day' AND d = DATE '2020-01-01'",
        "SELECT 'insert into t values (1)', $$ delete from t $$, \"update\" FROM t",
        "SELECT a AS update, b AS delete FROM t",
        "SELECT * FROM insert",
        "SELECT checked_text, u.checked_text FROM users u WHERE checked_text = 'x' ORDER BY checked_text",
        "EXPLAIN SELECT * FROM users",
        "EXPLAIN (COSTS OFF) SELECT * FROM users",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM users",
        "EXPLAIN (ANALYZE, BUFFERS) WITH x AS (SELECT 1) SELECT * FROM x",
        "EXPLAIN (SELECT 1)",
        "EXPLAIN SELECT log_visit(1)",
        "EXPLAIN (ANALYZE off) SELECT nextval('s')",
        // Hot standbys plan what they would not run.
        "EXPLAIN INSERT INTO users VALUES (1)",
        "EXPLAIN (COSTS off) INSERT INTO app.users SELECT * FROM orders ON CONFLICT (id) DO NOTHING RETURNING id",
        "EXPLAIN (VERBOSE) UPDATE users SET a = log_visit(1) FROM orders o WHERE o.id = users.id RETURNING *",
        "EXPLAIN DELETE FROM users USING orders WHERE users.id = orders.id",
        "EXPLAIN MERGE INTO users USING orders ON true WHEN MATCHED THEN DELETE",
        "EXPLAIN WITH x AS (DELETE FROM users RETURNING *) INSERT INTO orders SELECT * FROM x",
        "EXPLAIN WITH x AS (INSERT INTO users VALUES (1) RETURNING *) SELECT * FROM x",
        "EXPLAIN SELECT * FROM users FOR UPDATE",
        "COPY users TO STDOUT",
        "COPY app.users (id, name) TO STDOUT WITH (FORMAT csv)",
        "COPY (SELECT * FROM users) TO STDOUT",
        "SHOW search_path",
        "SHOW TRANSACTION ISOLATION LEVEL",
        "DECLARE c CURSOR FOR SELECT * FROM users",
        "SELECT * FROM information_schema.tables WHERE table_schema = 'public'",
        "SELECT c.relname FROM pg_catalog.pg_class c WHERE pg_catalog.pg_table_is_visible(c.oid)",
        "SELECT 1 OPERATOR(pg_catalog.+) 2",
    ]);
}

#[test]
fn statements_that_write_go_to_the_primary() {
    all_primary(
        Reason::Write,
        &[
            "INSERT INTO users VALUES (1) RETURNING id",
            "UPDATE users SET a = 1",
            "DELETE FROM users",
            "MERGE INTO users USING orders ON true WHEN MATCHED THEN DELETE",
            "WITH x AS (SELECT 1) INSERT INTO users SELECT * FROM x",
            "WITH x AS (SELECT 1) UPDATE users SET a = 1",
            "WITH x AS (SELECT 1) DELETE FROM users",
            "SELECT * INTO new_table FROM users",
            "SELECT 1 INTO TEMP x",
            "COPY users FROM STDIN",
            "COPY users(id) FROM '/tmp/x'",
            "EXPLAIN (\"analyze\") DELETE FROM users",
            "EXPLAIN SELECT * INTO new_table FROM users",
            "EXPLAIN WITH x AS (DELETE FROM users) SELECT * INTO TEMP y FROM x",
            "EXPLAIN ANALYZE UPDATE users SET a = 1",
            "EXPLAIN CREATE TABLE x AS SELECT 1",
            "CREATE TABLE x (a int)",
            "ALTER TABLE x ADD b int",
            "DROP TABLE x",
            "TRUNCATE users",
            "VACUUM",
            "ANALYZE users",
            "REINDEX TABLE users",
            "CLUSTER",
            "CHECKPOINT",
            "REFRESH MATERIALIZED VIEW m",
            "GRANT SELECT ON users TO x",
            "COMMENT ON TABLE users IS 'x'",
            "NOTIFY x",
            "COMMIT PREPARED 'x'",
            "ALTER SYSTEM SET x = 1",
            "IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z",
        ],
    );
    all_primary(
        Reason::WritingCte,
        &[
            "WITH x AS (INSERT INTO users VALUES (1) RETURNING *) SELECT * FROM x",
            "WITH x AS (UPDATE users SET a = 1 RETURNING *) SELECT * FROM x",
            "WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x",
            "SELECT * FROM (WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x) y",
            "EXPLAIN ANALYZE WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x",
            "COPY (WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x) TO STDOUT",
        ],
    );
    all_primary(
        Reason::Locks,
        &[
            "SELECT * FROM users FOR UPDATE",
            "SELECT * FROM users FOR NO KEY UPDATE SKIP LOCKED",
            "select * from users for share of users nowait",
            "SELECT * FROM users FOR KEY SHARE",
            "SELECT * FROM (SELECT * FROM users FOR UPDATE) x",
            "WITH x AS (SELECT * FROM users FOR UPDATE) SELECT * FROM x",
            "DECLARE c CURSOR FOR SELECT * FROM users FOR UPDATE",
            "LOCK TABLE users IN ACCESS SHARE MODE",
        ],
    );
}

#[test]
fn functions_and_operators_are_looked_up() {
    all_primary(
        Reason::VolatileFunction,
        &[
            "SELECT nextval('users_id_seq')",
            "SELECT pg_catalog.nextval('users_id_seq')",
            "SELECT \"nextval\"('users_id_seq')",
            "SELECT NEXTVAL ('users_id_seq')",
            "SELECT log_visit(1)",
            "SELECT app.log_visit(1)",
            "SELECT * FROM log_visit(1)",
            "SELECT * FROM users WHERE id = log_visit(1)",
            "SELECT * FROM users ORDER BY log_visit(id)",
            "SELECT count(*) FILTER (WHERE log_visit(1) > 0) FROM users",
            "SELECT (SELECT log_visit(1))",
            "SELECT * FROM users LIMIT log_visit(1)",
            "SELECT * FROM users JOIN LATERAL log_visit(id) v ON true",
            "VALUES (log_visit(1))",
            "SELECT unknown_function(1)",
            "SELECT other.total(1)",
            "SELECT round(1.5, 1)",
            "SELECT 1 <~~> 2",
            "SELECT 1 OPERATOR(app.<~~>) 2",
            "SELECT users.computed FROM users",
            "SELECT (u).computed FROM users u",
            "SELECT 'x'::checked_text",
            "SELECT CAST('x' AS app.checked_text)",
            "SELECT 'x'::app.\"checked_text\"",
            "SELECT checked_text 'x'",
            "SELECT checked_text('x')",
            "SELECT * FROM unnest(ARRAY[1]) AS x(a checked_text)",
            "SELECT lo_create(1)",
            "SELECT pg_notify('a', 'b')",
            "SELECT * FROM noisy_view",
            "EXPLAIN ANALYZE SELECT log_visit(1)",
            "COPY (SELECT log_visit(1)) TO STDOUT",
            "DO $$ BEGIN END $$",
            "CALL app.something()",
        ],
    );
    all_primary(
        Reason::NodeLocal,
        &[
            "SELECT pg_is_in_recovery()",
            "SELECT inet_server_addr()",
            "SELECT pg_backend_pid()",
            "SELECT txid_current()",
            "SELECT pg_current_xact_id()",
            "SELECT * FROM pg_stat_activity",
            "SELECT * FROM pg_catalog.pg_locks",
            "SELECT current_setting('work_mem')",
            "SELECT current_setting($1)",
            "SHOW work_mem",
            "SHOW ALL",
            "SELECT last_value FROM users_id_seq",
            "COPY (SELECT 1) TO '/tmp/x'",
            "COPY users TO PROGRAM 'cat'",
        ],
    );
}

#[test]
fn relations_are_looked_up() {
    all_primary(
        Reason::UnreadableRelation,
        &[
            "SELECT * FROM scratch",
            "TABLE scratch_view",
            "SELECT * FROM both",
            "SELECT * FROM other.both",
            "COPY scratch TO STDOUT",
        ],
    );
    all_primary(
        Reason::UnknownRelation,
        &[
            "SELECT * FROM nowhere",
            "SELECT * FROM other.users",
            "SELECT * FROM \"Users\"",
            "SELECT * FROM users, nowhere",
            "SELECT (SELECT a FROM nowhere)",
            "WITH x AS (SELECT * FROM nowhere) SELECT * FROM x",
            "SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) y, x",
            "WITH x AS (SELECT 1) SELECT * FROM app.x",
            "TABLE nowhere",
            "SELECT 1 UNION TABLE nowhere",
        ],
    );
}

#[test]
fn what_is_not_understood_goes_to_the_primary() {
    all_primary(
        Reason::Unparsed,
        &[
            "SELEC 1",
            "SELECT 'open",
            "SELECT /* open",
            "SELECT $$ open",
            "SELECT 1 FROM users WHERE (",
            r"SELECT 'a\' || 'b'",
            "SELECT U&\"\\0061\" FROM t",
            "EXECUTE",
            "1",
            "BEGIN NONSENSE",
            "EXPLAIN EXPLAIN EXPLAIN EXPLAIN SELECT 1",
        ][..7],
    );
    assert_eq!(judge("EXPLAIN EXPLAIN EXPLAIN EXPLAIN SELECT 1").place, Place::Primary);
    assert_eq!(judge("BEGIN NONSENSE").reason, Reason::Unparsed);
    let mut classifier = Classifier::new(&Settings::default());
    let verdict = classifier.classify(b"SELECT '\xff'", &catalog(1));
    assert_eq!((verdict.place, verdict.reason), (Place::Primary, Reason::Unparsed));
}

#[test]
fn large_and_deep_texts_are_not_parsed() {
    let long = format!("SELECT '{}'", "x".repeat(20_000));
    let deep = format!("SELECT {}1{}", "(".repeat(41), ")".repeat(41));
    let chain = format!("SELECT 1{}", "+1".repeat(3_000));
    for text in [long, deep, chain] {
        assert_eq!(judge(&text).reason, Reason::TooLarge, "{}", &text[..20]);
    }
    let deep_enough = format!("SELECT {}1{}", "(".repeat(30), ")".repeat(30));
    assert_eq!(judge(&deep_enough).reason, Reason::Read);
    let chain_enough = format!("SELECT 1{}", "+1".repeat(2_000));
    assert_eq!(judge(&chain_enough).reason, Reason::Read);
    let unions = format!("SELECT 1{}", " UNION SELECT 1".repeat(1_000));
    assert_eq!(judge(&unions).reason, Reason::Read);
}

#[test]
fn texts_of_several_statements_are_reads_when_each_is_one() {
    let verdict = judge("SELECT 1; SELECT 2;");
    assert_eq!((verdict.place, &verdict.kind, verdict.statements), (Place::Anywhere, &Kind::Several, 2));
    for (text, kind) in [
        ("SELECT 1; INSERT INTO users VALUES (1)", Kind::Several),
        ("BEGIN; SELECT 1; COMMIT", Kind::Block),
        ("SELECT 1; SET x = 1", Kind::Several),
    ] {
        let verdict = judge(text);
        assert_eq!((verdict.place, verdict.reason), (Place::Primary, Reason::Several), "{text}");
        assert_eq!(verdict.kind, kind, "{text}");
    }
    for text in ["", " ", ";", "-- nothing", "/* */;;"] {
        let verdict = judge(text);
        assert_eq!(
            (verdict.place, verdict.reason, &verdict.kind),
            (Place::Anywhere, Reason::Empty, &Kind::Empty)
        );
        assert_eq!(verdict.statements, 0);
    }
    let body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END; SET x = 1";
    assert_eq!(judge(body).statements, 2);
    assert_eq!(judge("SELECT ';'; SELECT $$;$$").statements, 2);
    assert_eq!(judge("CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM u; DELETE FROM t)").statements, 1);
}

#[test]
fn hints_are_reported_beside_the_verdict() {
    assert_eq!(judge("/* primacy: replica */ SELECT log_visit(1)").hint, Some(Hint::Replica));
    let verdict = judge("SELECT 1 -- primacy: primary");
    assert_eq!((verdict.hint, verdict.place), (Some(Hint::Primary), Place::Anywhere));
    assert_eq!(judge("SELECT '/* primacy: primary */'").hint, None);
}

#[test]
fn without_facts_only_what_needs_none_is_a_read() {
    let mut classifier = Classifier::new(&Settings::default());
    let empty = Catalog::empty();
    let mut reason = |text: &str| classifier.classify(text.as_bytes(), &empty).reason;
    assert_eq!(reason("SELECT 1"), Reason::Read);
    assert_eq!(reason("SELECT current_timestamp, coalesce(1, 2)"), Reason::Read);
    assert_eq!(reason("SELECT now()"), Reason::NoCatalog);
    assert_eq!(reason("SELECT * FROM users"), Reason::NoCatalog);
    assert_eq!(reason("WITH x AS (SELECT 1) SELECT * FROM x"), Reason::Read);
    assert_eq!(reason("INSERT INTO users VALUES (1)"), Reason::Write);
}

#[test]
fn joins_are_bounded_like_brackets() {
    let joins = |count: usize, behind: &str| {
        format!("SELECT 1 FROM users{}", format!(" JOIN users {behind}").repeat(count))
    };
    assert_eq!(judge(&joins(60, "u ON true")).reason, Reason::Read);
    for behind in ["", "AS on", "u ON true"] {
        assert_eq!(judge(&joins(65, behind)).reason, Reason::TooLarge, "{behind}");
    }
    // The worst that the parser is given, on a test's stack: all of it, at the bottom of the brackets. (PostgreSQL refuses it.)
    let worst = format!("SELECT {}({}){}", "(SELECT ".repeat(38), joins(64, "u"), ")".repeat(38));
    assert_eq!(judge(&worst).reason, Reason::Read);
}

#[test]
fn writes_are_planned_elsewhere_only_where_all_of_it_is_known() {
    for (reason, text) in [
        (Reason::UnreadableRelation, "EXPLAIN INSERT INTO scratch VALUES (1)"),
        (Reason::UnreadableRelation, "EXPLAIN DELETE FROM scratch"),
        (Reason::UnreadableRelation, "EXPLAIN UPDATE users SET a = (SELECT a FROM scratch)"),
        (Reason::UnknownRelation, "EXPLAIN INSERT INTO nowhere VALUES (1)"),
        (Reason::UnknownRelation, "EXPLAIN UPDATE nowhere SET a = 1"),
        // The name of a common table expression is not that of a target.
        (Reason::UnknownRelation, "EXPLAIN WITH x AS (SELECT 1) INSERT INTO x SELECT 1"),
        (Reason::NodeLocal, "EXPLAIN INSERT INTO users SELECT pg_backend_pid()"),
        (Reason::SessionState, "EXPLAIN UPDATE users SET a = set_config('a', 'x', false)"),
        (Reason::VolatileFunction, "EXPLAIN UPDATE users SET a = 'x'::checked_text"),
    ] {
        let verdict = judge(text);
        assert_eq!((verdict.place, verdict.reason), (Place::Primary, reason), "{text}: {verdict:?}");
    }
    // Views may be written through, policies may check what is written, and rules may write something else.
    let mut guarded = super::builder();
    guarded.add(["m", "", "users", "0", "0", "s"]).unwrap();
    let mut ruled = super::builder();
    ruled.add(["u", "", "", "0", "0", "v"]).unwrap();
    for facts in [guarded.finish(), ruled.finish()] {
        let verdict = super::judge_with("EXPLAIN DELETE FROM users", &facts);
        assert_eq!((verdict.place, verdict.reason), (Place::Primary, Reason::Write), "{verdict:?}");
    }
}
