//! What a statement that succeeded does to the session.

use std::sync::Arc;

use super::machine::{Before, Machine, is_setting};
use super::statement::ServerSession;
use crate::sql::{Kind, PinCause, SessionEffect, Verdict};

impl Machine {
    /// Applies the effects of one executed statement, to the session and to what is known of the connection.
    pub(super) fn apply(&mut self, verdict: &Verdict, server: &mut ServerSession) {
        match &verdict.kind {
            Kind::Savepoint(name) => {
                let now = Before { overlay: self.current.clone(), pins: self.pins };
                self.savepoints.push((Arc::clone(name), now));
            }
            Kind::RollbackTo(name) => self.roll_back_to(name, server),
            Kind::Release(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|(have, _)| have == name) {
                    self.savepoints.truncate(at);
                }
            }
            _ => {}
        }
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
                self.prepared.clear();
                self.prepared_bytes = 0;
                self.forget_pins();
            }
            E::DiscardTemp => self.pins.remove(PinCause::TemporaryTable),
            E::Pin(cause) => {
                self.pins.add(*cause);
            }
            E::Unpin(cause) => self.pins.remove(*cause),
            E::PrepareSql(name) => {
                self.sql_prepared.insert(Arc::clone(name));
                self.pins.add(PinCause::SqlPrepare);
            }
            E::Deallocate(name) => {
                self.sql_prepared.remove(name);
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
            E::Ddl => self.ddl_in_transaction = true,
        }
    }

    /// The client's own prepared statements are gone.
    pub(super) fn forget_prepared(&mut self) {
        self.prepared.clear();
        self.prepared_bytes = 0;
    }

    fn apply_setting(&mut self, effect: &SessionEffect, server: &mut ServerSession) {
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
