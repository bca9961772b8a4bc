//! The fingerprint of a text: itself without comments, with one space where there was white space and with its
//! literals made equal. Two texts of one fingerprint differ in literals, comments and spacing only.
//!
//! The whole fingerprint is kept as the cache's key and compared on a hit, so a collision of hashes cannot lend one
//! text the verdict of another. A verdict that depends on a literal is not kept under the fingerprint at all.

use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::scan::{Scanner, Token, TokenKind, is_word_byte};
use super::verdict::Hint;
use crate::model::Consistency;

/// A fingerprint, in a buffer that is used again for the next text.
#[derive(Debug, Default)]
pub(super) struct Fingerprint {
    buffer: Vec<u8>,
    /// At least one literal was made equal to others.
    pub(super) literals: bool,
    /// The text has to be treated as itself: its literals may mean more than values.
    pub(super) exact: bool,
}

impl Fingerprint {
    /// Computes the fingerprint of `text` in place.
    pub(super) fn compute(&mut self, text: &[u8]) {
        self.buffer.clear();
        self.buffer.reserve(text.len() + 1);
        self.literals = false;
        self.exact = false;
        // The first two bytes are the hints: comments are left out, but a hint in them changes the verdict.
        self.buffer.extend_from_slice(b"--");
        let mut scanner = Scanner::new(text);
        let mut list = List::default();
        let mut before = TokenKind::Semicolon;
        let mut run = Run::default();
        for token in scanner.by_ref() {
            let skip = list.step(token, text);
            if !skip && !run.takes(token, text) {
                self.copy(run, text);
                run = self.push(token, before);
            }
            before = token.kind;
        }
        self.copy(run, text);
        self.exact |= scanner.doubtful();
        if let [place, promise, ..] = self.buffer.as_mut_slice() {
            *place = match scanner.hint() {
                None => b'-',
                Some(Hint::Primary) => b'p',
                Some(Hint::Replica) => b'r',
            };
            *promise = match scanner.consistency() {
                None => b'-',
                Some(Consistency::Session) => b's',
                Some(Consistency::Strict) => b't',
                Some(Consistency::Global) => b'g',
                Some(Consistency::Eventual) => b'e',
            };
        }
    }

    /// The fingerprint's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    fn copy(&mut self, run: Run, text: &[u8]) {
        self.buffer.extend_from_slice(text.get(run.start..run.end).unwrap_or_default());
    }

    /// Writes what stands for a token that cannot be copied with what is before it, and begins the run behind or with it.
    fn push(&mut self, token: Token, before: TokenKind) -> Run {
        if token.spaced {
            self.buffer.push(b' ');
        }
        match token.kind {
            TokenKind::String => {
                // Adjacent strings are one literal or an error, depending on the white space between them.
                self.exact |= matches!(before, TokenKind::String | TokenKind::OtherString);
                self.literals = true;
                self.buffer.extend_from_slice(b"''");
            }
            TokenKind::Number => {
                self.literals = true;
                // `a.5` is a word and a number; it must not look like the word `a0`.
                if self.buffer.last().is_some_and(|byte| is_word_byte(*byte)) {
                    self.buffer.push(1);
                }
                self.buffer.push(b'0');
            }
            TokenKind::Parameter => self.buffer.push(b'$'),
            TokenKind::Broken => {
                self.exact = true;
                return Run { start: token.start, end: token.end };
            }
            _ => return Run { start: token.start, end: token.end },
        }
        Run { start: token.end, end: token.end }
    }
}

/// A part of the text that goes into the fingerprint as it stands: tokens are copied together, not one by one.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    start: usize,
    end: usize,
}

impl Run {
    /// Takes the token in, if it stands for itself and follows with one space or nothing between.
    #[inline]
    fn takes(&mut self, token: Token, text: &[u8]) -> bool {
        let follows = match token.start - self.end {
            0 => true,
            1 => token.spaced && text.get(self.end) == Some(&b' '),
            _ => false,
        };
        let itself = !matches!(
            token.kind,
            TokenKind::String | TokenKind::Number | TokenKind::Parameter | TokenKind::Broken
        );
        if follows && itself {
            self.end = token.end;
        }
        follows && itself
    }
}

/// The hash of a key that belongs to one state of one catalog.
pub(super) fn hash(key: &[u8], catalog: (u64, u64)) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(catalog.0);
    hasher.write_u64(catalog.1);
    hasher.write(key);
    hasher.finish()
}

/// Follows lists of literals (`IN (1, 2, 3)`, `ARRAY[1, 2, 3]`), of which only the first member is kept: drivers
/// and ORMs send them in every length.
#[derive(Debug, Default)]
struct List {
    state: ListState,
}

#[derive(Debug, Default, Clone, Copy)]
enum ListState {
    #[default]
    Outside,
    /// Behind IN or ARRAY.
    Keyword,
    /// Behind the bracket, or a comma that was kept.
    Open,
    /// Behind the first member, of this kind.
    Member(TokenKind),
    /// Behind a comma that is left out together with a member of this kind.
    Comma(TokenKind),
}

impl List {
    /// Whether the token is left out of the fingerprint.
    #[inline]
    fn step(&mut self, token: Token, text: &[u8]) -> bool {
        let literal = matches!(token.kind, TokenKind::String | TokenKind::Number | TokenKind::Parameter);
        let (next, skip) = match (self.state, token.kind) {
            (_, TokenKind::Word) if is_list_word(token.bytes(text)) => (ListState::Keyword, false),
            (ListState::Keyword, TokenKind::Punctuation(b'(' | b'[')) => (ListState::Open, false),
            (ListState::Open, kind) if literal => (ListState::Member(kind), false),
            (ListState::Member(kind), TokenKind::Punctuation(b',')) => (ListState::Comma(kind), true),
            (ListState::Comma(kind), now) if kind == now => (ListState::Member(kind), true),
            _ => (ListState::Outside, false),
        };
        self.state = next;
        skip
    }
}

fn is_list_word(word: &[u8]) -> bool {
    match word.len() {
        2 => word.eq_ignore_ascii_case(b"in"),
        5 => word.eq_ignore_ascii_case(b"array"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(text: &str) -> String {
        let mut fingerprint = Fingerprint::default();
        fingerprint.compute(text.as_bytes());
        String::from_utf8_lossy(fingerprint.bytes()).into_owned()
    }

    #[test]
    fn literals_comments_and_spacing_do_not_matter() {
        assert_eq!(print("SELECT  1,'a' -- x"), print("SELECT\n22,'it''s'"));
        assert_eq!(print("SELECT /* a */ 1"), print("SELECT 1"));
        assert_eq!(print("/* a */ SELECT 1"), print("/* trace=42 */SELECT 2"));
        assert_eq!(print("SELECT * FROM t WHERE id = $1"), print("SELECT * FROM t WHERE id = $2"));
    }

    #[test]
    fn what_is_not_a_value_matters() {
        for (a, b) in [
            ("SELECT a", "SELECT b"),
            ("SELECT \"a\"", "SELECT \"A\""),
            ("SELECT 1", "SELECT '1'"),
            ("SELECT 'a'", "SELECT E'a'"),
            ("SELECT $$a$$", "SELECT $$b$$"),
            ("/* primacy: primary */ SELECT 1", "SELECT 1"),
            ("/* primacy: primary */ SELECT 1", "/* primacy: replica */ SELECT 1"),
            ("SELECT f(1)", "SELECT f(1, 2)"),
            ("SELECT a -1", "SELECT a - 1"),
            ("SELECT a.5", "SELECT a0"),
        ] {
            assert_ne!(print(a), print(b), "{a} / {b}");
        }
    }

    #[test]
    fn lists_of_literals_have_one_length() {
        assert_eq!(print("x IN (1, 2, 3)"), print("x IN (1)"));
        assert_eq!(print("x in ('a','b') AND y"), print("x in ('c') AND y"));
        assert_eq!(print("x IN ($1, $2)"), print("x IN ($1)"));
        assert_eq!(print("ARRAY[1,2]"), print("ARRAY[1]"));
        assert_ne!(print("x IN (1, f(2))"), print("x IN (1)"));
        assert_ne!(print("x IN (1, 'a')"), print("x IN (1)"));
        assert_ne!(print("x IN (1, 2 + a)"), print("x IN (1, 3)"));
    }
}
