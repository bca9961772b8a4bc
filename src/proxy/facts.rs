//! The driver and the catalog facts. A read that cannot be proven while they are loaded anew waits for them as long as it
//! would wait for a replica to catch up, and is judged again. What a replica refuses is learned until the facts change.

use std::future::poll_fn;
use std::rc::Rc;

use super::acquire::Refusal;
use super::driver::Driver;
use crate::route::{Request, Transaction};
use crate::session::{Judge, Plan, Step};
use crate::sql::Reason;

impl Driver {
    /// Whether the request would go to the primary for want of facts that are likely to be there soon.
    #[inline]
    pub(super) fn may_wait_for_facts(&self, request: &Request) -> bool {
        request.verdict_reason == Reason::NoCatalog
            && request.transaction == Transaction::None
            && request.hint.is_none()
            && self.routing.own.splitting
            && !self.routing.own.causal_wait.is_zero()
            && self.parked.is_none()
            && self.batch_end().is_some()
            && self.machine.may_judge_again()
            && self.database.facts.are_coming()
    }

    /// What ended the batch that waits for its connection.
    fn batch_end(&self) -> Option<crate::session::batch::End> {
        self.plan.as_ref().map(|plan: &Plan| plan.end)
    }

    /// Waits for the facts, and judges the kept batch again where they have come.
    pub(super) async fn wait_for_facts(&mut self, request: &mut Request) -> Result<(), Refusal> {
        let Some(end) = self.batch_end() else { return Ok(()) };
        let (database, limit) = (Rc::clone(&self.database), self.routing.own.causal_wait);
        let there = tokio::select! {
            there = database.facts.await_loaded(limit) => there,
            gone = poll_fn(|cx| self.poll_gone(cx)) => return Err(gone),
        };
        if !there {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let judged = self.judge(&batch, end);
        self.batch = batch;
        if let Ok(plan) = judged {
            if let Step::Route(again) = self.machine.step(&plan, false) {
                *request = again;
                self.follow_settings(request);
            }
            self.plan = Some(plan);
        }
        Ok(())
    }

    /// A replica cannot do what the kept batch does: its like go to the primary, until the facts change.
    pub(super) fn learn(&mut self) {
        let worker = Rc::clone(&self.worker);
        let mut classifier = worker.classifier.borrow_mut();
        let catalog = self.database.facts.load();
        let mut statements = self.database.statements.borrow_mut();
        let mut judge = Judge { classifier: &mut classifier, catalog: &catalog, statements: &mut statements };
        self.machine.learn_primary(&self.batch, &mut judge);
    }
}
