//! Commands that change something. PAUSE, KILL and WAIT_CLOSE return when what they ask for is so, as in PgBouncer.

use std::sync::Arc;
use std::time::Duration;

use super::Inside;
use super::command::Command;
use super::ours::refused;
use crate::observe::EventKind;
use crate::proxy::gate::Victim;
use crate::proxy::report::{Want, WorkerReport};
use crate::proxy::worker::Command as Order;
use crate::session::{ClientError, CommandFault};

/// How often the workers are asked whether it is so.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

impl Inside {
    /// Who reads the log or the events later wants to know who was at work.
    pub(super) fn note(&self, user: &str, text: &str) {
        let text: String = text.trim().chars().take(120).collect();
        self.context.events.record(EventKind::Command, None, &format!("{user} on the console: {text}"));
    }

    /// Carries a command out; the tag of its answer.
    pub(super) async fn act(&self, command: Command) -> Result<&'static str, ClientError> {
        match command {
            Command::Pause(database) => self.pause(database.as_deref()).await,
            Command::Resume(database) => self.resume(database.as_deref()).await,
            Command::Disable(database) => {
                self.shared.gates.set_disabled(&database, true);
                Ok("DISABLE")
            }
            Command::Enable(database) => {
                self.shared.gates.set_disabled(&database, false);
                Ok("ENABLE")
            }
            Command::Reconnect(database) => {
                self.known(database.as_deref()).await?;
                let database: Option<Arc<str>> = database.map(Arc::from);
                self.shared.tell(|| Order::Reconnect(database.clone())).await;
                Ok("RECONNECT")
            }
            Command::Kill(database) => self.kill(database.as_deref()).await,
            Command::KillClient(id) => self.kill_client(&id).await,
            Command::WaitClose(database) => {
                self.known(database.as_deref()).await?;
                self.until(|reports| !awaits_close(reports, database.as_deref())).await;
                Ok("WAIT_CLOSE")
            }
            Command::Reload => {
                let report = self.context.operator.reload().await;
                report.map_err(|error| refused(&error.to_string()))?;
                Ok("RELOAD")
            }
            Command::Set(key, value) => {
                self.host.set(key, value).await.map_err(|why| ClientError::Command {
                    message: why,
                    fault: CommandFault::Unknown,
                    hint: "SHOW CONFIG lists what can be changed.",
                })?;
                Ok("SET")
            }
            Command::Shutdown(how) => {
                self.host.shut_down(how);
                Ok("SHUTDOWN")
            }
            _ => Err(ClientError::Internal { what: "a command that acts on nothing" }),
        }
    }

    async fn pause(&self, database: Option<&str>) -> Result<&'static str, ClientError> {
        self.known(database).await?;
        if !self.shared.gates.set_paused(database, true) {
            return Err(refused("already paused"));
        }
        self.shared.tell(|| Order::Gates).await;
        self.until(|reports| lent(reports, database) == 0).await;
        // What came back since then is closed too.
        self.shared.tell(|| Order::Gates).await;
        Ok("PAUSE")
    }

    async fn resume(&self, database: Option<&str>) -> Result<&'static str, ClientError> {
        if !self.shared.gates.set_paused(database, false) {
            return Err(refused("pooler is not paused"));
        }
        self.shared.tell(|| Order::Gates).await;
        Ok("RESUME")
    }

    /// Ends the sessions of a database, which is paused with that.
    async fn kill(&self, database: Option<&str>) -> Result<&'static str, ClientError> {
        self.known(database).await?;
        self.shared.gates.set_paused(database, true);
        self.shared.tell(|| Order::Gates).await;
        let victim = database.map_or(Victim::Everybody, |name| Victim::Database(Arc::from(name)));
        self.shared.tell(|| Order::Kill(victim.clone())).await;
        self.until(|reports| lent(reports, database) == 0).await;
        self.shared.tell(|| Order::Gates).await;
        Ok("KILL")
    }

    async fn kill_client(&self, id: &str) -> Result<&'static str, ClientError> {
        let reports = self.shared.report(Want::Sessions).await;
        let mut clients = reports.iter().flat_map(|report| &report.clients);
        let Some(client) = clients.find(|client| client.pid.to_string() == id) else {
            return Err(ClientError::Command {
                message: format!("client not found: {id}"),
                fault: CommandFault::Unknown,
                hint: "SHOW CLIENTS has it in the column id.",
            });
        };
        let pid = client.pid;
        self.shared.tell(|| Order::Kill(Victim::Session(pid))).await;
        Ok("KILL_CLIENT")
    }

    /// Whether a database is one that was used, or of which something was said.
    async fn known(&self, database: Option<&str>) -> Result<(), ClientError> {
        let Some(database) = database else { return Ok(()) };
        let names = self.names(&self.shared.report(Want::Sessions).await);
        if names.iter().any(|name| **name == *database) {
            return Ok(());
        }
        Err(ClientError::Command {
            message: format!("no such database: {database}"),
            fault: CommandFault::Unknown,
            hint: "SHOW DATABASES lists those that were used since the start.",
        })
    }

    /// Waits until the workers say so. Whoever asked may give up by closing the connection.
    async fn until(&self, is_so: impl Fn(&[WorkerReport]) -> bool) {
        while !is_so(&self.shared.report(Want::Sessions).await) {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

/// Server connections that sessions of a database (or any) hold.
fn lent(reports: &[WorkerReport], database: Option<&str>) -> usize {
    let clients = reports.iter().flat_map(|report| &report.clients);
    clients
        .filter(|client| client.server.is_some() && database.is_none_or(|name| *client.database == *name))
        .count()
}

/// Whether server connections of a database (or any) are still to be closed.
fn awaits_close(reports: &[WorkerReport], database: Option<&str>) -> bool {
    let mut servers = reports.iter().flat_map(|report| &report.servers);
    servers.any(|server| server.close_needed && database.is_none_or(|name| *server.database == *name))
}
