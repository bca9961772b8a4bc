//! Two connections that a statement is run on, and what is seen of it there.

use futures_util::TryStreamExt as _;
use tokio_postgres::Client;

use crate::server::rows;

/// What a session holds beside its transaction, as one value. Settings: those that somebody has set.
const SESSION: &str = "
    SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) || ' locks '
        || (SELECT count(*) FROM pg_prepared_statements) || ' prepared '
        || (SELECT count(*) FROM pg_cursors WHERE is_holdable) || ' cursors '
        || (SELECT count(*) FROM pg_listening_channels()) || ' channels '
        || pg_my_temp_schema() || ' temporary '
        || coalesce((SELECT string_agg(name || '=' || setting, ',' ORDER BY name)
                     FROM pg_settings WHERE source = 'session'), '')";

/// What the database holds beside what a transaction number would show: sequences.
const SEQUENCES: &str = "SELECT last_value || is_called::text FROM numbers";

/// All rows, large objects and sequences.
const EVERYTHING: &str = "
    SELECT (SELECT string_agg(plain::text, ';' ORDER BY a) FROM plain)
        || (SELECT string_agg(keyed::text, ';' ORDER BY id) FROM keyed)
        || (SELECT count(*) FROM scratch) || (SELECT count(*) FROM pg_class) || (SELECT count(*) FROM pg_proc)
        || (SELECT string_agg(oid::text, ',') FROM pg_largeobject_metadata)
        || (SELECT last_value || is_called::text FROM numbers)";

const SETTINGS: &str = "SET statement_timeout = '250ms'; SET jit = off; SET client_min_messages = error;
    SET work_mem = '4MB'";

pub(super) struct Witness {
    primary: Client,
    standby: Client,
    session: String,
    sequences: String,
    everything: String,
}

impl Witness {
    pub(super) async fn new(primary: Client, standby: Client) -> Self {
        for client in [&primary, &standby] {
            client.batch_execute(SETTINGS).await.unwrap();
        }
        let session = value(&standby, SESSION).await;
        let sequences = value(&primary, SEQUENCES).await;
        let everything = value(&primary, EVERYTHING).await;
        Self { primary, standby, session, sequences, everything }
    }

    pub(super) fn primary(&self) -> &Client {
        &self.primary
    }

    /// Runs a text on both. Whether the standby answered it without an error, or what is wrong with calling it a read.
    pub(super) async fn watch(&self, text: &str) -> Result<bool, String> {
        let answered = match run(&self.standby, text).await {
            Ok(()) => true,
            Err(error) => {
                let Some(error) = error.as_db_error() else {
                    return Err(format!("the connection broke: {error}"));
                };
                let (code, message) = (error.code().code(), error.message());
                if code == "25006" || message.contains("recovery") || message.contains("standby") {
                    return Err(format!("the standby refused it: {code} {message}"));
                }
                false
            }
        };
        let session = value(&self.standby, SESSION).await;
        if session != self.session {
            self.standby.batch_execute("DISCARD ALL").await.unwrap();
            self.standby.batch_execute(SETTINGS).await.unwrap();
            return Err(format!("it left something in the session: {session}"));
        }
        self.on_primary(text).await?;
        Ok(answered)
    }

    /// Runs it in a transaction: one that has written has a number, and sequences keep what was drawn.
    async fn on_primary(&self, text: &str) -> Result<(), String> {
        self.primary.batch_execute("BEGIN").await.unwrap();
        let number = match run(&self.primary, text).await {
            Ok(()) => value(&self.primary, "SELECT pg_current_xact_id_if_assigned()").await,
            Err(_) => String::new(),
        };
        self.primary.batch_execute("ROLLBACK").await.unwrap();
        if !number.is_empty() {
            return Err(format!("its transaction has written: it has the number {number}"));
        }
        if value(&self.primary, SEQUENCES).await != self.sequences {
            return Err("it has drawn from a sequence".to_owned());
        }
        Ok(())
    }

    /// Nothing of all this has left a trace.
    pub(super) async fn nothing_changed(&self) {
        assert_eq!(value(&self.primary, EVERYTHING).await, self.everything);
        let refused = self.standby.simple_query("CREATE TABLE nothing ()").await.unwrap_err();
        assert_eq!(
            refused.code().map(tokio_postgres::error::SqlState::code),
            Some("25006"),
            "still a standby"
        );
    }
}

/// Runs a text to its end. The client takes what COPY gives only where it asks for it.
async fn run(client: &Client, text: &str) -> Result<(), tokio_postgres::Error> {
    match client.simple_query(text).await {
        Err(error) if error.as_db_error().is_none() && text.to_ascii_lowercase().contains("copy") => {
            let mut rows = std::pin::pin!(client.copy_out(text).await?);
            while rows.try_next().await?.is_some() {}
            Ok(())
        }
        ran => ran.map(drop),
    }
}

async fn value(client: &Client, sql: &str) -> String {
    rows(client, sql).await.pop().and_then(|mut row| row.pop()).unwrap_or_default()
}
