//! A rule as written, in `[[hba]]` or in a `pg_hba.conf` -> a rule that can be applied, or why it cannot.

use super::{Certificate, CertificateName, Database, Kind, Method, Network, Rule, User};

/// A rule's texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `local`, `host`, `hostssl` or `hostnossl`.
    pub kind: String,
    /// Databases; each with whether it stood in quotes, which takes a keyword's meaning away.
    pub databases: Vec<(String, bool)>,
    /// Roles likewise.
    pub users: Vec<(String, bool)>,
    /// Addresses; none for `local`.
    pub addresses: Vec<String>,
    /// Mask of the only address, where it stands apart.
    pub mask: Option<String>,
    /// The method.
    pub method: String,
    /// Options, `name=value`.
    pub options: Vec<(String, String)>,
}

/// Why a rule cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not a kind of connection.
    #[error("{0:?} is no kind of connection: local, host, hostssl, hostnossl")]
    Kind(String),
    /// A method that is unknown or that a proxy cannot carry out.
    #[error("method {0:?} cannot be used: trust, reject, scram-sha-256, md5, password, cert, peer can")]
    Method(String),
    /// Neither an address nor a network.
    #[error("{0:?} is no address or network; names of hosts, samehost and samenet cannot be used")]
    Address(String),
    /// An address where none may be, or none where one must be.
    #[error("a rule for {0} connections {1}")]
    Addresses(&'static str, &'static str),
    /// Names that only PostgreSQL can resolve.
    #[error("{0:?} cannot be used: name roles and databases one by one")]
    Name(String),
    /// No database or no user.
    #[error("no {0}")]
    Missing(&'static str),
    /// An option that is unknown, or has a value that it cannot have.
    #[error("option {0}={1} cannot be used")]
    Option(String, String),
    /// A combination that must not be.
    #[error("{0}")]
    Unsafe(&'static str),
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// Where it says what cannot be applied exactly.
    pub fn new(written: &Written) -> Result<Self, RuleError> {
        let kind = match written.kind.as_str() {
            "local" => Kind::Local,
            // Nothing here is encrypted with GSSAPI, so that "not encrypted with GSSAPI" is everything.
            "host" | "hostnogssenc" => Kind::Host,
            "hostssl" => Kind::HostSsl,
            "hostnossl" => Kind::HostNoSsl,
            other => return Err(RuleError::Kind(other.to_owned())),
        };
        let method = Method::WORDS.iter().find(|(word, _)| *word == written.method);
        let Some((_, method)) = method else { return Err(RuleError::Method(written.method.clone())) };
        let mut rule = Self {
            kind,
            databases: written.databases.iter().map(database).collect::<Result<_, _>>()?,
            users: written.users.iter().map(user).collect::<Result<_, _>>()?,
            networks: networks(written, kind)?,
            method: *method,
            certificate: Certificate::Any,
            name: CertificateName::Common,
            map: None,
        };
        for (name, value) in &written.options {
            rule.option(name, value)?;
        }
        rule.checked()
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), RuleError> {
        let unusable = || RuleError::Option(name.to_owned(), value.to_owned());
        match (name, value) {
            ("clientcert", "verify-ca") => self.certificate = Certificate::Shown,
            ("clientcert", "verify-full") => self.certificate = Certificate::NamesRole,
            ("clientname", "CN") => self.name = CertificateName::Common,
            ("clientname", "DN") => self.name = CertificateName::Distinguished,
            ("clientname", "SAN") => self.name = CertificateName::Alternative,
            ("map", map) if !map.is_empty() => self.map = Some(map.to_owned()),
            _ => return Err(unusable()),
        }
        Ok(())
    }

    /// What each part allows and all together must not.
    fn checked(mut self) -> Result<Self, RuleError> {
        if self.databases.is_empty() {
            return Err(RuleError::Missing("database"));
        }
        if self.users.is_empty() {
            return Err(RuleError::Missing("user"));
        }
        if self.method == Method::Cert {
            self.certificate = Certificate::NamesRole;
        }
        let unsafe_if = |condition: bool, why| if condition { Err(RuleError::Unsafe(why)) } else { Ok(()) };
        unsafe_if(
            self.certificate != Certificate::Any && self.kind != Kind::HostSsl,
            "certificates are shown over TLS only: write hostssl",
        )?;
        unsafe_if(
            self.method == Method::Password && matches!(self.kind, Kind::Host | Kind::HostNoSsl),
            "the method password sends the password itself: write hostssl, or scram-sha-256",
        )?;
        unsafe_if(
            self.method == Method::Trust && self.networks.iter().any(Network::is_everybody),
            "the method trust needs addresses that are spelled out",
        )?;
        unsafe_if(
            self.method == Method::Peer && self.kind != Kind::Local,
            "the method peer is for local connections",
        )?;
        Ok(self)
    }
}

fn database((name, quoted): &(String, bool)) -> Result<Database, RuleError> {
    match name.as_str() {
        _ if *quoted => Ok(Database::Named(name.clone())),
        "all" => Ok(Database::All),
        "sameuser" => Ok(Database::SameUser),
        "replication" => Ok(Database::Replication),
        "samerole" | "samegroup" => Err(RuleError::Name(name.clone())),
        name if name.starts_with(['/', '@', '+']) => Err(RuleError::Name(name.to_owned())),
        name => Ok(Database::Named(name.to_owned())),
    }
}

fn user((name, quoted): &(String, bool)) -> Result<User, RuleError> {
    match name.as_str() {
        _ if *quoted => Ok(User::Named(name.clone())),
        "all" => Ok(User::All),
        name if name.starts_with(['/', '@', '+']) => Err(RuleError::Name(name.to_owned())),
        name => Ok(User::Named(name.to_owned())),
    }
}

fn networks(written: &Written, kind: Kind) -> Result<Vec<Network>, RuleError> {
    if kind == Kind::Local {
        return match (written.addresses.is_empty(), &written.mask) {
            (true, None) => Ok(Vec::new()),
            _ => Err(RuleError::Addresses("local", "has no address")),
        };
    }
    let mut networks = Vec::new();
    for text in &written.addresses {
        let unusable = || RuleError::Address(text.clone());
        match (text.as_str(), &written.mask) {
            ("all", None) => networks.extend(["0.0.0.0/0", "::/0"].into_iter().filter_map(Network::parse)),
            (address, Some(mask)) => {
                networks.push(Network::with_mask(address, mask).ok_or_else(unusable)?);
            }
            (address, None) => networks.push(Network::parse(address).ok_or_else(unusable)?),
        }
    }
    if networks.is_empty() { Err(RuleError::Addresses("host", "needs an address")) } else { Ok(networks) }
}
