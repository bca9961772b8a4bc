//! What must hold for every text.

use proptest::prelude::*;

use super::super::scan::Scanner;
use super::super::{Classifier, Place, Reason, Settings};
use super::{catalog, judge_with};

#[test]
fn a_second_look_gives_the_same_verdict_without_judging_again() {
    let mut classifier = Classifier::new(&Settings::default());
    let facts = catalog(1);
    let first = classifier.classify(b"SELECT * FROM users WHERE id = 1", &facts);
    let second = classifier.classify(b"SELECT  * FROM users WHERE id = 234 -- x", &facts);
    assert!(std::rc::Rc::ptr_eq(&first, &second));
    assert_eq!((classifier.stats().hits, classifier.stats().misses), (1, 1));
    for text in ["SET x = 'a'", "SET x = 'b'", "SET x = 'a'"] {
        let verdict = classifier.classify(text.as_bytes(), &facts);
        assert!(format!("{:?}", verdict.effects).contains(text), "{verdict:?}");
    }
    assert_eq!(classifier.stats().hits, 2);
    for (setting, place) in
        [("timezone", Place::Anywhere), ("work_mem", Place::Primary), ("timezone", Place::Anywhere)]
    {
        let text = format!("SELECT current_setting('{setting}')");
        assert_eq!(classifier.classify(text.as_bytes(), &facts).place, place);
    }
}

#[test]
fn what_a_replica_refused_goes_to_the_primary_until_the_facts_change() {
    let mut classifier = Classifier::new(&Settings::default());
    let facts = catalog(1);
    assert_eq!(classifier.classify(b"SELECT total(1)", &facts).place, Place::Anywhere);
    classifier.learn_primary(b"SELECT total(1)", &facts);
    let verdict = classifier.classify(b"SELECT total(2)", &facts);
    assert_eq!((verdict.place, verdict.reason), (Place::Primary, Reason::Learned));
    assert_eq!(classifier.classify(b"SELECT total(1)", &catalog(2)).place, Place::Anywhere);
    assert_eq!(classifier.classify(b"SELECT total(1)", &facts).place, Place::Primary);
    classifier.forget(1);
    assert_eq!(classifier.classify(b"SELECT total(1)", &facts).place, Place::Anywhere);
}

#[test]
fn the_cache_does_not_grow_beyond_its_bounds() {
    let settings = Settings { cache_entries_max: 64, cache_bytes_max: 32 * 1024, ..Settings::default() };
    let mut classifier = Classifier::new(&settings);
    let facts = catalog(1);
    for n in 0..2_000 {
        classifier.classify(format!("SELECT a{n} FROM users").as_bytes(), &facts);
        classifier.classify(format!("SET a{n} = '{}'", "x".repeat(n)).as_bytes(), &facts);
        let stats = classifier.stats();
        assert!(stats.entries <= 64 && stats.bytes <= 32 * 1024, "{stats:?}");
    }
}

#[test]
fn a_text_of_any_size_and_depth_is_judged_in_little_time() {
    let facts = catalog(1);
    let patterns = [
        ("(", ")"),
        ("[", "]"),
        ("f(", ")"),
        ("(SELECT ", ")"),
        ("CASE WHEN ", " END"),
        ("pg_advisory_lock(", ")"),
        ("a.", "a"),
        ("checked_text.", ""),
        ("/*", "*/"),
        ("SELECT 1;", ""),
        ("SET a.b = 'c';", ""),
        ("set_config('a', ", ")"),
        ("-", ""),
        ("+", ""),
        ("+-", ""),
        ("<+", ""),
        ("'", ""),
        ("$a$", "$b$"),
        ("WITH x AS (", ")"),
    ];
    for (open, close) in patterns {
        // Under every limit, at the limit for texts, and far beyond it.
        for size in [2_000, 16_000, 1_000_000] {
            let count = size / (open.len() + close.len());
            let text = format!("SELECT {}1{}", open.repeat(count), close.repeat(count));
            let begun = crate::clock::now();
            let verdict = small().classify(text.as_bytes(), &facts);
            let took = begun.elapsed();
            assert!(took < std::time::Duration::from_secs(20), "{open} {size}: {took:?}");
            // A comment is left out before anything is limited, so what remains of these two is a short read.
            let short = size < 16_000 || (matches!(open, "/*" | "-") && size == 16_000);
            assert!(short || verdict.place == Place::Primary, "{open} {size}: {verdict:?}");
        }
    }
    let many = format!("SELECT 1{}", ";SELECT 1".repeat(400_000));
    let verdict = small().classify(many.as_bytes(), &facts);
    assert_eq!((verdict.place, verdict.reason), (Place::Primary, Reason::TooLarge));
    assert!(format!("{:?}", verdict.effects).contains("Pin"), "{:?}", verdict.effects);
    // A lock that is hidden too deep to be looked at ties the session all the same.
    let deep = format!("SELECT {}pg_advisory_lock(1){}", "f(".repeat(100_000), ")".repeat(100_000));
    let verdict = small().classify(deep.as_bytes(), &facts);
    assert!(format!("{:?}", verdict.effects).contains("Pin"), "{:?}", verdict.effects);
}

/// What the parser reads in a loop it drops by recursion, and some of it it reads by recursion: on a worker's stack.
#[test]
fn chains_of_anything_are_judged_on_the_stack_of_a_worker() {
    const STACK_BYTES: usize = 8 * 1024 * 1024;
    let judged = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
        let facts = catalog(1);
        for link in [
            " OR 1",
            " AND NOT 1",
            " UNION SELECT 1",
            " INTERSECT ALL (SELECT 1)",
            " IS NULL",
            " IS NOT TRUE",
            "::int",
            "[1]",
            " COLLATE a",
            " BETWEEN 1 AND 1",
            " -> 1",
            " || 'a'",
            ", a",
            " AT TIME ZONE 'x'",
            " IN (1)",
            " LIKE 'a' ESCAPE 'b'",
            " = ANY (ARRAY[1])",
            " OPERATOR(pg_catalog.+) 1",
        ] {
            for begin in
                ["SELECT 1", "SELECT * FROM users WHERE a", "SELECT 1 FROM users ORDER BY a", "VALUES (1"]
            {
                for count in [60, 500, 2_000] {
                    let text = format!("{begin}{}", link.repeat(count));
                    small().classify(text.as_bytes(), &facts);
                    small().classify(format!("{text})").as_bytes(), &facts);
                }
            }
        }
    });
    judged.unwrap().join().unwrap();
}

/// A classifier that is quick to make.
fn small() -> Classifier {
    Classifier::new(&Settings { cache_entries_max: 64, ..Settings::default() })
}

/// Pieces that texts are made of: every kind of literal, comment and bracket, and words that matter.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "SELECT",
            "select",
            "FROM",
            "users",
            "scratch",
            "nextval",
            "(",
            ")",
            ",",
            "1",
            "2.5",
            "'a'",
            "'it''s'",
            "E'\\''",
            "$$x$$",
            "$1",
            "--c\n",
            "/* c */",
            "/* primacy: replica */",
            "+",
            "::",
            "int",
            "IN",
            "ARRAY[",
            "]",
            ";",
            "SET",
            "x",
            "=",
            "BEGIN",
            "LISTEN",
            "set_config",
            "'x'",
            "false",
            "\"q\"",
            ".",
            "*",
            "WITH",
            "AS",
            "INTO",
            "INSERT",
            "FOR",
            "UPDATE",
            "current_setting",
            "'timezone'",
            "'work_mem'",
            "'a\\'",
            "DO",
            "temp",
            "create",
            "EXPLAIN",
            "COPY",
            "TO",
            "STDOUT",
            "VALUES",
            "U&\"a\"",
            "\u{e9}",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,6}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.join(" "))
}

/// A query whose literals can be chosen.
fn template() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "SELECT * FROM users WHERE id = {n} AND name = {s}",
        "SELECT total({n}), {s}::text FROM users WHERE id IN ({n}, {n})",
        "INSERT INTO users VALUES ({n}, {s})",
        "SELECT pg_advisory_lock({n})",
        "SELECT set_config('a.b', {s}, false)",
        "SET app.x = {s}",
        "SELECT current_setting({s})",
        "SELECT log_visit({n})",
        "SELECT 1 LIMIT {n}",
        "EXPLAIN (ANALYZE {n}) SELECT set_config('a.b', {s}, false)",
        "DO {s}",
        "SAVEPOINT a{n}",
        "COPY users TO {s}",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes_are_classified(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut classifier = small();
        let verdict = classifier.classify(&bytes, &catalog(1));
        prop_assert!(verdict.effects.len() <= bytes.len());
    }

    #[test]
    fn the_cache_answers_as_a_fresh_judgement(texts in prop::collection::vec(text(), 1..6)) {
        let mut classifier = small();
        let facts = catalog(1);
        for text in texts.iter().chain(&texts) {
            let kept = classifier.classify(text.as_bytes(), &facts);
            prop_assert_eq!(&*kept, &*judge_with(text, &facts), "{}", text);
        }
    }

    #[test]
    fn texts_that_differ_in_literals_get_their_own_verdicts(
        template in template(),
        literals in prop::collection::vec((0_u32..3, "('[ab]{0,2}'|'timezone'|'work_mem'|'set x = 1'|'create temp table t()')"), 1..5),
    ) {
        let mut classifier = small();
        let facts = catalog(1);
        for (number, string) in literals {
            let text = template.replace("{n}", &number.to_string()).replace("{s}", &string);
            let kept = classifier.classify(text.as_bytes(), &facts);
            prop_assert_eq!(&*kept, &*judge_with(&text, &facts), "{}", text);
        }
    }

    #[test]
    fn a_write_behind_anything_is_never_a_read(before in text(), after in text()) {
        // Unless it stands inside of a literal: then the same text with another word there is judged the same.
        let text = |word: &str| format!("{before}\n;{word} INTO users VALUES (1);{after}");
        let tokens = |text: String| Scanner::new(text.as_bytes()).count();
        if tokens(text("INSERT")) == tokens(text("")) + 1 {
            prop_assert_eq!(judge_with(&text("INSERT"), &catalog(1)).place, Place::Primary, "{}", text("INSERT"));
        }
    }
}
