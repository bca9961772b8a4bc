//! What a batch is: the verdicts of its statements joined, and which of the client's names it uses.

use std::rc::Rc;

use smallvec::SmallVec;

use super::batch::{End, Frame, frames};
use super::client_error::ClientError;
use super::hiding::Definitions;
use super::machine::{Judge, Machine, Unnamed};
use super::statement::{Statement, nonexistent, text_in};
use crate::model::Consistency;
use crate::sql::{BeginMode, Hint, Kind, Moving, Place, Reason, Verdict};
use crate::wire::frontend::{Bind, Close, Describe, Execute, Parse, Query, Target};
use crate::wire::{FrameError, Tag, TxStatus};

/// A batch, judged. The verdicts of the statements that it executes are kept in the machine until it is finished.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the batch, none excludes another"
)]
pub struct Plan {
    /// Where all of it may run.
    pub place: Place,
    /// Why: of the statement that decided the place.
    pub reason: Reason,
    /// What decided it, for people.
    pub hint: Option<Hint>,
    /// The promise that a comment asks for.
    pub consistency: Option<Consistency>,
    /// What ended the batch.
    pub end: End,
    /// It opens a transaction ahead of other statements.
    pub begin: Option<BeginMode>,
    /// It names prepared statements of the client, whose names differ on servers.
    pub rewrite: bool,
    /// It uses the unnamed statement of an earlier batch.
    pub old_unnamed: bool,
    /// It is nothing but Sync, or Close of prepared statements and Sync.
    pub needs_no_server: bool,
    /// It binds or executes.
    runs: bool,
    /// It executes statements, and the text of each was at hand.
    pub(super) reads: bool,
    /// It needs the connection that the session is tied to.
    pub(super) tied: bool,
    /// What its statements define.
    pub(super) definitions: Definitions,
    /// Its only executed statement, if there is exactly one.
    pub(super) solo: Option<Rc<Verdict>>,
    /// Names of the client's that it closes.
    closes: SmallVec<[Box<[u8]>; 1]>,
    /// It prepares a statement that the proxy answers itself.
    pub(super) own: Option<Kind>,
    /// It prepares or uses other statements too.
    foreign: bool,
    /// Nothing that it executes, prepares or describes would tie its transaction to the server that runs it.
    pub(super) all_free: bool,
    /// It binds a portal that it does not execute to its end.
    pub(super) leaves_portal: bool,
    /// Portals bound and not executed yet.
    bound: u32,
    /// It may run on a replica in a transaction that may have to be moved to the primary later.
    pub movable: bool,
    /// A replica did not do it. If the primary does, its like belong there.
    pub doubted: bool,
    /// It ends transactions: a cancel request must not meet the commit, and a loss leaves it in doubt.
    pub commits: bool,
    /// It is its own commit, and asks for its transaction's id so that it can be told what became of it.
    pub asks: bool,
    /// If it was undone with its server, it may be run again.
    pub(super) again: bool,
    /// It executes a portal of an earlier batch.
    old_portal: bool,
}

impl Plan {
    fn new(end: End) -> Self {
        Self {
            place: Place::Anywhere,
            reason: Reason::Empty,
            hint: None,
            consistency: None,
            end,
            begin: None,
            rewrite: false,
            old_unnamed: false,
            needs_no_server: matches!(end, End::Sync),
            runs: false,
            reads: false,
            tied: false,
            definitions: Definitions::default(),
            solo: None,
            closes: SmallVec::new(),
            own: None,
            foreign: false,
            all_free: true,
            leaves_portal: false,
            bound: 0,
            movable: false,
            doubted: false,
            commits: false,
            asks: false,
            again: false,
            old_portal: false,
        }
    }

    /// A batch that cannot be judged because it is too large to be gathered.
    pub fn unjudged(end: End) -> Self {
        Self { place: Place::Primary, reason: Reason::TooLarge, needs_no_server: false, ..Self::new(end) }
    }

    /// Its only executed statement.
    pub fn solo(&self) -> Option<&Rc<Verdict>> {
        self.solo.as_ref()
    }

    /// Whether it runs something that was not judged with it.
    pub(super) fn runs_unseen(&self) -> bool {
        self.old_portal || self.end == End::Call || self.reason == Reason::TooLarge
    }

    /// Whether it is nothing but COMMIT.
    pub fn is_commit(&self) -> bool {
        self.solo.as_ref().is_some_and(|verdict| matches!(verdict.kind, Kind::Commit { .. }))
    }

    /// Whether it is nothing but ROLLBACK, after which there is no transaction.
    pub fn is_rollback(&self) -> bool {
        self.solo.as_ref().is_some_and(|verdict| matches!(verdict.kind, Kind::Rollback { chain: false }))
    }

    /// Whether it speaks the extended protocol.
    pub fn extended(&self) -> bool {
        matches!(self.end, End::Sync | End::Flush)
    }

    /// The statement that it prepares or describes without executing it, where the proxy answers all of it itself.
    pub(super) fn prepares_own(&self) -> Option<&Kind> {
        self.own.as_ref().filter(|_| !self.foreign)
    }

    /// Whether it only prepares and describes, and waits for the answers with Flush. Nothing of that is undone by Sync,
    /// so the server gets one instead: what follows may run on any server.
    pub fn prepares_only(&self) -> bool {
        self.end == End::Flush && !self.runs
    }

    /// Whether the pipeline goes on behind it on the same connection.
    pub fn stays_open(&self) -> bool {
        self.end == End::Flush && self.runs
    }

    /// Whether it is whole by itself: it leaves no portal behind and uses none, nor an unnamed statement, of another batch.
    pub(super) fn keeps_nothing_open(&self) -> bool {
        matches!(self.end, End::Query | End::Sync)
            && !self.leaves_portal
            && !self.old_portal
            && !self.old_unnamed
    }

    fn join(&mut self, verdict: &Verdict) {
        self.needs_no_server = false;
        if matches!(verdict.kind, Kind::ShowPrimacy(_) | Kind::SetPrimacy(..)) {
            self.own = Some(verdict.kind.clone());
        } else {
            self.foreign = true;
        }
        self.all_free &= verdict.moving == Moving::Free;
        self.hint = self.hint.or(verdict.hint);
        self.consistency = self.consistency.or(verdict.consistency);
        if self.place == Place::Anywhere {
            self.place = verdict.place;
            self.reason = verdict.reason;
        }
    }

    fn primary(&mut self, reason: Reason) {
        self.needs_no_server = false;
        self.all_free = false;
        if self.place == Place::Anywhere {
            self.place = Place::Primary;
            self.reason = reason;
        }
    }
}

/// Most portals of one pipeline whose statements are remembered; an execution of any other goes to the primary.
const PORTALS_MAX: usize = 1000;

impl Machine {
    /// Judges a gathered batch.
    ///
    /// # Errors
    /// A frame whose body no PostgreSQL client would send.
    pub fn plan(&mut self, batch: &[u8], end: End, judge: &mut Judge<'_>) -> Result<Plan, FrameError> {
        let mut plan = Plan::new(end);
        self.executed.clear();
        match end {
            End::Query => self.plan_query(batch, &mut plan, judge)?,
            End::Call => {
                plan.primary(Reason::VolatileFunction);
                plan.definitions.unseen();
            }
            _ => {
                self.relay.portals.clear();
                self.relay.own_unnamed = false;
                for frame in frames(batch) {
                    self.plan_frame(frame, &mut plan, judge)?;
                }
            }
        }
        self.complete(batch, &mut plan);
        plan.leaves_portal |= plan.bound > 0;
        if self.is_optimistic() {
            plan.movable = self.is_movable(batch, &plan, judge.catalog);
        }
        Ok(plan)
    }

    /// Whether a batch that was judged and not yet written may be judged again: nothing of it replaces what the client had
    /// prepared before.
    pub fn may_judge_again(&self) -> bool {
        self.relay.replacements.is_empty()
    }

    /// Whether the batch in flight has been answered with an error.
    pub fn has_failed(&self) -> bool {
        self.relay.error_seen()
    }

    /// Judges a simple query.
    pub(super) fn plan_query(
        &mut self,
        frame: &[u8],
        plan: &mut Plan,
        judge: &mut Judge<'_>,
    ) -> Result<(), FrameError> {
        let query = Query::decode(frame.get(5..).unwrap_or_default())?;
        let verdict = judge.classifier.classify(query.sql, judge.catalog);
        plan.join(&verdict);
        self.note_tied(query.sql, &verdict, judge.catalog, plan);
        self.executed.push(Rc::clone(&verdict));
        self.plan_executed(query.sql, &verdict, judge);
        Ok(())
    }

    fn complete(&mut self, batch: &[u8], plan: &mut Plan) {
        self.temporary.define(std::mem::take(&mut plan.definitions));
        if let [only] = self.executed.as_slice()
            && only.statements <= 1
        {
            plan.solo = Some(Rc::clone(only));
        }
        let in_transaction = self.status() != TxStatus::Idle;
        for verdict in &self.executed {
            match &verdict.kind {
                Kind::Begin(mode) if plan.begin.is_none() => plan.begin = Some(*mode),
                Kind::Commit { .. } | Kind::PrepareTransaction | Kind::Block => plan.commits = true,
                _ => {}
            }
        }
        if plan.stays_open() {
            // What follows in the same implicit transaction is not known yet, and may write.
            plan.primary(Reason::TooLarge);
        }
        plan.reads = !self.executed.is_empty() && !plan.stays_open() && !plan.prepares_only();
        // Outside of a transaction every statement that may write is its own commit.
        let own_commit = !in_transaction && plan.begin.is_none() && plan.place == Place::Primary;
        plan.commits |= own_commit;
        plan.again = own_commit && !plan.old_portal && self.only_changes();
        plan.asks =
            own_commit && self.settings.resolve_commits && !plan.old_portal && self.can_ask(batch, plan);
    }

    /// Judges one frame of a pipeline and joins it to the plan.
    pub(super) fn plan_frame(
        &mut self,
        frame: Frame<'_>,
        plan: &mut Plan,
        judge: &mut Judge<'_>,
    ) -> Result<(), FrameError> {
        match frame.tag {
            Tag::PARSE => {
                let parse = Parse::decode(frame.body)?;
                self.relay.own_unnamed |= parse.name.is_empty();
                self.plan_parse(frame, parse, plan, judge);
            }
            Tag::BIND => {
                let bind = Bind::decode(frame.body)?;
                plan.runs = true;
                plan.bound += 1;
                plan.leaves_portal |= !bind.portal.is_empty();
                self.plan_bind(bind.portal, bind.statement, plan, judge);
            }
            Tag::DESCRIBE => {
                let describe = Describe::decode(frame.body)?;
                match describe.target {
                    Target::Statement => drop(self.plan_use(describe.name, plan, judge)),
                    Target::Portal => {
                        plan.needs_no_server = false;
                        plan.runs = true;
                    }
                }
            }
            Tag::EXECUTE => {
                let execute = Execute::decode(frame.body)?;
                plan.runs = true;
                plan.bound = plan.bound.saturating_sub(1);
                plan.leaves_portal |= execute.max_rows > 0;
                let portal = self.relay.portals.iter().rev().find(|(name, _)| **name == *execute.portal);
                if let Some((_, verdict)) = portal {
                    self.executed.push(Rc::clone(verdict));
                } else {
                    // A portal of an earlier batch: its effects were counted when it was first executed.
                    plan.old_portal = true;
                    plan.primary(Reason::SessionState);
                }
            }
            Tag::CLOSE => {
                let close = Close::decode(frame.body)?;
                if close.target == Target::Statement {
                    plan.rewrite = true;
                    if close.name.is_empty() {
                        self.unnamed = None;
                    }
                    plan.closes.push(close.name.into());
                } else {
                    plan.needs_no_server = false;
                    plan.runs = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn plan_parse(&mut self, frame: Frame<'_>, parse: Parse<'_>, plan: &mut Plan, judge: &mut Judge<'_>) {
        let definition = frame.body.get(parse.name.len() + 1..).unwrap_or_default();
        if parse.name.is_empty() {
            let verdict = self.keep_unnamed(definition, parse.sql, judge);
            self.note_tied(parse.sql, &verdict, judge.catalog, plan);
            join_unless_transaction_control(plan, &verdict);
        } else {
            let statement = intern(definition, parse.sql, judge);
            self.note_tied(parse.sql, &statement.verdict.borrow().1, judge.catalog, plan);
            join_unless_transaction_control(plan, &current_verdict(&statement, judge));
            plan.rewrite = true;
            // Where the name is taken, or the client holds too many, `dispatch` says so in its place.
            if plan.closes.iter().any(|name| **name == *parse.name) {
                self.relay.replacements.push((parse.name.into(), statement));
            } else if !self.prepared.contains_key(parse.name) {
                self.enter_prepared(parse.name.into(), statement);
            }
        }
    }

    /// Enters the client's name for a statement, within the client's limits; it holds once the server has parsed it.
    pub(super) fn enter_prepared(&mut self, name: Box<[u8]>, statement: Rc<Statement>) {
        let bytes = self.prepared_bytes + statement.bytes();
        if self.prepared.len() < self.settings.prepared_max && bytes <= self.settings.prepared_bytes_max {
            self.prepared_bytes = bytes;
            self.relay.tentative.push(name.clone());
            self.prepared.insert(name, statement);
        }
    }

    /// Takes a new unnamed statement over, and gives its verdict. The usual driver prepares the same few texts again and
    /// again: the one that was there last needs no second look.
    fn keep_unnamed(&mut self, definition: &[u8], sql: &[u8], judge: &mut Judge<'_>) -> Rc<Verdict> {
        self.unnamed_number += 1;
        if self.unnamed.as_ref().is_some_and(|unnamed| *unnamed.definition == *definition)
            && let Some(verdict) = self.unnamed_verdict(judge)
        {
            return verdict;
        }
        let verdict = judge.classifier.classify(sql, judge.catalog);
        self.unnamed = Some(Unnamed {
            definition: definition.into(),
            generation: judge.catalog.generation(),
            verdict: Rc::clone(&verdict),
        });
        verdict
    }

    /// Judges a Bind by the names in it.
    pub(super) fn plan_bind(
        &mut self,
        portal: &[u8],
        statement: &[u8],
        plan: &mut Plan,
        judge: &mut Judge<'_>,
    ) {
        let verdict = self.plan_use(statement, plan, judge);
        self.relay.portals.retain(|(name, _)| **name != *portal);
        if self.relay.portals.len() < PORTALS_MAX {
            self.relay.portals.push((portal.into(), verdict));
        }
    }

    /// The verdict on a statement that Bind or Describe names.
    fn plan_use(&mut self, name: &[u8], plan: &mut Plan, judge: &mut Judge<'_>) -> Rc<Verdict> {
        let verdict = if name.is_empty() {
            plan.old_unnamed |= !self.relay.own_unnamed;
            self.unnamed_verdict(judge)
        } else {
            plan.rewrite = true;
            self.prepared.get(name).map(|statement| {
                let verdict = current_verdict(statement, judge);
                self.note_tied(statement.text(), &verdict, judge.catalog, plan);
                verdict
            })
        };
        if let (true, Some(verdict), Some(unnamed)) = (name.is_empty(), &verdict, &self.unnamed) {
            self.note_tied(text_in(&unnamed.definition), verdict, judge.catalog, plan);
        }
        // A name that does not exist is an error wherever it runs.
        let verdict = verdict.unwrap_or_else(|| Rc::new(nonexistent()));
        join_unless_transaction_control(plan, &verdict);
        verdict
    }

    fn unnamed_verdict(&mut self, judge: &mut Judge<'_>) -> Option<Rc<Verdict>> {
        let unnamed = self.unnamed.as_mut()?;
        if unnamed.generation != judge.catalog.generation() {
            unnamed.verdict = judge.classifier.classify(text_in(&unnamed.definition), judge.catalog);
            unnamed.generation = judge.catalog.generation();
        }
        Some(Rc::clone(&unnamed.verdict))
    }

    /// What a replica's refusal teaches: the batch's statements belong on the primary until the catalog changes.
    pub fn learn_primary(&mut self, batch: &[u8], judge: &mut Judge<'_>) {
        for frame in frames(batch) {
            match frame.tag {
                Tag::QUERY => {
                    if let Ok(query) = Query::decode(frame.body) {
                        judge.classifier.learn_primary(query.sql, judge.catalog);
                    }
                }
                Tag::PARSE => {
                    if let Ok(parse) = Parse::decode(frame.body) {
                        judge.classifier.learn_primary(parse.sql, judge.catalog);
                    }
                }
                Tag::BIND => {
                    if let Ok(bind) = Bind::decode(frame.body)
                        && let Some(statement) = self.prepared.get(bind.statement)
                    {
                        judge.classifier.learn_primary(statement.text(), judge.catalog);
                        statement.verdict.borrow_mut().0 = u64::MAX;
                    }
                }
                _ => {}
            }
        }
        if let Some(unnamed) = &mut self.unnamed {
            unnamed.generation = u64::MAX;
        }
    }

    /// The error for a statement name that the client has not prepared.
    pub(super) fn unknown_statement(name: &[u8]) -> ClientError {
        ClientError::UnknownStatement { name: String::from_utf8_lossy(name).into_owned() }
    }
}

/// BEGIN and COMMIT around other statements do not decide where these run: the transaction's own rule does.
fn join_unless_transaction_control(plan: &mut Plan, verdict: &Verdict) {
    match verdict.kind {
        Kind::Begin(_) | Kind::Commit { .. } | Kind::Rollback { .. } => {
            plan.needs_no_server = false;
            plan.foreign = true;
        }
        _ => plan.join(verdict),
    }
}

fn intern(definition: &[u8], sql: &[u8], judge: &mut Judge<'_>) -> Rc<Statement> {
    let (classifier, catalog) = (&mut *judge.classifier, judge.catalog);
    judge.statements.intern(definition, || (catalog.generation(), classifier.classify(sql, catalog)))
}

/// The verdict of a prepared statement, made anew where the catalog has changed since.
pub(super) fn current_verdict(statement: &Statement, judge: &mut Judge<'_>) -> Rc<Verdict> {
    let mut verdict = statement.verdict.borrow_mut();
    if verdict.0 != judge.catalog.generation() {
        *verdict = (judge.catalog.generation(), judge.classifier.classify(statement.text(), judge.catalog));
    }
    Rc::clone(&verdict.1)
}
