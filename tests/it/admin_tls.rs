//! HTTPS at the HTTP address, and certificates in the place of tokens: asked by the real command line and by curl.

use std::process::Command;

use crate::harness::{Certificates, Cluster, LIMIT, Proxy, ProxyBuilder, eventually};

/// A proxy whose certificate and key are copies, so that they can be renewed.
fn secured<'c>(cluster: &'c Cluster, certificates: &Certificates) -> ProxyBuilder<'c> {
    renew(certificates, "server");
    cluster
        .proxy()
        .set("admin.tls_cert_file", certificates.path("admin.crt"))
        .set("admin.tls_key_file", certificates.path("admin.key"))
        .set("admin.tls_ca_file", certificates.path("ca.crt"))
}

/// Puts another pair in the place of the proxy's.
fn renew(certificates: &Certificates, name: &str) {
    for end in ["crt", "key"] {
        let from = certificates.file(&format!("{name}.{end}"));
        std::fs::copy(from, certificates.file(&format!("admin.{end}"))).unwrap();
    }
}

/// A command of the program as somebody with that certificate, or with none, who trusts that authority.
async fn as_whom(
    (cluster, proxy, certificates): (&Cluster, &Proxy, &Certificates),
    (who, authority): (&str, &str),
    args: &[&str],
) -> Result<String, String> {
    let admin = proxy.admin().replace("127.0.0.1", "localhost");
    let (ca, cert, key) = (
        certificates.path(authority),
        certificates.path(&format!("{who}.crt")),
        certificates.path(&format!("{who}.key")),
    );
    let mut all = [args, &["--admin", &admin, "--tls-ca", &ca]].concat();
    if !who.is_empty() {
        all.extend(["--tls-cert", &cert, "--tls-key", &key]);
    }
    proxy.program(cluster, &all).await
}

/// curl's status and body, as somebody with that certificate.
async fn curl(certificates: &Certificates, who: &str, args: &[&str]) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", "--cacert"]);
    command.arg(certificates.file("ca.crt"));
    if !who.is_empty() {
        command.arg("--cert").arg(certificates.file(&format!("{who}.crt")));
        command.arg("--key").arg(certificates.file(&format!("{who}.key")));
    }
    command.args(args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_certificate_opens_what_its_name_may_and_nothing_else() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::with_replicas(0).await;
    let proxy = secured(&cluster, &certificates)
        .set("admin.tls_admins", vec!["CN=alice,O=example"])
        .set("admin.tls_stats", vec!["mallory"])
        .start();
    let all = (&cluster, &proxy, &certificates);
    let up =
        eventually(LIMIT, "it answers", async || as_whom(all, ("alice", "ca.crt"), &["status"]).await.ok());
    assert!(up.await.contains("node0"));

    let nobody = as_whom(all, ("", "ca.crt"), &["status"]).await.unwrap_err();
    assert!(nobody.contains("a certificate that"), "{nobody}");
    let nobody = as_whom(all, ("", "ca.crt"), &["pause"]).await.unwrap_err();
    assert!(nobody.contains("admin.tls_admins"), "{nobody}");
    assert!(as_whom(all, ("mallory", "ca.crt"), &["status"]).await.unwrap().contains("node0"));
    let looker = as_whom(all, ("mallory", "ca.crt"), &["pause"]).await.unwrap_err();
    assert!(looker.contains("may look and change nothing"), "{looker}");
    as_whom(all, ("alice", "ca.crt"), &["pause"]).await.unwrap();
    as_whom(all, ("alice", "ca.crt"), &["resume"]).await.unwrap();
    eventually(LIMIT, "the log says who it was", async || {
        let log = proxy.log();
        log.lines()
            .any(|line| line.contains("command=pause") && line.contains("CN=alice,O=example"))
            .then_some(())
    })
    .await;

    // A certificate of another authority, whatever its name, is none; and the proxy's own is looked at.
    let stranger = as_whom(all, ("next", "ca.crt"), &["status"]).await.unwrap_err();
    assert!(stranger.contains("no TLS") && stranger.contains("UnknownCA"), "{stranger}");
    let suspicious = as_whom(all, ("alice", "other.crt"), &["status"]).await.unwrap_err();
    assert!(suspicious.contains("UnknownIssuer") && suspicious.contains("--tls-ca"), "{suspicious}");
    let port = proxy.admin().replace("127.0.0.1:", "");
    let by_address = format!("https://127.0.0.1:{port}");
    let wrong_name = proxy.program(&cluster, &["status", "--admin", &by_address]).await.unwrap_err();
    assert!(wrong_name.contains("no TLS"), "{wrong_name}");
    let plain = proxy.program(&cluster, &["status"]).await.unwrap_err();
    assert!(plain.contains(&proxy.admin()), "{plain}");
    let half = ["status", "--admin", "http://localhost:1", "--tls-ca", &certificates.path("ca.crt")];
    let half = proxy.program(&cluster, &half).await.unwrap_err();
    assert!(half.contains("plain HTTP"), "{half}");
}

#[tokio::test]
async fn a_browser_with_a_certificate_is_not_led_astray() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::with_replicas(0).await;
    let proxy = secured(&cluster, &certificates).set("admin.tls_admins", vec!["alice"]).start();
    let port = proxy.admin().replace("127.0.0.1:", "");
    let resolve = format!("primacy.example:{port}:127.0.0.1");
    let (local, named) = (format!("https://localhost:{port}"), format!("https://primacy.example:{port}"));
    let (pause, pause_named) = (format!("{local}/api/v1/pause"), format!("{named}/api/v1/pause"));
    let status = format!("{local}/api/v1/status");
    let metrics = format!("{local}/metrics");
    eventually(LIMIT, "it answers", async || {
        (curl(&certificates, "", &[&metrics]).await.0 == "200").then_some(())
    })
    .await;
    let json = ["--header", "content-type: application/json", "--data", "{}"];
    let evil = ["--header", "host: evil.example"];
    for (who, args, wanted) in [
        // Balancers and Prometheus have no certificate, and looking is open where nothing is asked for it.
        ("", vec![status.as_str()], "200"),
        ("", [&json[..], &[&pause]].concat(), "401"),
        ("alice", [&json[..], &[&pause]].concat(), "200"),
        // A name of our certificate is no other page's.
        ("alice", [&json[..], &["--resolve", &resolve, &pause_named]].concat(), "200"),
        ("alice", [&json[..], &evil[..], &[&pause]].concat(), "421"),
        ("alice", vec!["--header", "host: evil.example", &status], "421"),
        // A page's form brings the certificate along, and cannot be JSON.
        ("alice", vec!["--data", "{}", &pause], "415"),
        ("alice", vec![&pause], "415"),
    ] {
        let (code, body) = curl(&certificates, who, &args).await;
        assert_eq!(code, wanted, "{who} {args:?}: {body}");
    }
}

#[tokio::test]
async fn renewed_and_revoked_certificates_count_at_once_and_tokens_go_beside_them() {
    let certificates = Certificates::make().await;
    let cluster = Cluster::with_replicas(0).await;
    let token = certificates.path("token");
    std::fs::write(&token, "right-token\n").unwrap();
    let proxy = secured(&cluster, &certificates)
        .set("admin.tls_crl_file", certificates.path("ca.crl"))
        .set("admin.tls_admins", vec!["alice", "mallory"])
        .set("admin.token", "right-token")
        .start();
    let all = (&cluster, &proxy, &certificates);
    eventually(LIMIT, "it answers", async || as_whom(all, ("alice", "ca.crt"), &["status"]).await.ok()).await;
    let revoked = as_whom(all, ("mallory", "ca.crt"), &["pause"]).await.unwrap_err();
    assert!(revoked.contains("Revoked"), "{revoked}");
    as_whom(all, ("", "ca.crt"), &["pause", "--token-file", &token]).await.unwrap();
    let without = as_whom(all, ("", "ca.crt"), &["resume"]).await.unwrap_err();
    assert!(without.contains("needs the token"), "{without}");

    // Half a pair is what a renewal looks like in its middle: the former one counts.
    std::fs::copy(certificates.file("next.crt"), certificates.file("admin.crt")).unwrap();
    as_whom(all, ("alice", "ca.crt"), &["resume"]).await.unwrap();
    renew(&certificates, "next");
    as_whom(all, ("alice", "other.crt"), &["pause"]).await.unwrap();
}
