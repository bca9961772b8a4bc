//! What PgBouncer has not: nodes, routes, reads that stayed, pins, holds, failovers, events, EXPLAIN ROUTE.

use super::Inside;
use super::command::Show;
use super::pgbouncer::node_name;
use super::table::{Table, Value, row};
use crate::admin::json::{ChangeReport, ExplainRequest};
use crate::admin::{report, routes};
use crate::proxy::handle::Doing;
use crate::proxy::report::{Want, WorkerReport};
use crate::session::{ClientError, CommandFault};

/// Rows where nobody says how many.
const ROWS_DEFAULT: usize = 100;

impl Inside {
    pub(super) async fn show_own(&self, show: Show, argument: Option<&str>) -> Result<Table, ClientError> {
        let top = match argument {
            None => ROWS_DEFAULT,
            Some(text) => text.parse().map_err(|_not_a_number| ClientError::Command {
                message: format!("not a number: {text:?}"),
                fault: CommandFault::Syntax,
                hint: "How many rows at most.",
            })?,
        };
        match show {
            Show::Nodes => self.nodes().await,
            Show::Routes => Ok(self.routes(top).await),
            Show::Reads => Ok(self.reads(top).await),
            Show::Failovers => Ok(self.failovers(top)),
            _ => Ok(self.events(top)),
        }
    }

    async fn nodes(&self) -> Result<Table, ClientError> {
        let status = self.context.operator.status().await.map_err(|error| refused(&error.to_string()))?;
        let snapshot = std::sync::Arc::clone(&self.context.board.snapshot());
        let mut table = Table::new(
            "name role address standing readable unreadable timeline:int8 received replayed lag_bytes:int8 \
             lag_ms:int8 streams_from sync_state connections:int8 leased:int8 requests:int8 zone weight:int8",
        );
        for node in status.nodes {
            let id = snapshot.nodes.iter().find(|view| *view.name == *node.name).map(|view| view.id);
            let counts = id.map(|id| self.context.metrics.node(id)).unwrap_or_default();
            table.push(row![
                node.name,
                node.role,
                node.address,
                node.standing,
                if node.readable { "yes" } else { "no" },
                node.unreadable,
                node.timeline,
                node.received,
                node.replayed,
                node.lag_bytes,
                node.lag_ms,
                node.streams_from,
                node.sync_state,
                counts.open,
                counts.leased,
                counts.requests,
                node.zone,
                node.weight,
            ]);
        }
        Ok(table)
    }

    async fn routes(&self, top: usize) -> Table {
        let report = routes::report(&self.shared.report(Want::Statements).await, top);
        let mut table = Table::new(
            "statement count:int8 primary:int8 replicas:int8 why_primary why_replica verdict detail mean_ms slowest_ms",
        );
        for one in report.statements {
            table.push(row![
                one.statement,
                one.count,
                one.primary,
                one.replicas,
                one.why_primary,
                one.why_replica,
                one.reason,
                one.detail,
                format!("{:.3}", one.mean_ms),
                format!("{:.3}", one.slowest_ms),
            ]);
        }
        table
    }

    async fn reads(&self, top: usize) -> Table {
        let report = routes::report(&self.shared.report(Want::Statements).await, top);
        let mut table = Table::new("statement count:int8 reason detail what_would_change_it");
        for read in report.reads {
            table.push(row![read.statement, read.count, read.reason, read.detail, read.change]);
        }
        table
    }

    pub(super) fn pins(&self, reports: &[WorkerReport]) -> Table {
        let mut table =
            Table::new("client_id:int4 user database application_name node server_pid:int4 cause");
        for client in
            reports.iter().flat_map(|report| &report.clients).filter(|client| !client.pins.is_empty())
        {
            table.push(row![
                u32::try_from(client.pid).unwrap_or(0),
                &*client.user,
                &*client.database,
                client.application_name.as_str(),
                client.server.map(|(node, _)| node_name(self, node)),
                client.server.map(|(_, pid)| u32::try_from(pid).unwrap_or(0)),
                client.pins.join(", "),
            ]);
        }
        table
    }

    pub(super) fn holds(&self, reports: &[WorkerReport]) -> Table {
        let service = self.context.board.snapshot().service;
        let mut table = Table::new("client_id:int4 user database application_name waits_for waited_ms:int8");
        for client in
            reports.iter().flat_map(|report| &report.clients).filter(|client| client.doing == Doing::Waiting)
        {
            let paused = self.shared.gates.is_paused(&client.database);
            let waits_for = match service {
                _ if paused => "RESUME",
                crate::model::Service::Open => "a server connection or a replica",
                _ => "a primary",
            };
            table.push(row![
                u32::try_from(client.pid).unwrap_or(0),
                &*client.user,
                &*client.database,
                client.application_name.as_str(),
                waits_for,
                u64::try_from(client.since.as_millis()).unwrap_or(u64::MAX),
            ]);
        }
        table
    }

    fn failovers(&self, top: usize) -> Table {
        let mut table =
            Table::new("at epoch:int8 cause rule from to timeline:int8 took_ms steps lost abandoned");
        for change in self.context.operator.history().iter().rev().take(top) {
            table.push(row![
                change.at.as_str(),
                change.epoch,
                change.cause.as_str(),
                change.rule.as_str(),
                change.from.clone(),
                change.to.clone(),
                change.timeline,
                format!("{:.1}", report::took_ms(change)),
                steps(change),
                change
                    .lost
                    .as_ref()
                    .map(|lost| format!("after {} on timeline {}", lost.after, lost.timeline)),
                change.abandoned.as_str(),
            ]);
        }
        table
    }

    fn events(&self, top: usize) -> Table {
        let mut table = Table::new("number:int8 at kind node text");
        for event in self.context.events.after(0).iter().rev().take(top).map(report::event) {
            table.push(row![event.number, event.at, event.kind, event.node, event.text]);
        }
        table
    }

    pub(super) async fn explain(&self, sql: String) -> Result<Table, ClientError> {
        let request = ExplainRequest { sql, database: None };
        let report =
            self.context.operator.explain(request).await.map_err(|error| refused(&error.to_string()))?;
        let mut table = Table::new("key value");
        for (key, value) in [
            ("node", Value::from(report.node)),
            ("role", Value::from(report.role)),
            ("route", Value::from(report.route)),
            ("place", Value::from(report.place)),
            ("reason", Value::from(report.reason)),
            ("detail", Value::from(report.detail)),
            ("hint", Value::from(report.hint)),
            ("statements", Value::from(report.statements.to_string())),
            ("effects", Value::from(report.effects.join("; "))),
            ("optimistic", Value::from(report.optimistic)),
        ] {
            table.push(vec![Value::from(key), value]);
        }
        Ok(table)
    }
}

/// Each step with the time since the one before.
fn steps(change: &ChangeReport) -> String {
    let mut before = 0.0;
    let step = |step: &crate::admin::json::StepReport| {
        let took = step.after_ms - std::mem::replace(&mut before, step.after_ms);
        format!("{} +{took:.1}", step.step)
    };
    change.steps.iter().map(step).collect::<Vec<_>>().join(", ")
}

pub(super) fn refused(why: &str) -> ClientError {
    ClientError::Command { message: why.to_owned(), fault: CommandFault::NotNow, hint: "" }
}
