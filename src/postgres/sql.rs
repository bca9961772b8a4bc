//! A short-lived SQL connection to a local server, for setting it up and for rejoining. Everything has a limit.

use std::future::Future;
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use super::PostgresError;
use crate::model::Secret;

/// Who signs in where.
#[derive(Clone, Debug)]
pub struct Login {
    /// The server's name, for errors.
    pub name: String,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Database.
    pub database: String,
}

/// Signs in. Statements of this session do not wait for synchronous replicas: it is used before there are any.
pub async fn connect(login: &Login, limit: Duration) -> Result<Client, PostgresError> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(login.port).user(&login.user).password(login.password.reveal());
    config.dbname(&login.database).application_name("primacy-setup").connect_timeout(limit);
    config.options("-c synchronous_commit=local");
    let (client, connection) = within(&login.name, "signing in", limit, config.connect(NoTls)).await?;
    tokio::spawn(async move {
        // It ends with the client; a failure shows in the statement that it interrupts.
        connection.await.ok();
    });
    Ok(client)
}

/// `work` within `limit`, with the server and the purpose in its errors.
pub(super) async fn within<T>(
    name: &str,
    doing: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, PostgresError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(PostgresError::Sql { name: name.to_owned(), doing, source }),
        Err(_elapsed) => Err(PostgresError::SqlTooSlow { name: name.to_owned(), doing, limit }),
    }
}
