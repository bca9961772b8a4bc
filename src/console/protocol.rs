//! The conversation with one guest: simple and extended protocol, as far as a console needs them.
//!
//! A text is read when it is parsed or comes as a simple query; it is carried out when it is executed. What a Describe asks
//! for is the shape of a table that is made for that, and made again for the answer: both are cheap and of one kind.

use std::collections::HashMap;

use tokio::io::AsyncWriteExt as _;

use crate::proxy::Stream;
use crate::proxy::console::Guest;
use crate::proxy::frames::{Frame, FrameReadError, FrameReader};
use crate::session::{ClientError, CommandFault};
use crate::wire::frontend::{Bind, Close, Describe, Execute, Parse, Query, Target, result_formats};
use crate::wire::{Tag, TxStatus, encode};

use super::command::{Command, Show};
use super::table::Table;
use super::{Inside, help};

/// Longest message, in bytes.
const MESSAGE_LEN_MAX: usize = 1 << 20;

/// Prepared statements and portals of one guest, each.
const NAMES_MAX: usize = 1_000;

/// What a command answers with.
#[derive(Debug)]
pub(super) enum Answer {
    /// Rows.
    Rows(Table),
    /// A command tag.
    Done(&'static str),
    /// SHOW HELP.
    Help,
    /// Nothing was asked.
    Empty,
}

/// One guest.
struct Visit<'r> {
    room: &'r Inside,
    user: String,
    prepared: HashMap<Box<[u8]>, String>,
    portals: HashMap<Box<[u8]>, Portal>,
    /// A message of the pipeline failed: everything up to its Sync is skipped.
    failed: bool,
    out: Vec<u8>,
}

struct Portal {
    text: String,
    formats: Vec<u16>,
}

/// Serves a guest until it leaves or has to.
pub(super) async fn serve(room: &Inside, guest: Guest) {
    let Guest { mut stream, ahead, user, params, key: (pid, secret), leave } = guest;
    let mut visit = Visit {
        room,
        user: user.to_string(),
        prepared: HashMap::new(),
        portals: HashMap::new(),
        failed: false,
        out: Vec::new(),
    };
    visit.greet(&params, pid, &secret);
    let mut frames = FrameReader::after(ahead.as_slice().into(), MESSAGE_LEN_MAX);
    let talking = async {
        loop {
            if visit.flush(&mut stream).await.is_err() {
                return;
            }
            match frames.next(&mut stream).await {
                Ok(Frame { tag: Tag::TERMINATE, .. }) => return,
                Ok(frame) => visit.take(&frame).await,
                Err(error) => {
                    visit.refuse_frame(&error);
                    // The guest may be gone.
                    drop(visit.flush(&mut stream).await);
                    return;
                }
            }
        }
    };
    let told = tokio::select! {
        () = talking => None,
        error = leave.told() => Some(error),
    };
    if let Some(error) = told {
        let mut last = Vec::new();
        error.encode_fatal(&mut last);
        // The guest may be gone.
        drop(tokio::time::timeout(std::time::Duration::from_secs(1), stream.write_all(&last)).await);
    }
}

impl Visit<'_> {
    fn greet(&mut self, params: &[(String, String)], pid: i32, secret: &[u8]) {
        let out = &mut self.out;
        encode::auth_ok(out);
        let asked = |name: &str| params.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        let encoding = asked("client_encoding").map_or("UTF8", |(_, value)| value.as_str());
        for (name, value) in [
            ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/primacy")),
            ("server_encoding", "UTF8"),
            ("client_encoding", encoding),
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "UTC"),
            ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"),
            ("is_superuser", "off"),
            ("in_hot_standby", "off"),
        ] {
            encode::parameter_status(out, name.as_bytes(), value.as_bytes());
        }
        encode::backend_key_data(out, pid, secret);
        encode::ready(out, TxStatus::Idle);
    }

    async fn flush(&mut self, stream: &mut Stream) -> std::io::Result<()> {
        if !self.out.is_empty() {
            stream.write_all(&self.out).await?;
            stream.flush().await?;
            self.out.clear();
        }
        Ok(())
    }

    fn refuse_frame(&mut self, error: &FrameReadError) {
        let shown = match error {
            FrameReadError::Malformed(error) => ClientError::Frame(*error),
            FrameReadError::TooLong { tag, len, .. } => ClientError::LongBeforeSignIn {
                tag: *tag,
                len: *len,
                len_max: u32::try_from(MESSAGE_LEN_MAX).unwrap_or(u32::MAX),
            },
            FrameReadError::Io(_) | FrameReadError::Closed => return,
        };
        shown.encode_fatal(&mut self.out);
    }

    async fn take(&mut self, frame: &Frame) {
        if frame.tag == Tag::QUERY {
            self.failed = false;
            match Query::decode(frame.body()) {
                Ok(query) => {
                    let text = String::from_utf8_lossy(query.sql).into_owned();
                    self.query(&text).await;
                }
                Err(error) => ClientError::Frame(error).encode(&mut self.out),
            }
            encode::ready(&mut self.out, TxStatus::Idle);
            return;
        }
        if frame.tag == Tag::SYNC {
            self.failed = false;
            self.portals.clear();
            encode::ready(&mut self.out, TxStatus::Idle);
            return;
        }
        if self.failed || frame.tag == Tag::FLUSH {
            return;
        }
        if let Err(error) = self.extended(frame).await {
            error.encode(&mut self.out);
            self.failed = true;
        }
    }

    /// A simple query, which may be several commands.
    async fn query(&mut self, text: &str) {
        // EXPLAIN ROUTE takes the rest of the text as it stands.
        let parts: Vec<&str> = if matches!(Command::parse(text), Ok(Command::Explain(_))) {
            vec![text]
        } else {
            text.split(';').filter(|part| !part.trim().is_empty()).collect()
        };
        if parts.is_empty() {
            encode::empty_query_response(&mut self.out);
        }
        for part in parts {
            match self.carry_out(part).await {
                Ok(answer) => self.give(&answer, &[], true),
                Err(error) => {
                    error.encode(&mut self.out);
                    return;
                }
            }
        }
    }

    async fn extended(&mut self, frame: &Frame) -> Result<(), ClientError> {
        match frame.tag {
            Tag::PARSE => {
                let parse = Parse::decode(frame.body())?;
                let text = String::from_utf8_lossy(parse.sql).into_owned();
                Command::parse(&text)?;
                keep(&mut self.prepared, parse.name, text, "prepared statements")?;
                encode::parse_complete(&mut self.out);
            }
            Tag::BIND => {
                let bind = Bind::decode(frame.body())?;
                let text = self.statement(bind.statement)?;
                let formats = result_formats(bind.rest)?;
                keep(&mut self.portals, bind.portal, Portal { text, formats }, "portals")?;
                encode::bind_complete(&mut self.out);
            }
            Tag::DESCRIBE => self.describe(Describe::decode(frame.body())?).await?,
            Tag::EXECUTE => {
                let execute = Execute::decode(frame.body())?;
                let portal = self.portals.get(execute.portal);
                let Portal { text, formats } = portal.ok_or_else(|| unknown_portal(execute.portal))?;
                let (text, formats) = (text.clone(), formats.clone());
                let answer = self.carry_out(&text).await?;
                self.give(&answer, &formats, false);
            }
            Tag::CLOSE => {
                let close = Close::decode(frame.body())?;
                match close.target {
                    Target::Statement => drop(self.prepared.remove(close.name)),
                    Target::Portal => drop(self.portals.remove(close.name)),
                }
                encode::close_complete(&mut self.out);
            }
            tag => return Err(ClientError::UnexpectedMessage { tag, awaited: "a command" }),
        }
        Ok(())
    }

    async fn describe(&mut self, describe: Describe<'_>) -> Result<(), ClientError> {
        let (text, formats) = match describe.target {
            Target::Statement => (self.statement(describe.name)?, Vec::new()),
            Target::Portal => {
                let portal = self.portals.get(describe.name);
                let portal = portal.ok_or_else(|| unknown_portal(describe.name))?;
                (portal.text.clone(), portal.formats.clone())
            }
        };
        if describe.target == Target::Statement {
            encode::parameter_description(&mut self.out, &[]);
        }
        let command = Command::parse(&text)?;
        // Only what looks has columns; nothing is done that acts.
        let answer = if command.only_looks() { self.room.carry_out(command).await? } else { Answer::Empty };
        match answer {
            Answer::Rows(table) => table.describe(&formats, &mut self.out),
            _ => encode::no_data(&mut self.out),
        }
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<String, ClientError> {
        self.prepared
            .get(name)
            .cloned()
            .ok_or_else(|| ClientError::UnknownStatement { name: String::from_utf8_lossy(name).into_owned() })
    }

    /// Carries one command out, if this role may have it.
    async fn carry_out(&self, text: &str) -> Result<Answer, ClientError> {
        let command = Command::parse(text)?;
        if !command.only_looks() {
            if !self.room.may_act(&self.user) {
                return Err(ClientError::Command {
                    message: "admin access needed".to_owned(),
                    fault: CommandFault::NotAllowed,
                    hint: "This role may only look: add it to console.admin_users.",
                });
            }
            self.room.note(&self.user, text);
        }
        self.room.carry_out(command).await
    }

    fn give(&mut self, answer: &Answer, formats: &[u16], described: bool) {
        let out = &mut self.out;
        match answer {
            Answer::Rows(table) => {
                if described {
                    table.describe(formats, out);
                }
                table.data(formats, out);
                encode::command_complete(out, "SHOW");
            }
            Answer::Done(tag) => encode::command_complete(out, tag),
            Answer::Help => {
                let notice = [
                    (b'S', "NOTICE"),
                    (b'V', "NOTICE"),
                    (b'C', "00000"),
                    (b'M', "Console usage"),
                    (b'D', help::TEXT),
                ];
                encode::notice_response(out, &notice);
                encode::command_complete(out, "SHOW");
            }
            Answer::Empty => encode::empty_query_response(out),
        }
    }
}

impl Inside {
    /// Carries one command out.
    pub(super) async fn carry_out(&self, command: Command) -> Result<Answer, ClientError> {
        match command {
            Command::Empty => Ok(Answer::Empty),
            Command::Courtesy(tag) => Ok(Answer::Done(tag)),
            Command::Constant(column, value) => {
                let mut table = Table::new(column);
                table.push(super::table::row![value]);
                Ok(Answer::Rows(table))
            }
            Command::Show(Show::Help, _) => Ok(Answer::Help),
            Command::Show(show, argument) => self.show(show, argument.as_deref()).await.map(Answer::Rows),
            Command::Explain(sql) => self.explain(sql).await.map(Answer::Rows),
            command => self.act(command).await.map(Answer::Done),
        }
    }
}

fn keep<V>(
    into: &mut HashMap<Box<[u8]>, V>,
    name: &[u8],
    value: V,
    what: &'static str,
) -> Result<(), ClientError> {
    if into.len() >= NAMES_MAX && !into.contains_key(name) {
        return Err(ClientError::PreparedLimit { what, max: NAMES_MAX as u64 });
    }
    into.insert(name.into(), value);
    Ok(())
}

fn unknown_portal(name: &[u8]) -> ClientError {
    ClientError::UnknownPortal { name: String::from_utf8_lossy(name).into_owned() }
}
