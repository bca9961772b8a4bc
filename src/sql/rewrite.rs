//! Forms of PostgreSQL that sqlparser 0.63 does not know, in forms that it knows, for analysis only.
//!
//! Nothing that is rewritten reads another relation or calls another function than before: what is left out (ONLY,
//! COLLATE, VARIADIC, an operator's name) is either of no account for routing or was looked at among the tokens.

use super::scan::{Token, TokenKind};
use super::words::Words;

/// A clause with more columns than this is left to the parser.
const CLAUSE_TOKENS_MAX: usize = 100;

/// What to do at one token.
enum Change {
    Keep,
    /// Leave so many tokens out and put this in their place.
    Replace(usize, &'static str),
}

/// The statement in a form that sqlparser knows; `None` where it knows it as it stands.
pub(super) fn rewrite(words: Words<'_>) -> Option<String> {
    let place = |at| Place { words, at };
    if (0..words.tokens.len()).all(|at| matches!(place(at).change(), Change::Keep)) {
        return None;
    }
    let mut rewritten = String::with_capacity(words.text.len());
    let mut at = 0;
    while let Some(token) = words.tokens.get(at) {
        let change = place(at).change();
        if token.spaced || !matches!(change, Change::Keep) {
            rewritten.push(' ');
        }
        match change {
            Change::Keep => {
                rewritten.push_str(std::str::from_utf8(token.bytes(words.text)).ok()?);
                at += 1;
            }
            Change::Replace(tokens, with) => {
                rewritten.push_str(with);
                rewritten.push(' ');
                at += tokens;
            }
        }
    }
    Some(rewritten)
}

/// One token and what stands around it.
#[derive(Clone, Copy)]
struct Place<'t> {
    words: Words<'t>,
    at: usize,
}

impl Place<'_> {
    fn token(&self, ahead: usize) -> Option<Token> {
        self.words.tokens.get(self.at + ahead).copied()
    }

    fn before(&self) -> Option<Token> {
        self.at.checked_sub(1).and_then(|at| self.words.tokens.get(at)).copied()
    }

    fn is(&self, token: Option<Token>, words: &[&str]) -> bool {
        token.filter(|token| token.kind == TokenKind::Word).is_some_and(|token| {
            let bytes = token.bytes(self.words.text);
            words.iter().any(|word| bytes.eq_ignore_ascii_case(word.as_bytes()))
        })
    }

    fn is_punctuation(token: Option<Token>, among: &[u8]) -> bool {
        token.is_some_and(|token| matches!(token.kind, TokenKind::Punctuation(byte) if among.contains(&byte)))
    }

    fn change(&self) -> Change {
        let here = self.token(0);
        match here.map(|token| token.kind) {
            // Words behind a dot or AS are names, whatever they spell.
            Some(TokenKind::Word)
                if !Self::is_punctuation(self.before(), b".") && !self.is(self.before(), &["as"]) =>
            {
                self.word(here)
            }
            Some(TokenKind::Operator) => self.operator(here),
            _ => Change::Keep,
        }
    }

    fn operator(&self, here: Option<Token>) -> Change {
        let spelt = here.map(|token| token.bytes(self.words.text)).unwrap_or_default();
        if self.compares_with_many(1) || spelt == b"===" || (spelt.len() > 1 && spelt.starts_with(b"*")) {
            return Change::Replace(1, "=");
        }
        // `FROM parent*` is the same as without.
        let relation = self.at.checked_sub(2).and_then(|at| self.words.tokens.get(at)).copied();
        if spelt == b"*" && self.is(relation, &["from", "join"]) {
            return Change::Replace(1, "");
        }
        Change::Keep
    }

    /// Whether `ANY (`, `ALL (` or `SOME (` stands so far ahead.
    fn compares_with_many(&self, ahead: usize) -> bool {
        self.is(self.token(ahead), &["any", "all", "some"])
            && Self::is_punctuation(self.token(ahead + 1), b"(")
    }

    fn word(&self, here: Option<Token>) -> Change {
        let (before, after) = (self.before(), self.token(1));
        if self.is(here, &["only"])
            && (self.is(before, &["from", "join"]) || Self::is_punctuation(before, b","))
        {
            Change::Replace(1, "")
        } else if self.is(here, &["collate"]) {
            let qualified = Self::is_punctuation(self.token(2), b".");
            Change::Replace(if qualified { 4 } else { 2 }, "")
        } else if self.is(here, &["table"]) {
            Change::Replace(if self.is(after, &["only"]) { 2 } else { 1 }, "SELECT * FROM")
        } else if self.is(here, &["variadic"]) && Self::is_punctuation(before, b"(,") {
            Change::Replace(1, "")
        } else if self.is(here, &["isnull"]) {
            Change::Replace(1, "IS NULL")
        } else if self.is(here, &["notnull"]) {
            Change::Replace(1, "IS NOT NULL")
        } else if (self.is(here, &["using"]) && after.is_some_and(|token| token.kind == TokenKind::Operator))
            || (self.is(here, &["leading", "trailing", "both"]) && self.is(after, &["from"]))
        {
            Change::Replace(2, "")
        } else if self.is(here, &["select"]) && self.ends_selection(after) {
            Change::Replace(1, "SELECT 1")
        } else if self.is(here, &["like", "ilike"]) && self.compares_with_many(1) {
            Change::Replace(1, "=")
        } else if self.is(here, &["not"]) && self.is(after, &["like", "ilike"]) && self.compares_with_many(2)
        {
            Change::Replace(2, "=")
        } else if self.is(here, &["collation"]) && self.is(after, &["for"]) {
            Change::Replace(2, "pg_collation_for")
        } else {
            self.search_or_cycle(here, after).map_or(Change::Keep, |tokens| Change::Replace(tokens, ""))
        }
    }

    /// How many tokens belong to a clause `SEARCH ... SET name` or `CYCLE ... USING name` behind a common table expression.
    fn search_or_cycle(&self, here: Option<Token>, after: Option<Token>) -> Option<usize> {
        let searches = self.is(here, &["search"]) && self.is(after, &["depth", "breadth"]);
        let last = if searches {
            "set"
        } else if self.is(here, &["cycle"]) {
            "using"
        } else {
            return None;
        };
        let behind = Self::is_punctuation(self.before(), b")") || self.sets_column();
        let end = (1..CLAUSE_TOKENS_MAX).find(|&ahead| self.is(self.token(ahead), &[last]))?;
        let query = (1..end).any(|ahead| self.is(self.token(ahead), &["select", "from", "with"]));
        (behind && !query).then_some(end + 2)
    }

    /// Whether `SET name` stands before this token: the end of SEARCH.
    fn sets_column(&self) -> bool {
        let before = self.at.checked_sub(2).and_then(|at| self.words.tokens.get(at)).copied();
        self.is(before, &["set"])
    }

    /// Whether a SELECT before this token has an empty list and no FROM.
    fn ends_selection(&self, after: Option<Token>) -> bool {
        after.is_none()
            || Self::is_punctuation(after, b")")
            || self.is(after, &["union", "except", "intersect", "where", "limit", "order"])
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::Scanner;
    use super::*;

    fn rewritten(text: &str) -> Option<String> {
        let tokens: Vec<_> = Scanner::new(text.as_bytes()).collect();
        let rewritten = rewrite(Words::new(text.as_bytes(), &tokens))?;
        Some(rewritten.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn forms_that_the_parser_knows_stay() {
        for text in [
            "SELECT a FROM t JOIN u USING (x)",
            "SELECT t.only, b AS collate",
            "SELECT a = ANY_VALUE(b) FROM t",
            "SELECT cycle, search FROM t WHERE cycle IN (SELECT 1 FROM u) AND search = 2",
        ] {
            assert_eq!(rewritten(text), None, "{text}");
        }
    }

    #[test]
    fn forms_that_it_does_not_know_are_written_differently() {
        for (text, expected) in [
            ("SELECT * FROM ONLY t", "SELECT * FROM t"),
            ("SELECT * FROM a, ONLY (t)", "SELECT * FROM a, (t)"),
            ("SELECT a::text COLLATE \"C\" x", "SELECT a::text x"),
            ("SELECT a COLLATE pg_catalog.default", "SELECT a"),
            ("TABLE ONLY t", "SELECT * FROM t"),
            (
                "WITH x AS (SELECT 1) TABLE x UNION TABLE t",
                "WITH x AS (SELECT 1) SELECT * FROM x UNION SELECT * FROM t",
            ),
            ("SELECT (TABLE t)", "SELECT ( SELECT * FROM t)"),
            ("SELECT f(VARIADIC a)", "SELECT f( a)"),
            ("SELECT a @@ any ('{}')", "SELECT a = any ('{}')"),
            ("SELECT a ISNULL", "SELECT a IS NULL"),
            ("SELECT 1 ORDER BY a USING >", "SELECT 1 ORDER BY a"),
            ("SELECT trim(TRAILING FROM a)", "SELECT trim( a)"),
            ("SELECT UNION SELECT", "SELECT 1 UNION SELECT 1"),
            ("SELECT a *<> b, c === d, e * f", "SELECT a = b, c = d, e * f"),
            ("SELECT * FROM a* x JOIN b* ON true", "SELECT * FROM a x JOIN b ON true"),
            ("SELECT a LIKE ALL (b), c NOT ILIKE ANY (d)", "SELECT a = ALL (b), c = ANY (d)"),
            ("SELECT COLLATION FOR (a)", "SELECT pg_collation_for (a)"),
            (
                "WITH RECURSIVE x AS (SELECT 1) SEARCH DEPTH FIRST BY a, b SET c CYCLE a SET d TO 1 DEFAULT 0 USING e SELECT 1",
                "WITH RECURSIVE x AS (SELECT 1) SELECT 1",
            ),
        ] {
            assert_eq!(rewritten(text).as_deref(), Some(expected), "{text}");
        }
    }
}
