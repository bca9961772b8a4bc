//! Another pooler's configuration -> one of primacy's, and a report of what has no counterpart. Pure: text in, text out.

mod pgbouncer;
mod pgpool;

pub use pgbouncer::from_pgbouncer;
pub use pgpool::from_pgpool;
use toml::{Table, Value};

/// Whose configuration a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// PgBouncer's: it has sections.
    Pgbouncer,
    /// Pgpool-II's: it has none.
    Pgpool,
    /// Neither's: its sections are others.
    Neither,
}

impl Origin {
    /// As far as the text tells.
    pub fn of(text: &str) -> Self {
        let mut sections = text.lines().map(str::trim).filter(|line| line.starts_with('[')).peekable();
        if sections.peek().is_none() {
            return Self::Pgpool;
        }
        let known = |line: &str| {
            ["[databases]", "[pgbouncer]"].iter().any(|section| line.eq_ignore_ascii_case(section))
        };
        if sections.any(known) { Self::Pgbouncer } else { Self::Neither }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// A configuration of primacy's.
    pub toml: String,
    /// What a person has to know or do, one sentence each.
    pub notes: Vec<String>,
}

/// A configuration that is being put together.
#[derive(Debug, Default)]
struct Draft {
    table: Table,
    nodes: Vec<Table>,
    notes: Vec<String>,
}

impl Draft {
    /// Sets a key, named with its table: `limits.max_client_conn`.
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        let (table, key) = match key.split_once('.') {
            Some((table, key)) => {
                let inner = self.table.entry(table).or_insert_with(|| Value::Table(Table::new()));
                match inner.as_table_mut() {
                    Some(inner) => (inner, key),
                    None => return,
                }
            }
            None => (&mut self.table, key),
        };
        table.insert(key.to_owned(), value.into());
    }

    /// Takes keys of a table out again, and the table if nothing is left in it.
    fn unset(&mut self, table: &str, keys: &[&str]) {
        if let Some(Value::Table(inner)) = self.table.get_mut(table) {
            for key in keys {
                inner.remove(*key);
            }
            if inner.is_empty() {
                self.table.remove(table);
            }
        }
    }

    /// Sets a key to a whole number.
    fn number(&mut self, key: &str, from: &str, text: &str) {
        match text.parse::<i64>() {
            Ok(number) => self.set(key, number),
            Err(_) => self.note(format!("{from} = {text}: not a number; {key} keeps its default")),
        }
    }

    /// Sets a key to a time that was written in seconds.
    fn seconds(&mut self, key: &str, from: &str, text: &str) {
        match text.parse::<f64>() {
            Ok(0.0) => self.set(key, 0),
            Ok(seconds) if seconds > 0.0 && seconds < 1e9 => {
                let text = if seconds.fract() == 0.0 {
                    format!("{seconds}s")
                } else {
                    format!("{}ms", (seconds * 1000.0).round())
                };
                self.set(key, text);
            }
            _ => self.note(format!("{from} = {text}: not a number of seconds; {key} keeps its default")),
        }
    }

    /// Notes what is left out. Of passwords their names alone.
    fn without_counterpart(&mut self, key: &str, value: &str) {
        let value = if key.contains("password") { "***" } else { value };
        self.note(format!("{key} = {value} has no counterpart"));
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A server, once; `host` is a name, an address or the directory of a Unix socket.
    fn node(&mut self, host: &str, port: i64) -> &mut Table {
        let is_it = |node: &Table| {
            node.get("host").and_then(Value::as_str) == Some(host)
                && node.get("port").and_then(Value::as_integer) == Some(port)
        };
        let place = self.nodes.iter().position(is_it).unwrap_or_else(|| {
            let node = [("host", Value::from(host)), ("port", Value::from(port))];
            self.nodes.push(node.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
            self.nodes.len() - 1
        });
        &mut self.nodes[place]
    }

    fn finish(mut self, source: &str) -> Imported {
        if self.nodes.is_empty() {
            self.note("no server is named: write a [[nodes]] table for the primary and each of its replicas");
        } else if self.nodes.len() == 1 {
            self.note("one server is named: add a [[nodes]] table for each of its replicas, and primacy spreads reads over them");
        }
        if self.table.get("service").is_none_or(|service| service.get("user").is_none()) {
            self.set("service.user", "primacy");
            self.set("service.password_env", "PRIMACY_PASSWORD");
            self.note(
                "service.user: primacy watches and promotes as a role of its own, \"primacy\" here; README.md lists its \
                 privileges, and its password is taken from the variable PRIMACY_PASSWORD",
            );
        }
        let nodes = std::mem::take(&mut self.nodes).into_iter().map(Value::Table).collect();
        self.table.insert("nodes".to_owned(), Value::Array(nodes));
        let body = toml::to_string(&self.table).unwrap_or_default();
        let head = format!(
            "# Made from {source} by `primacy import`; try it with `primacy check --config FILE`.\n\n"
        );
        Imported { toml: head + &body, notes: self.notes }
    }
}

/// `key = value` of a line, without its comment; `None` for lines that hold none.
fn key_and_value(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';', '%']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    Some((key.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_tells_whose_it_is() {
        assert_eq!(Origin::of("; mine\n[Databases]\na = host=b\n"), Origin::Pgbouncer);
        assert_eq!(Origin::of("port = 9999\nbackend_hostname0 = 'db1'\n"), Origin::Pgpool);
        assert_eq!(Origin::of("listen = '127.0.0.1:6432'\n[[nodes]]\nhost = 'db1'\n"), Origin::Neither);
    }
}
