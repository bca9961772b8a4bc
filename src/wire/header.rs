//! The five bytes before every message body: a letter and a length.

use super::{FrameError, Tag};

/// Bytes of the letter and the length field.
pub const HEADER_LEN: usize = 5;

/// Most that a length field may say: PostgreSQL's own bound for one allocation, 1 GiB less one byte (`MaxAllocSize`).
const DECLARED_MAX: u32 = 0x3fff_ffff;

/// Longest frame, header included.
pub const FRAME_LEN_MAX: usize = DECLARED_MAX as usize + 1;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message.
    pub tag: Tag,
    /// Length of the whole frame, these five bytes included.
    pub len: usize,
}

impl Header {
    /// Reads the header at the front of `bytes`; `None` where fewer than five bytes are there.
    #[inline]
    pub fn peek(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let declared = u32::from_be_bytes([a, b, c, d]);
        if !(4..=DECLARED_MAX).contains(&declared) {
            return Err(refuse(Tag(tag), declared));
        }
        Ok(Some(Self { tag: Tag(tag), len: declared as usize + 1 }))
    }

    /// Length of the body.
    #[inline]
    pub fn body_len(self) -> usize {
        self.len - HEADER_LEN
    }
}

#[cold]
fn refuse(tag: Tag, declared: u32) -> FrameError {
    if declared < 4 {
        FrameError::LengthTooShort { tag, declared }
    } else {
        FrameError::LengthTooLong { tag, declared, declared_max: DECLARED_MAX }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_needs_five_bytes() {
        assert_eq!(Header::peek(b""), Ok(None));
        assert_eq!(Header::peek(b"Q\0\0\0"), Ok(None));
        assert_eq!(Header::peek(b"S\0\0\0\x04"), Ok(Some(Header { tag: Tag::SYNC, len: 5 })));
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        let max = u32::try_from(FRAME_LEN_MAX - 1).unwrap();
        for declared in [0, 1, 3, max + 1, 0x7fff_ffff, u32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend_from_slice(&declared.to_be_bytes());
            assert!(Header::peek(&bytes).is_err(), "{declared}");
        }
        let mut longest = vec![b'd'];
        longest.extend_from_slice(&max.to_be_bytes());
        assert_eq!(Header::peek(&longest).unwrap().unwrap().len, FRAME_LEN_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            if let Ok(Some(header)) = Header::peek(&bytes) {
                prop_assert!(header.len >= HEADER_LEN && header.len <= FRAME_LEN_MAX);
                prop_assert_eq!(header.body_len() + HEADER_LEN, header.len);
            }
        }
    }
}
