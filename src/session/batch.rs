//! Cuts what a client sends into batches: a simple query, or an extended-protocol pipeline up to its Sync.
//!
//! A batch is the unit that is routed. It is gathered whole where it is small; what is larger is streamed, frame by
//! frame, to the server connection that the session holds.

use crate::wire::{FrameError, Header, Tag};

/// How far the scanner looks ahead.
#[derive(Clone, Copy, Debug)]
pub struct Lookahead {
    /// Longest batch that is gathered whole, in bytes.
    pub batch_max: usize,
    /// Longest SQL text that is gathered whole, in bytes: a text has to be whole to be judged.
    pub text_max: usize,
}

/// What ends a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is one simple query.
    Query,
    /// Sync.
    Sync,
    /// Flush: the client waits for answers, the pipeline goes on.
    Flush,
    /// It is one function call.
    Call,
    /// Terminate: the client leaves.
    Terminate,
    /// A frame of a COPY that has ended already: the server would ignore it.
    StrayCopy,
}

/// What the scanner found at the beginning of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The batch is not complete yet.
    Partial,
    /// The first `len` bytes are a batch. A stray COPY frame may be longer than the input.
    Whole {
        /// Its length.
        len: usize,
        /// What ended it.
        end: End,
    },
    /// It is too large to be gathered.
    Large,
}

/// Resumable: remembers how much of the input it has seen to be whole frames of an unfinished batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    seen: usize,
}

impl Scanner {
    /// Looks at the input, which begins with what the last call left.
    ///
    /// # Errors
    /// A frame that no client may send here.
    pub fn scan(&mut self, input: &[u8], limits: Lookahead) -> Result<Scan, FrameError> {
        loop {
            let rest = input.get(self.seen..).unwrap_or_default();
            let Some(header) = Header::peek(rest)? else {
                return Ok(Scan::Partial);
            };
            let first = self.seen == 0;
            let end = match header.tag {
                Tag::SYNC => Some(End::Sync),
                Tag::FLUSH => Some(End::Flush),
                Tag::QUERY if first => Some(End::Query),
                Tag::FUNCTION_CALL if first => Some(End::Call),
                Tag::TERMINATE => Some(End::Terminate),
                Tag::COPY_DATA | Tag::COPY_DONE | Tag::COPY_FAIL => Some(End::StrayCopy),
                Tag::PARSE | Tag::BIND | Tag::DESCRIBE | Tag::EXECUTE | Tag::CLOSE => None,
                tag => return Err(FrameError::UnexpectedTag { tag }),
            };
            if end == Some(End::StrayCopy) {
                // In the middle of a pipeline the server would ignore it too, but nobody sends that.
                return if first {
                    Ok(Scan::Whole { len: header.len, end: End::StrayCopy })
                } else {
                    Err(FrameError::UnexpectedTag { tag: header.tag })
                };
            }
            if rest.len() < header.len {
                return Ok(self.unfinished(header, limits));
            }
            self.seen += header.len;
            if let Some(end) = end {
                let len = self.seen;
                self.seen = 0;
                return Ok(Scan::Whole { len, end });
            }
            if self.seen > limits.batch_max {
                return Ok(self.large());
            }
        }
    }

    fn unfinished(&mut self, header: Header, limits: Lookahead) -> Scan {
        let is_text = matches!(header.tag, Tag::QUERY | Tag::PARSE);
        let limit = if is_text { limits.text_max } else { limits.batch_max };
        if self.seen + header.len > limit { self.large() } else { Scan::Partial }
    }

    fn large(&mut self) -> Scan {
        self.seen = 0;
        Scan::Large
    }

    /// Begins anew: the input was taken in another way.
    pub fn reset(&mut self) {
        self.seen = 0;
    }
}

/// The frames of a gathered batch, header and body; stops at the first that is not whole.
pub fn frames(batch: &[u8]) -> Frames<'_> {
    Frames { rest: batch }
}

/// Iterator over whole frames.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

/// One whole frame: its tag, its body, and all its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub tag: Tag,
    /// What follows the header.
    pub body: &'a [u8],
    /// Header and body.
    pub raw: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'a>> {
        let header = Header::peek(self.rest).ok().flatten()?;
        let (raw, rest) = self.rest.split_at_checked(header.len)?;
        self.rest = rest;
        Some(Frame { tag: header.tag, body: raw.get(5..)?, raw })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Lookahead = Lookahead { batch_max: 100, text_max: 1000 };

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_query_is_a_batch() {
        let mut input = frame(b'Q', b"SELECT 1\0");
        let len = input.len();
        input.extend(frame(b'Q', b"SELECT 2\0"));
        assert_eq!(Scanner::default().scan(&input, LIMITS).unwrap(), Scan::Whole { len, end: End::Query });
    }

    #[test]
    fn a_pipeline_ends_at_sync_however_it_is_cut() {
        let mut input = frame(b'P', b"\0SELECT 1\0\0\0");
        input.extend(frame(b'B', b"\0\0\0\0\0\0\0\0"));
        input.extend(frame(b'E', b"\0\0\0\0\0"));
        input.extend(frame(b'S', b""));
        let mut scanner = Scanner::default();
        for cut in 0..input.len() {
            assert_eq!(scanner.scan(&input[..cut], LIMITS).unwrap(), Scan::Partial, "at {cut}");
        }
        let whole = Scan::Whole { len: input.len(), end: End::Sync };
        assert_eq!(scanner.scan(&input, LIMITS).unwrap(), whole);
    }

    #[test]
    fn large_parameters_stream_and_large_texts_are_gathered() {
        let bind = frame(b'B', &[0; 200]);
        assert_eq!(Scanner::default().scan(&bind[..50], LIMITS).unwrap(), Scan::Large);
        let parse = frame(b'P', &[0; 200]);
        assert_eq!(Scanner::default().scan(&parse[..50], LIMITS).unwrap(), Scan::Partial);
        let query = frame(b'Q', &[0; 2000]);
        assert_eq!(Scanner::default().scan(&query[..50], LIMITS).unwrap(), Scan::Large);
    }

    #[test]
    fn letters_that_no_client_sends_here_are_refused() {
        assert!(Scanner::default().scan(&frame(b'Z', b"I"), LIMITS).is_err());
        assert!(Scanner::default().scan(&frame(b'p', b"secret\0"), LIMITS).is_err());
        let mut mixed = frame(b'P', b"\0\0\0\0");
        mixed.extend(frame(b'Q', b"\0"));
        assert!(Scanner::default().scan(&mixed, LIMITS).is_err());
    }
}
