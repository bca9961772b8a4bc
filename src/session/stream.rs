//! What is too large to be gathered, or is sent while the server already answers: frame by frame to the connection
//! that the session holds. Memory stays bounded whatever the size of a parameter or a COPY.

use super::batch::Frame;
use super::client_error::ClientError;
use super::expected::Expect;
use super::machine::{Judge, Machine};
use super::plan::Plan;

use super::statement::{ServerSession, push_server_name};
use crate::sql::PinCause;
use crate::wire::{FrameError, HEADER_LEN, Header, Tag};

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// An extended pipeline, up to its Sync.
    Pipeline,
    /// COPY data of a simple query, up to CopyDone or CopyFail.
    CopyIn,
    /// One message too large to be looked at.
    Single,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// The stream has ended: the server has everything and answers.
    pub ended: bool,
    /// The client said goodbye in the middle.
    pub terminated: bool,
}

/// A statement's and a portal's name end within this many bytes of a Bind that does not fit into memory.
const NAMES_MAX: usize = 16 * 1024;

impl Machine {
    /// Takes client bytes and appends to `out` what the server gets.
    ///
    /// # Errors
    /// A frame that no client may send here.
    pub fn stream(
        &mut self,
        (kind, left): (Stream, &mut usize),
        input: &[u8],
        (plan, server, judge): (&mut Plan, &mut ServerSession, &mut Judge<'_>),
        out: &mut Vec<u8>,
    ) -> Result<Streamed, FrameError> {
        // What is not looked at as a whole may define anything.
        if kind != Stream::CopyIn {
            self.temporary.hiding.unseen();
        }
        let mut at = 0;
        let (mut ended, mut terminated) = (false, false);
        while !ended && !terminated {
            let rest = input.get(at..).unwrap_or_default();
            if *left > 0 {
                let len = rest.len().min(*left);
                out.extend_from_slice(rest.get(..len).unwrap_or_default());
                *left -= len;
                at += len;
                ended = kind == Stream::Single && *left == 0;
                if len == 0 {
                    break;
                }
                continue;
            }
            let Some(header) = Header::peek(rest)? else { break };
            let whole = rest.get(..header.len);
            match (header.tag, whole) {
                (Tag::COPY_DATA, _) | (Tag::QUERY | Tag::FUNCTION_CALL, None) => {
                    let taken = rest.len().min(header.len);
                    self.note_single(header.tag);
                    out.extend_from_slice(rest.get(..taken).unwrap_or_default());
                    *left = header.len - taken;
                    at += taken;
                }
                (Tag::BIND, None) => {
                    let Some(taken) = self.stream_bind((header, rest), (plan, server, judge), out)? else {
                        break;
                    };
                    *left = header.len - taken;
                    at += taken;
                }
                (_, None) => break,
                (tag, Some(raw)) => {
                    at += raw.len();
                    terminated = tag == Tag::TERMINATE;
                    ended = self.stream_frame((kind, tag), raw, (plan, server, judge), out)?;
                }
            }
        }
        Ok(Streamed { consumed: at, ended, terminated })
    }

    fn note_single(&mut self, tag: Tag) {
        if tag == Tag::QUERY {
            // Its text is not known: it may have set anything.
            self.pins.add(PinCause::UnknownSetting);
        }
    }

    /// One whole frame. `true`: the stream ends with it.
    fn stream_frame(
        &mut self,
        (kind, tag): (Stream, Tag),
        raw: &[u8],
        (plan, server, judge): (&mut Plan, &mut ServerSession, &mut Judge<'_>),
        out: &mut Vec<u8>,
    ) -> Result<bool, FrameError> {
        match tag {
            Tag::COPY_DONE | Tag::COPY_FAIL => {
                out.extend_from_slice(raw);
                return Ok(kind == Stream::CopyIn);
            }
            Tag::SYNC => {
                out.extend_from_slice(raw);
                return Ok(kind == Stream::Pipeline);
            }
            Tag::FLUSH => out.extend_from_slice(raw),
            Tag::TERMINATE => {}
            Tag::QUERY if kind == Stream::Pipeline => {
                if self.relay.error_seen() {
                    return Ok(false);
                }
                // It ends the implicit transaction as Sync does.
                self.plan_query(raw, plan, judge)?;
                server.unnamed = None;
                self.unnamed = None;
                out.extend_from_slice(raw);
                return Ok(true);
            }
            Tag::QUERY | Tag::FUNCTION_CALL if kind == Stream::Single => {
                self.note_single(tag);
                out.extend_from_slice(raw);
                return Ok(true);
            }
            Tag::PARSE | Tag::BIND | Tag::DESCRIBE | Tag::EXECUTE | Tag::CLOSE
                if kind == Stream::Pipeline =>
            {
                if self.relay.error_seen() {
                    // The server skips to Sync after its error; so do we.
                    return Ok(false);
                }
                let body = raw.get(HEADER_LEN..).unwrap_or_default();
                let frame = Frame { tag, body, raw };
                self.plan_frame(frame, plan, judge)?;
                if let Err(error) = self.dispatch_frame(frame, server, out) {
                    self.fail(error, out);
                }
            }
            tag => return Err(FrameError::UnexpectedTag { tag }),
        }
        Ok(false)
    }

    /// The beginning of a Bind whose parameters do not fit into memory; how much of the input it took.
    fn stream_bind(
        &mut self,
        (header, rest): (Header, &[u8]),
        (plan, server, judge): (&mut Plan, &mut ServerSession, &mut Judge<'_>),
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, FrameError> {
        let body = rest.get(HEADER_LEN..).unwrap_or_default();
        let mut parts = body.splitn(3, |&b| b == 0);
        let (Some(portal), Some(statement), Some(parameters)) = (parts.next(), parts.next(), parts.next())
        else {
            return if body.len() > NAMES_MAX {
                Err(FrameError::Truncated { tag: Tag::BIND, field: "statement" })
            } else {
                Ok(None)
            };
        };
        self.plan_bind(portal, statement, plan, judge);
        let mut name = Vec::new();
        if statement.is_empty() {
            self.ensure_unnamed(server, out);
        } else {
            match self.ensure_prepared(statement, server, out) {
                Ok(id) => push_server_name(id, &mut name),
                // The server gives the error for this name, and takes the parameters in.
                Err(ClientError::UnknownStatement { .. }) => name.extend_from_slice(statement),
                Err(_) => {}
            }
        }
        let declared = header.len - 1 - statement.len() + name.len();
        out.push(Tag::BIND.0);
        out.extend_from_slice(&u32::try_from(declared).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(portal);
        out.push(0);
        out.extend_from_slice(&name);
        out.push(0);
        out.extend_from_slice(parameters);
        self.relay.expect(Expect::Forward);
        Ok(Some(rest.len()))
    }
}
