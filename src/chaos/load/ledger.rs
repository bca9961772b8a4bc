//! Autocommitted inserts of unique numbers, each read back at once.

use super::super::history::End;
use super::{Entry, Failed, Session, is_doubtful};

/// Without a unique index, so that a statement that was run twice shows.
pub(super) const TABLE: &str = "CREATE TABLE ledger (token bigint NOT NULL); CREATE INDEX ON ledger (token)";

pub(super) async fn run(mut session: Session) {
    while session.client().await.is_some() {
        let Ok(token) = i64::try_from(session.unique()) else { return };
        let begun = session.shared.micros();
        let insert = session
            .ask(async |client| client.execute("INSERT INTO ledger (token) VALUES ($1)", &[&token]).await);
        let end = match insert.await {
            Ok(_) => End::Committed,
            Err(Failed::Error(error)) if !is_doubtful(&error) => End::RolledBack,
            Err(_) => End::Unknown,
        };
        let ended = session.shared.micros();
        session.shared.notes().entries.push(Entry { token, begun, ended, end });
        if end == End::Committed {
            read_back(&mut session, token).await;
        }
    }
}

async fn read_back(session: &mut Session, token: i64) {
    let read = session.ask(async |client| {
        client.query_one("SELECT count(*) FROM ledger WHERE token = $1", &[&token]).await
    });
    if let Ok(row) = read.await
        && row.get::<_, i64>(0) != 1
    {
        let story = format!(
            "client {} saw its acknowledged row {token} {} times",
            session.number,
            row.get::<_, i64>(0)
        );
        session.shared.notes().stale.push(story);
    }
}
