//! TLS on both sides, with certificates made by openssl.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use primacy::control::link::{Link, Target};
use primacy::control::settings::{Credentials, NodeSettings};
use primacy::model::{NodeId, Secret};
use primacy::proxy::login::{LoginError, Outcome};
use primacy::proxy::server::{self, ConnectError, SignIn};
use primacy::proxy::settings::{ClientTls, ClientTlsMode};
use primacy::proxy::tls::ServerTlsConfig;
use primacy::session::ClientError;
use primacy::tls::{Negotiation, ServerTls, ServerTlsMode, TlsError};
use primacy::wire::encode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{DEADLINE, Door, Postgres};
use crate::password;

/// An authority, and certificates: for localhost (self-signed, by the authority, by common name only, for another host, revoked,
/// expired) and for two clients.
pub(crate) struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    /// `None`, and a word about it, where openssl is not installed.
    pub(crate) fn make() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let made = Self { dir };
        if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no openssl");
            return None;
        }
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        made.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=self -addext {names} -keyout self.key -out self.crt"
        ));
        made.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt",
        );
        let client = "extendedKeyUsage=clientAuth";
        for (name, common_name, extension) in [
            ("server", "server", names),
            ("client", "client", client),
            ("by_certificate", "by_certificate", client),
            ("named", "localhost", ""),
            ("starred", "*.localhost", "subjectAltName=DNS:elsewhere.example,IP:127.0.0.1"),
            ("revoked", "localhost", names),
            ("expired", "localhost", names),
        ] {
            fs::write(made.path("extensions"), format!("{extension}\nbasicConstraints=CA:FALSE\n")).unwrap();
            made.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={common_name} -keyout {name}.key -out {name}.csr"
            ));
            // In the past only where `openssl ca` is asked.
            let end = if name == "expired" { "200102000000Z" } else { "400101000000Z" };
            made.sign(&format!("-cert ca.crt -keyfile ca.key -enddate {end} -in {name}.csr -out {name}.crt"));
        }
        made.openssl("ca -config authority.conf -cert ca.crt -keyfile ca.key -revoke revoked.crt");
        made.openssl("ca -config authority.conf -cert ca.crt -keyfile ca.key -gencrl -out ca.crl");
        made.openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout old.key -out old.csr");
        made.sign("-selfsign -keyfile old.key -enddate 200102000000Z -in old.csr -out old.crt");
        Some(made)
    }

    /// Makes a certificate as an authority does, with the extensions that were written last.
    fn sign(&self, arguments: &str) {
        let conf = "[ca]\ndefault_ca=x\n[x]\ndatabase=index\nserial=serial\ncrlnumber=number\ndefault_md=sha256\n\
                    default_crl_days=30\nnew_certs_dir=.\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n";
        if !self.path("index").exists() {
            for (name, text) in [("authority.conf", conf), ("index", ""), ("serial", "01"), ("number", "01")]
            {
                fs::write(self.path(name), text).unwrap();
            }
        }
        self.openssl(&format!(
            "ca -batch -notext -config authority.conf -startdate 200101000000Z -extfile extensions {arguments}"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output =
            Command::new("openssl").args(arguments.split(' ')).current_dir(self.dir.path()).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A server with the certificate `server` that speaks TLS and does not say which protocol it speaks in it; its port.
    async fn web_server(&self) -> (std::process::Child, u16) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("openssl")
            .args([
                "s_server",
                "-quiet",
                "-cert",
                "server.crt",
                "-key",
                "server.key",
                "-accept",
                &port.to_string(),
            ])
            .current_dir(self.dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        crate::harness::eventually(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        (child, port)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn client_tls(&self, mode: ClientTlsMode, name: &str) -> ClientTls {
        ClientTls {
            mode,
            cert_file: Some(self.path(&format!("{name}.crt"))),
            key_file: Some(self.path(&format!("{name}.key"))),
            ca_file: Some(self.path("ca.crt")),
            crl_file: None,
        }
    }
}

/// A copy of certificate and key that the server's user may read.
fn hand_over(postgres_dir: &Path, certificates: &Certificates, name: &str) -> String {
    let owner = fs::metadata(postgres_dir).unwrap();
    let copied = ["crt", "key"].map(|kind| {
        use std::os::unix::fs::MetadataExt;
        let to = postgres_dir.join(format!("{name}.{kind}"));
        fs::copy(certificates.path(&format!("{name}.{kind}")), &to).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        to.display().to_string()
    });
    format!("ssl_cert_file='{}'\nssl_key_file='{}'\n", copied[0], copied[1])
}

pub(crate) async fn use_certificate(postgres: &Postgres, certificates: &Certificates, name: &str) {
    let settings = hand_over(postgres.dir(), certificates, name);
    for line in settings.lines().chain(["ssl=on"]) {
        postgres.sql(&format!("alter system set {line}")).await.unwrap();
    }
    postgres.sql("select pg_reload_conf()").await.unwrap();
    crate::harness::eventually(async || {
        let current = postgres.sql("show ssl_cert_file").await.unwrap();
        current.ends_with(&format!("{name}.crt")) && postgres.sql("show ssl").await.unwrap() == "on"
    })
    .await;
}

async fn connect(
    postgres: &Postgres,
    host: &str,
    mode: ServerTlsMode,
    ca: Option<PathBuf>,
) -> Result<bool, ConnectError> {
    let tls = ServerTls { mode, ca_file: ca, ..ServerTls::default() };
    let config = ServerTlsConfig::load(&tls).unwrap();
    let credential = password("secret");
    let who = SignIn { user: "app", database: "postgres", startup: &[], credential: &credential };
    let connected = server::connect(&postgres.node(host, tls), &config, &who, DEADLINE).await?;
    Ok(connected.stream.is_tls())
}

#[tokio::test]
async fn every_mode_towards_servers_checks_what_its_name_says() {
    use ServerTlsMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};
    let Some(certificates) = Certificates::make() else { return };
    let hba = "host all all 127.0.0.1/32 scram-sha-256";
    let Some(postgres) = Postgres::start(hba, "").await else { return };
    postgres.sql("create role app login password 'secret'").await.unwrap();
    let ca = |name: &str| Some(certificates.path(&format!("{name}.crt")));
    assert!(!connect(&postgres, "127.0.0.1", Prefer, None).await.unwrap(), "the server has no TLS yet");
    let refused = connect(&postgres, "127.0.0.1", Require, None).await.unwrap_err();
    assert!(matches!(refused, ConnectError::NoTls), "{refused:?}");

    for name in ["self", "server"] {
        use_certificate(&postgres, &certificates, name).await;
        let authority = if name == "self" { ca("self") } else { ca("ca") };
        assert!(!connect(&postgres, "127.0.0.1", Disable, None).await.unwrap());
        assert!(connect(&postgres, "127.0.0.1", Prefer, None).await.unwrap());
        assert!(connect(&postgres, "localhost", Require, None).await.unwrap());
        for host in ["127.0.0.1", "localhost"] {
            assert!(connect(&postgres, host, VerifyCa, authority.clone()).await.unwrap(), "{name}");
            assert!(connect(&postgres, host, VerifyFull, authority.clone()).await.unwrap(), "{name}");
        }
        for mode in [VerifyCa, VerifyFull] {
            let stranger = if name == "self" { ca("ca") } else { ca("self") };
            let error = connect(&postgres, "localhost", mode, stranger).await.unwrap_err();
            assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
        }
    }

    // The client's certificate has no name of this host in it.
    use_certificate(&postgres, &certificates, "client").await;
    assert!(connect(&postgres, "localhost", Require, None).await.unwrap());
    let error = connect(&postgres, "localhost", VerifyFull, ca("ca")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
}

#[tokio::test]
async fn clients_use_tls_as_the_mode_says() {
    let Some(certificates) = Certificates::make() else { return };
    let hba = "host all all 127.0.0.1/32 scram-sha-256";
    let Some(postgres) = Postgres::start(hba, "").await else { return };
    postgres.sql("create role app login password 'secret'").await.unwrap();
    let door =
        Door::before(&postgres, certificates.client_tls(ClientTlsMode::Require, "server"), DEADLINE).await;
    let root = certificates.path("ca.crt");
    let conninfo = format!("user=app password=secret dbname=postgres sslrootcert={}", root.display());

    let (printed, served) =
        door.psql(&postgres, &format!("{conninfo} sslmode=verify-full"), "select current_user").await;
    assert_eq!(printed, "app", "{served:?}");
    let (complaint, served) = door.psql(&postgres, &format!("{conninfo} sslmode=disable"), "select 1").await;
    assert!(complaint.contains("connection requires TLS"), "{complaint} {served:?}");

    // A port of ours that demands certificates.
    let tls = certificates.client_tls(ClientTlsMode::VerifyCa, "server");
    postgres.sql("drop role service").await.unwrap();
    let door = Door::before(&postgres, tls, DEADLINE).await;
    let (complaint, served) = door.psql(&postgres, &format!("{conninfo} sslmode=require"), "select 1").await;
    assert!(complaint.contains("connection requires a valid client certificate"), "{complaint} {served:?}");
    assert!(served.is_err(), "{served:?}");
    let shown = format!(
        "{conninfo} sslmode=require sslcert={} sslkey={}",
        certificates.path("client.crt").display(),
        certificates.path("client.key").display()
    );
    let (printed, served) = door.psql(&postgres, &shown, "select 7").await;
    assert_eq!(printed, "7", "{served:?}");
}

#[tokio::test]
async fn direct_tls_needs_the_protocols_name_and_early_bytes_are_refused() {
    let Some(certificates) = Certificates::make() else { return };
    let Some(postgres) = Postgres::start("", "").await else { return };
    let door =
        Door::before(&postgres, certificates.client_tls(ClientTlsMode::Prefer, "self"), DEADLINE).await;
    let tcp = async || TcpStream::connect(("127.0.0.1", door.port)).await.unwrap();

    let tls = ServerTls {
        mode: ServerTlsMode::VerifyFull,
        ca_file: Some(certificates.path("self.crt")),
        ..ServerTls::default()
    };
    let client = async {
        let mut stream =
            ServerTlsConfig::load(&tls).unwrap().connect(tcp().await, "localhost").await.unwrap();
        let mut out = Vec::new();
        encode::cancel_request(&mut out, 7, &[1; 4]);
        stream.write_all(&out).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let (outcome, mut near) = tokio::join!(door.admit(), client);
    let Ok(Outcome::Cancel { pid: 7, stream: mut far, .. }) = outcome else { panic!("{outcome:?}") };

    // What TLS has decrypted and nobody has read makes a stream readable, though its socket is empty.
    near.write_all(b"one record").await.unwrap();
    near.flush().await.unwrap();
    far.readable().await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'o');
    tokio::time::timeout(DEADLINE, far.readable()).await.expect("the rest is there").unwrap();
    let mut rest = [0; 9];
    far.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"ne record");
    far.shutdown_both().unwrap();
    tokio::time::timeout(DEADLINE, near.readable()).await.expect("the end is seen").unwrap();

    let without_name = async {
        let port = door.port.to_string();
        let connect = format!("127.0.0.1:{port}");
        let run = tokio::process::Command::new("openssl")
            .args(["s_client", "-connect", &connect])
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(DEADLINE, run).await.expect("openssl ends").unwrap()
    };
    let (outcome, _) = tokio::join!(door.admit(), without_name);
    assert!(matches!(outcome, Err(LoginError::Tls(_))), "{outcome:?}");

    let early = async {
        let mut stream = tcp().await;
        let mut out = Vec::new();
        encode::ssl_request(&mut out);
        encode::query(&mut out, b"drop table x");
        stream.write_all(&out).await.unwrap();
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).await.unwrap();
        seen
    };
    let (outcome, seen) = tokio::join!(door.admit(), early);
    assert_eq!(outcome.unwrap_err().shown(), Some(&ClientError::DataBeforeTls));
    let mut expected = Vec::new();
    ClientError::DataBeforeTls.encode_fatal(&mut expected);
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn problems_with_files_name_the_file() {
    let Some(certificates) = Certificates::make() else { return };
    let load = |change: &dyn Fn(&mut ClientTls)| {
        let mut tls = certificates.client_tls(ClientTlsMode::Require, "self");
        change(&mut tls);
        primacy::proxy::tls::ClientTlsConfig::load(&tls).unwrap_err()
    };
    assert!(matches!(load(&|tls| tls.cert_file = None), TlsError::Missing { setting: "cert_file" }));
    let absent = load(&|tls| tls.key_file = Some("/nonexistent/key".into()));
    assert!(matches!(absent, TlsError::Read { .. }) && absent.to_string().contains("/nonexistent/key"));
    let swapped = load(&|tls| tls.cert_file = tls.key_file.clone());
    assert!(matches!(swapped, TlsError::Pem { .. }) && swapped.to_string().contains("self.key"), "{swapped}");
    let foreign = load(&|tls| tls.key_file = Some(certificates.path("ca.key")));
    assert!(matches!(foreign, TlsError::CertificateAndKey { .. }), "{foreign:?}");
}

#[tokio::test]
async fn tls_begins_at_once_towards_servers_that_name_the_protocol() {
    let Some(certificates) = Certificates::make() else { return };
    let Some(postgres) = Postgres::start("host all all 127.0.0.1/32 scram-sha-256", "").await else { return };
    postgres.sql("create role app login password 'secret'").await.unwrap();
    let tls = |mode, ca: &str| ServerTls {
        mode,
        ca_file: Some(certificates.path(ca)),
        negotiation: Negotiation::Direct,
        ..ServerTls::default()
    };
    let credential = password("secret");
    let connect = async |port: u16, tls: ServerTls| {
        let who = SignIn { user: "app", database: "postgres", startup: &[], credential: &credential };
        let mut node = postgres.node("localhost", tls.clone());
        node.address = primacy::model::Address::Tcp { host: "localhost".into(), port };
        server::connect(&node, &ServerTlsConfig::load(&tls).unwrap(), &who, DEADLINE).await
    };
    // A port of ours is one that takes it, as a server of version 17 would.
    let door =
        Door::before(&postgres, certificates.client_tls(ClientTlsMode::Require, "server"), DEADLINE).await;
    for mode in [ServerTlsMode::Require, ServerTlsMode::VerifyFull] {
        let connected = async {
            let connected = connect(door.port, tls(mode, "ca.crt")).await.unwrap();
            assert!(connected.stream.is_tls());
        };
        let (served, ()) = tokio::join!(door.serve_one(), connected);
        assert!(served.is_ok(), "{served:?}");
    }
    // The control plane does the same.
    let mut node =
        NodeSettings::new("n0", primacy::model::Address::Tcp { host: "localhost".into(), port: door.port });
    node.tls = tls(ServerTlsMode::VerifyFull, "ca.crt");
    let role = Credentials { user: "app".into(), password: Secret::new("secret") };
    let target = Target::new(NodeId(0), &node, &role, "postgres").unwrap();
    let asked = async {
        let link = Link::open(&target, DEADLINE).await.unwrap();
        assert_eq!(link.client().query_one("select 7", &[]).await.unwrap().get::<_, i32>(0), 7);
    };
    let (served, ()) = tokio::join!(door.serve_one(), asked);
    assert!(served.is_ok(), "{served:?}");

    // A server before version 17 takes it for nonsense.
    use_certificate(&postgres, &certificates, "server").await;
    let version: u32 = postgres.sql("show server_version_num").await.unwrap().parse().unwrap();
    if version < 170_000 {
        let error = connect(postgres.port, tls(ServerTlsMode::Require, "ca.crt")).await.unwrap_err();
        assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    }
    // TLS, and another protocol: nothing is said to it.
    let mut stranger = certificates.web_server().await;
    let error = connect(stranger.1, tls(ServerTlsMode::Require, "ca.crt")).await.unwrap_err();
    stranger.0.kill().unwrap();
    stranger.0.wait().unwrap();
    let ConnectError::Tls(error) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("ALPN"), "{error}");
}
