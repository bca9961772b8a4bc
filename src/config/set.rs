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
    let mut changed = table;
    for (key, value) in changes {
        set(&mut changed, key, literal(value));
        let refused = |problems: ConfigProblems| problems.problems.iter().any(|problem| problem.key == *key);
        if value.parse::<u64>().is_ok() && as_written(&changed, file).is_err_and(refused) {
            let mut in_seconds = changed.clone();
            set(&mut in_seconds, key, Value::String(format!("{value}s")));
            if as_written(&in_seconds, file).is_ok() {
                changed = in_seconds;
            }
        }
    }
    as_written(&changed, file)
}

fn as_written(table: &Table, file: &Path) -> Result<Settings, ConfigProblems> {
    parse(&toml::to_string(table).unwrap_or_default(), file)
}

/// What was typed, as TOML has it: a number, a truth value, or a text.
fn literal(text: &str) -> Value {
    let parsed = format!("x = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("x"));
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
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
        let both = BTreeMap::from([
            ("pool.default_pool_size".to_owned(), "7".to_owned()),
            ("pool.server_idle_timeout".to_owned(), "5".to_owned()),
        ]);
        let pool = load_with(file.path(), &both).expect("valid").proxy.pool;
        assert_eq!((pool.size_max, pool.idle_timeout), (7, Duration::from_secs(5)));
        assert!(with("pool.default_pool_size", "many").is_err());
        assert!(with("pool.no_such_key", "1").is_err());
    }
}
