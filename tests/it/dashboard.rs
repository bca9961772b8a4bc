//! The dashboard in a real browser, where there is one: read while a switchover runs.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Cluster, LIMIT, Proxy, eventually};

/// Where distributions put it.
fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let places = std::env::var_os("PATH")?;
    std::env::split_paths(&places)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|path| path.is_file())
}

/// The page's document after its script has run for some seconds (of the browser's own, faster time).
async fn read(browser: &PathBuf, proxy: &Proxy, seconds: u32) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--virtual-time-budget={}", seconds * 1000))
        .arg(format!("http://{}/", proxy.admin()));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    drop(profile);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What stands in the element of this id, up to the next closing tag of its kind.
fn part<'p>(page: &'p str, id: &str) -> &'p str {
    let begin = page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    let rest = &page[begin..];
    rest.find("<h2").or_else(|| rest.find("</main>")).map_or(rest, |end| &rest[..end])
}

#[tokio::test]
async fn a_browser_shows_the_topology_before_and_after_a_switchover() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: there is no chromium on this machine");
        return;
    };
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().run().await;
    let app = proxy.client().await;
    app.simple_query("SELECT 1").await.unwrap();

    let before = read(&browser, &proxy, 6).await;
    assert!(part(&before, "facts").contains("<b>node0</b><span>primary</span>"), "{before}");
    assert!(part(&before, "topology").contains("node0 is primary, serves reads"), "{before}");
    assert!(part(&before, "history").contains("None since"), "{before}");

    // The page is read while the roles change hands, as often as that takes.
    let admin = proxy.admin();
    let switching = tokio::task::spawn_blocking(move || {
        let url = format!("http://{admin}/api/v1/switchover");
        ureq::post(&url).send_json(serde_json::json!({})).unwrap().status()
    });
    let during = read(&browser, &proxy, 2).await;
    assert!(part(&during, "topology").contains("node1 is "), "{during}");
    assert!(switching.await.unwrap().is_success());

    // The browser's time runs ahead of ours; the server's samples do not.
    let url = format!("http://{}/api/v1/series", proxy.admin());
    eventually(LIMIT, "there are samples for a curve", async || {
        let url = url.clone();
        let asked = tokio::task::spawn_blocking(move || {
            ureq::get(&url).call().unwrap().body_mut().read_json::<serde_json::Value>().unwrap()
        });
        (asked.await.unwrap()["samples"].as_array().unwrap().len() > 3).then_some(())
    })
    .await;
    let after = read(&browser, &proxy, 6).await;
    assert!(part(&after, "facts").contains("<b>node1</b><span>primary</span>"), "{after}");
    let history = part(&after, "history");
    assert!(history.contains("node0 → node1") && history.contains("promoted"), "{history}");
    assert!(part(&after, "by-node").contains("<polygon"), "there are curves: {after}");
    // The script's own text is in the page too, so it is asked what the pill says.
    assert!(after.contains("role=\"status\">open</span>"), "{after}");
}
