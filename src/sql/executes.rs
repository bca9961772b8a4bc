//! Which prepared statements a text executes by name: EXECUTE, EXPLAIN ... EXECUTE, CREATE TABLE ... AS EXECUTE.

use std::ops::Range;

use super::scan::{Scanner, Token, TokenKind};
use super::words::{Words, name_of};

/// The names behind EXECUTE, with where each stands in the text. Where EXECUTE is a privilege or belongs to a trigger, none
/// is found.
pub fn executed(text: &[u8]) -> Vec<(Range<usize>, String)> {
    let tokens: Vec<Token> = Scanner::new(text).collect();
    let mut found = Vec::new();
    for statement in tokens.split(|token| token.kind == TokenKind::Semicolon) {
        let words = Words::new(text, statement);
        let (explains, creates) = (words.sees("explain"), words.sees("create"));
        for (at, pair) in statement.windows(2).enumerate() {
            let [keyword, name] = pair else { continue };
            let executes =
                keyword.kind == TokenKind::Word && keyword.bytes(text).eq_ignore_ascii_case(b"execute");
            let behind_as = || at > 0 && words_at(text, statement, at - 1).sees("as");
            if executes
                && (at == 0 || explains || (creates && behind_as()))
                && let Some(spelt) = name_of(*name, text)
            {
                found.push((name.start..name.end, spelt));
            }
        }
    }
    found
}

fn words_at<'t>(text: &'t [u8], tokens: &'t [Token], at: usize) -> Words<'t> {
    Words::new(text, tokens.get(at..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::executed;

    fn names(text: &str) -> Vec<(String, String)> {
        executed(text.as_bytes()).into_iter().map(|(at, name)| (text[at].to_owned(), name)).collect()
    }

    fn named(written: &str, name: &str) -> Vec<(String, String)> {
        vec![(written.to_owned(), name.to_owned())]
    }

    #[test]
    fn names_are_found_where_statements_are_executed() {
        assert_eq!(names("EXECUTE S1(1, 'x')"), named("S1", "s1"));
        assert_eq!(names("/* x */ execute \"S1\""), named("\"S1\"", "S1"));
        assert_eq!(names("EXPLAIN (ANALYZE, COSTS off) EXECUTE s1"), named("s1", "s1"));
        assert_eq!(names("CREATE TEMP TABLE x AS EXECUTE s1(2)"), named("s1", "s1"));
        assert_eq!(names("SELECT 1; EXECUTE s1"), named("s1", "s1"));
    }

    #[test]
    fn the_word_alone_means_nothing() {
        assert_eq!(names("GRANT EXECUTE ON FUNCTION f() TO a"), []);
        assert_eq!(names("CREATE TRIGGER t AFTER INSERT ON x FOR EACH ROW EXECUTE FUNCTION f()"), []);
        assert_eq!(names("SELECT 1 AS execute FROM x"), []);
        assert_eq!(names("SELECT 'EXECUTE s1'"), []);
        assert_eq!(names("EXECUTE"), []);
    }
}
