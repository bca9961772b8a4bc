//! Statements at random: reads and writes, nested in one another, in the spellings that PostgreSQL takes.

use fastrand::Rng;

/// How deep one thing is put into another.
const DEPTH: u32 = 4;

fn one<'a>(dice: &mut Rng, among: &[&'a str]) -> &'a str {
    among[dice.usize(..among.len())]
}

fn yes(dice: &mut Rng, in_so_many: u32) -> bool {
    dice.u32(..in_so_many) == 0
}

/// Relations with the columns `a` and `b`.
const RELATIONS: &[&str] =
    &["plain", "plain", "reads", "guarded", "public.plain", "\"plain\"", "ONLY plain", "PLAIN"];

const ODD_RELATIONS: &[&str] = &[
    "\"Odd Name\"",
    "scratch",
    "draws",
    "on_draws",
    "on_scratch",
    "U&\"\\0070lain\"",
    "U&\"\\0073cratch\"",
    "postgres.public.plain",
    "other.plain",
    "numbers",
];

const CALLS: &[&str] =
    &["reading", "fixed", "abs", "pg_catalog.abs", "\"abs\"", "chr", "to_hex", "many", "public.fixed"];

const ODD_CALLS: &[&str] = &[
    "writes",
    "public.writes",
    "\"writes\"",
    "other.reading",
    "lower",
    "U&\"\\0077rites\"",
    "writing_many",
    "defaulted",
    "pg_advisory_xact_lock",
    "pg_advisory_lock",
    "Writes",
    "setseed",
    "pg_sleep",
    "lo_unlink",
    "txid_status",
    "lo_get",
];

/// Mostly what a replica can do, else what it may not.
fn mostly<'a>(dice: &mut Rng, usual: &[&'a str], odd: &[&'a str]) -> &'a str {
    if yes(dice, 8) { one(dice, odd) } else { one(dice, usual) }
}

fn relation(dice: &mut Rng) -> &'static str {
    mostly(dice, RELATIONS, ODD_RELATIONS)
}

fn function(dice: &mut Rng) -> &'static str {
    mostly(dice, CALLS, ODD_CALLS)
}

const AGGREGATES: &[&str] =
    &["sum", "max", "count", "plain_sum", "drawing_sum", "array_agg", "public.drawing_sum"];

/// One statement.
pub(super) fn statement(dice: &mut Rng) -> String {
    let mut text = match dice.u32(..30) {
        0..=17 => query(dice, DEPTH),
        18 => write(dice, DEPTH),
        19 => format!("EXPLAIN {} {}", one(dice, EXPLAINED), query(dice, DEPTH)),
        20 => format!("EXPLAIN {} {}", one(dice, EXPLAINED), write(dice, DEPTH)),
        21 => format!("COPY ({}) TO STDOUT", query(dice, DEPTH)),
        22 => format!("COPY ({}) TO STDOUT", write(dice, DEPTH)),
        23 => format!("COPY {} TO STDOUT", relation(dice)),
        24 => format!("DECLARE c CURSOR {} FOR {}", one(dice, &["", "WITH HOLD"]), query(dice, DEPTH)),
        25 => format!("CREATE {} TABLE made AS {}", one(dice, &["", "TEMP"]), query(dice, DEPTH)),
        26 => format!("DO $$begin perform {}; end$$", expression(dice, DEPTH)),
        27 => format!(
            "SHOW {}",
            one(dice, &["work_mem", "search_path", "ALL", "transaction_read_only", "TimeZone"])
        ),
        28 => format!("PREPARE p AS {}", query(dice, DEPTH)),
        _ => format!("CALL {}({})", function(dice), expression(dice, DEPTH)),
    };
    if yes(dice, 8) {
        text = format!("{text}; {}", if yes(dice, 2) { query(dice, 1) } else { write(dice, 1) });
    }
    if yes(dice, 8) {
        text = format!(
            "{}{text}",
            one(dice, &["/* c */ ", "-- c\n", "/* /* nested */ */", ";", "\u{feff}", "\t\n"])
        );
    }
    if yes(dice, 10) { text.to_uppercase() } else { text }
}

const EXPLAINED: &[&str] =
    &["", "ANALYZE", "(ANALYZE)", "(ANALYZE FALSE)", "(ANALYZE, COSTS OFF)", "VERBOSE", "(ANALYZE 1)"];

fn query(dice: &mut Rng, depth: u32) -> String {
    let depth = depth.saturating_sub(1);
    if depth == 0 {
        return format!("SELECT {}", simple(dice));
    }
    match dice.u32(..20) {
        0..=11 => select(dice, depth),
        12 | 13 => {
            let inner = if yes(dice, 3) { write(dice, depth) } else { query(dice, depth) };
            let kind = one(dice, &["", "RECURSIVE ", "RECURSIVE "]);
            let how = one(dice, &["", "MATERIALIZED", "NOT MATERIALIZED"]);
            format!(
                "WITH {kind}w(a) AS {how} ({inner}) {}",
                if yes(dice, 2) { "SELECT 1".into() } else { query(dice, depth) }
            )
        }
        14 => format!(
            "{} {} {}",
            query(dice, depth),
            one(dice, &["UNION ALL", "EXCEPT", "INTERSECT"]),
            query(dice, depth)
        ),
        15 => format!("VALUES ({}), ({})", expression(dice, depth), expression(dice, depth)),
        16 => format!("TABLE {}", relation(dice)),
        17 => format!("({})", query(dice, depth)),
        18 => format!("({}) ORDER BY 1 LIMIT {}", query(dice, depth), expression(dice, depth)),
        _ => format!(
            "SELECT {} {}",
            expression(dice, depth),
            one(dice, &["INTO made", "INTO TEMP made", "AS into_made"])
        ),
    }
}

fn select(dice: &mut Rng, depth: u32) -> String {
    let what = expression(dice, depth);
    let mut parts = vec![format!("SELECT {}{what}", one(dice, &["", "", "", "DISTINCT ", "ALL "]))];
    if yes(dice, 6) {
        return parts.concat();
    }
    parts.push(format!(" FROM {}", source(dice, depth)));
    if yes(dice, 3) {
        parts.push(format!(" WHERE {} IS NOT NULL", expression(dice, depth)));
    }
    if yes(dice, 10) {
        let (by, having) = (expression(dice, depth), expression(dice, depth));
        parts.push(format!(" GROUP BY {by} HAVING {having} IS NULL"));
    }
    if yes(dice, 10) {
        parts.push(format!(" WINDOW w AS (PARTITION BY {})", expression(dice, depth)));
    }
    if yes(dice, 6) {
        parts.push(format!(" ORDER BY {}", expression(dice, depth)));
    }
    if yes(dice, 6) {
        let most = ["1", "ALL", "NULL", "(SELECT nextval('numbers'))", "fixed(1)", "writes(1)"];
        parts.push(format!(" LIMIT {}", one(dice, &most)));
    }
    if yes(dice, 9) {
        let locks = [
            " FOR UPDATE",
            " FOR SHARE OF t",
            " FOR KEY SHARE",
            " FOR NO KEY UPDATE NOWAIT",
            " FOR READ ONLY",
        ];
        parts.push(one(dice, &locks).to_owned());
    }
    parts.concat()
}

fn source(dice: &mut Rng, depth: u32) -> String {
    let first = match dice.u32(..12) {
        0..=5 => format!("{} AS t", relation(dice)),
        6 => format!("({}) AS t(a)", query(dice, depth)),
        7 => format!("LATERAL ({}) AS t(a)", query(dice, depth)),
        8 => format!("{}({}) AS t(a)", function(dice), simple(dice)),
        9 => format!("ROWS FROM ({}({}), many(2)) AS t(a)", function(dice), simple(dice)),
        10 => format!("{} TABLESAMPLE system ({})", relation(dice), expression(dice, depth)),
        _ => format!("generate_series(1, {}) AS t(a)", one(dice, &["2", "fixed(1)", "writes(1)"])),
    };
    if depth > 1 && yes(dice, 4) {
        let join = one(dice, &["CROSS JOIN", "NATURAL JOIN", ","]);
        return format!("{first} {join} {}", source(dice, depth - 1).replace(" AS t", " AS u"));
    }
    if yes(dice, 12) {
        return format!("{first} JOIN plain p ON {} IS NULL", expression(dice, depth));
    }
    first
}

fn write(dice: &mut Rng, depth: u32) -> String {
    match dice.u32(..8) {
        0 => format!("INSERT INTO plain {} RETURNING a", query(dice, depth)),
        1 => format!("INSERT INTO plain VALUES ({}) RETURNING a", expression(dice, depth)),
        2 => "UPDATE plain SET a = 1 RETURNING a".to_owned(),
        3 => "DELETE FROM plain RETURNING a".to_owned(),
        4 => "MERGE INTO keyed k USING plain p ON k.id = p.a WHEN MATCHED THEN DELETE".to_owned(),
        5 => "TRUNCATE plain".to_owned(),
        6 => "INSERT INTO keyed VALUES (1) ON CONFLICT (id) DO UPDATE SET v = 'z' RETURNING id".to_owned(),
        _ => one(
            dice,
            &[
                "NOTIFY c",
                "LOCK plain",
                "SET work_mem = '1MB'",
                "LISTEN c",
                "ANALYZE plain",
                "VACUUM",
                "RESET ALL",
            ],
        )
        .to_owned(),
    }
}

const PLAIN: &[&str] = &["1", "2", "1", "NULL", "1.5", "-1", "a", "a", "t.a", "true", "'x'", "b"];

const ODD: &[&str] = &[
    "$$x$$",
    "E'\\x'",
    "U&'\\0061'",
    "B'1'",
    "current_date",
    "CURRENT_USER",
    "t.*",
    "*",
    "t",
    "ARRAY[1, 2]",
    "version()",
    "'numbers'::regclass",
    "now()",
    "t.computed",
    "nextval('numbers')",
    "currval('numbers')",
    "lastval()",
    "(t).a",
    "(plain).b",
    "date '2020-01-01'",
    "pg_is_in_recovery()",
    "lo_creat(1)",
    "lo_create(0)",
    "pg_notify('c', 'x')",
    "pg_export_snapshot()",
    "random()",
    "set_config('work_mem', '1MB', false)",
    "set_config('work_mem', '1MB', true)",
    "gen_random_uuid()",
    "pg_current_xact_id()",
    "pg_current_wal_lsn()",
    "LOCALTIME",
    "int4 '1'",
    "ts_rewrite('a'::tsquery, 'select nextval(''numbers'')')",
    "query_to_xml('select nextval(''numbers'')', true, true, '')",
    "table_to_xml('draws', true, true, '')",
    "xmlelement(name a, 1)",
    "current_schema",
    "(t).computed",
    "computed(t)",
];

fn simple(dice: &mut Rng) -> String {
    mostly(dice, PLAIN, ODD).to_owned()
}

fn expression(dice: &mut Rng, depth: u32) -> String {
    let depth = depth.saturating_sub(1);
    if depth == 0 || yes(dice, 3) {
        return simple(dice);
    }
    let inner = |dice: &mut Rng| expression(dice, depth);
    match dice.u32(..24) {
        0 | 1 => format!(
            "{} {} {}",
            inner(dice),
            one(dice, &["+", "=", "<", "===", "!==", "||", "OPERATOR(public.===)", "~", "<->"]),
            inner(dice)
        ),
        2..=5 => format!("{}({})", function(dice), inner(dice)),
        6 => format!("{}({})", one(dice, AGGREGATES), inner(dice)),
        7 => format!("{}({}) OVER (ORDER BY {})", one(dice, AGGREGATES), inner(dice), inner(dice)),
        8 => format!("{}({}) FILTER (WHERE {} IS NULL)", one(dice, AGGREGATES), inner(dice), inner(dice)),
        9 => format!("CASE WHEN {} IS NULL THEN {} ELSE {} END", inner(dice), inner(dice), inner(dice)),
        10 => format!("CAST({} AS {})", inner(dice), one(dice, TYPES)),
        11 => format!("({})::{}", inner(dice), one(dice, TYPES)),
        12 => format!("({})", query(dice, depth)),
        13 => format!("EXISTS ({})", query(dice, depth)),
        14 => format!("ARRAY({})", query(dice, depth)),
        15 => format!("{} IN ({})", inner(dice), query(dice, depth)),
        16 => format!("{} = ANY (ARRAY[{}])", inner(dice), inner(dice)),
        17 => format!("COALESCE({}, {})", inner(dice), inner(dice)),
        18 => format!("ROW({}, {})", inner(dice), inner(dice)),
        19 => format!("(ARRAY[{}])[{}]", inner(dice), inner(dice)),
        20 => format!("{} BETWEEN {} AND {}", inner(dice), inner(dice), inner(dice)),
        21 => format!("{} '{}'", one(dice, TYPES), one(dice, &["1", "x", "(1,a)", "2020-01-01"])),
        22 => format!("{}({} => {})", function(dice), one(dice, &["a", "b"]), inner(dice)),
        _ => format!("NOT ({} IS NULL)", inner(dice)),
    }
}

const TYPES: &[&str] = &[
    "int",
    "text",
    "checked",
    "short",
    "pair",
    "public.checked",
    "regclass",
    "numeric(10)",
    "\"checked\"",
    "int[]",
    "plain",
];

/// The same with a few tokens taken out, doubled, exchanged or put elsewhere.
pub(super) fn damaged(text: &str, dice: &mut Rng) -> String {
    let mut tokens: Vec<String> =
        text.split_inclusive([' ', '(', ')', ',', '\'', '"', ';', '.']).map(str::to_owned).collect();
    for _ in 0..=dice.u32(..3) {
        if tokens.len() < 2 {
            break;
        }
        let (at, to) = (dice.usize(..tokens.len()), dice.usize(..tokens.len()));
        match dice.u32(..6) {
            0 => drop(tokens.remove(at)),
            1 => tokens.insert(to, tokens[at].clone()),
            2 => tokens.swap(at, to),
            3 => tokens.insert(
                at,
                one(dice, &["/*", "*/", "--", "\n", "$$", "$a$", "\\", "E'", "U&", "::", "\u{a0}", "\u{b}"])
                    .to_owned(),
            ),
            4 => tokens[at] = tokens[at].to_uppercase(),
            _ => tokens.insert(
                at,
                one(
                    dice,
                    &["WITH ", "INTO ", "FOR ", "UPDATE ", "SELECT ", "AS ", "FROM ", ";", "() ", "ALL "],
                )
                .to_owned(),
            ),
        }
    }
    tokens.concat()
}
