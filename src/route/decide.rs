//! The decision: one request, one snapshot, one answer.
//!
//! The rules, in order: splitting off; a hint; the transaction; the verdict. What may leave the primary then goes to
//! a replica that is readable, wanted and has what the session must see; where there is none, settings say whether
//! the session waits a moment, reads on the primary or fails.

use super::balance::{Candidate, Candidates, pick};
use super::decision::{Decision, Positions, Request, RouteReason, Transaction};
use super::dice::Dice;
use super::settings::{PrimaryReads, Settings, TransactionRouting};
use crate::model::{Consistency, Lsn, NodeId, NodeView, Role, Snapshot};
use crate::sql::{Hint, Place, Reason};

/// What the router looks at besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The topology.
    pub snapshot: &'a Snapshot,
    /// Positions at this moment.
    pub positions: Positions<'a>,
    /// Statements that each node is working on for this worker, by `NodeId`; nodes beyond its end count as idle.
    pub load: &'a [u32],
    /// How to route.
    pub settings: &'a Settings,
}

/// Where a request goes.
pub fn decide(request: &Request, scene: &Scene<'_>, dice: &mut impl Dice) -> Decision {
    match aim(request, scene) {
        Aim::Primary(reason) => Decision::Primary(reason),
        Aim::Replica(_) if scene.settings.observe => Decision::Primary(RouteReason::Observed),
        Aim::Replica(reason) => replica(request, scene, reason, dice),
    }
}

/// Where the request should go, whatever nodes there are.
enum Aim {
    Primary(RouteReason),
    Replica(RouteReason),
}

fn aim(request: &Request, scene: &Scene<'_>) -> Aim {
    if !scene.settings.splitting {
        return Aim::Primary(RouteReason::SplittingOff);
    }
    match request.hint {
        Some(Hint::Primary) => return Aim::Primary(RouteReason::Hint),
        Some(Hint::Replica) => return Aim::Replica(RouteReason::Hint),
        None => {}
    }
    let by_verdict = RouteReason::Verdict(request.verdict_reason);
    match request.transaction {
        Transaction::None if request.place == Place::Anywhere => Aim::Replica(by_verdict),
        // A hot standby has no SERIALIZABLE, not even for reading (manual, 26.4.1).
        Transaction::Deferred { serializable: true, .. } => Aim::Primary(RouteReason::Serializable),
        // What a transaction reads later on the same connection is not held against the commits of others.
        Transaction::Deferred { .. } if consistency(request, scene) == Consistency::Global => {
            Aim::Primary(RouteReason::Transaction)
        }
        Transaction::Deferred { movable: true, .. }
            if scene.settings.transactions == TransactionRouting::Optimistic =>
        {
            Aim::Replica(RouteReason::OptimisticTransaction)
        }
        Transaction::Deferred { read_only: false, moved: true, .. } => {
            Aim::Primary(RouteReason::MovedTransaction)
        }
        Transaction::Deferred { read_only: false, .. } => Aim::Primary(RouteReason::Transaction),
        Transaction::Deferred { read_only: true, .. } if request.place == Place::Anywhere => {
            Aim::Replica(RouteReason::ReadOnlyTransaction)
        }
        Transaction::Deferred { .. } if works_read_only(request.verdict_reason) => {
            Aim::Replica(RouteReason::ReadOnlyTransaction)
        }
        Transaction::None | Transaction::Deferred { .. } => Aim::Primary(by_verdict),
    }
}

/// Whether a statement that is not proven to be a read gives the same in a READ ONLY transaction on a replica. There
/// PostgreSQL itself refuses writes, so what is merely unproven may go; what a primary allows in such a transaction
/// and a replica does not (LISTEN, LOCK, NOTIFY, advisory locks, unlogged tables), or answers for itself, may not.
fn works_read_only(reason: Reason) -> bool {
    match reason {
        Reason::Read
        | Reason::Empty
        | Reason::WritingCte
        | Reason::VolatileFunction
        | Reason::UnknownRelation
        | Reason::NoCatalog
        | Reason::Unparsed
        | Reason::TooLarge => true,
        Reason::Write
        | Reason::SessionState
        | Reason::Locks
        | Reason::NodeLocal
        | Reason::NodeLocalSession
        | Reason::UnreadableRelation
        | Reason::Several
        | Reason::Learned => false,
    }
}

fn replica(request: &Request, scene: &Scene<'_>, reason: RouteReason, dice: &mut impl Dice) -> Decision {
    if let Some(home) = home(request, scene) {
        return Decision::Replica(home, reason);
    }
    let replicas = scene.snapshot.nodes.iter().filter(|node| is_eligible(node, request, scene));
    let (mut stale, mut hope) = (false, false);
    let mut candidates = Candidates::new();
    for node in replicas {
        if is_fresh(node.id, request, scene) {
            candidates.push(candidate(node, scene));
        } else {
            stale = true;
            hope |= replayed(node.id, scene) >= scene.positions.missed;
        }
    }
    candidates.extend(primary_share(request, scene));
    match pick(candidates, dice) {
        Some(node) if Some(node) == scene.snapshot.primary => Decision::Primary(RouteReason::Share),
        Some(node) => Decision::Replica(node, reason),
        None if stale => not_fresh(request, scene.settings, hope),
        None if scene.settings.primary_reads == PrimaryReads::Never => Decision::Nowhere,
        None => Decision::Primary(RouteReason::NoReplica),
    }
}

/// The replica that served the session last keeps serving it: it has not gone back since, so nothing need be checked.
fn home(request: &Request, scene: &Scene<'_>) -> Option<NodeId> {
    if !matches!(consistency(request, scene), Consistency::Session | Consistency::Strict) {
        return None;
    }
    let home = scene.snapshot.node(request.home?)?;
    is_eligible(home, request, scene).then_some(home.id)
}

/// The promise that holds for this request.
fn consistency(request: &Request, scene: &Scene<'_>) -> Consistency {
    request.consistency.unwrap_or(scene.settings.consistency)
}

/// Replicas there are, but none has yet what the session has seen. Waiting is of use only while some replica has what
/// was last waited for in vain: one that stands still, or is far behind, costs one wait and not every read another.
fn not_fresh(request: &Request, settings: &Settings, hope: bool) -> Decision {
    let never = settings.primary_reads == PrimaryReads::Never;
    if !request.waited && !settings.causal_wait.is_zero() && (hope || never) {
        return Decision::WaitForReplica;
    }
    if never { Decision::Nowhere } else { Decision::Primary(RouteReason::Freshness) }
}

fn is_eligible(node: &NodeView, request: &Request, scene: &Scene<'_>) -> bool {
    node.role == Role::Replica
        && node.unreadable.is_none()
        && node.weight > 0
        && request.avoid != Some(node.id)
        // The recorded primary, seen in recovery for a moment, is no replica of anybody.
        && scene.snapshot.primary != Some(node.id)
}

fn is_fresh(node: NodeId, request: &Request, scene: &Scene<'_>) -> bool {
    consistency(request, scene) == Consistency::Eventual
        || request.floor.is_covered(replayed(node, scene), scene.positions.sample)
}

fn replayed(node: NodeId, scene: &Scene<'_>) -> Lsn {
    scene.positions.replayed.get(node.index()).copied().unwrap_or_default()
}

/// The primary as one more candidate, where it takes its share of reads and can be reached now.
fn primary_share(request: &Request, scene: &Scene<'_>) -> Option<Candidate> {
    if scene.settings.primary_reads != PrimaryReads::Always {
        return None;
    }
    let node = scene.snapshot.node(scene.snapshot.writable_primary()?)?;
    (node.weight > 0 && request.avoid != Some(node.id)).then(|| candidate(node, scene))
}

fn candidate(node: &NodeView, scene: &Scene<'_>) -> Candidate {
    Candidate {
        node: node.id,
        weight: node.weight,
        load: scene.load.get(node.id.index()).copied().unwrap_or(0),
        near: !scene.settings.zone.is_empty() && node.zone == scene.settings.zone,
    }
}
