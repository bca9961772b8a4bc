//! The promises about the freshness of reads. A word that configuration, a comment in a statement and the router share.

/// What a read promises about freshness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Consistency {
    /// A session sees what it was told is committed, and what anyone was told before it signed in; it never goes back in time
    /// from replica to replica.
    #[default]
    Session,
    /// The same, and never back in time from a replica to the primary either.
    Strict,
    /// Every read sees every commit that this proxy acknowledged to anyone before the read arrived.
    Global,
    /// Bounded by the lag limits alone.
    Eventual,
}

impl Consistency {
    /// Every mode, by its word.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("session", Self::Session),
        ("strict", Self::Strict),
        ("global", Self::Global),
        ("eventual", Self::Eventual),
    ];

    /// The word for configuration, output and hints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Strict => "strict",
            Self::Global => "global",
            Self::Eventual => "eventual",
        }
    }

    /// The mode of this word; letters' case does not matter.
    pub fn of_word(word: &[u8]) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(have, _)| have.as_bytes().eq_ignore_ascii_case(word));
        found.map(|(_, mode)| *mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_reads_its_own_word() {
        for (word, mode) in Consistency::WORDS {
            assert_eq!(mode.as_str(), word);
            assert_eq!(Consistency::of_word(word.to_uppercase().as_bytes()), Some(mode));
        }
        assert_eq!(Consistency::of_word(b"sessio"), None);
    }
}
