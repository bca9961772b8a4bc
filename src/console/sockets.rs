//! SHOW CLIENTS, SERVERS, SOCKETS: who is connected.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Inside;
use super::table::{Table, Value, row};
use crate::control::report::timestamp;
use crate::model::{Address, Snapshot};
use crate::proxy::handle::Doing;
use crate::proxy::report::{ClientReport, ServerReport, WorkerReport};

const COLUMNS: &str = "type user database replication state addr port:int4 local_addr local_port:int4 connect_time \
                       request_time wait:int4 wait_us:int4 close_needed:int4 ptr link remote_pid:int4 tls \
                       application_name prepared_statements:int4 id:int4";

/// What SOCKETS has besides. The proxy's buffers are not per socket: always 0.
const MORE: &str = " recv_pos:int4 pkt_pos:int4 pkt_remain:int4 send_pos:int4 send_remain:int4 pkt_avail:int4 \
                    send_avail:int4";

impl Inside {
    pub(super) fn servers(&self, reports: &[WorkerReport]) -> Table {
        let snapshot = Arc::clone(&self.context.board.snapshot());
        let mut table = Table::new(COLUMNS);
        for server in reports.iter().flat_map(|report| &report.servers) {
            table.push(of_server(server, &snapshot));
        }
        table
    }

    /// Clients and servers; where `active`, only what is at work.
    pub(super) fn sockets(&self, reports: &[WorkerReport], active: bool) -> Table {
        let mut table = Table::new(&format!("{COLUMNS}{MORE}"));
        let (clients, servers) = (clients(reports), self.servers(reports));
        let at_work = |row: &Vec<Value>| !active || row.get(4) != Some(&Value::from("idle"));
        for mut row in clients.rows.into_iter().chain(servers.rows).filter(at_work) {
            row.resize(table.columns.len(), Value::Number(0));
            table.push(row);
        }
        table
    }
}

/// SHOW CLIENTS.
pub(super) fn clients(reports: &[WorkerReport]) -> Table {
    let mut table = Table::new(COLUMNS);
    for client in reports.iter().flat_map(|report| &report.clients) {
        table.push(of_client(client));
    }
    table
}

fn of_client(client: &ClientReport) -> Vec<Value> {
    let waits = client.doing == Doing::Waiting;
    let waited = if waits { client.since } else { Duration::ZERO };
    let state = if waits { "waiting" } else { "active" };
    let (addr, port) = shown(client.peer);
    let (local_addr, local_port) = shown(client.local);
    row![
        "C",
        &*client.user,
        &*client.database,
        client.replication.as_deref().unwrap_or("none"),
        state,
        addr,
        port,
        local_addr,
        local_port,
        time(client.connected_at),
        ago(client.since),
        waited.as_secs(),
        waited.subsec_micros(),
        0_u32,
        pointer('c', client.pid),
        client.server.map_or_else(String::new, |(_, pid)| pointer('s', pid)),
        client.server.map_or(0, |(_, pid)| u32::try_from(pid).unwrap_or(0)),
        if client.tls { "TLS" } else { "" },
        client.application_name.as_str(),
        0_u32,
        u32::try_from(client.pid).unwrap_or(0),
    ]
}

fn of_server(server: &ServerReport, snapshot: &Snapshot) -> Vec<Value> {
    let address = snapshot.node(server.node).map(|node| &node.address);
    let (addr, port) = match address {
        Some(Address::Tcp { host, port }) => (host.clone(), u32::from(*port)),
        Some(Address::Unix { dir, port }) => (dir.display().to_string(), u32::from(*port)),
        None => (String::new(), 0),
    };
    row![
        "S",
        &*server.user,
        &*server.database,
        "none",
        if server.client.is_some() { "active" } else { "idle" },
        addr,
        port,
        "",
        0_u32,
        time(server.opened_at),
        time(server.used_at),
        0_u32,
        0_u32,
        u32::from(server.close_needed),
        pointer('s', server.pid),
        server.client.map_or_else(String::new, |pid| pointer('c', pid)),
        u32::try_from(server.pid).unwrap_or(0),
        if server.tls { "TLS" } else { "" },
        server.application_name.as_str(),
        0_u32,
        u32::try_from(server.pid).unwrap_or(0),
    ]
}

fn shown(address: Option<SocketAddr>) -> (String, u32) {
    address
        .map_or_else(|| ("unix".to_owned(), 0), |at| (at.ip().to_canonical().to_string(), at.port().into()))
}

/// As PgBouncer writes times: to the second, with the zone.
fn time(at: SystemTime) -> String {
    let text = timestamp(at);
    let (date, clock) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", clock.get(..8).unwrap_or(clock))
}

fn ago(since: Duration) -> String {
    let now = crate::clock::wall();
    time(now.checked_sub(since).unwrap_or(now))
}

/// What links clients and servers: PgBouncer prints addresses, of which only equality means anything.
fn pointer(kind: char, pid: i32) -> String {
    format!("{kind}{pid:x}")
}
