//! Whether an answer begins with an error that lets the batch run elsewhere.

use crate::model::SqlState;
use crate::wire::{ErrorFields, FrameError, Header, Tag};

/// Longest run of first answers that is kept back for a second try.
const HOLD_MAX: usize = 16 * 1024;

/// What the beginning of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// Nothing yet.
    NotYet,
    /// It is the client's.
    HandOn,
    /// The batch was refused with this code, and has changed nothing.
    Refused(SqlState),
}

/// Looks, without taking anything, whether the answer begins with an error that lets the batch run elsewhere;
/// `swallow` queries of ours are answered ahead of it.
pub(super) fn decide(input: &[u8], mut swallow: u32) -> Result<Decided, FrameError> {
    let mut at = 0;
    if input.len() > HOLD_MAX {
        return Ok(Decided::HandOn);
    }
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Some(header) = Header::peek(rest)? else { return Ok(Decided::NotYet) };
        let Some(frame) = rest.get(..header.len) else {
            return Ok(if header.len > HOLD_MAX { Decided::HandOn } else { Decided::NotYet });
        };
        at += header.len;
        match header.tag {
            Tag::READY_FOR_QUERY if swallow > 0 => swallow -= 1,
            Tag::ERROR_RESPONSE => {
                let state = ErrorFields::new(frame.get(5..).unwrap_or_default()).code();
                return Ok(match state.filter(|&state| refused_unchanged(state)) {
                    Some(state) => Decided::Refused(state),
                    None => Decided::HandOn,
                });
            }
            _ if swallow > 0 || is_preamble(header.tag) => {}
            _ => return Ok(Decided::HandOn),
        }
    }
}

/// Answers that come before anything is executed.
fn is_preamble(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::PARSE_COMPLETE
            | Tag::BIND_COMPLETE
            | Tag::CLOSE_COMPLETE
            | Tag::PARAMETER_DESCRIPTION
            | Tag::ROW_DESCRIPTION
            | Tag::NO_DATA
            | Tag::NOTICE_RESPONSE
            | Tag::PARAMETER_STATUS
    )
}

/// Errors by which a hot standby refuses what it cannot do, or gives a read up for recovery: outside of a transaction
/// nothing has changed, so the batch may run elsewhere (manual, 26.4.2 and 26.4.3).
fn refused_unchanged(state: SqlState) -> bool {
    [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::SERIALIZATION_FAILURE,
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ]
    .contains(&state)
}
