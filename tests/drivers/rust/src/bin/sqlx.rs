//! sqlx: statements are prepared by name and kept; transactions, COPY, LISTEN, cancel by the server's own function.

use drivers::{Error, Inserts, Steps, arguments, same};
use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnection, PgListener, PgPoolCopyExt, PgPoolOptions};
use sqlx::{Connection, Executor, Row};

const TABLE: &str = "t_sqlx";

fn sql(text: &str) -> String {
    text.replace("{t}", TABLE)
}

async fn count(c: &mut PgConnection, filter: &str) -> Result<i64, Error> {
    let text = sql(&format!("SELECT count(*) FROM {{t}} WHERE {filter}"));
    Ok(sqlx::query_scalar(&text).fetch_one(c).await?)
}

async fn write(c: &mut PgConnection) -> Result<(), Error> {
    c.execute(sql("DROP TABLE IF EXISTS {t}").as_str()).await?;
    c.execute(sql("CREATE TABLE {t} (id int PRIMARY KEY, name text)").as_str()).await?;
    for n in 0..20 {
        let text = sql("INSERT INTO {t} VALUES ($1, $2)");
        let done = sqlx::query(&text).bind(n).bind(format!("näme {n}")).execute(&mut *c).await?;
        same(done.rows_affected(), 1)?;
    }
    Ok(())
}

async fn read(c: &mut PgConnection) -> Result<(), Error> {
    for n in 0..20 {
        let text = sql("SELECT name FROM {t} WHERE id = $1");
        let row = sqlx::query(&text).bind(n).fetch_one(&mut *c).await?;
        same(row.try_get::<String, _>(0)?, format!("näme {n}"))?;
    }
    let all: Vec<_> = sqlx::query(&sql("SELECT * FROM {t}")).fetch(&mut *c).try_collect().await?;
    same(all.len(), 20)
}

async fn fresh(c: &mut PgConnection) -> Result<(), Error> {
    for n in 0..50 {
        let (write, read) =
            (sql("UPDATE {t} SET name = $1 WHERE id = 0"), sql("SELECT name FROM {t} WHERE id = 0"));
        sqlx::query(&write).bind(n.to_string()).execute(&mut *c).await?;
        same(sqlx::query_scalar::<_, String>(&read).fetch_one(&mut *c).await?, n.to_string())?;
    }
    Ok(())
}

async fn commit(c: &mut PgConnection) -> Result<(), Error> {
    let mut tx = c.begin().await?;
    tx.execute(sql("INSERT INTO {t} VALUES (300, 'tx')").as_str()).await?;
    same(count(&mut tx, "id = 300").await?, 1)?;
    tx.commit().await?;
    same(count(c, "id = 300").await?, 1)
}

async fn rollback(c: &mut PgConnection) -> Result<(), Error> {
    let mut tx = c.begin().await?;
    tx.execute(sql("DELETE FROM {t}").as_str()).await?;
    tx.rollback().await?;
    same(count(c, "id = 300").await?, 1)?;
    // Dropped without a word: rolled back before the next statement.
    let mut tx = c.begin().await?;
    tx.execute(sql("DELETE FROM {t}").as_str()).await?;
    drop(tx);
    same(count(c, "id = 300").await?, 1)
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned()).unwrap_or_default()
}

async fn error_inside(c: &mut PgConnection) -> Result<(), Error> {
    let mut tx = c.begin().await?;
    tx.execute(sql("INSERT INTO {t} VALUES (301, 'gone')").as_str()).await?;
    let text = sql("INSERT INTO {t} VALUES ($1)");
    let Err(error) = sqlx::query(&text).bind(300).execute(&mut *tx).await else {
        return Err("a duplicate was taken".into());
    };
    same(code(&error), "23505".into())?;
    let mut inner = tx.begin().await;
    if inner.is_ok() {
        return Err("a savepoint in a failed transaction".into());
    }
    inner = Err(sqlx::Error::RowNotFound);
    drop(inner);
    tx.rollback().await?;
    same(count(c, "id = 301").await?, 0)
}

async fn copy(c: &mut PgConnection, url: &str) -> Result<(), Error> {
    let mut sink = c.copy_in_raw(&sql("COPY {t} FROM STDIN")).await?;
    for n in 10_000..30_000 {
        sink.send(format!("{n}\tcopied\n").as_bytes()).await?;
    }
    same(sink.finish().await?, 20_000)?;
    same(count(c, "id >= 10000").await?, 20_000)?;
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    let mut lines = 0;
    let mut stream = pool.copy_out_raw(&sql("COPY {t} TO STDOUT")).await?;
    while let Some(part) = stream.try_next().await? {
        lines += part.iter().filter(|&&byte| byte == b'\n').count();
    }
    drop(stream);
    same(lines, 20_021)?;
    c.execute(sql("DELETE FROM {t} WHERE id >= 10000").as_str()).await?;
    Ok(())
}

async fn pool(url: &str) -> Result<(), Error> {
    let pool = PgPoolOptions::new().max_connections(5).connect(url).await?;
    let mut tasks = Vec::new();
    for n in 0..50_i32 {
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            sqlx::query_scalar::<_, i32>("SELECT $1 + 1").bind(n).fetch_one(&pool).await
        }));
    }
    for (n, task) in (0..).zip(tasks) {
        same(task.await??, n + 1)?;
    }
    pool.close().await;
    Ok(())
}

async fn listen(c: &mut PgConnection, url: &str) -> Result<(), Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen("sqlx_news").await?;
    c.execute("SELECT pg_notify('sqlx_news', 'hello')").await?;
    let heard = tokio::time::timeout(std::time::Duration::from_secs(5), listener.recv()).await??;
    same(heard.payload(), "hello")
}

/// sqlx has no cancel requests; a statement that runs for too long is ended by the server's time limit.
async fn time_limit(c: &mut PgConnection) -> Result<(), Error> {
    c.execute("SET statement_timeout TO '200ms'").await?;
    let Err(error) = sqlx::query("SELECT pg_sleep(20)").execute(&mut *c).await else {
        return Err("it was not stopped".into());
    };
    same(code(&error), "57014".into())?;
    c.execute("RESET statement_timeout").await?;
    same(count(c, "id < 20").await?, 20)
}

async fn inserts(url: &str, length: std::time::Duration) -> Result<(), Error> {
    let mut c = PgConnection::connect(url).await?;
    c.execute(sql("DROP TABLE IF EXISTS {t}_loop").as_str()).await?;
    c.execute(sql("CREATE TABLE {t}_loop (n int)").as_str()).await?;
    let mut inserts = Inserts::new(length);
    let text = sql("INSERT INTO {t}_loop VALUES ($1)");
    while let Some(n) = inserts.again() {
        inserts.note(sqlx::query(&text).bind(n).execute(&mut c).await);
    }
    let found: Vec<i32> = sqlx::query_scalar(&sql("SELECT n FROM {t}_loop")).fetch_all(&mut c).await?;
    inserts.judge(&found)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (url, length) = arguments();
    if let Some(length) = length {
        return inserts(&url, length).await;
    }
    let mut steps = Steps::default();
    let mut c = PgConnection::connect(&url).await?;
    steps.run("parameterised_write", write(&mut c)).await;
    steps.run("parameterised_read", read(&mut c)).await;
    steps.run("own_writes_are_read", fresh(&mut c)).await;
    steps.run("transaction_commit", commit(&mut c)).await;
    steps.run("transaction_rollback", rollback(&mut c)).await;
    steps.run("transaction_error", error_inside(&mut c)).await;
    steps.run("copy", copy(&mut c, &url)).await;
    steps.run("pool", pool(&url)).await;
    steps.run("listen_notify", listen(&mut c, &url)).await;
    steps.run("statement_timeout", time_limit(&mut c)).await;
    steps.end()
}
