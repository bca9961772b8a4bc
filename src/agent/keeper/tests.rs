//! What the agent refuses, without a server.

use std::time::Duration;

use super::*;
use crate::postgres::Limits;

fn settings(dir: &Path, token: &str) -> Settings {
    let limit = Duration::from_secs(5);
    Settings {
        node: "n1".into(),
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: dir.join("data"),
        config_file: None,
        pg_bin: None,
        log_file: dir.join("log"),
        state_dir: dir.join("state"),
        token: Some(Secret::new(token)),
        tls: None,
        reclone: false,
        source: None,
        source_database: "postgres".into(),
        limits: Limits { stop: limit, start: limit, rewind: limit, copy: limit },
        fence_after: None,
    }
}

fn keeper(dir: &Path, reclone: bool) -> Arc<Keeper> {
    let settings = Settings { reclone, ..settings(dir, "t") };
    let version = crate::postgres::Version { major: 15, text: "15".into() };
    let installation = Installation { bin_dir: "/nowhere".into(), version, account: Account::Own };
    let instance = instance(&settings, Arc::new(installation));
    let journal = Journal::open(&settings.state_dir).unwrap();
    Arc::new(Keeper { settings, instance, journal, busy: Arc::default(), renewed: Mutex::default() })
}

fn request(conninfo: &str) -> RejoinRequest {
    RejoinRequest {
        conninfo: conninfo.into(),
        password: None,
        slot: None,
        rewind: true,
        twin: None,
        stop: Stop::Fast,
    }
}

#[test]
fn a_directory_that_is_not_there_or_is_roots_is_refused() {
    let missing = account_for(Path::new("/nonexistent/data"));
    assert!(matches!(missing, Err(OpenError::NoDirectory { .. })));
    assert!(matches!(account_for(Path::new("/proc")), Err(OpenError::OwnedByRoot { .. })));
}

#[test]
fn a_copy_is_taken_only_with_permission_and_passwords_stay_out_of_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = request("host='a' port='1' user='r' password='hidden'");
    let comeback = keeper(dir.path(), false).comeback(&upstream).unwrap();
    assert!(comeback.copy.is_none());
    let comeback = keeper(dir.path(), true).comeback(&upstream).unwrap();
    let (copy, rewind) = (comeback.copy.unwrap(), comeback.rewind.unwrap());
    for arguments in [&copy.conninfo, &rewind.conninfo] {
        assert!(!arguments.contains("hidden"), "{arguments}");
    }
    assert_eq!(copy.password.reveal(), "hidden");
    assert!(comeback.follow.reveal().contains("hidden"));
    assert!(rewind.conninfo.contains("dbname='postgres'"), "{}", rewind.conninfo);
}

#[test]
fn a_connection_string_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), true);
    for wrong in ["", "port=1", "postgres://a/b", "host='a\nb'", "host='a"] {
        let refusal = keeper.comeback(&request(wrong)).unwrap_err();
        assert_eq!(refusal.error, Kind::Malformed, "{wrong}");
    }
}

#[tokio::test]
async fn a_second_deed_is_told_what_the_first_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), false);
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let first = Arc::clone(&keeper).deed("rewind", |_| async {
        drop(wait.await);
        Ok("done".to_owned())
    });
    let first = tokio::spawn(first);
    while keeper.journal.notes().doing.is_none() {
        tokio::task::yield_now().await;
    }
    let refusal = Arc::clone(&keeper).stop(Stop::Fast).await.unwrap_err();
    assert_eq!(refusal.error, Kind::Busy);
    assert!(refusal.message.contains("rewind"), "{}", refusal.message);
    // Whoever asked hangs up; it is done all the same.
    first.abort();
    go.send(()).unwrap();
    keeper.quiet().await;
    assert_eq!(keeper.journal.notes().doing, None);
}

#[test]
fn a_lease_of_an_older_epoch_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), false);
    assert!(!keeper.leased());
    keeper.renew(4).unwrap();
    assert_eq!(keeper.renew(3).unwrap_err().error, Kind::Forbidden);
    assert!(keeper.leased() && keeper.renewed_at().is_some());
    drop(keeper);
    // The next agent knows that its server has to have one.
    assert_eq!(Journal::open(&dir.path().join("state")).unwrap().notes().leased, Some(4));
}
