//! Answers of a primary that may be dead wait for the monitor's word.
//!
//! When a postmaster dies, a session that waits for synchronous replication gives the wait up, and others that are in the
//! middle of a message, or find one in their socket, see its commit and tell their clients, although no replica has it
//! (proto-notes/failover-hazards.md, "What orphaned sessions show"). So from the first sign that the primary has died until
//! a process that it forked later answers the monitor, what it says to reads is kept. If it lives, they get it some
//! milliseconds later; if not, the connection's end or the new epoch's fence comes first, and they are run again or told.
//!
//! What may have committed is not kept: a success that the primary tells has its quorum, whatever became of it since.

use std::task::Context;

use super::driver::{Driver, Phase, Turn};

/// Bytes of an answer that are kept at most; the rest stays with the server. Well under what one read takes.
const KEPT_MAX: usize = 32 * 1024;

impl Driver {
    /// Whether what the server says now is kept.
    #[inline]
    pub(super) fn must_keep_back(&self) -> bool {
        let suspicions = self.worker.board().suspicions();
        self.lease.as_ref().is_some_and(|conn| suspicions.stands(conn.session.node))
            && self.reads_on_primary()
    }

    #[cold]
    fn reads_on_primary(&self) -> bool {
        let node = self.lease.as_ref().map(|conn| conn.session.node);
        self.phase == Phase::Running
            && self.plan.as_ref().is_some_and(|plan| !plan.commits)
            && node == self.worker.topology().primary
    }

    /// Keeps what the server has just said.
    #[cold]
    pub(super) fn keep_back(&mut self, said: &[u8]) {
        tracing::trace!("the primary may be dead: an answer of it waits for the monitor's word");
        self.server_in.clear();
        self.server_in.extend_from_slice(said);
        self.handle.set_keeps_back(true);
    }

    /// Looks at what was kept. `Some`: there is nothing to be read from the server now, and whether anything happened.
    #[cold]
    pub(super) fn look_at_kept(&mut self, cx: &mut Context<'_>) -> Result<Option<bool>, Turn> {
        if self.must_keep_back() {
            return Ok((self.server_in.len() >= KEPT_MAX).then_some(false));
        }
        self.handle.set_keeps_back(false);
        let kept = std::mem::take(&mut self.server_in);
        self.take_answer(&kept, cx).map(|()| Some(true))
    }
}
