//! Sessions that look at counters: `pg_stat_user_tables`, `pg_statio_*`, `pg_stat_database` and the like.
//!
//! Every server counts what it does itself. Whoever looks at the primary's counters, then reads, then looks again wants to
//! find that reading there. So from the first look on the session's reads run on the primary, until DISCARD ALL or its
//! end; a hint still sends one to a replica.

use super::machine::Machine;
use super::plan::Plan;
use crate::sql::{Place, Reason};

impl Machine {
    /// Where a batch of this session may run, and why.
    pub(super) fn place(&self, plan: &Plan) -> (Place, Reason) {
        if plan.place == Place::Primary {
            return (plan.place, plan.reason);
        }
        if self.settings.session_mode {
            // A session that keeps its connection will want to write on it sooner or later.
            return (Place::Primary, Reason::SessionState);
        }
        if self.watches_counters {
            return (Place::Primary, Reason::NodeLocalSession);
        }
        (plan.place, plan.reason)
    }
}
