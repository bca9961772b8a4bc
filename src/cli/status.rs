//! `primacy status`: nodes, roles, positions, lag, and what primacy is doing.

use std::time::Duration;

use super::client::{AdminArgs, Client};
use super::failure::Failure;
use super::screen::{Cell, Screen, Tone, bytes, millis};
use crate::admin::json::{NodeReport, QuorumReport, StatusReport};

/// Between two looks with `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `primacy status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON; with --watch one object per line.
    #[arg(long)]
    json: bool,
    /// Again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let screen = Screen::stdout();
    if !args.watch {
        let text = look(&client, &screen, args.json, None)?.0;
        return Ok(screen.text(&text)?);
    }
    let mut before = None;
    loop {
        let (text, status) = match look(&client, &screen, args.json, before.as_ref()) {
            Ok((text, status)) => (text, status),
            // The proxy may be restarting: whoever watches wants to see it come back.
            Err(failure @ Failure::NoAnswer { .. }) => (format!("{failure}\n"), None),
            Err(failure) => return Err(failure),
        };
        let clear = if screen.is_terminal() && !args.json { "\u{1b}[H\u{1b}[J" } else { "" };
        screen.text(&format!("{clear}{text}"))?;
        before = status;
        #[expect(clippy::disallowed_methods, reason = "a person watches at this pace")]
        std::thread::sleep(WATCH_EVERY);
    }
}

fn look(
    client: &Client,
    screen: &Screen,
    json: bool,
    before: Option<&StatusReport>,
) -> Result<(String, Option<StatusReport>), Failure> {
    if json {
        let status: serde_json::Value = client.get("/api/v1/status")?;
        return Ok((format!("{status}\n"), None));
    }
    let status: StatusReport = client.get("/api/v1/status")?;
    Ok((text(&status, before, screen), Some(status)))
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
    vec![
        Cell::new(&node.name),
        Cell::new(&node.address),
        role,
        Cell::toned(&node.standing, standing),
        reads,
        Cell::number(node.timeline.to_string()),
        Cell::number(&node.replayed),
        if primary { dash() } else { Cell::number(bytes(node.lag_bytes)) },
        if primary { dash() } else { Cell::number(millis(node.lag_ms)) },
        Cell::new(node.sync_state.as_deref().unwrap_or("-")),
        Cell::number(format!("{}/{}", traffic.leased, traffic.connections)),
        Cell::number(traffic.requests.to_string()),
        Cell::toned(&node.error, Tone::Bad),
    ]
}
