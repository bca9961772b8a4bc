//! Session settings that travel: what a client has SET, as statements that set it again elsewhere.
//!
//! A session and a server connection each carry an overlay. Where the two differ, `difference` gives the SQL that
//! brings the connection to the session's settings. Comparing is a pointer comparison in the usual case.

use std::rc::Rc;
use std::sync::Arc;

use crate::sql::SessionEffect;

type Entry = (Arc<str>, Arc<str>);

/// Settings by name, each with the statement that sets it. Cheap to clone; immutable once shared.
#[derive(Clone, Debug, Default)]
pub struct Overlay(Option<Rc<Vec<Entry>>>);

impl PartialEq for Overlay {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Rc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }
}

impl Overlay {
    fn entries(&self) -> &[Entry] {
        self.0.as_ref().map_or(&[], |entries| entries)
    }

    fn from_entries(entries: Vec<Entry>) -> Self {
        Self((!entries.is_empty()).then(|| Rc::new(entries)))
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many settings there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Bytes of all names and statements: what a session's settings cost.
    pub fn bytes(&self) -> usize {
        self.entries().iter().map(|(name, sql)| name.len() + sql.len()).sum()
    }

    /// The statement that sets `name`, if it is set.
    pub fn statement(&self, name: &str) -> Option<&Arc<str>> {
        self.position(name).ok().and_then(|at| self.entries().get(at)).map(|(_, sql)| sql)
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.entries().binary_search_by(|(have, _)| have.as_ref().cmp(name))
    }

    /// This overlay with `name` set by `sql`.
    #[must_use]
    pub fn with(&self, name: &Arc<str>, sql: &Arc<str>) -> Self {
        let mut entries = self.entries().to_vec();
        match self.position(name) {
            Ok(at) => {
                if let Some(entry) = entries.get_mut(at) {
                    entry.1 = Arc::clone(sql);
                }
            }
            Err(at) => entries.insert(at, (Arc::clone(name), Arc::clone(sql))),
        }
        Self::from_entries(entries)
    }

    /// This overlay with `name` not set.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut entries = self.entries().to_vec();
        if let Ok(at) = self.position(name) {
            entries.remove(at);
        }
        Self::from_entries(entries)
    }

    /// What this overlay becomes by one effect; `startup` are the values that RESET returns to.
    #[must_use]
    pub fn after(&self, effect: &SessionEffect, startup: &Self) -> Self {
        match effect {
            SessionEffect::Set { name, sql } => self.with(name, sql),
            SessionEffect::Reset(name) => match startup.statement(name) {
                Some(sql) => self.with(name, sql),
                // A setting of nobody's is empty from then on, and not unknown again.
                None if name.contains('.') => {
                    self.with(name, &Arc::from(format!("RESET {}", quoted_setting(name))))
                }
                None => self.without(name),
            },
            SessionEffect::ResetAll => {
                // RESET ALL leaves role and session_authorization alone (manual, RESET).
                let identity = |overlay: Self, &name: &&str| match self.statement(name) {
                    Some(sql) => overlay.with(&Arc::from(name), sql),
                    None => overlay,
                };
                let own = self.entries().iter().filter(|(name, _)| name.contains('.'));
                own.fold(IDENTITY.iter().fold(startup.clone(), identity), |overlay, (name, _)| {
                    if overlay.statement(name).is_some() {
                        return overlay;
                    }
                    overlay.after(&SessionEffect::Reset(Arc::clone(name)), startup)
                })
            }
            SessionEffect::DiscardAll => startup.clone(),
            _ => self.clone(),
        }
    }
}

/// Who the session acts as: the user first, because setting it takes the role back.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];

/// The statements that turn a connection with `from` into one with `to`; `None` where nothing differs.
/// Who the session acts as is reset first and set last, because the rights to set the others are those of the user who
/// signed in.
pub fn difference(from: &Overlay, to: &Overlay) -> Option<String> {
    if from == to {
        return None;
    }
    let mut sql = String::new();
    let mut add = |statement: &str| {
        if !sql.is_empty() {
            sql.push(';');
        }
        sql.push_str(statement);
    };
    let is_identity = |name: &str| IDENTITY.contains(&name);
    let other = IDENTITY.iter().any(|name| from.statement(name) != to.statement(name));
    let some_setting = from
        .entries()
        .iter()
        .chain(to.entries())
        .any(|(name, _)| !is_identity(name) && from.statement(name) != to.statement(name));
    if other || some_setting {
        IDENTITY.iter().rev().filter(|name| from.statement(name).is_some()).for_each(|name| {
            add(&format!("RESET {name}"));
        });
    }
    for (name, _) in from.entries() {
        if !is_identity(name) && to.statement(name).is_none() {
            add(&format!("RESET {}", quoted_setting(name)));
        }
    }
    for (name, statement) in to.entries() {
        if !is_identity(name) && from.statement(name) != Some(statement) {
            add(statement);
        }
    }
    IDENTITY.iter().filter_map(|name| to.statement(name)).for_each(|statement| add(statement));
    (!sql.is_empty()).then_some(sql)
}

/// A setting's name as SQL: each part of a dotted name quoted on its own.
fn quoted_setting(name: &str) -> String {
    name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(overlay: &Overlay, name: &str, sql: &str) -> Overlay {
        overlay.with(&Arc::from(name), &Arc::from(sql))
    }

    #[test]
    fn nothing_to_do_between_equal_overlays() {
        let a = set(&set(&Overlay::default(), "b", "SET b TO 1"), "a", "SET a TO 1");
        let b = set(&set(&Overlay::default(), "a", "SET a TO 1"), "b", "SET b TO 1");
        assert_eq!(difference(&a, &b), None);
        assert_eq!(difference(&Overlay::default(), &Overlay::default()), None);
    }

    #[test]
    fn resets_come_before_sets_and_the_role_is_last() {
        let from = set(&set(&Overlay::default(), "role", "SET ROLE a"), "x.y", "SET x.y TO 1");
        let to = set(&set(&Overlay::default(), "role", "SET ROLE b"), "timezone", "SET TIME ZONE 'UTC'");
        assert_eq!(
            difference(&from, &to).as_deref(),
            Some("RESET role;RESET \"x\".\"y\";SET TIME ZONE 'UTC';SET ROLE b")
        );
    }

    #[test]
    fn reset_returns_to_the_startup_value() {
        let startup = set(&Overlay::default(), "application_name", "SET application_name TO 'psql'");
        let now = set(&startup, "application_name", "SET application_name TO 'x'");
        assert_eq!(now.after(&SessionEffect::Reset(Arc::from("application_name")), &startup), startup);
        assert_eq!(now.after(&SessionEffect::ResetAll, &startup), startup);
        assert!(now.without("application_name").is_empty());
    }

    #[test]
    fn settings_of_nobodys_are_reset_to_nothing() {
        let now = set(&Overlay::default(), "a.b", "SET a.b TO 1");
        for effect in [SessionEffect::Reset(Arc::from("a.b")), SessionEffect::ResetAll] {
            let after = now.after(&effect, &Overlay::default());
            assert_eq!(difference(&Overlay::default(), &after).as_deref(), Some("RESET \"a\".\"b\""));
        }
        assert!(now.after(&SessionEffect::DiscardAll, &Overlay::default()).is_empty());
    }

    #[test]
    fn reset_all_keeps_the_role() {
        let now = set(&set(&Overlay::default(), "role", "SET ROLE a"), "x", "SET x TO 1");
        let after = now.after(&SessionEffect::ResetAll, &Overlay::default());
        assert_eq!(after.statement("role").map(AsRef::as_ref), Some("SET ROLE a"));
        assert_eq!(after.statement("x"), None);
    }
}
