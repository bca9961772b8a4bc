//! A client that speaks frames by hand, from short scripts: to see every message that comes, in its order.
//!
//! A script is a line per message: `Q text` (Query), `P:name text` (Parse), `B:portal:statement value value` (Bind),
//! `D:S:name` and `D:P:name` (Describe), `E:portal rows` (Execute), `C:S:name` (Close), `S` (Sync), `H n` (Flush, then n
//! answers are awaited), `d text` (CopyData with a line's end), `c` (CopyDone), `f text` (CopyFail), `F:oid value value`
//! (FunctionCall), `W` (wait until ready).

use primacy::wire::scram::{AwaitingServerFinal, AwaitingServerFirst, Keys, ScramError, nonce};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wait::LIMIT;

/// No answer takes this long.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// A signed-in connection.
#[derive(Debug)]
pub(crate) struct Raw {
    stream: TcpStream,
    /// What a cancel request needs.
    pub(crate) key: (i32, Vec<u8>),
    /// What the server reported.
    pub(crate) parameters: Vec<(String, String)>,
}

/// One message of the server.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse.
    pub(crate) fn field(&self, letter: u8) -> String {
        let mut fields = self.body.split(|&b| b == 0);
        let found = fields.find(|field| field.first() == Some(&letter));
        found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
    }

    /// What matters of it, in a word or two.
    pub(crate) fn shown(&self) -> String {
        let text = || self.body.split(|&b| b == 0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        match self.tag {
            b'D' => format!("D {}", self.values().join(",")),
            b'C' => format!("C {}", text().trim_end()),
            b'E' => format!("E {} {}", self.field(b'C'), self.field(b'M')),
            b'N' => format!("N {}", self.field(b'C')),
            b'Z' => format!("Z {}", char::from(self.body[0])),
            b'A' => format!("A {}", text_after(&self.body, 4)),
            b'T' => format!("T {}", u16::from_be_bytes([self.body[0], self.body[1]])),
            b't' => format!("t {:?}", &self.body),
            tag => char::from(tag).to_string(),
        }
    }

    /// The columns of a DataRow as text.
    pub(crate) fn values(&self) -> Vec<String> {
        let mut rest = &self.body[2..];
        let mut values = Vec::new();
        while !rest.is_empty() {
            let len = i32::from_be_bytes(rest[..4].try_into().unwrap());
            rest = &rest[4..];
            let Ok(len) = usize::try_from(len) else {
                values.push("NULL".to_owned());
                continue;
            };
            values.push(String::from_utf8_lossy(&rest[..len]).into_owned());
            rest = &rest[len..];
        }
        values
    }
}

fn text_after(body: &[u8], skipped: usize) -> String {
    body[skipped..]
        .split(|&b| b == 0)
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// One frame.
pub(crate) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// A startup packet of protocol 3.0.
pub(crate) fn startup(params: &[(&str, &str)]) -> Vec<u8> {
    startup_of(0, params)
}

/// A startup packet of protocol 3 with that minor version.
pub(crate) fn startup_of(minor: u32, params: &[(&str, &str)]) -> Vec<u8> {
    let mut body = (196_608 + minor).to_be_bytes().to_vec();
    for (name, value) in params {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    let mut out = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(&body);
    out
}

/// Sends a cancel request and waits until it has been taken.
pub(crate) async fn send_cancel(port: u16, (pid, secret): &(i32, Vec<u8>)) {
    let mut raw = Raw::dial(port).await;
    let mut packet = u32::try_from(12 + secret.len()).unwrap().to_be_bytes().to_vec();
    packet.extend_from_slice(&80_877_102_u32.to_be_bytes());
    packet.extend_from_slice(&pid.to_be_bytes());
    packet.extend_from_slice(secret);
    raw.send(&packet).await;
    // The server's side is done when it closes the connection.
    assert!(raw.message().await.is_none());
}

impl Raw {
    /// Signs in as the role `app` to the database `app`; `more` are further startup parameters.
    pub(crate) async fn connect(port: u16, more: &[(&str, &str)]) -> Self {
        let mut raw = Self::dial(port).await;
        let mut params = vec![("user", "app"), ("database", "app")];
        params.extend_from_slice(more);
        raw.send(&startup(&params)).await;
        raw.sign_in("app").await.unwrap_or_else(|error| panic!("{}", error.shown()));
        raw
    }

    /// Connects and says nothing.
    pub(crate) async fn dial(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, key: (0, Vec::new()), parameters: Vec::new() }
    }

    /// Everything from the startup packet to ReadyForQuery.
    pub(crate) async fn sign_in(&mut self, password: &str) -> Result<(), Message> {
        self.sign_in_ahead(password, b"").await
    }

    /// The same by a client that does not wait for the answer to its proof: `ahead` goes out in one packet with it.
    pub(crate) async fn sign_in_ahead(&mut self, password: &str, ahead: &[u8]) -> Result<(), Message> {
        self.sign_in_by(ahead, |first, challenge| first.prove_password(challenge, password)).await
    }

    /// The same with keys that were made of the password before, which is what takes the time.
    pub(crate) async fn sign_in_with_keys(&mut self, keys: &Keys) -> Result<(), Message> {
        self.sign_in_by(b"", |first, challenge| first.prove_keys(challenge, keys)).await
    }

    async fn sign_in_by(
        &mut self,
        ahead: &[u8],
        prove: impl Fn(AwaitingServerFirst, &[u8]) -> Result<(AwaitingServerFinal, String), ScramError>,
    ) -> Result<(), Message> {
        let (first, begin) = AwaitingServerFirst::begin(&nonce(*b"123456789012345678"));
        let (mut begun, mut first, mut last) = (Some(begin), Some(first), None);
        loop {
            let message = self.message().await.expect("the connection was closed during sign-in");
            let code = message.body.get(..4).map(|code| u32::from_be_bytes(code.try_into().unwrap()));
            match (message.tag, code) {
                (b'R', Some(10)) => {
                    let message = begun.take().unwrap();
                    let mut body = b"SCRAM-SHA-256\0".to_vec();
                    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
                    body.extend_from_slice(message.as_bytes());
                    self.send(&frame(b'p', &body)).await;
                }
                (b'R', Some(11)) => {
                    let challenge = &message.body[4..];
                    let (awaiting, proof) = prove(first.take().unwrap(), challenge).unwrap();
                    last = Some(awaiting);
                    self.send(&[&frame(b'p', proof.as_bytes()), ahead].concat()).await;
                }
                (b'R', Some(12)) => last.take().unwrap().finish(&message.body[4..]).unwrap(),
                (b'E', _) => return Err(message),
                (b'S', _) => {
                    let text = text_after(&message.body, 0);
                    let (name, value) = text.split_once(' ').unwrap_or((&text, ""));
                    self.parameters.push((name.to_owned(), value.to_owned()));
                }
                (b'K', _) => {
                    let pid = i32::from_be_bytes(message.body[..4].try_into().unwrap());
                    self.key = (pid, message.body[4..].to_vec());
                }
                (b'Z', _) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        tokio::time::timeout(LIMIT, self.stream.write_all(bytes))
            .await
            .expect("sending takes too long")
            .unwrap();
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        tokio::time::timeout(LIMIT, self.read()).await.expect("no message comes")
    }

    async fn read(&mut self) -> Option<Message> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header).await.ok()?;
        let len = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize - 4;
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Message { tag: header[0], body })
    }

    /// Messages up to ReadyForQuery, or until the server wants COPY data, closes the connection or falls silent.
    pub(crate) async fn until_ready(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let Ok(message) = tokio::time::timeout(SILENCE, self.read()).await else {
                seen.push("silence".to_owned());
                return seen;
            };
            let Some(message) = message else {
                seen.push("closed".to_owned());
                return seen;
            };
            if message.tag != b'S' {
                seen.push(message.shown());
            }
            if matches!(message.tag, b'Z' | b'G') {
                return seen;
            }
        }
    }

    /// A simple query; what comes.
    pub(crate) async fn query(&mut self, sql: &str) -> Vec<String> {
        self.send(&frame(b'Q', format!("{sql}\0").as_bytes())).await;
        self.until_ready().await
    }

    /// Runs a script; what came, in order.
    pub(crate) async fn run(&mut self, script: &str) -> Vec<String> {
        let mut seen = Vec::new();
        for step in steps(script) {
            seen.extend(self.step(&step).await);
        }
        seen
    }

    /// Sends one step's frames and reads what it waits for.
    pub(crate) async fn step(&mut self, step: &Step) -> Vec<String> {
        self.send(&step.bytes).await;
        match step.awaited {
            Awaited::Ready => self.until_ready().await,
            Awaited::Messages(count) => {
                let mut seen = Vec::new();
                while seen.len() < count {
                    let message = tokio::time::timeout(SILENCE, self.read()).await;
                    let Ok(Some(message)) = message else {
                        seen.push(if message.is_err() { "silence" } else { "closed" }.to_owned());
                        break;
                    };
                    if message.tag != b'S' {
                        seen.push(message.shown());
                    }
                    if message.tag == b'E' {
                        break;
                    }
                }
                seen
            }
        }
    }
}

/// What is sent in one go, and what is awaited then.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) bytes: Vec<u8>,
    pub(crate) awaited: Awaited,
}

/// What ends a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Awaited {
    Ready,
    Messages(usize),
}

/// The steps of a script.
pub(crate) fn steps(script: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut bytes = Vec::new();
    for line in script.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut parts = word.split(':');
        let letter = parts.next().unwrap();
        let names: Vec<&str> = parts.collect();
        bytes.extend(frame_of(letter, &names, rest));
        let awaited = match letter {
            "Q" | "S" | "W" | "F" => Awaited::Ready,
            "H" => Awaited::Messages(rest.parse().unwrap()),
            _ => continue,
        };
        steps.push(Step { bytes: std::mem::take(&mut bytes), awaited });
    }
    assert!(bytes.is_empty(), "the script ends with frames that nothing sends: {script}");
    steps
}

fn frame_of(letter: &str, names: &[&str], rest: &str) -> Vec<u8> {
    match letter {
        "Q" => frame(b'Q', format!("{rest}\0").as_bytes()),
        "P" => frame(b'P', format!("{}\0{rest}\0\0\0", names[0]).as_bytes()),
        "B" => {
            let values: Vec<&str> = rest.split(' ').filter(|value| !value.is_empty()).collect();
            let mut body = format!("{}\0{}\0\0\0", names[0], names[1]).into_bytes();
            body.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
            for value in values {
                body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend_from_slice(value.as_bytes());
            }
            body.extend_from_slice(&[0, 0]);
            frame(b'B', &body)
        }
        "D" | "C" => frame(letter.as_bytes()[0], format!("{}{}\0", names[0], names[1]).as_bytes()),
        "E" => {
            let mut body = format!("{}\0", names[0]).into_bytes();
            body.extend_from_slice(&rest.trim().parse().unwrap_or(0_u32).to_be_bytes());
            frame(b'E', &body)
        }
        "F" => {
            let values: Vec<&str> = rest.split(' ').filter(|value| !value.is_empty()).collect();
            let mut body = names[0].parse::<u32>().unwrap().to_be_bytes().to_vec();
            body.extend_from_slice(&[0, 0]);
            body.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
            for value in values {
                body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend_from_slice(value.as_bytes());
            }
            body.extend_from_slice(&[0, 0]);
            frame(b'F', &body)
        }
        "S" => frame(b'S', b""),
        "H" => frame(b'H', b""),
        "d" => frame(b'd', format!("{rest}\n").as_bytes()),
        "c" => frame(b'c', b""),
        "f" => frame(b'f', format!("{rest}\0").as_bytes()),
        "W" => Vec::new(),
        other => panic!("no such step: {other}"),
    }
}
