//! What the catalog says of permanent relations to a session that has temporary ones: a replica is asked where it says the
//! same, and nowhere else. What hides a permanent relation is temporary and unknown to every replica.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{Cluster, LIMIT, Proxy, eventually};
use crate::proxy_tied::{on_replica, proxy, run, value};

const SETUP: &str = "
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE TABLE owners (id int PRIMARY KEY, feels mood);
    CREATE TABLE things (id serial PRIMARY KEY, owner int REFERENCES owners, v text DEFAULT 'x' CHECK (v <> ''), m mood[]);
    CREATE INDEX things_lower ON things (lower(v)) WHERE v > 'a';
    CREATE VIEW seen AS SELECT t.v, o.feels FROM things t JOIN owners o ON o.id = t.owner;
    CREATE TABLE parts (a int, b mood) PARTITION BY LIST (a);
    CREATE TABLE part PARTITION OF parts FOR VALUES IN (1);
    CREATE POLICY only_good ON owners USING (feels = 'good'::mood AND EXISTS (SELECT FROM things));
    CREATE STATISTICS of_things (dependencies) ON id, owner FROM things;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app";

/// What psql and drivers ask about a relation, by its number. Some of it shows names that depend on the search path.
const QUESTIONS: [&str; 14] = [
    "SELECT '{}'::pg_catalog.regclass",
    "SELECT c.oid::regclass, pg_table_is_visible(c.oid) FROM pg_class c WHERE c.oid = '{}'",
    "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef) FROM pg_catalog.pg_attribute a WHERE a.attrelid = '{}' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    "SELECT c2.relname, pg_catalog.pg_get_indexdef(i.indexrelid, 0, true), pg_catalog.pg_get_constraintdef(con.oid, true) FROM pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_index i LEFT JOIN pg_catalog.pg_constraint con ON (conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x')) WHERE c.oid = '{}' AND c.oid = i.indrelid AND i.indexrelid = c2.oid ORDER BY i.indisprimary DESC, c2.relname",
    "SELECT r.conname, pg_catalog.pg_get_constraintdef(r.oid, true) FROM pg_catalog.pg_constraint r WHERE r.conrelid = '{}' ORDER BY 1",
    "SELECT conname, conrelid::pg_catalog.regclass AS ontable, pg_catalog.pg_get_constraintdef(oid, true) AS condef FROM pg_catalog.pg_constraint c WHERE confrelid IN (SELECT pg_catalog.pg_partition_ancestors('{}') UNION ALL VALUES ('{}'::pg_catalog.regclass)) AND contype = 'f' AND conparentid = 0 ORDER BY conname",
    "SELECT pol.polname, pg_catalog.pg_get_expr(pol.polqual, pol.polrelid) FROM pg_catalog.pg_policy pol WHERE pol.polrelid = '{}' ORDER BY 1",
    "SELECT oid, stxrelid::pg_catalog.regclass, pg_catalog.pg_get_statisticsobjdef_columns(oid) FROM pg_catalog.pg_statistic_ext WHERE stxrelid = '{}'",
    "SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i WHERE c.oid = i.inhparent AND i.inhrelid = '{}' ORDER BY inhseqno",
    "SELECT c.oid::pg_catalog.regclass, c.relkind, pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i WHERE c.oid = i.inhrelid AND i.inhparent = '{}' ORDER BY pg_catalog.pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT', c.oid::pg_catalog.regclass::pg_catalog.text",
    "SELECT inhparent::pg_catalog.regclass, pg_catalog.pg_get_partition_constraintdef(c.oid) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_inherits i ON c.oid = inhrelid WHERE c.oid = '{}'",
    "SELECT pg_catalog.pg_get_partkeydef('{}'::pg_catalog.oid)",
    "SELECT pg_catalog.pg_get_viewdef('{}'::pg_catalog.oid, true)",
    "SELECT pubname, pg_get_expr(pr.prqual, c.oid) FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel pr ON p.oid = pr.prpubid JOIN pg_catalog.pg_class c ON c.oid = pr.prrelid WHERE pr.prrelid = '{}' AND pg_catalog.pg_relation_is_publishable('{}')",
];

/// Every kind of relation that the questions are about.
const RELATIONS: [&str; 7] = ["things", "owners", "seen", "parts", "part", "things_lower", "things_id_seq"];

const BY_PATTERN: &str = "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(NAME)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3";

async fn answer(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect())
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

async fn setup(cluster: &Cluster) -> (Proxy, Vec<(&'static str, String)>) {
    let proxy = proxy(cluster, 20).await;
    cluster.sql(0, SETUP).await;
    let client = proxy.client().await;
    eventually(LIMIT, "the tables are known", async || {
        on_replica(&proxy, &client, "SELECT count(*) FROM part").await.then_some(())
    })
    .await;
    let mut numbers = Vec::new();
    for name in RELATIONS {
        numbers.push((name, value(&client, &format!("SELECT '{name}'::regclass::oid")).await));
    }
    (proxy, numbers)
}

/// Asks everything about everything; how many of the questions a replica has answered. Their answers are the session's own.
async fn asked(proxy: &Proxy, client: &Client, numbers: &[(&'static str, String)]) -> u64 {
    let mut replica = 0;
    for (name, number) in numbers {
        let by_number = QUESTIONS.iter().map(|question| question.replace("{}", number));
        let by_name = [format!("SELECT '{name}'::regclass"), BY_PATTERN.replace("NAME", name)];
        for question in by_number.chain(by_name) {
            let before = proxy.served().await.1;
            let found = answer(client, &question).await;
            replica += proxy.served().await.1 - before;
            let own = answer(client, &format!("/* primacy: primary */ {question}")).await;
            assert_eq!(found, own, "{name}: {question}");
        }
    }
    replica
}

/// All that is asked about each relation.
const ALL: u64 = (RELATIONS.len() * (QUESTIONS.len() + 2)) as u64;

#[tokio::test]
async fn permanent_relations_are_looked_up_on_replicas_beside_temporary_ones() {
    let cluster = Cluster::with_replicas(1).await;
    let (proxy, numbers) = setup(&cluster).await;
    let client = proxy.client().await;
    run(&client, "CREATE TEMP TABLE mine (id serial PRIMARY KEY, v text)").await;
    assert_eq!(asked(&proxy, &client, &numbers).await, ALL);
    // Those of the session's own are not.
    let mine = value(&client, "SELECT 'mine'::regclass::oid").await;
    for (sql, expected) in [
        ("SELECT '{}'::regclass", "mine"),
        ("SELECT c.oid::regclass FROM pg_class c WHERE c.oid = '{}'", "mine"),
        ("SELECT pg_table_is_visible(c.oid) FROM pg_class c WHERE c.oid = {}", "t"),
        ("SELECT 'mine_pkey'::regclass", "mine_pkey"),
        ("SELECT conrelid::regclass FROM pg_constraint WHERE conname = 'mine_pkey'", "mine"),
        ("SELECT oid::regclass FROM pg_class WHERE relname = 'mine_id_seq'", "mine_id_seq"),
        ("SELECT oid::regclass FROM pg_class WHERE relname ~ '^(mi.e)$'", "mine"),
        (
            "SELECT c.oid::regclass FROM pg_class c LEFT JOIN pg_index i ON c.oid = 1 WHERE relname LIKE 'mine'",
            "mine",
        ),
        ("SELECT ('mi' || 'ne')::regclass", "mine"),
    ] {
        let sql = sql.replace("{}", &mine);
        assert!(!on_replica(&proxy, &client, &sql).await, "{sql}");
        assert_eq!(value(&client, &sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn what_something_temporary_hides_is_looked_up_where_that_is() {
    let cluster = Cluster::with_replicas(1).await;
    let (proxy, numbers) = setup(&cluster).await;
    let number = |wanted: &str| numbers.iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
    let format = format!(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{}' AND attname = 'feels'",
        number("owners")
    );
    let of_things = format!("SELECT '{}'::regclass", number("things"));
    let of_index = format!("SELECT '{}'::regclass", number("things_lower"));
    let view = format!("SELECT pg_get_viewdef('{}'::oid) LIKE '%public.things%'", number("seen"));
    for (definitions, shown) in [
        (&["CREATE TEMP TABLE things (v text)"][..], &[(&of_things, "public.things"), (&view, "t")][..]),
        (&["CREATE TEMP VIEW mood AS SELECT 1 AS a"], &[(&format, "public.mood")]),
        (&["CREATE TEMP SEQUENCE things_lower"], &[(&of_index, "public.things_lower")]),
        // By the name of an index, a constraint, or what a table's own name begins with.
        (&["CREATE TEMP TABLE t (v text)", "CREATE INDEX things ON t (v)"], &[(&of_things, "public.things")]),
        (&["CREATE TEMP TABLE t (v text CONSTRAINT things UNIQUE)"], &[(&of_things, "public.things")]),
        (
            &["CREATE TEMP TABLE t (v text)", "ALTER TABLE t ADD CONSTRAINT things UNIQUE (v)"],
            &[(&of_things, "public.things")],
        ),
        (
            &["CREATE TEMP TABLE t (v text UNIQUE)", "ALTER INDEX t_v_key RENAME TO things"],
            &[(&of_things, "public.things")],
        ),
        (
            &["CREATE TEMP TABLE things (lower text)", "CREATE INDEX ON things (lower)"],
            &[(&of_things, "public.things")],
        ),
        (
            &["CREATE TEMP TABLE t (v text)", "ALTER TABLE t RENAME TO things"],
            &[(&of_things, "public.things")],
        ),
        // All in one text, and what runs unseen.
        (&["CREATE TEMP TABLE t (v text); CREATE INDEX things ON t (v)"], &[(&of_things, "public.things")]),
        (
            &[
                "CREATE TEMP TABLE t (v text)",
                "DO $$ BEGIN EXECUTE 'CREATE INDEX things' || ' ON t (v)'; END $$",
            ],
            &[(&of_things, "public.things")],
        ),
    ] {
        let client = proxy.client().await;
        for definition in definitions {
            run(&client, definition).await;
        }
        for (sql, expected) in shown {
            assert_eq!(value(&client, sql).await, *expected, "{definitions:?}: {sql}");
            assert!(!on_replica(&proxy, &client, sql).await, "{definitions:?}: {sql}");
        }
        assert!(asked(&proxy, &client, &numbers).await < ALL, "{definitions:?}");
        run(&client, "DISCARD TEMP").await;
        assert_eq!(asked(&proxy, &client, &numbers).await, ALL, "{definitions:?}");
    }
}

#[tokio::test]
async fn what_is_made_of_something_temporary_is_looked_up_where_that_is() {
    let cluster = Cluster::with_replicas(1).await;
    let (proxy, numbers) = setup(&cluster).await;
    let table = |name: &'static str, column: &'static str| (name, column);
    for (definition, (name, column), expected) in [
        ("CREATE TABLE made_a (x mine)", table("made_a", "x"), "mine"),
        ("CREATE TABLE made_b (x mine[])", table("made_b", "x"), "mine[]"),
        ("CREATE TABLE made_c AS SELECT m AS x FROM mine m", table("made_c", "x"), "mine"),
        ("SELECT m AS x INTO made_d FROM mine m", table("made_d", "x"), "mine"),
        ("ALTER TABLE made_a ADD COLUMN y mine", table("made_a", "y"), "mine"),
        ("SELECT 1; CREATE TABLE made_e (x mine)", table("made_e", "x"), "mine"),
    ] {
        let client = proxy.client().await;
        run(&client, "CREATE TEMP TABLE mine (v text)").await;
        run(&client, definition).await;
        let number = value(&client, &format!("SELECT oid FROM pg_class WHERE relname = '{name}'")).await;
        // Another session finds out when the facts have the number: this one would ask a replica then.
        let other = proxy.client().await;
        run(&other, "CREATE TEMP TABLE others (v text)").await;
        eventually(LIMIT, "the number is known", async || {
            on_replica(&proxy, &other, &format!("SELECT '{number}'::regclass")).await.then_some(())
        })
        .await;
        let sql = format!(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{number}' AND attname = '{column}'"
        );
        assert_eq!(value(&client, &sql).await, expected, "{definition}");
        assert!(!on_replica(&proxy, &client, &sql).await, "{definition}");
        assert!(asked(&proxy, &client, &numbers).await < ALL, "{definition}");
        run(&client, "DISCARD TEMP").await;
    }
}
