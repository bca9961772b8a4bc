//! Protocol versions: what a client asks for, what it gets, and that it can cancel with the key of that version.

use crate::harness::{Cluster, LIMIT, Raw, eventually, frame, send_cancel, startup, startup_of};

/// What NegotiateProtocolVersion says: the minor version, and the options that are not known.
fn negotiated(body: &[u8]) -> (u32, Vec<String>) {
    let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
    let names = body[8..].split(|&b| b == 0).map(String::from_utf8_lossy);
    let names: Vec<String> = names.take(number(4) as usize).map(Into::into).collect();
    (number(0) - 196_608, names)
}

#[tokio::test]
async fn newer_versions_are_negotiated_down_and_every_key_cancels() {
    let cluster = Cluster::with_replicas(1).await;
    let proxy = cluster.proxy().run().await;
    let grease = ("_pq_.test_protocol_negotiation", "");
    let unknown = || vec![grease.0.to_owned()];
    for (minor, option, answer, key_len) in [
        (0, None, None, 4),
        (0, Some(grease), Some((0, unknown())), 4),
        (2, None, None, 32),
        (2, Some(grease), Some((2, unknown())), 32),
        (9, None, Some((2, Vec::new())), 32),
        (9999, Some(grease), Some((2, unknown())), 32),
    ] {
        let mut client = Raw::dial(proxy.port()).await;
        let mut params = vec![("user", "app"), ("database", "app")];
        params.extend(option);
        client.send(&startup_of(minor, &params)).await;
        if let Some(answer) = answer {
            let first = client.message().await.unwrap();
            assert_eq!((first.tag, negotiated(&first.body)), (b'v', answer), "3.{minor}");
        }
        client.sign_in("app").await.unwrap();
        assert_eq!(client.key.1.len(), key_len, "3.{minor}");

        client.send(&frame(b'Q', b"/* primacy: primary */ SELECT pg_sleep(60)\0")).await;
        let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND usename = 'app'";
        eventually(LIMIT, "it runs", async || (cluster.value(0, running).await == "1").then_some(())).await;
        // Nearly the key is not the key, and neither is its beginning.
        let (mut wrong, mut part) = (client.key.clone(), client.key.clone());
        wrong.1[key_len - 1] ^= 1;
        part.1.truncate(4);
        send_cancel(proxy.port(), &wrong).await;
        if part != client.key {
            send_cancel(proxy.port(), &part).await;
        }
        assert_eq!(cluster.value(0, running).await, "1", "3.{minor}");
        send_cancel(proxy.port(), &client.key).await;
        let seen = client.until_ready().await;
        assert!(seen.iter().any(|shown| shown.starts_with("E 57014")), "3.{minor}: {seen:?}");
    }
}

#[tokio::test]
async fn a_client_need_not_wait_for_its_sign_in_before_it_asks() {
    let cluster = Cluster::with_replicas(1).await;
    cluster.sql(0, "ALTER ROLE app REPLICATION").await;
    let proxy = cluster.proxy().run().await;
    let two = [frame(b'Q', b"SELECT 1\0"), frame(b'Q', b"SELECT 2\0")].concat();
    for (params, ahead, answers) in [
        (vec![("user", "app"), ("database", "app")], two.clone(), ["D 1", "D 2"]),
        (vec![("user", "app"), ("database", "app"), ("replication", "database")], two, ["D 1", "D 2"]),
        (
            vec![("user", "postgres"), ("database", "primacy")],
            [frame(b'Q', b"SHOW VERSION\0"), frame(b'Q', b"SHOW VERSION\0")].concat(),
            ["D ", "D "],
        ),
    ] {
        // The second one whole, and cut in the middle.
        for whole in [true, false] {
            let (now, later) = ahead.split_at(if whole { ahead.len() } else { ahead.len() - 3 });
            let mut client = Raw::dial(proxy.port()).await;
            client.send(&startup(&params)).await;
            client.sign_in_ahead(params[0].1, now).await.unwrap();
            client.send(later).await;
            for answer in answers {
                let seen = client.until_ready().await;
                assert!(seen.iter().any(|shown| shown.starts_with(answer)), "{params:?}: {seen:?}");
            }
        }
    }
}
