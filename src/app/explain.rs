//! `primacy explain`: where a text would go now, and why.

use std::sync::Arc;
use std::time::Duration;

use super::Running;
use crate::admin::CommandError;
use crate::admin::json::{ExplainReport, ExplainRequest};
use crate::admin::routes;
use crate::model::Lsn;
use crate::route::{self, Decision, Floor, Positions, Request, Scene, Transaction};
use crate::sql::{Classifier, Hint, Kind, Place, Verdict};

/// How long an answer waits for a database's facts.
const FACTS_LIMIT: Duration = Duration::from_secs(2);

impl Running {
    /// Judges a text as a session would that has just signed in. Where no database is named, it is the one that clients
    /// use, or the service role's where they use none or several.
    pub(super) async fn explain_text(&self, request: &ExplainRequest) -> Result<ExplainReport, CommandError> {
        let shared = &self.shared;
        let settings = shared.settings.load_full();
        let database = request
            .database
            .as_deref()
            .map(Arc::from)
            .or_else(|| shared.catalogs.only_database(&settings.service.database))
            .unwrap_or_else(|| Arc::clone(&settings.service.database));
        let facts = shared.catalogs.facts(&database);
        // A person who asks is not helped by an answer about the moment before the facts were there.
        facts.await_loaded(FACTS_LIMIT).await;
        if facts.is_absent() {
            return Err(CommandError::Refused(format!("there is no database {database:?} on the primary")));
        }
        let mut classifier = Classifier::new(&self.sql);
        let verdict = classifier.classify(request.sql.as_bytes(), &facts.load());
        let snapshot = shared.board.snapshot();
        let replayed: Vec<Lsn> = snapshot.nodes.iter().map(|node| shared.board.replayed(node.id)).collect();
        let route_settings = shared.route.load().for_session(&settings.service.user, &database);
        let scene = Scene {
            snapshot: &snapshot,
            positions: Positions {
                sample: shared.board.sample(),
                replayed: &replayed,
                missed: shared.board.missed(),
            },
            load: &[],
            settings: &route_settings,
        };
        let decision = route::decide(&question(&verdict), &scene, &mut fastrand::Rng::new());
        let (node, reason) = match decision {
            Decision::Primary(reason) => (snapshot.writable_primary(), reason.as_str()),
            Decision::Replica(node, reason) => (Some(node), reason.as_str()),
            Decision::WaitForReplica => (None, "waits for a replica to catch up"),
            Decision::Nowhere => (None, "no node may serve it now"),
        };
        let node = node.and_then(|id| snapshot.node(id));
        Ok(ExplainReport {
            database: database.to_string(),
            place: if verdict.place == Place::Anywhere { "anywhere" } else { "primary" }.to_owned(),
            reason: verdict.reason.as_str().to_owned(),
            detail: verdict.detail.as_deref().map(str::to_owned),
            node: node.map(|node| node.name.to_string()),
            role: node.map(|node| node.role.as_str().to_owned()),
            route: reason.to_owned(),
            hint: verdict
                .hint
                .map(|hint| if hint == Hint::Primary { "primary" } else { "replica" }.to_owned()),
            statements: verdict.statements,
            optimistic: verdict.moving.as_str().to_owned(),
            change: if verdict.place == Place::Anywhere {
                String::new()
            } else {
                routes::change_of(verdict.reason.as_str(), verdict.detail.as_deref())
            },
            effects: verdict.effects.iter().map(|effect| format!("{effect:?}")).collect(),
        })
    }
}

fn question(verdict: &Verdict) -> Request {
    let transaction = match verdict.kind {
        Kind::Begin(mode) => Transaction::Deferred {
            read_only: mode.read_only == Some(true),
            serializable: mode.serializable,
            movable: false,
            moved: false,
        },
        _ => Transaction::None,
    };
    Request {
        place: verdict.place,
        verdict_reason: verdict.reason,
        hint: verdict.hint,
        transaction,
        consistency: verdict.consistency,
        floor: Floor::NONE,
        home: None,
        waited: false,
        avoid: None,
    }
}
