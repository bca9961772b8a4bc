//! Which idle connection a session gets: a server session keeps traces of who used it (plans, statistics, what was taken
//! from sequences), and whoever comes back finds its own.

use std::rc::Rc;

use super::pool::{Profile, ServerConn};

/// The idle connection that suits a session best: its own; then, the last used first, one that nobody misses.
pub(super) fn choose(idle: &[Box<ServerConn>], profile: &Rc<Profile>, session: u64) -> Option<usize> {
    let (mut best, mut best_rank) = (None, 0);
    for (at, conn) in idle.iter().enumerate().rev() {
        if !Rc::ptr_eq(&conn.profile, profile) && conn.profile != *profile {
            continue;
        }
        let rank = match conn.session.last_user {
            own if own == session => return Some(at),
            0 => 3,
            _ if conn.session.is_missed() => 1,
            _ => 2,
        };
        if rank > best_rank {
            (best, best_rank) = (Some(at), rank);
        }
    }
    best
}
