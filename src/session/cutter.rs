//! Puts together what a client gets of a server's bytes. As long as one run of the input is enough it is handed on as it
//! lies there; only where something is taken out of its middle, or put in, is it copied.

use std::ops::Range;

use super::relay::{Event, Relayed};

/// Collects what goes to the client: one run of the input as long as that is enough, else a copy.
pub(super) struct Cutter<'a> {
    pub(super) input: &'a [u8],
    pub(super) run: Range<usize>,
    pub(super) out: &'a mut Vec<u8>,
}

impl Cutter<'_> {
    /// `len` bytes at the end of the run belong to the client.
    pub(super) fn keep(&mut self, len: usize) {
        self.run.end += len;
    }

    /// `len` bytes after the run do not.
    pub(super) fn cut(&mut self, len: usize) {
        if self.run.is_empty() && self.out.is_empty() {
            self.run = self.run.end + len..self.run.end + len;
            return;
        }
        self.copy_run();
        self.run = self.run.end + len..self.run.end + len;
    }

    fn copy_run(&mut self) {
        self.out.extend_from_slice(self.input.get(self.run.clone()).unwrap_or_default());
        self.run.start = self.run.end;
    }

    /// Room for something of our own at this place.
    pub(super) fn insert(&mut self) -> &mut Vec<u8> {
        self.copy_run();
        self.out
    }

    pub(super) fn finish(mut self, consumed: usize, event: Option<Event>) -> Relayed {
        if !self.out.is_empty() {
            self.copy_run();
        }
        Relayed { consumed, forward: self.run, event }
    }
}
