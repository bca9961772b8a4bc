//! The shared sampler of WAL positions: where the primary writes and what each replica has replayed, asked for as
//! often as somebody wants to know and no more.
//!
//! Any sample of the primary's insert position *asked for* after a write was acknowledged is at or past its commit, so
//! one query serves every write that finished before it was sent. Each node has one task and one connection; a round
//! begins when the board is asked for positions, at most every `sample_every`. Nothing is asked while nobody wants it.
//!
//! A sample is published only if the node was the primary of the same epoch before the question and after the answer,
//! and only in the order of the numbers: a late answer of a frozen former primary must not stand as a new one's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_postgres::Statement;
use tokio_postgres::types::PgLsn;

use super::Board;
use super::link::{Link, LinkError, Target, within};
use super::task::{self, Task};
use crate::clock;
use crate::model::{Epoch, Lsn};

/// An answer that takes longer is given up, and the connection with it.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// After a failure the node is left alone for this long; a broken one would otherwise be asked every round.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Starts the sampler; it runs until the tasks are dropped.
pub(crate) fn spawn(targets: &[Target], board: &Arc<Board>, every: Duration) -> Vec<Task> {
    let (rounds, _) = watch::channel(0_u64);
    let published = Arc::new(Mutex::new(0));
    let mut tasks: Vec<Task> = targets
        .iter()
        .map(|target| {
            let node = NodeSampler {
                target: target.clone(),
                board: board.clone(),
                published: published.clone(),
                link: None,
                retry_at: None,
            };
            task::spawn("sampler", &target.name, node.run(rounds.subscribe()))
        })
        .collect();
    tasks.push(task::spawn("sampler", "rounds", call_rounds(board.clone(), rounds, every)));
    tasks
}

/// Begins a round whenever the board is asked for positions, no more often than `every`.
async fn call_rounds(board: Arc<Board>, rounds: watch::Sender<u64>, every: Duration) {
    loop {
        board.wanted().await;
        // Cleared before the round begins: a wish that comes during the round gets a round of its own.
        if board.take_wanted() {
            rounds.send_modify(|round| *round += 1);
            tokio::time::sleep(every).await;
        }
    }
}

struct NodeSampler {
    target: Target,
    board: Arc<Board>,
    /// Number of the newest published sample, over all nodes.
    published: Arc<Mutex<u64>>,
    link: Option<Open>,
    retry_at: Option<Instant>,
}

struct Open {
    link: Link,
    insert_position: Statement,
    replayed: Statement,
}

impl NodeSampler {
    async fn run(mut self, mut rounds: watch::Receiver<u64>) {
        while rounds.changed().await.is_ok() {
            if self.retry_at.is_some_and(|at| clock::now() < at) {
                continue;
            }
            self.retry_at = None;
            if let Err(error) = self.sample().await {
                tracing::debug!(%error, "sample failed");
                if matches!(error, LinkError::Lost | LinkError::Refused) {
                    self.board.stopped(self.target.id);
                }
                self.link = None;
                self.retry_at = Some(clock::now() + RETRY_AFTER);
            }
        }
    }

    /// The epoch, if this node is its primary.
    fn epoch_led(&self) -> Option<Epoch> {
        let snapshot = self.board.snapshot();
        (snapshot.primary == Some(self.target.id)).then_some(snapshot.epoch)
    }

    async fn sample(&mut self) -> Result<(), LinkError> {
        let open = match self.link.take() {
            Some(open) if !open.link.is_closed() => open,
            _ => Open::new(&self.target).await?,
        };
        let open = self.link.insert(open);
        let snapshot = self.board.snapshot().clone();
        if snapshot.primary == Some(self.target.id) {
            let epoch = snapshot.epoch;
            let number = self.board.sample_sent();
            let position = open.position(&open.insert_position).await?;
            if self.epoch_led() == Some(epoch) {
                self.publish(number, position);
            }
        } else {
            let position = open.position(&open.replayed).await?;
            // A node that became the primary meanwhile has nothing to replay.
            if position > Lsn::ZERO {
                self.board.set_replayed(self.target.id, position);
            }
        }
        Ok(())
    }

    fn publish(&self, number: u64, position: Lsn) {
        let mut newest = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        if number > *newest {
            *newest = number;
            self.board.sample_done(number, position);
        }
    }
}

impl Open {
    async fn new(target: &Target) -> Result<Self, LinkError> {
        let link = Link::open(target, ANSWER_MAX).await?;
        let prepare = async {
            let insert_position = link.client().prepare("SELECT pg_current_wal_insert_lsn()").await?;
            let replayed = link.client().prepare("SELECT pg_last_wal_replay_lsn()").await?;
            Ok::<_, tokio_postgres::Error>((insert_position, replayed))
        };
        let (insert_position, replayed) = within(ANSWER_MAX, prepare).await?;
        Ok(Self { link, insert_position, replayed })
    }

    async fn position(&self, statement: &Statement) -> Result<Lsn, LinkError> {
        let row = within(ANSWER_MAX, self.link.client().query_one(statement, &[])).await?;
        let position: Option<PgLsn> = row.try_get(0)?;
        Ok(position.map_or(Lsn::ZERO, |lsn| Lsn(lsn.into())))
    }
}
