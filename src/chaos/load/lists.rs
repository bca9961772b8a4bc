//! Serializable transactions that read lists and append to them, and reads of single lists that may run anywhere.

use super::super::history::{End, List, Member, Op, Transaction};
use super::{Failed, Session, is_doubtful};

pub(super) const TABLE: &str = "CREATE TABLE lists (list bigint PRIMARY KEY, members bigint[] NOT NULL)";

/// Lists that are in use at one time; after so many appends to them all, others are.
const LISTS: u64 = 6;
const APPENDS_MAX: u64 = 600;

/// How a transaction block ended before its COMMIT could be sent.
enum Stopped {
    /// The server, or the proxy, undid it.
    RolledBack,
    /// The connection broke; COMMIT was not sent.
    Broken,
}

pub(super) async fn run(mut session: Session) {
    while session.client().await.is_some() {
        let begun = session.shared.micros();
        let (end, ops, anywhere) = if session.dice.u8(0..4) == 0 {
            read_alone(&mut session).await
        } else {
            transact(&mut session).await
        };
        let ended = session.shared.micros();
        let transaction = Transaction { client: session.number, begun, ended, end, ops, anywhere };
        session.shared.notes().history.push(transaction);
    }
}

fn some_list(session: &mut Session, generation: u64) -> List {
    List::try_from(generation * LISTS + session.dice.u64(0..LISTS)).unwrap_or(List::MAX)
}

async fn read_alone(session: &mut Session) -> (End, Vec<Op>, bool) {
    let list = some_list(session, generation(session));
    match read(session, list).await {
        Ok(members) => (End::Committed, vec![Op::Read(list, members)], true),
        Err(_) => (End::RolledBack, Vec::new(), true),
    }
}

/// All clients append to the same few lists.
fn generation(session: &Session) -> u64 {
    session.shared.next.load(std::sync::atomic::Ordering::Relaxed) / APPENDS_MAX
}

async fn transact(session: &mut Session) -> (End, Vec<Op>, bool) {
    let mut ops = Vec::new();
    let end = match steps(session, &mut ops).await {
        Ok(()) => commit(session).await,
        Err(Stopped::Broken) => End::RolledBack,
        Err(Stopped::RolledBack) => {
            drop(session.ask(async |client| client.batch_execute("ROLLBACK").await).await);
            End::RolledBack
        }
    };
    if end != End::Committed {
        ops.retain(|op| matches!(op, Op::Append(..)));
    }
    (end, ops, false)
}

async fn steps(session: &mut Session, ops: &mut Vec<Op>) -> Result<(), Stopped> {
    let begin = "BEGIN ISOLATION LEVEL SERIALIZABLE";
    session.ask(async |client| client.batch_execute(begin).await).await.map_err(stopped)?;
    let generation = generation(session);
    for _ in 0..session.dice.u8(1..=4) {
        let list = some_list(session, generation);
        if session.dice.bool() {
            let members = read(session, list).await.map_err(stopped)?;
            ops.push(Op::Read(list, members));
        } else {
            let member = session.unique();
            ops.push(Op::Append(list, member));
            append(session, list, member).await.map_err(stopped)?;
        }
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
fn stopped(failed: Failed) -> Stopped {
    match failed {
        Failed::Error(_) => Stopped::RolledBack,
        Failed::Broken => Stopped::Broken,
    }
}

async fn commit(session: &mut Session) -> End {
    match session.ask(async |client| client.simple_query("COMMIT").await).await {
        Ok(_) => End::Committed,
        Err(Failed::Error(error)) if !is_doubtful(&error) => {
            drop(session.ask(async |client| client.batch_execute("ROLLBACK").await).await);
            End::RolledBack
        }
        Err(_) => End::Unknown,
    }
}

async fn read(session: &mut Session, list: List) -> Result<Vec<Member>, Failed> {
    let list = i64::from(list);
    let rows = session
        .ask(async |client| client.query("SELECT members FROM lists WHERE list = $1", &[&list]).await)
        .await?;
    let members: Vec<i64> = rows.first().map(|row| row.get(0)).unwrap_or_default();
    Ok(members.into_iter().map(i64::cast_unsigned).collect())
}

async fn append(session: &mut Session, list: List, member: Member) -> Result<(), Failed> {
    let (list, member) = (i64::from(list), member.cast_signed());
    let upsert = "INSERT INTO lists VALUES ($1, ARRAY[$2::bigint]) \
        ON CONFLICT (list) DO UPDATE SET members = lists.members || $2::bigint";
    session.ask(async |client| client.execute(upsert, &[&list, &member]).await).await.map(drop)
}
