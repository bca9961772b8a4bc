//! Servers that hang up while we sign in. In: each such end. Out: whether to try again, or to tell the client.
//!
//! A server that is dying does so too, and then the client is better kept until there is another primary. So the
//! monitor's own connections decide: where they are answered between one end and the next, again and again, the
//! server lives and it is this sign-in that it ends.

use super::server::ConnectError;
use crate::control::Board;
use crate::model::NodeId;

/// So many answers to the monitor, each between two ends of ours, tell enough. One alone may be from before the first.
const ANSWERS_MAX: u8 = 2;

/// The hang-ups that one client's wait for a connection has met, at one node.
#[derive(Debug, Default)]
pub(super) struct HangUps {
    /// The node, and how often the monitor had signed in on it at the last one.
    last: Option<(NodeId, u64)>,
    /// Between how many of them the monitor was answered.
    answers: u8,
}

impl HangUps {
    /// Whether this failed attempt is one too many. The node is suspected already, so that the monitor looks at it now.
    pub(super) fn are_too_many(&mut self, node: NodeId, error: &ConnectError, board: &Board) -> bool {
        if !error.is_hang_up() {
            return false;
        }
        let visits = board.visits_of(node);
        match self.last {
            Some((same, before)) if same == node => self.answers += u8::from(visits > before),
            _ => self.answers = 0,
        }
        self.last = Some((node, visits));
        self.answers >= ANSWERS_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::model::{Epoch, Lsn, Service, Snapshot, Timeline};

    fn ended() -> ConnectError {
        ConnectError::Io { step: "signing in", source: io::ErrorKind::UnexpectedEof.into() }
    }

    #[test]
    fn only_a_server_that_answers_the_monitor_is_given_up() {
        let board = Board::new(Snapshot {
            version: 1,
            epoch: Epoch(1),
            timeline: Timeline(1),
            fork: Lsn::ZERO,
            system_id: None,
            primary: Some(NodeId(0)),
            service: Service::Open,
            nodes: Vec::new(),
        });
        let (one, other) = (NodeId(0), NodeId(1));
        let mut dead = HangUps::default();
        assert!((0..100).all(|_| !dead.are_too_many(one, &ended(), &board)));

        let mut alive = HangUps::default();
        let visited = |hang_ups: &mut HangUps, node, error: &ConnectError| {
            board.visited(node);
            hang_ups.are_too_many(node, error, &board)
        };
        let ends: Vec<bool> = (0..4).map(|_| visited(&mut alive, one, &ended())).collect();
        assert_eq!(ends, [false, false, true, true]);

        // Each node for itself, and only those that had taken the connection.
        let mut both = HangUps::default();
        assert!((0..10).all(|nth| !visited(&mut both, if nth % 2 == 0 { one } else { other }, &ended())));
        let refused = ConnectError::Io { step: "connecting", source: io::ErrorKind::ConnectionReset.into() };
        let mut closed = HangUps::default();
        assert!((0..10).all(|_| !visited(&mut closed, one, &refused)));
    }
}
