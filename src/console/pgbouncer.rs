//! What PgBouncer shows: its names, its types, our values. Columns of what does not exist here are always 0 or NULL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Inside;
use super::averages::{ByDatabase, together};
use super::command::Show;
use super::table::{Table, Value, row};
use crate::model::{Address, NodeId};
use crate::proxy::counts::Counted;
use crate::proxy::handle::Doing;
use crate::proxy::report::{PoolReport, Want, WorkerReport};
use crate::proxy::settings::{PoolMode, Settings};
use crate::session::ClientError;

impl Inside {
    /// A table that is shown. `argument`: how many rows at most, where there may be many.
    pub(super) async fn show(&self, show: Show, argument: Option<&str>) -> Result<Table, ClientError> {
        Ok(match show {
            Show::Help => Table::default(),
            Show::Version => {
                one("version", concat!("primacy ", env!("CARGO_PKG_VERSION"), " (PgBouncer 1.26 console)"))
            }
            Show::Config => self.config().await,
            Show::State => self.state(),
            Show::Peers => Table::new("peer_id:int4 host port:int4 pool_size:int4"),
            Show::PeerPools => Table::new(
                "peer_id:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active_cancel:int4 \
                 sv_login:int4",
            ),
            Show::DnsHosts => Table::new("hostname ttl:int8 addrs"),
            Show::DnsZones => Table::new("zonename serial:int8 count:int4"),
            Show::Nodes | Show::Routes | Show::Reads | Show::Failovers | Show::Events => {
                self.show_own(show, argument).await?
            }
            _ => self.show_workers(show, &self.shared.report(Want::Sessions).await),
        })
    }

    /// What is made of the workers' reports.
    fn show_workers(&self, show: Show, reports: &[WorkerReport]) -> Table {
        match show {
            Show::Databases => self.databases(reports),
            Show::Pools => self.pools(reports),
            Show::Users => users(reports),
            Show::Lists => self.lists(reports),
            Show::Mem => memory(reports),
            Show::Clients => super::sockets::clients(reports),
            Show::Servers => self.servers(reports),
            Show::Sockets => self.sockets(reports, false),
            Show::ActiveSockets => self.sockets(reports, true),
            Show::Pins => self.pins(reports),
            Show::Holds => self.holds(reports),
            Show::Stats => self.stats(&together(reports)),
            Show::StatsTotals => totals(&together(reports)),
            Show::StatsAverages => self.averages(&together(reports)),
            _ => self.grand_totals(&together(reports)),
        }
    }

    async fn config(&self) -> Table {
        let mut table = Table::new("key value default changeable");
        for setting in self.host.settings().await {
            let changeable = if setting.changeable { "yes" } else { "no" };
            if setting.key == "limits.max_client_conn" {
                // Exporters ask for these two by PgBouncer's names. Server connections have no limit for a user.
                table.push(row!["max_client_conn", &*setting.value, &*setting.default, changeable]);
                table.push(row!["max_user_connections", "0", "0", "no"]);
            }
            table.push(row![setting.key, setting.value, setting.default, changeable]);
        }
        table
    }

    fn state(&self) -> Table {
        let mut table = Table::new("key value");
        let paused = self.shared.gates.all_paused();
        table.push(row!["active", if paused { "no" } else { "yes" }]);
        table.push(row!["paused", if paused { "yes" } else { "no" }]);
        table
    }

    fn databases(&self, reports: &[WorkerReport]) -> Table {
        let settings = self.shared.settings.load();
        let snapshot = Arc::clone(&self.context.board.snapshot());
        let (host, port) = match snapshot.primary.and_then(|id| snapshot.node(id)).map(|node| &node.address) {
            Some(Address::Tcp { host, port }) => (Value::from(host.clone()), u32::from(*port)),
            Some(Address::Unix { dir, port }) => (Value::from(dir.display().to_string()), u32::from(*port)),
            None => (Value::Null, 0),
        };
        let mut table = Table::new(
            "name host port:int4 database force_user pool_size:int4 min_pool_size:int4 reserve_pool_size:int4 \
             server_lifetime:int4 pool_mode load_balance_hosts max_connections:int4 current_connections:int4 \
             max_client_connections:int4 current_client_connections:int4 paused:int4 disabled:int4",
        );
        for name in self.names(reports) {
            let standing = self.shared.gates.standing(&name);
            let pools = reports.iter().flat_map(|report| &report.pools);
            let open: u32 = pools.filter(|pool| pool.database == name).map(|pool| pool.total).sum();
            table.push(row![
                &*name,
                host.clone(),
                port,
                &*name,
                Value::Null,
                settings.pool.size_max,
                settings.pool.idle_min,
                0_u32,
                settings.pool.lifetime.as_secs(),
                mode(&settings),
                Value::Null,
                0_u32,
                open,
                0_u32,
                clients_in(reports, &name),
                standing.paused,
                standing.disabled,
            ]);
        }
        table
    }

    /// Databases that were used since the start, and those of which something was said.
    pub(super) fn names(&self, reports: &[WorkerReport]) -> BTreeSet<Arc<str>> {
        let used = reports.iter().flat_map(|report| report.databases.keys().cloned());
        used.chain(self.shared.gates.named()).collect()
    }

    fn pools(&self, reports: &[WorkerReport]) -> Table {
        let settings = self.shared.settings.load();
        let mut table = Table::new(
            "database user cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 \
             sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 sv_used:int4 sv_tested:int4 \
             sv_login:int4 maxwait:int4 maxwait_us:int4 pool_mode load_balance_hosts",
        );
        for ((database, user), sums) in sums(reports) {
            // What is neither idle nor lent is being opened.
            let opening = sums.total.saturating_sub(sums.idle + sums.lent);
            table.push(row![
                &*database,
                &*user,
                sums.active,
                sums.waiting,
                0_u32,
                0_u32,
                sums.lent,
                0_u32,
                0_u32,
                sums.idle,
                0_u32,
                0_u32,
                opening,
                sums.longest.as_secs(),
                sums.longest.subsec_micros(),
                if sums.is_console { "statement" } else { mode(&settings) },
                Value::Null,
            ]);
        }
        table
    }

    fn lists(&self, reports: &[WorkerReport]) -> Table {
        let pools = sums(reports);
        let count = |pick: fn(&PoolReport) -> u32| -> u32 {
            reports.iter().flat_map(|report| &report.pools).map(pick).sum()
        };
        let users: BTreeSet<&Arc<str>> = pools.keys().map(|(_, user)| user).collect();
        let signed_in = self.shared.clients.load(Ordering::Relaxed);
        let max = self.shared.settings.load().limits.clients_max;
        let idle = count(|pool| pool.idle);
        let mut table = Table::new("list items:int4");
        for (list, items) in [
            ("databases", u32::try_from(self.names(reports).len()).unwrap_or(u32::MAX)),
            ("users", u32::try_from(users.len()).unwrap_or(u32::MAX)),
            ("peers", 0),
            ("pools", u32::try_from(pools.len()).unwrap_or(u32::MAX)),
            ("peer_pools", 0),
            ("free_clients", max.saturating_sub(signed_in)),
            ("used_clients", signed_in),
            ("login_clients", self.shared.connections.load(Ordering::Relaxed).saturating_sub(signed_in)),
            ("free_servers", idle),
            ("used_servers", count(|pool| pool.total).saturating_sub(idle)),
            ("dns_names", 0),
            ("dns_zones", 0),
            ("dns_queries", 0),
            ("dns_pending", 0),
        ] {
            table.push(row![list, items]);
        }
        table
    }

    fn stats(&self, all: &ByDatabase) -> Table {
        let total = STATS.map(|name| format!("total_{name}:numeric"));
        let mean = AVERAGES.map(|name| format!("avg_{name}:numeric"));
        let mut table = Table::new(&format!("database {} {}", total.join(" "), mean.join(" ")));
        for (name, counted) in all {
            let mut row = row![&**name];
            row.extend(totals_of(counted).map(Value::Number));
            row.extend(self.averages_of(name).map(Value::Number));
            table.push(row);
        }
        table
    }

    fn averages(&self, all: &ByDatabase) -> Table {
        let mut table = Table::new(&format!(
            "database {}",
            [
                "server_assignment_count",
                "xact_count",
                "query_count",
                "bytes_received",
                "bytes_sent",
                "xact_time",
                "query_time",
                "wait_time",
                "avg_client_parse_count",
                "avg_server_parse_count",
                "avg_bind_count",
                "avg_client_login_count",
            ]
            .map(|name| format!("{name}:numeric"))
            .join(" ")
        ));
        for name in all.keys() {
            let mut row = row![&**name];
            row.extend(self.averages_of(name).map(Value::Number));
            table.push(row);
        }
        table
    }

    /// A database's averages over the last period, in the order of `STATS`.
    fn averages_of(&self, database: &str) -> [u64; 12] {
        let (counted, length) = self.averages.of(database);
        averages(&counted, length)
    }

    fn grand_totals(&self, all: &ByDatabase) -> Table {
        let mut sum = Counted::default();
        let mut mean = [0; 12];
        for (name, counted) in all {
            sum.add(counted);
            for (total, one) in mean.iter_mut().zip(self.averages_of(name)) {
                *total += one;
            }
        }
        let mut table = Table::new("name value:numeric");
        for (prefix, values) in [("total", totals_of(&sum)), ("avg", mean)] {
            for (name, value) in GRAND.iter().zip(values) {
                table.push(row![format!("{prefix}_{name}"), value]);
            }
        }
        table
    }
}

/// The counts of SHOW STATS in their order; parse and bind counts are not kept: always 0.
const STATS: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "received",
    "sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
    "client_login_count",
];

const AVERAGES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "recv",
    "sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
    "client_login_count",
];

/// The same in SHOW TOTALS.
const GRAND: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

fn totals(all: &ByDatabase) -> Table {
    let columns = STATS.map(|name| match name {
        "received" | "sent" => format!("bytes_{name}:numeric"),
        name => format!("{name}:numeric"),
    });
    let mut table = Table::new(&format!("database {}", columns.join(" ")));
    for (name, counted) in all {
        let mut row = row![&**name];
        row.extend(totals_of(counted).map(Value::Number));
        table.push(row);
    }
    table
}

fn totals_of(counted: &Counted) -> [u64; 12] {
    let Counted { xacts, queries, assignments, received, sent, xact_us, query_us, wait_us, logins } =
        *counted;
    [assignments, xacts, queries, received, sent, xact_us, query_us, wait_us, 0, 0, 0, logins]
}

/// Counts per second; times per transaction, per statement and, waiting, per second.
fn averages(counted: &Counted, length: Duration) -> [u64; 12] {
    let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = |count: u64| if length.is_zero() { 0 } else { count.saturating_mul(1_000) / ms };
    let per = |sum: u64, count: u64| sum.checked_div(count).unwrap_or(0);
    let [
        assignments,
        xacts,
        queries,
        received,
        sent,
        xact_us,
        query_us,
        wait_us,
        parses,
        servers,
        binds,
        logins,
    ] = totals_of(counted);
    [
        rate(assignments),
        rate(xacts),
        rate(queries),
        rate(received),
        rate(sent),
        per(xact_us, xacts),
        per(query_us, queries),
        rate(wait_us),
        rate(parses),
        rate(servers),
        rate(binds),
        rate(logins),
    ]
}

/// One (database, user) over all nodes and workers.
#[derive(Debug, Default)]
struct Sums {
    active: u32,
    waiting: u32,
    total: u32,
    idle: u32,
    lent: u32,
    longest: Duration,
    is_console: bool,
}

fn sums(reports: &[WorkerReport]) -> BTreeMap<(Arc<str>, Arc<str>), Sums> {
    let mut all: BTreeMap<(Arc<str>, Arc<str>), Sums> = BTreeMap::new();
    let mut at = |database: &Arc<str>, user: &Arc<str>, change: &mut dyn FnMut(&mut Sums)| {
        change(all.entry((Arc::clone(database), Arc::clone(user))).or_default());
    };
    for report in reports {
        for pool in &report.pools {
            at(&pool.database, &pool.user, &mut |sums| {
                sums.total += pool.total;
                sums.idle += pool.idle;
            });
        }
        for client in &report.clients {
            at(&client.database, &client.user, &mut |sums| {
                sums.is_console = client.is_console;
                sums.lent += u32::from(client.server.is_some() && client.replication.is_none());
                if client.doing == Doing::Waiting {
                    sums.waiting += 1;
                    sums.longest = sums.longest.max(client.since);
                } else {
                    sums.active += 1;
                }
            });
        }
    }
    all
}

fn users(reports: &[WorkerReport]) -> Table {
    let mut by_user: BTreeMap<Arc<str>, (u32, u32)> = BTreeMap::new();
    for ((_, user), sums) in sums(reports) {
        let counts = by_user.entry(user).or_default();
        counts.0 += sums.total;
        counts.1 += sums.active + sums.waiting;
    }
    let mut table = Table::new(
        "name pool_size reserve_pool_size pool_mode max_user_connections:int4 current_connections:int4 \
         max_user_client_connections:int4 current_client_connections:int4",
    );
    for (user, (servers, clients)) in by_user {
        table.push(row![&*user, "", "", Value::Null, 0_u32, servers, 0_u32, clients]);
    }
    table
}

/// What is kept in memory and counted.
fn memory(reports: &[WorkerReport]) -> Table {
    let (mut entries, mut bytes) = (0, 0);
    for report in reports {
        entries += report.verdicts.entries;
        bytes += report.verdicts.bytes;
    }
    let mut table = Table::new("name size:int4 used:int4 free:int4 memtotal:int4");
    table.push(row!["verdict_cache", bytes.checked_div(entries).unwrap_or(0), entries, 0_u32, bytes]);
    table
}

fn clients_in(reports: &[WorkerReport], database: &str) -> usize {
    reports.iter().flat_map(|report| &report.clients).filter(|client| *client.database == *database).count()
}

fn mode(settings: &Settings) -> &'static str {
    match settings.pool_mode {
        PoolMode::Transaction => "transaction",
        PoolMode::Session => "session",
    }
}

fn one(column: &str, value: &str) -> Table {
    let mut table = Table::new(column);
    table.push(row![value]);
    table
}

/// A node's name, for the tables that show one.
pub(super) fn node_name(inside: &Inside, node: NodeId) -> String {
    inside.context.board.snapshot().node(node).map_or_else(String::new, |node| node.name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_per_second_and_times_per_transaction() {
        let counted =
            Counted { xacts: 120, queries: 240, xact_us: 1_200, query_us: 480, ..Counted::default() };
        let mean = averages(&counted, Duration::from_secs(60));
        assert_eq!((mean[1], mean[2], mean[5], mean[6]), (2, 4, 10, 2));
        assert_eq!(averages(&Counted::default(), Duration::ZERO), [0; 12]);
    }
}
