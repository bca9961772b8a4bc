//! How a worker's thread shares its processor: it takes it from whoever runs as soon as something comes for it, or it
//! lets them come to their end first (`SCHED_BATCH`).
//!
//! With many statements under way the latter is cheaper: what comes meanwhile is found together, so that one wake-up
//! serves several sessions. But where other programs keep the processors for long, every statement waits for them. So it
//! is done while many statements are under way, and given up where the kernel says that the thread waits long. The rule
//! is a function of what was counted; the rest reads `/proc` and tells the kernel.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    thread_schedule_policy,
};
use thread_priority::{ThreadPriority, ThreadPriorityValue};

/// Statements a second from which on wake-ups are worth sharing.
const RATE_MIN: u128 = 2_000;

/// Statements under way at a time, on the average, from which on there is something to share them with.
const UNDER_WAY_MIN: u32 = 3;

/// How long the thread may wait for a processor each time it wants one, on the average.
const WAIT_MAX: Duration = Duration::from_micros(500);

/// So many spans in a row with longer waits, and it is given up.
const STRIKES_MAX: u8 = 3;

/// How long it is left alone after it was given up the first time; twice as long each time that follows.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The usual niceness on a scale from 0 (the most nice) to 99.
const NICE_0: u8 = 48;

/// What was counted between two ticks.
#[derive(Clone, Copy, Debug)]
struct Span {
    elapsed: Duration,
    statements: u32,
    /// The time that servers took for them, together.
    on_servers: Duration,
    /// How long the thread waited for a processor each time, on the average.
    wait: Duration,
}

/// The rule: whether to let others come to their end.
#[derive(Clone, Copy, Debug)]
struct Rule {
    gathers: bool,
    since: Option<Instant>,
    strikes: u8,
    pause: Duration,
    paused_until: Option<Instant>,
}

impl Default for Rule {
    fn default() -> Self {
        Self { gathers: false, since: None, strikes: 0, pause: PAUSE_MIN, paused_until: None }
    }
}

impl Rule {
    /// Takes a span in; `Some` where something changes.
    fn step(&mut self, now: Instant, span: Span) -> Option<bool> {
        let wanted = if self.gathers { self.goes_on(now, span) } else { self.begins(now, span) };
        let changes = wanted != self.gathers;
        if changes {
            (self.gathers, self.since, self.strikes) = (wanted, Some(now), 0);
        }
        changes.then_some(wanted)
    }

    fn begins(&self, now: Instant, span: Span) -> bool {
        let rested = self.paused_until.is_none_or(|until| now >= until);
        rested && span.wait <= WAIT_MAX && is_busy(span, 1)
    }

    fn goes_on(&mut self, now: Instant, span: Span) -> bool {
        self.strikes = if span.wait > WAIT_MAX { self.strikes + 1 } else { 0 };
        if self.strikes < STRIKES_MAX {
            // Half of what it takes to begin: so it does not come and go.
            return is_busy(span, 2);
        }
        let lasted = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if lasted > PAUSE_MAX {
            self.pause = PAUSE_MIN;
        }
        self.paused_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        false
    }
}

/// Whether statements come that often and overlap that much, or this part of it.
fn is_busy(span: Span, part: u32) -> bool {
    let often = u128::from(span.statements * part) * 1_000_000 >= span.elapsed.as_micros() * RATE_MIN;
    often && span.on_servers * part >= span.elapsed * UNDER_WAY_MIN
}

/// One worker's; lives on its thread.
#[derive(Debug)]
pub(super) struct Pace {
    statements: Cell<u32>,
    on_servers: Cell<Duration>,
    shell: RefCell<Option<Shell>>,
}

/// What the rule is fed from, and what it was fed last.
#[derive(Debug)]
struct Shell {
    rule: Rule,
    account: File,
    ticked: Instant,
    waits: Waits,
}

/// What the kernel has counted of a thread since it began.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    waited: Duration,
    turns: u64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { statements: Cell::new(0), on_servers: Cell::default(), shell: RefCell::new(None) }
    }

    /// From here on the thread that calls this is looked after; called once, on the worker's own. Where an operator has
    /// chosen how it runs, or the kernel counts nothing, it is left alone.
    pub(super) fn begin(&self, now: Instant) {
        let usual = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        let untouched = thread_schedule_policy().is_ok_and(|policy| policy == usual)
            && rustix::process::getpriority_process(None).is_ok_and(|nice| nice == 0);
        let account = File::open("/proc/thread-self/schedstat").ok().filter(|_| untouched);
        *self.shell.borrow_mut() = account.and_then(|account| {
            let waits = read(&account).filter(|waits| waits.turns > 0)?;
            Some(Shell { rule: Rule::default(), account, ticked: now, waits })
        });
    }

    /// A server has answered a statement.
    #[inline]
    pub(super) fn answered(&self, took: Duration) {
        self.statements.set(self.statements.get().saturating_add(1));
        self.on_servers.set(self.on_servers.get().saturating_add(took));
    }

    /// Called at every tick.
    pub(super) fn tick(&self, now: Instant) {
        let (statements, on_servers) = (self.statements.take(), self.on_servers.take());
        let mut kept = self.shell.borrow_mut();
        let Some(shell) = kept.as_mut() else { return };
        let Some(waits) = read(&shell.account) else { return };
        let turns = waits.turns.saturating_sub(shell.waits.turns);
        let wait =
            waits.waited.saturating_sub(shell.waits.waited) / u32::try_from(turns.max(1)).unwrap_or(u32::MAX);
        let span =
            Span { elapsed: now.saturating_duration_since(shell.ticked), statements, on_servers, wait };
        (shell.ticked, shell.waits) = (now, waits);
        if let Some(gathers) = shell.rule.step(now, span)
            && let Err(error) = run_as(gathers)
        {
            tracing::debug!(?error, "the kernel does not let a worker choose how it is scheduled");
            *kept = None;
        }
    }
}

/// Tells the kernel how the calling thread runs. Its niceness stays at 0, where `begin` found it.
fn run_as(gathers: bool) -> Result<(), thread_priority::Error> {
    let policy = if gathers { NormalThreadSchedulePolicy::Batch } else { NormalThreadSchedulePolicy::Other };
    let nice_0 = ThreadPriorityValue::try_from(NICE_0)
        .map_err(|_none| thread_priority::Error::Ffi("no such niceness"))?;
    let priority = ThreadPriority::Crossplatform(nice_0);
    set_thread_priority_and_policy(thread_native_id(), priority, ThreadSchedulePolicy::Normal(policy))
}

/// Time on a processor, time waited for one, times on one; the first two in nanoseconds.
fn read(account: &File) -> Option<Waits> {
    let mut buffer = [0; 96];
    let len = account.read_at(&mut buffer, 0).ok()?;
    let text = std::str::from_utf8(buffer.get(..len)?).ok()?;
    let mut numbers = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (waited, turns) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Waits { waited: Duration::from_nanos(waited), turns })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const TICK: Duration = Duration::from_millis(100);

    fn span(statements: u32, under_way: u32, wait_us: u64) -> Span {
        Span { elapsed: TICK, statements, on_servers: TICK * under_way, wait: Duration::from_micros(wait_us) }
    }

    #[test]
    fn it_is_done_while_many_statements_are_under_way() {
        let (mut rule, now) = (Rule::default(), clock::now());
        assert_eq!(rule.step(now, span(0, 0, 0)), None);
        assert_eq!(rule.step(now, span(500, 1, 50)), None, "one client, however fast");
        assert_eq!(rule.step(now, span(10, 16, 50)), None, "many that are slow");
        assert_eq!(rule.step(now, span(2000, 8, 50)), Some(true));
        assert_eq!(rule.step(now, span(150, 2, 50)), None, "less than it takes to begin");
        assert_eq!(rule.step(now, span(150, 1, 50)), Some(false));
        assert_eq!(rule.step(now, span(150, 2, 50)), None);
    }

    #[test]
    fn it_is_given_up_where_the_thread_waits_and_tried_again_more_and_more_seldom() {
        let (mut rule, mut now) = (Rule::default(), clock::now());
        let (fine, bad) = (span(2000, 8, 100), span(2000, 8, 2000));
        assert_eq!(rule.step(now, bad), None, "not even begun");
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let asked = now;
            while rule.step(now, fine) != Some(true) {
                now += TICK;
            }
            pauses.push(now.duration_since(asked).as_secs());
            assert_eq!(rule.step(now, bad), None);
            assert_eq!(rule.step(now, fine), None, "a single long wait is none");
            let given_up = (0..10).find(|_| rule.step(now, bad) == Some(false));
            assert_eq!(given_up, Some(2));
        }
        assert_eq!(pauses, [0, 5, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn the_kernel_is_told_and_counts() {
        // A thread of its own: how it runs is its own affair.
        std::thread::spawn(|| {
            let other = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
            let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
            if thread_schedule_policy().unwrap() != other
                || rustix::process::getpriority_process(None).unwrap() != 0
            {
                // Started by somebody who has chosen otherwise, which `begin` respects.
                return;
            }
            let pace = Pace::new();
            let mut now = clock::now();
            pace.begin(now);
            for (took, policy) in [(TICK, batch), (Duration::ZERO, other)] {
                for _ in 0..1000 {
                    pace.answered(took);
                }
                now += TICK;
                pace.shell.borrow_mut().as_mut().unwrap().waits.waited = Duration::from_secs(1000);
                pace.tick(now);
                assert_eq!(thread_schedule_policy().unwrap(), policy);
                assert_eq!(rustix::process::getpriority_process(None).unwrap(), 0);
            }
        })
        .join()
        .unwrap();
    }
}
