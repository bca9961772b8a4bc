//! The set of causes that tie a session to its server connection.

use crate::sql::PinCause;

const CAUSES: [PinCause; 11] = [
    PinCause::TemporaryTable,
    PinCause::Listen,
    PinCause::AdvisoryLock,
    PinCause::HoldCursor,
    PinCause::SqlPrepare,
    PinCause::Load,
    PinCause::UnknownSetting,
    PinCause::SessionAuthorization,
    PinCause::Sequence,
    PinCause::SessionMode,
    PinCause::Replication,
];

/// A set of causes; a copyable bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

impl Pins {
    fn bit(cause: PinCause) -> u16 {
        CAUSES.iter().position(|&c| c == cause).map_or(0, |at| 1 << at)
    }

    /// Whether nothing ties the session.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a cause; `true` where it is new.
    pub fn add(&mut self, cause: PinCause) -> bool {
        let before = self.0;
        self.0 |= Self::bit(cause);
        self.0 != before
    }

    /// Removes a cause.
    pub fn remove(&mut self, cause: PinCause) {
        self.0 &= !Self::bit(cause);
    }

    /// Whether the cause is among them.
    pub fn contains(self, cause: PinCause) -> bool {
        self.0 & Self::bit(cause) != 0
    }

    /// The causes.
    pub fn iter(self) -> impl Iterator<Item = PinCause> {
        CAUSES.into_iter().filter(move |&cause| self.contains(cause))
    }

    /// What is left after a ROLLBACK to a moment with `before`: PostgreSQL undoes temporary tables, LISTEN and cursors
    /// with the transaction; session-level advisory locks, PREPARE and LOAD survive it.
    #[must_use]
    pub fn rolled_back_to(self, before: Self) -> Self {
        let undone = Self::bit(PinCause::TemporaryTable)
            | Self::bit(PinCause::Listen)
            | Self::bit(PinCause::HoldCursor);
        Self(self.0 & !undone | before.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollback_undoes_what_the_server_undoes() {
        let mut pins = Pins::default();
        pins.add(PinCause::AdvisoryLock);
        let before = pins;
        pins.add(PinCause::TemporaryTable);
        pins.add(PinCause::SqlPrepare);
        let after = pins.rolled_back_to(before);
        assert_eq!(after.iter().collect::<Vec<_>>(), [PinCause::AdvisoryLock, PinCause::SqlPrepare]);
    }

    #[test]
    fn every_cause_has_its_own_bit() {
        for cause in CAUSES {
            let mut pins = Pins::default();
            assert!(pins.add(cause) && !pins.add(cause));
            assert_eq!(pins.iter().collect::<Vec<_>>(), [cause]);
            pins.remove(cause);
            assert!(pins.is_empty());
        }
    }
}
