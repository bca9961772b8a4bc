//! What of the running proxy only the composition root can do for the console: show the settings, change one, end.

use futures_util::future::BoxFuture;

use super::Running;
use crate::config::{self, Origin};
use crate::console::{Host, SettingInForce};
use crate::proxy::listener::Ending;

/// PgBouncer's names of settings that are called differently, or stand under another table than one would guess.
const OTHER_NAMES: [(&str, &str); 3] = [
    ("query_wait_timeout", "pool.query_wait_timeout"),
    ("max_client_conn", "limits.max_client_conn"),
    ("max_prepared_statements", "limits.max_prepared_statements"),
];

impl Host for Running {
    fn settings(&self) -> BoxFuture<'_, Vec<SettingInForce>> {
        Box::pin(async move {
            let defaults = config::defaults();
            let default_of = |key: &str| {
                let found = defaults.iter().find(|item| item.key == key);
                found.map(|item| item.value.clone()).unwrap_or_default()
            };
            let settings = self.settings.lock().await;
            let shown = config::describe(&settings).into_iter().map(|item| SettingInForce {
                default: default_of(&item.key),
                key: item.key,
                value: item.value,
                changeable: item.live,
            });
            shown.collect()
        })
    }

    fn set(&self, key: String, value: String) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let mut settings = self.settings.lock().await;
            let items = config::describe(&settings);
            let Some(key) = full_name(&key, &items) else {
                return Err(format!("there is no setting {key:?}"));
            };
            if !items.iter().any(|item| item.key == key && item.live) {
                return Err(format!("{key} needs a restart"));
            }
            let Origin::File(file) = settings.origin.clone() else {
                return Err("without a configuration file there is nothing to change".to_owned());
            };
            let mut by_hand = self.by_hand.lock().await;
            let mut changes = by_hand.clone();
            changes.insert(key.clone(), value);
            let new = super::reload::read(file, changes.clone()).await?;
            // What else the file says by now is for a reload to take over.
            let others = config::diff(&settings, &new);
            if let Some(other) =
                others.changed.iter().chain(&others.needs_restart).find(|change| change.key != key)
            {
                return Err(format!("the file has changed since it was read ({}): RELOAD first", other.key));
            }
            *by_hand = changes;
            self.take_over(&mut settings, new).await.map(drop)
        })
    }

    fn shut_down(&self, how: Ending) {
        self.end.send_replace(Some(how));
    }
}

/// A setting's path, given whole or by its last name where that is the only one.
fn full_name(name: &str, items: &[config::Item]) -> Option<String> {
    if items.iter().any(|item| item.key == name) {
        return Some(name.to_owned());
    }
    if let Some((_, path)) = OTHER_NAMES.iter().find(|(other, _)| *other == name) {
        return Some((*path).to_owned());
    }
    let mut found = items.iter().filter(|item| item.key.rsplit('.').next() == Some(name));
    match (found.next(), found.next()) {
        (Some(item), None) => Some(item.key.clone()),
        _ => None,
    }
}
