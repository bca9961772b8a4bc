//! A cursor over the tokens of one statement, for the recognisers of utility statements.

use super::scan::{Token, TokenKind, is_word_byte};

/// The tokens of one statement and a place among them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'t> {
    pub(super) text: &'t [u8],
    pub(super) tokens: &'t [Token],
    at: usize,
}

impl<'t> Words<'t> {
    pub(super) fn new(text: &'t [u8], tokens: &'t [Token]) -> Self {
        Self { text, tokens, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    pub(super) fn advance(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// What has not been passed yet.
    pub(super) fn rest(&self) -> Self {
        Self { text: self.text, tokens: self.tokens.get(self.at..).unwrap_or_default(), at: 0 }
    }

    /// The keyword (an unquoted word) here, if one stands here.
    pub(super) fn keyword(&self) -> Option<&'t [u8]> {
        self.peek().filter(|token| token.kind == TokenKind::Word).map(|token| token.bytes(self.text))
    }

    /// Whether this keyword stands here; letters' case does not matter.
    pub(super) fn sees(&self, word: &str) -> bool {
        self.keyword().is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    }

    pub(super) fn sees_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.sees(word))
    }

    /// Passes this keyword if it stands here.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        let found = self.sees(word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn eat_any(&mut self, words: &[&str]) -> bool {
        let found = self.sees_any(words);
        self.at += usize::from(found);
        found
    }

    /// Passes all of these keywords, or none.
    pub(super) fn eat_all(&mut self, words: &[&str]) -> bool {
        let mut ahead = *self;
        let found = words.iter().all(|word| ahead.eat(word));
        if found {
            *self = ahead;
        }
        found
    }

    pub(super) fn eat_punctuation(&mut self, byte: u8) -> bool {
        let found = self.peek().is_some_and(|token| token.kind == TokenKind::Punctuation(byte));
        self.at += usize::from(found);
        found
    }

    pub(super) fn eat_operator(&mut self, operator: &str) -> bool {
        let found = self.peek().is_some_and(|token| {
            token.kind == TokenKind::Operator && token.bytes(self.text) == operator.as_bytes()
        });
        self.at += usize::from(found);
        found
    }

    /// An identifier, folded as PostgreSQL folds it.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = name_of(self.peek()?, self.text)?;
        self.at += 1;
        Some(name)
    }

    /// A name with up to two qualifiers, the last part last.
    pub(super) fn qualified_name(&mut self) -> Option<Vec<String>> {
        let mut parts = vec![self.name()?];
        while parts.len() < 3 && self.eat_punctuation(b'.') {
            parts.push(self.name()?);
        }
        Some(parts)
    }

    /// The text from the first token to the last; `None` where it is not UTF-8.
    pub(super) fn source(&self) -> Option<&'t str> {
        let (first, last) = (self.tokens.first()?, self.tokens.last()?);
        std::str::from_utf8(self.text.get(first.start..last.end)?).ok()
    }

    /// Whether an unquoted word of this spelling stands anywhere.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.spelled(word).next().is_some()
    }

    /// How often an unquoted word of this spelling stands anywhere.
    pub(super) fn count(&self, word: &str) -> usize {
        self.spelled(word).count()
    }

    fn spelled(&self, word: &str) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(move |token| {
            token.kind == TokenKind::Word && token.bytes(self.text).eq_ignore_ascii_case(word.as_bytes())
        })
    }

    /// Whether this name stands anywhere, quoted or not.
    pub(super) fn mentions_name(&self, name: &str) -> bool {
        self.tokens.iter().any(|token| name_of(*token, self.text).is_some_and(|found| found == name))
    }
}

/// Every word of a text, wherever it stands: in names, in strings, in comments.
pub fn all_words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| !is_word_byte(byte)).filter(|word| !word.is_empty())
}

/// The name that a token spells: lower case without quotes, as it stands within quotes; cut as PostgreSQL cuts it.
pub(super) fn name_of(token: Token, text: &[u8]) -> Option<String> {
    let bytes = token.bytes(text);
    let mut name = match token.kind {
        TokenKind::Word => String::from_utf8_lossy(bytes).to_ascii_lowercase(),
        TokenKind::QuotedWord => {
            let inner = bytes.get(1..bytes.len().checked_sub(1)?)?;
            String::from_utf8_lossy(inner).replace("\"\"", "\"")
        }
        _ => return None,
    };
    cut_name(&mut name);
    Some(name)
}

/// Longer identifiers are cut, silently: the cut name may be that of something else than it seems (manual, 4.1.1).
pub(super) fn cut_name(name: &mut String) {
    const NAME_BYTES_MAX: usize = 63;
    if name.len() > NAME_BYTES_MAX {
        let end = (0..=NAME_BYTES_MAX).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        name.truncate(end);
    }
}

/// The value of a plain string token, `None` for every other token.
pub(super) fn string_value(token: Token, text: &[u8]) -> Option<String> {
    if token.kind != TokenKind::String {
        return None;
    }
    let bytes = token.bytes(text);
    let inner = std::str::from_utf8(bytes.get(1..bytes.len().checked_sub(1)?)?).ok()?;
    Some(inner.replace("''", "'"))
}
