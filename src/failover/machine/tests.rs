//! Small spaces are enumerated, large ones are walked at random: whatever comes in, the core neither panics nor spins, every
//! effect it waits for ends, and what it publishes keeps its promises.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;
use crate::failover::effect::Action;
use crate::failover::input::{Command, CommandId, Recruit};
use crate::failover::observation::{Facts, Reach, Receiver};
use crate::failover::{Alarm, RULES};
use crate::model::{Address, Lsn, NodeId, Service, SystemId, Timeline, Unreadable};

fn members(count: u16) -> Vec<Member> {
    let address = |i: u16| Address::Tcp { host: "h".into(), port: 5432 + i };
    (0..count).map(|i| Member::new(&format!("n{i}"), address(i))).collect()
}

#[derive(Clone, Copy, Debug)]
struct Said {
    in_recovery: bool,
    timeline: u32,
    lsn: u64,
    follows: Option<u16>,
    system: u64,
}

fn facts(said: Said) -> Facts {
    let lsn = Lsn(said.lsn);
    let receiver = said.follows.map(|upstream| Receiver {
        streaming: true,
        upstream: Some(NodeId(upstream)),
        message_age: Some(Duration::from_millis(20)),
        timeline: Timeline(said.timeline),
        name: None,
    });
    Facts {
        system_id: SystemId(said.system),
        server_version: 150_018,
        started_micros: 0,
        in_recovery: said.in_recovery,
        timeline: Timeline(said.timeline),
        inserted: (!said.in_recovery).then_some(lsn),
        flushed: (!said.in_recovery).then_some(lsn),
        received: said.in_recovery.then_some(lsn),
        replayed: said.in_recovery.then_some(lsn),
        replay_age: None,
        follows: receiver.is_some(),
        receiver,
        senders: Vec::new(),
        sync_names: "ANY 1 (n0, n1, n2)".into(),
        read_only: false,
        replay_paused: false,
        receiver_timeout: Duration::from_secs(1),
    }
}

fn observation(node: u16, at: Instant, reach: Reach) -> Input {
    Input::Observation(Observation { node: NodeId(node), sent: at, answered: at, reach })
}

/// Every combination of what two nodes can say at the start, without a journal.
#[test]
fn discovery_never_guesses() {
    let mut sayings: Vec<Option<Said>> = vec![None];
    for in_recovery in [false, true] {
        for timeline in [1, 2] {
            for system in [7, 8] {
                for follows in [None, Some(0), Some(1)] {
                    let follows = follows.filter(|_| in_recovery);
                    sayings.push(Some(Said { in_recovery, timeline, lsn: 100, follows, system }));
                }
            }
        }
    }
    let base = crate::clock::now();
    for a in &sayings {
        for b in &sayings {
            let mut core = Core::new(Settings::default(), members(2), None, base);
            let at = base + Duration::from_millis(1);
            for (node, said) in [(0, a), (1, b)] {
                let reach = said.map_or(Reach::Refused, |said| Reach::Answered(Box::new(facts(said))));
                core.step(at, observation(node, at, reach));
            }
            let primaries: Vec<Said> =
                [a, b].into_iter().flatten().copied().filter(|s| !s.in_recovery).collect();
            let status = core.status();
            assert_ne!(
                status.service,
                Service::Open,
                "nothing is sent before the journal has it: {a:?} {b:?}"
            );
            let newest = primaries.iter().map(|said| said.timeline).max();
            let Some(chosen) = status.primary.map(NodeId::index) else {
                assert_eq!(status.service, Service::ReadOnly, "{a:?} {b:?}");
                assert!(!status.alarms.is_empty(), "a person is told why: {a:?} {b:?}");
                continue;
            };
            let said = [a, b][chosen].expect("a node that answers");
            assert!(!said.in_recovery, "a standby was taken for the primary");
            assert_eq!(Some(said.timeline), newest, "an older timeline was chosen: {a:?} {b:?}");
            let level = primaries.iter().filter(|other| other.timeline == said.timeline).count();
            assert_eq!(level, 1, "a guess between equals: {a:?} {b:?}");
        }
    }
}

/// What the primary and its replicas say, after how many milliseconds, and what is made of it.
type Row<'a> = (Reach, &'a dyn Fn() -> Reach, u64, Phase, RuleId);

/// Every pair of what primary and replica can say while all was well: the verdict is the table's.
#[test]
fn every_kind_of_failure_leads_to_its_rule() {
    let base = crate::clock::now();
    let ms = |n: u64| base + Duration::from_millis(n);
    let quiet = || Reach::Answered(Box::new(facts(Said { follows: None, ..STANDBY })));
    let hears = || Reach::Answered(Box::new(facts(STANDBY)));
    let table: [Row<'_>; 14] = [
        (Reach::Refused, &quiet, 3, Phase::Locking, RuleId::R1b),
        (Reach::Refused, &hears, 3, Phase::Suspect, RuleId::R1d),
        (Reach::Reset, &quiet, 3, Phase::Locking, RuleId::R1b),
        (Reach::Reset, &hears, 3, Phase::Suspect, RuleId::R1d),
        (Reach::Timeout, &quiet, 3, Phase::Suspect, RuleId::R1h),
        (Reach::Timeout, &quiet, 700, Phase::Locking, RuleId::R1c),
        (Reach::Timeout, &hears, 700, Phase::Suspect, RuleId::R1d),
        (Reach::Timeout, &hears, 10_700, Phase::Locking, RuleId::R1e),
        (Reach::Starting, &quiet, 200, Phase::Suspect, RuleId::R1f),
        (Reach::Starting, &quiet, 400, Phase::Locking, RuleId::R1b),
        (Reach::ShuttingDown, &hears, 400, Phase::Suspect, RuleId::R1d),
        (Reach::AuthFailed, &quiet, 5_000, Phase::Steady, RuleId::D1b),
        (Reach::Other, &quiet, 5_000, Phase::Steady, RuleId::D1b),
        (
            Reach::Answered(Box::new(facts(Said { follows: None, ..STANDBY }))),
            &quiet,
            3,
            Phase::Locking,
            RuleId::R1g,
        ),
    ];
    for (reach, witness, after, phase, rule) in table {
        let mut core = open(base, 3);
        let text = format!("{} then {after} ms", reach.as_str());
        core.step(ms(1000), observation(0, ms(1000), reach.clone()));
        for at in [1001, 1000 + after] {
            for node in [1, 2] {
                core.step(ms(at), observation(node, ms(at), witness()));
            }
        }
        let status = core.status();
        assert_eq!((status.phase, status.rule), (phase, rule), "{text}");
        let held = status.service != Service::Open;
        assert_eq!(held, phase != Phase::Steady, "{text}");
    }
}

const STANDBY: Said = Said { in_recovery: true, timeline: 1, lsn: 100, follows: Some(0), system: 7 };

/// A cluster of which n0 is the primary, in peace.
fn open(base: Instant, nodes: u16) -> Core {
    let mut core = Core::new(Settings::default(), members(nodes), None, base);
    let follows: Vec<Option<u16>> = (0..nodes).map(|node| (node > 0).then_some(0)).collect();
    hear(&mut core, base, &follows);
    assert_eq!(core.status().phase, Phase::Steady);
    core
}

/// All nodes answer, and follow these; what is to be durable becomes it. What else was asked for comes back.
fn hear(core: &mut Core, base: Instant, follows: &[Option<u16>]) -> Vec<Effect> {
    let mut all = Vec::new();
    for (node, follows) in (0..).zip(follows) {
        let said = Said { in_recovery: follows.is_some(), follows: *follows, ..STANDBY };
        for effect in core.step(base, observation(node, base, Reach::Answered(Box::new(facts(said))))) {
            if matches!(effect.action, Action::WriteJournal(_)) {
                let done = Input::EffectDone { id: effect.id, epoch: effect.epoch, outcome: Outcome::Done };
                all.extend(core.step(base, done));
            } else {
                all.push(effect);
            }
        }
    }
    all
}

/// It is where it was when it answered last, and the primary goes on without it.
#[test]
fn a_node_that_is_down_falls_behind() {
    let base = crate::clock::now();
    let mut core = open(base, 3);
    let writes = |core: &mut Core, second: u64| {
        let at = base + Duration::from_secs(second);
        let said = Said { in_recovery: false, follows: None, lsn: 100 + second * 1000, ..STANDBY };
        core.step(at, observation(0, at, Reach::Answered(Box::new(facts(said)))));
        core.step(at, observation(2, at, Reach::Refused));
    };
    (1..=11).for_each(|second| writes(&mut core, second));
    let snapshot = core.snapshot();
    let dead = snapshot.node(NodeId(2)).unwrap();
    assert_eq!((dead.lag_bytes, dead.lag), (11_000, Duration::from_secs(10)));
}

/// The acknowledgement of a standby that hangs on another one reaches the primary through nobody (T15).
#[test]
fn who_counts_for_the_quorum_streams_from_the_primary_itself() {
    for (without, turned) in [(None, true), (Some(RuleId::R8i), false)] {
        let base = crate::clock::now();
        let settings = Settings { without, ..Settings::default() };
        let mut core = Core::new(settings, members(3), None, base);
        let chain = [None, Some(0), Some(1)];
        let mut asked = hear(&mut core, base, &chain);
        for seconds in 1..=3 {
            asked.extend(hear(&mut core, base + Duration::from_secs(seconds), &chain));
        }
        let to_primary = |effect: &Effect| {
            matches!(effect.action, Action::Repoint { node: NodeId(2), upstream: NodeId(0), .. })
        };
        assert_eq!(asked.iter().any(to_primary), turned, "without {without:?}");
    }
}

/// The replica that is frozen too must not delay the verdict for longer than the timeout.
#[test]
fn a_replica_that_does_not_answer_delays_hard_evidence_by_the_timeout_at_most() {
    let base = crate::clock::now();
    let mut core = open(base, 3);
    let at = base + Duration::from_secs(1);
    core.step(at, observation(0, at, Reach::Refused));
    core.step(at, observation(1, at, Reach::Answered(Box::new(facts(Said { follows: None, ..STANDBY })))));
    assert_eq!(core.status().phase, Phase::Suspect);
    let deadline = core.deadline().expect("a time to look again");
    assert!(deadline <= at + core.world.settings.detect_timeout);
    core.step(deadline, Input::Tick);
    assert_eq!(core.status().phase, Phase::Locking);
}

/// An observation that was sent before a newer one must not undo it.
#[test]
fn observations_out_of_order_do_not_go_back_in_time() {
    let base = crate::clock::now();
    let mut core = open(base, 3);
    let at = base + Duration::from_secs(1);
    core.step(at, observation(0, at, Reach::Refused));
    let before = at.checked_sub(Duration::from_millis(5)).expect("a second has passed");
    let said = Said { in_recovery: false, follows: None, ..STANDBY };
    core.step(at, observation(0, before, Reach::Answered(Box::new(facts(said)))));
    assert_eq!(core.status().phase, Phase::Suspect);
}

/// A probe may see the new run of a server before the end of the job that restarted it is heard.
#[test]
fn a_node_that_was_heard_since_its_restart_is_not_starting() {
    for (run, seen) in [(5, true), (0, false)] {
        let base = crate::clock::now();
        let mut core = open(base, 3);
        let rejoin = Command::Rejoin(NodeId(1));
        let effects = core.step(base, Input::Command { id: CommandId(1), command: rejoin });
        let job = effects.iter().find(|effect| matches!(effect.action, Action::Rejoin { .. }));
        let (id, epoch) = job.map(|job| (job.id, job.epoch)).expect("a rejoin");
        let at = base + Duration::from_millis(50);
        let said = Facts { started_micros: run, ..facts(STANDBY) };
        core.step(at, observation(1, at, Reach::Answered(Box::new(said))));
        core.step(at, Input::EffectDone { id, epoch, outcome: Outcome::Done });
        let unreadable = core.snapshot().node(NodeId(1)).and_then(|node| node.unreadable);
        assert_eq!(unreadable != Some(Unreadable::Starting), seen, "{unreadable:?}");
    }
}

#[test]
fn answers_of_another_epoch_or_to_nobody_are_dropped() {
    let base = crate::clock::now();
    let mut core = open(base, 3);
    let before = core.status();
    for (id, epoch) in [(1, 0), (2, 1), (9999, 1), (2, 99)] {
        let outcome = Outcome::Promoted { timeline: Timeline(9), fork: Lsn(1) };
        core.step(base, Input::EffectDone { id: EffectId(id), epoch: Epoch(epoch), outcome });
    }
    assert_eq!(core.status(), before);
}

/// A random walk over every kind of input, the outcomes of its own effects among them.
#[test]
fn no_input_makes_the_core_panic_spin_or_forget() {
    let base = crate::clock::now();
    let mut phases = BTreeSet::new();
    for seed in 0..120 {
        let mut walk = Walk::new(seed, base);
        for _ in 0..700 {
            walk.go();
            phases.insert(walk.core.status().phase);
        }
        // Without further answers everything that is waited for is given up by its deadline.
        let waiting = walk.core.world.next_overdue();
        assert!(waiting.is_none_or(|at| at <= walk.now + Duration::from_secs(600)), "seed {seed}");
        assert!(walk.sent.len() < 4000, "seed {seed}: effects without bound");
    }
    assert!(phases.len() >= 11, "the walk sees nearly every phase: {phases:?}");
}

struct Walk {
    core: Core,
    rng: fastrand::Rng,
    now: Instant,
    sent: Vec<Effect>,
    published: u64,
}

impl Walk {
    fn new(seed: u64, base: Instant) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let nodes = rng.u16(1..5);
        let core = Core::new(Settings::default(), members(nodes), None, base);
        Self { core, rng, now: base, sent: Vec::new(), published: 0 }
    }

    fn go(&mut self) {
        self.now += Duration::from_millis([0, 1, 50, 700][self.rng.usize(0..4)]);
        let input = match self.rng.u32(0..20) {
            0..=8 => self.seen(),
            9..=16 => self.outcome(),
            17 => Input::Command { id: CommandId(self.rng.u64(..)), command: self.command() },
            18 => Input::DataPathSuspect(NodeId(self.rng.u16(0..7))),
            _ => Input::Tick,
        };
        let effects = self.core.step(self.now, input);
        assert!(effects.len() < 200, "a flood");
        for effect in effects {
            if let Action::Publish(snapshot) = &effect.action {
                assert!(snapshot.version > self.published, "versions grow");
                self.published = snapshot.version;
                let durable = self.core.record().is_some();
                assert!(snapshot.service != Service::Open || durable, "open without a record");
            }
            assert_eq!(effect.action.expects_outcome(), effect.limit.is_some());
            if effect.limit.is_some() {
                self.sent.push(effect);
            }
        }
        assert!(
            self.core.deadline().is_none_or(|at| at > self.now),
            "a deadline in the past makes the shell spin"
        );
    }

    fn seen(&mut self) -> Input {
        let node = self.rng.u16(0..6);
        let reach = match self.rng.u32(0..12) {
            0 => Reach::Refused,
            1 => Reach::Timeout,
            2 => Reach::Starting,
            3 => [Reach::Reset, Reach::ShuttingDown, Reach::AuthFailed, Reach::Other][self.rng.usize(0..4)]
                .clone(),
            _ => {
                let in_recovery = if self.rng.u32(0..8) > 0 { node != 0 } else { self.rng.bool() };
                let follows = self.rng.bool().then(|| self.rng.u16(0..5)).filter(|_| in_recovery);
                let timeline = [1, 1, 1, 2, 3][self.rng.usize(0..5)];
                let system = if self.rng.u32(0..30) == 0 { 8 } else { 7 };
                let lsn = if self.rng.u32(0..50) == 0 { u64::MAX } else { self.rng.u64(0..1000) };
                let mut facts = facts(Said { in_recovery, timeline, lsn, follows, system });
                if self.rng.u32(0..10) == 0 {
                    facts.sync_names =
                        ["", "*", "ANY 3 (a, b", "ANY 99999999999999999999 (a)", "\"", "ANY 1 (fenced)"]
                            [self.rng.usize(0..6)]
                        .into();
                }
                Reach::Answered(Box::new(facts))
            }
        };
        let sent = if self.rng.u32(0..10) == 0 { self.now + Duration::from_secs(3) } else { self.now };
        Input::Observation(Observation { node: NodeId(node), sent, answered: self.now, reach })
    }

    fn outcome(&mut self) -> Input {
        if self.sent.is_empty() {
            return Input::Tick;
        }
        let at = if self.rng.bool() { self.sent.len() - 1 } else { self.rng.usize(0..self.sent.len()) };
        let effect = self.sent.swap_remove(at);
        let lsn = Lsn(self.rng.u64(0..1000));
        let outcome = match effect.action {
            _ if self.rng.u32(0..6) == 0 => Outcome::Failed("no".into()),
            _ if self.rng.u32(0..20) == 0 => Outcome::Unsupported("never".into()),
            Action::StopReceiver(_) => {
                Outcome::Recruited(Recruit { received: lsn, replayed: lsn, timeline: Timeline(1) })
            }
            Action::FinishReplay { .. } => Outcome::Replayed(lsn),
            Action::Promote { .. } => Outcome::Promoted { timeline: Timeline(self.rng.u32(1..4)), fork: lsn },
            Action::FenceOld(_) | Action::Quiesce(_) => Outcome::Fenced(lsn),
            Action::WriteTermRow(_) => Outcome::Established(lsn),
            _ => Outcome::Done,
        };
        Input::EffectDone { id: effect.id, epoch: effect.epoch, outcome }
    }

    fn command(&mut self) -> Command {
        let to = self.rng.bool().then(|| NodeId(self.rng.u16(0..6)));
        match self.rng.u32(0..5) {
            0 => Command::Switchover { to, dry_run: self.rng.bool() },
            1 => Command::Failover { to, allow_data_loss: self.rng.bool() },
            2 => Command::Pause,
            3 => Command::Resume,
            _ => Command::Rejoin(NodeId(self.rng.u16(0..6))),
        }
    }
}

/// `wal_receiver_timeout` at its default of a minute: an idle receiver may be silent for half of it.
#[test]
fn an_idle_receiver_does_not_count_as_silent() {
    let base = crate::clock::now();
    let mut core = open(base, 3);
    let ms = |n: u64| base + Duration::from_millis(n);
    core.step(ms(1000), observation(0, ms(1000), Reach::Timeout));
    for node in [1, 2] {
        let mut said = facts(STANDBY);
        said.receiver_timeout = Duration::from_secs(60);
        if let Some(receiver) = said.receiver.as_mut() {
            receiver.message_age = Some(Duration::from_secs(20));
        }
        core.step(ms(1700), observation(node, ms(1700), Reach::Answered(Box::new(said))));
    }
    assert_eq!(core.status().phase, Phase::Suspect, "twenty seconds of silence prove nothing here");
    assert!(matches!(core.status().alarms[..], [Alarm::UnreachablePrimary { .. }]));
}

#[test]
fn rule_ids_are_unique_and_printable() {
    let ids: BTreeSet<&str> = RULES.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids.len(), RULES.len());
    for rule in RULES {
        assert_eq!(rule.id.to_string(), rule.id.as_str());
        assert_eq!(rule.id.text(), rule.text);
    }
}
