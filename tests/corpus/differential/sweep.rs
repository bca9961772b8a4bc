//! A call of every function of the server, with arguments that get past its door.

use tokio_postgres::Client;

use crate::server::rows;

/// All that SQL may call, with the types of the arguments, and what kind of function it is.
const FUNCTIONS: &str = "
    SELECT n.nspname || '.' || quote_ident(p.proname),
        coalesce((SELECT string_agg(format_type(t, NULL), '|' ORDER BY place)
                  FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS given(t, place)), ''),
        p.prokind::text, p.proretset::text
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prokind <> 'p' AND 'internal'::regtype <> ALL (p.proargtypes::oid[])
        AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)
    ORDER BY 1, 2";

/// A text that would be seen if a function ran it.
const SQL: &str = "'select nextval(''numbers'')::text, null::tsvector'";

/// The texts: each function with the first value that its types have; those that take a relation also with one that a
/// standby cannot read, those that take text also with a statement.
pub(super) async fn calls(client: &Client) -> Vec<String> {
    let mut texts = Vec::new();
    for function in rows(client, FUNCTIONS).await {
        let [name, types, kind, set] = <[String; 4]>::try_from(function).unwrap();
        let types: Vec<&str> = types.split('|').filter(|name| !name.is_empty()).collect();
        let tail = if kind == "w" { " OVER ()" } else { "" };
        let mut add = |values: Vec<String>| {
            let call = format!("{name}({}){tail}", values.join(", "));
            texts.push(if set == "true" {
                format!("SELECT * FROM {call}")
            } else {
                format!("SELECT {call}")
            });
        };
        add(types.iter().map(|name| value(name)).collect());
        // What gets the number of a relation may read it.
        for other in
            ["draws", "scratch"].iter().filter(|_| types.contains(&"regclass") || types.contains(&"oid"))
        {
            add(types
                .iter()
                .map(|name| value(name).replace("'plain'::regclass", &format!("'{other}'::regclass")))
                .collect());
        }
        if types.contains(&"text") {
            add(types
                .iter()
                .map(|name| if *name == "text" { SQL.to_owned() } else { value(name) })
                .collect());
        }
    }
    texts
}

fn value(name: &str) -> String {
    let text = match name {
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" | "money" => "1",
        "boolean" => "true",
        "oid" => return "'plain'::regclass::oid".to_owned(),
        "regproc" => "now",
        "regtype" => "int",
        "regclass" | "name" | "text" | "character varying" | "character" | "cstring" | "unknown" => "plain",
        "\"char\"" => "r",
        "date" => "2020-02-29",
        "timestamp without time zone" | "timestamp with time zone" => "2020-02-29 12:00",
        "time without time zone" | "time with time zone" => "12:00",
        "interval" => "1 day",
        "json" | "jsonb" => r#"{"a": [1, 2]}"#,
        "jsonpath" => "$.a[*]",
        "inet" | "cidr" => "10.0.0.0/8",
        "macaddr" => "08:00:2b:01:02:03",
        "macaddr8" => "08:00:2b:01:02:03:04:05",
        "bytea" => "abc",
        "bit" | "bit varying" => "101",
        "uuid" => "00000000-0000-0000-0000-000000000001",
        "pg_lsn" => "0/10",
        "xid" | "xid8" | "cid" => "3",
        "tid" => "(0,1)",
        "tsvector" => "a b",
        "tsquery" => "a & b",
        "point" => "(1,2)",
        "box" | "lseg" | "path" => "((0,0),(1,1))",
        "polygon" => "((0,0),(1,1),(1,0))",
        "circle" => "<(0,0),1>",
        "line" => "{1,2,3}",
        "xml" => "<a/>",
        "int4range" | "int8range" | "numrange" => "[1,2)",
        "int4multirange" | "int8multirange" | "nummultirange" => "{[1,2)}",
        "txid_snapshot" | "pg_snapshot" => "1:1:",
        "aclitem" => "postgres=r/postgres",
        "refcursor" => "c",
        "int2vector" | "oidvector" => "1 2",
        "anyelement" | "anynonarray" | "anycompatible" | "anycompatiblenonarray" | "\"any\"" => {
            return "1".to_owned();
        }
        "anyarray" | "anycompatiblearray" => return "ARRAY[1, 2]".to_owned(),
        "anyenum" => return "NULL".to_owned(),
        "anyrange" | "anycompatiblerange" => return "int4range(1, 2)".to_owned(),
        "anymultirange" | "anycompatiblemultirange" => return "int4multirange(int4range(1, 2))".to_owned(),
        "record" => return "ROW(1, 2)".to_owned(),
        _ if name.ends_with("[]") => "{}",
        _ => return format!("NULL::{name}"),
    };
    format!("'{text}'::{name}")
}
