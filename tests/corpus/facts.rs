//! The query that loads the facts, and the one that sees them change.

use primacy::sql::{Catalog, Classifier, Place, Reason, Settings, catalog};

use crate::server::{Server, load, rows};

const OBJECTS: &str = "
    CREATE TABLE plain (a int, b text);
    CREATE UNLOGGED TABLE scratch (a int);
    CREATE TABLE parent (a int);
    CREATE UNLOGGED TABLE child () INHERITS (parent);
    CREATE TABLE parts (a int) PARTITION BY LIST (a);
    CREATE TABLE part PARTITION OF parts FOR VALUES IN (1);
    CREATE SEQUENCE numbers;
    CREATE MATERIALIZED VIEW stored AS SELECT random();
    CREATE VIEW reads AS SELECT a, lower(b) FROM plain;
    CREATE VIEW on_scratch AS SELECT * FROM scratch;
    CREATE VIEW on_view AS SELECT * FROM on_scratch;
    CREATE VIEW harmless AS SELECT random(), clock_timestamp() FROM plain;
    CREATE VIEW draws AS SELECT nextval('numbers');
    CREATE VIEW activity AS SELECT * FROM pg_stat_activity;
    CREATE VIEW whoami AS SELECT pg_backend_pid();
    CREATE FUNCTION writes(int) RETURNS int LANGUAGE plpgsql AS 'begin insert into plain values ($1); return 1; end';
    CREATE FUNCTION reading(int) RETURNS int STABLE LANGUAGE sql AS 'select $1';
    CREATE FUNCTION local_state() RETURNS bool STABLE LANGUAGE sql AS 'select pg_is_in_recovery()';
    CREATE FUNCTION makes_temp() RETURNS void LANGUAGE plpgsql AS 'begin create temp table t (a int); end';
    CREATE FUNCTION sets() RETURNS void LANGUAGE plpgsql AS $$begin perform set_config('x.y', 'z', false); end$$;
    CREATE FUNCTION sets_locally() RETURNS void LANGUAGE plpgsql
        AS $$begin perform set_config('x.y', 'z', true); update plain set a = 1; end$$;
    CREATE FUNCTION locks() RETURNS void LANGUAGE plpgsql AS 'begin perform pg_try_advisory_lock(1); end';
    CREATE FUNCTION computed(plain) RETURNS int LANGUAGE sql AS 'select 1';
    CREATE FUNCTION differs(int, int) RETURNS bool LANGUAGE plpgsql AS 'begin return true; end';
    CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = differs);
    CREATE FUNCTION checks(text) RETURNS bool LANGUAGE plpgsql AS 'begin return true; end';
    CREATE DOMAIN checked AS text CHECK (checks(value));
    CREATE DOMAIN short AS text CHECK (length(value) < 10);
    CREATE TYPE pair AS (a int, b text);
    CREATE FUNCTION pair_text(pair) RETURNS text LANGUAGE plpgsql AS 'begin return 1; end';
    CREATE CAST (pair AS text) WITH FUNCTION pair_text(pair);
    CREATE TABLE pairs (p pair);
    CREATE TABLE guarded (a int);
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON guarded USING (writes(a) = 1);
    CREATE TABLE tenants (a text);
    ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON tenants USING (a = current_setting('app.tenant', true));
    CREATE FUNCTION adds(int, int) RETURNS int LANGUAGE plpgsql AS 'begin return 1; end';
    CREATE AGGREGATE volatile_sum(int) (SFUNC = adds, STYPE = int);
    CREATE AGGREGATE plain_sum(int) (SFUNC = int4pl, STYPE = int);
    CREATE FUNCTION round(double precision, int) RETURNS numeric LANGUAGE sql AS 'select 1.0';
    CREATE FUNCTION on_change() RETURNS trigger LANGUAGE plpgsql AS 'begin return new; end';
";

fn judge(text: &str, catalog: &Catalog) -> (Place, Reason, usize) {
    let verdict = Classifier::new(&Settings::default()).classify(text.as_bytes(), catalog);
    (verdict.place, verdict.reason, verdict.effects.len())
}

#[tokio::test]
async fn a_real_catalog_says_what_a_replica_can_do() {
    let Some(server) = Server::start() else { return println!("skipped: no PostgreSQL server binaries") };
    let client = server.connect("postgres").await;
    client.batch_execute(OBJECTS).await.unwrap();
    let facts = load(&client, 1, 1).await;
    for text in [
        "SELECT * FROM plain, parts, part, stored, reads, harmless, tenants",
        "SELECT reading(1), count(*), plain_sum(a), round(1.5), round(1.5::numeric) FROM plain",
        "SELECT 'x'::short, 'plain'::regclass, regtype('int'), point(1, 2)",
        "SELECT now(), version(), gen_random_uuid(), pg_sleep(0), random()",
        "SELECT * FROM pg_class, pg_tables, pg_stats, information_schema.columns",
        "SELECT * FROM plain TABLESAMPLE system (10)",
        "SELECT a + 1, a || b, b ~ 'x', a BETWEEN 1 AND 2 FROM plain",
    ] {
        assert_eq!(judge(text, &facts), (Place::Anywhere, Reason::Read, 0), "{text}");
    }
    for (reason, texts) in [
        (Reason::UnreadableRelation, &["scratch", "child", "parent", "on_scratch", "on_view"][..]),
        (Reason::NodeLocal, &["numbers", "activity", "whoami", "pg_locks", "pg_settings", "pg_sequences"]),
        (Reason::VolatileFunction, &["draws", "pairs", "guarded"]),
        (Reason::UnknownRelation, &["nowhere"]),
    ] {
        for relation in texts {
            let text = format!("SELECT * FROM {relation}");
            assert_eq!(judge(&text, &facts), (Place::Primary, reason, 0), "{text}");
        }
    }
    for (reason, effects, expressions) in [
        (
            Reason::VolatileFunction,
            0,
            &["writes(1)", "nextval('numbers')", "volatile_sum(1)", "round(1.5, 1)"][..],
        ),
        (
            Reason::VolatileFunction,
            0,
            &["1 === 2", "'x'::checked", "'(1,a)'::pair", "pg_relation_size('plain')"],
        ),
        (
            Reason::VolatileFunction,
            0,
            &["sets_locally()", "(plain).computed FROM plain", "query_to_xml('', true, true, '')"],
        ),
        (Reason::VolatileFunction, 1, &["makes_temp()", "sets()", "locks()"]),
        (Reason::NodeLocal, 0, &["local_state()", "txid_current()", "pg_current_xact_id()"]),
        // Who looks at counters stays where they are.
        (Reason::NodeLocal, 1, &["pg_stat_get_numscans(1)"]),
    ] {
        for expression in expressions {
            let text = format!("SELECT {expression}");
            assert_eq!(judge(&text, &facts), (Place::Primary, reason, effects), "{text}");
        }
    }
}

/// What a relation shows that looks names up is the session's own affair, where that has temporary relations.
#[tokio::test]
async fn relations_that_look_names_up_are_known() {
    let Some(server) = Server::start() else { return println!("skipped: no PostgreSQL server binaries") };
    let client = server.connect("postgres").await;
    client.batch_execute(OBJECTS).await.unwrap();
    let made = "CREATE VIEW named AS SELECT c.oid::regclass FROM pg_class c;
        CREATE VIEW named_text AS SELECT tableoid::regclass::text AS t FROM plain;
        CREATE VIEW looked_up AS SELECT to_regclass(b) IS NULL AS missing FROM plain;
        CREATE VIEW visible AS SELECT relname FROM pg_class WHERE pg_table_is_visible(oid);
        CREATE VIEW typed AS SELECT format_type(atttypid, 0) FROM pg_attribute;
        CREATE VIEW on_system AS SELECT viewname FROM pg_views;
        CREATE VIEW on_standard AS SELECT table_name FROM information_schema.tables;
        CREATE VIEW on_named AS SELECT * FROM named;
        CREATE DOMAIN relation AS regclass;
        CREATE TABLE held (r regclass); CREATE TABLE held_many (r regclass[]); CREATE TABLE held_typed (t regtype);
        CREATE TABLE held_domain (r relation);
        CREATE TABLE held_above (a int) PARTITION BY LIST (a);
        CREATE VIEW not_named AS SELECT relname, oid, relfilenode FROM pg_class;
        CREATE TABLE processed (p regproc, n regnamespace)";
    client.batch_execute(made).await.unwrap();
    let facts = load(&client, 1, 1).await;
    let own = |relation: &str| {
        let text = format!("SELECT * FROM {relation}");
        let verdict = Classifier::new(&Settings::default()).classify(text.as_bytes(), &facts);
        assert_eq!(verdict.place, Place::Anywhere, "{text}");
        verdict.own_code
    };
    for relation in [
        "named",
        "named_text",
        "looked_up",
        "visible",
        "typed",
        "on_system",
        "on_standard",
        "on_named",
        "held",
        "held_many",
        "held_typed",
        "held_domain",
    ] {
        assert!(own(relation), "{relation}");
    }
    for relation in
        ["plain", "reads", "harmless", "not_named", "processed", "held_above", "pg_class", "pg_views"]
    {
        assert!(!own(relation), "{relation}");
    }
}

#[tokio::test]
async fn changes_of_the_facts_are_seen_and_others_are_not() {
    let Some(server) = Server::start() else { return println!("skipped: no PostgreSQL server binaries") };
    let client = server.connect("postgres").await;
    client.batch_execute(OBJECTS).await.unwrap();
    let mut last = rows(&client, catalog::CHANGE_SQL).await;
    assert_eq!((last.len(), last[0].len()), (1, 1));
    for (relevant, sql) in [
        (true, "CREATE TABLE another (a int)"),
        (true, "ALTER TABLE another SET UNLOGGED"),
        (true, "ALTER TABLE plain ADD COLUMN c regclass"),
        (true, "ALTER FUNCTION reading(int) VOLATILE"),
        (true, "CREATE OR REPLACE VIEW reads AS SELECT a, upper(b) AS lower FROM plain"),
        (true, "DROP POLICY p ON guarded"),
        (true, "ALTER TABLE another RENAME TO renamed"),
        (true, "DROP TABLE renamed"),
        (true, "ALTER DOMAIN short ADD CHECK (checks(value))"),
        (false, "INSERT INTO plain VALUES (1)"),
        (false, "CREATE TEMP TABLE mine (a int)"),
        (false, "TRUNCATE plain"),
        (false, "ANALYZE plain"),
        (false, "CREATE TEMP TABLE keyed (id serial PRIMARY KEY, a int)"),
        // Something temporary may hide these.
        (true, "CREATE INDEX ON plain (a)"),
        (true, "CREATE TYPE mood AS ENUM ('good')"),
        (false, "REINDEX TABLE plain"),
    ] {
        client.batch_execute(sql).await.unwrap();
        let now = rows(&client, catalog::CHANGE_SQL).await;
        assert_eq!(now != last, relevant, "{sql}");
        last = now;
    }
}

/// A function is marked volatile unless somebody said otherwise, so many that only read are.
#[tokio::test]
async fn configuration_vouches_for_functions() {
    let Some(server) = Server::start() else {
        println!("skipped: no PostgreSQL server binaries");
        return;
    };
    let client = server.connect("postgres").await;
    let made = "CREATE TABLE t (a int); CREATE SCHEMA s;
        CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t';
        CREATE FUNCTION s.total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t';
        CREATE FUNCTION node() RETURNS bool LANGUAGE sql AS 'SELECT pg_is_in_recovery()';
        CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS 'BEGIN CREATE TEMP TABLE x (); END';
        CREATE VIEW totals AS SELECT public.total();";
    client.batch_execute(made).await.unwrap();
    let texts = [
        "SELECT public.total()",
        "SELECT s.total()",
        "SELECT total()",
        "SELECT * FROM totals",
        "SELECT node()",
        "SELECT nextval('x')",
    ];
    for (vouched, anywhere) in [
        ("", [false; 6]),
        ("public.total", [true, false, false, true, false, false]),
        ("total,node,nextval", [true, true, true, true, false, false]),
        ("tot,s.total2,s", [false; 6]),
    ] {
        client.batch_execute(&format!("SET primacy.read_functions = '{vouched}'")).await.unwrap();
        let facts = load(&client, 1, 1).await;
        let found = texts.map(|text| judge(text, &facts).0 == Place::Anywhere);
        assert_eq!(found, anywhere, "{vouched}");
        assert!(
            judge("SELECT makes()", &facts).2 > 0,
            "what a body leaves in the session counts all the same"
        );
    }
}
