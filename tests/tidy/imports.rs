//! Who may import whom: the table of rooms, held against every `crate::` path in the code.

use std::collections::{BTreeMap, BTreeSet};

use super::code::Code;

/// A room, and the rooms (or `room::item`) that it may import. `clock` is added for every room that is not pure.
const TABLE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &[]),
    // Below both planes: what TLS means must not differ between what watches a server and what serves from it.
    ("tls", &[]),
    ("wire", &["model"]),
    ("sql", &["model"]),
    ("route", &["model", "sql"]),
    ("failover", &["model"]),
    ("session", &["model", "wire", "sql", "route"]),
    // The data path reads the board, and enters commits in doubt; it asks nothing else of the control plane. What a text
    // is, and where it may go, it hears from `sql` and `route`.
    (
        "proxy",
        &[
            "session",
            "wire",
            "sql",
            "route",
            "model",
            "tls",
            "observe",
            "control::board",
            "control::Board",
            "control::in_doubt",
            "control::InDoubt",
            "control::Doubt",
            "control::Fate",
            // Part of the board.
            "control::Word",
        ],
    ),
    ("control", &["failover", "model", "tls", "observe", "postgres"]),
    ("postgres", &["model"]),
    // Beside a server: it speaks the control plane's language, and keeps its journal as that does.
    (
        "agent",
        &[
            "postgres",
            "model",
            "tls",
            "control::agents",
            "control::conninfo",
            "control::link",
            "control::store",
        ],
    ),
    // It tests primacy from outside: through the proxy's port, its HTTP API and the servers' processes.
    ("chaos", &["postgres", "model", "admin"]),
    ("observe", &["model", "wire", "sql", "route", "failover", "session"]),
    (
        "config",
        &[
            "console",
            "proxy",
            "route",
            "sql",
            "control",
            "failover",
            "admin",
            "observe",
            "model",
            "agent",
            "postgres::Limits",
            "tls",
        ],
    ),
    ("admin", &["control", "proxy", "observe", "model", "tls"]),
    // A client of the proxy to whom the proxy itself answers: the protocol towards it, what HTTP shows and does besides.
    ("console", &["admin", "control", "proxy", "session", "wire", "observe", "model"]),
    // `check` asks the servers as the control plane does, and reads the resolved settings; `demo` starts the log itself.
    (
        "cli",
        &[
            "agent",
            "chaos",
            "config",
            "postgres",
            "model",
            "admin",
            "app",
            "observe",
            "control::link",
            "control::settings",
            "control::OwnCluster",
            "control::own_cluster",
            "proxy::settings",
            "failover::Durability",
            "tls",
        ],
    ),
    (
        "app",
        &[
            "admin", "config", "console", "control", "failover", "model", "observe", "postgres", "proxy",
            "route", "session", "sql", "tls", "wire",
        ],
    ),
    // Applications use it instead of the proxy: it watches and routes as the proxy does, over pools of tokio-postgres.
    ("cluster", &["control", "failover", "model", "proxy", "route", "sql", "tls"]),
    ("main", &["cli"]),
];

/// Rooms without a clock of their own.
pub(crate) const PURE: [&str; 6] = ["model", "wire", "sql", "route", "failover", "session"];

/// The room that a file of `src` belongs to.
pub(crate) fn room(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// Every path that begins with `crate::` (or `primacy::`, in the binary): its first two names.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for start in ["crate::", "primacy::"] {
        for (at, _) in code.match_indices(start) {
            let part_of_name = code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
            if !part_of_name {
                let line = code[..at].matches('\n').count() + 1;
                found.extend(expand(&code[at + start.len()..], 2).into_iter().map(|path| (line, path)));
            }
        }
    }
    found
}

/// The paths that a text begins with, `depth` names deep: `a::b::c` is `a::b`, `{a, b::{c, d}}` are `a`, `b::c`, `b::d`.
fn expand(text: &str, depth: usize) -> Vec<String> {
    if depth == 0 {
        return vec![String::new()];
    }
    if let Some(group) = text.trim_start().strip_prefix('{') {
        return members(group).into_iter().flat_map(|member| expand(member, depth)).collect();
    }
    let text = text.trim_start();
    let end = text.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    match rest.strip_prefix("::") {
        Some(rest) if depth > 1 => {
            let deeper = expand(rest, depth - 1).into_iter();
            deeper
                .map(|inner| if inner.is_empty() { name.to_owned() } else { format!("{name}::{inner}") })
                .collect()
        }
        _ => vec![name.to_owned()],
    }
}

/// What stands between the commas of a group whose opening brace was taken off.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut found) = (0_usize, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                found.push(group[begin..at].trim());
                begin = at + 1;
                if letter == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|member| !member.is_empty());
    found
}

/// Whether a room may import a path.
fn allowed(room: &str, path: &str) -> bool {
    let target = path.split("::").next().unwrap_or(path);
    if target == room || target == "clock" && !PURE.contains(&room) {
        return true;
    }
    let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == room) else { return false };
    allowed.iter().any(|may| *may == target || *may == path)
}

/// Every import that the table does not allow.
pub(crate) fn complaints(path: &str, code: &Code) -> Vec<String> {
    let room = room(path);
    if room == "lib" {
        return Vec::new();
    }
    let known = TABLE.iter().any(|(name, _)| *name == room);
    let unknown = (!known).then(|| format!("{path}: {room} is not in the table of rooms"));
    let wrong = paths(&code.code).into_iter().filter(|(_, imported)| !allowed(room, imported));
    let wrong = wrong.map(|(line, imported)| format!("{path}:{line}: {room} may not import {imported}"));
    unknown.into_iter().chain(wrong).collect()
}

/// From room to room, as it is. What composes the rooms, and what is only vocabulary, is left out.
pub(crate) fn edges(path: &str, code: &Code) -> Vec<(String, String)> {
    let from = room(path).to_owned();
    let targets: BTreeSet<String> = paths(&code.code)
        .into_iter()
        .map(|(_, imported)| imported.split("::").next().unwrap_or_default().to_owned())
        .filter(|to| *to != from && TABLE.iter().any(|(name, _)| name == to))
        .collect();
    targets.into_iter().map(|to| (from.clone(), to)).collect()
}

/// Rooms that import each other, directly or in a circle.
pub(crate) fn knots(edges: &BTreeSet<(String, String)>) -> Vec<String> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in edges {
        reach.entry(from).or_default().insert(to);
    }
    // Whoever is reached reaches on: repeated until nothing is added.
    loop {
        let before: usize = reach.values().map(BTreeSet::len).sum();
        let known = reach.clone();
        for targets in reach.values_mut() {
            let further: Vec<&str> =
                targets.iter().filter_map(|to| known.get(to)).flatten().copied().collect();
            targets.extend(further);
        }
        if reach.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let circular = reach.iter().filter(|(from, targets)| targets.contains(*from));
    circular.map(|(room, _)| format!("{room} imports itself through other rooms")).collect()
}

#[test]
fn the_table_names_rooms_that_it_has() {
    for (_, imports) in TABLE {
        for import in *imports {
            let room = import.split("::").next().unwrap_or_default();
            assert!(TABLE.iter().any(|(name, _)| *name == room), "{import}");
        }
    }
}

#[test]
fn a_forbidden_import_is_seen_however_it_is_written() {
    for text in [
        "use crate::proxy::Settings;",
        "use crate::{model::Lsn, proxy};",
        "use crate::{model::{Lsn, Epoch}, proxy::{Settings, settings::Auth}};",
        "fn f() { crate::proxy::settings::Node::new(); }",
        "type A = crate::control::Board;",
    ] {
        let found = complaints("src/session/machine.rs", &Code::of(text));
        let forbidden = if text.contains("settings::Auth") { 2 } else { 1 };
        assert_eq!(found.len(), forbidden, "{text}: {found:?}");
        assert!(found[0].starts_with("src/session/machine.rs:1: session may not import"), "{found:?}");
    }
    assert_eq!(complaints("src/nowhere/a.rs", &Code::of("")).len(), 1, "a room that is not in the table");
}

#[test]
fn an_allowed_import_is_not() {
    for (path, text) in [
        ("src/session/machine.rs", "use crate::{model::Lsn, route::Decision, session::plan};"),
        (
            "src/proxy/driver.rs",
            "use crate::control::Board; use crate::control::board::Board; use crate::clock;",
        ),
        ("src/main.rs", "fn main() { primacy::cli::run() }"),
        ("src/route.rs", "// use crate::proxy;\nfn f() { g(\"crate::proxy\") }"),
    ] {
        assert_eq!(complaints(path, &Code::of(text)), Vec::<String>::new(), "{path}");
    }
    assert_eq!(complaints("src/proxy/driver.rs", &Code::of("use crate::control::ControlHandle;")).len(), 1);
    assert_eq!(complaints("src/wire/frame.rs", &Code::of("use crate::clock;")).len(), 1);
}

#[test]
fn circles_are_seen() {
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let line = BTreeSet::from([edge("a", "b"), edge("b", "c"), edge("a", "c")]);
    assert_eq!(knots(&line), Vec::<String>::new());
    let circle = BTreeSet::from([edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("d", "a")]);
    assert_eq!(knots(&circle).len(), 3);
}
