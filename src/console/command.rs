//! A text -> the command that it is. Pure. Words in any case, a semicolon and comments where people put them.

use crate::session::{ClientError, CommandFault};

use crate::proxy::listener::Ending;

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing.
    Empty,
    /// SHOW something, with what stands behind it.
    Show(Show, Option<String>),
    /// EXPLAIN ROUTE and a statement.
    Explain(String),
    /// PAUSE, RESUME: a database, or all.
    Pause(Option<String>),
    Resume(Option<String>),
    Disable(String),
    Enable(String),
    Reconnect(Option<String>),
    Kill(Option<String>),
    KillClient(String),
    WaitClose(Option<String>),
    Reload,
    Set(String, String),
    Shutdown(Ending),
    /// Something that drivers send without being asked, and that means nothing here; the tag of its answer.
    Courtesy(&'static str),
    /// `SELECT 1` and its like: one column, one value.
    Constant(&'static str, &'static str),
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    Help,
    Config,
    Databases,
    Pools,
    Clients,
    Servers,
    Sockets,
    ActiveSockets,
    Users,
    Lists,
    Mem,
    State,
    Version,
    Peers,
    PeerPools,
    DnsHosts,
    DnsZones,
    Stats,
    StatsTotals,
    StatsAverages,
    Totals,
    Nodes,
    Routes,
    Reads,
    Pins,
    Holds,
    Failovers,
    Events,
}

/// The words behind SHOW.
pub(super) const SHOWS: [(&str, Show); 28] = [
    ("HELP", Show::Help),
    ("CONFIG", Show::Config),
    ("DATABASES", Show::Databases),
    ("POOLS", Show::Pools),
    ("CLIENTS", Show::Clients),
    ("SERVERS", Show::Servers),
    ("SOCKETS", Show::Sockets),
    ("ACTIVE_SOCKETS", Show::ActiveSockets),
    ("USERS", Show::Users),
    ("LISTS", Show::Lists),
    ("MEM", Show::Mem),
    ("STATE", Show::State),
    ("VERSION", Show::Version),
    ("PEERS", Show::Peers),
    ("PEER_POOLS", Show::PeerPools),
    ("DNS_HOSTS", Show::DnsHosts),
    ("DNS_ZONES", Show::DnsZones),
    ("STATS", Show::Stats),
    ("STATS_TOTALS", Show::StatsTotals),
    ("STATS_AVERAGES", Show::StatsAverages),
    ("TOTALS", Show::Totals),
    ("NODES", Show::Nodes),
    ("ROUTES", Show::Routes),
    ("READS", Show::Reads),
    ("PINS", Show::Pins),
    ("HOLDS", Show::Holds),
    ("FAILOVERS", Show::Failovers),
    ("EVENTS", Show::Events),
];

/// Settings of PostgreSQL that clients set on their own account; they mean nothing here.
const CLIENT_SETTINGS: [&str; 11] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "lock_timeout",
    "search_path",
    "statement_timeout",
    "timezone",
];

impl Command {
    /// Whether somebody who may only look may have it.
    pub(super) fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Empty | Self::Show(..) | Self::Explain(_) | Self::Courtesy(_) | Self::Constant(..)
        )
    }

    /// Reads a text.
    pub(super) fn parse(text: &str) -> Result<Self, ClientError> {
        let text = strip(text);
        let (verb, rest) = word(text);
        let upper = verb.to_ascii_uppercase();
        let unknown = || ClientError::Command {
            message: format!("invalid command {:?}", text.chars().take(80).collect::<String>()),
            fault: CommandFault::Syntax,
            hint: "SHOW HELP lists the commands. For SQL connect to another database.",
        };
        let named = |make: fn(String) -> Self| match name(rest) {
            Name::One(name) => Ok(make(name)),
            _ => Err(unknown()),
        };
        let optional = |make: fn(Option<String>) -> Self| match name(rest) {
            Name::None => Ok(make(None)),
            Name::One(name) => Ok(make(Some(name))),
            Name::Several => Err(unknown()),
        };
        match upper.as_str() {
            "" => Ok(Self::Empty),
            "SHOW" => show(rest).ok_or_else(unknown),
            "EXPLAIN" => {
                let (route, sql) = word(rest);
                let given = route.eq_ignore_ascii_case("route") && !sql.is_empty();
                if given { Ok(Self::Explain(sql.to_owned())) } else { Err(unknown()) }
            }
            "PAUSE" => optional(Self::Pause),
            "RESUME" => optional(Self::Resume),
            "DISABLE" => named(Self::Disable),
            "ENABLE" => named(Self::Enable),
            "RECONNECT" => optional(Self::Reconnect),
            "KILL" => optional(Self::Kill),
            "KILL_CLIENT" => named(Self::KillClient),
            "WAIT_CLOSE" => optional(Self::WaitClose),
            "RELOAD" if rest.is_empty() => Ok(Self::Reload),
            "SHUTDOWN" => shutdown(rest).ok_or_else(unknown),
            "SET" => set(rest).ok_or_else(unknown),
            "SELECT" => constant(rest).ok_or_else(unknown),
            _ => courtesy(&upper).ok_or_else(unknown),
        }
    }
}

fn show(rest: &str) -> Option<Command> {
    let (what, rest) = word(rest);
    let (_, show) = SHOWS.iter().find(|(word, _)| what.eq_ignore_ascii_case(word))?;
    match name(rest) {
        Name::None => Some(Command::Show(*show, None)),
        Name::One(name) => Some(Command::Show(*show, Some(name))),
        Name::Several => None,
    }
}

fn shutdown(rest: &str) -> Option<Command> {
    let how = match rest.to_ascii_uppercase().as_str() {
        "" => Ending::Now,
        "WAIT_FOR_SERVERS" => Ending::Transactions,
        "WAIT_FOR_CLIENTS" => Ending::Clients,
        _ => return None,
    };
    Some(Command::Shutdown(how))
}

/// `key = value` or `key TO value`.
fn set(rest: &str) -> Option<Command> {
    let (key, value) = if let Some((key, value)) = rest.split_once('=') {
        (key.trim(), value.trim())
    } else {
        let (key, rest) = word(rest);
        let (to, value) = word(rest);
        if !to.eq_ignore_ascii_case("to") {
            return None;
        }
        (key, value)
    };
    let key = key.to_ascii_lowercase();
    let key = key.strip_prefix("session ").unwrap_or(&key).to_owned();
    if CLIENT_SETTINGS.contains(&key.as_str()) {
        return Some(Command::Courtesy("SET"));
    }
    let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
    let is_key = |letter: char| letter.is_ascii_alphanumeric() || "_.".contains(letter);
    (!key.is_empty() && key.chars().all(is_key)).then(|| Command::Set(key, value.replace("''", "'")))
}

fn constant(rest: &str) -> Option<Command> {
    match rest.to_ascii_lowercase().as_str() {
        "1" => Some(Command::Constant("?column?", "1")),
        "version()" | "pg_catalog.version()" => {
            Some(Command::Constant("version", concat!("primacy ", env!("CARGO_PKG_VERSION"), " (console)")))
        }
        _ => None,
    }
}

/// What drivers and pools send around other commands.
fn courtesy(verb: &str) -> Option<Command> {
    let tag = match verb {
        "BEGIN" | "START" => "BEGIN",
        "COMMIT" | "END" => "COMMIT",
        "ROLLBACK" | "ABORT" => "ROLLBACK",
        "DISCARD" => "DISCARD ALL",
        "DEALLOCATE" => "DEALLOCATE ALL",
        "RESET" => "RESET",
        "UNLISTEN" => "UNLISTEN",
        "CLOSE" => "CLOSE CURSOR ALL",
        _ => return None,
    };
    Some(Command::Courtesy(tag))
}

/// Without white space, comments ahead and a semicolon behind.
fn strip(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        text = text.trim_end_matches(';').trim();
        let rest = match (text.strip_prefix("--"), text.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once('\n').map_or("", |(_, rest)| rest),
            (_, Some(comment)) => comment.split_once("*/").map_or("", |(_, rest)| rest),
            _ => return text,
        };
        text = rest.trim();
    }
}

/// The first word, and the rest.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(|letter: char| letter.is_whitespace()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim())
}

/// What stands behind a verb.
enum Name {
    None,
    One(String),
    /// More than one word.
    Several,
}

/// A name, quoted or not.
fn name(text: &str) -> Name {
    if text.is_empty() {
        return Name::None;
    }
    if let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        return Name::One(quoted.replace("\"\"", "\""));
    }
    if text.contains(char::is_whitespace) { Name::Several } else { Name::One(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_people_write_them() {
        use Command as C;
        let some = |text: &str| Some(text.to_owned());
        for (text, command) in [
            ("", C::Empty),
            (" ; ", C::Empty),
            ("-- nothing\n", C::Empty),
            ("show pools;", C::Show(Show::Pools, None)),
            ("/* mine */ SHOW stats_totals", C::Show(Show::StatsTotals, None)),
            ("SHOW ROUTES 20", C::Show(Show::Routes, some("20"))),
            ("explain route  SELECT  now() ;", C::Explain("SELECT  now()".into())),
            ("PAUSE", C::Pause(None)),
            ("pause app", C::Pause(some("app"))),
            ("RESUME \"My \"\"Db\"", C::Resume(some("My \"Db"))),
            ("KILL_CLIENT 17", C::KillClient("17".into())),
            ("SHUTDOWN wait_for_servers", C::Shutdown(Ending::Transactions)),
            ("SET server_lifetime=100", C::Set("server_lifetime".into(), "100".into())),
            ("SET pool.default_pool_size TO '5'", C::Set("pool.default_pool_size".into(), "5".into())),
            ("SET application_name = 'psql'", C::Courtesy("SET")),
            ("SET extra_float_digits = 3", C::Courtesy("SET")),
            ("BEGIN", C::Courtesy("BEGIN")),
            ("select 1", C::Constant("?column?", "1")),
        ] {
            assert_eq!(C::parse(text), Ok(command), "{text}");
        }
        for text in [
            "SHOW",
            "SHOW nonsense",
            "SELECT 2",
            "DISABLE",
            "PAUSE a b",
            "EXPLAIN SELECT 1",
            "SHUTDOWN later",
            "SET",
            "SET a b c",
            "DROP TABLE x",
            "é",
        ] {
            let error = C::parse(text).expect_err(text);
            assert_eq!(error.sqlstate().as_str(), "42601", "{text}");
        }
    }

    #[test]
    fn only_what_looks_is_open_to_those_who_may_look() {
        for (text, looks) in [
            ("SHOW POOLS", true),
            ("EXPLAIN ROUTE SELECT 1", true),
            ("BEGIN", true),
            ("PAUSE", false),
            ("RELOAD", false),
            ("SET server_lifetime = 1", false),
            ("KILL_CLIENT 1", false),
            ("SHUTDOWN", false),
            ("WAIT_CLOSE", false),
        ] {
            assert_eq!(Command::parse(text).expect("known").only_looks(), looks, "{text}");
        }
    }
}
