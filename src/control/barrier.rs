//! The barrier between replicas and the primary. PostgreSQL makes a commit visible on replicas before the primary shows
//! it: its record is replayed there while the primary still waits for acknowledgements. What is looked at here are
//! therefore snapshots, not positions.
//!
//! A round asks the primary which transactions it counts as running, then each replica which of those it shows as
//! committed. Where there are none, the primary shows everything that the replica showed when the round began. Where there
//! are some, the primary is asked again until it counts none of them as running. The set is fixed by the round, so that a
//! steady stream of new commits does not keep it open.
//!
//! One task, one connection per node; at most one question under way; none while nobody wants a round. What a round
//! costs: one query on the primary and one on each replica that serves reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::Board;
use super::link::{Link, LinkError, Target, within};
use super::task::{self, Task};
use crate::clock;
use crate::model::{Epoch, NodeId, Role};

/// An answer that takes longer is given up, and the connection with it: a frozen replica must not hold up the others.
const ANSWER_MAX: Duration = Duration::from_millis(200);

/// After a failure the node is left alone for this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Between two questions to the primary.
const PACE: Duration = Duration::from_millis(1);

/// Rounds that wait for the primary at one time, over all replicas; no new one begins beyond it.
const DUE_MAX: usize = 64;

/// Transactions behind the primary's snapshot that a replica is asked about at most.
const AHEAD_MAX: i64 = 10_000;

/// The snapshot, as `xmin:xmax:running,running,...` (PostgreSQL manual, 9.27.10).
const RUNNING: &str = "SELECT pg_current_snapshot()::text";

/// Which of some transactions a replica shows as committed: $1, and those from $2 on that it knows of, at most $3 of them.
/// Always one row, for its own end of the known ones. A transaction beyond that is an error to ask about.
const COMMITTED: &str = "
    SELECT known.xmax, asked.xid
      FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint) AS known (xmax)
      LEFT JOIN LATERAL (
           SELECT unnest($1::bigint[])
           UNION ALL
           SELECT generate_series($2::bigint, least(known.xmax - 1, $2::bigint + $3::bigint))) AS asked (xid)
        ON CASE WHEN asked.xid < known.xmax THEN pg_xact_status(asked.xid::text::xid8) = 'committed' ELSE false END";

/// Starts the barrier; it runs until the task is dropped.
pub(crate) fn spawn(targets: &[Target], board: &Arc<Board>) -> Task {
    let nodes = targets.iter().map(|target| Node { target: target.clone(), link: None, retry_at: None });
    let barrier = Barrier { board: board.clone(), nodes: nodes.collect(), due: Vec::new() };
    task::spawn("barrier", "rounds", barrier.run())
}

struct Barrier {
    board: Arc<Board>,
    nodes: Vec<Node>,
    due: Vec<Due>,
}

/// A round that is not passed yet for one replica.
struct Due {
    node: NodeId,
    round: u64,
    /// Shown as committed there, and running on the primary when it was last asked.
    committed: Vec<i64>,
}

impl Barrier {
    async fn run(mut self) {
        let board = self.board.clone();
        loop {
            while self.due.is_empty() && !board.rounds().is_wanted() {
                board.rounds().wanted().await;
            }
            if !self.step().await {
                // What was begun is begun anew by whoever still waits.
                self.due.clear();
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// One look at the primary, and a round where one is wanted. `false`: nothing can be said.
    async fn step(&mut self) -> bool {
        let board = self.board.clone();
        let snapshot = board.snapshot().clone();
        let same_epoch = |epoch: Epoch| board.snapshot().epoch == epoch;
        let round =
            (self.due.len() < DUE_MAX && board.rounds().take_wanted()).then(|| board.rounds().begin());
        let primary = snapshot.writable_primary().and_then(|primary| self.nodes.get_mut(primary.index()));
        let Some(running) = (match primary {
            Some(primary) => primary.running().await,
            None => None,
        }) else {
            return false;
        };
        if !same_epoch(snapshot.epoch) {
            return false;
        }
        self.settle(&running);
        let Some(round) = round else { return true };
        let serves = |id: NodeId| {
            let node = snapshot.node(id);
            node.is_some_and(|node| node.role == Role::Replica && node.unreadable.is_none())
        };
        let asked = self.nodes.iter_mut().filter(|node| serves(node.target.id));
        let answers = join_all(asked.map(|node| node.committed(&running))).await;
        if !same_epoch(snapshot.epoch) {
            return false;
        }
        for (node, committed) in answers.into_iter().flatten() {
            if committed.is_empty() {
                board.rounds().pass(node, round);
            } else {
                self.due.push(Due { node, round, committed });
            }
        }
        true
    }

    /// Takes out what the primary has come to show.
    fn settle(&mut self, running: &Running) {
        let rounds = self.board.rounds();
        self.due.retain_mut(|due| {
            due.committed.retain(|&xid| !running.shows(xid));
            if due.committed.is_empty() {
                rounds.pass(due.node, due.round);
            }
            !due.committed.is_empty()
        });
    }
}

/// The primary's snapshot: everything before `xmax` has ended, but for `xip`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Running {
    xmax: i64,
    xip: Vec<i64>,
}

impl Running {
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(':')?;
        let (xmax, xip) = rest.split_once(':')?;
        let ids = xip.split(',').filter(|id| !id.is_empty()).map(|id| id.parse().ok());
        Some(Self { xmax: xmax.parse().ok()?, xip: ids.collect::<Option<_>>()? })
    }

    /// Whether the transaction has ended for everybody who looks from now on.
    fn shows(&self, xid: i64) -> bool {
        xid < self.xmax && !self.xip.contains(&xid)
    }
}

/// One node's connection.
struct Node {
    target: Target,
    link: Option<Link>,
    retry_at: Option<Instant>,
}

impl Node {
    /// What the primary counts as running.
    async fn running(&mut self) -> Option<Running> {
        let asked = self.ask(async |link| {
            let row = within(ANSWER_MAX, link.client().query_one(RUNNING, &[])).await?;
            let text: &str = row.try_get(0)?;
            Running::parse(text).ok_or_else(|| LinkError::Answer { detail: text.chars().take(80).collect() })
        });
        asked.await
    }

    /// What this replica shows of it as committed.
    async fn committed(&mut self, running: &Running) -> Option<(NodeId, Vec<i64>)> {
        let id = self.target.id;
        let asked = self.ask(async |link| {
            let given: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&running.xip, &running.xmax, &AHEAD_MAX];
            let rows = within(ANSWER_MAX, link.client().query(COMMITTED, &given)).await?;
            let mut committed = Vec::new();
            for row in rows {
                if row.try_get::<_, i64>(0)? - running.xmax > AHEAD_MAX {
                    return Err(LinkError::Answer { detail: "too far ahead of the primary".to_owned() });
                }
                committed.extend(row.try_get::<_, Option<i64>>(1)?);
            }
            Ok((id, committed))
        });
        asked.await
    }

    /// Asks over the kept connection, or a new one. A node that failed is left alone for a while.
    async fn ask<T>(&mut self, question: impl AsyncFnOnce(&Link) -> Result<T, LinkError>) -> Option<T> {
        if self.retry_at.is_some_and(|at| clock::now() < at) {
            return None;
        }
        self.retry_at = None;
        let link = match self.link.take() {
            Some(link) if !link.is_closed() => Ok(link),
            _ => Link::open(&self.target, RETRY_AFTER).await,
        };
        let answered = match link {
            Ok(link) => question(&link).await.map(|answer| (link, answer)),
            Err(error) => Err(error),
        };
        match answered {
            Ok((link, answer)) => {
                self.link = Some(link);
                Some(answer)
            }
            Err(error) => {
                tracing::debug!(node = %self.target.name, %error, "the barrier gets no answer");
                self.retry_at = Some(clock::now() + RETRY_AFTER);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_as_the_server_writes_it() {
        let running = Running::parse("10:20:10,14").unwrap();
        assert_eq!(running, Running { xmax: 20, xip: vec![10, 14] });
        assert_eq!(Running::parse("20:20:"), Some(Running { xmax: 20, xip: Vec::new() }));
        for text in ["", "10:20", "10:x:", "10:20:1,,x"] {
            assert_eq!(Running::parse(text), None, "{text:?}");
        }
        for (xid, shown) in
            [(9, true), (10, false), (11, true), (14, false), (19, true), (20, false), (21, false)]
        {
            assert_eq!(running.shows(xid), shown, "{xid}");
        }
    }
}
