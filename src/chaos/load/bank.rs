//! Transfers between accounts in ordinary transactions; the sum of all accounts never changes, whoever looks.

use super::{Failed, Session};

const ACCOUNTS: i32 = 20;
const EACH: i64 = 1000;

/// What all accounts have together, always.
pub(in super::super) const SUM: i64 = ACCOUNTS as i64 * EACH;

pub(super) const TABLE: &str = "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL); \
    INSERT INTO accounts SELECT id, 1000 FROM generate_series(1, 20) AS id";

pub(super) async fn run(mut session: Session) {
    while session.client().await.is_some() {
        let looked =
            if session.dice.u8(0..3) == 0 { look(&mut session).await } else { transfer(&mut session).await };
        if let Err(Failed::Error(_)) = looked {
            // Whether there is a transaction to be ended does not matter.
            drop(session.ask(async |client| client.batch_execute("ROLLBACK").await).await);
        }
    }
}

async fn look(session: &mut Session) -> Result<(), Failed> {
    let sum =
        session.ask(async |client| client.query_one("SELECT sum(balance)::bigint FROM accounts", &[]).await);
    let sum: i64 = sum.await?.get(0);
    if sum != SUM {
        let story = format!("client {} saw a sum of {sum}", session.number);
        session.shared.notes().wrong_sums.push(story);
    }
    Ok(())
}

async fn transfer(session: &mut Session) -> Result<(), Failed> {
    let (from, to, amount) =
        (session.dice.i32(1..=ACCOUNTS), session.dice.i32(1..=ACCOUNTS), session.dice.i64(1..=10));
    // In the order of their numbers, so that two transfers do not wait for each other.
    let mut changes = [(from, -amount), (to, amount)];
    changes.sort_unstable();
    session.ask(async |client| client.batch_execute("BEGIN").await).await?;
    for (id, by) in changes {
        let update = "UPDATE accounts SET balance = balance + $1 WHERE id = $2";
        session.ask(async |client| client.execute(update, &[&by, &id]).await).await?;
    }
    session.ask(async |client| client.batch_execute("COMMIT").await).await?;
    session.shared.notes().transfers += 1;
    Ok(())
}
