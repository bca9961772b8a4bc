//! TLS at the HTTP address: the handshake, and what the visitor's certificate lets him do.
//!
//! Files that change are read again by the next connection; where they cannot be used, the former ones count.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::settings::Tls;
pub use crate::tls::TlsError;
use crate::tls::{Owner, Visitors, at_our_port, handshake, in_words, load, names_host};

/// For a handshake; who takes longer gives his place back.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// What is spoken, where the visitor asks for it by name.
const ALPN: &[u8] = b"http/1.1";

/// What a visitor's certificate lets him do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Look.
    Stats,
    /// Look, and change something.
    Admin,
}

/// The way in over TLS.
pub struct Door {
    settings: Tls,
    read: Mutex<Read>,
}

#[derive(Clone)]
struct Read {
    /// When the files had been written.
    written: Vec<Option<SystemTime>>,
    acceptor: TlsAcceptor,
    own: Arc<Own>,
}

/// Our certificate.
struct Own(CertificateDer<'static>);

/// Who came in over TLS.
#[derive(Clone)]
pub(super) struct Visitor {
    /// What his certificate lets him do; `None`: nothing, or he has none.
    pub(super) role: Option<Role>,
    /// Whose certificate it is, for the log.
    pub(super) name: Arc<str>,
    own: Arc<Own>,
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visitor").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Visitor {
    /// Whether our certificate is for that host: then no page of another name got a browser to come here.
    pub(super) fn came_to(&self, host: &str) -> bool {
        names_host(&self.own.0, host)
    }
}

impl Read {
    fn written(settings: &Tls) -> Vec<Option<SystemTime>> {
        let Tls { cert_file, key_file, ca_file, crl_file, admins: _, lookers: _ } = settings;
        let files: Vec<&PathBuf> = [cert_file, key_file].into_iter().chain(ca_file).chain(crl_file).collect();
        files.into_iter().map(|file| file.metadata().and_then(|data| data.modified()).ok()).collect()
    }

    fn files(settings: &Tls) -> Result<Self, TlsError> {
        // Before they are read: what is written meanwhile is read again.
        let written = Self::written(settings);
        let visitors = Visitors {
            ca_file: settings.ca_file.as_deref(),
            crl_file: settings.crl_file.as_deref(),
            // Who has none looks where looking is open, asks for the service's health, or has the token.
            must_show: false,
        };
        let mut config: ServerConfig = at_our_port((&settings.cert_file, &settings.key_file), visitors)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        let own = load::certificates(&settings.cert_file)?.swap_remove(0);
        Ok(Self { written, acceptor: TlsAcceptor::from(Arc::new(config)), own: Arc::new(Own(own)) })
    }
}

impl Door {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read or used.
    pub fn open(settings: &Tls) -> Result<Self, TlsError> {
        Ok(Self { settings: settings.clone(), read: Mutex::new(Read::files(settings)?) })
    }

    fn now(&self) -> Read {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let written = Read::written(&self.settings);
        if written != read.written {
            match Read::files(&self.settings) {
                Ok(new) => *read = new,
                Err(error) => {
                    read.written = written;
                    let error = crate::control::link::chain(&error);
                    tracing::warn!(error, "changed files of admin.tls cannot be used; the former ones count");
                }
            }
        }
        read.clone()
    }

    /// The handshake. The error says what was wrong with the visitor's certificate, too.
    pub(super) async fn let_in(&self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Visitor), String> {
        let Read { acceptor, own, .. } = self.now();
        let shaken = tokio::time::timeout(HANDSHAKE_MAX, handshake::accept(&acceptor, stream)).await;
        let stream = shaken.map_err(|_elapsed| "it took too long".to_owned())?;
        let stream = stream.map_err(|error| in_words(&error))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let owner = shown.and_then(Owner::of).unwrap_or_default();
        let visitor =
            Visitor { role: self.role_of(&owner), name: owner.distinguished_name.as_str().into(), own };
        Ok((stream, visitor))
    }

    /// The authorities have been asked already; a name alone opens nothing.
    fn role_of(&self, owner: &Owner) -> Option<Role> {
        let is_among = |names: &[String]| {
            let own = [&owner.common_name, &owner.distinguished_name];
            names.iter().any(|name| !name.is_empty() && own.contains(&name))
        };
        if is_among(&self.settings.admins) {
            Some(Role::Admin)
        } else if is_among(&self.settings.lookers) {
            Some(Role::Stats)
        } else {
            None
        }
    }
}
