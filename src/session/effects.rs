//! What a statement that succeeded does to the session.

use std::rc::Rc;
use std::sync::Arc;

use super::machine::Machine;
use super::statement::ServerSession;
use crate::sql::{Change, Kind, PinCause, SessionEffect, Verdict};

/// Changes of one transaction that are told one from the other.
const CHANGES_MAX: usize = 1_000;

/// Settings of one session that travel. Those beyond tie it to its connection.
const SETTINGS_MAX: usize = 256;

impl Machine {
    /// Applies the effects of one executed statement, to the session and to what is known of the connection.
    pub(super) fn apply(&mut self, verdict: &Verdict, server: &mut ServerSession) {
        match &verdict.kind {
            Kind::Savepoint(name) => {
                self.savepoints.push((Arc::clone(name), self.now()));
            }
            Kind::RollbackTo(name) => self.roll_back_to(name, server),
            Kind::Release(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|(have, _)| have == name) {
                    self.savepoints.truncate(at);
                }
            }
            _ => {}
        }
        self.note_temporary(verdict);
        for effect in &verdict.effects {
            self.apply_effect(effect, server);
        }
        if verdict.kind == Kind::Block && verdict.effects.iter().any(is_setting) {
            // A ROLLBACK in the same text may have undone it.
            self.pins.add(PinCause::UnknownSetting);
        }
    }

    fn roll_back_to(&mut self, name: &Arc<str>, server: &mut ServerSession) {
        let Some(at) = self.savepoints.iter().rposition(|(have, _)| have == name) else { return };
        self.savepoints.truncate(at + 1);
        if let Some((_, then)) = self.savepoints.last() {
            self.pins = self.pins.rolled_back_to(then.pins);
            self.channels = then.channels.clone();
            if self.current != then.overlay {
                self.current = then.overlay.clone();
                server.applied = self.current.clone();
            }
        }
    }

    fn apply_effect(&mut self, effect: &SessionEffect, server: &mut ServerSession) {
        use SessionEffect as E;
        match effect {
            E::Set { .. } | E::Reset(_) => self.apply_setting(effect, server),
            E::ResetAll => {
                self.apply_setting(effect, server);
                self.reset_own_settings();
            }
            E::DiscardAll => {
                self.apply_setting(effect, server);
                self.reset_own_settings();
                server.clear_prepared();
                server.discard_sequences();
                self.watches_counters = false;
                self.prepared.clear();
                self.prepared_bytes = 0;
                self.channels.clear();
                self.sql_prepared.clear();
                self.forget_pins();
            }
            E::DiscardTemp => {
                self.temporary.clear();
                self.pins.remove(PinCause::TemporaryTable);
            }
            E::Temporary(_)
            | E::TemporaryChildOf(_)
            | E::TemporaryPartOf(_)
            | E::MayBeTemporary(_)
            | E::MayShowTemporary(_)
            | E::Dropped(_) => {}
            E::PassingTemporary => server.tainted = true,
            E::Listen(_) | E::Unlisten(_) | E::Unpin(PinCause::Listen) => self.apply_listening(effect),
            E::Pin(cause) => {
                if *cause == PinCause::Listen {
                    self.channels.add_unknown();
                }
                self.pins.add(*cause);
                server.tainted |= matches!(cause, PinCause::TemporaryTable | PinCause::Load);
            }
            E::AsksSequences => self.asks_sequences(),
            E::TouchesStatements => server.doubt_prepared(),
            E::LooksAtCounters => self.watches_counters = true,
            E::DiscardSequences => {
                self.forget_sequences();
                server.discard_sequences();
            }
            E::Unpin(cause) => self.pins.remove(*cause),
            E::PrepareSql(name) => {
                self.prepared_in_sql(name, server);
                self.pins.add(PinCause::SqlPrepare);
            }
            E::Deallocate(name) => {
                self.deallocated_in_sql(name, server);
                if self.sql_prepared.is_empty() {
                    self.pins.remove(PinCause::SqlPrepare);
                }
            }
            E::DeallocateAll => {
                server.clear_prepared();
                self.sql_prepared.clear();
                self.forget_prepared();
                self.pins.remove(PinCause::SqlPrepare);
            }
            E::Ddl(change) => {
                if self.changes.len() < CHANGES_MAX {
                    self.changes.push(change.clone());
                } else {
                    self.changes = vec![Change::Anything];
                }
            }
        }
    }

    fn apply_listening(&mut self, effect: &SessionEffect) {
        match effect {
            SessionEffect::Listen(channel) => {
                self.channels.add(channel);
                self.pins.add(PinCause::Listen);
            }
            SessionEffect::Unlisten(channel) => self.channels.remove(channel),
            _ => self.channels.clear(),
        }
        if self.channels.is_empty() {
            self.pins.remove(PinCause::Listen);
        }
    }

    /// The client's own prepared statements are gone.
    pub(super) fn forget_prepared(&mut self) {
        self.prepared.clear();
        self.prepared_bytes = 0;
    }

    fn apply_setting(&mut self, effect: &SessionEffect, server: &mut ServerSession) {
        let whole;
        let effect = match effect {
            // `SET datestyle TO ymd` changes a part of the value: the server has said what the whole is.
            SessionEffect::Set { name, .. } if name.as_ref() == "datestyle" => match &self.date_style {
                Some(value) => {
                    let sql = Arc::from(format!("SET datestyle TO '{}'", value.replace('\'', "''")));
                    whole = SessionEffect::Set { name: Arc::clone(name), sql };
                    &whole
                }
                // It still is what the session began with.
                None => return,
            },
            effect => effect,
        };
        if let SessionEffect::Set { name, .. } = effect
            && self.current.len() >= SETTINGS_MAX
            && self.current.statement(name).is_none()
        {
            // Each costs a copy of all: one text may set a hundred thousand.
            self.pins.add(PinCause::UnknownSetting);
            return;
        }
        // The server itself resets to the values that its connection was started with, the session to those that the
        // client was started with. Where they differ, the next statement is preceded by what brings them together.
        let served = server.applied.after(effect, &super::overlay::Overlay::default());
        let wanted = self.current.after(effect, &self.startup);
        if wanted.bytes() > self.settings.settings_bytes_max {
            self.pins.add(PinCause::UnknownSetting);
            return;
        }
        self.current = wanted;
        server.applied = if served == self.current { self.current.clone() } else { served };
    }
}

/// Whether transactions may have ended in the middle of a batch: what of it holds, if it failed, is not known.
pub(super) fn is_doubtful(executed: &[Rc<Verdict>]) -> bool {
    executed.len() > 1 && executed.iter().any(|verdict| verdict.kind.controls_transactions())
        || executed.iter().any(|verdict| verdict.kind == Kind::Block)
}

/// Whether the effect is on settings that travel.
pub(super) fn is_setting(effect: &SessionEffect) -> bool {
    use SessionEffect::{DiscardAll, Reset, ResetAll, Set};
    matches!(effect, Set { .. } | Reset(_) | ResetAll | DiscardAll)
}
