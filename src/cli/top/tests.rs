//! The screen, drawn into memory.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::admin::json::{
    ClusterReport, EventReport, NodeReport, NodeSample, PoolSummary, ReadReport, RoutesReport, Sample,
    SeriesReport, SessionsReport, StatementReport, StatusReport, TrafficReport,
};

fn heard() -> Heard {
    let node = |name: &str, role: &str, unreadable: Option<&str>| NodeReport {
        name: name.into(),
        role: role.into(),
        standing: "member".into(),
        readable: unreadable.is_none(),
        unreadable: unreadable.map(str::to_owned),
        lag_bytes: 2048,
        ..NodeReport::default()
    };
    let sample = |transactions, requests| Sample {
        transactions,
        p50_ms: Some(0.4),
        p99_ms: Some(3.25),
        nodes: vec![NodeSample { requests, ..NodeSample::default() }, NodeSample::default()],
        reasons: [("read".to_owned(), requests), ("write".to_owned(), 1)].into(),
        ..Sample::default()
    };
    Heard {
        status: StatusReport {
            clients: 12,
            traffic: vec![TrafficReport { connections: 5, leased: 2, ..TrafficReport::default() }],
            cluster: ClusterReport {
                service: "open".into(),
                primary: Some("n0".into()),
                automatic: false,
                alarms: vec!["two nodes claim to be primary".into()],
                nodes: vec![node("n0", "primary", None), node("n1", "replica", Some("lagging"))],
                ..ClusterReport::default()
            },
            ..StatusReport::default()
        },
        routes: routes(),
        sessions: SessionsReport {
            pools: vec![PoolSummary {
                database: "shop".into(),
                connections: 5,
                waiting: 3,
                ..PoolSummary::default()
            }],
            ..SessionsReport::default()
        },
        series: SeriesReport {
            every_ms: 2_000,
            nodes: vec!["n0".into(), "n1".into()],
            samples: vec![sample(0, 0), sample(200, 4_000)],
        },
        events: vec![EventReport {
            at: "2026-01-02T03:04:05.000Z".into(),
            kind: "node-down".into(),
            node: Some("n1".into()),
            text: "does not answer".into(),
            ..EventReport::default()
        }],
        untold: None,
        silence: None,
    }
}

fn routes() -> RoutesReport {
    let statement = |text: &str, count, total_ms| StatementReport {
        statement: text.into(),
        count,
        primary: count,
        total_ms,
        why_primary: "write".into(),
        ..StatementReport::default()
    };
    RoutesReport {
        statements: vec![statement("INSERT INTO often", 900, 1.0), statement("INSERT INTO slow", 2, 500.0)],
        reads: vec![ReadReport {
            statement: "SELECT f()".into(),
            count: 7,
            reason: "volatile-function".into(),
            change: "mark it STABLE".into(),
            ..ReadReport::default()
        }],
        ..RoutesReport::default()
    }
}

fn screen(heard: &Heard, wish: Wish) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(140, 40)).expect("memory");
    terminal.draw(|frame| draw::draw(frame, heard, wish)).expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
    (0..buffer.area.height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn line_with<'s>(screen: &'s [String], word: &str) -> &'s str {
    screen.iter().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}:\n{}", screen.join("\n")))
}

#[test]
fn everything_has_its_place_on_the_screen() {
    let lines = screen(&heard(), Wish::default());
    assert!(line_with(&lines, "primacy open").contains("failover paused"));
    assert!(line_with(&lines, "12 clients").contains("100 transactions/s  p50 0.4 ms  p99 3.2 ms"));
    line_with(&lines, "two nodes claim to be primary");
    assert!(
        line_with(&lines, "n0             primary").contains("2/5")
            && line_with(&lines, "n0             primary").contains("2000")
    );
    assert!(
        line_with(&lines, "n1             replica").contains("lagging")
            && line_with(&lines, "n1             replica").contains("2.0 KiB")
    );
    line_with(&lines, "shop");
    let first = lines.iter().position(|line| line.contains("often"));
    assert!(first < lines.iter().position(|line| line.contains("INTO slow")), "the most frequent first");
    assert!(line_with(&lines, "03:04:05").contains("node-down n1: does not answer"));
}

#[test]
fn keys_change_what_is_shown_and_end_it() {
    let press = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE);
    let slow = pressed(press('s'), Wish::default()).expect("goes on");
    let lines = screen(&heard(), slow);
    let first = lines.iter().position(|line| line.contains("INTO slow"));
    assert!(first < lines.iter().position(|line| line.contains("often")), "the slowest first");
    let reads = screen(&heard(), pressed(press('r'), Wish::default()).expect("goes on"));
    assert!(line_with(&reads, "SELECT f()").contains("mark it STABLE"));
    assert!(pressed(press(' '), slow).is_some_and(|wish| wish.frozen && wish.slowest_first));
    assert_eq!(pressed(press('q'), slow), None);
    assert_eq!(pressed(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), slow), None);
}

#[test]
fn silence_is_said_and_a_small_terminal_does_no_harm() {
    let mut silent = heard();
    silent.silence = Some("no primacy answers".into());
    line_with(&screen(&silent, Wish::default()), "no primacy answers");
    for (width, height) in [(1, 1), (20, 5), (80, 24)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
        terminal.draw(|frame| draw::draw(frame, &silent, Wish::default())).expect("drawn");
    }
}
