//! What drivers, ORMs and tools send, against the facts of a real server.

use primacy::sql::{Classifier, Place, Settings};

use crate::server::{Server, load};

const OBJECTS: &str = "
    CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
    CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int);
    CREATE TABLE auth_user (id int PRIMARY KEY, username text, is_active bool, date_joined timestamptz);
    CREATE TABLE posts (id int PRIMARY KEY, user_id int, title text, tags text[], body jsonb, created_at timestamptz);
";

/// Reads, as these programs write them (their shape; names are ours).
const READS: &[&str] = &[
    // pgbench
    "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
    "select count(*) from pgbench_branches",
    // Django
    r#"SELECT "auth_user"."id", "auth_user"."username" FROM "auth_user" WHERE "auth_user"."is_active" ORDER BY "auth_user"."date_joined" DESC LIMIT 21"#,
    r#"SELECT (1) AS "a" FROM "auth_user" WHERE "auth_user"."id" = 1 LIMIT 1"#,
    r#"SELECT COUNT(*) AS "__count" FROM "auth_user" WHERE ("auth_user"."username"::text LIKE UPPER('%x%') AND NOT ("auth_user"."id" IN (1, 2)))"#,
    r#"SELECT "posts"."id" FROM "posts" WHERE EXISTS(SELECT 1 AS "a" FROM "auth_user" U0 WHERE U0."id" = ("posts"."user_id") LIMIT 1)"#,
    "SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)",
    // ActiveRecord
    r#"SELECT "posts".* FROM "posts" WHERE "posts"."user_id" IN ($1, $2, $3) AND "posts"."title" ILIKE $4 ORDER BY "posts"."id" ASC LIMIT $5"#,
    r#"SELECT 1 AS one FROM "posts" WHERE "posts"."id" = $1 LIMIT $2 /*application:Blog,controller:posts*/"#,
    r#"SELECT DISTINCT "posts"."id", "posts"."created_at" AS alias_0 FROM "posts" LEFT OUTER JOIN "auth_user" ON "auth_user"."id" = "posts"."user_id" ORDER BY alias_0"#,
    "SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4') OR t.typtype IN ('r', 'e', 'd') OR t.typelem IN (16, 17)",
    "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity AS identity, attgenerated as attgenerated FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '\"posts\"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    // SQLAlchemy
    "SELECT posts.id AS posts_id, anon_1.n FROM posts JOIN (SELECT posts.user_id AS u, count(*) AS n FROM posts GROUP BY posts.user_id) AS anon_1 ON anon_1.u = posts.user_id WHERE posts.body ->> 'k' = $1",
    "select pg_catalog.version()",
    "select current_schema()",
    "show standard_conforming_strings",
    "show transaction isolation level",
    "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = 'x' AND pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'",
    // Hibernate, jOOQ, Prisma, Ecto, GORM, TypeORM, Drizzle
    "select p1_0.id,p1_0.title from posts p1_0 where p1_0.user_id=$1 offset $2 rows fetch first $3 rows only",
    r#"select "alias_1"."v0" as "id" from (select "posts"."id" as "v0", row_number() over (order by "posts"."id") as "rn" from "posts") as "alias_1" where "alias_1"."rn" > $1"#,
    r#"SELECT "public"."posts"."id", "public"."posts"."title" FROM "public"."posts" WHERE ("public"."posts"."id" = $1 AND 1=1) LIMIT $2 OFFSET $3"#,
    r#"SELECT p0."id", p0."tags" FROM "posts" AS p0 WHERE (p0."user_id" = ANY($1)) AND ($2 = ANY(p0."tags"))"#,
    r#"SELECT * FROM "posts" WHERE "posts"."id" = 1 AND "posts"."created_at" > now() - INTERVAL '7 days' ORDER BY "posts"."id" LIMIT 1"#,
    r#"SELECT "id", (SELECT coalesce(json_agg(json_build_array("t"."id")), '[]'::json) FROM (SELECT * FROM "posts") "t") FROM "posts" LEFT JOIN LATERAL (SELECT json_build_array("u"."id") AS "data" FROM "auth_user" "u") "x" ON true"#,
    r#"SELECT * FROM "information_schema"."columns" WHERE "table_schema" = 'public'"#,
    // asyncpg, psycopg, npgsql, pgjdbc
    "SELECT t.oid, t.typelem AS elemtype, t.typtype AS kind FROM pg_catalog.pg_type AS t WHERE t.oid = $1",
    "WITH RECURSIVE typeinfo_tree(oid, ns, name, kind, basetype, elemtype, elemdelim, range_subtype, attrtypoids, attrnames, depth) AS ( SELECT ti.oid, ti.ns, ti.name, ti.kind, ti.basetype, ti.elemtype, ti.elemdelim, ti.range_subtype, ti.attrtypoids, ti.attrnames, 0 FROM ( SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS name, t.typtype AS kind, (CASE WHEN t.typtype = 'd' THEN (WITH RECURSIVE typebases(oid, depth) AS ( SELECT t2.typbasetype AS oid, 0 AS depth FROM pg_type t2 WHERE t2.oid = t.oid UNION ALL SELECT t2.typbasetype AS oid, tb.depth + 1 AS depth FROM pg_type t2, typebases tb WHERE tb.oid = t2.oid AND t2.typbasetype != 0 ) SELECT oid FROM typebases ORDER BY depth DESC LIMIT 1) ELSE NULL END) AS basetype, t.typelem AS elemtype, elem_t.typdelim AS elemdelim, range_t.rngsubtype AS range_subtype, (CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(ia.atttypid ORDER BY ia.attnum) FROM pg_attribute ia INNER JOIN pg_class c ON (ia.attrelid = c.oid) WHERE ia.attnum > 0 AND NOT ia.attisdropped AND c.reltype = t.oid) ELSE NULL END) AS attrtypoids, NULL::text[] AS attrnames FROM pg_catalog.pg_type AS t INNER JOIN pg_catalog.pg_namespace ns ON (ns.oid = t.typnamespace) LEFT JOIN pg_type elem_t ON (t.typlen = -1 AND t.typelem != 0 AND t.typelem = elem_t.oid) LEFT JOIN pg_range range_t ON (t.oid = range_t.rngtypid) ) AS ti WHERE ti.oid = any($1::oid[]) ) SELECT DISTINCT *, basetype::regtype::text AS basetype_name FROM typeinfo_tree ORDER BY depth DESC",
    "SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype, typdelim AS delimiter FROM pg_type t WHERE t.oid = to_regtype($1) ORDER BY t.oid",
    "SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM ( SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid, CASE WHEN elemproc.proname='array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype FROM ( SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid, CASE WHEN proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS typtype FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid) ) AS typ LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemoid LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive ) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) WHERE typtype IN ('b', 'r', 'm', 'e', 'd') OR (typtype = 'p' AND typname IN ('record', 'void', 'unknown'))",
    "SELECT typinput='pg_catalog.array_in'::regproc as is_array, typtype, typname, pg_type.oid FROM pg_catalog.pg_type LEFT JOIN (select ns.oid as nspoid, ns.nspname, r.r from pg_namespace as ns join ( select s.r, (current_schemas(false))[s.r] as nspname from generate_series(1, array_upper(current_schemas(false), 1)) as s(r) ) as r using ( nspname )) as sp ON sp.nspoid = typnamespace WHERE typname = $1 ORDER BY sp.r, pg_type.oid DESC",
    // psql's backslash commands
    r#"SELECT n.nspname as "Schema", c.relname as "Name", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'S' THEN 'sequence' END as "Type", pg_catalog.pg_get_userbyid(c.relowner) as "Owner" FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;"#,
    "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(posts)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3;",
    "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull, (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation, a.attidentity, a.attgenerated FROM pg_catalog.pg_attribute a WHERE a.attrelid = '16386' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;",
    "SELECT c2.relname, i.indisprimary, i.indisunique, pg_catalog.pg_get_indexdef(i.indexrelid, 0, true), pg_catalog.pg_get_constraintdef(con.oid, true), contype, condeferrable FROM pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_index i LEFT JOIN pg_catalog.pg_constraint con ON (conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x')) WHERE c.oid = '16386' AND c.oid = i.indrelid AND i.indexrelid = c2.oid ORDER BY i.indisprimary DESC, c2.relname;",
    "SELECT pol.polname, pol.polpermissive, CASE WHEN pol.polroles = '{0}' THEN NULL ELSE pg_catalog.array_to_string(array(select rolname from pg_catalog.pg_roles where oid = any (pol.polroles) order by 1),',') END FROM pg_catalog.pg_policy pol WHERE pol.polrelid = '16386' ORDER BY 1;",
    "SELECT oid, stxrelid::pg_catalog.regclass, stxnamespace::pg_catalog.regnamespace::pg_catalog.text AS nsp, stxname, pg_catalog.pg_get_statisticsobjdef_columns(oid) AS columns, 'd' = any(stxkind) AS ndist_enabled FROM pg_catalog.pg_statistic_ext WHERE stxrelid = '16386' ORDER BY nsp, stxname;",
    "SELECT inhparent::pg_catalog.regclass, pg_catalog.pg_get_expr(c.relpartbound, c.oid), inhdetachpending FROM pg_catalog.pg_class c JOIN pg_catalog.pg_inherits i ON c.oid = inhrelid WHERE c.oid = '1';",
    r#"SELECT d.datname as "Name", pg_catalog.pg_get_userbyid(d.datdba) as "Owner", pg_catalog.array_to_string(d.datacl, E'\n') AS "Access privileges" FROM pg_catalog.pg_database d ORDER BY 1;"#,
];

/// What the same programs send and only the primary, or the session's own connection, may get.
const OTHERS: &[&str] = &[
    "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1;",
    "BEGIN;",
    "vacuum pgbench_branches",
    r#"INSERT INTO "auth_user" ("username") VALUES ('x') RETURNING "auth_user"."id""#,
    r#"SELECT "auth_user"."id" FROM "auth_user" WHERE "auth_user"."id" = 1 FOR UPDATE"#,
    r#"SELECT 1 AS one FROM "posts" WHERE "posts"."id" = $1 LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"#,
    "SELECT nextval('posts_id_seq'::regclass)",
    "SELECT pg_try_advisory_lock(4711)",
    "SELECT pg_advisory_unlock(4711)",
    "SELECT pg_is_in_recovery()",
    "SHOW transaction_read_only",
    "SELECT pg_catalog.set_config('search_path', '', false)",
    "SET application_name = 'x'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET client_encoding TO 'UTF8'; SET client_min_messages TO 'warning'",
    "SELECT * FROM pg_stat_activity WHERE pid = pg_backend_pid()",
    "WITH moved AS (DELETE FROM posts WHERE id = 1 RETURNING *) INSERT INTO posts SELECT * FROM moved",
    "LISTEN channel",
    "SELECT pg_notify('channel', 'x')",
    "COPY posts FROM STDIN BINARY",
    "CREATE TABLE IF NOT EXISTS schema_migrations (version text)",
    "LOCK TABLE schema_migrations IN SHARE UPDATE EXCLUSIVE MODE",
    "SAVEPOINT active_record_1",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "DISCARD ALL",
    "DEALLOCATE a1",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_size_pretty(pg_database_size(current_database()))",
];

#[tokio::test]
async fn what_programs_send_is_recognised() {
    let Some(server) = Server::start() else { return println!("skipped: no PostgreSQL server binaries") };
    let client = server.connect("postgres").await;
    client.batch_execute(OBJECTS).await.unwrap();
    let facts = load(&client, 1, 1).await;
    let mut classifier = Classifier::new(&Settings::default());
    let mut wrong = Vec::new();
    for (place, texts) in [(Place::Anywhere, READS), (Place::Primary, OTHERS)] {
        for text in texts {
            let verdict = classifier.classify(text.as_bytes(), &facts);
            if verdict.place != place {
                wrong.push(format!("{:?} {:?}: {text}", verdict.reason, verdict.detail));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
