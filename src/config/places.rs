//! What a reload puts in force: the new settings, with the old ones where only a restart can change them. Pure.
//!
//! A node's place in the list is its id for as long as primacy runs: those that stay keep theirs, new ones come behind
//! them, and one that is not configured any more leaves its place empty.

use std::sync::Arc;

use super::Settings;
use crate::control::settings::NodeSettings;
use crate::model::NODES_MAX;
use crate::proxy;

/// The settings in force after a reload of `new`.
///
/// # Errors
/// Where too many nodes have come and gone since the start.
pub fn effective(old: &Settings, new: &Settings) -> Result<Settings, String> {
    let mut wanted = new.clone();
    let (data_path, control) = places(old, new);
    if data_path.len() > NODES_MAX {
        return Err(format!(
            "with the nodes that were removed since the start there are {}, and {NODES_MAX} may be: restart primacy",
            data_path.len()
        ));
    }
    (wanted.proxy.nodes, wanted.control.nodes) = (data_path, control);

    let (proxy, before) = (&mut wanted.proxy, &old.proxy);
    proxy.listen.clone_from(&before.listen);
    proxy.unix_socket_dir.clone_from(&before.unix_socket_dir);
    (proxy.workers, proxy.pool_mode) = (before.workers, before.pool_mode);
    (proxy.service, proxy.auth) = (before.service.clone(), before.auth.clone());
    let (control, before) = (&mut wanted.control, &old.control);
    control.state_dir.clone_from(&before.state_dir);
    control.replication.clone_from(&before.replication);
    (control.service, control.database) = (before.service.clone(), Arc::clone(&before.database));
    wanted.sql = old.sql;
    wanted.admin.clone_from(&old.admin);
    wanted.observe.format = old.observe.format;
    wanted.observe.traces.clone_from(&old.observe.traces);
    Ok(wanted)
}

/// Every node in its place, for the data path and for the control plane.
fn places(old: &Settings, new: &Settings) -> (Vec<proxy::settings::Node>, Vec<NodeSettings>) {
    let mut nodes = Vec::with_capacity(new.proxy.nodes.len());
    for (node, seen) in old.proxy.nodes.iter().zip(&old.control.nodes) {
        let wanted = new.proxy.nodes.iter().zip(&new.control.nodes).find(|(new, _)| new.name == node.name);
        nodes.push(match wanted {
            // A name that went and comes back may be another server by now: nothing leads to the old one any more.
            Some((node, watched)) if seen.removed => (node.clone(), watched.clone()),
            Some((wanted, watched)) => {
                let mut kept = (wanted.clone(), watched.clone());
                kept.0.address = node.address.clone();
                kept.1.address = seen.address.clone();
                kept
            }
            None => (node.clone(), NodeSettings { removed: true, disabled: true, ..seen.clone() }),
        });
    }
    let known = |name: &str| old.proxy.nodes.iter().any(|node| &*node.name == name);
    let added = new.proxy.nodes.iter().zip(&new.control.nodes).filter(|(node, _)| !known(&node.name));
    nodes.extend(added.map(|(node, watched)| (node.clone(), watched.clone())));
    nodes.into_iter().unzip()
}
