//! Servers that hang up, or say nothing, while we sign in. In: each such end. Out: whether to try again, or what to tell
//! the client.
//!
//! A server that is dying does so too, and then the client is better kept until there is another primary. So the
//! monitor's own connections decide: where they are answered between one end and the next, again and again, the
//! server lives and it is this sign-in that it ends.

use super::server::ConnectError;
use crate::control::Board;
use crate::model::NodeId;
use crate::session::ClientError;

/// So many answers to the monitor, each between two ends of ours, tell enough. One alone may be from before the first.
const ANSWERS_MAX: u8 = 2;

/// The ends that one client's wait for a connection has met, at one node.
#[derive(Debug, Default)]
pub(super) struct HangUps {
    last: Option<Last>,
    /// Between how many of them the monitor was answered.
    answers: u8,
}

/// The last one.
#[derive(Debug)]
struct Last {
    node: NodeId,
    /// How often the monitor had signed in on the node.
    visits: u64,
    shown: ClientError,
}

impl HangUps {
    /// Notes a failed attempt, and says what to tell the client if it is one too many. The node is suspected already, so
    /// that the monitor looks at it now.
    pub(super) fn one_too_many(
        &mut self,
        (node, name): (NodeId, &str),
        error: &ConnectError,
        board: &Board,
    ) -> Option<ClientError> {
        if !error.is_without_a_word() {
            return None;
        }
        let (visits, name) = (board.suspicions().visits_of(node), name.to_owned());
        match &self.last {
            Some(last) if last.node == node => self.answers += u8::from(visits > last.visits),
            _ => self.answers = 0,
        }
        let shown = match error {
            ConnectError::Timeout { deadline } => ClientError::ServerSilent { node: name, limit: *deadline },
            _ => ClientError::ServerUnreachable { node: name },
        };
        self.last = Some(Last { node, visits, shown });
        if self.answers >= ANSWERS_MAX { self.at_the_end(node, board) } else { None }
    }

    /// What to tell a client who cannot wait any longer: that this node ends the sign-in, where the monitor has been
    /// answered since.
    pub(super) fn at_the_end(&self, node: NodeId, board: &Board) -> Option<ClientError> {
        let last = self.last.as_ref().filter(|last| last.node == node)?;
        (self.answers > 0 || board.suspicions().visits_of(node) > last.visits).then(|| last.shown.clone())
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

    fn board() -> std::sync::Arc<Board> {
        Board::new(Snapshot {
            version: 1,
            epoch: Epoch(1),
            timeline: Timeline(1),
            fork: Lsn::ZERO,
            system_id: None,
            primary: Some(NodeId(0)),
            service: Service::Open,
            nodes: Vec::new(),
        })
    }

    #[test]
    fn only_a_server_that_answers_the_monitor_is_given_up() {
        let board = board();
        let (one, other) = ((NodeId(0), "one"), (NodeId(1), "other"));
        let mut dead = HangUps::default();
        assert!((0..100).all(|_| dead.one_too_many(one, &ended(), &board).is_none()));
        assert_eq!(dead.at_the_end(one.0, &board), None);

        let mut alive = HangUps::default();
        let visited = |hang_ups: &mut HangUps, node: (NodeId, &str), error: &ConnectError| {
            board.suspicions().answered(node.0, board.suspicions().begin(node.0));
            hang_ups.one_too_many(node, error, &board).is_some()
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

    #[test]
    fn what_is_told_is_what_the_server_did_last() {
        let board = board();
        let deadline = std::time::Duration::from_secs(5);
        let mut met = HangUps::default();
        for error in [ended(), ConnectError::Timeout { deadline }] {
            assert_eq!(met.one_too_many((NodeId(0), "one"), &error, &board), None);
            board.suspicions().answered(NodeId(0), board.suspicions().begin(NodeId(0)));
        }
        // One more end would be enough; and so is this when there is no more time.
        let silent = ClientError::ServerSilent { node: "one".to_owned(), limit: deadline };
        assert_eq!(met.at_the_end(NodeId(0), &board), Some(silent));
        assert_eq!(met.at_the_end(NodeId(1), &board), None);
        let told = met.one_too_many((NodeId(0), "one"), &ended(), &board);
        assert_eq!(told, Some(ClientError::ServerUnreachable { node: "one".to_owned() }));
    }
}
