//! `[failover]`, `[replication]`, the lag limits and `state_dir`: how the servers are watched and replaced.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::nodes::replication_address;
use super::{agents, under};
use crate::config::check::Checker;
use crate::config::secrets::{self, Source};
use crate::config::written::Document;
use crate::control::settings::{Credentials, NodeSettings};
use crate::failover::{self, Durability};
use crate::proxy::settings::{Node, Service};
use crate::{control, proxy};

/// From `low` milliseconds to `high` seconds.
fn between(low_ms: u64, high_s: u64) -> RangeInclusive<Duration> {
    Duration::from_millis(low_ms)..=Duration::from_secs(high_s)
}

/// The control plane's settings; the servers are the data path's.
pub(super) fn control(
    document: &Document,
    base: &Path,
    proxy: &proxy::Settings,
    check: &mut Checker,
) -> control::Settings {
    let Service { user, password, database } = &proxy.service;
    let service = Credentials { user: user.clone(), password: password.clone() };
    let nodes = proxy.nodes.iter().zip(0..).map(|(node, number)| NodeSettings {
        agent: document.nodes.get(number).and_then(|written| agents::agent(number, written, base, check)),
        ..control_node(document, node, number, check)
    });
    let nodes: Vec<NodeSettings> = nodes.collect();
    let failover = failover(document, nodes.len(), check);
    let default = control::Settings::new(Vec::new(), service.clone(), failover.clone());
    control::Settings {
        database: database.clone(),
        replication: replication(document, base, check),
        state_dir: Some(state_dir(document, base)),
        sample_every: check.duration(
            "routing.sample_interval",
            document.routing.sample_interval,
            default.sample_every,
            between(1, 1),
        ),
        slots: document.replication.slots.unwrap_or(default.slots),
        restart_by_sql: document.failover.restart_by_sql.unwrap_or(default.restart_by_sql),
        ..control::Settings::new(nodes, service, failover)
    }
}

fn control_node(document: &Document, node: &Node, number: usize, check: &mut Checker) -> NodeSettings {
    let written = document.nodes.get(number);
    let Node { name, address, tls, zone, weight, priority } = node;
    NodeSettings {
        tls: tls.clone(),
        replication_address: written.and_then(|written| replication_address(number, written, check)),
        zone: zone.clone(),
        weight: *weight,
        priority: u32::try_from(*priority).unwrap_or_default(),
        disabled: written.and_then(|written| written.disabled).unwrap_or_default(),
        ..NodeSettings::new(name.clone(), address.clone())
    }
}

/// The role that replicas stream with, where it is not primacy's own.
fn replication(document: &Document, base: &Path, check: &mut Checker) -> Option<Credentials> {
    let written = &document.replication;
    let file = written.password_file.as_deref().map(|file| under(base, file));
    let source = Source {
        key: "replication.password",
        plain: written.password.as_ref(),
        file: file.as_deref(),
        variable: written.password_env.as_deref(),
        credential: written.password_credential.as_deref(),
        command: written.password_command.as_deref(),
    };
    let password = secrets::read(check, &source);
    match (&written.user, password) {
        (Some(user), password) => {
            Some(Credentials { user: user.as_str().into(), password: password.unwrap_or_default() })
        }
        (None, None) => None,
        (None, Some(_)) => {
            check.problem("replication.user", "a password without a role", "a role's name", None);
            None
        }
    }
}

/// Where the journal lives. Without a word from the configuration: where the system keeps a service's state, else where
/// it keeps the user's.
fn state_dir(document: &Document, base: &Path) -> PathBuf {
    if let Some(dir) = &document.state_dir {
        return under(base, dir);
    }
    #[expect(clippy::disallowed_methods, reason = "configuration is where the environment is read")]
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd's `StateDirectory=` names it here.
    if let Some(dir) = variable("STATE_DIRECTORY") {
        return dir;
    }
    let user = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    match user {
        Some(dir) if !nix::unistd::geteuid().is_root() => dir.join("primacy"),
        _ => PathBuf::from("/var/lib/primacy"),
    }
}

/// The decision core's settings.
fn failover(document: &Document, nodes: usize, check: &mut Checker) -> failover::Settings {
    let (written, default) = (&document.failover, failover::Settings::default());
    let settings = failover::Settings {
        automatic: written.automatic.unwrap_or(default.automatic),
        durability: durability(document, nodes, check),
        manage_sync_names: written.manage_sync_names.unwrap_or(default.manage_sync_names),
        arm_standby_signal: written.arm_standby_signal.unwrap_or(default.arm_standby_signal),
        auto_rejoin: written.rejoin.unwrap_or(default.auto_rejoin),
        flap_max: check.number(
            "failover.max_soft_per_hour",
            written.max_soft_per_hour,
            default.flap_max,
            0..=3_600,
        ),
        lag_bytes_max: limit(check.size(
            "routing.max_lag_bytes",
            document.routing.max_lag_bytes,
            0,
            0..=1 << 50,
        )),
        ..default
    };
    let settings = steps(document, &settings, check);
    watching(document, &settings, check)
}

/// Zero means no limit.
fn limit<T: PartialEq + Default>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}

fn durability(document: &Document, nodes: usize, check: &mut Checker) -> Durability {
    #[derive(Clone, Copy, Default)]
    enum Word {
        #[default]
        Auto,
        Quorum,
        Async,
    }
    let written = &document.failover;
    let words = [("auto", Word::Auto), ("quorum", Word::Quorum), ("async", Word::Async)];
    let word = check.word("failover.durability", written.durability.as_deref(), &words);
    let most = u16::try_from(nodes.saturating_sub(1)).unwrap_or(u16::MAX).max(1);
    let standbys =
        written.sync_replicas.map(|k| check.number("failover.sync_replicas", Some(k), 1_u16, 1..=most));
    match (word, Durability::default_for(nodes)) {
        (Word::Async, _) | (Word::Auto, Durability::Async) => {
            if standbys.is_some() {
                let hint = "set failover.durability = \"quorum\", or leave sync_replicas out";
                check.problem(
                    "failover.sync_replicas",
                    "a number with durability \"async\"",
                    "nothing",
                    Some(hint),
                );
            }
            Durability::Async
        }
        (Word::Quorum | Word::Auto, _) => Durability::Quorum { standbys },
    }
}

/// How long each step of a change of primary may take.
fn steps(document: &Document, settings: &failover::Settings, check: &mut Checker) -> failover::Settings {
    let written = &document.failover;
    let mut duration = |key, written, default, range| check.duration(key, written, default, range);
    failover::Settings {
        recruit_timeout: duration(
            "failover.recruit_timeout",
            written.recruit_timeout,
            settings.recruit_timeout,
            between(100, 600),
        ),
        replay_timeout: duration(
            "failover.replay_timeout",
            written.replay_timeout,
            settings.replay_timeout,
            between(100, 86_400),
        ),
        promote_timeout: duration(
            "failover.promote_timeout",
            written.promote_timeout,
            settings.promote_timeout,
            between(1_000, 3_600),
        ),
        drain_timeout: duration(
            "failover.switchover_drain",
            written.switchover_drain,
            settings.drain_timeout,
            between(0, 600),
        ),
        rejoin_timeout: duration(
            "failover.rejoin_timeout",
            written.rejoin_timeout,
            settings.rejoin_timeout,
            between(1_000, 86_400),
        ),
        ..settings.clone()
    }
}

/// What counts as evidence, and how often is looked.
fn watching(document: &Document, settings: &failover::Settings, check: &mut Checker) -> failover::Settings {
    let written = &document.failover;
    let mut duration = |key, written, default, range| check.duration(key, written, default, range);
    let receiver_timeout = duration(
        "failover.wal_receiver_timeout",
        written.wal_receiver_timeout,
        settings.receiver_timeout.unwrap_or_default(),
        between(0, 3_600),
    );
    let lag_max =
        duration("routing.max_lag", document.routing.max_lag, Duration::ZERO, between(0, 7 * 86_400));
    let probe_interval =
        duration("failover.probe_interval", written.probe_interval, settings.probe_interval, between(10, 60));
    let detect_timeout = duration(
        "failover.detect_timeout",
        written.detect_timeout,
        settings.detect_timeout,
        between(50, 600),
    );
    let watched = failover::Settings {
        restart_grace: duration(
            "failover.restart_grace",
            written.restart_grace,
            settings.restart_grace,
            between(0, 3_600),
        ),
        stall_timeout: duration(
            "failover.stall_timeout",
            written.stall_timeout,
            settings.stall_timeout,
            between(100, 86_400),
        ),
        flap_interval: duration(
            "failover.soft_interval",
            written.soft_interval,
            settings.flap_interval,
            between(0, 86_400),
        ),
        probe_interval,
        detect_timeout,
        receiver_timeout: limit(receiver_timeout),
        lag_max: limit(lag_max),
        ..settings.clone()
    };
    if probe_interval > detect_timeout {
        let allowed = "at most failover.detect_timeout";
        check.problem("failover.probe_interval", "longer than detect_timeout", allowed, None);
    }
    watched
}
