//! Commits whose server was lost before it answered: the driver waits for whoever can tell, and tells the client.
//!
//! On a failover every transaction id that is entered on the board is looked up on the candidate before its promotion.
//! Where the primary comes back by itself instead, it is asked.

use std::rc::Rc;
use std::time::Duration;

use super::driver::{Driver, Phase, Turn};
use super::query;
use super::server::{self, Credential, SignIn};
use crate::clock;
use crate::control::{Board, Doubt, Fate};
use crate::model::{Epoch, NodeId};
use crate::observe::Retry;
use crate::session::{ClientError, Ending, Loss, Written};

/// To ask a primary that has come back.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// A transaction whose COMMIT is under way.
#[derive(Debug)]
pub(super) struct Commit {
    epoch: Epoch,
    doubt: Option<(u64, Doubt)>,
}

impl Commit {
    pub(super) fn new(written: Written, board: &Board) -> Self {
        let doubt = match written {
            Written::Nothing => None,
            Written::As(xid) => Some((xid, board.in_doubt().enter(xid))),
        };
        Self { epoch: board.snapshot().epoch, doubt }
    }
}

impl Driver {
    /// Finds out how the commit ended that was running on `node`, and answers the client or runs the batch again. What
    /// follows; `None`: the session goes on.
    pub(super) async fn resolve(&mut self, node: NodeId) -> Option<Turn> {
        let (Some(commit), Some(plan)) = (self.commit.take(), self.plan.take()) else {
            return Some(Turn::Close);
        };
        let ending = match &commit.doubt {
            // Nothing was written: whether the commit arrived makes no difference.
            None => Ending::Committed,
            Some((xid, doubt)) => self.ending_of(*xid, doubt, commit.epoch).await,
        };
        let name = self.node_name(node);
        tracing::info!(node = %name, ?ending, "a commit whose server was lost has been resolved");
        self.worker.board().acknowledge();
        if ending == Ending::RolledBack && plan.is_commit() && self.machine.begin_replay(true) {
            self.plan = Some(plan);
            self.batch_kept = true;
            return Some(Turn::Replay(node));
        }
        let out = &mut self.client_out;
        let loss = if plan.is_commit() {
            self.machine.lost_commit(ending, &name, (&self.batch, &plan), out)
        } else {
            self.machine.lost_write(ending, &name, (&plan, self.batch_kept), out)
        };
        self.phase = Phase::Idle;
        self.handle.set_committing(false);
        match loss {
            Loss::Broken => Some(Turn::Close),
            Loss::RunAgain => {
                self.worker.meter.retried(Retry::RolledBack);
                self.plan = Some(plan);
                self.listen_next().and_then(|()| self.run_again(None)).err()
            }
            Loss::Answered => {
                self.batch_kept = false;
                self.machine.freshness.ran_on_primary(self.worker.board().ticket());
                self.set_resting();
                match self.lost_pin.take() {
                    Some(pin) => Some(Turn::Fail(ClientError::SessionLost { pin })),
                    None => self.listen_next().err(),
                }
            }
        }
    }

    async fn ending_of(&self, xid: u64, doubt: &Doubt, epoch: Epoch) -> Ending {
        let limit = self.worker.shared.settings.load().limits.hold_timeout;
        let deadline = clock::now() + limit;
        let mut changes = self.worker.board().changes();
        loop {
            changes.mark_unchanged();
            let snapshot = self.worker.board().snapshot().clone();
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ending::Unknown;
            }
            if let Some(primary) = snapshot.writable_primary() {
                if snapshot.epoch > epoch {
                    return ending(doubt.fate(snapshot.epoch));
                }
                // The same primary still, or again: its own word counts, once it answers.
                if let Some(ending) = self.ask(primary, xid).await {
                    return ending;
                }
            }
            drop(tokio::time::timeout(left.min(Duration::from_millis(50)), changes.changed()).await);
        }
    }

    /// Asks the primary itself. `None`: it does not answer, or the transaction has not ended.
    async fn ask(&self, primary: NodeId, xid: u64) -> Option<Ending> {
        let link = self.worker.shared.links.get(primary)?;
        let service = Rc::new(self.worker.shared.settings.load().service.clone());
        let credential = Credential::Password(service.password.clone());
        let who = SignIn {
            user: &service.user,
            database: &service.database,
            startup: &[],
            credential: &credential,
        };
        let asking = async {
            let mut connected = server::connect(&link.node, &link.tls, &who, ASK_LIMIT).await.ok()?;
            let sql = format!("SELECT pg_catalog.pg_xact_status('{xid}'::pg_catalog.xid8)");
            let (rows, _) = query::rows(&mut connected.stream, &sql).await.ok()?;
            rows.into_iter().next()?.into_iter().next()?
        };
        match tokio::time::timeout(ASK_LIMIT, asking).await.ok()??.as_str() {
            "committed" => Some(Ending::Committed),
            "aborted" => Some(Ending::RolledBack),
            _ => None,
        }
    }
}

fn ending(fate: Fate) -> Ending {
    match fate {
        Fate::Committed => Ending::Committed,
        Fate::Aborted => Ending::RolledBack,
        Fate::Unknown => Ending::Unknown,
    }
}
