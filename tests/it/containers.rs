//! The images and compose.yaml, with a Docker engine: a smoke test where one answers and the base images are here already, all
//! faults on demand. What they are made of takes minutes to fetch, so a test does not.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::PortLease;

/// Images that `docker/base-image` has made.
const BASES: [&str; 3] = ["primacy-slim:bookworm", "primacy-base:bookworm", "primacy-prometheus"];

/// One run of `docker/try`, which says itself what went wrong.
const RUN_MAX: Duration = Duration::from_secs(420);

/// Why it cannot be tried here; `None` where it can.
fn missing() -> Option<String> {
    let docker =
        |args: &[&str]| Command::new("docker").args(args).output().is_ok_and(|ended| ended.status.success());
    if !docker(&["info"]) {
        return Some("no Docker engine answers here".to_owned());
    }
    let lacking = BASES.into_iter().find(|image| !docker(&["image", "inspect", image]));
    lacking.map(|image| format!("the image {image} is not here: run docker/try once"))
}

async fn try_it(faults: &str) {
    if let Some(why) = missing() {
        eprintln!("SKIPPED: compose.yaml was not tried: {why}");
        return;
    }
    let (port, admin) = (PortLease::take(), PortLease::take());
    let mut command = tokio::process::Command::new("docker/try");
    command.arg(env!("CARGO_BIN_EXE_primacy")).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command.env("OFFLINE", "1").env("FAULTS", faults);
    command.env("PORT", port.number().to_string()).env("ADMIN_PORT", admin.number().to_string());
    let prometheus = PortLease::take();
    command.env("PROMETHEUS_PORT", prometheus.number().to_string());
    let ended = tokio::time::timeout(RUN_MAX, command.output()).await.expect("it ends").unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{told}");
    assert!(told.contains(" 0 lost") && told.contains("session alive to its end: yes"), "{told}");
}

#[tokio::test]
async fn clients_go_on_when_the_primary_s_container_is_killed() {
    try_it("kill").await;
}

#[tokio::test]
#[ignore = "minutes: every way in which a container is lost"]
async fn clients_go_on_whatever_happens_to_the_primary_s_container() {
    try_it("stop kill pause disconnect").await;
}
