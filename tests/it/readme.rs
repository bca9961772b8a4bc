//! README.md holds: what it says to type in its first minute is typed before a real demo, every verb of its table knows the
//! options that are named there, and what it links to exists.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{Cluster, LIMIT, PortLease, eventually, installation};

/// What goes on until somebody ends it is watched for so long.
const WATCHED: Duration = Duration::from_secs(2);

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The text below a heading, up to the next of its rank.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let begin = text.find(&format!("## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let rest = &text[begin + 3..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// Indented lines that are commands of these programs, without the remark behind them.
fn commands<'t>(text: &'t str, programs: &'t [&str]) -> impl Iterator<Item = String> + 't {
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    let known = |line: &&str| programs.contains(&line.split_whitespace().next().unwrap_or_default());
    lines.filter(known).map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned())
}

/// A demo of the program itself, with ports and a directory of its own.
struct Demo {
    process: Child,
    listen: PortLease,
    admin: PortLease,
    dir: tempfile::TempDir,
    _nodes: Vec<PortLease>,
}

impl Demo {
    async fn start(cluster: &Cluster) -> Self {
        let (listen, admin, nodes) = (PortLease::take(), PortLease::take(), PortLease::take_row(3));
        let dir = tempfile::tempdir().unwrap();
        installation().await.account.own(dir.path()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_primacy"));
        command.args(["demo", "--listen", &at(&listen), "--admin", &at(&admin), "--dir"]);
        command.arg(dir.path().join("demo")).args([
            "--base-port",
            &nodes[0].number().to_string(),
            "--pg-bin",
        ]);
        command.arg(cluster.bin_dir()).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(LIMIT * 2, lines.next_line()).await.expect("it is ready").unwrap();
        let ready =
            section(&readme(), "Sixty seconds").contains("    ready postgres://app:app@127.0.0.1:6432/app\n");
        assert!(ready, "README says what it prints");
        let said = first.unwrap().replace(&at(&listen), "127.0.0.1:6432");
        assert_eq!(said, "ready postgres://app:app@127.0.0.1:6432/app");
        Self { process, listen, admin, dir, _nodes: nodes }
    }

    /// Waits until every node serves, and this one (or any) is the primary.
    async fn primary(&self, cluster: &Cluster, name: Option<&str>) {
        let whole = async || {
            let status = self.run(cluster, "target/fast/primacy status --json").await;
            let status = serde_json::from_slice::<serde_json::Value>(&status.stdout).ok()?;
            let all = status["nodes"].as_array()?.iter().all(|node| node["readable"] == true);
            (all && name.is_none_or(|name| status["primary"] == name)).then_some(())
        };
        eventually(LIMIT, "every node serves", whole).await;
    }

    /// Runs a command of README's as it would be for this demo.
    async fn run(&self, cluster: &Cluster, command: &str) -> Output {
        let command = command
            .replace("127.0.0.1:6432", &at(&self.listen))
            .replace("target/fast/primacy", env!("CARGO_BIN_EXE_primacy"))
            .replace("DIR", &self.dir.path().join("demo").display().to_string());
        let path = format!("{}:/usr/bin:/bin", cluster.bin_dir().display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).env_clear().env("PATH", path).env("HOME", self.dir.path());
        shell.env("PRIMACY_ADMIN", at(&self.admin)).stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(LIMIT, shell.output()).await.expect("it ends").unwrap()
    }

    /// A switchover, typed again where it gave up: each of its steps has a time limit, and this machine may be busy.
    async fn switch(&self, cluster: &Cluster, command: &str) {
        let done = async || self.run(cluster, command).await.status.success().then_some(());
        eventually(LIMIT, command, done).await;
    }

    /// The same for what shows something again and again: it does not end by itself, and complains of nothing.
    async fn watch(&self, cluster: &Cluster, command: &str) {
        let limited = format!("timeout {} {command}", WATCHED.as_secs());
        let ended = self.run(cluster, &limited).await;
        assert_eq!(ended.status.code(), Some(124), "{command}: {ended:?}");
        assert!(!ended.stdout.is_empty(), "{command}");
    }
}

fn at(lease: &PortLease) -> String {
    format!("127.0.0.1:{}", lease.number())
}

#[tokio::test]
async fn the_first_minute_is_as_the_readme_says() {
    let cluster = Cluster::builder(0).asynchronous().run().await;
    let demo = Demo::start(&cluster).await;
    let text = readme();
    let mut typed = Vec::new();
    for command in commands(section(&text, "Sixty seconds"), &["psql", "target/fast/primacy", "kill"]) {
        typed.push(command.clone());
        if command.ends_with("--watch") {
            demo.watch(&cluster, &command).await;
            continue;
        }
        if command.starts_with("kill") {
            // It names the first primary, and the switchover before has moved the role.
            demo.primary(&cluster, None).await;
            demo.switch(&cluster, "target/fast/primacy switchover --to node0").await;
            demo.primary(&cluster, Some("node0")).await;
        }
        if command.contains(" switchover") {
            demo.switch(&cluster, &command).await;
            continue;
        }
        let ended = demo.run(&cluster, &command).await;
        assert!(ended.status.success(), "{command}: {ended:?}");
    }
    assert!(typed.len() >= 5 && typed.iter().any(|command| command.starts_with("kill")), "{typed:?}");
    let write = async || {
        let insert = "psql -X postgres://app:app@127.0.0.1:6432/app -c 'CREATE TABLE written ()'";
        demo.run(&cluster, insert).await.status.success().then_some(())
    };
    eventually(LIMIT, "a write goes through afterwards", write).await;
    let mut process = demo.process;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(process.id().unwrap()).unwrap()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    let ended = tokio::time::timeout(LIMIT, process.wait()).await.expect("Ctrl-C ends it").unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn servers_of_one_s_own_and_the_console_are_reached_as_the_readme_says() {
    let cluster = Cluster::with_replicas(2).await;
    let text = readme();
    let urls: Vec<String> = (0..3)
        .map(|i| format!("postgres://postgres:postgres@127.0.0.1:{}", cluster.node(i).port()))
        .collect();
    let real = |command: &str| {
        ["postgres://primacy:secret@db1", "postgres://db2", "postgres://db3"]
            .iter()
            .zip(&urls)
            .fold(command.to_owned(), |command, (name, url)| command.replace(name, url))
    };
    let state = tempfile::tempdir().unwrap();
    let (mut checked, mut served) = (0, 0);
    for command in commands(section(&text, "Sixty seconds"), &["primacy"]) {
        let mut words: Vec<String> = real(&command).split_whitespace().skip(1).map(str::to_owned).collect();
        let mut program = Command::new(env!("CARGO_BIN_EXE_primacy"));
        program.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        program.env("STATE_DIRECTORY", state.path());
        if words[0] == "check" {
            checked += 1;
            let ended = tokio::time::timeout(LIMIT, program.args(&words).output()).await.unwrap().unwrap();
            assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
        } else {
            served += 1;
            let (listen, admin) = (PortLease::take(), PortLease::take());
            words.extend(["--listen".into(), at(&listen), "--admin".into(), at(&admin)]);
            let serving = program.args(&words).spawn().unwrap();
            let console = section(&text, "Commands");
            for command in commands(console, &["psql"]) {
                let command =
                    command.replace("primacy@127.0.0.1:6432", &format!("postgres:postgres@{}", at(&listen)));
                let shown = async || {
                    let mut psql = Command::new("sh");
                    psql.args(["-c", &command])
                        .env("PATH", format!("{}:/usr/bin:/bin", cluster.bin_dir().display()));
                    let ended = psql.output().await.unwrap();
                    (ended.status.success() && !ended.stdout.is_empty()).then_some(())
                };
                eventually(LIMIT, &command, shown).await;
            }
            drop(serving);
        }
    }
    assert_eq!((checked, served), (1, 1));
}

#[tokio::test]
async fn every_verb_of_the_table_knows_what_is_said_of_it() {
    let text = readme();
    let cells = section(&text, "Commands").lines().filter_map(|line| line.strip_prefix("| `primacy "));
    let mut verbs = 0;
    for cell in cells.filter_map(|line| line.split(" | ").next()) {
        for code in format!("`primacy {cell}").split('`').skip(1).step_by(2) {
            let Some(code) = code.strip_prefix("primacy ") else { continue };
            let verb = code.split_whitespace().next().unwrap();
            let ended =
                Command::new(env!("CARGO_BIN_EXE_primacy")).args([verb, "--help"]).output().await.unwrap();
            let help = String::from_utf8(ended.stdout).unwrap();
            assert!(ended.status.success(), "{verb}");
            for word in code.split(|c: char| c.is_whitespace() || "[]".contains(c)) {
                assert!(!word.starts_with('-') || help.contains(word), "primacy {verb} has no {word}");
            }
            verbs += 1;
        }
    }
    assert!(verbs >= 18, "only {verbs} were found");
}

#[test]
fn what_the_readme_links_to_and_calls_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = readme();
    for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
        assert!(
            link.is_empty() || link.contains("://") || root.join(link).exists(),
            "README links to {link}"
        );
    }
    for code in text.split('`').skip(1).step_by(2) {
        let path = code.split_whitespace().next().unwrap_or_default();
        let ours = ["scripts/", "config/", "tests/", "docs/", "benches/", "proto-notes/", "docker/"];
        if ours.iter().any(|dir| path.starts_with(dir)) {
            assert!(root.join(path).exists(), "README names {path}");
        }
    }
}
