//! `primacy status`: nodes, roles, positions, lag, and what primacy is doing.

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use super::screen::{Cell, Screen, Tone, bytes, millis};
use super::watch::{self, WatchArgs};
use crate::admin::json::{NodeReport, QuorumReport, StatusReport};

/// Arguments of `primacy status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let screen = Screen::stdout();
    let mut before: Option<StatusReport> = None;
    watch::run(args.watch, &screen, || {
        if args.watch.json {
            let status: serde_json::Value = client.get("/api/v1/status")?;
            return Ok(format!("{status}\n"));
        }
        let status: StatusReport = client.get("/api/v1/status")?;
        let text = text(&status, before.as_ref(), &screen);
        before = Some(status);
        Ok(text)
    })
}

fn text(status: &StatusReport, before: Option<&StatusReport>, screen: &Screen) -> String {
    let cluster = &status.cluster;
    let mut text = headline(status, before, screen);
    if !cluster.reason.is_empty() {
        text.push_str(&screen.rows(&[vec![Cell::toned(&cluster.reason, Tone::Warn)]]));
    }
    let alarms = cluster.alarms.iter().map(|alarm| vec![Cell::toned("alarm:", Tone::Bad), Cell::new(alarm)]);
    text.push_str(&screen.rows(&alarms.collect::<Vec<_>>()));
    let header = [
        "NODE",
        "ADDRESS",
        "ROLE",
        "STANDING",
        "READS",
        "TIMELINE",
        "REPLAYED",
        "LAG",
        "BEHIND",
        "SYNC",
        "CONNECTIONS",
        "REQUESTS",
        "NOTE",
    ];
    let rows: Vec<Vec<Cell>> =
        cluster.nodes.iter().enumerate().map(|(place, node)| row(node, place, status)).collect();
    text.push_str(&screen.table(&header, &rows));
    text
}

/// What matters first, in two lines.
fn headline(status: &StatusReport, before: Option<&StatusReport>, screen: &Screen) -> String {
    let cluster = &status.cluster;
    let service = match cluster.service.as_str() {
        "open" => Tone::Good,
        "held" => Tone::Warn,
        _ => Tone::Bad,
    };
    let (failover, tone) = if cluster.automatic { ("automatic", Tone::Good) } else { ("paused", Tone::Warn) };
    format!(
        "service {}   state {} ({})   failover {}   {}\n\
         primary {}   epoch {}   timeline {}   clients {}   transactions {}   up {}\n",
        screen.toned(&cluster.service, service),
        cluster.state,
        cluster.rule,
        screen.toned(failover, tone),
        quorum(cluster.quorum.as_ref()),
        screen.toned(cluster.primary.as_deref().unwrap_or("none"), Tone::Strong),
        cluster.epoch,
        cluster.timeline,
        status.clients,
        rate(status, before),
        millis(status.uptime_ms),
    )
}

fn quorum(quorum: Option<&QuorumReport>) -> String {
    match quorum {
        None => "durability unknown yet".to_owned(),
        Some(quorum) if quorum.standbys == 0 => "durability async".to_owned(),
        Some(quorum) => format!(
            "durability quorum: {} of {} replicas, a failover needs {}",
            quorum.standbys,
            quorum.size.saturating_sub(1),
            quorum.recruits_needed
        ),
    }
}

fn rate(status: &StatusReport, before: Option<&StatusReport>) -> String {
    let elapsed = before.map(|before| (before, status.uptime_ms.saturating_sub(before.uptime_ms)));
    match elapsed {
        Some((before, ms)) if ms > 0 => {
            let per_second = status.transactions.saturating_sub(before.transactions) * 1_000 / ms;
            format!("{} ({per_second}/s)", status.transactions)
        }
        _ => status.transactions.to_string(),
    }
}

fn row(node: &NodeReport, place: usize, status: &StatusReport) -> Vec<Cell> {
    let traffic = status.traffic.get(place).cloned().unwrap_or_default();
    let primary = node.role == "primary";
    let role = match node.role.as_str() {
        "primary" => Cell::toned(&node.role, Tone::Strong),
        "replica" => Cell::new(&node.role),
        _ => Cell::toned(&node.role, Tone::Bad),
    };
    let standing = if node.standing == "member" { Tone::Plain } else { Tone::Warn };
    let reads = match &node.unreadable {
        None => Cell::toned("yes", Tone::Good),
        Some(why) => Cell::toned(why, Tone::Warn),
    };
    let dash = || Cell::number("-");
    // One that has never answered may be anywhere.
    let incomparable = primary || node.answered_ms_ago.is_none();
    vec![
        Cell::new(&node.name),
        Cell::new(&node.address),
        role,
        Cell::toned(&node.standing, standing),
        reads,
        Cell::number(node.timeline.to_string()),
        Cell::number(&node.replayed),
        if incomparable { dash() } else { Cell::number(bytes(node.lag_bytes)) },
        if incomparable { dash() } else { Cell::number(millis(node.lag_ms)) },
        Cell::new(node.sync_state.as_deref().unwrap_or("-")),
        Cell::number(format!("{}/{}", traffic.leased, traffic.connections)),
        Cell::number(traffic.requests.to_string()),
        Cell::toned(&node.error, Tone::Bad),
    ]
}
