//! Rules about one file: what pure rooms may not name, length, header, words.

use super::code::{Code, without_tests};
use super::imports::{PURE, room};

/// Longest file of `src`, its tests aside.
const LINES_MAX: usize = 500;

/// What pure rooms do not name: time and chance are arguments, and what is to be done is returned.
const OUTSIDE: [&str; 11] = [
    "tokio",
    "tracing",
    "std::net",
    "std::fs",
    "std::env",
    "std::io",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "socket2",
    "getrandom::",
];

/// A constant of an address is no socket, an error's kind no file.
const HARMLESS: [&str; 6] = [
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::io::Error",
    "std::io::ErrorKind",
];

/// Names of the outside world in a pure room.
pub(crate) fn impurities(path: &str, code: &Code) -> Vec<String> {
    let pure = PURE.contains(&room(path));
    // Randomness for nonces is an argument too; the shell draws it.
    let lines = code.code.lines().enumerate().filter(|_| pure);
    lines
        .flat_map(|(number, line)| {
            let line = HARMLESS.iter().fold(line.to_owned(), |line, harmless| line.replace(harmless, ""));
            let named = OUTSIDE.iter().filter(|outside| names(&line, outside));
            let room = room(path);
            named
                .map(|outside| format!("{path}:{}: {room} is pure and names {outside}", number + 1))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Whether a line names it, not as a part of a longer name.
fn names(line: &str, word: &str) -> bool {
    let inner = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        !line[..at].ends_with(inner) && (word.ends_with(':') || !after.starts_with(inner))
    })
}

/// Whether a file of `src` is a test module.
pub(crate) fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// A file of `src` that is too long.
pub(crate) fn too_long(path: &str, text: &str) -> Option<String> {
    if is_test(path) {
        return None;
    }
    let lines = without_tests(text).lines().count();
    (lines > LINES_MAX).then(|| format!("{path}: {lines} lines, at most {LINES_MAX} (tests aside): split it"))
}

/// A file that does not say first what it is for.
pub(crate) fn headless(path: &str, text: &str) -> Option<String> {
    (!text.starts_with("//! "))
        .then(|| format!("{path}: the first line must say what the file is for (//! ...)"))
}

/// Words that do not appear: notes to self, paths of some machine, and the older word for the primary in what is printed.
pub(crate) fn banned_words(path: &str, text: &str) -> Vec<String> {
    // Put together, so that this very file does not hold them.
    let notes = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|halves| halves.concat());
    let places = [["/wo", "rk/"], ["/ro", "ot/"], ["/home", "/"]].map(|halves| halves.concat());
    let older = ["mas", "ter"].concat();
    let mut complaints = Vec::new();
    let mut complain =
        |line: usize, word: &str| complaints.push(format!("{path}:{line}: {word:?} does not belong here"));
    for (number, line) in text.lines().enumerate() {
        for word in notes.iter().filter(|word| names(line, word)) {
            complain(number + 1, word);
        }
        for word in places.iter().filter(|word| line.contains(*word)) {
            complain(number + 1, word);
        }
    }
    // What is printed is in strings of the code. Where a person may write the older word, it is known.
    let accepts = ["src/config/", "src/session/local.rs"].iter().any(|place| path.starts_with(place));
    if path.starts_with("src/") && path.ends_with(".rs") && !accepts {
        for (line, string) in Code::of(text).strings {
            if names(&string.to_lowercase(), &older) {
                complain(line, &older);
            }
        }
    }
    complaints
}

#[test]
fn impure_names_are_seen_in_pure_rooms_only() {
    let text = "use std::net::TcpStream;\nfn f() { tokio::spawn(x); let n = Instant::now(); }\n// tokio\nlet s = \"tracing\";\n";
    let found = impurities("src/failover/core.rs", &Code::of(text));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("src/failover/core.rs:1:"), "{found:?}");
    assert_eq!(impurities("src/proxy/driver.rs", &Code::of(text)), Vec::<String>::new());
    let harmless = "use std::net::SocketAddr;\nlet tokio_like = my_tracing();\n";
    assert_eq!(impurities("src/failover/core.rs", &Code::of(harmless)), Vec::<String>::new());
}

#[test]
fn long_files_are_seen_and_tests_do_not_count() {
    let code = "x\n".repeat(LINES_MAX + 1);
    assert!(too_long("src/a.rs", &code).is_some());
    assert_eq!(too_long("src/a/tests.rs", &code), None);
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{code}}}\n", "x\n".repeat(10));
    assert_eq!(too_long("src/a.rs", &tested), None);
}

#[test]
fn a_missing_header_is_seen() {
    assert!(headless("src/a.rs", "use b;\n").is_some());
    assert_eq!(headless("src/a.rs", "//! What it is for.\n"), None);
}

#[test]
fn banned_words_are_seen() {
    for word in [["// TO", "DO: later"], ["see /wo", "rk/x"], ["FIX", "ME"], ["f(\"the mas", "ter\")"]] {
        let text = word.concat();
        assert_eq!(banned_words("src/a.rs", &text).len(), 1, "{text}");
    }
    let harmless = "fn mast() {} // mastery, XX000\n";
    assert_eq!(banned_words("src/a.rs", harmless), Vec::<String>::new());
    let alias = ["(\"mas", "ter\", Primary)"].concat();
    assert_eq!(banned_words("src/config/resolve.rs", &alias), Vec::<String>::new());
}
