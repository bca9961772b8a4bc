//! Entry points for arbitrary bytes, one per surface that outsiders reach. Shared by the cargo-fuzz targets beside this
//! file and by `tests/fuzz`, which replays what was found and tries new inputs on a stable compiler.
//!
//! Each entry says by panicking that something is wrong: that it panics itself, takes memory that its limits do not
//! allow, or breaks a promise that is checked here.

#[path = "http.rs"]
mod asked;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use primacy::model::SqlState;
use primacy::proxy::hba;
use primacy::sql::{Catalog, CatalogBuilder, Classifier, Place, Settings};
use primacy::wire::scram::{AwaitingProof, AwaitingServerFirst, Binding, Verifier};
use primacy::wire::startup::{Opening, Request, StartupPacket, options};
use primacy::wire::{ErrorFields, HEADER_LEN, Header, backend, frontend, proxy_header};

/// A surface: its name, which is also that of its corpus, and what takes the bytes.
pub(crate) type Entry = (&'static str, fn(&[u8]));

/// Every surface.
pub(crate) const ENTRIES: [Entry; 10] = [
    ("frames", frames),
    ("startup", startup),
    ("scram", scram),
    ("classify", classify),
    ("fingerprint", fingerprint),
    ("hba", hba_files),
    ("config", config),
    ("proxy_header", proxy_headers),
    ("server", server_messages),
    ("http", http),
];

/// That it returns is what counts.
fn taken<T>(value: T) {
    std::hint::black_box(value);
}

/// A client's bytes behind its sign-in: frames are cut and each body is read as every message of that letter.
pub(crate) fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(header)) = Header::peek(rest) {
        let Some(body) = rest.get(HEADER_LEN..header.len) else { break };
        taken(frontend::Query::decode(body));
        taken(frontend::Parse::decode(body));
        taken(frontend::Bind::decode(body));
        taken(frontend::Describe::decode(body));
        taken(frontend::Close::decode(body));
        taken(frontend::Execute::decode(body));
        taken(frontend::SaslInitialResponse::decode(body));
        taken(frontend::password(body));
        rest = rest.get(header.len..).unwrap_or_default();
    }
}

/// A server's bytes: what we look into of its messages.
pub(crate) fn server_messages(bytes: &[u8]) {
    taken(backend::ready_status(bytes));
    taken(backend::parameter_status(bytes));
    taken(backend::backend_key(bytes));
    backend::command_tag(bytes);
    let fields = ErrorFields::new(bytes);
    assert!(fields.iter().count() <= bytes.len());
    let code: Option<SqlState> = fields.code();
    assert!(code.is_none_or(|code| code.to_string().len() == 5));
    assert!(
        fields.message().len() <= bytes.len() * 3,
        "a letter that is no UTF-8 is replaced by three bytes"
    );
    fields.routine();
    if let Ok(row) = backend::DataRow::decode(bytes) {
        // A row may declare more columns than it holds; who reads it stops at the first that is missing.
        assert!(row.values().map_while(Result::ok).count() <= bytes.len());
    }
    if let Ok(backend::Authentication::Sasl(mechanisms)) = backend::Authentication::decode(bytes) {
        assert!(mechanisms.iter().count() <= bytes.len());
    }
}

/// The first packet, and the options in it.
pub(crate) fn startup(bytes: &[u8]) {
    const LEN_MAX: u32 = 10_000;
    if let Ok(Some(Opening::Packet { len })) = Opening::peek(bytes, LEN_MAX) {
        assert!((8..=LEN_MAX as usize).contains(&len));
    }
    let Ok(packet) = StartupPacket::decode(bytes) else { return };
    match packet {
        StartupPacket::Startup { version, params } => {
            for (_, value) in &params {
                taken(options(value));
            }
            if let Ok(request) = Request::new(version, params) {
                assert!(!request.user.is_empty() && !request.database.is_empty());
                assert!(request.version.major == 3);
            }
        }
        StartupPacket::Cancel { secret, .. } => assert!((4..=256).contains(&secret.len())),
        StartupPacket::Ssl | StartupPacket::Gss => {}
    }
}

/// Both messages of a client, both of a server, and a verifier, divided by zero bytes. Nothing but the right proof lets in.
pub(crate) fn scram(bytes: &[u8]) {
    static VERIFIER: LazyLock<Arc<Verifier>> =
        LazyLock::new(|| Arc::new(Verifier::from_password("pencil", b"0123456789abcdef", 2)));
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (first, last, challenge, end, stored) = (next(), next(), next(), next(), next());
    for binding in [Binding::NotOffered, Binding::NotTaken, Binding::Taken(b"end point")] {
        let begun = AwaitingProof::begin_bound(Arc::clone(&VERIFIER), first, "servernonce", binding);
        if let Ok((state, _)) = begun {
            assert!(state.finish(last).is_err(), "a proof cannot be guessed");
        }
    }
    // With few iterations only: a server may ask for a million, which takes its time and nothing else.
    let cheap = !challenge.windows(4).any(|digits| digits.iter().all(u8::is_ascii_digit));
    if cheap && let Ok((state, _)) = AwaitingServerFirst::begin("abc").0.prove_password(challenge, "pencil") {
        assert!(state.finish(end).is_err(), "a signature cannot be guessed");
    }
    if let Some(verifier) = std::str::from_utf8(stored).ok().and_then(|text| Verifier::parse(text).ok()) {
        let again = Verifier::parse(&verifier.to_text());
        assert!(again.is_ok_and(|again| again == verifier));
    }
}

fn facts() -> &'static Catalog {
    static FACTS: LazyLock<Catalog> = LazyLock::new(|| {
        let mut builder = CatalogBuilder::new(1, 1);
        for (kind, names, class) in FACTS_KNOWN {
            for name in names.split(' ') {
                taken(builder.add([kind, "app", name, "0", "255", class]));
            }
        }
        builder.finish()
    });
    &FACTS
}

/// What the database of the texts in the corpora holds: kind, names, class.
const FACTS_KNOWN: [(&str, &str, &str); 6] = [
    ("f", "now count sum lower upper abs random current_setting", "s"),
    ("f", "nextval setval set_config pg_advisory_lock", "v"),
    ("f", "pg_is_in_recovery", "n"),
    ("r", "a b c t x users", "s"),
    ("r", "scratch", "u"),
    ("i", "x", "s"),
];

/// Any text gets a verdict, and the verdict from the cache is the one from the parser.
pub(crate) fn classify(bytes: &[u8]) {
    let mut classifier = Classifier::new(&small());
    let first = classifier.classify(bytes, facts());
    let second = classifier.classify(bytes, facts());
    let fresh = Classifier::new(&small()).classify(bytes, facts());
    assert_eq!(format!("{second:?}"), format!("{fresh:?}"));
    assert_eq!(first.place, fresh.place);
}

/// Two texts, divided by a zero byte, in one cache: the second must not get the first one's verdict unless it has
/// the same.
pub(crate) fn fingerprint(bytes: &[u8]) {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else {
        // One text: against itself with other digits, which often has the same fingerprint.
        let digits = bytes.iter().map(|byte| if byte.is_ascii_digit() { b'7' } else { *byte });
        return same(bytes, &digits.collect::<Vec<_>>());
    };
    let (one, two) = bytes.split_at(at);
    same(one, two.get(1..).unwrap_or_default());
}

fn same(one: &[u8], two: &[u8]) {
    let mut shared = Classifier::new(&small());
    shared.classify(one, facts());
    let cached = shared.classify(two, facts());
    let fresh = Classifier::new(&small()).classify(two, facts());
    assert_eq!((cached.place, cached.reason), (fresh.place, fresh.reason));
    assert_eq!(format!("{:?}", cached.effects), format!("{:?}", fresh.effects));
    if cached.place != Place::Primary {
        assert_eq!(format!("{:?}", cached.kind), format!("{:?}", fresh.kind));
    }
}

fn small() -> Settings {
    Settings { cache_entries_max: 8, ..Settings::default() }
}

/// Rules of access: what is accepted is accepted for a reason, so no rule may trust everybody.
pub(crate) fn hba_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(rules) = hba::parse_hba(&text) {
        let stranger = hba::Asked {
            address: Some(std::net::Ipv4Addr::new(203, 0, 113, 77).into()),
            tls: false,
            user: "app",
            database: "app",
            replication: false,
        };
        let everywhere = text.contains("203.") || text.contains('/');
        let rules = hba::Hba { rules, maps: Vec::new() };
        if let Some(rule) = rules.find(&stranger) {
            assert!(rule.method() != hba::Method::Trust || everywhere, "{rule}");
        }
    }
    taken(hba::parse_ident(&text));
}

/// A configuration: problems, never a panic.
pub(crate) fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Commands are run while a configuration is read: not those of a fuzzer.
    if text.contains("_command") || text.contains("_file") {
        return;
    }
    match primacy::config::parse(&text, Path::new("/nonexistent/primacy.toml")) {
        Ok(settings) => assert!(!primacy::config::describe(&settings).is_empty()),
        Err(problems) => assert!(!problems.problems.is_empty() && !problems.to_string().is_empty()),
    }
}

/// A request to the HTTP address.
pub(crate) fn http(bytes: &[u8]) {
    asked::ask(bytes);
}

/// A balancer's header.
pub(crate) fn proxy_headers(bytes: &[u8]) {
    taken(proxy_header::line(bytes));
    let Some((beginning, rest)) = bytes.split_first_chunk() else { return };
    taken(proxy_header::version(beginning));
    let Some((four, rest)) = rest.split_first_chunk() else { return };
    if let Ok(frame) = proxy_header::frame(*four) {
        taken(proxy_header::address(frame, rest));
    }
}
