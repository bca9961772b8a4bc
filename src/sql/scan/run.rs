//! Where operators end.

/// Operator characters that stand together. Several operators may be made of them: one of more than one character ends in `+`
/// or `-` only if it has a character that is no part of standard SQL's (manual, 4.1.3). Looked at once, however many
/// those are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    end: usize,
    /// Behind the last such character; 0: there is none.
    free: usize,
    /// Behind the last character that is neither `+` nor `-`; 0: there is none.
    solid: usize,
}

impl Run {
    /// The run of operator characters at `start`. A comment ends it.
    pub(super) fn at(text: &[u8], start: usize) -> Self {
        let mut run = Self { end: start, free: 0, solid: 0 };
        while let Some(&byte) = text.get(run.end).filter(|byte| is_operator_byte(**byte)) {
            let comment = matches!((byte, text.get(run.end + 1)), (b'-', Some(b'-')) | (b'/', Some(b'*')));
            if comment && run.end > start {
                break;
            }
            run.end += 1;
            if !matches!(byte, b'+' | b'-') {
                run.solid = run.end;
            }
            if matches!(byte, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%') {
                run.free = run.end;
            }
        }
        run
    }

    /// Whether a token that begins here belongs to it.
    pub(super) fn has(self, start: usize) -> bool {
        start < self.end
    }

    /// Where the operator ends that begins here.
    pub(super) fn operator(self, start: usize) -> usize {
        if self.free > start { self.end } else { self.solid.max(start + 1) }
    }
}

pub(super) fn is_operator_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'+' | b'-'
            | b'*'
            | b'/'
            | b'<'
            | b'>'
            | b'='
            | b'~'
            | b'!'
            | b'@'
            | b'#'
            | b'%'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
    )
}
