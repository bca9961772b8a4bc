//! What is known about one statement of a text; verdicts are put together from these.

use std::sync::Arc;

use super::verdict::{Alone, Kind, Moving, PinCause, Place, Reason, SessionEffect, Shows};

/// A detail is cut to this many characters: it is for people, and it is kept in caches.
const DETAIL_CHARS_MAX: usize = 120;

/// One statement's place, reason and effects.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) place: Place,
    pub(super) reason: Reason,
    pub(super) detail: Option<Arc<str>>,
    pub(super) kind: Kind,
    pub(super) effects: Vec<SessionEffect>,
    pub(super) moving: Moving,
    pub(super) alone: Alone,
    /// It runs code of the database's own.
    pub(super) own_code: bool,
    /// What it shows, or looks up, of names.
    pub(super) shows: Shows,
    /// Another literal could have given another outcome.
    pub(super) by_literal: bool,
}

impl Outcome {
    pub(super) fn read() -> Self {
        Self { moving: Moving::Free, ..Self::new(Place::Anywhere, Reason::Read) }
    }

    pub(super) fn primary(reason: Reason) -> Self {
        Self::new(Place::Primary, reason)
    }

    /// A statement of the session or the transaction, which runs where the session is.
    pub(super) fn session(kind: Kind) -> Self {
        Self { kind, ..Self::primary(Reason::SessionState) }
    }

    fn new(place: Place, reason: Reason) -> Self {
        Self {
            place,
            reason,
            detail: None,
            kind: Kind::Plain,
            effects: Vec::new(),
            moving: Moving::Never,
            alone: Alone::Unknown,
            own_code: false,
            shows: Shows::Anything,
            by_literal: false,
        }
    }

    pub(super) fn with_detail(mut self, detail: &str) -> Self {
        self.detail = Some(cut_detail(detail));
        self
    }

    pub(super) fn with_effect(mut self, effect: SessionEffect) -> Self {
        self.effects.push(effect);
        self
    }

    pub(super) fn alone(self, alone: Alone) -> Self {
        Self { alone, ..self }
    }

    /// Running it again elsewhere does the same there.
    pub(super) fn again(self) -> Self {
        Self { moving: Moving::Again, ..self }
    }

    pub(super) fn pinned(self, cause: PinCause) -> Self {
        self.with_effect(SessionEffect::Pin(cause))
    }
}

/// A detail of bounded length.
pub(super) fn cut_detail(detail: &str) -> Arc<str> {
    match detail.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => Arc::from(detail.get(..end).unwrap_or_default()),
        None => Arc::from(detail),
    }
}
