//! The failover core as transcripts: every file of `tests/scenarios/failover` is a list of inputs, each followed by exactly
//! the effects that the core asks for. Read them as prose.
//!
//! `cargo test -p simulation --test failover_scenarios rewrite -- --ignored` writes the effects anew: on purpose only, and read the diff.
//!
//! Lines: `nodes N` and `set KEY VALUE` first; `# comment`; `> MS INPUT`; everything else is an effect.
//! Inputs: `see NODE primary|standby KEY=VALUE..`, `see NODE refused|reset|timeout|starting|stopping|auth|other`,
//! `done ACTION [NODE] OUTCOME..` (the newest of that kind), `command ..`, `suspect NODE`, `tick`, `restart`, `restart
//! without NODE` (which is not configured any more).

#![expect(clippy::panic, clippy::expect_used, reason = "a test crate: loud failures")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use simulation::failover::{
    Action, Command, CommandId, Core, Durability, Effect, EffectId, Facts, Input, Member, Observation,
    Outcome, Reach, Receiver, Record, Recruit, Sender, Settings, SyncState,
};
use simulation::model::{Address, Epoch, Lsn, NodeId, SystemId, Timeline};

struct Stage {
    settings: Settings,
    nodes: u16,
    removed: Option<NodeId>,
    base: Instant,
    core: Option<Core>,
    journal: Option<Record>,
    sent: Vec<(EffectId, Epoch, Action)>,
    commands: u64,
}

impl Stage {
    fn new() -> Self {
        Self {
            settings: Settings::default(),
            nodes: 3,
            removed: None,
            base: simulation::clock::now(),
            core: None,
            journal: None,
            sent: Vec::new(),
            commands: 0,
        }
    }

    fn configure(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["nodes", count] => self.nodes = count.parse().expect("a number"),
            ["set", "durability", "async"] => self.settings.durability = Durability::Async,
            ["set", "automatic", "off"] => self.settings.automatic = false,
            ["set", "arm", "on"] => self.settings.arm_standby_signal = true,
            _ => panic!("not understood: {line}"),
        }
    }

    fn members(&self) -> Vec<Member> {
        let address = |i: u16| Address::Tcp { host: "db".into(), port: 5432 + i };
        let member = |i: u16| Member {
            removed: self.removed == Some(NodeId(i)),
            ..Member::new(&format!("n{i}"), address(i))
        };
        (0..self.nodes).map(member).collect()
    }

    /// Takes one input line; returns the effects as text.
    fn play(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let ms: u64 = words.next().expect("a time").parse().expect("milliseconds");
        let now = self.base + Duration::from_millis(ms);
        let words: Vec<&str> = words.collect();
        let restart = words[0] == "restart";
        if restart {
            if let ["without", node] = words[1..] {
                self.removed = Some(node_id(node));
            }
            self.core = None;
            self.sent.clear();
        }
        let input = if restart { Input::Tick } else { self.input(now, &words) };
        if self.core.is_none() {
            self.core = Some(Core::new(self.settings.clone(), self.members(), self.journal.clone(), now));
        }
        let core = self.core.as_mut().expect("just made");
        let before = core.status().phase;
        let effects = core.step(now, input);
        let status = core.status();
        let mut text = String::new();
        if status.phase != before {
            writeln!(text, "    == {} ({})", status.phase.as_str(), status.rule).expect("to a string");
        }
        for effect in effects {
            if let Action::WriteJournal(record) = &effect.action {
                self.journal = Some(record.clone());
            }
            writeln!(text, "    {}", show(&effect)).expect("to a string");
            if effect.action.expects_outcome() {
                self.sent.push((effect.id, effect.epoch, effect.action));
            }
        }
        text
    }

    fn input(&mut self, now: Instant, words: &[&str]) -> Input {
        match words {
            ["tick"] => Input::Tick,
            ["suspect", node] => Input::DataPathSuspect(node_id(node)),
            ["see", node, rest @ ..] => {
                let reach = self.reach(rest);
                Input::Observation(Observation { node: node_id(node), sent: now, answered: now, reach })
            }
            ["done", action, rest @ ..] => self.done(action, rest),
            ["command", rest @ ..] => {
                self.commands += 1;
                Input::Command { id: CommandId(self.commands), command: command(rest) }
            }
            _ => panic!("not understood: {words:?}"),
        }
    }

    fn reach(&self, words: &[&str]) -> Reach {
        let standby = match words[0] {
            "refused" => return Reach::Refused,
            "reset" => return Reach::Reset,
            "timeout" => return Reach::Timeout,
            "starting" => return Reach::Starting,
            "stopping" => return Reach::ShuttingDown,
            "auth" => return Reach::AuthFailed,
            "other" => return Reach::Other,
            "primary" => false,
            "standby" => true,
            other => panic!("not understood: {other}"),
        };
        let value = |key: &str| words[1..].iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let number = |key: &str| value(key).map(|text| text.parse::<u64>().expect("a number"));
        let lsn = Lsn(number("lsn").expect("lsn="));
        let timeline = Timeline(u32::try_from(number("tl").unwrap_or(1)).expect("small"));
        let receiver = value("from").map(|from| Receiver {
            streaming: !words.contains(&"waiting"),
            upstream: Some(node_id(from)),
            message_age: Some(Duration::from_millis(number("age").unwrap_or(10))),
            timeline,
            name: value("as").map(str::to_owned),
        });
        let all = || (0..self.nodes).map(|i| format!("n{i}")).collect();
        let names: Vec<String> =
            value("names").map_or_else(all, |names| names.split(',').map(str::to_owned).collect());
        let text = format!("ANY 1 ({})", names.join(", "));
        Reach::Answered(Box::new(Facts {
            system_id: SystemId(number("system").unwrap_or(7)),
            server_version: 150_018,
            started_micros: 0,
            in_recovery: standby,
            timeline,
            inserted: (!standby).then_some(lsn),
            flushed: (!standby).then_some(lsn),
            received: standby.then_some(lsn),
            replayed: standby.then_some(lsn),
            replay_age: None,
            follows: receiver.is_some(),
            receiver,
            senders: value("senders").map(senders).unwrap_or_default(),
            sync_names: if words.contains(&"nonames") { String::new() } else { text },
            read_only: words.contains(&"readonly"),
            replay_paused: false,
            receiver_timeout: Duration::from_secs(1),
        }))
    }

    fn done(&mut self, action: &str, words: &[&str]) -> Input {
        let node =
            words.first().filter(|word| word.len() == 2 && word.starts_with('n')).map(|word| node_id(word));
        let at = self
            .sent
            .iter()
            .rposition(|(_, _, sent)| sent.as_str() == action && (node.is_none() || sent.node() == node))
            .unwrap_or_else(|| panic!("no {action} {node:?} was asked for"));
        let (id, epoch, _) = self.sent.remove(at);
        let words = if node.is_some() { &words[1..] } else { words };
        let lsn = |text: &str| Lsn(text.parse().expect("a position"));
        let timeline = |text: &str| Timeline(text.parse().expect("a timeline"));
        let outcome = match words {
            ["ok"] => Outcome::Done,
            ["recruited", at, tl] => {
                Outcome::Recruited(Recruit { received: lsn(at), replayed: lsn(at), timeline: timeline(tl) })
            }
            ["replayed", at] => Outcome::Replayed(lsn(at)),
            ["promoted", tl, fork] => Outcome::Promoted { timeline: timeline(tl), fork: lsn(fork) },
            ["fenced", at] => Outcome::Fenced(lsn(at)),
            ["established", at] => Outcome::Established(lsn(at)),
            ["failed", rest @ ..] => Outcome::Failed(rest.join(" ")),
            ["unsupported", rest @ ..] => Outcome::Unsupported(rest.join(" ")),
            other => panic!("not understood: {other:?}"),
        };
        Input::EffectDone { id, epoch, outcome }
    }
}

fn senders(names: &str) -> Vec<Sender> {
    let sender = |name: &str| Sender {
        name: name.to_owned(),
        streaming: true,
        sync: SyncState::Quorum,
        flushed: None,
    };
    names.split(',').map(sender).collect()
}

fn node_id(text: &str) -> NodeId {
    NodeId(
        text.strip_prefix('n')
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("{text}: a node")),
    )
}

fn command(words: &[&str]) -> Command {
    let to = words.get(1).filter(|word| word.starts_with('n')).map(|word| node_id(word));
    match words[0] {
        "switchover" => Command::Switchover { to, dry_run: words.contains(&"dry") },
        "failover" => Command::Failover { to, allow_data_loss: words.contains(&"loss") },
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "rejoin" => Command::Rejoin(to.expect("a node")),
        other => panic!("not understood: {other}"),
    }
}

fn show(effect: &Effect) -> String {
    let Effect { rule, epoch, action, .. } = effect;
    let words = match action {
        Action::Publish(s) => {
            let readable: Vec<String> =
                s.nodes.iter().filter(|n| n.unreadable.is_none()).map(|n| n.name.to_string()).collect();
            let out: Vec<String> = s
                .nodes
                .iter()
                .filter_map(|n| n.unreadable.map(|why| format!("{}:{}", n.name, why.as_str())))
                .collect();
            let primary = s.primary.map_or("none".into(), |p| format!("n{}", p.0));
            let service = s.service.as_str();
            let tl = s.timeline;
            format!("publish {service} primary={primary} tl={tl} readable={readable:?} not={out:?}")
        }
        Action::WriteJournal(r) => {
            let intent = r.intent.as_ref().map(|i| format!("{} {:?}", i.phase.as_str(), i.candidate));
            let row =
                if r.term_row == Record::NO_TERM_ROW { "none".into() } else { r.term_row.0.to_string() };
            format!(
                "journal epoch={} promised={} primary=n{} tl={} fork={} row={row} k={}/{} next={} displaced={:?} intent={intent:?}",
                r.epoch,
                r.promised,
                r.primary.0,
                r.timeline,
                r.fork.0,
                r.cohort.standbys,
                r.cohort.size,
                r.cohort_next.is_some(),
                r.displaced
            )
        }
        Action::Raise(alarm) => format!("raise: {}", alarm.describe(|node| format!("n{}", node.0))),
        Action::RecordHistory(h) => {
            let steps: Vec<String> =
                h.steps.iter().map(|s| format!("{}+{}", s.step.as_str(), s.after.as_millis())).collect();
            let lost = h.lost.map(|lost| (lost.after.0, lost.seen.0));
            format!(
                "history {} {:?}->{:?} {} lost={lost:?} {}",
                h.cause.as_str(),
                h.from,
                h.to,
                steps.join(" "),
                h.abandoned
            )
        }
        Action::Answer { result, .. } => match result {
            Ok(words) => format!("answer: {words}"),
            Err(why) => format!("refuse: {why}"),
        },
        other => format!("{other:?}"),
    };
    format!("e{epoch} {rule} {words}").replace("NodeId(", "n(")
}

fn perform(text: &str) -> String {
    let mut stage = Stage::new();
    let mut written = String::new();
    for line in text.lines() {
        if let Some(input) = line.strip_prefix("> ") {
            written.push_str(line);
            written.push('\n');
            written.push_str(&stage.play(input));
        } else if line.is_empty() || line.starts_with('#') {
            written.push_str(line);
            written.push('\n');
        } else if !line.starts_with(' ') {
            stage.configure(line);
            written.push_str(line);
            written.push('\n');
        }
    }
    written
}

fn scenarios() -> Vec<PathBuf> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/failover");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("the scenarios").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_goes_as_written() {
    let mut wrong = 0;
    for file in scenarios() {
        let text = std::fs::read_to_string(&file).expect("readable");
        let written = perform(&text);
        if written != text {
            wrong += 1;
            println!("{}:", file.display());
            for (expected, actual) in text.lines().zip(written.lines()).filter(|(a, b)| a != b).take(4) {
                println!("  expected {expected}\n  actual   {actual}");
            }
            println!("  {} lines expected, {} actual", text.lines().count(), written.lines().count());
        }
    }
    assert_eq!(wrong, 0, "scenarios went otherwise");
}

#[test]
#[ignore = "rewrites the transcripts: on purpose only"]
fn rewrite() {
    for file in scenarios() {
        let text = std::fs::read_to_string(&file).expect("readable");
        std::fs::write(&file, perform(&text)).expect("writable");
    }
}
