//! Asks every node what `judge` needs to know; reads only.

use std::time::Duration;

use futures_util::future::join_all;
use tokio_postgres::Client;

use crate::config::Settings;
use crate::control::link::{Link, LinkError, Target, within};
use crate::control::settings::NodeSettings;
use crate::model::NodeId;
use crate::proxy::settings::Auth;

/// To connect, and for each question.
const DEADLINE: Duration = Duration::from_secs(5);

/// Settings that primacy changes on the nodes.
pub(super) const PARAMETERS: [&str; 6] = [
    "primary_conninfo",
    "restore_command",
    "primary_slot_name",
    "synchronous_standby_names",
    "wal_receiver_timeout",
    "default_transaction_read_only",
];

/// Functions that primacy calls on the nodes and that are not everybody's.
pub(super) const FUNCTIONS: [&str; 3] =
    ["pg_promote(boolean,integer)", "pg_reload_conf()", "pg_wal_replay_resume()"];

/// What came of asking one node: facts, or in one line why there are none.
pub(super) struct NodeAnswer {
    pub(super) name: String,
    pub(super) facts: Result<NodeFacts, String>,
}

/// What one node says.
#[expect(clippy::struct_excessive_bools, reason = "facts are independent of each other")]
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NodeFacts {
    /// `server_version_num`.
    pub(super) version: i32,
    pub(super) in_recovery: bool,
    pub(super) system_id: String,
    pub(super) timeline: i32,
    pub(super) wal_level: String,
    pub(super) wal_senders_max: i32,
    pub(super) slots_max: i32,
    pub(super) sync_commit: String,
    pub(super) sync_names: String,
    /// Roles, databases and functions that lower `synchronous_commit`, as SQL names them.
    pub(super) lowered: Vec<String>,
    /// Checksums or `wal_log_hints`: what pg_rewind needs.
    pub(super) can_be_rewound: bool,
    /// Standbys that stream from it: application names.
    pub(super) standbys: Vec<String>,
    /// Whether it streams from somewhere.
    pub(super) receives: bool,
    pub(super) superuser: bool,
    pub(super) replication: bool,
    /// What the service role lacks, as grants.
    pub(super) lacking: Vec<String>,
    /// Whether it could restart a fenced former primary by crashing a session of its own.
    pub(super) can_restart: bool,
    /// What came of the query for verifiers, asked for the service role itself.
    pub(super) auth: AuthAnswer,
}

/// What came of the query for verifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum AuthAnswer {
    /// It was not asked (a users file).
    #[default]
    NotAsked,
    /// A verifier came back, of this kind.
    Verifier(&'static str),
    /// No row, or a row without a verifier.
    Nothing,
    /// It failed.
    Failed(String),
}

/// Asks every node at the same time.
pub(super) async fn ask_all(settings: &Settings) -> Vec<NodeAnswer> {
    join_all(settings.control.ids().zip(&settings.control.nodes).map(|(id, node)| ask(id, node, settings)))
        .await
}

async fn ask(id: NodeId, node: &NodeSettings, settings: &Settings) -> NodeAnswer {
    let control = &settings.control;
    let facts = async {
        let target =
            Target::new(id, node, &control.service, &control.database).map_err(|error| chain(&error))?;
        let link = Link::open(&target, DEADLINE).await.map_err(|error| chain(&error))?;
        within(DEADLINE, facts(link.client(), settings)).await.map_err(|error| chain(&error))
    };
    NodeAnswer { name: node.name.to_string(), facts: facts.await }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn facts(client: &Client, settings: &Settings) -> Result<NodeFacts, LinkError> {
    let mut facts = server(client).await?;
    facts.standbys = standbys(client).await?;
    facts.lowered = lowered(client).await?;
    if !facts.superuser {
        facts.can_restart = has_role(client, "pg_execute_server_program").await?
            && has_role(client, "pg_write_server_files").await?;
        facts.lacking = lacking(client, facts.version, &settings.control.database).await?;
    }
    facts.auth = auth(client, settings).await;
    Ok(facts)
}

async fn server(client: &Client) -> Result<NodeFacts, LinkError> {
    let row = client
        .query_one(
            "SELECT pg_catalog.current_setting('server_version_num')::int, pg_catalog.pg_is_in_recovery(),
                    (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
                    (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()),
                    pg_catalog.current_setting('wal_level'),
                    pg_catalog.current_setting('max_wal_senders')::int,
                    pg_catalog.current_setting('max_replication_slots')::int,
                    pg_catalog.current_setting('synchronous_commit'),
                    pg_catalog.current_setting('synchronous_standby_names'),
                    pg_catalog.current_setting('wal_log_hints')::bool
                        OR pg_catalog.current_setting('data_checksums')::bool,
                    EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver WHERE pid IS NOT NULL),
                    r.rolsuper, r.rolreplication
               FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
            &[],
        )
        .await?;
    Ok(NodeFacts {
        version: row.try_get(0)?,
        in_recovery: row.try_get(1)?,
        system_id: row.try_get(2)?,
        timeline: row.try_get(3)?,
        wal_level: row.try_get(4)?,
        wal_senders_max: row.try_get(5)?,
        slots_max: row.try_get(6)?,
        sync_commit: row.try_get(7)?,
        sync_names: row.try_get(8)?,
        can_be_rewound: row.try_get(9)?,
        receives: row.try_get(10)?,
        superuser: row.try_get(11)?,
        replication: row.try_get(12)?,
        ..NodeFacts::default()
    })
}

async fn standbys(client: &Client) -> Result<Vec<String>, LinkError> {
    let rows = client
        .query("SELECT application_name FROM pg_catalog.pg_stat_replication ORDER BY 1 LIMIT 1000", &[])
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Who sets `synchronous_commit` to something that waits for no standby's disk. Functions are those of this database.
async fn lowered(client: &Client) -> Result<Vec<String>, LinkError> {
    let rows = client
        .query(
            "WITH setting(who, config) AS (
               SELECT pg_catalog.concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname), s.setconfig
                 FROM pg_catalog.pg_db_role_setting s
                 LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
                 LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
               UNION ALL
               SELECT 'function ' || p.oid::regprocedure::text, p.proconfig FROM pg_catalog.pg_proc p
                WHERE p.proconfig IS NOT NULL)
             SELECT who FROM setting, unnest(config) one
              WHERE one ILIKE 'synchronous_commit=%'
                AND lower(pg_catalog.split_part(one, '=', 2)) NOT IN ('on', 'remote_apply', 'true', 'yes', '1')
              ORDER BY 1 LIMIT 100",
            &[],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn has_role(client: &Client, role: &str) -> Result<bool, LinkError> {
    let row = client.query_one("SELECT pg_catalog.pg_has_role($1::name, 'USAGE')", &[&role]).await?;
    Ok(row.try_get(0)?)
}

/// Which of the needed grants the role does not have. Roles and functions differ by version, so each is asked by name.
async fn lacking(client: &Client, version: i32, database: &str) -> Result<Vec<String>, LinkError> {
    let mut lacking = Vec::new();
    for role in ["pg_monitor", "pg_signal_backend"] {
        if !has_role(client, role).await? {
            lacking.push(format!("GRANT {role}"));
        }
    }
    for function in FUNCTIONS {
        let row = client
            .query_one("SELECT pg_catalog.has_function_privilege($1::text, 'EXECUTE')", &[&function])
            .await?;
        if !row.try_get::<_, bool>(0)? {
            lacking.push(format!("GRANT EXECUTE ON FUNCTION {function}"));
        }
    }
    let sql = "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')";
    if !client.query_one(sql, &[]).await?.try_get::<_, bool>(0)? {
        lacking.push(format!("GRANT CREATE ON DATABASE \"{}\"", database.replace('"', "\"\"")));
    }
    // Before 15 only a superuser may ALTER SYSTEM, and there is nothing to grant; `judge` says so.
    if version < 150_000 {
        return Ok(lacking);
    }
    for parameter in PARAMETERS {
        let sql = "SELECT pg_catalog.has_parameter_privilege($1::text, 'ALTER SYSTEM')";
        if !client.query_one(sql, &[&parameter]).await?.try_get::<_, bool>(0)? {
            lacking.push(format!("GRANT ALTER SYSTEM ON PARAMETER {parameter}"));
        }
    }
    Ok(lacking)
}

async fn auth(client: &Client, settings: &Settings) -> AuthAnswer {
    let Auth::Query { sql, .. } = &settings.proxy.auth else { return AuthAnswer::NotAsked };
    let user = settings.proxy.service.user.to_string();
    match client.query_opt(&**sql, &[&user]).await {
        Err(error) => AuthAnswer::Failed(chain(&error)),
        Ok(None) => AuthAnswer::Nothing,
        Ok(Some(row)) => match row.try_get::<_, Option<String>>(1) {
            Err(error) => AuthAnswer::Failed(chain(&error)),
            Ok(Some(verifier)) if verifier.starts_with("SCRAM-SHA-256$") => {
                AuthAnswer::Verifier("SCRAM-SHA-256")
            }
            Ok(Some(verifier)) if verifier.starts_with("md5") => AuthAnswer::Verifier("md5"),
            Ok(Some(_)) => AuthAnswer::Verifier("plain text"),
            Ok(None) => AuthAnswer::Nothing,
        },
    }
}
