//! `[[nodes]]` and `[service]`: the servers and the role that primacy signs in with.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::under;
use crate::config::check::Checker;
use crate::config::secrets::{self, Source};
use crate::config::url::{self, NodeUrl};
use crate::config::written::{self, Document};
use crate::model::{Address, NODES_MAX, Secret};
use crate::proxy::settings::{Node, Service};
use crate::tls::{ChannelBinding, Negotiation, ServerTls, ServerTlsMode};

/// Longest name: a PostgreSQL identifier with room for a prefix.
const NAME_LEN_MAX: usize = 50;

/// Every node, in the order of the file.
pub(super) fn nodes(document: &Document, base: &Path, check: &mut Checker) -> Vec<Node> {
    let count = document.nodes.len();
    if count == 0 || count > NODES_MAX {
        let hint = "one [[nodes]] table per PostgreSQL server, each with a url, or host and port";
        check.problem("nodes", format!("{count} nodes"), format!("1 to {NODES_MAX}"), Some(hint));
    }
    let numbered = document.nodes.iter().enumerate().take(NODES_MAX);
    let mut nodes: Vec<(usize, Node)> =
        numbered.filter_map(|(n, written)| Some((n, node(n, written, base, check)?))).collect();
    name_the_nameless(&mut nodes);
    refuse_doubles(&nodes, check);
    nodes.into_iter().map(|(_, node)| node).collect()
}

fn node(number: usize, written: &written::Node, base: &Path, check: &mut Checker) -> Option<Node> {
    let key = |name: &str| format!("nodes[{number}].{name}");
    let url = match &written.url {
        Some(text) => Some(node_url(&key("url"), text.0.reveal(), check)?),
        None => None,
    };
    let address = address(number, written, url.as_ref(), check)?;
    Some(Node {
        name: name(&key("name"), written.name.as_deref(), check),
        address,
        tls: server_tls(number, written, url.as_ref(), (base, check)),
        zone: written.zone.as_deref().unwrap_or_default().into(),
        weight: check.number(&key("weight"), written.weight, 100, 0..=10_000),
        priority: check.number(&key("priority"), written.priority, 100, 0..=1_000),
    })
}

/// TLS towards a node, in libpq's words.
fn server_tls(
    number: usize,
    written: &written::Node,
    url: Option<&NodeUrl>,
    (base, check): (&Path, &mut Checker),
) -> ServerTls {
    let key = |name: &str| format!("nodes[{number}].{name}");
    let sslmode = written.sslmode.as_deref().or(url.and_then(|url| url.sslmode.as_deref()));
    let mode = check.word(&key("sslmode"), sslmode, &ServerTlsMode::WORDS);
    let ca_file = written.sslrootcert.as_deref().or(url.and_then(|url| url.sslrootcert.as_deref()));
    // libpq's word for the authorities that this machine trusts anyway.
    let system = ca_file == Some(Path::new("system"));
    if system && mode != ServerTlsMode::VerifyFull {
        let (found, allowed) = ("\"system\" with a weaker sslmode", "sslmode \"verify-full\"");
        check.problem(
            &key("sslrootcert"),
            found,
            allowed,
            Some("anybody can get a certificate from these authorities"),
        );
    }
    let files = [
        ("sslrootcert", ca_file.filter(|_| !system)),
        ("sslcrl", written.sslcrl.as_deref()),
        ("sslcert", written.sslcert.as_deref()),
        ("sslkey", written.sslkey.as_deref()),
    ];
    let [ca_file, crl_file, cert_file, key_file] = files.map(|(name, file)| {
        let file = file.map(|file| under(base, file));
        if let Some(file) = &file {
            check.readable(&key(name), file);
        }
        file
    });
    if cert_file.is_some() != key_file.is_some() {
        check.problem(&key("sslcert"), "sslcert or sslkey alone", "both, or neither", None);
    }
    let channel_binding =
        check.word(&key("channel_binding"), written.channel_binding.as_deref(), &ChannelBinding::WORDS);
    if channel_binding == ChannelBinding::Require && matches!(mode, ServerTlsMode::Disable) {
        check.problem(
            &key("channel_binding"),
            "channel_binding without TLS",
            "\"prefer\" or \"disable\" where sslmode is \"disable\"",
            None,
        );
    }
    let negotiation =
        check.word(&key("sslnegotiation"), written.sslnegotiation.as_deref(), &Negotiation::WORDS);
    if negotiation == Negotiation::Direct && !mode.required() {
        let found = "\"direct\" with an sslmode that does without TLS";
        check.problem(&key("sslnegotiation"), found, "sslmode \"require\" or stricter", None);
    }
    ServerTls { mode, ca_file, crl_file, cert_file, key_file, channel_binding, negotiation }
}

fn node_url(key: &str, text: &str, check: &mut Checker) -> Option<NodeUrl> {
    url::parse(text)
        .map_err(|error| {
            let allowed = "postgres://user:password@host:port/database";
            check.problem(
                key,
                format!("the URL {error}"),
                allowed,
                Some("write special characters as %40 and the like"),
            );
        })
        .ok()
}

fn address(
    number: usize,
    written: &written::Node,
    url: Option<&NodeUrl>,
    check: &mut Checker,
) -> Option<Address> {
    let key = format!("nodes[{number}]");
    match (url, &written.host) {
        (Some(url), None) if written.port.is_none() => Some(url.address.clone()),
        (Some(_), _) => {
            check.problem(&key, "both a url and a host or port", "one of them", None);
            None
        }
        (None, Some(host)) if !host.is_empty() => {
            let port = check.number(&format!("{key}.port"), written.port, 5432_u16, 1..=u16::MAX);
            Some(url::address(host, port))
        }
        (None, _) => {
            check.problem(
                &key,
                "no address",
                "a url, or host and port",
                Some("url = \"postgres://db1:5432\""),
            );
            None
        }
    }
}

/// Where the other servers reach the node, where that is not where primacy does.
pub(super) fn replication_address(
    number: usize,
    written: &written::Node,
    check: &mut Checker,
) -> Option<Address> {
    let text = written.replication_address.as_deref()?;
    let address = url::split_port(text).ok().filter(|(host, _)| !host.is_empty()).and_then(|(host, port)| {
        let port = if port.is_empty() { 5432 } else { port.parse().ok()? };
        Some(url::address(host, port))
    });
    if address.is_none() {
        let key = format!("nodes[{number}].replication_address");
        check.problem(&key, format!("found {text:?}"), "host:port", None);
    }
    address
}

/// A given name, checked; empty where none is given.
fn name(key: &str, written: Option<&str>, check: &mut Checker) -> Arc<str> {
    let Some(name) = written else { return Arc::from("") };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(plain) {
        let allowed = format!("1 to {NAME_LEN_MAX} letters, digits and the signs _ - . :");
        check.problem(key, format!("found {name:?}"), allowed, None);
    }
    name.into()
}

/// Who has no name is called by its host where that is enough, else by host and port.
fn name_the_nameless(nodes: &mut [(usize, Node)]) {
    let mut hosts: HashMap<String, usize> = HashMap::new();
    for (_, node) in nodes.iter() {
        *hosts.entry(host(&node.address)).or_default() += 1;
    }
    for (_, node) in nodes.iter_mut().filter(|(_, node)| node.name.is_empty()) {
        let host = host(&node.address);
        let alone = hosts.get(&host) == Some(&1);
        let port = match node.address {
            Address::Tcp { port, .. } | Address::Unix { port, .. } => port,
        };
        node.name = if alone { host.into() } else { format!("{host}:{port}").into() };
    }
}

fn host(address: &Address) -> String {
    match address {
        Address::Tcp { host, .. } => host.clone(),
        Address::Unix { .. } => "local".into(),
    }
}

fn refuse_doubles(nodes: &[(usize, Node)], check: &mut Checker) {
    for (place, (number, node)) in nodes.iter().enumerate() {
        for (other_number, other) in nodes.iter().take(place) {
            if other.name == node.name {
                let found = format!("the name {:?} of nodes[{other_number}] again", node.name);
                check.problem(&format!("nodes[{number}].name"), found, "a name of its own", None);
            }
            if other.address == node.address {
                let found = format!("the address {} of nodes[{other_number}] again", node.address);
                check.problem(&format!("nodes[{number}]"), found, "one entry per server", None);
            }
        }
    }
}

/// primacy's own role; what the table leaves out comes from the first node's URL.
pub(super) fn service(document: &Document, base: &Path, check: &mut Checker) -> Service {
    let written = &document.service;
    // A URL that is not one is reported with its node.
    let first = document.nodes.first().and_then(|node| node.url.as_ref());
    let url = first.and_then(|text| url::parse(text.0.reveal()).ok());
    let password_file = written.password_file.as_deref().map(|file| under(base, file));
    let source = Source {
        key: "service.password",
        plain: written.password.as_ref(),
        file: password_file.as_deref(),
        variable: written.password_env.as_deref(),
        credential: written.password_credential.as_deref(),
        command: written.password_command.as_deref(),
    };
    let password: Option<Secret> = secrets::read(check, &source);
    let user =
        written.user.clone().or_else(|| url.as_ref().and_then(|url| url.user.clone())).unwrap_or_default();
    if user.is_empty() {
        let hint = "the role that primacy watches and acts with: user = \"primacy\", or postgres://USER:PASSWORD@... in the \
                    first node's url";
        check.problem("service.user", "no role", "a role's name", Some(hint));
    }
    let database = written.database.clone().or_else(|| url.as_ref().and_then(|url| url.database.clone()));
    Service {
        user: user.into(),
        password: password.or(url.and_then(|url| url.password)).unwrap_or_default(),
        database: database.unwrap_or_else(|| "postgres".into()).into(),
    }
}
