//! Answers that need no server: a deferred BEGIN and what ends it, the proxy's own settings, what follows a lost
//! transaction.

use std::rc::Rc;
use std::sync::Arc;

use super::batch::{End, frames};
use super::client_error::ClientError;
use super::machine::{Ahead, AheadText, Machine, Tx};
use super::plan::Plan;
use super::statement::text_in;
use crate::model::{Consistency, Epoch, Lsn, Timeline};
use crate::sql::{BeginMode, Hint, Kind, SessionEffect, Verdict};
use crate::wire::frontend::{Bind, Describe, Parse, Query, Target};
use crate::wire::{Tag, TxStatus, encode};

/// What a statement that needs no server is answered with.
enum Answer {
    /// A command tag.
    Done(&'static str),
    /// One row with one column.
    Value { column: Arc<str>, value: String },
    /// An error; the transaction stays as it is.
    Error(ClientError),
    /// Nothing was executed.
    Nothing,
}

/// What the machine cannot know by itself, for `SHOW primacy.…`.
pub trait Facts {
    /// The value of `primacy.<name>`; `None` where there is no such name.
    fn show(&self, name: &str) -> Option<String>;
    /// The timeline that positions are of, and what `Freshness::follow` takes to bring a session up to it.
    fn timeline(&self) -> (Timeline, (Epoch, Lsn, u64));
}

impl Machine {
    /// Answers a batch that `step` found to need no server; `out` takes the whole answer.
    pub fn answer(&mut self, batch: &[u8], plan: &Plan, facts: &dyn Facts, out: &mut Vec<u8>) {
        let solo = plan.solo().map(Rc::clone);
        let answer = match &solo {
            Some(verdict) => self.carry_out(verdict, batch, facts),
            None if matches!(self.tx, Tx::Lost { .. }) && !plan.needs_no_server => self.lost_statement(),
            None => match plan.prepares_own() {
                Some(Kind::ShowPrimacy(name)) => {
                    Answer::Value { column: column_of(name), value: String::new() }
                }
                _ => Answer::Nothing,
            },
        };
        self.executed.clear();
        let failed = if plan.extended() {
            self.answer_pipeline(batch, plan, &answer, out)
        } else {
            push_rows(&answer, out);
            push_end(&answer, out);
            let failed = self.note_told_loss(&answer);
            encode::ready(out, self.status());
            failed
        };
        if failed {
            self.settle_names();
        } else {
            self.relay.tentative.clear();
        }
    }

    /// Answers a batch of one statement with this command tag.
    pub(super) fn answer_done(
        &mut self,
        tag: &'static str,
        (batch, plan): (&[u8], &Plan),
        out: &mut Vec<u8>,
    ) {
        let answer = Answer::Done(tag);
        if plan.extended() {
            self.answer_pipeline(batch, plan, &answer, out);
        } else {
            push_end(&answer, out);
            encode::ready(out, self.status());
        }
    }

    /// Whether an error was written.
    fn answer_pipeline(&mut self, batch: &[u8], plan: &Plan, answer: &Answer, out: &mut Vec<u8>) -> bool {
        let mut failed = false;
        for frame in frames(batch) {
            if failed && frame.tag != Tag::SYNC {
                continue;
            }
            match frame.tag {
                Tag::PARSE if self.refuses_to_prepare(frame.body) => {
                    push_end(answer, out);
                    failed = self.note_told_loss(answer);
                }
                Tag::PARSE => encode::parse_complete(out),
                Tag::BIND => encode::bind_complete(out),
                Tag::CLOSE => {
                    if let Ok(close) = crate::wire::frontend::Close::decode(frame.body)
                        && close.target == Target::Statement
                    {
                        self.drop_prepared(close.name);
                    }
                    encode::close_complete(out);
                }
                Tag::DESCRIBE => {
                    if let Ok(Describe { target: Target::Statement, .. }) = Describe::decode(frame.body) {
                        encode::parameter_description(out, &[]);
                    }
                    describe(answer, out);
                }
                Tag::EXECUTE => {
                    if let Answer::Value { value, .. } = answer {
                        encode::data_row(out, &[Some(value.as_bytes())]);
                    }
                    push_end(answer, out);
                    failed = self.note_told_loss(answer);
                }
                Tag::SYNC => encode::ready(out, self.status()),
                _ => {}
            }
        }
        if plan.end == End::Flush && failed {
            self.relay.skip_client_to_sync = true;
        }
        failed
    }

    /// An error was written: if it was that of a lost transaction, the client has been told. Not sooner: a batch that only
    /// closes a portal or prepares COMMIT has no place for an error, and the COMMIT behind it must not look like a success.
    fn note_told_loss(&mut self, answer: &Answer) -> bool {
        let failed = matches!(answer, Answer::Error(_));
        if failed && self.tx == (Tx::Lost { reported: false }) {
            self.tx = Tx::Lost { reported: true };
        }
        failed
    }

    /// Whether PostgreSQL would refuse this Parse already: in a failed transaction only what ends it can be prepared.
    fn refuses_to_prepare(&self, body: &[u8]) -> bool {
        let (true, Ok(parse)) = (matches!(self.tx, Tx::Lost { .. }), Parse::decode(body)) else {
            return false;
        };
        let verdict = if parse.name.is_empty() {
            self.unnamed.as_ref().map(|unnamed| Rc::clone(&unnamed.verdict))
        } else {
            self.prepared.get(parse.name).map(|statement| Rc::clone(&statement.verdict.borrow().1))
        };
        let ends =
            |verdict: &Rc<Verdict>| matches!(verdict.kind, Kind::Commit { .. } | Kind::Rollback { .. });
        !verdict.as_ref().is_some_and(ends)
    }

    /// Carries one statement out and says what the client gets.
    fn carry_out(&mut self, verdict: &Verdict, batch: &[u8], facts: &dyn Facts) -> Answer {
        match &verdict.kind {
            Kind::ShowPrimacy(name) => self.show(name, facts),
            Kind::SetPrimacy(name, value) => self.set(name, value.as_deref(), facts),
            kind if matches!(self.tx, Tx::Lost { .. }) => self.after_loss(kind),
            Kind::Begin(mode) => {
                let text = self.text_of(batch);
                let tag = if begins_with_start(&text) { "START TRANSACTION" } else { "BEGIN" };
                self.tx = Tx::Deferred { queries: Ahead::from_iter([text]), mode: *mode };
                Answer::Done(tag)
            }
            Kind::SetTransaction(mode) => {
                let text = self.text_of(batch);
                self.set_deferred_mode(*mode, text)
            }
            Kind::Commit { .. } => self.end_deferred("COMMIT"),
            Kind::Rollback { .. } => self.end_deferred("ROLLBACK"),
            _ => self.deallocate(verdict),
        }
    }

    fn end_deferred(&mut self, tag: &'static str) -> Answer {
        // It may have been on a replica, and has set something there.
        if let Some(settings) = self.set_aside.take().filter(|_| tag == "COMMIT") {
            self.current = settings;
        }
        self.before = None;
        self.savepoints.clear();
        self.hopped = false;
        self.tx = Tx::None;
        Answer::Done(tag)
    }

    /// The text of the batch's only statement, as the client wrote it.
    pub(super) fn text_of(&self, batch: &[u8]) -> AheadText {
        for frame in frames(batch) {
            match frame.tag {
                Tag::QUERY => {
                    if let Ok(query) = Query::decode(frame.body) {
                        return query.sql.into();
                    }
                }
                Tag::BIND => {
                    let Ok(bind) = Bind::decode(frame.body) else { continue };
                    let unnamed = || self.unnamed.as_ref().map(|unnamed| text_in(&unnamed.definition).into());
                    let named = || self.prepared.get(bind.statement).map(|statement| statement.text().into());
                    let text = if bind.statement.is_empty() { unnamed() } else { named() };
                    return text.unwrap_or_default();
                }
                _ => {}
            }
        }
        AheadText::default()
    }

    fn set_deferred_mode(&mut self, mode: BeginMode, text: AheadText) -> Answer {
        if let Tx::Deferred { queries, mode: declared } = &mut self.tx {
            queries.push(text);
            declared.read_only = mode.read_only.or(declared.read_only);
            declared.deferrable |= mode.deferrable;
            declared.isolation_given |= mode.isolation_given;
            if mode.isolation_given {
                declared.serializable = mode.serializable;
            }
        }
        Answer::Done("SET")
    }

    fn deallocate(&mut self, verdict: &Verdict) -> Answer {
        match verdict.effects.as_ref() {
            [SessionEffect::Deallocate(name)] => {
                self.drop_prepared(name.as_bytes());
                Answer::Done("DEALLOCATE")
            }
            [SessionEffect::DeallocateAll] => {
                self.forget_prepared();
                Answer::Done("DEALLOCATE ALL")
            }
            _ => Answer::Nothing,
        }
    }

    /// A statement after the transaction's server was lost.
    fn after_loss(&mut self, kind: &Kind) -> Answer {
        let reported = matches!(self.tx, Tx::Lost { reported: true });
        match kind {
            Kind::Rollback { chain: false } => self.end_deferred("ROLLBACK"),
            Kind::Commit { chain: false } | Kind::PrepareTransaction if reported => {
                self.end_deferred("ROLLBACK")
            }
            Kind::Commit { .. } => {
                self.tx = Tx::None;
                Answer::Error(ClientError::TransactionLost { node: self.lost_node() })
            }
            _ => self.lost_statement(),
        }
    }

    fn lost_statement(&self) -> Answer {
        let untold = self.tx == (Tx::Lost { reported: false });
        Answer::Error(if untold {
            ClientError::TransactionLost { node: self.lost_node() }
        } else {
            ClientError::FailedTransaction
        })
    }

    fn lost_node(&self) -> String {
        self.lost_node.as_deref().unwrap_or("?").to_owned()
    }

    fn show(&self, name: &Arc<str>, facts: &dyn Facts) -> Answer {
        let own = match name.as_ref() {
            "route" => Some(match self.route_hint {
                None => "auto".to_owned(),
                Some(Hint::Primary) => "primary".to_owned(),
                Some(Hint::Replica) => "replica".to_owned(),
            }),
            "consistency" => self.consistency.map(|consistency| consistency.as_str().to_owned()),
            "pins" => Some(self.pins.iter().map(crate::sql::PinCause::as_str).collect::<Vec<_>>().join(", ")),
            _ => None,
        };
        match own.or_else(|| facts.show(name)) {
            Some(value) => Answer::Value { column: column_of(name), value },
            None => Answer::Error(ClientError::UnknownSetting { setting: format!("primacy.{name}") }),
        }
    }

    fn set(&mut self, name: &Arc<str>, value: Option<&str>, facts: &dyn Facts) -> Answer {
        let tag = if value.is_some() { "SET" } else { "RESET" };
        let invalid = |value: &str, allowed| {
            let setting = format!("primacy.{name}");
            Answer::Error(ClientError::InvalidSetting { setting, value: value.to_owned(), allowed })
        };
        match (name.as_ref(), value.map(str::to_ascii_lowercase).as_deref()) {
            ("consistency", None | Some("default")) => self.consistency = None,
            ("consistency", Some(word)) => match Consistency::of_word(word.as_bytes()) {
                Some(consistency) => self.consistency = Some(consistency),
                None => return invalid(word, "session, strict, global, eventual, default"),
            },
            ("after", None) => {}
            ("after", Some(position)) => {
                if !self.see(position, facts) {
                    let allowed =
                        "timeline:position, like 1:0/306EE20, of a timeline that this cluster has reached";
                    return invalid(position, allowed);
                }
            }
            ("route", None | Some("auto" | "default")) => self.route_hint = None,
            ("route", Some("primary" | "master")) => self.route_hint = Some(Hint::Primary),
            ("route", Some("replica")) => self.route_hint = Some(Hint::Replica),
            ("route", Some(other)) => return invalid(other, "auto, primary, replica"),
            _ => return Answer::Error(ClientError::UnknownSetting { setting: format!("primacy.{name}") }),
        }
        Answer::Done(tag)
    }

    /// Takes a position over that another session has seen. `false`: it is none, or of a timeline that is not known here.
    fn see(&mut self, position: &str, facts: &dyn Facts) -> bool {
        let (timeline, (epoch, fork, ticket)) = facts.timeline();
        let parsed = position.split_once(':').and_then(|(line, at)| {
            Some((Timeline(line.trim().parse().ok()?), at.trim().to_ascii_uppercase().parse::<Lsn>().ok()?))
        });
        let Some((of, at)) = parsed.filter(|(of, _)| *of <= timeline) else { return false };
        self.freshness.follow(epoch, fork, ticket);
        // What an older timeline had behind the fork is in none of today's servers.
        self.freshness.see(if of < timeline { at.min(fork) } else { at });
        true
    }

    /// primacy's own settings return to what configuration says.
    pub(super) fn reset_own_settings(&mut self) {
        self.route_hint = None;
        self.consistency = None;
    }

    /// Whether the statement asks for the position of everything that the session has seen.
    pub fn asks_position(plan: &Plan) -> bool {
        matches!(plan.solo().map(|verdict| &verdict.kind), Some(Kind::ShowPrimacy(name)) if **name == *"position")
    }

    /// Whether the status to show is that of the server's transaction: a local answer inside one keeps it.
    pub fn keeps_status(&self) -> bool {
        self.status() != TxStatus::Idle
    }
}

/// Whether the statement is START TRANSACTION rather than BEGIN: the client is told which.
fn begins_with_start(mut text: &[u8]) -> bool {
    loop {
        text = text.trim_ascii_start();
        let after = |text: &[u8], end: &[u8]| {
            text.windows(end.len()).position(|at| at == end).map(|at| at + end.len())
        };
        let skipped = if text.starts_with(b"--") {
            after(text, b"\n")
        } else if text.starts_with(b"/*") {
            after(text, b"*/")
        } else {
            None
        };
        match skipped.and_then(|skipped| text.get(skipped..)) {
            Some(rest) => text = rest,
            None => return text.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"start")),
        }
    }
}

/// What `SHOW primacy.<name>` calls its column.
fn column_of(name: &str) -> Arc<str> {
    Arc::from(format!("primacy.{name}"))
}

fn describe(answer: &Answer, out: &mut Vec<u8>) {
    match answer {
        Answer::Value { column, .. } => encode::row_description(out, &[column]),
        _ => encode::no_data(out),
    }
}

fn push_rows(answer: &Answer, out: &mut Vec<u8>) {
    if let Answer::Value { column, value } = answer {
        encode::row_description(out, &[column]);
        encode::data_row(out, &[Some(value.as_bytes())]);
    }
}

fn push_end(answer: &Answer, out: &mut Vec<u8>) {
    match answer {
        Answer::Done(tag) => encode::command_complete(out, tag),
        Answer::Value { .. } => encode::command_complete(out, "SHOW"),
        Answer::Error(error) => error.encode(out),
        Answer::Nothing => {}
    }
}
