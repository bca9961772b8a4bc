//! The statements of one pool that wait for a primary, in the order in which they came. When there is one again, no more of
//! them go for a connection at a time than the pool has: the new primary is not stormed, and nobody overtakes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    numbers: RefCell<VecDeque<u64>>,
    last: Cell<u64>,
    moved: Notify,
}

/// A place in the line, left when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    line: Rc<Line>,
    number: u64,
}

impl Line {
    /// Takes the last place.
    pub(super) fn join(self: &Rc<Self>) -> Place {
        let number = self.last.get() + 1;
        self.last.set(number);
        self.numbers.borrow_mut().push_back(number);
        Place { line: Rc::clone(self), number }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.numbers.borrow().len()
    }
}

impl Place {
    /// Whether fewer than `abreast` stand before it.
    pub(super) fn is_turn(&self, abreast: usize) -> bool {
        self.line.numbers.borrow().iter().take(abreast).any(|number| *number == self.number)
    }

    /// Wakes when somebody has left. Cancellation-safe. Ask `is_turn` anew before every call.
    pub(super) async fn moved(&self) {
        self.line.moved.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.numbers.borrow_mut().retain(|number| *number != self.number);
        self.line.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_overtakes_and_who_leaves_makes_room() {
        let line = Rc::new(Line::default());
        let (first, second, third) = (line.join(), line.join(), line.join());
        assert!(first.is_turn(1) && !second.is_turn(1));
        assert!(second.is_turn(2) && !third.is_turn(2));
        drop(second);
        assert!(third.is_turn(2) && !third.is_turn(1));
        drop(first);
        assert!(third.is_turn(1));
    }
}
