//! TOML text -> the document as written, or every key that cannot be read, each with its line and column.
//!
//! serde stops at the first mistake. So the entry that it complains about is noted, cut out of the parsed tree and the
//! rest is read again, until nothing is left to complain about: each round removes an entry, which bounds them.

use std::collections::HashMap;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::problem::{Position, Problem};

/// Where every key stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(HashMap<String, Position>);

impl Places {
    /// Where a key stands; where it is absent, its table; `None` where that is absent too.
    pub(super) fn of(&self, key: &str) -> Option<Position> {
        let mut key = key;
        loop {
            if let Some(position) = self.0.get(key) {
                return Some(*position);
            }
            key = &key[..key.rfind(['.', '['])?];
        }
    }
}

/// Reads a file's text. The document holds what could be read, even where there are problems.
pub(super) fn read<D: DeserializeOwned + Default>(text: &str) -> (D, Places, Vec<Problem>) {
    let mut tree = match DeTable::parse(text) {
        Ok(tree) => tree,
        Err(error) => return (D::default(), Places::default(), vec![syntax_problem(text, &error)]),
    };
    let entries = entries_of(tree.get_ref());
    let places = entries.iter().map(|e| (e.path.clone(), position(text, e.key.start))).collect();
    let mut problems = Vec::new();
    for _ in 0..=entries.len() {
        let error = match D::deserialize(Deserializer::from(tree.clone())) {
            Ok(document) => return (document, Places(places), problems),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let Some(entry) = culprit(&entries, &span) else {
            problems.push(Problem { position: Some(position(text, span.start)), ..plain(error.message()) });
            break;
        };
        problems.push(entry_problem(text, entry, error.message()));
        remove(tree.get_mut(), &entry.key);
    }
    (D::default(), Places(places), problems)
}

/// One key of the file.
struct Entry {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

fn entries_of(table: &DeTable<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    collect(table, "", &mut entries);
    entries
}

fn collect(table: &DeTable<'_>, prefix: &str, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let dot = if prefix.is_empty() { "" } else { "." };
        let path = format!("{prefix}{dot}{}", key.get_ref());
        entries.push(Entry { path: path.clone(), key: key.span(), value: value.span() });
        match value.get_ref() {
            DeValue::Table(inner) => collect(inner, &path, entries),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    entries.push(Entry { path: path.clone(), key: item.span(), value: item.span() });
                    if let DeValue::Table(inner) = item.get_ref() {
                        collect(inner, &path, entries);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The entry that a complaint is about: the one whose key or value is exactly there, else the innermost around it.
fn culprit<'e>(entries: &'e [Entry], span: &Range<usize>) -> Option<&'e Entry> {
    let exact = entries.iter().rev().find(|e| e.key == *span || e.value == *span);
    let around = |range: &Range<usize>| range.start <= span.start && span.end <= range.end;
    exact.or_else(|| {
        let inside = entries.iter().filter(|e| around(&e.key) || around(&e.value));
        inside.min_by_key(|e| if around(&e.value) { e.value.len() } else { e.key.len() })
    })
}

/// Takes the entry with that key out, wherever it is.
fn remove(table: &mut DeTable<'_>, key: &Range<usize>) {
    if let Some(name) = table.keys().find(|name| name.span() == *key).cloned() {
        table.remove(&name);
    }
    for (_, value) in table.iter_mut() {
        match value.get_mut() {
            DeValue::Table(inner) => remove(inner, key),
            DeValue::Array(items) => remove_in(items, key),
            _ => {}
        }
    }
}

fn remove_in(items: &mut toml::de::DeArray<'_>, key: &Range<usize>) {
    // An item that is itself the culprit becomes an empty table: removing it would renumber its neighbours.
    for item in items.iter_mut() {
        if item.span() == *key {
            let span = item.span();
            *item = Spanned::new(span, DeValue::Table(DeTable::new()));
        } else if let DeValue::Table(inner) = item.get_mut() {
            remove(inner, key);
        }
    }
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let position = error.span().map(|span| position(text, span.start));
    let message = error.message().replace('\n', ", ");
    Problem {
        position,
        hint: Some("this is not TOML: strings stand in double quotes, tables in [brackets]".into()),
        ..plain(&message)
    }
}

/// Whether nothing of the file could be read, so that what is missing in it says nothing.
pub(super) fn is_unread(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.key.is_empty())
}

/// A problem with a message alone.
fn plain(message: &str) -> Problem {
    Problem {
        key: String::new(),
        position: None,
        found: message.to_owned(),
        allowed: String::new(),
        hint: None,
    }
}

fn entry_problem(text: &str, entry: &Entry, message: &str) -> Problem {
    let at = Some(position(text, entry.key.start));
    if message.starts_with("unknown field") {
        let known = quoted(message.split_once("expected").map_or("", |(_, rest)| rest));
        let name = entry.path.rsplit('.').next().unwrap_or_default();
        return Problem {
            key: entry.path.clone(),
            position: at,
            found: "unknown key".into(),
            allowed: String::new(),
            hint: Some(nearest(name, &known).map_or_else(
                || format!("known here: {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            )),
        };
    }
    let allowed = message.split_once("expected ").map_or(message, |(_, allowed)| allowed);
    Problem {
        key: entry.path.clone(),
        position: at,
        found: format!("found {}", found(text, entry)),
        allowed: in_words(allowed),
        hint: None,
    }
}

/// What stands at the entry, shortened; nothing of what may be a secret.
fn found(text: &str, entry: &Entry) -> String {
    let name = entry.path.rsplit('.').next().unwrap_or_default();
    if ["password", "token", "url"].contains(&name) {
        return "another kind of value (not shown)".into();
    }
    let value = text.get(entry.value.clone()).unwrap_or_default();
    let line = value.lines().next().unwrap_or_default();
    if line.chars().count() > 60 {
        format!("{}...", line.chars().take(60).collect::<String>())
    } else {
        line.into()
    }
}

/// serde's names of types, for people.
fn in_words(allowed: &str) -> String {
    match allowed {
        "i64" => "a whole number".into(),
        "a boolean" => "true or false".into(),
        "path string" => "a string".into(),
        other if other.starts_with("struct") => "a table".into(),
        other => other.into(),
    }
}

/// The words in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The known word nearest to `word`, if one is near.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let scored = known.iter().map(|k| (strsim::damerau_levenshtein(word, k), *k));
    let (distance, near) = scored.min()?;
    // A typing mistake; or one is the tail or the head of the other (`size` for `pool_size`, `idle_timeout` for
    // `client_idle_timeout`); or a third of the letters are wrong.
    let part = |k: &&&str| word.len() >= 4 && (k.contains(word) || word.contains(**k));
    if distance <= 1 {
        return Some(near);
    }
    let close = distance <= near.len().max(word.len()).div_ceil(3);
    known.iter().find(part).copied().or(close.then_some(near))
}

/// Byte offset -> line and column, counted in characters from one.
fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    Position { line, column }
}

#[cfg(test)]
mod tests {
    use super::super::written::Document;
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read::<Document>(text).2.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_unreadable_key_is_reported_with_its_place() {
        let text = "lissen = '127.0.0.1:6432'\nworkers = 'two'\n[pool]\nserver_lifetime = 30\n\
                    default_poolsize = 3\n[limits]\nidle_timeout = '5s'\n[[nodes]]\nname = 'a'\n[[nodes]]\nprot = 5432\nweight = true\n";
        let all = problems(text);
        let wanted = [
            "line 1, column 1: lissen: unknown key (did you mean `listen`?)",
            "line 2, column 1: workers: found 'two'; allowed: a whole number",
            "line 4, column 1: pool.server_lifetime: found 30; allowed: a duration with its unit",
            "line 5, column 1: pool.default_poolsize: unknown key (did you mean `default_pool_size`?)",
            "line 7, column 1: limits.idle_timeout: unknown key (did you mean `client_idle_timeout`?)",
            "line 11, column 1: nodes[1].prot: unknown key (did you mean `port`?)",
            "line 12, column 1: nodes[1].weight: found true; allowed: a whole number",
        ];
        assert_eq!(all.len(), wanted.len(), "{all:#?}");
        for want in wanted {
            assert!(all.iter().any(|p| p.starts_with(want)), "{want} is missing in {all:#?}");
        }
    }

    #[test]
    fn what_can_be_read_is_read_beside_the_problems() {
        let (document, places, problems) = read::<Document>("nope = 1\n[pool]\ndefault_pool_size = 7\n");
        assert_eq!(problems.len(), 1);
        assert_eq!(document.pool.default_pool_size, Some(7));
        assert_eq!(places.of("pool.default_pool_size"), Some(Position { line: 3, column: 1 }));
        assert_eq!(places.of("pool.min_pool_size").map(|p| p.line), Some(2));
    }

    #[test]
    fn a_wrong_secret_is_not_shown() {
        let all = problems("[service]\npassword = 1234567\n[admin]\ntoken = ['hush']\n");
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all.iter().all(|p| !p.contains("1234567") && !p.contains("hush")), "{all:?}");
    }

    #[test]
    fn broken_toml_names_its_line() {
        let all = problems("listen = \"127.0.0.1:6432\n");
        assert_eq!(all.len(), 1);
        assert!(all[0].starts_with("line 1, column"), "{all:?}");
    }

    #[test]
    fn a_list_item_of_the_wrong_kind_is_named() {
        let all = problems("listen = [1, 2]\nnodes = [1]\n");
        assert!(
            all.iter().any(|p| p.contains("listen") && p.contains("a string or a list of strings")),
            "{all:?}"
        );
        assert!(all.iter().any(|p| p.contains("nodes[0]") && p.contains("a table")), "{all:?}");
    }
}
