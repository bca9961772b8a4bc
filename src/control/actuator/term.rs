//! The term row: the first write on a new primary, which makes it *the* primary once it has its quorum.
//!
//! The connection is opened while the promotion still runs, and the row goes out in one round trip: until it is
//! acknowledged all clients wait.

use std::time::Duration;

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::recruit::lsn;
use super::{Actuator, DeedError};
use crate::control::hands::TermLink;
use crate::control::link::{Link, LinkError, Target, within};
use crate::failover::Outcome;
use crate::model::{Epoch, NodeId};

/// To sign in.
const OPEN_MAX: Duration = Duration::from_secs(3);

const TABLE: &str = "\
CREATE SCHEMA IF NOT EXISTS primacy;
CREATE TABLE IF NOT EXISTS primacy.term (
  epoch bigint PRIMARY KEY,
  node text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
)";

const IS_THERE: &str = "SELECT to_regclass('primacy.term') IS NOT NULL";

const ROW: &str = "INSERT INTO primacy.term (epoch, node) VALUES ($1, $2) \
    ON CONFLICT (epoch) DO UPDATE SET node = excluded.node, at = excluded.at";

/// A connection with the row's statement prepared; a standby can do that, too.
pub(super) async fn open(target: &Target) -> Result<TermLink, LinkError> {
    let link = Link::open(target, OPEN_MAX).await?;
    let row = within(OPEN_MAX, async {
        let there = is_there(&link).await?;
        Ok::<_, tokio_postgres::Error>(if there { Some(link.client().prepare(ROW).await?) } else { None })
    })
    .await?;
    Ok((link, row))
}

async fn is_there(link: &Link) -> Result<bool, tokio_postgres::Error> {
    link.client().query_one(IS_THERE, &[]).await?.try_get(0)
}

impl Actuator {
    /// Writes the epoch's row on the new primary and waits for its quorum.
    pub(super) async fn write_term_row(&self, node: NodeId, epoch: Epoch) -> Result<Outcome, DeedError> {
        let hand = self.hand(node)?;
        // A connection of its own: it hears the server's warnings, and is closed if the wait is given up.
        let (link, row) = match hand.take_for_term() {
            Some(link) => link,
            None => open(&hand.target).await?,
        };
        let name = self.settings.name(node);
        let number = i64::try_from(epoch.0).map_err(|error| DeedError::State(error.to_string()))?;
        // Given up a little before the core gives it up, so that the wait can be ended on the server, too.
        let limit = self.settings.failover.term_row_timeout.mul_f32(0.9);
        let written = within(limit, async {
            let row = match row {
                Some(row) => row,
                None => prepare(&link).await?,
            };
            write(&link, &row, &[&number, &&*name]).await
        })
        .await;
        if link.quorum_wait_cancelled() {
            // The commit stands on this node alone and looks like a success (T4).
            return Err(DeedError::State("the wait for the quorum was cancelled".into()));
        }
        match written {
            Ok(position) => Ok(Outcome::Established(lsn(Some(&position))?)),
            Err(error) => {
                link.cancel(&hand.target).await;
                Err(error.into())
            }
        }
    }
}

/// The row's statement; makes the table where it is missing.
async fn prepare(link: &Link) -> Result<Statement, tokio_postgres::Error> {
    // Only where it is missing: making it takes locks and rights that a later row does not need.
    if !is_there(link).await? {
        let make = format!("BEGIN READ WRITE; SET LOCAL synchronous_commit = on; {TABLE}; COMMIT");
        link.client().batch_execute(&make).await?;
    }
    link.client().prepare(ROW).await
}

/// Writes the row; the position that its commit does not exceed.
async fn write(
    link: &Link,
    row: &Statement,
    values: &[&(dyn ToSql + Sync)],
) -> Result<String, tokio_postgres::Error> {
    let client = link.client();
    // Sent in this order without waiting for one another. What fails breaks the transaction, and with it the rest.
    let ((), _, (), position) = tokio::try_join!(
        client.batch_execute("BEGIN READ WRITE; SET LOCAL synchronous_commit = on"),
        client.execute(row, values),
        client.batch_execute("COMMIT"),
        client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]),
    )?;
    position.try_get(0)
}
