//! `postgres://user:password@host:port/database?sslmode=...` -> its parts (libpq's connection URIs; PostgreSQL manual, 34.1.1.2).
//!
//! One host per URL; a Unix socket's directory is written percent-encoded (`%2Frun%2Fpostgresql`) or as `?host=/run/...`.
//! Errors never hold the text: it may carry a password.

use std::path::PathBuf;

use crate::model::{Address, Secret};

/// The parts of a URL; what it leaves out is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUrl {
    /// Where the server listens (port 5432 where not given).
    pub address: Address,
    /// Role.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Database.
    pub database: Option<String>,
    /// `sslmode`.
    pub sslmode: Option<String>,
    /// `sslrootcert`.
    pub sslrootcert: Option<PathBuf>,
}

/// Why a text is not a node's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeUrlError {
    /// No `postgres://` in front.
    #[error("does not begin with postgres:// or postgresql://")]
    Scheme,
    /// No host.
    #[error("names no host")]
    Host,
    /// Several hosts.
    #[error("names several hosts: give one URL per node")]
    SeveralHosts,
    /// The port is not one.
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    /// `%` without two hexadecimal digits, or not UTF-8.
    #[error("has a wrong %-escape")]
    Escape,
    /// A parameter that means nothing here.
    #[error(
        "has the parameter {name:?}, which is not known here (known: sslmode, sslrootcert, host, port, user, password, dbname)"
    )]
    Parameter {
        /// Which one.
        name: String,
    },
}

/// Reads a URL.
pub fn parse(text: &str) -> Result<NodeUrl, NodeUrlError> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let rest = rest.ok_or(NodeUrlError::Scheme)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    // The last @: a password may hold one that was not escaped.
    let (login, host_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = split_port(host_port)?;
    let mut parts = Parts {
        host: decoded(host)?,
        port: decoded(port)?,
        user: filled(user)?,
        password: filled(password)?,
        database: filled(database)?,
        sslmode: None,
        sslrootcert: None,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parts.set(name, decoded(value)?)?;
    }
    parts.finish()
}

struct Parts {
    host: String,
    port: String,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
}

impl Parts {
    fn set(&mut self, name: &str, value: String) -> Result<(), NodeUrlError> {
        match name {
            "host" => self.host = value,
            "port" => self.port = value,
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "dbname" => self.database = Some(value),
            "sslmode" => self.sslmode = Some(value),
            "sslrootcert" => self.sslrootcert = Some(value.into()),
            // They say how a client connects or looks; a node's URL copied from an application may carry them.
            "application_name" | "connect_timeout" | "target_session_attrs" => {}
            other => return Err(NodeUrlError::Parameter { name: other.chars().take(40).collect() }),
        }
        Ok(())
    }

    fn finish(self) -> Result<NodeUrl, NodeUrlError> {
        if self.host.is_empty() {
            return Err(NodeUrlError::Host);
        }
        if self.host.contains(',') {
            return Err(NodeUrlError::SeveralHosts);
        }
        let port = if self.port.is_empty() { Some(5432) } else { self.port.parse().ok().filter(|p| *p != 0) };
        Ok(NodeUrl {
            address: address(&self.host, port.ok_or(NodeUrlError::Port)?),
            user: self.user,
            password: self.password.map(Secret::new),
            database: self.database,
            sslmode: self.sslmode,
            sslrootcert: self.sslrootcert,
        })
    }
}

/// A host as libpq understands it: what begins with a slash is the directory of a Unix socket.
pub fn address(host: &str, port: u16) -> Address {
    if host.starts_with('/') {
        Address::Unix { dir: host.into(), port }
    } else {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Address::Tcp { host: bare.to_owned(), port }
    }
}

/// `host:port`, `[::1]:port` or a host alone.
pub(super) fn split_port(text: &str) -> Result<(&str, &str), NodeUrlError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(NodeUrlError::Host)?;
        return match port.strip_prefix(':') {
            Some(port) => Ok((host, port)),
            None if port.is_empty() => Ok((host, "")),
            None => Err(NodeUrlError::Port),
        };
    }
    if text.contains(',') {
        return Err(NodeUrlError::SeveralHosts);
    }
    Ok(text.split_once(':').unwrap_or((text, "")))
}

fn filled(text: &str) -> Result<Option<String>, NodeUrlError> {
    if text.is_empty() { Ok(None) } else { decoded(text).map(Some) }
}

/// Percent-decoding.
fn decoded(text: &str) -> Result<String, NodeUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let (digits, tail) = tail.split_at_checked(2).ok_or(NodeUrlError::Escape)?;
            let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (high, low) = digits.first().zip(digits.get(1)).ok_or(NodeUrlError::Escape)?;
            let (high, low) = digit(*high).zip(digit(*low)).ok_or(NodeUrlError::Escape)?;
            bytes.push(high << 4 | low);
            rest = tail;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().ok_or(NodeUrlError::Escape)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn parts_are_found() {
        let url = parse("postgres://ha:p%40ss@db1:6441/app?sslmode=require").expect("a URL");
        assert_eq!(url.address, tcp("db1", 6441));
        assert_eq!(url.user.as_deref(), Some("ha"));
        assert_eq!(url.password, Some(Secret::new("p@ss")));
        assert_eq!(url.database.as_deref(), Some("app"));
        assert_eq!(url.sslmode.as_deref(), Some("require"));
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        for (text, address) in [
            ("postgresql://db1", tcp("db1", 5432)),
            ("postgres://db1:7/", tcp("db1", 7)),
            ("postgres://[::1]:7/x", tcp("::1", 7)),
            ("postgres://[::1]", tcp("::1", 5432)),
            ("postgres://u@%2Frun%2Fpg:7", Address::Unix { dir: "/run/pg".into(), port: 7 }),
            ("postgres:///x?host=/run/pg&port=7", Address::Unix { dir: "/run/pg".into(), port: 7 }),
        ] {
            assert_eq!(parse(text).map(|url| url.address), Ok(address), "{text}");
        }
    }

    #[test]
    fn wrong_urls_say_what_is_wrong() {
        for (text, error) in [
            ("mysql://x", NodeUrlError::Scheme),
            ("db1:5432", NodeUrlError::Scheme),
            ("postgres://", NodeUrlError::Host),
            ("postgres://a,b/x", NodeUrlError::SeveralHosts),
            ("postgres://a:b/x", NodeUrlError::Port),
            ("postgres://a:0/x", NodeUrlError::Port),
            ("postgres://a:99999", NodeUrlError::Port),
            ("postgres://%4/x", NodeUrlError::Escape),
            ("postgres://a/x?foo=1", NodeUrlError::Parameter { name: "foo".into() }),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(postgres://)?[a-z@:/%?=&,\\[\\]0-9é]{0,40}") {
            let _parsed = parse(&text);
        }
    }
}
