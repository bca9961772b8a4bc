//! Numbers of relations in the corpus, which were those of another database.
//!
//! psql asks for the relations of a pattern first, and then about each by its number. So the numbers that come behind such a
//! question stand for the relations that this database gives in answer to it, in this order. What has no counterpart here
//! gets a number that nothing has.

use std::collections::HashMap;

/// How psql asks which relations a pattern means.
const QUESTION: [&str; 4] = ["select", "c.oid,", "n.nspname,", "c.relname"];

/// No server has come so far.
const NOTHING: &str = "4294967294";

/// The first number of an object that does not come with PostgreSQL.
const FIRST_OWN_NUMBER: u32 = 16_384;

#[derive(Debug, Default)]
pub(crate) struct Numbers {
    known: HashMap<String, String>,
    answers: std::vec::IntoIter<String>,
    asked: bool,
}

/// Whether psql asks which relations a pattern means.
pub(crate) fn is_question(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    sql.split_whitespace().take(QUESTION.len()).eq(QUESTION)
}

impl Numbers {
    /// Takes the numbers that a question was answered with.
    pub(crate) fn learn(&mut self, answers: Vec<String>) {
        *self = Self { known: HashMap::new(), answers: answers.into_iter(), asked: true };
    }

    /// The text with the numbers of this database.
    pub(crate) fn translated(&mut self, sql: &str) -> String {
        if !self.asked || !sql.contains("pg_catalog.") || sql.contains("pg_tablespace") {
            return sql.to_owned();
        }
        let parts = sql.split('\'').enumerate().map(|(at, part)| {
            let own = part.parse::<u32>().is_ok_and(|number| number >= FIRST_OWN_NUMBER);
            if at % 2 == 0 || !own {
                return part.to_owned();
            }
            let answers = &mut self.answers;
            let new = || answers.next().unwrap_or_else(|| NOTHING.to_owned());
            self.known.entry(part.to_owned()).or_insert_with(new).clone()
        });
        parts.collect::<Vec<_>>().join("'")
    }
}
