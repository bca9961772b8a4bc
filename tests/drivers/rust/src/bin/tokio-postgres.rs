//! tokio-postgres: named prepared statements, pipelining, transactions, COPY, cancel.

use std::pin::pin;
use std::time::Duration;

use drivers::{Error, Inserts, Steps, arguments, same};
use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

const TABLE: &str = "t_tokio";

fn sql(text: &str) -> String {
    text.replace("{t}", TABLE)
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn count(c: &Client, filter: &str) -> Result<i64, Error> {
    Ok(c.query_one(&sql(&format!("SELECT count(*) FROM {{t}} WHERE {filter}")), &[]).await?.get(0))
}

async fn write(c: &Client) -> Result<(), Error> {
    c.batch_execute(&sql("DROP TABLE IF EXISTS {t}; CREATE TABLE {t} (id int PRIMARY KEY, name text)"))
        .await?;
    let insert = c.prepare(&sql("INSERT INTO {t} VALUES ($1, $2)")).await?;
    for n in 0..20 {
        same(c.execute(&insert, &[&n, &format!("näme {n}")]).await?, 1)?;
    }
    Ok(())
}

async fn read(c: &Client) -> Result<(), Error> {
    let select = c.prepare(&sql("SELECT name FROM {t} WHERE id = $1")).await?;
    let asked: Vec<i32> = (0..20).collect();
    // All at once: the driver pipelines them.
    let rows = future::try_join_all(asked.iter().map(async |n| c.query_one(&select, &[n]).await)).await?;
    for (n, row) in rows.iter().enumerate() {
        same(row.get::<_, String>(0), format!("näme {n}"))?;
    }
    same(c.query_typed("SELECT 1 + $1::int", &[(&4_i32, tokio_postgres::types::Type::INT4)]).await?.len(), 1)
}

async fn fresh(c: &Client) -> Result<(), Error> {
    for n in 0..50 {
        c.execute(&sql("UPDATE {t} SET name = $1 WHERE id = 0"), &[&n.to_string()]).await?;
        let row = c.query_one(&sql("SELECT name FROM {t} WHERE id = 0"), &[]).await?;
        same(row.get::<_, String>(0), n.to_string())?;
    }
    Ok(())
}

async fn transactions(c: &mut Client) -> Result<(), Error> {
    let tx = c.transaction().await?;
    tx.execute(&sql("INSERT INTO {t} VALUES (300, 'tx')"), &[]).await?;
    tx.commit().await?;
    let tx = c.transaction().await?;
    tx.execute(&sql("DELETE FROM {t}"), &[]).await?;
    tx.rollback().await?;
    same(count(c, "id = 300").await?, 1)?;
    let tx = c.transaction().await?;
    tx.execute(&sql("INSERT INTO {t} VALUES (301, 'gone')"), &[]).await?;
    let Err(error) = tx.execute(&sql("INSERT INTO {t} VALUES (300, 'twice')"), &[]).await else {
        return Err("a duplicate was taken".into());
    };
    same(error.code(), Some(&SqlState::UNIQUE_VIOLATION))?;
    let Err(error) = tx.query("SELECT 1", &[]).await else {
        return Err("a failed transaction went on".into());
    };
    same(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION))?;
    drop(tx);
    same(count(c, "id = 301").await?, 0)
}

async fn portal(c: &mut Client) -> Result<(), Error> {
    let tx = c.transaction().await?;
    let portal = tx.bind("SELECT generate_series(1, 100)", &[]).await?;
    let mut found = 0;
    loop {
        let part = tx.query_portal(&portal, 30).await?;
        found += part.len();
        if part.is_empty() {
            break;
        }
    }
    tx.commit().await?;
    same(found, 100)
}

async fn read_only(c: &mut Client) -> Result<(), Error> {
    let tx = c.build_transaction().read_only(true).start().await?;
    same(tx.query_one(&sql("SELECT count(*) FROM {t} WHERE id < 20"), &[]).await?.get::<_, i64>(0), 20)?;
    let Err(error) = tx.execute(&sql("DELETE FROM {t}"), &[]).await else { return Err("it wrote".into()) };
    same(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION))?;
    Ok(tx.rollback().await?)
}

async fn copy(c: &Client) -> Result<(), Error> {
    let mut sink = pin!(c.copy_in(&sql("COPY {t} FROM STDIN")).await?);
    for n in 10_000..30_000 {
        sink.send(std::io::Cursor::new(format!("{n}\tcopied\n").into_bytes())).await?;
    }
    same(sink.finish().await?, 20_000)?;
    let parts = c.copy_out(&sql("COPY {t} TO STDOUT")).await?;
    let lines = parts
        .try_fold(0, async |lines, part| Ok(lines + part.iter().filter(|&&byte| byte == b'\n').count()))
        .await?;
    same(lines, 20_021)?;
    // Left alone in the middle.
    let mut stream = Box::pin(c.copy_out(&sql("COPY {t} TO STDOUT")).await?);
    same(stream.next().await.is_some(), true)?;
    drop(stream);
    c.execute(&sql("DELETE FROM {t} WHERE id >= 10000"), &[]).await?;
    same(count(c, "true").await?, 21)
}

async fn cancel(c: &Client) -> Result<(), Error> {
    let token = c.cancel_token();
    let mut sleeping = Box::pin(c.query("SELECT pg_sleep(20)", &[]));
    // A request that overtakes its statement cancels nothing: it is sent until one has an effect.
    let slept = loop {
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::select! {
            slept = &mut sleeping => break slept,
            () = pause => token.cancel_query(NoTls).await?,
        }
    };
    drop(sleeping);
    let Err(error) = slept else { return Err("it was not cancelled".into()) };
    same(error.code(), Some(&SqlState::QUERY_CANCELED))?;
    same(count(c, "id < 20").await?, 20)
}

async fn inserts(url: &str, length: Duration) -> Result<(), Error> {
    let c = connect(url).await?;
    c.batch_execute(&sql("DROP TABLE IF EXISTS {t}_loop; CREATE TABLE {t}_loop (n int)")).await?;
    let insert = c.prepare(&sql("INSERT INTO {t}_loop VALUES ($1)")).await?;
    let mut inserts = Inserts::new(length);
    while let Some(n) = inserts.again() {
        inserts.note(c.execute(&insert, &[&n]).await);
    }
    let rows = c.query(&sql("SELECT n FROM {t}_loop"), &[]).await?;
    inserts.judge(&rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (url, length) = arguments();
    if let Some(length) = length {
        return inserts(&url, length).await;
    }
    let mut steps = Steps::default();
    let mut c = connect(&url).await?;
    steps.run("parameterised_write", write(&c)).await;
    steps.run("parameterised_read_pipelined", read(&c)).await;
    steps.run("own_writes_are_read", fresh(&c)).await;
    steps.run("transactions", transactions(&mut c)).await;
    steps.run("portal", portal(&mut c)).await;
    steps.run("read_only_transaction", read_only(&mut c)).await;
    steps.run("copy", copy(&c)).await;
    steps.run("cancel", cancel(&c)).await;
    steps.end()
}
