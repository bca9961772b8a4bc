//! What a session has to see in its next read, and where it read last.
//!
//! After anything ran on the primary the session holds a *ticket*: the number of the first sample of the primary's
//! insert position that is asked for later. Any such sample is at or past everything the session was told, so a
//! replica that has replayed it may serve. After a read on a replica, that replica is the session's *home*: it cannot
//! show less than before, unless it was started anew. Another one may serve once a sample taken after the last read is
//! replayed there.
//!
//! A client that connects anew comes as a stranger, and still knows what it was told on its last connection. So a session
//! begins with what *anybody* was told before it signed in. It is kept apart from what the session has seen itself: it is no
//! position to hand on, and where no primary is left to ask, reads go on with what there is of it.
//!
//! A replica may show commits that the primary does not show yet. `ahead` is the read after which the primary has not
//! been seen to have caught up with its replica.

use crate::model::{Epoch, Lsn, NodeId};
use crate::route::Floor;

/// The replica that served the last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// Which one.
    pub node: NodeId,
    /// How often it had been started when it served. Started anew, a replica may show less than before for a while.
    pub run: u64,
    /// Drawn after the read.
    ticket: u64,
}

/// The moment of a read on a replica, as the shared counters tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The first sample of the primary's position that is asked for later.
    pub ticket: u64,
    /// The first round of the barrier that begins later.
    pub round: u64,
    /// How often the replica has been started.
    pub run: u64,
}

/// A read on a replica after which the primary has not been seen to have caught up with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The replica, or another one that shows at least as much.
    pub node: NodeId,
    /// The first round of the barrier that counts.
    pub round: u64,
    /// How often the replica had been started.
    pub run: u64,
}

/// The state; copyable.
#[derive(Clone, Copy, Debug, Default)]
pub struct Freshness {
    floor: Floor,
    /// What others were told before the session signed in.
    entry: Floor,
    home: Option<Home>,
    ahead: Option<Ahead>,
    epoch: Epoch,
}

impl Freshness {
    /// A session that signs in: `ticket` covers every commit that any client was told of until now in this epoch, and
    /// what was told of it in earlier ones.
    pub fn entered(epoch: Epoch, ticket: u64) -> Self {
        Self { entry: Floor::ticket(ticket), epoch, ..Self::default() }
    }

    /// What a node must have replayed to show what others were told before the session signed in.
    pub fn entry(&self) -> Floor {
        self.entry
    }

    /// What a node must have replayed to show what the session has seen itself, unless it is the home.
    pub fn floor(&self) -> Floor {
        match self.home {
            Some(home) => self.floor.and(Floor::ticket(home.ticket)),
            None => self.floor,
        }
    }

    /// The replica that served the last read, while nothing newer was seen elsewhere.
    pub fn home(&self) -> Option<Home> {
        self.home
    }

    /// The last read on a replica, while the primary may show less than that read did.
    pub fn ahead(&self) -> Option<Ahead> {
        self.ahead
    }

    /// The primary shows everything that the session has seen, or there is nothing left to compare with.
    pub fn caught_up(&mut self) {
        self.ahead = None;
    }

    /// This replica has by now what the last read showed, and can be asked in the place of the one that served it.
    pub fn ask_instead(&mut self, node: NodeId, Moment { round, run, .. }: Moment) {
        self.ahead = self.ahead.map(|_| Ahead { node, round, run });
    }

    /// Something ran on the primary; `ticket` was drawn after its answer.
    pub fn ran_on_primary(&mut self, ticket: u64) {
        self.floor = self.floor.and(Floor::ticket(ticket));
        self.home = None;
    }

    /// A read ran on a replica; the moment was noted after its answer.
    pub fn read_on(&mut self, node: NodeId, Moment { ticket, round, run }: Moment) {
        self.home = Some(Home { node, run, ticket });
        self.ahead = Some(Ahead { node, round, run });
    }

    /// A read ran on a replica that nothing was asked of: it may have shown less than the session had to see, so it is no
    /// home, and something that the session has not seen before.
    pub fn glimpsed(&mut self, node: NodeId, Moment { ticket, round, run }: Moment) {
        self.leave_home();
        self.floor = self.floor.and(Floor::ticket(ticket));
        self.ahead = Some(Ahead { node, round, run });
    }

    /// The session was given a position that others have seen: from now on it has seen it too.
    pub fn see(&mut self, position: Lsn) {
        self.floor = self.floor().and(Floor::at(position));
        // The home need not have it.
        self.home = None;
    }

    /// The home can serve no more: whoever comes next has to show what the home could have shown.
    pub fn leave_home(&mut self) {
        self.floor = self.floor();
        self.home = None;
    }

    /// Takes the newest sample in: tickets that it covers become positions, and a home that it covers is left free.
    pub fn settle(&mut self, sample: (u64, Lsn)) {
        self.floor = self.floor.settled(sample);
        self.entry = self.entry.settled(sample);
        if let Some(home) = self.home
            && sample.0 >= home.ticket
        {
            // The sample is past everything the home had replayed by the last read.
            self.home = None;
            self.floor = self.floor.and(Floor::at(sample.1));
        }
    }

    /// Follows a change of primary: positions of the old timeline count up to where the new one left it. Tickets are
    /// drawn anew, because samples of the old primary show nothing any more. The new primary has replayed everything
    /// that a surviving replica showed, so it is behind none.
    pub fn follow(&mut self, epoch: Epoch, fork: Lsn, ticket: u64) {
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        self.floor = self.floor.clamped(fork, ticket);
        self.entry = self.entry.clamped(fork, ticket);
        self.ahead = None;
        if let Some(home) = &mut self.home {
            home.ticket = ticket;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticket: u64) -> Moment {
        Moment { ticket, round: 3, run: 1 }
    }

    #[test]
    fn a_write_is_covered_by_later_samples_only() {
        let mut freshness = Freshness::default();
        freshness.ran_on_primary(5);
        freshness.settle((4, Lsn(100)));
        assert_eq!(freshness.floor(), Floor::ticket(5));
        freshness.settle((5, Lsn(200)));
        assert_eq!(freshness.floor(), Floor::at(Lsn(200)));
        freshness.settle((6, Lsn(300)));
        assert_eq!(freshness.floor(), Floor::at(Lsn(200)), "the floor does not run away");
    }

    #[test]
    fn a_session_begins_with_what_others_were_told_and_has_seen_none_of_it() {
        let mut freshness = Freshness::entered(Epoch(2), 5);
        freshness.follow(Epoch(2), Lsn(50), 9);
        assert_eq!((freshness.entry(), freshness.floor()), (Floor::ticket(5), Floor::NONE), "of this epoch");
        freshness.settle((4, Lsn(100)));
        assert_eq!(freshness.entry(), Floor::ticket(5));
        freshness.settle((6, Lsn(200)));
        freshness.settle((7, Lsn(300)));
        assert_eq!((freshness.entry(), freshness.floor()), (Floor::at(Lsn(200)), Floor::NONE));
        freshness.follow(Epoch(3), Lsn(150), 9);
        assert_eq!(freshness.entry(), Floor::at(Lsn(150)));
        let mut open = Freshness::entered(Epoch(2), 5);
        open.follow(Epoch(3), Lsn(150), 9);
        assert_eq!(
            open.entry(),
            Floor::at(Lsn::ZERO).and(Floor::ticket(9)),
            "samples of the old primary show nothing"
        );
    }

    #[test]
    fn a_home_is_left_when_a_later_sample_covers_it() {
        let mut freshness = Freshness::default();
        freshness.read_on(NodeId(1), at(7));
        freshness.settle((6, Lsn(100)));
        assert_eq!(freshness.home().map(|home| home.node), Some(NodeId(1)));
        assert_eq!(freshness.floor(), Floor::ticket(7), "others must have more than nothing");
        freshness.settle((7, Lsn(110)));
        assert_eq!((freshness.home(), freshness.floor()), (None, Floor::at(Lsn(110))));
    }

    #[test]
    fn a_lost_home_leaves_a_ticket() {
        let mut freshness = Freshness::default();
        freshness.read_on(NodeId(1), at(7));
        freshness.leave_home();
        assert_eq!((freshness.home(), freshness.floor()), (None, Floor::ticket(7)));
    }

    #[test]
    fn a_new_epoch_clamps_positions_to_the_fork() {
        let mut freshness = Freshness::default();
        freshness.ran_on_primary(1);
        freshness.settle((1, Lsn(500)));
        freshness.follow(Epoch(2), Lsn(400), 9);
        assert_eq!(freshness.floor(), Floor::at(Lsn(400)));
        freshness.ran_on_primary(9);
        freshness.follow(Epoch(3), Lsn(600), 12);
        assert_eq!(freshness.floor(), Floor::at(Lsn(400)).and(Floor::ticket(12)));
        freshness.read_on(NodeId(1), at(13));
        freshness.follow(Epoch(4), Lsn(700), 20);
        assert_eq!(
            freshness.floor().and(Floor::ticket(20)),
            freshness.floor(),
            "a home's ticket is of its epoch"
        );
    }

    #[test]
    fn a_read_on_a_replica_is_ahead_until_the_primary_has_caught_up() {
        let mut freshness = Freshness::default();
        freshness.read_on(NodeId(1), at(7));
        freshness.ran_on_primary(8);
        assert_eq!(freshness.ahead(), Some(Ahead { node: NodeId(1), round: 3, run: 1 }));
        freshness.ask_instead(NodeId(2), Moment { round: 9, ..at(9) });
        assert_eq!(freshness.ahead(), Some(Ahead { node: NodeId(2), round: 9, run: 1 }));
        freshness.caught_up();
        assert_eq!(freshness.ahead(), None);
        freshness.ask_instead(NodeId(2), at(9));
        assert_eq!(freshness.ahead(), None, "nothing was open");
    }

    #[test]
    fn a_replica_that_nothing_was_asked_of_is_no_home() {
        let mut freshness = Freshness::default();
        freshness.see(Lsn(300));
        freshness.glimpsed(NodeId(1), at(7));
        assert_eq!((freshness.home(), freshness.floor()), (None, Floor::at(Lsn(300)).and(Floor::ticket(7))));
    }

    #[test]
    fn a_position_from_elsewhere_holds_for_the_home_too() {
        let mut freshness = Freshness::default();
        freshness.read_on(NodeId(1), at(7));
        freshness.see(Lsn(300));
        assert_eq!((freshness.home(), freshness.floor()), (None, Floor::at(Lsn(300)).and(Floor::ticket(7))));
    }
}
