//! libpq connection strings (PostgreSQL manual, 34.1.1): read, changed, written with the right quotes.
//!
//! A replica's `primary_conninfo` is one of them. primacy changes whom it names and leaves the rest (a password file,
//! certificates) as its owner wrote it.

use std::fmt;

use crate::model::Secret;

/// Keyword and value pairs, in order. `Debug` shows no values: one of them is a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Conninfo {
    pairs: Vec<(String, Secret)>,
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(keyword, _)| keyword)).finish()
    }
}

/// The text is no connection string of keyword and value pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a connection string of the form keyword=value")]
pub struct ParseConninfoError;

impl Conninfo {
    /// Reads `keyword = value` pairs. The URI form is refused.
    pub fn parse(text: &str) -> Result<Self, ParseConninfoError> {
        let mut conninfo = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (keyword, after) = rest.split_once('=').ok_or(ParseConninfoError)?;
            let keyword = keyword.trim_end();
            if keyword.is_empty() || !keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(ParseConninfoError);
            }
            let (value, after) = value(after.trim_start())?;
            conninfo.set(keyword, value);
            rest = after.trim_start();
        }
        Ok(conninfo)
    }

    /// The value of a keyword, where it is given.
    pub fn value(&self, keyword: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == keyword).map(|(_, value)| value.reveal())
    }

    /// Sets a keyword, in its old place where it has one.
    pub fn set(&mut self, keyword: &str, value: impl Into<String>) -> &mut Self {
        let value = Secret::new(value);
        match self.pairs.iter_mut().find(|(k, _)| k == keyword) {
            Some(pair) => pair.1 = value,
            None => self.pairs.push((keyword.to_owned(), value)),
        }
        self
    }

    /// Takes a keyword out.
    pub fn remove(&mut self, keyword: &str) -> &mut Self {
        self.pairs.retain(|(k, _)| k != keyword);
        self
    }

    /// The connection string.
    pub fn text(&self) -> Secret {
        let mut text = String::new();
        for (keyword, value) in &self.pairs {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(keyword);
            text.push_str("='");
            for letter in value.reveal().chars() {
                if matches!(letter, '\'' | '\\') {
                    text.push('\\');
                }
                text.push(letter);
            }
            text.push('\'');
        }
        Secret::new(text)
    }
}

/// The value at the beginning of `text`, and what follows it.
fn value(text: &str) -> Result<(String, &str), ParseConninfoError> {
    let mut value = String::new();
    let quoted = text.starts_with('\'');
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            _ if !quoted && letter.is_whitespace() => return Ok((value, &text[at..])),
            _ => value.push(letter),
        }
    }
    if quoted { Err(ParseConninfoError) } else { Ok((value, "")) }
}

/// A text as an SQL literal (`standard_conforming_strings` is on in all of primacy's sessions).
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_libpq_reads() {
        let conninfo =
            Conninfo::parse(r"host = a  port=5432 password='it\'s \\ here' options= user=b\ c").unwrap();
        assert_eq!(conninfo.value("host"), Some("a"));
        assert_eq!(conninfo.value("password"), Some(r"it's \ here"));
        // An empty unquoted value swallows the next word in libpq, too.
        assert_eq!(conninfo.value("options"), Some("user=b c"));
        assert_eq!(conninfo.value("user"), None);
    }

    #[test]
    fn refuses_what_is_no_pair() {
        for text in ["host", "=a", "host='a", "postgres://a/b?x=y", "ho st=a"] {
            assert_eq!(Conninfo::parse(text), Err(ParseConninfoError), "{text}");
        }
        assert_eq!(Conninfo::parse("  "), Ok(Conninfo::default()));
    }

    #[test]
    fn reads_what_it_writes() {
        for password in ["", "plain", "with space", "it's", r"back\slash", r"\'", "ünï", "a=b 'c'"] {
            let mut conninfo = Conninfo::default();
            conninfo.set("host", "h").set("password", password).set("port", "1");
            assert_eq!(Conninfo::parse(conninfo.text().reveal()), Ok(conninfo), "{password}");
        }
    }

    #[test]
    fn changes_in_place_and_shows_no_value() {
        let mut conninfo = Conninfo::parse("host=a password=hidden passfile=/x").unwrap();
        conninfo.set("host", "b").remove("password");
        assert_eq!(conninfo.text().reveal(), "host='b' passfile='/x'");
        let conninfo = Conninfo::parse("password=hidden").unwrap();
        assert!(!format!("{conninfo:?} {:?}", conninfo.text()).contains("hidden"));
    }

    #[test]
    fn literals_double_their_quotes() {
        assert_eq!(literal(r"it's \ fine"), r"'it''s \ fine'");
    }
}
