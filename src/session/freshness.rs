//! What a session has to see in its next read, and where it read last.
//!
//! After anything ran on the primary the session holds a *ticket*: the number of the first sample of the primary's
//! insert position that is asked for later. Any such sample is at or past everything the session was told, so a
//! replica that has replayed it may serve. After a read on a replica, that replica is the session's *home*: it cannot
//! show less than before. Another one may serve once a sample taken after the last read is replayed there.

use crate::model::{Epoch, Lsn, NodeId};
use crate::route::Floor;

/// The state. Copyable, 48 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Freshness {
    floor: Floor,
    home: Option<(NodeId, u64)>,
    epoch: Epoch,
}

impl Freshness {
    /// What the next read has to see.
    pub fn floor(&self) -> Floor {
        self.floor
    }

    /// The replica that served the last read, while nothing newer was seen elsewhere.
    pub fn home(&self) -> Option<NodeId> {
        self.home.map(|(node, _)| node)
    }

    /// Something ran on the primary; `ticket` was drawn after its answer.
    pub fn ran_on_primary(&mut self, ticket: u64) {
        self.floor = Floor::Ticket(ticket);
        self.home = None;
    }

    /// A read ran on a replica; `ticket` was drawn after its answer.
    pub fn read_on(&mut self, node: NodeId, ticket: u64) {
        self.home = Some((node, ticket));
    }

    /// The home can serve no more: whoever comes next has to show what the home could have shown.
    pub fn leave_home(&mut self, ticket: u64) {
        if self.home.take().is_some() {
            self.floor = Floor::Ticket(ticket);
        }
    }

    /// Takes the newest sample in: tickets that it covers become positions, and a home that it covers is left free.
    pub fn settle(&mut self, (number, position): (u64, Lsn)) {
        if let Floor::Ticket(ticket) = self.floor
            && number >= ticket
        {
            self.floor = Floor::At(position);
        }
        if let Some((_, ticket)) = self.home
            && number >= ticket
        {
            // The sample is past everything the home had replayed by the last read.
            self.home = None;
            self.floor = match self.floor {
                Floor::Ticket(open) => Floor::Ticket(open),
                Floor::At(_) | Floor::None => Floor::At(position),
            };
        }
    }

    /// Follows a change of primary: positions of the old timeline count up to where the new one left it. Tickets are
    /// drawn anew, because samples of the old primary show nothing any more.
    pub fn follow(&mut self, epoch: Epoch, fork: Lsn, ticket: u64) {
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        self.floor = match self.floor {
            Floor::None => Floor::None,
            Floor::At(position) => Floor::At(position.min(fork)),
            Floor::Ticket(_) => Floor::Ticket(ticket),
        };
        if let Some((_, at)) = &mut self.home {
            *at = ticket;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_covered_by_later_samples_only() {
        let mut freshness = Freshness::default();
        freshness.ran_on_primary(5);
        freshness.settle((4, Lsn(100)));
        assert_eq!(freshness.floor(), Floor::Ticket(5));
        freshness.settle((5, Lsn(200)));
        assert_eq!(freshness.floor(), Floor::At(Lsn(200)));
        freshness.settle((6, Lsn(300)));
        assert_eq!(freshness.floor(), Floor::At(Lsn(200)), "the floor does not run away");
    }

    #[test]
    fn a_home_is_left_when_a_later_sample_covers_it() {
        let mut freshness = Freshness::default();
        freshness.read_on(NodeId(1), 7);
        freshness.settle((6, Lsn(100)));
        assert_eq!(freshness.home(), Some(NodeId(1)));
        freshness.settle((7, Lsn(110)));
        assert_eq!((freshness.home(), freshness.floor()), (None, Floor::At(Lsn(110))));
    }

    #[test]
    fn a_lost_home_leaves_a_ticket() {
        let mut freshness = Freshness::default();
        freshness.read_on(NodeId(1), 7);
        freshness.leave_home(9);
        assert_eq!((freshness.home(), freshness.floor()), (None, Floor::Ticket(9)));
    }

    #[test]
    fn a_new_epoch_clamps_positions_to_the_fork() {
        let mut freshness = Freshness::default();
        freshness.ran_on_primary(1);
        freshness.settle((1, Lsn(500)));
        freshness.follow(Epoch(2), Lsn(400), 9);
        assert_eq!(freshness.floor(), Floor::At(Lsn(400)));
        freshness.ran_on_primary(9);
        freshness.follow(Epoch(3), Lsn(600), 12);
        assert_eq!(freshness.floor(), Floor::Ticket(12));
    }
}
