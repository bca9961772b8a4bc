//! Answers of a primary that may be dead wait for the monitor's word.
//!
//! When a postmaster dies, a session that waits for synchronous replication gives the wait up, and others that are in the
//! middle of a message, or find one in their socket, see its commit and tell their clients, although no replica has it
//! (proto-notes/failover-hazards.md, "What orphaned sessions show"). So from the first sign that the primary has died until
//! a process that it forked later answers the monitor, what it says to reads is kept. If it lives, they get it some
//! milliseconds later; if not, the connection ends while nobody is found, or the new epoch's fence comes first, and they are
//! run again or told.
//!
//! What may have committed is not kept: a success that the primary tells has its quorum, whatever became of it since.

use std::task::Context;

use super::driver::{Driver, Lost, Phase, Turn};
use crate::control::Word;

/// Bytes of an answer that are kept at most; the rest stays with the server. Well under what one read takes.
const KEPT_MAX: usize = 32 * 1024;

/// What to do next with a server whose words are kept.
pub(super) enum Kept {
    /// Read on.
    Read,
    /// Nothing, until there is news.
    Wait,
    /// It was handed on.
    Given,
}

impl Driver {
    /// Whether what the server says now is kept.
    #[inline]
    pub(super) fn must_keep_back(&self) -> bool {
        let suspicions = self.worker.board().suspicions();
        self.lease.as_ref().is_some_and(|conn| suspicions.stands(conn.session.node))
            && self.reads_on_primary()
    }

    /// Of what was the primary, too: between a new epoch and its fence an orphan's word must not slip through.
    #[cold]
    fn reads_on_primary(&self) -> bool {
        self.phase == Phase::Running
            && self.plan.as_ref().is_some_and(|plan| !plan.commits)
            && self.lease.as_ref().is_some_and(|conn| !self.is_replica(conn))
    }

    /// Keeps what the server has just said.
    #[cold]
    pub(super) fn keep_back(&mut self, said: &[u8]) {
        let Some(conn) = &self.lease else { return };
        tracing::trace!("the primary may be dead: an answer of it waits for the monitor's word");
        let visit = self.worker.board().suspicions().next_visit(conn.session.node);
        self.handle.set_keeps_back_until(Some(visit));
        self.server_in.clear();
        self.server_in.extend_from_slice(said);
    }

    fn word(&self, visit: u64) -> Word {
        let suspicions = self.worker.board().suspicions();
        self.lease.as_ref().map_or(Word::Alive, |conn| suspicions.word(conn.session.node, visit))
    }

    /// Looks at what is kept until that visit of the monitor's.
    #[cold]
    pub(super) fn look_at_kept(&mut self, visit: u64, cx: &mut Context<'_>) -> Result<Kept, Turn> {
        if self.word(visit) != Word::Alive {
            return Ok(if self.server_in.len() >= KEPT_MAX { Kept::Wait } else { Kept::Read });
        }
        self.handle.set_keeps_back_until(None);
        let kept = std::mem::take(&mut self.server_in);
        self.take_answer(&kept, cx).map(|()| Kept::Given)
    }

    /// The server has closed the connection. What is kept of it may still count: then that is waited for. `true`: something
    /// happened.
    pub(super) fn server_closed(&mut self) -> Result<bool, Turn> {
        let kept = self.handle.keeps_back_until();
        if kept.is_some_and(|visit| self.word(visit) == Word::Awaited) {
            return Ok(false);
        }
        self.server_lost(Lost::Closed).map(|()| true)
    }
}
