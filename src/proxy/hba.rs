//! Who may try to sign in, from where, and how: rules with the meaning of PostgreSQL's `pg_hba.conf`. In: what is known of
//! a connection. Out: the method of the first rule that fits, or nothing. Pure: neither files nor sockets.
//!
//! What PostgreSQL can say and primacy cannot know (members of a role, a host's name, Kerberos) is refused when the rules
//! are read, never passed over: a rule that is left out lets in whom it would have stopped.

mod file;
mod rule;

use std::net::IpAddr;

use subtle::ConstantTimeEq as _;

pub use file::{HbaFileError, IdentLine, parse_hba, parse_ident};
pub use rule::{RuleError, Written};

use crate::tls::Owner;

/// How a client proves its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Not at all.
    Trust,
    /// It may not come in.
    Reject,
    /// SCRAM, whatever else is known of the role's password.
    Scram,
    /// md5, or SCRAM where the role's password is kept so.
    Md5,
    /// The password itself, under TLS or on a Unix socket.
    Password,
    /// A certificate that names the role.
    Cert,
    /// The account of this machine on the other end of a Unix socket has the role's name.
    Peer,
}

impl Method {
    /// `pg_hba.conf`'s words.
    pub const WORDS: [(&'static str, Self); 7] = [
        ("trust", Self::Trust),
        ("reject", Self::Reject),
        ("scram-sha-256", Self::Scram),
        ("md5", Self::Md5),
        ("password", Self::Password),
        ("cert", Self::Cert),
        ("peer", Self::Peer),
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, method)| *method == self).map_or("", |(word, _)| word)
    }
}

/// Over what a connection may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
}

/// What a rule's `database` names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Database {
    /// Any but replication.
    All,
    /// The one with the role's name.
    SameUser,
    /// Physical replication, which is to no database.
    Replication,
    Named(String),
}

/// What a rule's `user` names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum User {
    All,
    Named(String),
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `::1/128`, or an address alone, which means itself.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // `+8` and `08` are numbers to Rust and none to a person.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => longest,
        };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// Reads an address and a mask, as older files write them.
    fn with_mask(address: &str, mask: &str) -> Option<Self> {
        let (address, mask): (IpAddr, IpAddr) = (address.parse().ok()?, mask.parse().ok()?);
        if address.is_ipv4() != mask.is_ipv4() {
            return None;
        }
        let (bits, longest) = (bits(mask), if mask.is_ipv4() { 32_u8 } else { 128 });
        let ones = (bits << (128 - longest)).leading_ones();
        let prefix = u8::try_from(ones).ok()?.min(longest);
        // Ones, then zeros, and nothing between.
        let whole = bits.count_ones() == u32::from(prefix);
        whole.then_some(Self { address, prefix })
    }

    /// Whether an address lies in it. An IPv4 address that came over an IPv6 socket is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let longest = if self.address.is_ipv4() { 32 } else { 128 };
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        let shift = u32::from(longest - self.prefix);
        // A shift by all bits leaves nothing to compare: everybody is in 0.0.0.0/0.
        let rest = |address| bits(address).checked_shr(shift).unwrap_or(0);
        same_family && rest(self.address) == rest(address)
    }

    /// Whether it is everybody.
    pub fn is_everybody(&self) -> bool {
        self.prefix == 0
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u128::from(u32::from(four)),
        IpAddr::V6(six) => u128::from(six),
    }
}

/// Which of a certificate's names counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// The common name.
    #[default]
    Common,
    /// The distinguished name, as RFC 4514 writes it.
    Distinguished,
    /// Any of the alternative names: hosts, mail addresses, URIs.
    Alternative,
}

/// What a rule asks of a client certificate besides its method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Certificate {
    /// Nothing.
    #[default]
    Any,
    /// That there is one; the handshake has checked it.
    Shown,
    /// That it names the role.
    NamesRole,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    kind: Kind,
    databases: Vec<Database>,
    users: Vec<User>,
    networks: Vec<Network>,
    method: Method,
    certificate: Certificate,
    name: CertificateName,
    map: Option<String>,
}

/// `pg_ident.conf`'s lines: an identity of the outside may use a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The map that it belongs to.
    pub map: String,
    /// The name that a certificate or the system gives.
    pub identity: String,
    /// The role, or `all`.
    pub user: String,
}

/// The rules and maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hba {
    /// In order: the first that fits decides.
    pub rules: Vec<Rule>,
    /// Maps that rules name.
    pub maps: Vec<Mapping>,
}

/// A connection, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where it comes from; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether it is encrypted.
    pub tls: bool,
    /// The role.
    pub user: &'a str,
    /// The database.
    pub database: &'a str,
    /// Whether it wants physical replication.
    pub replication: bool,
}

/// Who the other end is, by what is proven without a password.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// By its certificate.
    pub certificate: Option<Owner>,
    /// By the system: the account that has the other end of a Unix socket.
    pub account: Option<String>,
}

impl Hba {
    /// The first rule that fits; `None`: nobody said that this connection may come in.
    pub fn find(&self, asked: &Asked<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.fits(asked))
    }

    /// Whether a rule's demands on the other end's identity are met.
    pub fn identity_fits(&self, rule: &Rule, identity: &Identity, user: &str) -> bool {
        let by_certificate = match rule.certificate {
            Certificate::Any => true,
            Certificate::Shown => identity.certificate.is_some(),
            Certificate::NamesRole => identity
                .certificate
                .as_ref()
                .is_some_and(|owner| names(owner, rule.name).any(|name| self.may_be(rule, name, user))),
        };
        let account = identity.account.as_deref();
        let by_account =
            rule.method != Method::Peer || account.is_some_and(|name| self.may_be(rule, name, user));
        by_certificate && by_account
    }

    /// Whether an identity may use a role: it has its name, or the rule's map says so.
    fn may_be(&self, rule: &Rule, identity: &str, user: &str) -> bool {
        if identity.is_empty() {
            return false;
        }
        let same = |a: &str, b: &str| bool::from(a.as_bytes().ct_eq(b.as_bytes()));
        let Some(map) = &rule.map else { return same(identity, user) };
        self.maps.iter().any(|line| {
            line.map == *map && same(&line.identity, identity) && (line.user == "all" || line.user == user)
        })
    }
}

fn names(owner: &Owner, which: CertificateName) -> impl Iterator<Item = &str> {
    let one = match which {
        CertificateName::Common => Some(owner.common_name.as_str()),
        CertificateName::Distinguished => Some(owner.distinguished_name.as_str()),
        CertificateName::Alternative => None,
    };
    let more = if one.is_none() { owner.alternatives.as_slice() } else { &[] };
    one.into_iter().chain(more.iter().map(String::as_str))
}

impl Rule {
    /// Its method.
    pub fn method(&self) -> Method {
        self.method
    }

    fn fits(&self, asked: &Asked<'_>) -> bool {
        let over = match (self.kind, asked.address) {
            (Kind::Local, None) | (Kind::Host, Some(_)) => true,
            (Kind::Local, Some(_)) | (_, None) => false,
            (Kind::HostSsl, Some(_)) => asked.tls,
            (Kind::HostNoSsl, Some(_)) => !asked.tls,
        };
        let from = asked.address.is_none_or(|from| self.networks.iter().any(|net| net.contains(from)));
        let database = self.databases.iter().any(|database| match database {
            Database::All => !asked.replication,
            Database::SameUser => !asked.replication && asked.database == asked.user,
            Database::Replication => asked.replication,
            Database::Named(name) => !asked.replication && name == asked.database,
        });
        let user = self.users.iter().any(|user| match user {
            User::All => true,
            User::Named(name) => name == asked.user,
        });
        over && from && database && user
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Local => "local",
            Kind::Host => "host",
            Kind::HostSsl => "hostssl",
            Kind::HostNoSsl => "hostnossl",
        };
        let databases: Vec<_> = self.databases.iter().map(|database| format!("{database:?}")).collect();
        let users: Vec<_> = self.users.iter().map(|user| format!("{user:?}")).collect();
        let networks: Vec<_> = self.networks.iter().map(ToString::to_string).collect();
        let (databases, users, networks) = (databases.join(","), users.join(","), networks.join(","));
        write!(f, "{kind} {databases} {users} {networks} {}", self.method.as_str())?;
        write!(f, " {:?} {:?} {}", self.certificate, self.name, self.map.as_deref().unwrap_or_default())
    }
}

/// The rules of a configuration without any: TCP and Unix sockets, every role and database, each with its password.
pub fn password_for_everybody() -> Hba {
    let everybody = ["0.0.0.0/0", "::/0"].into_iter().filter_map(Network::parse).collect();
    let rule = |kind, networks| Rule {
        kind,
        databases: vec![Database::All, Database::Replication],
        users: vec![User::All],
        networks,
        method: Method::Md5,
        certificate: Certificate::Any,
        name: CertificateName::Common,
        map: None,
    };
    Hba { rules: vec![rule(Kind::Local, Vec::new()), rule(Kind::Host, everybody)], maps: Vec::new() }
}

#[cfg(test)]
mod tests;
