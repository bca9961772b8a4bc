//! Two resolved settings -> what a reload changes, and what of it needs a restart. Pure.

use std::collections::BTreeSet;
use std::fmt;

use super::Settings;
use super::describe::{Item, NODE_ADDRESS, NODES_KEY, describe};

/// One key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path in the file.
    pub key: String,
    /// In force until now; `***` for a secret, empty where there was none.
    pub old: String,
    /// Wanted now; `***` for a secret, empty where there is none.
    pub new: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} -> {:?}", self.key, self.old, self.new)
    }
}

/// What a reload means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Changes that take effect now.
    pub changed: Vec<Change>,
    /// Changes that wait for a restart.
    pub needs_restart: Vec<Change>,
}

/// Compares.
pub fn diff(old: &Settings, new: &Settings) -> Reload {
    let (old, new) = (describe(old), describe(new));
    let keys: BTreeSet<&str> = old.iter().chain(&new).map(|item| item.key.as_str()).collect();
    let mut reload = Reload::default();
    for key in keys {
        let of = |items: &'_ [Item]| items.iter().find(|item| item.key == key).cloned();
        let (before, after) = (of(&old), of(&new));
        let same = matches!((&before, &after), (Some(before), Some(after)) if before.same(after));
        if same {
            continue;
        }
        let comes_or_goes = before.is_none() != after.is_none();
        let of_a_node = key.starts_with(NODES_KEY);
        let is_address = key.rsplit('.').next() == Some(NODE_ADDRESS);
        if comes_or_goes && of_a_node && !is_address {
            // Its address says that the node came or went.
            continue;
        }
        // Any other key that one side does not have belongs to a table that came or went: never live.
        let both_live = [&before, &after].iter().all(|item| item.as_ref().is_some_and(|item| item.live));
        let live = both_live || (comes_or_goes && of_a_node);
        let value = |item: Option<Item>| item.map(|item| item.value).unwrap_or_default();
        let change = Change { key: key.to_owned(), old: value(before), new: value(after) };
        if live { reload.changed.push(change) } else { reload.needs_restart.push(change) }
    }
    reload
}
