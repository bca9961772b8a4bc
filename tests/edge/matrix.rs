//! `sslmode` to the letter: both planes of ours and libpq (psql) are asked the same, before servers of every kind, and must
//! be let in, with TLS or without, or kept out, alike.

use std::fs;
use std::path::PathBuf;

use primacy::control::link::{Link, Target};
use primacy::control::settings::{Credentials, NodeSettings};
use primacy::model::{Address, NodeId, Secret};
use primacy::proxy::server::{self, SignIn};
use primacy::proxy::tls::ServerTlsConfig;
use primacy::tls::{ChannelBinding, ServerTls, ServerTlsMode};

use crate::harness::{DEADLINE, Postgres};
use crate::password;
use crate::tls::{Certificates, use_certificate};

const HBA: &str = "\
    hostssl all tls_only 127.0.0.1/32 scram-sha-256\n\
    hostnossl all plain_only 127.0.0.1/32 scram-sha-256\n\
    hostssl all by_certificate 127.0.0.1/32 cert\n\
    hostssl all client 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n\
    host all either 127.0.0.1/32 scram-sha-256\n";

const ROLES: [&str; 5] = ["tls_only", "plain_only", "either", "by_certificate", "client"];

/// What somebody asks of a connection.
#[derive(Clone, Debug)]
struct Asked {
    role: &'static str,
    host: &'static str,
    tls: ServerTls,
}

impl Asked {
    fn of(role: &'static str, host: &'static str, mode: ServerTlsMode) -> Self {
        Self { role, host, tls: ServerTls { mode, ..ServerTls::default() } }
    }

    fn trusting(mut self, certificates: &Certificates, ca: Option<&str>) -> Self {
        self.tls.ca_file = ca.map(|name| certificates.path(&format!("{name}.crt")));
        self
    }

    fn showing(mut self, certificates: &Certificates, name: &str) -> Self {
        self.tls.cert_file = Some(certificates.path(&format!("{name}.crt")));
        self.tls.key_file = Some(certificates.path(&format!("{name}.key")));
        self
    }

    /// Whether the data path is let in, and then whether over TLS.
    async fn data_path(&self, postgres: &Postgres) -> Option<bool> {
        let config = ServerTlsConfig::load(&self.tls).ok()?;
        let credential = password("secret");
        let who = SignIn { user: self.role, database: "postgres", startup: &[], credential: &credential };
        let node = postgres.node(self.host, self.tls.clone());
        server::connect(&node, &config, &who, DEADLINE).await.ok().map(|connected| connected.stream.is_tls())
    }

    /// The same of the control plane.
    async fn control_plane(&self, postgres: &Postgres) -> Option<bool> {
        let address = Address::Tcp { host: self.host.to_owned(), port: postgres.port };
        let mut node = NodeSettings::new("n0", address);
        node.tls = self.tls.clone();
        let role = Credentials { user: self.role.into(), password: Secret::new("secret") };
        let target = Target::new(NodeId(0), &node, &role, "postgres").ok()?;
        let link = Link::open(&target, DEADLINE).await.ok()?;
        let row =
            link.client().query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await;
        Some(row.unwrap().get(0))
    }

    /// The same of libpq.
    async fn libpq(&self, postgres: &Postgres) -> Option<bool> {
        let file = |name: &str, path: &Option<PathBuf>| {
            path.as_ref().map(|path| format!(" {name}={}", path.display())).unwrap_or_default()
        };
        let ServerTls { mode, ca_file, crl_file, cert_file, key_file, channel_binding, .. } = &self.tls;
        let conninfo = format!(
            "host={} port={} user={} password=secret dbname=postgres gssencmode=disable sslmode={} channel_binding={}{}{}{}{}",
            self.host,
            postgres.port,
            self.role,
            mode.as_str(),
            channel_binding.as_str(),
            file("sslrootcert", ca_file),
            file("sslcrl", crl_file),
            file("sslcert", cert_file),
            file("sslkey", key_file),
        );
        let asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let printed = postgres.psql(&conninfo, asked).await;
        printed.status.success().then(|| String::from_utf8_lossy(&printed.stdout).trim() == "t")
    }
}

/// Asks all three; what they agree on.
async fn agreed(postgres: &Postgres, asked: &Asked, wrong: &mut Vec<String>) -> Option<bool> {
    let libpq = asked.libpq(postgres).await;
    let (data, control) = (asked.data_path(postgres).await, asked.control_plane(postgres).await);
    if data != libpq || control != libpq {
        wrong.push(format!("libpq {libpq:?}, data path {data:?}, control plane {control:?}: {asked:?}"));
    }
    libpq
}

fn modes() -> impl Iterator<Item = ServerTlsMode> {
    ServerTlsMode::WORDS.into_iter().map(|(_, mode)| mode)
}

async fn with_roles(conf: &str) -> Option<Postgres> {
    let postgres = Postgres::start(HBA, conf).await?;
    for role in ROLES {
        postgres.sql(&format!("create role {role} login password 'secret'")).await.unwrap();
    }
    Some(postgres)
}

#[tokio::test]
async fn sslmode_means_what_it_means_to_libpq() {
    let Some(certificates) = Certificates::make() else { return };
    let Some(postgres) = with_roles("").await else { return };
    let mut wrong = Vec::new();
    for mode in modes() {
        for role in ["tls_only", "plain_only", "either"] {
            let asked = Asked::of(role, "localhost", mode).trusting(&certificates, Some("ca"));
            let seen = agreed(&postgres, &asked, &mut wrong).await;
            assert_eq!(
                seen,
                (!mode.required() && role != "tls_only").then_some(false),
                "without TLS: {asked:?}"
            );
        }
    }
    let (mut encrypted, mut plain, mut refused) = (0, 0, 0);
    for server in ["self", "server", "named", "starred"] {
        use_certificate(&postgres, &certificates, server).await;
        for mode in modes() {
            for (role, host, ca) in [
                ("tls_only", "localhost", Some("ca")),
                ("plain_only", "localhost", Some("ca")),
                ("either", "localhost", Some("ca")),
                ("either", "127.0.0.1", Some("ca")),
                ("either", "localhost", Some("self")),
                ("either", "localhost", None),
            ] {
                let asked = Asked::of(role, host, mode).trusting(&certificates, ca);
                match agreed(&postgres, &asked, &mut wrong).await {
                    Some(true) => encrypted += 1,
                    Some(false) => plain += 1,
                    None => refused += 1,
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(encrypted > 30 && plain > 30 && refused > 30, "{encrypted} {plain} {refused}");
}

#[tokio::test]
async fn certificates_are_shown_to_servers_and_revoked_or_old_ones_refused() {
    let Some(certificates) = Certificates::make() else { return };
    let Some(postgres) = with_roles("").await else { return };
    let ca = postgres.dir().join("ca.crt");
    fs::copy(certificates.path("ca.crt"), &ca).unwrap();
    postgres.sql(&format!("alter system set ssl_ca_file = '{}'", ca.display())).await.unwrap();
    use_certificate(&postgres, &certificates, "server").await;
    let mut wrong = Vec::new();
    let full =
        |role| Asked::of(role, "localhost", ServerTlsMode::VerifyFull).trusting(&certificates, Some("ca"));
    for (asked, let_in) in [
        (full("by_certificate").showing(&certificates, "by_certificate"), true),
        (full("by_certificate").showing(&certificates, "client"), false),
        (full("by_certificate"), false),
        // Certificate and password.
        (full("client").showing(&certificates, "client"), true),
        (full("client").showing(&certificates, "by_certificate"), false),
        (full("client"), false),
        // One that the server's authority does not know.
        (full("client").showing(&certificates, "self"), false),
        (full("either").showing(&certificates, "client"), true),
    ] {
        let seen = agreed(&postgres, &asked, &mut wrong).await;
        assert_eq!(seen, let_in.then_some(true), "{asked:?}");
    }
    let binding = |role, binding| {
        let mut asked = full(role);
        asked.tls.channel_binding = binding;
        asked
    };
    // Who signs in by certificate proves nothing that could be bound.
    let certified =
        binding("by_certificate", ChannelBinding::Require).showing(&certificates, "by_certificate");
    for (asked, let_in) in [(binding("tls_only", ChannelBinding::Require), true), (certified, false)] {
        assert_eq!(agreed(&postgres, &asked, &mut wrong).await, let_in.then_some(true), "{asked:?}");
    }
    for (server, let_in) in [("server", true), ("revoked", false), ("expired", false)] {
        use_certificate(&postgres, &certificates, server).await;
        for mode in [ServerTlsMode::Require, ServerTlsMode::VerifyCa, ServerTlsMode::VerifyFull] {
            let mut asked = Asked::of("tls_only", "localhost", mode).trusting(&certificates, Some("ca"));
            asked.tls.crl_file = Some(certificates.path("ca.crl"));
            let seen = agreed(&postgres, &asked, &mut wrong).await;
            assert_eq!(seen, let_in.then_some(true), "{server}: {asked:?}");
        }
    }
    // Its own authority, and no longer of this time.
    use_certificate(&postgres, &certificates, "old").await;
    let asked =
        Asked::of("tls_only", "localhost", ServerTlsMode::VerifyCa).trusting(&certificates, Some("old"));
    assert_eq!(agreed(&postgres, &asked, &mut wrong).await, None);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
