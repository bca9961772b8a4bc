//! What can be wrong with the bytes of a frame. Facts only: the words for a client are chosen in `session::client_error`.

use super::Tag;

/// A frame or a message body that no PostgreSQL peer would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message that its sender may not send at this place.
    #[error("message {tag} has no place here")]
    UnexpectedTag {
        /// The message.
        tag: Tag,
    },
    /// The length field counts itself, so it is at least 4.
    #[error("length field of message {tag} is {declared}, the least is 4")]
    LengthTooShort {
        /// The message.
        tag: Tag,
        /// What its length field said.
        declared: u32,
    },
    /// Longer than PostgreSQL itself would take.
    #[error("length field of message {tag} is {declared}, the most is {declared_max}")]
    LengthTooLong {
        /// The message.
        tag: Tag,
        /// What its length field said.
        declared: u32,
        /// The most that is taken.
        declared_max: u32,
    },
    /// The body ended in the middle of a field.
    #[error("message {tag} ends inside its field {field}")]
    Truncated {
        /// The message.
        tag: Tag,
        /// The field that was being read.
        field: &'static str,
    },
    /// The body goes on after its last field.
    #[error("message {tag} has {extra} bytes after its last field")]
    TrailingBytes {
        /// The message.
        tag: Tag,
        /// How many.
        extra: usize,
    },
    /// A field has a value that the protocol does not define.
    #[error("field {field} of message {tag} is {found}")]
    UnknownValue {
        /// The message.
        tag: Tag,
        /// The field.
        field: &'static str,
        /// What stood there.
        found: i32,
    },
}
