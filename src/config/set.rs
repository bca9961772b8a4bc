//! A file's settings with some of them changed by hand, for as long as the process runs.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::{ConfigProblems, Item, Settings, describe, from_nodes, load, parse, read_text};

/// What the settings are where configuration says nothing, as far as that can be said without a file.
pub fn defaults() -> Vec<Item> {
    from_nodes(&["postgres://localhost".to_owned()]).map(|settings| describe(&settings)).unwrap_or_default()
}

/// Reads a file, and reads it as if it said these things. A number where a duration is meant counts seconds, as in
/// PgBouncer.
pub fn load_with(file: &Path, changes: &BTreeMap<String, String>) -> Result<Settings, ConfigProblems> {
    let Some(table) = read_text(file).ok().and_then(|text| text.parse::<Table>().ok()) else {
        // Says what is wrong with it.
        return load(file);
    };
    let mut changed = table.clone();
    let mut in_seconds = table;
    for (key, value) in changes {
        set(&mut changed, key, literal(value));
        set(&mut in_seconds, key, seconds(value));
    }
    let text = |table: &Table| toml::to_string(table).unwrap_or_default();
    parse(&text(&changed), file)
        .or_else(|problems| parse(&text(&in_seconds), file).map_err(|_as_seconds| problems))
}

/// What was typed, as TOML has it: a number, a truth value, or a text.
fn literal(text: &str) -> Value {
    let parsed = format!("x = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("x"));
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn seconds(text: &str) -> Value {
    if text.parse::<u64>().is_ok() { Value::String(format!("{text}s")) } else { literal(text) }
}

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Some(inner) = inner.as_table_mut() {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_changed_by_hand_counts_and_the_rest_stays() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(
            file.path(),
            "[[nodes]]\nhost = 'a'\n[service]\nuser = 'u'\n[pool]\nmin_pool_size = 2\n",
        )
        .expect("written");
        let with = |key: &str, value: &str| {
            load_with(file.path(), &BTreeMap::from([(key.to_owned(), value.to_owned())]))
        };
        let settings = with("pool.default_pool_size", "7").expect("valid");
        assert_eq!((settings.proxy.pool.size_max, settings.proxy.pool.idle_min), (7, 2));
        assert_eq!(
            with("pool.server_lifetime", "90").expect("valid").proxy.pool.lifetime,
            Duration::from_secs(90)
        );
        assert_eq!(with("log.level", "debug").expect("valid").observe.level, "debug");
        assert!(with("pool.default_pool_size", "many").is_err());
        assert!(with("pool.no_such_key", "1").is_err());
    }
}
