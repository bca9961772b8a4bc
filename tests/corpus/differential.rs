//! The classifier against real servers: what it calls a read is run on a hot standby, which must not refuse it, and on
//! the primary, where it must not have changed anything, neither of the database nor of the session.
//!
//! Three sources of texts: every function that PostgreSQL has, statements made at random from a small grammar, and the
//! same with tokens taken out, doubled and exchanged. `PRIMACY_FUZZ_MS` sets the time for the random ones (default:
//! 6000), `PRIMACY_FUZZ_SEED` the seed that a failure has printed.

mod grammar;
mod sweep;
mod witness;

use std::time::{Duration, Instant};

use primacy::sql::{Catalog, Classifier, Place, Settings};

use crate::server::{Server, load};
use witness::Witness;

/// Relations and functions of all the kinds that reads and writes can hide behind.
const OBJECTS: &str = "
    CREATE TABLE plain (a int, b text);
    INSERT INTO plain SELECT n, 'row ' || n FROM generate_series(1, 5) n;
    CREATE TABLE keyed (id int PRIMARY KEY, v text);
    INSERT INTO keyed VALUES (1, 'x'), (2, 'y');
    CREATE UNLOGGED TABLE scratch (a int, b text);
    CREATE SEQUENCE numbers;
    SELECT nextval('numbers');
    CREATE VIEW reads AS SELECT a, lower(b) AS b FROM plain;
    CREATE VIEW draws AS SELECT nextval('numbers') AS a, 'x'::text AS b;
    CREATE VIEW on_draws AS SELECT * FROM draws;
    CREATE VIEW on_scratch AS SELECT * FROM scratch;
    CREATE FUNCTION writes(int) RETURNS int LANGUAGE plpgsql AS 'begin insert into plain values ($1); return 1; end';
    CREATE FUNCTION reading(int) RETURNS int STABLE LANGUAGE sql AS 'select $1';
    CREATE FUNCTION fixed(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'select $1 + 1';
    CREATE FUNCTION many(int) RETURNS SETOF int STABLE LANGUAGE sql AS 'select generate_series(1, $1)';
    CREATE FUNCTION writing_many(int) RETURNS SETOF int LANGUAGE sql
        AS 'insert into plain values ($1) returning a';
    CREATE FUNCTION defaulted(a int DEFAULT nextval('numbers')) RETURNS int STABLE LANGUAGE sql AS 'select a';
    CREATE FUNCTION computed(plain) RETURNS int LANGUAGE plpgsql AS 'begin return nextval(''numbers''); end';
    CREATE FUNCTION drawn(int, int) RETURNS bool LANGUAGE plpgsql AS 'begin return nextval(''numbers'') > 0; end';
    CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = drawn);
    CREATE OPERATOR !== (RIGHTARG = int, LEFTARG = int, FUNCTION = int4ne);
    CREATE FUNCTION checks(text) RETURNS bool LANGUAGE plpgsql AS 'begin return nextval(''numbers'') > 0; end';
    CREATE DOMAIN checked AS text CHECK (checks(value));
    CREATE DOMAIN short AS text CHECK (length(value) < 100);
    CREATE TYPE pair AS (a int, b text);
    CREATE FUNCTION pair_text(pair) RETURNS text LANGUAGE plpgsql AS 'begin return nextval(''numbers''); end';
    CREATE CAST (pair AS text) WITH FUNCTION pair_text(pair) AS IMPLICIT;
    CREATE TABLE guarded (a int, b text);
    INSERT INTO guarded VALUES (1, 'x');
    CREATE FUNCTION sums(int, int) RETURNS int LANGUAGE plpgsql AS 'begin return nextval(''numbers''); end';
    CREATE AGGREGATE drawing_sum(int) (SFUNC = sums, STYPE = int, INITCOND = '0');
    CREATE AGGREGATE plain_sum(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
    CREATE FUNCTION lower(int) RETURNS int LANGUAGE plpgsql AS 'begin return nextval(''numbers''); end';
    CREATE SCHEMA other;
    CREATE FUNCTION other.reading(int) RETURNS int LANGUAGE plpgsql AS 'begin return nextval(''numbers''); end';
    CREATE TABLE \"Odd Name\" (a int, b text);
    SELECT lo_create(4711);
";

struct Pair {
    _primary: Server,
    _standby: Server,
    witness: Witness,
    facts: Catalog,
}

impl Pair {
    async fn start() -> Option<Self> {
        let Some(primary) = Server::start() else {
            println!("skipped: no PostgreSQL server binaries");
            return None;
        };
        let client = primary.connect("postgres").await;
        client.batch_execute(OBJECTS).await.unwrap();
        let facts = load(&client, 1, 1).await;
        let standby = primary.standby();
        let witness = Witness::new(client, standby.connect("postgres").await).await;
        Some(Self { _primary: primary, _standby: standby, witness, facts })
    }

    fn is_read(&self, text: &str) -> bool {
        let mut classifier = Classifier::new(&Settings::default());
        let verdict = classifier.classify(text.as_bytes(), &self.facts);
        verdict.place == Place::Anywhere && verdict.hint.is_none()
    }
}

#[derive(Debug, Default)]
struct Count {
    texts: u32,
    reads: u32,
    answered: u32,
}

impl Pair {
    /// Tries one text; a sentence where the classifier was wrong about it.
    async fn tried(&self, text: &str, count: &mut Count) -> Option<String> {
        count.texts += 1;
        if !self.is_read(text) {
            return None;
        }
        count.reads += 1;
        match self.witness.watch(text).await {
            Ok(answered) => {
                count.answered += u32::from(answered);
                None
            }
            Err(wrong) => Some(format!("{text}\n    {wrong}")),
        }
    }
}

/// The witness sees what it is there to see: each of these would be reported if the classifier called it a read.
#[tokio::test]
async fn the_witness_sees_every_kind_of_write() {
    let Some(pair) = Pair::start().await else { return };
    for (text, seen) in [
        ("SELECT nextval('numbers')", "the standby refused"),
        ("INSERT INTO plain VALUES (1)", "the standby refused"),
        ("SELECT writes(1)", "the standby refused"),
        ("SELECT * FROM scratch", "the standby refused"),
        ("SELECT a FROM plain FOR UPDATE", "the standby refused"),
        ("SELECT pg_current_xact_id()", "the standby refused"),
        ("SELECT set_config('search_path', 'other', false)", "left something in the session"),
        ("SELECT pg_advisory_lock(1)", "left something in the session"),
        ("PREPARE p AS SELECT 1", "left something in the session"),
        ("SET work_mem = '1MB'", "left something in the session"),
    ] {
        let wrong = pair.witness.watch(text).await.expect_err(text);
        assert!(wrong.contains(seen), "{text}: {wrong}");
        assert!(!pair.is_read(text), "{text}");
    }
    for text in ["SELECT a FROM plain", "SELECT 1/0", "SELECT reading(1), fixed(2)", "TABLE keyed"] {
        assert_eq!(pair.witness.watch(text).await, Ok(text != "SELECT 1/0"), "{text}");
    }
}

#[tokio::test]
async fn no_function_that_we_call_a_read_writes() {
    let Some(pair) = Pair::start().await else { return };
    let (mut count, mut wrong) = (Count::default(), Vec::new());
    for text in sweep::calls(pair.witness.primary()).await {
        wrong.extend(pair.tried(&text, &mut count).await);
    }
    println!("every function: {count:?}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    pair.witness.nothing_changed().await;
    // Most of a few thousand functions are reads, and most of these take the arguments that they are given.
    assert!(count.texts > 2500 && count.reads > 1500 && count.answered > 1000, "{count:?}");
}

#[tokio::test]
async fn no_made_up_statement_that_we_call_a_read_writes() {
    let Some(pair) = Pair::start().await else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_millis(number("PRIMACY_FUZZ_MS").unwrap_or(6000));
    let seed = number("PRIMACY_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut dice = fastrand::Rng::with_seed(seed);
    let (begun, mut count, mut wrong) = (Instant::now(), Count::default(), Vec::new());
    while begun.elapsed() < time && wrong.len() < 20 {
        let mut text = grammar::statement(&mut dice);
        if dice.u32(..3) == 0 {
            text = grammar::damaged(&text, &mut dice);
        }
        wrong.extend(pair.tried(&text, &mut count).await);
    }
    println!("made up: {count:?} in {:?}, seed {seed}", begun.elapsed());
    assert!(wrong.is_empty(), "seed {seed}: {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    pair.witness.nothing_changed().await;
    assert!(count.reads > count.texts / 20 && count.answered > count.reads / 5, "seed {seed}: {count:?}");
}
