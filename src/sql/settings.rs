//! What configuration says about the classifier. Resolved by `config`, cannot be invalid.

/// Limits of one classifier (there is one per worker thread).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A longer text is not parsed and goes to the primary; what it does to the session is recognised all the same.
    pub text_bytes_max: usize,
    /// A text of more tokens likewise: it bounds the depth of long operator chains, which recursion limits miss.
    pub tokens_max: usize,
    /// A text with deeper brackets likewise.
    pub depth_max: usize,
    /// Verdicts kept.
    pub cache_entries_max: usize,
    /// Bytes of kept verdicts and their keys.
    pub cache_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            text_bytes_max: 16 * 1024,
            tokens_max: 4_096,
            depth_max: 40,
            cache_entries_max: 4_096,
            cache_bytes_max: 4 * 1024 * 1024,
        }
    }
}
