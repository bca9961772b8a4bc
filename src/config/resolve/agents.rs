//! The agent of a node (`nodes[].agent…`), and the addresses that agents have.

use std::net::IpAddr;
use std::path::Path;

use super::under;
use crate::config::check::Checker;
use crate::config::secrets::{self, Source};
use crate::config::url::split_port;
use crate::config::written;
use crate::control::agents::{AgentSettings, AgentTls};

/// What an agent's URL looks like.
const FORM: &str = "\"https://host:port\", or \"http://127.0.0.1:port\" on this machine";

/// The node's agent, where it has one.
pub(super) fn agent(
    number: usize,
    written: &written::Node,
    base: &Path,
    check: &mut Checker,
) -> Option<AgentSettings> {
    let key = |name: &str| format!("nodes[{number}].{name}");
    let path = |file: &Option<std::path::PathBuf>| file.as_deref().map(|file| under(base, file));
    let token_key = key("agent_token");
    let token_file = path(&written.agent_token_file);
    let source = Source {
        key: &token_key,
        plain: written.agent_token.as_ref(),
        file: token_file.as_deref(),
        variable: written.agent_token_env.as_deref(),
        credential: None,
        command: None,
    };
    let token = secrets::read(check, &source);
    let ca_file = path(&written.agent_ca_file);
    let own = match (path(&written.agent_cert_file), path(&written.agent_key_file)) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            check.problem(&key("agent_cert_file"), "one of two files", "certificate and key", None);
            None
        }
    };
    let files = ca_file.iter().map(|file| ("agent_ca_file", file));
    let files = files.chain(own.iter().flat_map(|(c, k)| [("agent_cert_file", c), ("agent_key_file", k)]));
    for (name, file) in files {
        check.readable(&key(name), file);
    }
    let Some(url) = &written.agent else {
        if token.is_some() || ca_file.is_some() || own.is_some() {
            check.problem(&key("agent"), "missing", FORM, Some("without its URL no agent is asked"));
        }
        return None;
    };
    let (secure, host, port) = url_parts(&key("agent"), url, check)?;
    if !secure && (ca_file.is_some() || own.is_some()) {
        check.problem(&key("agent"), "certificates with http", FORM, Some("write https"));
    }
    if token.is_none() && own.is_none() {
        let hint = "the token of the agent's configuration: agent_token_file";
        check.problem(&token_key, "missing", "a token, or a certificate of our own", Some(hint));
    }
    Some(AgentSettings { host, port, tls: secure.then_some(AgentTls { ca_file, own }), token })
}

fn url_parts(key: &str, url: &str, check: &mut Checker) -> Option<(bool, String, u16)> {
    let parts = url_parts_of(url);
    match &parts {
        None => check.problem(key, format!("found {url:?}"), FORM, None),
        // Requests carry passwords of replication roles.
        Some((false, host, _)) if !is_loopback(host) => {
            check.problem(key, "http to another machine", FORM, Some("write https"));
        }
        Some(_) => {}
    }
    parts
}

fn url_parts_of(url: &str) -> Option<(bool, String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let secure = match scheme {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest)).ok()?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = host.trim_matches(['[', ']']);
    let plain = !host.is_empty() && !host.contains(['/', '@', '?', ' ']);
    plain.then(|| (secure, host.to_owned(), port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_others_are_not() {
        assert_eq!(url_parts_of("https://db1:6434"), Some((true, "db1".into(), 6434)));
        assert_eq!(url_parts_of("http://127.0.0.1:1/"), Some((false, "127.0.0.1".into(), 1)));
        assert_eq!(url_parts_of("https://[::1]:9"), Some((true, "::1".into(), 9)));
        for wrong in ["db1:6434", "ftp://a:1", "https://a", "https://a:0", "https://:1", "https://u@a:1", ""]
        {
            assert_eq!(url_parts_of(wrong), None, "{wrong}");
        }
        assert!(is_loopback("localhost") && is_loopback("::1") && !is_loopback("10.0.0.1"));
    }
}
