//! Whether a read shows what belongs to the transaction that it runs in: the time of its start. Such a value would be
//! another one after the transaction has gone on on another server.
//!
//! Like `calls` it looks at tokens, so that it misses nothing that the parser reads differently. What cannot be looked
//! into (functions, views and row security of users) counts as showing it.

use super::catalog::Catalog;
use super::scan::TokenKind;
use super::words::{Words, name_of};

/// What the grammar knows without brackets. All are reserved words, so no column has such a name without quotes.
const KEYWORDS: [&str; 5] =
    ["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"];

/// Literals that are read as a moment (PostgreSQL manual, 8.5.1.4), in texts and in parameters.
const LITERALS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// Whether the statement shows it.
pub(super) fn is_shown(words: Words<'_>, catalog: &Catalog) -> bool {
    words.tokens.iter().enumerate().any(|(at, token)| {
        let Some(name) = name_of(*token, words.text) else { return false };
        if words.tokens.get(at + 1).is_some_and(|next| next.kind == TokenKind::Punctuation(b'(')) {
            catalog.function_of_moment(&name)
        } else {
            (token.kind == TokenKind::Word && KEYWORDS.contains(&name.as_str()))
                || catalog.relation_of_moment(&name)
        }
    })
}

/// Whether one of the literals stands in these bytes as a word of its own, whatever it means there.
pub fn is_spelled(bytes: &[u8]) -> bool {
    let inner = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    LITERALS.iter().any(|literal| {
        let mut found = bytes.windows(literal.len()).enumerate();
        found.any(|(at, window)| {
            window.eq_ignore_ascii_case(literal)
                && !inner(at.checked_sub(1))
                && !inner(Some(at + literal.len()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::is_spelled;

    #[test]
    fn a_moment_is_a_word_of_its_own() {
        for text in ["SELECT 'now'", "timestamp 'Today 12:00'", "yesterday", "\0\0\0\x03now"] {
            assert!(is_spelled(text.as_bytes()), "{text:?}");
        }
        for text in ["SELECT known, snow FROM nowhere", "now_at", "", "to", "todays"] {
            assert!(!is_spelled(text.as_bytes()), "{text:?}");
        }
    }
}
