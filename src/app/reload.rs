//! Reading the configuration again: what differs is told, and what can change while running is put in force, the data
//! path first, because the control plane's next topology may name nodes that it has not heard of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Running;
use crate::admin::json::CommandReport;
use crate::clock;
use crate::config::{self, Change, Origin, Reload, Settings};
use crate::proxy::links::NodeLink;
use crate::proxy::tls::ClientTlsConfig;
use crate::proxy::worker::Command;

/// A reload waits this long for the other replicas to have what removed ones have acknowledged.
const DEPARTURE_MAX: Duration = Duration::from_secs(5);

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Running {
    /// Reads the configuration again and takes over what can change while running.
    ///
    /// # Errors
    /// What is wrong with it; what is in force stays.
    pub(super) async fn reload_file(&self) -> Result<CommandReport, String> {
        let report = self.try_reload().await;
        self.shared.metrics.reloaded(report.is_ok());
        report
    }

    async fn try_reload(&self) -> Result<CommandReport, String> {
        let mut settings = self.settings.lock().await;
        let Origin::File(file) = &settings.origin else {
            return Err("there is no configuration file: the nodes were given on the command line".to_owned());
        };
        let new = read(file.clone(), BTreeMap::new()).await?;
        let report = self.take_over(&mut settings, new).await?;
        self.by_hand.lock().await.clear();
        Ok(report)
    }

    /// Puts in force what of new settings needs no restart.
    pub(super) async fn take_over(
        &self,
        settings: &mut Settings,
        new: Settings,
    ) -> Result<CommandReport, String> {
        let change = config::diff(settings, &new);
        let effective = config::effective(settings, &new)?;
        // All that can fail comes before anything is changed.
        let links = NodeLink::all(&effective.proxy.nodes).map_err(|error| chain(&error))?;
        let client_tls = ClientTlsConfig::load(&effective.proxy.client_tls).map_err(|error| chain(&error))?;
        self.put_in_force(settings, &effective, links).await?;
        let departed = self.departed(settings, &effective).await;
        self.login.reload(&effective.proxy, client_tls);
        if let Some(log) = &self.log {
            log.set_level(&effective.observe.level).map_err(|error| error.to_string())?;
        }
        self.console.store(Arc::new(effective.console.clone()));
        *settings = effective;
        Ok(report(&change, departed))
    }

    /// What has become of nodes that are not configured any more. Whoever took them out wants to switch them off, and must not
    /// before no commit is known to them alone.
    async fn departed(&self, old: &Settings, new: &Settings) -> Vec<String> {
        let nodes = old.control.nodes.iter().zip(&new.control.nodes);
        let gone = nodes.filter(|(old, new)| new.removed && !old.removed);
        let gone: Vec<&str> = gone.map(|(_, new)| &*new.name).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let until = clock::now() + DEPARTURE_MAX;
        loop {
            let counting = self.counting(&gone).await;
            if counting.is_empty() || clock::now() >= until {
                let words = |name: &&str| {
                    if counting.contains(name) {
                        format!(
                            "{name}: leave it running, its acknowledgements count until the other replicas have them all"
                        )
                    } else {
                        format!("{name}: it may be switched off, nothing depends on it any more")
                    }
                };
                return gone.iter().map(words).collect();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Those of them whose acknowledgements still count.
    async fn counting<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        let Ok(status) = self.control.status().await else { return names.to_vec() };
        // Until there is a primary nobody knows.
        let Some(quorum) = status.quorum else { return names.to_vec() };
        names.iter().copied().filter(|name| quorum.members.iter().any(|member| member == name)).collect()
    }

    async fn put_in_force(&self, old: &Settings, new: &Settings, links: Vec<NodeLink>) -> Result<(), String> {
        let shared = &self.shared;
        let names = new.proxy.nodes.iter().map(|node| Arc::clone(&node.name)).collect();
        shared.metrics.rename_nodes(names);
        shared.links.replace(links);
        self.tell_workers().await?;
        if old.control != new.control
            && let Err(refused) = self.control.reconfigure(new.control.clone()).await
        {
            return Err(refused.to_string());
        }
        shared.route.store(Arc::new(new.route.clone()));
        shared.settings.store(Arc::new(new.proxy.clone()));
        self.tell_workers().await
    }

    async fn tell_workers(&self) -> Result<(), String> {
        for worker in &self.shared.workers {
            if worker.send(Command::Reload).await.is_err() {
                return Err("primacy is stopping".to_owned());
            }
        }
        Ok(())
    }
}

/// Reads the configuration apart from the tasks that watch the servers: a secret may come from a command that takes seconds.
pub(super) async fn read(file: PathBuf, by_hand: BTreeMap<String, String>) -> Result<Settings, String> {
    let reading = tokio::task::spawn_blocking(move || config::load_with(&file, &by_hand));
    let read = reading.await.map_err(|error| error.to_string())?;
    read.map_err(|problems| problems.to_string())
}

fn report(change: &Reload, departed: Vec<String>) -> CommandReport {
    let lines = |changes: &[Change]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (changed, needs_restart) = (lines(&change.changed), lines(&change.needs_restart));
    let message = match (changed.len(), needs_restart.len()) {
        (0, 0) => "reloaded: no setting has changed; certificates were read again".to_owned(),
        (_, 0) => format!("reloaded: {}", changed.join("; ")),
        (0, _) => format!("nothing taken over; needs a restart: {}", needs_restart.join("; ")),
        _ => format!("reloaded: {}; needs a restart: {}", changed.join("; "), needs_restart.join("; ")),
    };
    let message = departed.iter().fold(message, |message, node| format!("{message}; {node}"));
    CommandReport { done: true, message, changed, needs_restart, departed }
}

/// The error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
