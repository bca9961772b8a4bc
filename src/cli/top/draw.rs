//! What was heard -> the screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table};

use super::Wish;
use super::heard::Heard;
use crate::admin::json::{EventReport, NodeReport, StatementReport};
use crate::cli::screen::{Tone, bytes, millis};

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, heard: &Heard, wish: Wish) {
    let nodes = u16::try_from(heard.status.cluster.nodes.len()).unwrap_or(8).min(8);
    let alarms = u16::try_from(heard.status.cluster.alarms.len()).unwrap_or(3).min(3);
    let areas = Layout::vertical([
        Constraint::Length(2 + alarms),
        Constraint::Length(nodes + 3),
        Constraint::Length(8),
        Constraint::Min(5),
        Constraint::Length(8),
        Constraint::Length(1),
    ]);
    let [head, node_area, middle, statement_area, event_area, foot] = areas.areas(frame.area());
    frame.render_widget(headline(heard), head);
    frame.render_widget(nodes_table(heard), node_area);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]).spacing(2).areas(middle);
    frame.render_widget(pools_table(heard), left);
    frame.render_widget(reasons_table(heard), right);
    if wish.reads {
        frame.render_widget(reads_table(heard), statement_area);
    } else {
        frame.render_widget(statements_table(heard, wish), statement_area);
    }
    frame.render_widget(events_list(heard, event_area), event_area);
    frame.render_widget(keys(wish), foot);
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Warn => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red),
        Tone::Dim => DIM,
        Tone::Strong => STRONG,
    }
}

fn headline(heard: &Heard) -> Paragraph<'static> {
    let (status, cluster) = (&heard.status, &heard.status.cluster);
    let service = match cluster.service.as_str() {
        "open" => Tone::Good,
        "held" => Tone::Warn,
        _ => Tone::Bad,
    };
    let last = heard.series.samples.last();
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let first = match &heard.silence {
        Some(why) => Line::styled(why.clone(), style(Tone::Bad)),
        None => Line::from(vec![
            Span::styled("primacy ", STRONG),
            Span::styled(cluster.service.clone(), style(service)),
            Span::raw(format!("  {} ({})  primary ", cluster.state, cluster.rule)),
            Span::styled(cluster.primary.clone().unwrap_or_else(|| "none".into()), STRONG),
            Span::raw(format!("  epoch {}  timeline {}", cluster.epoch, cluster.timeline)),
            if cluster.automatic {
                Span::raw("")
            } else {
                Span::styled("  failover paused", style(Tone::Warn))
            },
        ]),
    };
    let second = Line::from(format!(
        "{} clients  {:.0} transactions/s  p50 {}  p99 {}  holds {}  pool waits {}  up {}",
        status.clients,
        heard.rate(|sample| sample.transactions),
        ms(last.and_then(|sample| sample.p50_ms)),
        ms(last.and_then(|sample| sample.p99_ms)),
        last.map_or(0, |sample| sample.holds),
        last.map_or(0, |sample| sample.pool_waits),
        millis(status.uptime_ms),
    ));
    let alarms = cluster.alarms.iter().take(3).map(|alarm| Line::styled(alarm.clone(), style(Tone::Bad)));
    Paragraph::new([first, second].into_iter().chain(alarms).collect::<Vec<_>>())
}

fn titled(title: impl Into<std::borrow::Cow<'static, str>>) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(Span::styled(title, STRONG)).border_style(DIM)
}

fn header(names: &'static [&'static str]) -> Row<'static> {
    Row::new(names.iter().copied()).style(DIM)
}

fn nodes_table(heard: &Heard) -> Table<'static> {
    let rows =
        heard.status.cluster.nodes.iter().enumerate().map(|(place, node)| node_row(heard, place, node));
    let widths = [
        Constraint::Length(14),
        Constraint::Length(9),
        Constraint::Length(14),
        Constraint::Length(14),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Fill(1),
    ];
    Table::new(rows, widths)
        .header(header(&["NODE", "ROLE", "READS", "REPLAYED", "LAG", "CONNECTIONS", "REQUESTS/S", "NOTE"]))
        .block(titled(" Nodes "))
}

fn node_row(heard: &Heard, place: usize, node: &NodeReport) -> Row<'static> {
    let traffic = heard.status.traffic.get(place).cloned().unwrap_or_default();
    let rate = heard.rate(|sample| sample.nodes.get(place).map_or(0, |node| node.requests));
    let tone = match (node.role.as_str(), node.readable) {
        ("unknown", _) => Tone::Bad,
        ("primary", true) => Tone::Strong,
        (_, true) => Tone::Good,
        (_, false) => Tone::Warn,
    };
    let reads = node.unreadable.clone().unwrap_or_else(|| "yes".to_owned());
    let lag = if node.role == "primary" { "-".to_owned() } else { bytes(node.lag_bytes) };
    let standing = if node.standing == "member" { "" } else { node.standing.as_str() };
    let note = [node.sync_state.as_deref().unwrap_or_default(), standing, node.error.as_str()];
    let note: Vec<&str> = note.into_iter().filter(|text| !text.is_empty()).collect();
    Row::new(vec![
        node.name.clone(),
        node.role.clone(),
        reads,
        node.replayed.clone(),
        lag,
        format!("{}/{}", traffic.leased, traffic.connections),
        format!("{rate:.0}"),
        note.join(" · "),
    ])
    .style(style(tone))
}

fn pools_table(heard: &Heard) -> Table<'static> {
    let rows = heard.sessions.pools.iter().filter(|pool| pool.connections + pool.waiting > 0).map(|pool| {
        let tone = if pool.waiting > 0 { Tone::Warn } else { Tone::Plain };
        Row::new(vec![
            pool.database.clone(),
            pool.user.clone(),
            pool.node.clone(),
            pool.connections.to_string(),
            pool.idle.to_string(),
            pool.waiting.to_string(),
        ])
        .style(style(tone))
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Length(7),
    ];
    Table::new(rows, widths)
        .header(header(&["DATABASE", "ROLE", "NODE", "OPEN", "IDLE", "WAITING"]))
        .block(titled(" Pools "))
}

fn reasons_table(heard: &Heard) -> Table<'static> {
    let rows = heard
        .reasons()
        .into_iter()
        .map(|(reason, rate)| Row::new(vec![reason, format!("{rate:.0}")]))
        .collect::<Vec<_>>();
    Table::new(rows, [Constraint::Fill(1), Constraint::Length(8)])
        .header(header(&["REASON", "PER S"]))
        .block(titled(" Routes "))
}

fn statements_table(heard: &Heard, wish: Wish) -> Table<'static> {
    let mut statements: Vec<&StatementReport> = heard.routes.statements.iter().collect();
    if wish.slowest_first {
        statements.sort_by(|one, other| other.total_ms.total_cmp(&one.total_ms));
    }
    let rows = statements.into_iter().map(|one| {
        let why = if one.replicas >= one.primary { &one.why_replica } else { &one.why_primary };
        Row::new(vec![
            one.count.to_string(),
            one.primary.to_string(),
            one.replicas.to_string(),
            format!("{:.2}", one.mean_ms),
            format!("{:.0}", one.total_ms),
            why.clone(),
            one.statement.clone(),
        ])
    });
    let widths = [
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(20),
        Constraint::Fill(1),
    ];
    let title = match (&heard.untold, wish.slowest_first) {
        (Some(why), _) => format!(" Statements: {why} "),
        (None, true) => " Statements by total time ".to_owned(),
        (None, false) => " Statements by count ".to_owned(),
    };
    Table::new(rows, widths)
        .header(header(&["COUNT", "PRIMARY", "REPLICAS", "MEAN MS", "TOTAL MS", "WHY", "STATEMENT"]))
        .block(titled(title))
}

fn reads_table(heard: &Heard) -> Table<'static> {
    let rows = heard.routes.reads.iter().map(|one| {
        Row::new(vec![one.count.to_string(), one.reason.clone(), one.statement.clone(), one.change.clone()])
    });
    let widths = [Constraint::Length(9), Constraint::Length(20), Constraint::Fill(1), Constraint::Fill(1)];
    Table::new(rows, widths)
        .header(header(&["COUNT", "WHY", "STATEMENT", "WHAT WOULD CHANGE IT"]))
        .block(titled(" Reads that stayed on the primary "))
}

fn events_list(heard: &Heard, area: Rect) -> Paragraph<'static> {
    let room = usize::from(area.height.saturating_sub(1));
    let line = |event: &EventReport| {
        let clock = event.at.get(11..19).unwrap_or_default().to_owned();
        let node = event.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
        Line::from(vec![
            Span::styled(format!("{clock} "), DIM),
            Span::styled(format!("{} ", event.kind), style(crate::cli::events::tone(&event.kind))),
            Span::raw(format!("{node}{}", event.text)),
        ])
    };
    let lines: Vec<Line<'_>> = heard.events.iter().rev().take(room).map(line).collect();
    Paragraph::new(lines).block(titled(" Events "))
}

fn keys(wish: Wish) -> Line<'static> {
    let key = |key: &'static str, what: &'static str| {
        [Span::styled(key, STRONG), Span::styled(format!(" {what}   "), DIM)]
    };
    let by = if wish.slowest_first { "by count" } else { "by time" };
    let list = if wish.reads { "all statements" } else { "reads that stayed" };
    let freeze = if wish.frozen { "go on" } else { "freeze" };
    [key("q", "quit"), key("s", by), key("r", list), key("space", freeze)].into_iter().flatten().collect()
}
