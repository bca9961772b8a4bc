//! The dashboard in a real browser, where there is one: read while a switchover runs.

mod browser;

use std::path::PathBuf;
use std::process::Command;

use browser::{Page, pictures};

use crate::harness::{Cluster, LIMIT, Proxy, eventually};
use crate::proxy_failures::all_in_service;

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

/// The browser, or a word about it.
fn browser_here() -> Option<PathBuf> {
    let browser = browser();
    if browser.is_none() {
        eprintln!("SKIPPED: there is no chromium on this machine");
    }
    browser
}

#[tokio::test]
async fn a_browser_shows_the_topology_before_and_after_a_switchover() {
    let Some(browser) = browser_here() else { return };
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().run().await;
    all_in_service(&proxy).await;
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

#[tokio::test]
async fn a_person_with_a_keyboard_and_a_token_pauses_resumes_and_switches_over() {
    let Some(browser) = browser_here() else { return };
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().set("admin.token", "right-token").run().await;
    all_in_service(&proxy).await;
    let mut page = Page::open(&browser, &format!("http://{}/", proxy.admin())).await;
    page.shows("service", "open").await;
    page.shows("reads", "with a token").await;

    // In the order in which they are read, and each can be seen to have the focus.
    let mut order = Vec::new();
    for _ in 0..3 {
        let was = page.focus().await;
        page.press("Tab").await;
        page.so(&format!("document.activeElement.id !== '{was}'")).await;
        order.push(page.focus().await);
        let outline = page.value("getComputedStyle(document.activeElement).outline").await;
        assert!(outline.as_str().unwrap().contains("solid 3px"), "{outline}");
    }
    assert_eq!(order, ["do-token", "do-switchover", "do-pause"]);

    // The dialog takes the focus, keeps it, and says what is wrong.
    page.press("Enter").await;
    page.so("document.getElementById('dialog').open").await;
    page.focused("token").await;
    page.write("wrong-token").await;
    page.press("Tab").await;
    page.press("Tab").await;
    page.focused("go").await;
    page.press("Enter").await;
    page.shows("answer", "this needs the token").await;
    assert!(page.text("mode").await.contains("automatic failover"));
    page.value("document.getElementById('token').focus()").await;
    page.write("right-token").await;
    page.press("Enter").await;
    page.shows("mode", "failover paused").await;
    assert!(page.value("document.getElementById('dialog').open").await == true, "it shows what came of it");
    page.press("Escape").await;
    page.so("!document.getElementById('dialog').open").await;
    // Where the pressed button was; the page hears of the closing a little after it.
    page.focused("do-resume").await;

    // The same with a mouse. The token is remembered as long as the page is there.
    page.click("do-resume").await;
    page.click("go").await;
    page.shows("mode", "automatic failover").await;
    page.press("Escape").await;
    page.click("do-switchover").await;
    page.value("document.getElementById('to').value = 'node1'").await;
    page.click("go").await;
    page.shows("answer", "node1 is the primary").await;
    page.shows("facts", "node1").await;
    page.shows("history", "node0 → node1").await;
    page.press("Escape").await;
    page.shows("service", "open").await;
    let log = proxy.log();
    for command in ["pause", "resume", "switchover"] {
        let line = |line: &&str| line.contains(&format!("command={command}")) && line.contains("status=200");
        assert!(log.lines().any(|one| line(&one)), "{command}");
    }
}

#[tokio::test]
async fn a_lost_primary_is_seen_on_a_phone_and_on_a_desk_in_light_and_dark() {
    let Some(browser) = browser_here() else { return };
    let cluster = Cluster::with_replicas(2).await;
    let proxy = cluster.proxy().run().await;
    let client = proxy.client().await;
    client.batch_execute("CREATE TABLE t (v int); INSERT INTO t SELECT 1").await.unwrap();
    proxy.program(&cluster, &["pause"]).await.unwrap();
    let mut page = Page::open(&browser, &format!("http://{}/", proxy.admin())).await;
    page.shows("service", "open").await;
    cluster.kill(0).await;
    page.so("document.getElementById('service').innerText !== 'open'").await;
    page.shows("nodes", "down").await;
    seen(&mut page, "lost").await;

    proxy.program(&cluster, &["resume"]).await.unwrap();
    page.shows("service", "open").await;
    page.shows("history", "node0 → ").await;
    client.simple_query("/* primacy: replica */ SELECT * FROM t").await.unwrap();
    seen(&mut page, "found").await;
}

/// Looks at the page in each form; nothing sticks out of it at the side.
async fn seen(page: &mut Page, what: &str) {
    for (form, width) in [("phone", 390), ("desk", 1280)] {
        for scheme in ["light", "dark"] {
            let picture = page.picture(width, scheme).await;
            let root = "document.documentElement";
            let wide = page.value(&format!("[{root}.scrollWidth, {root}.clientWidth]")).await;
            assert_eq!(wide[0], wide[1], "{what} on a {form}");
            let ground = page.value("getComputedStyle(document.body).backgroundColor").await;
            let wanted = if scheme == "dark" { "rgb(17, 21, 28)" } else { "rgb(246, 247, 249)" };
            assert_eq!(ground, wanted);
            if let Some(dir) = pictures() {
                std::fs::write(dir.join(format!("{what}-{form}-{scheme}.png")), picture).unwrap();
            }
        }
    }
}
