//! A headless Chromium that is driven as a person would: keys, clicks, a look. It speaks Chrome's DevTools protocol over two
//! pipes (`--remote-debugging-pipe`): JSON, each message ended by a zero byte.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;

use crate::harness::{LIMIT, eventually};

/// One page in a browser of its own, which ends with it.
pub(super) struct Page {
    to: pipe::Sender,
    from: BufReader<pipe::Receiver>,
    last_id: u64,
    session: String,
    _process: tokio::process::Child,
    _dir: tempfile::TempDir,
}

impl Page {
    /// Opens the address.
    pub(super) async fn open(browser: &Path, url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [to, from] = ["to", "from"].map(|name| dir.path().join(name));
        let made = std::process::Command::new("mkfifo").args([&to, &from]).status().unwrap();
        assert!(made.success());
        // Both ways at once, so that nobody waits for the other's opening.
        let options = || pipe::OpenOptions::new().read_write(true).to_owned();
        let (sender, receiver) =
            (options().open_sender(&to).unwrap(), options().open_receiver(&from).unwrap());
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", r#"exec "$0" "$@" 3<"$TO" 4>"$FROM""#]).arg(browser);
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--remote-debugging-pipe", "--no-first-run"]);
        command.arg(format!("--user-data-dir={}", dir.path().join("profile").display()));
        command
            .env("TO", &to)
            .env("FROM", &from)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.kill_on_drop(true).spawn().unwrap();
        let from = BufReader::new(receiver);
        let mut page =
            Self { to: sender, from, last_id: 0, session: String::new(), _process: process, _dir: dir };
        let target = page.call("Target.createTarget", json!({ "url": url })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = page.call("Target.attachToTarget", attach).await;
        session["sessionId"].as_str().unwrap().clone_into(&mut page.session);
        page
    }

    /// One command, and what it gives.
    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let bytes = [message.to_string().as_bytes(), b"\0"].concat();
        let asked = async {
            self.to.write_all(&bytes).await.unwrap();
            loop {
                let mut answer = Vec::new();
                self.from.read_until(0, &mut answer).await.unwrap();
                answer.pop();
                let mut answer: Value = serde_json::from_slice(&answer).unwrap();
                if answer["id"] == self.last_id {
                    assert!(answer.get("error").is_none(), "{method}: {answer}");
                    return answer["result"].take();
                }
            }
        };
        tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_late| panic!("no answer to {method}"))
    }

    /// What an expression of the page's own language gives.
    pub(super) async fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// The text of the element of this id; empty where it does not show.
    pub(super) async fn text(&mut self, id: &str) -> String {
        let text = self.value(&format!("document.getElementById('{id}')?.innerText ?? ''")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until the element's text has this in it.
    pub(super) async fn shows(&mut self, id: &str, words: &str) -> String {
        self.so(&format!("document.getElementById('{id}')?.innerText.includes({})", json!(words))).await;
        self.text(id).await
    }

    /// Waits until it is so.
    pub(super) async fn so(&mut self, condition: &str) {
        let asked = format!("Boolean({condition})");
        eventually(LIMIT, condition, async || (self.value(&asked).await == true).then_some(())).await;
    }

    /// Presses one key, as it is named in `KeyboardEvent.key`.
    pub(super) async fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            other => panic!("{other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Types into what has the focus, instead of what stands there.
    pub(super) async fn write(&mut self, text: &str) {
        self.value("document.activeElement.select()").await;
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Clicks into the middle of the element once nothing lies over it: no dialog that still opens or closes, no other button.
    pub(super) async fn click(&mut self, id: &str) {
        let place = format!(
            "(() => {{ const e = document.getElementById('{id}'); e.scrollIntoView({{ block: 'center' }}); \
             const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2; \
             return !e.disabled && document.elementFromPoint(x, y) === e ? [x, y] : null; }})()"
        );
        let free = format!("nothing lies over {id}");
        let place =
            eventually(LIMIT, &free, async || Some(self.value(&place).await).filter(Value::is_array)).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Waits until the element of this id has the focus.
    pub(super) async fn focused(&mut self, id: &str) {
        self.so(&format!("document.activeElement.id === '{id}'")).await;
    }

    /// The id of what has the focus.
    pub(super) async fn focus(&mut self) -> String {
        self.value("document.activeElement.id").await.as_str().unwrap().to_owned()
    }

    /// As wide as that, in this scheme of colours; a picture of all of it.
    pub(super) async fn picture(&mut self, width: u32, scheme: &str) -> Vec<u8> {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", scheme).await;
        // The topology is drawn for the width at the next refresh.
        let drawn = "performance.now()";
        let begun = self.value(drawn).await.as_f64().unwrap();
        self.so(&format!("performance.now() > {}", begun + 1500.0)).await;
        let shot = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", shot).await;
        base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }
}

/// Where pictures are kept for people to look at, if anywhere.
pub(super) fn pictures() -> Option<PathBuf> {
    std::env::var_os("PRIMACY_PICTURES").map(PathBuf::from)
}
