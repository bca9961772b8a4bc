//! The channels that a session listens on: what LISTEN left in a server session, to be said again in another.

use std::rc::Rc;
use std::sync::Arc;

/// Channels that are remembered; a session with more is tied to its connection for good.
const CHANNELS_MAX: usize = 1_000;

/// A set of channels. Copied with every transaction, so copies share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Channels {
    names: Option<Rc<[Arc<str>]>>,
    /// There may be others, whose names are not known.
    partial: bool,
}

impl Channels {
    pub(super) fn add(&mut self, name: &Arc<str>) {
        let have = self.names();
        if have.contains(name) {
            return;
        }
        if have.len() >= CHANNELS_MAX {
            self.partial = true;
            return;
        }
        self.names = Some(have.iter().chain([name]).cloned().collect());
    }

    pub(super) fn remove(&mut self, name: &Arc<str>) {
        let left: Rc<[_]> = self.names().iter().filter(|have| *have != name).cloned().collect();
        self.names = Some(left).filter(|left| !left.is_empty());
    }

    /// A function has listened on something.
    pub(super) fn add_unknown(&mut self) {
        self.partial = true;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_none() && !self.partial
    }

    /// Whether all of them are known.
    pub(super) fn is_whole(&self) -> bool {
        !self.partial
    }

    /// Statements that listen on all of them.
    pub(super) fn sql(&self) -> String {
        let listen = |name: &Arc<str>| format!("LISTEN \"{}\"", name.replace('"', "\"\""));
        self.names().iter().map(listen).collect::<Vec<_>>().join("; ")
    }

    fn names(&self) -> &[Arc<str>] {
        self.names.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_listened_on_once_and_by_their_own_names() {
        let mut channels = Channels::default();
        for name in ["news", "say \"hi\"", "news"] {
            channels.add(&Arc::from(name));
        }
        assert_eq!(channels.sql(), "LISTEN \"news\"; LISTEN \"say \"\"hi\"\"\"");
        channels.remove(&Arc::from("news"));
        channels.remove(&Arc::from("say \"hi\""));
        assert!(channels.is_empty());
    }

    #[test]
    fn too_many_are_not_forgotten_silently() {
        let mut channels = Channels::default();
        for number in 0..=CHANNELS_MAX {
            channels.add(&Arc::from(number.to_string()));
        }
        assert!(!channels.is_whole());
    }
}
