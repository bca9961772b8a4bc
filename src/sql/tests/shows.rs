//! Queries all of whose names hang on what their literals give, and others.

use super::judge_with;
use crate::sql::{Catalog, CatalogBuilder, Place, Shows, gives_only};

const GIVEN: Shows = Shows::Given { pattern: false, children: false };
const PATTERN: Shows = Shows::Given { pattern: true, children: false };

fn facts() -> Catalog {
    let mut builder = CatalogBuilder::new(1, 1);
    let tables = "pg_class pg_type pg_attribute pg_attrdef pg_index pg_constraint pg_trigger pg_policy pg_rewrite \
                  pg_inherits pg_sequence pg_statistic_ext pg_publication_rel pg_namespace pg_am pg_roles pg_description";
    for name in tables.split_whitespace() {
        builder.add(["r", "pg_catalog", name, "0", "0", "s"]).unwrap();
    }
    // The database has one of its own that is called like the system's.
    builder.add(["r", "app", "pg_am", "0", "0", "s"]).unwrap();
    builder.add(["r", "app", "posts", "0", "0", "s"]).unwrap();
    let functions = "format_type pg_get_expr pg_get_viewdef pg_get_indexdef pg_get_constraintdef pg_table_is_visible \
                     pg_partition_ancestors generate_series unnest lower concat array_to_string pg_get_serial_sequence \
                     col_description count regclass pg_relation_size regexp_replace";
    for name in functions.split_whitespace() {
        builder.add(["f", "pg_catalog", name, "0", "255", "s"]).unwrap();
    }
    builder.finish()
}

fn assert_shows(expected: Shows, texts: &[&str]) {
    for text in texts {
        let verdict = judge_with(text, &facts());
        assert_eq!(verdict.place, Place::Anywhere, "{text}: {verdict:?}");
        assert_eq!(verdict.shows, expected, "{text}");
    }
}

#[test]
fn names_that_hang_on_what_is_given_are_found() {
    assert_shows(
        GIVEN,
        &[
            "SELECT 'posts'::regclass",
            "SELECT '16500'::pg_catalog.regclass::pg_catalog.text",
            "SELECT CAST(16500 AS regclass)",
            "SELECT pg_catalog.pg_get_viewdef('16500'::pg_catalog.oid, true)",
            "SELECT oid::regclass FROM pg_class WHERE oid = '16500'",
            "SELECT pg_class.oid::regclass FROM pg_class WHERE ('16500' = pg_class.oid AND relkind = 'r')",
            "SELECT c.oid::regclass FROM pg_class c, pg_inherits i WHERE c.oid = i.inhparent AND i.inhrelid = '1' ORDER BY c.oid::regclass",
            "SELECT c.oid::regclass, pg_get_expr(c.relpartbound, c.oid) FROM pg_class c JOIN pg_inherits i ON c.oid = inhrelid WHERE c.oid = '1'",
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), (SELECT pg_get_expr(d.adbin, d.adrelid, true) FROM pg_attrdef d WHERE d.adrelid = a.attrelid) FROM pg_attribute a WHERE a.attrelid = 'posts'::regclass AND a.attnum > 0",
            "SELECT pg_get_constraintdef(con.oid, true) FROM pg_index i LEFT JOIN pg_constraint con ON (conrelid = i.indrelid) WHERE i.indrelid = '1'",
            "SELECT conrelid::regclass FROM pg_constraint WHERE confrelid IN (SELECT pg_partition_ancestors('1') UNION ALL VALUES ('1'::regclass))",
            "SELECT conrelid::regclass FROM pg_constraint, pg_partition_ancestors('1') WHERE conrelid = relid",
            "SELECT a.relid FROM pg_partition_ancestors('1') WITH ORDINALITY AS a(relid, depth)",
            "SELECT t.tgname, (SELECT u.tgrelid::regclass FROM pg_trigger AS u, pg_partition_ancestors(t.tgrelid) WITH ORDINALITY AS a(relid, depth) WHERE u.tgrelid = a.relid) FROM pg_trigger t WHERE t.tgrelid = '1'",
            "SELECT oid::regclass FROM pg_class WHERE relname = 'posts'",
            "SELECT format_type(t.oid, NULL) FROM pg_type t WHERE t.typname = 'mood'",
            "SELECT array_to_string(array(SELECT x FROM unnest(c.reloptions) x), ','), c.oid::regclass FROM pg_class c WHERE c.oid = 1",
            "SELECT polname FROM pg_policy WHERE polrelid = 1 AND pg_get_expr(polqual, polrelid) IS NOT NULL",
            "SELECT oid::regclass FROM pg_class WHERE oid IN ('1', '2')",
            "SELECT oid::regclass FROM pg_catalog.pg_class WHERE oid = '1' UNION SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = '1'",
            "SELECT a.amname, c.oid::regclass FROM pg_catalog.pg_am a JOIN pg_class c ON c.relam = a.oid WHERE c.oid = '1'",
        ],
    );
    assert_shows(
        Shows::Given { pattern: false, children: true },
        &[
            "SELECT c.oid::regclass FROM pg_class c, pg_inherits i WHERE c.oid = i.inhrelid AND i.inhparent = '1'",
            "SELECT c.oid::regclass FROM pg_inherits i JOIN pg_class c ON i.inhparent = '1' AND c.oid = inhrelid",
            "SELECT inhrelid::regclass FROM pg_inherits WHERE '1' = inhparent",
            "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent IN ('1', '2')",
        ],
    );
    assert_shows(
        PATTERN,
        &[
            "SELECT c.oid FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(posts)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3",
            "SELECT oid::regclass FROM pg_class WHERE relname ~ '^(posts)$'",
        ],
    );
}

#[test]
fn any_other_query_may_show_other_names() {
    assert_shows(
        Shows::Anything,
        &[
            "SELECT oid::regclass FROM pg_class",
            "SELECT oid::regclass FROM pg_class WHERE oid > '1'",
            "SELECT oid::regclass FROM pg_class WHERE oid <> '1'",
            "SELECT oid::regclass FROM pg_class WHERE NOT oid = '1'",
            "SELECT oid::regclass FROM pg_class WHERE NOT oid IN ('1', '2')",
            "SELECT oid::regclass FROM pg_class WHERE oid NOT IN ('1', '2')",
            "SELECT oid::regclass FROM pg_class WHERE oid = '1' OR true",
            "SELECT oid::regclass FROM pg_class WHERE (oid = '1') IS NOT NULL",
            "SELECT oid::regclass FROM pg_class WHERE oid = relfilenode",
            "SELECT oid::regclass FROM pg_class WHERE oid = -1",
            "SELECT oid::regclass FROM pg_class WHERE oid = $1",
            "SELECT $1::regclass",
            "SELECT oid::regclass FROM pg_class WHERE oid === '1'",
            "SELECT oid::regclass FROM pg_class WHERE oid OPERATOR(pg_catalog.<>) '1'",
            "SELECT oid::regclass FROM pg_class WHERE oid *= '1'",
            "SELECT oid::regclass FROM pg_class WHERE relname <> 'posts'",
            "SELECT oid::regclass FROM pg_class WHERE relname !~ '^(posts)$'",
            "SELECT oid::regclass FROM pg_class WHERE relname = lower('POSTS')",
            "SELECT oid::regclass FROM pg_class WHERE relname LIKE 'posts'",
            "SELECT oid::regclass FROM pg_class WHERE relname = E'posts' COLLATE \"C\" OR relkind = 'r'",
            // A side of an outer join that keeps all its rows.
            "SELECT c.oid::regclass FROM pg_class c LEFT JOIN pg_index i ON c.oid = '1'",
            "SELECT c.oid::regclass FROM pg_index i RIGHT JOIN pg_class c ON i.indrelid = '1' AND c.oid = i.indrelid",
            "SELECT c.oid::regclass FROM pg_class c FULL JOIN pg_index i ON c.oid = '1'",
            // From a type to what has columns of it, from an object to what depends on it.
            "SELECT a.attrelid::regclass FROM pg_attribute a JOIN pg_type t ON a.atttypid = t.oid WHERE t.oid = 23",
            "SELECT a.attrelid::regclass FROM pg_attribute a WHERE a.atttypid = 23",
            "SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = '2200'",
            // Names that are put together, and names of columns and the like.
            "SELECT ('po' || 'sts')::regclass",
            "SELECT lower('POSTS')::regclass",
            "SELECT pg_get_viewdef(concat('po', 'sts'))",
            "SELECT attname::regclass FROM pg_attribute WHERE attrelid = '1'",
            "SELECT relname::regclass FROM pg_class WHERE oid = '1'",
            "SELECT c.oid::regclass FROM (SELECT 'posts' AS oid) c",
            "WITH c AS (SELECT 'posts' AS oid) SELECT c.oid::regclass FROM c",
            "SELECT inhparent::regclass FROM unnest(ARRAY['po' || 'sts']) AS inhparent",
            "SELECT a.relid::regclass FROM unnest(ARRAY['po' || 'sts']) AS a(relid)",
            "SELECT x::regclass FROM unnest(ARRAY['po' || 'sts']) x, pg_class c WHERE c.oid = '1'",
            "SELECT c.oid::regclass FROM pg_class AS c(x, oid) WHERE c.oid = '1'",
            "SELECT regclass('posts')",
            "SELECT regclass 'posts'",
            "SELECT ARRAY['posts']::regclass[]",
            "SELECT c.pg_get_viewdef FROM pg_class c WHERE c.oid = '1'",
            "SELECT (c).format_type FROM pg_class c WHERE c.oid = '1'",
            // Others than those of the system, and what asks for more than names.
            "SELECT a.oid::regclass FROM pg_am a WHERE a.oid = '1'",
            "SELECT 'posts'::regclass FROM posts",
            "SELECT n.oid::regclass FROM pg_namespace n WHERE n.oid = '1'",
            "SELECT d.description::regclass FROM pg_description d WHERE d.objoid = '1'",
            "SELECT pg_relation_size('posts')",
            "SELECT pg_get_serial_sequence('posts', 'id')",
            "SELECT oid::regclass FROM pg_class c, pg_index i WHERE c.oid = '1' AND i.indrelid = c.oid",
            "EXPLAIN SELECT oid::regclass FROM pg_class WHERE oid = '1'",
            "SELECT '1'::regclass; SELECT '2'::regclass",
            // What looks nothing up may yet name what is temporary.
            "SELECT '(1,x)'::posts",
        ],
    );
}

#[test]
fn literals_give_permanent_relations_only() {
    let gives = |text: &str, shows| {
        gives_only(
            text.as_bytes(),
            shows,
            |number| number == 16_500,
            |word| word == b"own" || word == b"own_pkey",
        )
    };
    for (text, expected) in [
        ("SELECT '16500'::regclass", true),
        ("SELECT 16500::regclass", true),
        ("SELECT '16501'::regclass", false),
        ("SELECT 16501::regclass", false),
        ("SELECT '1259'::regclass", true),
        ("SELECT '-16501'::oid::regclass", false),
        ("SELECT ' 16501'::regclass", false),
        ("SELECT '165'\n'01'::regclass", false),
        ("SELECT 1.6501e4::regclass", false),
        ("SELECT '99999999999'::regclass", false),
        ("SELECT 'posts'::regclass", true),
        ("SELECT 'public.own'::regclass", false),
        ("SELECT '\"own\"'::regclass", false),
        ("SELECT 'OWN_PKEY'::regclass", false),
        ("SELECT 'pg_temp.posts'::regclass", false),
        ("SELECT 'PG_TEMP_3.posts'::regclass", false),
        ("SELECT E'posts'::regclass", false),
        ("SELECT $$posts$$::regclass", false),
        ("SELECT own.oid FROM pg_class own WHERE own.oid = '16500'", false),
    ] {
        assert_eq!(gives(text, GIVEN), expected, "{text}");
        assert!(!gives(text, Shows::Anything), "{text}");
    }
    for (pattern, expected) in [
        ("^(posts)$", true),
        ("^(own)$", false),
        ("^(posts|others)$", false),
        ("^(post.)$", false),
        ("^(.*)$", false),
        ("posts", false),
        ("^posts", false),
        ("", false),
    ] {
        let text = format!("SELECT oid::regclass FROM pg_class WHERE relname ~ '{pattern}'");
        assert_eq!(gives(&text, PATTERN), expected, "{text}");
    }
}
