//! What clients are told behind their proof, and what their sessions begin with: put together once for all that start with the
//! same settings, because thousands may come at a time.

use std::cell::RefCell;
use std::sync::Arc;

use crate::session::overlay::Overlay;
use crate::wire::{TxStatus, encode};

/// The setting that differs too often to keep connections apart for it.
const NAME: &str = "application_name";

/// AuthenticationOk to ReadyForQuery, in the order of the manual's 55.2.1, for one profile.
#[derive(Debug, Default)]
pub struct Greeting {
    /// Encoded, up to the application's name.
    before: Box<[u8]>,
    /// What comes behind it, where servers tell of it at all.
    after: Option<Box<[u8]>>,
    /// What the last session began with, for the next one of the same name.
    last: RefCell<(Box<str>, Overlay)>,
}

impl Greeting {
    /// Of what a server has told when a connection was opened.
    pub fn new(params: &[(String, String)]) -> Self {
        let mut before = Vec::with_capacity(512);
        encode::auth_ok(&mut before);
        let mut after = None;
        for (name, value) in params {
            let value = match name.as_str() {
                NAME => {
                    after = Some(Vec::with_capacity(512));
                    continue;
                }
                // Writes are served here, whichever server is asked: libpq's target_session_attrs looks at this.
                "in_hot_standby" => "off",
                _ => value,
            };
            let out = after.as_mut().unwrap_or(&mut before);
            encode::parameter_status(out, name.as_bytes(), value.as_bytes());
        }
        Self { before: before.into(), after: after.map(Vec::into), last: RefCell::default() }
    }

    /// Appends the greeting of one client, with its key for cancel requests.
    pub fn push(&self, application_name: &str, (pid, secret): (i32, &[u8]), out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        if let Some(after) = &self.after {
            encode::parameter_status(out, NAME.as_bytes(), application_name.as_bytes());
            out.extend_from_slice(after);
        }
        encode::backend_key_data(out, pid, secret);
        encode::ready(out, TxStatus::Idle);
    }

    /// The setting that goes ahead of the session's first statement, and that RESET returns to.
    pub fn startup(&self, application_name: &str) -> Overlay {
        if application_name.is_empty() {
            return Overlay::default();
        }
        let mut last = self.last.borrow_mut();
        if *last.0 != *application_name {
            let quoted = application_name.replace('\\', "\\\\").replace('\'', "''");
            let sql = format!("SET {NAME} TO E'{quoted}'");
            *last = (application_name.into(), Overlay::default().with(&Arc::from(NAME), &Arc::from(sql)));
        }
        last.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_told_its_own_name_and_begins_with_it() {
        let params = [("in_hot_standby", "on"), (NAME, "primacy"), ("DateStyle", "ISO")];
        let greeting = Greeting::new(&params.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for name in ["one", "it's \\ two", "one", ""] {
            let mut told = Vec::new();
            greeting.push(name, (7, b"abcd"), &mut told);
            let mut expected = Vec::new();
            encode::auth_ok(&mut expected);
            for (name, value) in [("in_hot_standby", "off"), (NAME, name), ("DateStyle", "ISO")] {
                encode::parameter_status(&mut expected, name.as_bytes(), value.as_bytes());
            }
            encode::backend_key_data(&mut expected, 7, b"abcd");
            encode::ready(&mut expected, TxStatus::Idle);
            assert_eq!(told, expected);
            let sql = greeting.startup(name).statement(NAME).map(ToString::to_string);
            let quoted = name.replace('\\', "\\\\").replace('\'', "''");
            assert_eq!(sql, (!name.is_empty()).then(|| format!("SET application_name TO E'{quoted}'")));
        }
    }
}
