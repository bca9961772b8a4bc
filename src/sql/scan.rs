//! Cuts a text into tokens as PostgreSQL's own lexer does (`scan.l`; manual, 4.1), without understanding them.
//!
//! In: bytes in any encoding that extends ASCII. Out: tokens as ranges, and what comments and doubtful literals say.
//! Both the fingerprint and the statement recognisers read through it, so they cannot disagree about what is inside
//! a literal. It never fails: text that PostgreSQL's lexer would refuse ends in one `Broken` token.

mod run;

use super::verdict::Hint;
use crate::model::Consistency;
use run::{Run, is_operator_byte};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// An identifier or keyword without quotes.
    Word,
    /// `"identifier"`.
    QuotedWord,
    /// `U&"identifier"`: its name is behind escapes that are not decoded here.
    EscapedWord,
    /// A number.
    Number,
    /// A plain string: `'...'`.
    String,
    /// A string with a prefix or dollar quotes: `E'...'`, `U&'...'`, `B'...'`, `X'...'`, `N'...'`, `$tag$...$tag$`.
    OtherString,
    /// `$1`.
    Parameter,
    /// An operator, including `::`, `:=`, `=>` and `..`.
    Operator,
    /// One of `( ) [ ] , . :`.
    Punctuation(u8),
    /// `;`.
    Semicolon,
    /// An unterminated literal or comment, or a byte that begins no token. Always the last token.
    Broken,
}

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// White space or a comment stands before it.
    pub(super) spaced: bool,
}

impl Token {
    /// The token's bytes.
    pub(super) fn bytes<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// An iterator over the tokens of one text.
#[derive(Debug)]
pub(super) struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    hint: Option<Hint>,
    consistency: Option<Consistency>,
    doubtful: bool,
    run: Run,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0, hint: None, consistency: None, doubtful: false, run: Run::default() }
    }

    /// The routing hint in the comments passed so far. Where they contradict each other the primary wins.
    pub(super) fn hint(&self) -> Option<Hint> {
        self.hint
    }

    /// The promise that the comments passed so far ask for; the first one counts.
    pub(super) fn consistency(&self) -> Option<Consistency> {
        self.consistency
    }

    /// Whether a plain string was passed that ends elsewhere with `standard_conforming_strings = off`: an odd run of
    /// backslashes stands before one of its quotes.
    pub(super) fn doubtful(&self) -> bool {
        self.doubtful
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Moves over bytes of one class.
    #[inline]
    fn skip_while(&mut self, class: impl Fn(u8) -> bool) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| !class(*byte)).unwrap_or(rest.len());
    }

    /// Skips white space and comments. `Err` for an unterminated comment.
    #[inline]
    fn skip_space(&mut self) -> Result<bool, ()> {
        let start = self.at;
        self.skip_while(is_space);
        // Most tokens have no comment before them; the loop is for those that may.
        if matches!(self.peek(0), b'-' | b'/') { self.skip_comments(start) } else { Ok(self.at > start) }
    }

    fn skip_comments(&mut self, start: usize) -> Result<bool, ()> {
        loop {
            match self.peek(0) {
                byte if is_space(byte) => self.at += 1,
                b'-' if self.peek(1) == b'-' => self.skip_line_comment(),
                b'/' if self.peek(1) == b'*' => self.skip_block_comment()?,
                _ => return Ok(self.at > start),
            }
        }
    }

    fn skip_line_comment(&mut self) {
        let body = self.text.get(self.at + 2..).unwrap_or_default();
        let length = body.iter().position(|&b| b == b'\n' || b == b'\r').unwrap_or(body.len());
        self.note_hint(body.get(..length).unwrap_or_default());
        self.at += 2 + length;
    }

    fn skip_block_comment(&mut self) -> Result<(), ()> {
        let start = self.at + 2;
        self.at = start;
        let mut depth = 1_u32;
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'*', b'/') => {
                    self.at += 2;
                    depth -= 1;
                    if depth == 0 {
                        let body = self.text.get(start..self.at - 2).unwrap_or_default();
                        self.note_hint(body);
                        return Ok(());
                    }
                }
                (b'/', b'*') => {
                    self.at += 2;
                    depth += 1;
                }
                _ if self.at >= self.text.len() => return Err(()),
                _ => self.at += 1,
            }
        }
    }

    fn note_hint(&mut self, comment: &[u8]) {
        let comment = comment.trim_ascii();
        let Some(rest) = strip_prefix_ignore_case(comment, b"primacy:") else { return };
        for word in rest.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if word.eq_ignore_ascii_case(b"primary") {
                self.hint = Some(Hint::Primary);
            } else if word.eq_ignore_ascii_case(b"replica") && self.hint.is_none() {
                self.hint = Some(Hint::Replica);
            } else if self.consistency.is_none() {
                self.consistency = Consistency::of_word(word);
            }
        }
    }

    /// Moves behind a quoted body that ends with `quote`, where a doubled quote stands for itself and a backslash
    /// escapes where `escapes`. The scanner stands behind the opening quote. `false`: unterminated.
    fn skip_quoted(&mut self, quote: u8, escapes: bool) -> bool {
        let mut backslashes = 0_usize;
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            if byte == b'\\' {
                backslashes += 1;
                if escapes {
                    self.at += 1;
                }
                continue;
            }
            if byte == quote {
                if quote == b'\'' && !escapes && backslashes % 2 == 1 {
                    self.doubtful = true;
                }
                if self.peek(0) != quote {
                    return true;
                }
                self.at += 1;
            }
            backslashes = 0;
        }
        self.at = self.text.len();
        false
    }

    fn quoted(&mut self, prefix: usize, kind: TokenKind, escapes: bool) -> TokenKind {
        let quote = self.peek(prefix);
        self.at += prefix + 1;
        if self.skip_quoted(quote, escapes) { kind } else { TokenKind::Broken }
    }

    fn word(&mut self, first: u8) -> TokenKind {
        if !matches!(first, b'e' | b'E' | b'b' | b'B' | b'x' | b'X' | b'n' | b'N' | b'u' | b'U') {
            self.skip_while(is_word_byte);
            return TokenKind::Word;
        }
        match (self.peek(0), self.peek(1), self.peek(2)) {
            (b'e' | b'E', b'\'', _) => return self.quoted(1, TokenKind::OtherString, true),
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'', _) => {
                return self.quoted(1, TokenKind::OtherString, false);
            }
            (b'u' | b'U', b'&', b'\'') => return self.quoted(2, TokenKind::OtherString, false),
            (b'u' | b'U', b'&', b'"') => return self.quoted(2, TokenKind::EscapedWord, false),
            _ => {}
        }
        self.skip_while(is_word_byte);
        TokenKind::Word
    }

    /// Digits, with a fraction and an exponent. What PostgreSQL 16 adds (`0x1F`, `1_000`) is cut into a number and a
    /// word, which is what older servers do; nobody here looks at a number's value.
    fn number(&mut self) -> TokenKind {
        let digits = |scanner: &mut Self| scanner.skip_while(|byte| byte.is_ascii_digit());
        digits(self);
        // `1..10` is a number, the operator `..` and a number (PL/pgSQL loops).
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            self.at += 1;
            digits(self);
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit() {
            self.at += 1 + sign;
            digits(self);
        }
        TokenKind::Number
    }

    /// `$1` or a dollar-quoted string.
    fn dollar(&mut self) -> TokenKind {
        if self.peek(1).is_ascii_digit() {
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
            return TokenKind::Parameter;
        }
        let mut length = 1;
        // A tag is an identifier without dollar signs; it does not begin with a digit.
        while is_word_byte(self.peek(length)) && self.peek(length) != b'$' {
            length += 1;
        }
        if self.peek(length) != b'$' {
            return TokenKind::Broken;
        }
        let tag = self.text.get(self.at..=self.at + length).unwrap_or_default();
        self.at += tag.len();
        let body = self.text.get(self.at..).unwrap_or_default();
        if let Some(end) = find(body, tag) {
            self.at += end + tag.len();
            TokenKind::OtherString
        } else {
            TokenKind::Broken
        }
    }

    /// A run of operator characters, cut before a comment; a trailing `+` or `-` belongs to what follows unless the
    /// operator contains a character that no SQL operator has (manual, 4.1.3).
    fn operator(&mut self) -> TokenKind {
        if !self.run.has(self.at) {
            self.run = Run::at(self.text, self.at);
        }
        self.at = self.run.operator(self.at);
        TokenKind::Operator
    }

    #[inline]
    fn token(&mut self, first: u8) -> TokenKind {
        match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => self.word(first),
            b'\'' => self.quoted(0, TokenKind::String, false),
            b'"' => self.quoted(0, TokenKind::QuotedWord, false),
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_ascii_digit() => self.number(),
            b'$' => self.dollar(),
            b';' => {
                self.at += 1;
                TokenKind::Semicolon
            }
            b':' | b'.' if self.peek(1) == first || (first == b':' && self.peek(1) == b'=') => {
                self.at += 2;
                TokenKind::Operator
            }
            b'(' | b')' | b'[' | b']' | b',' | b'.' | b':' => {
                self.at += 1;
                TokenKind::Punctuation(first)
            }
            _ if is_operator_byte(first) => self.operator(),
            _ => TokenKind::Broken,
        }
    }
}

impl Iterator for Scanner<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let before = self.at;
        let spaced = self.skip_space();
        let start = if spaced.is_ok() { self.at } else { before };
        let first = *self.text.get(self.at.min(start))?;
        let kind = if spaced.is_ok() { self.token(first) } else { TokenKind::Broken };
        if kind == TokenKind::Broken {
            self.at = self.text.len();
        }
        Some(Token { kind, start, end: self.at, spaced: spaced == Ok(true) })
    }
}

const WORD: u8 = 1;
const SPACE: u8 = 2;

/// The classes of bytes that most of a text consists of: one look-up instead of a chain of comparisons.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80.. => WORD,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            _ => 0,
        };
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

/// Whether a byte continues an identifier.
#[inline]
pub(super) fn is_word_byte(byte: u8) -> bool {
    CLASSES[usize::from(byte)] == WORD
}

#[inline]
fn is_space(byte: u8) -> bool {
    CLASSES[usize::from(byte)] == SPACE
}

fn strip_prefix_ignore_case<'t>(text: &'t [u8], prefix: &[u8]) -> Option<&'t [u8]> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    loop {
        let rest = text.get(from..)?;
        let at = from + rest.iter().position(|&b| b == first)?;
        if text.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::TokenKind as K;
    use super::*;

    fn cut(text: &str) -> Vec<(K, &str)> {
        Scanner::new(text.as_bytes()).map(|t| (t.kind, &text[t.start..t.end])).collect()
    }

    #[test]
    fn operators_of_one_run_are_cut_as_if_each_were_looked_at_by_itself() {
        const BYTES: [char; 6] = ['+', '-', '<', '@', '/', '*'];
        for number in 0..6_usize.pow(6) {
            let run: String = (0..6).map(|place| BYTES[number / 6_usize.pow(place) % 6]).collect();
            let text = format!("1{run}2");
            for (kind, token) in cut(&text) {
                let at = token.as_ptr().addr() - text.as_ptr().addr();
                let end = Run::at(text.as_bytes(), at).operator(at);
                assert!(kind != K::Operator || end == at + token.len(), "{text}: {token}");
            }
        }
    }

    #[test]
    fn literals_end_where_postgresql_ends_them() {
        assert_eq!(cut("'a''b' 'c'"), [(K::String, "'a''b'"), (K::String, "'c'")]);
        assert_eq!(cut(r"E'a\'b' x"), [(K::OtherString, r"E'a\'b'"), (K::Word, "x")]);
        assert_eq!(cut(r"e'\\' x"), [(K::OtherString, r"e'\\'"), (K::Word, "x")]);
        assert_eq!(cut("$$ ; ' $$;"), [(K::OtherString, "$$ ; ' $$"), (K::Semicolon, ";")]);
        assert_eq!(cut("$a$ $b$ $a$ $1"), [(K::OtherString, "$a$ $b$ $a$"), (K::Parameter, "$1")]);
        assert_eq!(cut("a$b$c"), [(K::Word, "a$b$c")]);
        assert_eq!(
            cut("U&'d\\0061' U&\"x\""),
            [(K::OtherString, "U&'d\\0061'"), (K::EscapedWord, "U&\"x\"")]
        );
        assert_eq!(cut("abc'x'"), [(K::Word, "abc"), (K::String, "'x'")]);
        assert_eq!(cut("\"a\"\"b\""), [(K::QuotedWord, "\"a\"\"b\"")]);
        assert_eq!(cut("'open"), [(K::Broken, "'open")]);
        assert_eq!(cut("1 /* open"), [(K::Number, "1"), (K::Broken, " /* open")]);
    }

    #[test]
    fn comments_nest_and_end_lines() {
        assert_eq!(
            cut("a /* x /* y */ ' */ b -- c ' \n d"),
            [(K::Word, "a"), (K::Word, "b"), (K::Word, "d")]
        );
        assert_eq!(cut("a+--x\nb"), [(K::Word, "a"), (K::Operator, "+"), (K::Word, "b")]);
        assert_eq!(cut("a*/*x*/b"), [(K::Word, "a"), (K::Operator, "*"), (K::Word, "b")]);
        assert_eq!(cut("--only"), []);
    }

    #[test]
    fn numbers_and_operators_are_cut_as_the_manual_says() {
        let numbers = ["1", "1.5", ".5", "1.", "1e10", "1.5E-3", "007"];
        for number in numbers {
            assert_eq!(cut(number), [(K::Number, number)]);
        }
        assert_eq!(cut("1..2"), [(K::Number, "1"), (K::Operator, ".."), (K::Number, "2")]);
        assert_eq!(cut("a=-1"), [(K::Word, "a"), (K::Operator, "="), (K::Operator, "-"), (K::Number, "1")]);
        assert_eq!(cut("a@-1"), [(K::Word, "a"), (K::Operator, "@-"), (K::Number, "1")]);
        assert_eq!(cut("a::int"), [(K::Word, "a"), (K::Operator, "::"), (K::Word, "int")]);
        assert_eq!(cut("a->>'b'"), [(K::Word, "a"), (K::Operator, "->>"), (K::String, "'b'")]);
    }

    #[test]
    fn hints_are_read_from_comments_only() {
        let hint = |text: &str| {
            let mut scanner = Scanner::new(text.as_bytes());
            scanner.by_ref().for_each(drop);
            scanner.hint()
        };
        assert_eq!(hint("/* primacy: primary */ SELECT 1"), Some(Hint::Primary));
        assert_eq!(hint("SELECT 1 -- PRIMACY:replica"), Some(Hint::Replica));
        assert_eq!(hint("SELECT 1 /*primacy: replica*/ /*primacy: primary*/"), Some(Hint::Primary));
        assert_eq!(hint("SELECT '/* primacy: primary */'"), None);
        assert_eq!(hint("SELECT $$-- primacy: primary\n$$"), None);
        assert_eq!(hint("SELECT \"--primacy: primary\""), None);
        assert_eq!(hint("/* not primacy: primary */ SELECT 1"), None);
        assert_eq!(hint("/* primacy: eventual, replica */ SELECT 1"), Some(Hint::Replica));
        let consistency = |text: &str| {
            let mut scanner = Scanner::new(text.as_bytes());
            scanner.by_ref().for_each(drop);
            scanner.consistency()
        };
        assert_eq!(consistency("/* primacy: replica, Eventual */ SELECT 1"), Some(Consistency::Eventual));
        assert_eq!(consistency("SELECT 1 -- primacy: global"), Some(Consistency::Global));
        assert_eq!(consistency("SELECT 1 /* primacy: fresh */"), None);
    }

    #[test]
    fn strings_that_two_settings_read_differently_are_doubtful() {
        let doubtful = |text: &str| {
            let mut scanner = Scanner::new(text.as_bytes());
            scanner.by_ref().for_each(drop);
            scanner.doubtful()
        };
        assert!(doubtful(r"SELECT 'a\'"));
        assert!(doubtful(r"SELECT 'a\'' FROM b'"));
        assert!(doubtful(r"SELECT 'a\\\'"));
        assert!(!doubtful(r"SELECT 'a\\'"));
        assert!(!doubtful(r"SELECT 'a\b', E'a\'', $$\'$$"));
    }
}
