//! Watching the servers: one prober per node, each answer an `Observation` for the decision core.
//!
//! A prober keeps one connection for the frequent questions and opens a fresh one whenever there is doubt: when the
//! kept one breaks (a killed server is noticed within milliseconds that way), when it does not answer at once, when the
//! data path suspects the node, and now and then in peace. Only a fresh connection can say that a node is gone or
//! lives: a frozen server still accepts TCP connections, and an orphaned session may outlive its server. While the
//! last fresh attempt failed, there is no kept connection, so the two never contradict each other.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio_postgres::Statement;

use super::Board;
use super::link::{Link, LinkError, Target};
use super::suspicion::Visit;
use super::task::{self, Task};
use super::upstream::Upstreams;
use super::{probe, settings::Settings};
use crate::clock;
use crate::failover::{Facts, Input, Observation, Reach};
use crate::model::{NodeId, SqlState, Timeline};

/// The kept connection is asked alone for this long; then a fresh one is opened beside it.
const HEDGE_AFTER: Duration = Duration::from_millis(50);

/// In peace a fresh connection is made at least this often: the kept one cannot see that new ones are refused.
const FRESH_EVERY: Duration = Duration::from_secs(5);

/// A node that refuses our sign-in is asked no more often than this: each try costs both sides a key derivation.
const REFUSED_PACE: Duration = Duration::from_secs(1);

/// A node that says nothing at all is suspected of having died for so long at most, where nobody replaces it: the network
/// between is at fault more likely, and whoever still has a connection through it can go on.
const SUSPECTED_MAX: Duration = Duration::from_secs(2);

/// What the probers are told, and what they tell each other's neighbours.
#[derive(Debug)]
pub(crate) struct Watch {
    pace: watch::Sender<Duration>,
    nudges: Box<[Notify]>,
    calls: Box<[Notify]>,
    timelines: Box<[AtomicU32]>,
    errors: Box<[Mutex<String>]>,
}

impl Watch {
    /// For this many nodes, at this pace.
    pub(crate) fn new(nodes: usize, pace: Duration) -> Arc<Self> {
        Arc::new(Self {
            pace: watch::Sender::new(pace),
            nudges: (0..nodes).map(|_| Notify::new()).collect(),
            calls: (0..nodes).map(|_| Notify::new()).collect(),
            timelines: (0..nodes).map(|_| AtomicU32::new(0)).collect(),
            errors: (0..nodes).map(|_| Mutex::default()).collect(),
        })
    }

    /// Sets the time between two questions to a node; takes effect at once.
    pub(crate) fn set_pace(&self, pace: Duration) {
        self.pace.send_if_modified(|now| std::mem::replace(now, pace) != pace);
    }

    /// Has the node asked now, over a fresh connection.
    pub(crate) fn nudge(&self, node: NodeId) {
        if let Some(nudge) = self.nudges.get(node.index()) {
            nudge.notify_one();
        }
    }

    /// Has the node asked now, over the connection that is there: a sign-in takes longer than the answer.
    pub(crate) fn call(&self, node: NodeId) {
        if let Some(call) = self.calls.get(node.index()) {
            call.notify_one();
        }
    }

    /// The newest timeline that the node was seen on since its start.
    pub(crate) fn timeline(&self, node: NodeId) -> Timeline {
        Timeline(self.timelines.get(node.index()).map_or(0, |timeline| timeline.load(Ordering::Acquire)))
    }

    /// Why the last probe failed, in words; empty where it did not.
    pub(crate) fn error(&self, node: NodeId) -> String {
        let Some(slot) = self.errors.get(node.index()) else { return String::new() };
        slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, node: NodeId, text: String) {
        if let Some(slot) = self.errors.get(node.index()) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }

    fn set_timeline(&self, node: NodeId, timeline: Timeline) {
        if let Some(slot) = self.timelines.get(node.index()) {
            slot.store(timeline.0, Ordering::Release);
        }
    }
}

/// Starts the probers; they run until the tasks are dropped.
pub(crate) fn spawn(
    settings: &Settings,
    targets: &[Target],
    board: &Arc<Board>,
    watch: &Arc<Watch>,
    out: &mpsc::Sender<Input>,
) -> Vec<Task> {
    let mut tasks = probers(settings, targets, board, watch, out);
    tasks.push(task::spawn(
        "prober",
        "suspicions",
        pass_suspicions(settings.nodes.len(), board.clone(), watch.clone(), out.clone()),
    ));
    tasks
}

/// One prober per target, in their order.
pub(crate) fn probers(
    settings: &Settings,
    targets: &[Target],
    board: &Arc<Board>,
    watch: &Arc<Watch>,
    out: &mpsc::Sender<Input>,
) -> Vec<Task> {
    let upstreams = Arc::new(Upstreams::new(&settings.nodes));
    targets
        .iter()
        .map(|target| {
            let prober = Prober {
                target: target.clone(),
                deadline: settings.failover.detect_timeout,
                board: board.clone(),
                watch: watch.clone(),
                upstreams: upstreams.clone(),
                out: out.clone(),
                kept: None,
                fresh_at: None,
                silent_since: None,
                started_micros: 0,
            };
            task::spawn("prober", &target.name, prober.run())
        })
        .collect()
}

/// Errors that sessions had with a node make its prober look at once.
async fn pass_suspicions(nodes: usize, board: Arc<Board>, watch: Arc<Watch>, out: mpsc::Sender<Input>) {
    let nodes = u16::try_from(nodes).unwrap_or(u16::MAX);
    loop {
        board.suspicions().raised().await;
        for node in (0..nodes).map(NodeId) {
            if board.suspicions().take(node) {
                watch.nudge(node);
                if out.send(Input::DataPathSuspect(node)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn notified(all: &[Notify], node: NodeId) {
    match all.get(node.index()) {
        Some(one) => one.notified().await,
        None => std::future::pending().await,
    }
}

struct Prober {
    target: Target,
    deadline: Duration,
    board: Arc<Board>,
    watch: Arc<Watch>,
    upstreams: Arc<Upstreams>,
    out: mpsc::Sender<Input>,
    kept: Option<Kept>,
    /// When the last fresh connection was made.
    fresh_at: Option<Instant>,
    /// Since when fresh connections have met with nothing but silence.
    silent_since: Option<Instant>,
    /// Start of the server that the remembered timeline belongs to.
    started_micros: i64,
}

struct Kept {
    link: Link,
    question: Statement,
}

impl Prober {
    async fn run(mut self) {
        let watch = self.watch.clone();
        let mut pace = watch.pace.subscribe();
        loop {
            let sent = clock::now();
            let result = self.look(sent).await;
            let observation = self.observation(sent, result);
            let refused = matches!(observation.reach, Reach::AuthFailed);
            if self.out.send(Input::Observation(observation)).await.is_err() {
                return;
            }
            let rest = *pace.borrow_and_update();
            let rest = if refused { rest.max(REFUSED_PACE) } else { rest };
            let nudged = notified(&watch.nudges, self.target.id);
            let called = notified(&watch.calls, self.target.id);
            let broken = async {
                match &self.kept {
                    Some(kept) => kept.link.closed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = nudged => self.fresh_at = None,
                () = called, if !refused => {}
                () = broken => {
                    self.kept = None;
                    self.board.suspicions().sign(self.target.id);
                    self.board.stopped(self.target.id);
                }
                _ = pace.changed(), if !refused => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// One look at the node: the kept connection where it answers at once, a fresh one where there is doubt.
    async fn look(&mut self, sent: Instant) -> Result<Facts, LinkError> {
        let fresh_due = self.fresh_at.is_none_or(|at| sent.duration_since(at) >= FRESH_EVERY);
        let Some(kept) = self.kept.take() else { return self.look_afresh(self.deadline).await };
        if !fresh_due {
            return self.look_again(kept).await;
        }
        match self.look_afresh(self.deadline).await {
            // It lives and has, say, no connection to spare: what it tells over the kept one is better than nothing.
            Err(LinkError::Server { code, .. }) if code == SqlState::TOO_MANY_CONNECTIONS => {
                self.fresh_at = Some(sent);
                self.look_again(kept).await
            }
            looked => looked,
        }
    }

    /// Asks over the kept connection; after a moment of silence over a fresh one beside it.
    async fn look_again(&mut self, kept: Kept) -> Result<Facts, LinkError> {
        let upstreams = self.upstreams.clone();
        let by_name = |host: &str, port| upstreams.node_at(host, port);
        let mut asked = Box::pin(probe::ask(&kept.link, &kept.question, self.deadline, &by_name));
        if let Ok(answer) = tokio::time::timeout(HEDGE_AFTER, &mut asked).await {
            drop(asked);
            let Ok(facts) = answer else {
                self.board.suspicions().sign(self.target.id);
                return self.look_afresh(self.deadline).await;
            };
            self.kept = Some(kept);
            return Ok(facts);
        }
        let left = self.deadline.saturating_sub(HEDGE_AFTER);
        let visit = self.board.suspicions().begin(self.target.id);
        let fresh = open(&self.target, left, &by_name);
        // A kept connection that was slow once is replaced: it may be the path that is broken, not the server.
        let (result, kept) = tokio::select! {
            Ok(facts) = &mut asked => (Ok(facts), None),
            opened = fresh => {
                self.note_visit(visit, opened.as_ref().err());
                match opened {
                    Ok((kept, facts)) => (Ok(facts), Some(kept)),
                    Err(error) => (Err(error), None),
                }
            }
        };
        self.fresh_at = kept.is_some().then(clock::now);
        self.kept = kept;
        result
    }

    async fn look_afresh(&mut self, deadline: Duration) -> Result<Facts, LinkError> {
        self.fresh_at = None;
        let upstreams = self.upstreams.clone();
        let by_name = |host: &str, port| upstreams.node_at(host, port);
        let visit = self.board.suspicions().begin(self.target.id);
        let opened = open(&self.target, deadline, &by_name).await;
        self.note_visit(visit, opened.as_ref().err());
        let (kept, facts) = opened?;
        self.kept = Some(kept);
        self.fresh_at = Some(clock::now());
        Ok(facts)
    }

    /// Notes how a fresh connection went. Whatever a server says on one, even that it stops: its postmaster has forked a
    /// process that says it.
    fn note_visit(&mut self, visit: Visit, error: Option<&LinkError>) {
        let (node, suspicions) = (self.target.id, self.board.suspicions());
        let silent = error.is_some_and(|error| matches!(reach(error), Reach::Timeout));
        self.silent_since = silent.then(|| self.silent_since.unwrap_or_else(clock::now));
        match error {
            None => suspicions.answered(node, visit),
            Some(LinkError::Refused | LinkError::Lost) => suspicions.gone(node),
            Some(_) if !silent => suspicions.lay(node, visit),
            Some(_) if self.silent_since.is_some_and(|since| clock::now() - since >= SUSPECTED_MAX) => {
                suspicions.lay(node, visit);
            }
            Some(_) => suspicions.silent(node),
        }
    }

    fn observation(&mut self, sent: Instant, result: Result<Facts, LinkError>) -> Observation {
        let node = self.target.id;
        let reach = match result {
            Ok(mut facts) => {
                self.remember_timeline(&mut facts);
                // Before the core hears of it: a node is readable only after this position is known.
                self.board.set_replayed(node, facts.applied());
                if let Some(receiver) = facts.receiver.as_ref().filter(|r| r.upstream.is_none()) {
                    tracing::trace!(?receiver, "streams from a server that is none of the nodes");
                    self.upstreams.wants_names();
                }
                self.watch.set_error(node, String::new());
                Reach::Answered(Box::new(facts))
            }
            Err(error) => {
                self.watch.set_error(node, error.to_string());
                let reach = reach(&error);
                // A silent server goes on where it was; one whose connections broke may be another run of it.
                if !matches!(reach, Reach::Timeout) {
                    self.board.stopped(node);
                }
                reach
            }
        };
        Observation { node, sent, answered: clock::now(), reach }
    }

    /// A standby shows the timeline that it receives only while it receives; the control file's is behind. Until the
    /// server is started anew it cannot go back.
    fn remember_timeline(&mut self, facts: &mut Facts) {
        let node = self.target.id;
        if facts.started_micros == self.started_micros {
            facts.timeline = facts.timeline.max(self.watch.timeline(node));
        } else {
            self.board.stopped(node);
        }
        self.started_micros = facts.started_micros;
        self.watch.set_timeline(node, facts.timeline);
    }
}

/// A fresh connection and its first answer, within `deadline` altogether.
async fn open(
    target: &Target,
    deadline: Duration,
    by_name: &impl Fn(&str, u16) -> Option<NodeId>,
) -> Result<(Kept, Facts), LinkError> {
    super::link::within(deadline, async {
        let link = Link::open(target, deadline).await?;
        let question = probe::prepare(&link, deadline).await?;
        let facts = probe::ask(&link, &question, deadline, by_name).await?;
        Ok::<_, LinkError>((Kept { link, question }, facts))
    })
    .await
}

/// A failure as the core sorts them.
fn reach(error: &LinkError) -> Reach {
    match error {
        LinkError::Refused => Reach::Refused,
        LinkError::Lost => Reach::Reset,
        // A host that is cut off, or whose name has gone with it, says nothing, which is what silence means.
        LinkError::Timeout { .. } | LinkError::Unreachable { .. } => Reach::Timeout,
        LinkError::Server { code, .. } => match *code {
            SqlState::CANNOT_CONNECT_NOW => Reach::Starting,
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => Reach::ShuttingDown,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            | SqlState::INVALID_PASSWORD
            | SqlState::INVALID_CATALOG_NAME
            | SqlState::INSUFFICIENT_PRIVILEGE => Reach::AuthFailed,
            _ => Reach::Other,
        },
        LinkError::NoPassword => Reach::AuthFailed,
        LinkError::Tls { .. } | LinkError::Answer { .. } => Reach::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: SqlState) -> LinkError {
        LinkError::Server { code, message: String::new() }
    }

    #[test]
    fn failures_are_sorted_as_the_core_needs_them() {
        assert_eq!(reach(&LinkError::Refused), Reach::Refused);
        assert_eq!(reach(&LinkError::Lost), Reach::Reset);
        assert_eq!(reach(&LinkError::Timeout { after: Duration::ZERO }), Reach::Timeout);
        let source = std::io::ErrorKind::HostUnreachable.into();
        assert_eq!(reach(&LinkError::Unreachable { source }), Reach::Timeout);
        assert_eq!(reach(&server(SqlState::CANNOT_CONNECT_NOW)), Reach::Starting);
        assert_eq!(reach(&server(SqlState::ADMIN_SHUTDOWN)), Reach::ShuttingDown);
        assert_eq!(reach(&server(SqlState::CRASH_SHUTDOWN)), Reach::ShuttingDown);
        assert_eq!(reach(&server(SqlState::INVALID_PASSWORD)), Reach::AuthFailed);
        assert_eq!(reach(&LinkError::NoPassword), Reach::AuthFailed);
        assert_eq!(reach(&server(SqlState::TOO_MANY_CONNECTIONS)), Reach::Other);
    }
}
