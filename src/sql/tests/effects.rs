//! What statements are to the session machine and what they do to the session.

use std::sync::Arc;

use super::super::verdict::SessionEffect::{
    self, AsksSequences, Ddl, Deallocate, DeallocateAll, DiscardAll, DiscardSequences, DiscardTemp, Listen,
    LooksAtCounters, Pin, PrepareSql, Reset, ResetAll, Temporary, TouchesStatements, Unlisten, Unpin,
};
use super::super::{BeginMode, Change, Kind, Object, PinCause, Place};
use super::judge;

fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn set(setting: &str, sql: &str) -> SessionEffect {
    SessionEffect::Set { name: name(setting), sql: name(sql) }
}

fn check_kinds(table: &[(&str, Kind)]) {
    for (text, kind) in table {
        let verdict = judge(text);
        assert_eq!(&verdict.kind, kind, "{text}");
        assert_eq!(verdict.place, Place::Primary, "{text}");
        assert!(verdict.effects.is_empty(), "{text}: {verdict:?}");
    }
}

fn check_effects(table: &[(&str, &[SessionEffect])]) {
    for (text, effects) in table {
        let verdict = judge(text);
        assert_eq!(&*verdict.effects, *effects, "{text}: {verdict:?}");
        assert_eq!(verdict.place, Place::Primary, "{text}");
    }
}

#[test]
fn transactions_are_recognised_with_their_modes() {
    let none = BeginMode::default();
    let read_only = BeginMode { read_only: Some(true), ..none };
    let serializable = BeginMode { serializable: true, isolation_given: true, ..none };
    let repeatable = BeginMode { isolation_given: true, ..none };
    check_kinds(&[
        ("BEGIN", Kind::Begin(none)),
        ("begin;", Kind::Begin(none)),
        ("BEGIN WORK", Kind::Begin(none)),
        ("START TRANSACTION", Kind::Begin(none)),
        ("BEGIN TRANSACTION READ ONLY", Kind::Begin(read_only)),
        ("START TRANSACTION READ WRITE", Kind::Begin(BeginMode { read_only: Some(false), ..none })),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", Kind::Begin(serializable)),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", Kind::Begin(repeatable)),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ COMMITTED", Kind::Plain),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY, DEFERRABLE",
            Kind::Begin(BeginMode { read_only: Some(true), deferrable: true, ..serializable }),
        ),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE ISOLATION LEVEL READ COMMITTED", Kind::Begin(repeatable)),
        ("COMMIT", Kind::Commit { chain: false }),
        ("END", Kind::Commit { chain: false }),
        ("COMMIT WORK AND CHAIN", Kind::Commit { chain: true }),
        ("COMMIT AND NO CHAIN", Kind::Commit { chain: false }),
        ("ROLLBACK", Kind::Rollback { chain: false }),
        ("ABORT TRANSACTION", Kind::Rollback { chain: false }),
        ("ROLLBACK AND CHAIN", Kind::Rollback { chain: true }),
        ("ROLLBACK TO a", Kind::RollbackTo(name("a"))),
        ("ROLLBACK WORK TO SAVEPOINT \"B\"", Kind::RollbackTo(name("B"))),
        ("ROLLBACK TO SAVEPOINT", Kind::RollbackTo(name("savepoint"))),
        ("SAVEPOINT Sp", Kind::Savepoint(name("sp"))),
        ("RELEASE sp", Kind::Release(name("sp"))),
        ("RELEASE SAVEPOINT sp", Kind::Release(name("sp"))),
        ("PREPARE TRANSACTION 'x'", Kind::PrepareTransaction),
        ("SET TRANSACTION READ ONLY", Kind::SetTransaction(read_only)),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", Kind::SetTransaction(serializable)),
        ("SET LOCAL TRANSACTION READ ONLY", Kind::SetTransaction(read_only)),
        ("SET transaction_read_only = on", Kind::SetTransaction(read_only)),
        ("SET LOCAL transaction_isolation TO 'serializable'", Kind::SetTransaction(serializable)),
        ("SET TRANSACTION SNAPSHOT '0-1'", Kind::Plain),
        ("SHOW primacy.position", Kind::ShowPrimacy(name("position"))),
        ("SET primacy.route = 'replica'", Kind::SetPrimacy(name("route"), Some(name("replica")))),
        ("SET primacy.route TO primary", Kind::SetPrimacy(name("route"), Some(name("primary")))),
        ("SET PRIMACY.after = '1:0/16'", Kind::SetPrimacy(name("after"), Some(name("1:0/16")))),
        ("RESET primacy.route", Kind::SetPrimacy(name("route"), None)),
        ("SET primacy.route TO DEFAULT", Kind::SetPrimacy(name("route"), None)),
    ]);
}

#[test]
fn settings_are_carried_along() {
    check_effects(&[
        ("SET search_path TO a, b;", &[set("search_path", "SET search_path TO a, b")]),
        ("SET SESSION work_mem = '1MB'", &[set("work_mem", "SET SESSION work_mem = '1MB'")]),
        ("SET TimeZone = 'UTC'", &[set("timezone", "SET TimeZone = 'UTC'")]),
        ("SET \"app\".\"Tenant\" = 'x'", &[set("app.tenant", "SET \"app\".\"Tenant\" = 'x'")]),
        ("SET TIME ZONE 'UTC'", &[set("timezone", "SET TIME ZONE 'UTC'")]),
        ("SET TIME ZONE LOCAL", &[Reset(name("timezone"))]),
        ("SET NAMES 'utf8'", &[set("client_encoding", "SET NAMES 'utf8'")]),
        ("SET NAMES", &[Reset(name("client_encoding"))]),
        ("SET ROLE app", &[set("role", "SET ROLE app")]),
        ("SET ROLE NONE", &[set("role", "SET ROLE NONE")]),
        ("SET role TO app", &[set("role", "SET role TO app")]),
        ("RESET ROLE", &[Reset(name("role"))]),
        ("SET SCHEMA 'x'", &[set("search_path", "SET SCHEMA 'x'")]),
        ("SET x TO DEFAULT", &[Reset(name("x"))]),
        ("RESET x.y", &[Reset(name("x.y"))]),
        ("RESET TIME ZONE", &[Reset(name("timezone"))]),
        ("RESET ALL", &[ResetAll]),
        ("SET LOCAL x = 1", &[]),
        ("SET CONSTRAINTS ALL DEFERRED", &[]),
        (
            "SET SESSION AUTHORIZATION x",
            &[Reset(name("role")), set("session_authorization", "SET SESSION AUTHORIZATION x")],
        ),
        ("SET SESSION AUTHORIZATION DEFAULT", &[Reset(name("role")), Reset(name("session_authorization"))]),
        ("RESET SESSION AUTHORIZATION", &[Reset(name("role")), Reset(name("session_authorization"))]),
        ("SET LOCAL SESSION AUTHORIZATION x", &[Pin(PinCause::SessionAuthorization)]),
        ("SET SEED TO 0.5", &[Pin(PinCause::UnknownSetting)]),
        ("DISCARD SEQUENCES", &[DiscardSequences]),
        (
            "SET search_path = pg_temp",
            &[set("search_path", "SET search_path = pg_temp"), Pin(PinCause::TemporaryTable)],
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE",
            &[
                set(
                    "default_transaction_isolation",
                    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                ),
                set("default_transaction_read_only", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
                set(
                    "default_transaction_deferrable",
                    "SET SESSION CHARACTERISTICS AS TRANSACTION NOT DEFERRABLE",
                ),
            ],
        ),
        ("SET a = 1; SET b = 2", &[set("a", "SET a = 1"), set("b", "SET b = 2")]),
    ]);
    let long = judge(&format!("SET x = '{}'", "y".repeat(5_000)));
    assert_eq!(&*long.effects, [Pin(PinCause::UnknownSetting)]);
    let doubtful = judge(r"SET x = 'a\'");
    assert_eq!(&*doubtful.effects, [Pin(PinCause::UnknownSetting)]);
}

#[test]
fn set_config_is_a_setting_where_its_effect_is_known() {
    let known = "SELECT pg_catalog.set_config('search_path', '', false)";
    check_effects(&[
        (known, &[set("search_path", known)]),
        (
            "select set_config('A.b', 'x', 'f') as y",
            &[set("a.b", "SELECT pg_catalog.set_config('A.b', 'x', false)")],
        ),
        (
            "SELECT set_config('a', 'x', false), set_config('b', 'y', true)",
            &[set("a", "SELECT pg_catalog.set_config('a', 'x', false)")],
        ),
        ("SELECT set_config('a', 'x', true)", &[]),
        ("SELECT set_config($1, $2, $3)", &[Pin(PinCause::UnknownSetting)]),
        ("SELECT set_config('a', name, false) FROM users", &[Pin(PinCause::UnknownSetting)]),
        ("SELECT set_config('a', 'x', false) WHERE false", &[Pin(PinCause::UnknownSetting)]),
        ("SELECT set_config('a', 'x', false) FROM users", &[Pin(PinCause::UnknownSetting)]),
        ("INSERT INTO users SELECT set_config('a', 'x', false)", &[Pin(PinCause::UnknownSetting)]),
        (
            "PREPARE p AS SELECT set_config('a', $1, false)",
            &[PrepareSql(name("p")), Pin(PinCause::UnknownSetting)],
        ),
        ("EXPLAIN SELECT set_config('a', 'x', false)", &[]),
        (
            "EXPLAIN ANALYZE SELECT set_config('a', 'x', false)",
            &[set("a", "SELECT pg_catalog.set_config('a', 'x', false)")],
        ),
        ("SELECT setseed(0.5)", &[Pin(PinCause::UnknownSetting)]),
        ("SELECT tenant('x')", &[Pin(PinCause::UnknownSetting)]),
    ]);
}

#[test]
fn looking_at_counters_is_noted_wherever_it_is_done() {
    check_effects(&[
        ("SELECT pg_stat_get_numscans(1)", &[LooksAtCounters]),
        (
            "CREATE TABLE x AS SELECT * FROM pg_stat_user_tables",
            &[Ddl(Change::New(Object::Relation, name("x"))), LooksAtCounters],
        ),
        ("INSERT INTO log SELECT blks_hit FROM pg_catalog.pg_stat_database", &[LooksAtCounters]),
        ("SELECT * FROM pg_stat_activity", &[]),
        ("SELECT 'pg_stat_user_tables'::text FROM nowhere", &[]),
    ]);
}

#[test]
fn what_lives_in_the_server_session_pins() {
    let nameless: &[SessionEffect] = &[Pin(PinCause::TemporaryTable)];
    let temporary: &[SessionEffect] = &[Pin(PinCause::TemporaryTable), Temporary(name("x"))];
    let advisory: &[SessionEffect] = &[Pin(PinCause::AdvisoryLock)];
    check_effects(&[
        ("CREATE TEMP TABLE x (a int)", temporary),
        ("CREATE TEMPORARY TABLE x AS SELECT 1", temporary),
        ("CREATE LOCAL TEMP TABLE x (a int)", temporary),
        ("CREATE OR REPLACE TEMP VIEW x AS SELECT 1", temporary),
        ("CREATE TEMP SEQUENCE IF NOT EXISTS x", temporary),
        ("CREATE TABLE pg_temp.x (a int)", temporary),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", nameless),
        ("SELECT 1 INTO TEMP x", temporary),
        ("SELECT * INTO TEMPORARY TABLE x FROM users", temporary),
        ("SELECT 1 INTO pg_temp.x", temporary),
        ("SELECT make_temp()", nameless),
        ("SELECT 1 INTO x", &[Ddl(Change::New(Object::Relation, name("x")))]),
        ("LISTEN x", &[Listen("x".into())]),
        ("LISTEN \"X y\"", &[Listen("X y".into())]),
        ("UNLISTEN x", &[Unlisten("x".into())]),
        ("UNLISTEN *", &[Unpin(PinCause::Listen)]),
        ("LOAD 'auto_explain'", &[Pin(PinCause::Load)]),
        ("SELECT pg_advisory_lock(1)", advisory),
        ("SELECT pg_catalog.pg_try_advisory_lock(1, 2)", advisory),
        ("SELECT pg_advisory_lock_shared(1) FROM users", advisory),
        ("SELECT pg_advisory_xact_lock(1)", &[]),
        ("SELECT pg_advisory_unlock(1)", &[]),
        ("SELECT pg_advisory_unlock_all()", &[Unpin(PinCause::AdvisoryLock)]),
        ("PREPARE p (int) AS SELECT $1", &[PrepareSql(name("p"))]),
        ("DEALLOCATE p", &[Deallocate(name("p"))]),
        ("DEALLOCATE PREPARE p", &[Deallocate(name("p"))]),
        ("DEALLOCATE ALL", &[DeallocateAll]),
        ("DISCARD ALL", &[DiscardAll]),
        ("DISCARD TEMP", &[DiscardTemp]),
        ("DISCARD PLANS", &[]),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", &[Pin(PinCause::HoldCursor)]),
        ("DECLARE c SCROLL CURSOR WITHOUT HOLD FOR SELECT pg_backend_pid()", &[]),
        ("CLOSE ALL", &[Unpin(PinCause::HoldCursor)]),
        ("CLOSE c", &[]),
        ("DO $$ BEGIN CREATE TEMP TABLE x (a int); END $$", nameless),
        ("DO 'begin perform set_config(''a'', ''b'', false); end'", &[Pin(PinCause::UnknownSetting)]),
        ("DO $x$ BEGIN SET search_path = a; END $x$ LANGUAGE plpgsql", &[Pin(PinCause::UnknownSetting)]),
        ("DO $$ BEGIN SET LOCAL a.b = 'c'; UPDATE t SET a = 1; END $$", &[]),
        ("DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$", advisory),
        ("DO $$ BEGIN ALTER TABLE t ADD b int; END $$", &[Ddl(Change::OwnCode), Ddl(Change::Relations)]),
        ("SELECT currval('s')", &[AsksSequences]),
        ("INSERT INTO t VALUES (lastval())", &[AsksSequences]),
        ("DO $$ BEGIN PERFORM lastval(); END $$", &[AsksSequences]),
        ("DO $$ BEGIN DEALLOCATE ALL; END $$", &[TouchesStatements]),
    ]);
}
