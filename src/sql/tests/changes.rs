//! What definitions change in the facts, and what the facts say afterwards.

use std::sync::Arc;

use super::super::catalog::Leaves;
use super::super::verdict::SessionEffect::{self, Ddl};
use super::super::{Catalog, Change, Object, PinCause, Place, Reason};
use super::{builder, catalog, judge, judge_with};

fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// The one change of a definition.
fn change(text: &str) -> Option<Change> {
    let verdict = judge(text);
    assert_eq!((verdict.place, verdict.reason), (Place::Primary, Reason::Write), "{text}");
    let mut changes = verdict.effects.iter().filter_map(|effect| match effect {
        Ddl(change) => Some(change.clone()),
        _ => None,
    });
    let first = changes.next();
    assert_eq!(changes.next(), None, "{text}");
    first
}

#[test]
fn what_is_new_is_known_by_its_name_alone() {
    let new = |object, text: &str| Some(Change::New(object, name(text)));
    for (text, expected) in [
        ("CREATE TABLE x (a int)", Some(Change::Readable(name("x")))),
        ("CREATE TABLE s.\"X\" (a int)", Some(Change::Readable(name("X")))),
        ("CREATE TABLE x AS SELECT * FROM users", Some(Change::Readable(name("x")))),
        ("CREATE TABLE x PARTITION OF users FOR VALUES IN (1)", Some(Change::Readable(name("x")))),
        ("CREATE MATERIALIZED VIEW x AS SELECT 1", Some(Change::View(name("x")))),
        ("CREATE VIEW x AS SELECT count(*) FROM users", Some(Change::View(name("x")))),
        // Whether there is one already, what columns it gets, what runs when it is read: not known.
        ("CREATE TABLE IF NOT EXISTS x (a int)", new(Object::Relation, "x")),
        ("CREATE TABLE x (a checked_text)", new(Object::Relation, "x")),
        ("CREATE TABLE x (LIKE users)", new(Object::Relation, "x")),
        ("CREATE TABLE x () INHERITS (users)", new(Object::Relation, "x")),
        ("CREATE TABLE x PARTITION OF nowhere DEFAULT", new(Object::Relation, "x")),
        ("CREATE TABLE x AS SELECT log_visit(1)", new(Object::Relation, "x")),
        ("CREATE UNLOGGED TABLE x (a int)", new(Object::Relation, "x")),
        ("CREATE FOREIGN TABLE x (a int) SERVER y", new(Object::Relation, "x")),
        ("CREATE VIEW x AS SELECT log_visit(1)", new(Object::Relation, "x")),
        ("CREATE SEQUENCE x", new(Object::Relation, "x")),
        ("CREATE DOMAIN x AS text CHECK (f(value))", new(Object::Type, "x")),
        ("CREATE OPERATOR s.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = f)", new(Object::Operator, "===")),
        ("ALTER TABLE users RENAME TO people", new(Object::Relation, "people")),
        ("ALTER FUNCTION total(int) RENAME TO f", new(Object::Function, "f")),
        ("CREATE OR REPLACE VIEW x AS SELECT 1", Some(Change::Replaced(Object::Relation, name("x")))),
        ("CREATE POLICY p ON users USING (f())", Some(Change::Replaced(Object::Relation, name("users")))),
        (
            "CREATE POLICY p ON users USING (a > current_timestamp)",
            Some(Change::Replaced(Object::Relation, name("users"))),
        ),
        ("ALTER POLICY p ON users USING (f())", Some(Change::Replaced(Object::Relation, name("users")))),
        ("ALTER DOMAIN short ADD CHECK (f(value))", new(Object::Type, "short")),
        ("CREATE SCHEMA s CREATE VIEW v AS SELECT 1 GRANT SELECT ON v TO x", Some(Change::View(name("v")))),
        ("CREATE SCHEMA s CREATE TABLE y (a int)", Some(Change::Readable(name("y")))),
    ] {
        assert_eq!(change(text), expected, "{text}");
    }
    let leaves = Leaves::of(&[SessionEffect::Pin(PinCause::TemporaryTable)]);
    assert_eq!(
        change("CREATE FUNCTION s.f() RETURNS int LANGUAGE plpgsql AS 'begin create temp table x (); end'"),
        Some(Change::Function(name("f"), leaves))
    );
}

#[test]
fn what_others_may_depend_on_makes_more_than_itself_doubtful() {
    for (text, expected) in [
        ("ALTER FUNCTION total(int) VOLATILE", Change::OwnCode),
        ("ALTER TABLE users SET UNLOGGED", Change::Relations),
        ("ALTER TABLE users ADD x checked_text", Change::Relations),
        ("ALTER TABLE users ATTACH PARTITION nowhere DEFAULT", Change::Relations),
        ("ALTER TABLE scratch INHERIT users", Change::Relations),
        ("CREATE UNLOGGED TABLE x PARTITION OF users DEFAULT", Change::Relations),
        ("CREATE RULE \"_RETURN\" AS ON SELECT TO users DO INSTEAD SELECT 1", Change::Relations),
        ("CREATE CAST (int AS bigint) WITH FUNCTION f(int)", Change::Anything),
        ("CREATE CAST (double precision AS x) WITH FUNCTION f(x)", Change::Anything),
        ("CREATE EXTENSION x", Change::Anything),
        ("IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z", Change::Anything),
        ("CREATE SOMETHING x", Change::Anything),
    ] {
        assert_eq!(change(text), Some(expected), "{text}");
    }
}

#[test]
fn a_cast_concerns_values_of_its_own_types_wherever_they_come_from() {
    let verdict = judge("CREATE CAST (int AS s.mine) WITH FUNCTION f(int)");
    let changes = [Change::New(Object::Type, name("mine")), Change::Relations, Change::OwnCode];
    assert_eq!(*verdict.effects, changes.map(Ddl));
    let verdict = judge("ALTER TYPE mine SET (RECEIVE = f)");
    assert_eq!(*verdict.effects, [Change::New(Object::Type, name("mine")), Change::Relations].map(Ddl));
}

#[test]
fn most_definitions_say_nothing_about_reads() {
    for text in [
        "DROP VIEW v CASCADE",
        "GRANT SELECT ON t TO x",
        "CREATE INDEX ON users (a)",
        "CREATE ROLE x",
        "CREATE SCHEMA s",
        "CREATE POLICY p ON users USING (true)",
        "CREATE POLICY p ON users USING (a = 1 AND b IN (SELECT b FROM orders)) WITH CHECK (f())",
        "CREATE POLICY p ON users FOR INSERT WITH CHECK (f())",
        "ALTER POLICY p ON users RENAME TO q",
        "CREATE TRIGGER x BEFORE INSERT ON users EXECUTE FUNCTION f()",
        "ALTER TABLE users ADD x int, DROP y",
        "ALTER TABLE users ATTACH PARTITION orders DEFAULT",
        "ALTER TABLE users NO INHERIT orders",
        "ALTER TABLE users RENAME COLUMN a TO b",
        "ALTER FUNCTION total(int) STABLE",
        "ALTER ROLE x SET search_path = y",
        "ALTER SYSTEM SET x = 1",
        "COMMENT ON TABLE users IS 'x'",
    ] {
        assert_eq!(change(text), None, "{text}");
    }
}

fn after(changes: &[Change]) -> Catalog {
    catalog(1).after(changes, 2)
}

#[test]
fn facts_go_on_with_what_changed() {
    let facts = after(&[
        Change::Readable(name("fresh")),
        Change::New(Object::Relation, name("orders")),
        Change::New(Object::Function, name("lower")),
        Change::New(Object::Operator, name("+")),
        Change::New(Object::Type, name("mood")),
        Change::Function(name("f"), Leaves::of(&[SessionEffect::Pin(PinCause::TemporaryTable)])),
    ]);
    assert!(!facts.is_empty());
    for (text, place) in [
        ("SELECT * FROM users", Place::Anywhere),
        ("SELECT * FROM fresh", Place::Anywhere),
        ("SELECT * FROM orders", Place::Primary),
        ("SELECT upper(a) FROM users", Place::Anywhere),
        ("SELECT lower(a) FROM users", Place::Primary),
        ("SELECT (users).lower FROM users", Place::Primary),
        ("SELECT 2 - 1", Place::Anywhere),
        ("SELECT 2 + 1", Place::Primary),
        ("SELECT 'x'::mood", Place::Primary),
        ("SELECT f()", Place::Primary),
    ] {
        assert_eq!(judge_with(text, &facts).place, place, "{text}");
    }
    assert_eq!(*judge_with("SELECT f()", &facts).effects, [SessionEffect::Pin(PinCause::TemporaryTable)]);
    // A second change goes on from the first, and what is unknown stays so.
    let facts = facts.after(&[Change::Readable(name("orders"))], 3);
    assert_eq!(judge_with("SELECT * FROM orders", &facts).place, Place::Primary);
    assert_eq!(facts.generation(), 3);
}

/// Facts that are gone prove nothing; what calls leave in a session is still judged by them, and by what was made since.
#[test]
fn what_calls_leave_is_not_forgotten_with_the_facts() {
    let temporary = SessionEffect::Pin(PinCause::TemporaryTable);
    let made = Change::Function(name("f"), Leaves::of(&[SessionEffect::Pin(PinCause::AdvisoryLock)]));
    for facts in [after(&[Change::Anything, made.clone()]), catalog(1).unknown(2).after(&[made], 3)] {
        assert!(facts.is_empty() && !facts.is_read_committed());
        assert_eq!(judge_with("SELECT count(*) FROM users", &facts).reason, Reason::NoCatalog);
        assert_eq!(judge_with("SELECT upper('a')", &facts).reason, Reason::NoCatalog);
        assert_eq!(*judge_with("SELECT upper('a')", &facts).effects, []);
        assert_eq!(*judge_with("SELECT make_temp()", &facts).effects, *std::slice::from_ref(&temporary));
        assert_eq!(*judge_with("SELECT f()", &facts).effects, [SessionEffect::Pin(PinCause::AdvisoryLock)]);
    }
}

/// Where there never were any, only what is known to leave nothing is believed to.
#[test]
fn what_nobody_has_looked_at_ties_its_session() {
    let never = Catalog::empty_for(1);
    let ties = [SessionEffect::TouchesStatements, SessionEffect::Pin(PinCause::UnknownSetting)];
    for text in ["SELECT f()", "SELECT app.count(1)", "INSERT INTO users (a) VALUES (f())"] {
        assert_eq!(*judge_with(text, &never).effects, ties, "{text}");
    }
    for text in [
        "SELECT count(*), now(), pg_catalog.lower(a) FROM users WHERE a IN (1, 2) AND (b OR NOT (c))",
        "INSERT INTO users (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET (a) = (SELECT 2)",
        "INSERT INTO app.users (a) VALUES (DEFAULT)",
    ] {
        assert_eq!(*judge_with(text, &never).effects, [], "{text}");
    }
}

#[test]
fn what_depends_on_a_changed_object_is_not_relied_upon() {
    assert!(after(&[Change::Anything]).is_empty());
    for change in [Change::Relations, Change::Replaced(Object::Relation, name("users"))] {
        let facts = after(&[Change::Readable(name("older")), change, Change::Readable(name("fresh"))]);
        for (text, place) in [
            ("SELECT * FROM orders", Place::Primary),
            ("SELECT * FROM older", Place::Primary),
            ("SELECT * FROM fresh", Place::Anywhere),
            ("SELECT count(*) FROM pg_class", Place::Anywhere),
        ] {
            assert_eq!(judge_with(text, &facts).place, place, "{text}");
        }
    }
    let mut builder = builder();
    builder.add(["r", "app", "runs", "0", "0", "so"]).unwrap();
    builder.add(["f", "app", "own", "0", "255", "so"]).unwrap();
    builder.add(["w", "", "<->", "0", "0", "o"]).unwrap();
    builder.add(["x", "", "mood", "0", "0", "o"]).unwrap();
    let facts = builder.finish();
    for change in [Change::OwnCode, Change::Replaced(Object::Function, name("own"))] {
        let doubtful = facts.after(&[change], 2);
        for text in ["SELECT * FROM runs", "SELECT own(1)", "SELECT 1 <-> 2", "SELECT 'x'::mood"] {
            let verdict = judge_with(text, &facts);
            assert!(verdict.place == Place::Anywhere && verdict.own_code, "{text}: {verdict:?}");
            assert_eq!(judge_with(text, &doubtful).place, Place::Primary, "{text}");
        }
        let verdict = judge_with("SELECT lower(v) FROM users", &doubtful);
        assert!(verdict.place == Place::Anywhere && !verdict.own_code, "{verdict:?}");
    }
    // Whatever a volatile function does now, whoever depends on it was bound to the primary before.
    let replaced = after(&[Change::Replaced(Object::Function, name("log_visit"))]);
    assert_eq!(judge_with("SELECT total(1)", &replaced).place, Place::Anywhere);
    let unheard_of = after(&[Change::Replaced(Object::Relation, name("x"))]);
    assert_eq!(judge_with("SELECT * FROM users", &unheard_of).place, Place::Anywhere);
    assert_eq!(judge_with("SELECT * FROM x", &unheard_of).reason, Reason::UnknownRelation);
}
