//! A cursor over a message body. Each step cuts one field off the front, or says which field was cut short.

use super::{FrameError, Tag};

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    tag: Tag,
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(tag: Tag, body: &'a [u8]) -> Self {
        Self { tag, left: body }
    }

    #[cold]
    fn truncated(self, field: &'static str) -> FrameError {
        FrameError::Truncated { tag: self.tag, field }
    }

    /// A value that the protocol does not define.
    #[cold]
    pub(super) fn unknown(self, field: &'static str, found: i32) -> FrameError {
        FrameError::UnknownValue { tag: self.tag, field, found }
    }

    /// Text up to the next zero byte, which is consumed.
    #[inline]
    pub(super) fn cstr(&mut self, field: &'static str) -> Result<&'a [u8], FrameError> {
        // `CStr` searches with the vectorised memchr, which matters for the text of a statement.
        let Ok(text) = std::ffi::CStr::from_bytes_until_nul(self.left) else {
            return Err(self.truncated(field));
        };
        let text = text.to_bytes();
        self.left = self.left.get(text.len() + 1..).unwrap_or_default();
        Ok(text)
    }

    #[inline]
    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, FrameError> {
        let Some((&byte, left)) = self.left.split_first() else { return Err(self.truncated(field)) };
        self.left = left;
        Ok(byte)
    }

    #[inline]
    pub(super) fn int32(&mut self, field: &'static str) -> Result<i32, FrameError> {
        let Some((&four, left)) = self.left.split_first_chunk() else { return Err(self.truncated(field)) };
        self.left = left;
        Ok(i32::from_be_bytes(four))
    }

    pub(super) fn int16(&mut self, field: &'static str) -> Result<u16, FrameError> {
        let Some((&two, left)) = self.left.split_first_chunk() else { return Err(self.truncated(field)) };
        self.left = left;
        Ok(u16::from_be_bytes(two))
    }

    pub(super) fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], FrameError> {
        let Some((bytes, left)) = self.left.split_at_checked(len) else { return Err(self.truncated(field)) };
        self.left = left;
        Ok(bytes)
    }

    /// Everything that is left.
    #[inline]
    pub(super) fn rest(self) -> &'a [u8] {
        self.left
    }

    /// Checks that nothing is left.
    #[inline]
    pub(super) fn end(self) -> Result<(), FrameError> {
        match self.left.len() {
            0 => Ok(()),
            extra => Err(FrameError::TrailingBytes { tag: self.tag, extra }),
        }
    }
}
