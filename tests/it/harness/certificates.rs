//! Certificates for one test, as OpenSSL makes them: an authority, a certificate of it for the name `localhost`, two for
//! clients of which one is revoked, and a stranger's authority that signed only `next.crt`, which may follow the other.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::template::installation;

/// A directory of PEM files that servers, the proxy and psql may read.
#[derive(Debug)]
pub(crate) struct Certificates {
    dir: tempfile::TempDir,
}

const SCRIPT: &str = "\
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.crt &&
    openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr &&
    printf 'subjectAltName=DNS:localhost,DNS:primacy.example' > san &&
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile san -out server.crt &&
    for name in alice mallory; do
        openssl req -newkey rsa:2048 -nodes -subj /O=example/CN=$name -keyout $name.key -out $name.csr &&
        printf 'subjectAltName=URI:spiffe://example/'$name'\nextendedKeyUsage=clientAuth' > san &&
        openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile san -out $name.crt || exit 1
    done &&
    printf '[ca]\ndefault_ca=x\n[x]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=30\n' > conf &&
    : > index && printf 01 > number &&
    openssl ca -config conf -keyfile ca.key -cert ca.crt -revoke mallory.crt &&
    openssl ca -config conf -keyfile ca.key -cert ca.crt -gencrl -out ca.crl &&
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=stranger -keyout other.key -out other.crt &&
    openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout next.key -out next.csr &&
    printf 'subjectAltName=DNS:localhost' > san &&
    openssl x509 -req -in next.csr -CA other.crt -CAkey other.key -CAcreateserial -days 30 -extfile san -out next.crt &&
    chmod 600 *.key && chmod 644 *.crt ca.crl";

impl Certificates {
    /// Makes them. The files belong to the account that the servers run as, because PostgreSQL wants its key so.
    pub(crate) async fn make() -> Self {
        let account = &installation().await.account;
        let dir = tempfile::Builder::new().prefix("primacy-it-tls-").tempdir().unwrap();
        let made = Command::new("sh").args(["-c", SCRIPT]).current_dir(dir.path()).output().unwrap();
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        account.own(dir.path()).unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            account.own(&file.unwrap().path()).unwrap();
        }
        Self { dir }
    }

    /// `ca.crt`, `ca.crl`, `other.crt`, `server.crt`, `next.crt`, `alice.crt` (a client), `mallory.crt` (revoked), or a key of them.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }
}
