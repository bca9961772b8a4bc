//! A server that means no good: it stands between the proxy and a real one, passes everything on, and at one moment,
//! for one role, says what no server says. The client gets one error, the others are served, memory stays bounded.

mod relay;

use std::time::Duration;

use crate::harness::{Cluster, LIMIT, Proxy, Raw, eventually, frame, startup};
use relay::{Evil, Moment, Relay};

/// What is poured out where something has no end.
const FLOOD: usize = 48 << 20;

/// What the proxy may grow by while all of them happen at once.
const GROWN_KIB_MAX: u64 = 40 * 1024;

fn auth(code: u32, more: &[u8]) -> Vec<u8> {
    frame(b'R', &[&code.to_be_bytes()[..], more].concat())
}

fn flood(name: &'static str, moment: Moment, piece: Vec<u8>) -> Evil {
    Evil { name, moment, before: Vec::new(), piece, total: FLOOD }
}

fn says(name: &'static str, moment: Moment, bytes: impl Into<Vec<u8>>) -> Evil {
    Evil { name, moment, before: bytes.into(), piece: Vec::new(), total: 0 }
}

/// Instead of an answer to the startup packet.
fn while_signing_in() -> Vec<Evil> {
    use Moment::SigningIn as At;
    let notice = frame(b'N', b"SNOTICE\0C00000\0Mhello\0\0");
    let status = frame(b'S', &[b"some.setting\0", "v".repeat(200).as_bytes(), b"\0"].concat());
    let trusted = [auth(0, b""), frame(b'K', &[0, 0, 0, 1, 0, 0, 0, 2])].concat();
    let key = frame(b'K', &vec![1; 1 << 20]);
    vec![
        says("s_nothing_and_goes", At, b""),
        says("s_refuses_by_itself", At, frame(b'E', b"SFATAL\0VFATAL\0C53300\0Msorry\0\0")),
        says("s_garbage", At, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        says("s_frame_of_two_gigabytes", At, b"R\x7f\xff\xff\xff\0\0\0\0"),
        says("s_frame_shorter_than_its_length", At, b"R\0\0\0\x03"),
        says("s_half_a_frame", At, b"R\0\0\0\x08\0"),
        says("s_a_row", At, frame(b'D', b"\0\0")),
        says("s_ready_at_once", At, frame(b'Z', b"I")),
        says("s_clear_text_wanted", At, auth(3, b"")),
        says("s_gss_wanted", At, auth(7, b"")),
        says("s_unknown_method", At, auth(4711, b"xyz")),
        says("s_no_mechanism", At, auth(10, b"\0")),
        says("s_foreign_mechanism", At, auth(10, b"OAUTHBEARER\0\0")),
        says("s_only_bound", At, auth(10, b"SCRAM-SHA-256-PLUS\0\0")),
        says("s_challenge_at_once", At, auth(11, b"r=abc,s=AAAA,i=4096")),
        says(
            "s_a_million_rounds",
            At,
            [auth(10, b"SCRAM-SHA-256\0\0"), auth(11, b"r=abc,s=AAAA,i=99999999")].concat(),
        ),
        says("s_proof_not_asked", At, [auth(10, b"SCRAM-SHA-256\0\0"), auth(0, b"")].concat()),
        says("s_asked_twice", At, [auth(5, b"abcd"), auth(5, b"abcd")].concat()),
        says("s_error_without_fields", At, frame(b'E', b"\0")),
        says("s_error_not_ended", At, frame(b'E', b"SFATAL")),
        says(
            "s_ready_without_end_of_key",
            At,
            [auth(0, b""), frame(b'K', &[0, 0]), frame(b'Z', b"I")].concat(),
        ),
        says("s_key_of_a_megabyte", At, [auth(0, b""), key, frame(b'Z', b"I")].concat()),
        says("s_ready_in_a_transaction", At, [trusted.clone(), frame(b'Z', b"T")].concat()),
        says("s_more_behind_ready", At, [trusted, frame(b'Z', b"I"), frame(b'D', b"\0\0")].concat()),
        flood("s_notices_without_end", At, notice),
        flood("s_settings_without_end", At, [auth(0, b""), status].concat()),
    ]
}

/// Instead of an answer to a statement.
fn while_asked() -> Vec<Evil> {
    use Moment::Asked as At;
    let row = frame(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    let one = frame(b'D', b"\0\x01\0\0\0\x011");
    let done = frame(b'C', b"SELECT 1\0");
    let status = frame(b'S', &[b"TimeZone\0", "v".repeat(2000).as_bytes(), b"\0"].concat());
    let end = frame(b'Z', b"I");
    let with_end = |bytes: &[&[u8]]| [&bytes.concat()[..], &end[..]].concat();
    vec![
        says("a_nothing_and_goes", At, b""),
        says("a_garbage", At, b"\0\0\0\0\0\0\0\0"),
        says("a_unknown_letter", At, with_end(&[&frame(b'!', b"xyz")])),
        says("a_frame_shorter_than_its_length", At, b"D\0\0\0\x03"),
        says("a_half_a_row", At, [&row[..], b"D\0\0\0\xff\0\x01"].concat()),
        says(
            "a_row_of_a_gigabyte_cut_off",
            At,
            [&row[..], b"D\x40\0\0\0\0\x01\x3f\xff\xff\xf0", &[b'x'; 70_000]].concat(),
        ),
        says("a_two_gigabytes", At, b"D\xff\xff\xff\xff\0\0"),
        says("a_status_that_is_none", At, [&row[..], &one, &done, &frame(b'Z', b"X")].concat()),
        says("a_status_of_no_length", At, [&done[..], &frame(b'Z', b"")].concat()),
        says("a_transaction_from_nowhere", At, [&row[..], &one, &done, &frame(b'Z', b"T")].concat()),
        says("a_asks_for_a_password", At, with_end(&[&auth(3, b"")])),
        says("a_another_key", At, with_end(&[&frame(b'K', &[7; 300]), &done])),
        says("a_wants_copy_data", At, frame(b'G', b"\0\0\0")),
        says("a_copies_both_ways", At, frame(b'W', b"\0\0\0")),
        says(
            "a_parsed_unasked",
            At,
            with_end(&[&frame(b'1', b""), &frame(b'2', b""), &frame(b'3', b""), &done]),
        ),
        says("a_error_of_nothing", At, with_end(&[&frame(b'E', b"")])),
        says("a_error_without_a_code", At, with_end(&[&frame(b'E', b"SERROR\0Mwho knows\0\0")])),
        says("a_error_and_goes", At, frame(b'E', b"SFATAL\0C57P01\0Mbye\0\0")),
        says("a_ready_twice", At, [&row[..], &one, &done, &end, &end].concat()),
        says("a_another_answer_behind", At, with_end(&[&row, &one, &done, &end, &row, &one, &done])),
        flood("a_notices_without_end", At, frame(b'N', b"SNOTICE\0C00000\0Mhello\0\0")),
        flood(
            "a_rows_without_end",
            At,
            frame(b'D', &[b"\0\x01\0\0\x10\0"[..].to_vec(), vec![b'x'; 4096]].concat()),
        ),
        flood("a_settings_without_end", At, status),
        flood("a_new_settings_without_end", At, frame(b'S', b"#########\0value\0")),
        flood("a_notifications_without_end", At, frame(b'A', b"\0\0\0\x01channel\0payload\0")),
        flood("a_descriptions_without_end", At, row),
        Evil {
            before: b"D\x7f\xff\xff\xff".to_vec(),
            ..flood("a_one_row_without_end", At, vec![b'x'; 8192])
        },
        Evil { before: b"E\x3f\xff\xff\xff".to_vec(), ..flood("a_error_without_end", At, vec![b'x'; 8192]) },
        Evil {
            before: b"S\x3f\xff\xff\xff".to_vec(),
            ..flood("a_setting_without_end", At, vec![b'x'; 8192])
        },
    ]
}

fn resident_kib(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What a client of that role sees of one statement: the tags in their order, rows and the like once, with the errors' text.
async fn victim(port: u16, role: &'static str) -> Vec<String> {
    let mut raw = Raw::dial(port).await;
    raw.send(&startup(&[("user", role), ("database", "app")])).await;
    if let Err(refused) = raw.sign_in("app").await {
        return vec![refused.shown(), format!("H {}", refused.field(b'H')), "closed".to_owned()];
    }
    raw.send(&frame(b'Q', b"/* primacy: primary */ SELECT 'evil'\0")).await;
    let mut seen: Vec<String> = Vec::new();
    loop {
        let message = raw.message().await;
        let shown = match &message {
            None => "closed".to_owned(),
            Some(message) if matches!(message.tag, b'E' | b'Z') => message.shown(),
            Some(message) => char::from(message.tag).to_string(),
        };
        if seen.last() != Some(&shown) || shown.starts_with('E') {
            seen.push(shown);
        }
        match message {
            Some(message) if matches!(message.tag, b'G' | b'W') => raw.send(&frame(b'f', b"no\0")).await,
            Some(message) if message.tag != b'Z' => {}
            _ => return seen,
        }
    }
}

/// Messages that were on their way when their end did not come: nothing can be said in the middle of one.
const CUT_OFF: [&str; 4] =
    ["a_row_of_a_gigabyte_cut_off", "a_one_row_without_end", "a_error_without_end", "a_setting_without_end"];

const BROKE: &str = "E 08P01 server \"node0\" broke the protocol while signing in";

/// What the client must be told, word for word, where PostgreSQL has no words for it.
const TOLD: [(&str, &str); 21] = [
    // Not kept until the limit for signing in: the monitor gets through, so this server is not about to die.
    ("s_nothing_and_goes", "E 57P03 server \"node0\" closed the connection while signing in"),
    ("s_half_a_frame", "E 57P03 server \"node0\" closed the connection while signing in"),
    ("s_garbage", BROKE),
    ("s_frame_of_two_gigabytes", BROKE),
    ("s_frame_shorter_than_its_length", BROKE),
    ("s_a_row", BROKE),
    ("s_ready_at_once", BROKE),
    ("s_challenge_at_once", BROKE),
    ("s_a_million_rounds", BROKE),
    ("s_proof_not_asked", BROKE),
    ("s_key_of_a_megabyte", BROKE),
    ("s_more_behind_ready", BROKE),
    ("s_settings_without_end", BROKE),
    ("s_clear_text_wanted", "E 28000 cannot sign in on server \"node0\" as user \"s_clear_text_wanted\""),
    ("s_gss_wanted", "E 28000 cannot sign in on server \"node0\" as user \"s_gss_wanted\""),
    ("s_refuses_by_itself", "E 53300 sorry"),
    (
        "s_error_without_fields",
        "E 08P01 server \"node0\" refused user \"s_error_without_fields\" and did not say why",
    ),
    ("s_error_not_ended", "E 08P01 server \"node0\" refused user \"s_error_not_ended\" and did not say why"),
    ("a_error_of_nothing", "E 08P01 the server reported an error and did not say which"),
    ("a_error_without_a_code", "E 08P01 the server reported an error and did not say which"),
    ("a_copies_both_ways", "E 08006 the server was lost while it was answering this statement"),
];

/// Whether it is one clean end: at most one error, and then ready or closed.
fn is_clean(role: &str, seen: &[String]) -> bool {
    let errors = seen.iter().filter(|one| one.starts_with("E ")).count();
    let (last, ends) = (seen.last().unwrap(), |word: &str| seen.iter().any(|one| one == word));
    // Whether there is a transaction, only the server knows: its session keeps the connection, and nobody else gets it.
    if role == "a_transaction_from_nowhere" {
        return errors == 0 && last == "Z T";
    }
    if CUT_OFF.contains(&role) && last == "closed" && errors <= 1 {
        return true;
    }
    errors <= 1 && (last == "Z I" && errors + usize::from(ends("C")) >= 1 || last == "closed" && errors == 1)
}

/// The role that it is evil to, with the password of `app`.
async fn make_role(cluster: &Cluster, evil: &Evil) {
    let verifier = "(SELECT rolpassword FROM pg_authid WHERE rolname = 'app')";
    let sql = format!(
        "DO $$BEGIN EXECUTE format('CREATE ROLE {0} LOGIN PASSWORD %L', {verifier}); END$$; GRANT app TO {0}",
        evil.name
    );
    cluster.sql(0, &sql).await;
}

#[tokio::test]
async fn a_server_that_is_silent_at_a_sign_in_is_given_up_and_named() {
    let cluster = Cluster::with_replicas(0).await;
    let silent = Evil { total: usize::MAX, ..says("s_silent", Moment::SigningIn, b"") };
    make_role(&cluster, &silent).await;
    let relay = Relay::before(cluster.node(0).port(), vec![silent]).await;
    let proxy = cluster
        .proxy()
        .set_nodes("port", i64::from(relay.port()))
        .set("pool.server_connect_timeout", "1s")
        .run()
        .await;
    // Long before the time for signing in is over, which is a minute.
    let seen = tokio::time::timeout(LIMIT, victim(proxy.port(), "s_silent")).await.expect("an answer");
    assert_eq!(seen[0], "E 57P03 server \"node0\" did not finish signing in within 1000 ms");
    assert!(relay.done()["s_silent"] >= 3, "tried again");
}

#[tokio::test]
async fn whatever_a_server_says_ends_in_one_error_and_touches_nobody_else() {
    let cluster = Cluster::with_replicas(0).await;
    let evils: Vec<Evil> = while_signing_in().into_iter().chain(while_asked()).collect();
    for evil in &evils {
        make_role(&cluster, evil).await;
    }
    let roles: Vec<&'static str> = evils.iter().map(|evil| evil.name).collect();
    let relay = Relay::before(cluster.node(0).port(), evils).await;
    let proxy = cluster
        .proxy()
        .set_nodes("port", i64::from(relay.port()))
        .set("pool.query_wait_timeout", "5s")
        .run()
        .await;
    let bystander = proxy.client().await;
    let before = resident_kib(&proxy);
    let mut victims: Vec<_> =
        roles.iter().map(|role| (role, tokio::spawn(victim(proxy.port(), role)))).collect();
    let mut most = before;
    let all = async {
        while victims.iter().any(|(_, victim)| !victim.is_finished()) {
            bystander.simple_query("SELECT 1").await.unwrap();
            most = most.max(resident_kib(&proxy));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(6 * LIMIT, all).await.expect("every victim gets its end");
    let mut wrong = Vec::new();
    for (role, victim) in &mut victims {
        let seen = victim.await.unwrap();
        eprintln!("{role:<36} {}", seen.join(" | "));
        let told = TOLD.iter().find(|(one, _)| one == *role);
        if !is_clean(role, &seen) || told.is_some_and(|(_, error)| !seen.iter().any(|one| one == error)) {
            wrong.push(format!("{role}: {}", seen.join(" | ")));
        }
        // What a server says that is none has nothing to do with anybody's password.
        if seen.iter().any(|one| one == BROKE) && seen.iter().any(|one| one.contains("SCRAM")) {
            wrong.push(format!("{role} is told of SCRAM: {}", seen.join(" | ")));
        }
    }
    eprintln!("MEASURED resident: {before} KiB before, {most} KiB at most");
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", proxy.log());
    let done = relay.done();
    assert_eq!(done.len(), roles.len(), "each has had its moment: {done:?}");
    // What ends its server's connection is not tried for ever: it may be the statement that does it.
    let again = done.iter().filter(|(role, times)| role.starts_with("a_") && **times > 8);
    assert_eq!(again.count(), 0, "{done:?}");
    assert!(most - before < GROWN_KIB_MAX, "{before} KiB before, {most} KiB at most");
    assert!(!proxy.log().contains("panicked"));
    eventually(LIMIT, "only connections that are whole remain", async || {
        let left =
            bystander.query_one("SELECT count(*) FROM pg_stat_activity WHERE usename ~ '^[as]_'", &[]).await;
        (left.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}
