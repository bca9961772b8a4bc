//! The decision over small spaces, whole.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{
    Consistency, Decision, Floor, Positions, PrimaryReads, Request, RouteReason, Scene, Settings,
    Transaction, TransactionRouting, decide,
};
use crate::model::{Address, Epoch, Lsn, NodeId, NodeView, Role, Service, Snapshot, Timeline, Unreadable};
use crate::sql::{Hint, Place, Reason};

fn node(id: u16, role: Role) -> NodeView {
    NodeView {
        id: NodeId(id),
        name: Arc::from(format!("node{id}")),
        address: Address::Tcp { host: "localhost".to_owned(), port: 5432 },
        role,
        unreadable: None,
        weight: 1,
        zone: Arc::from(""),
        timeline: Timeline(1),
        received: Lsn(100),
        replayed: Lsn(100),
        lag_bytes: 0,
        lag: Duration::ZERO,
        server_version: 150_000,
    }
}

/// Node 0 is the primary, 1 and 2 are replicas.
fn cluster() -> Snapshot {
    Snapshot {
        version: 1,
        epoch: Epoch(1),
        timeline: Timeline(1),
        fork: Lsn(0),
        system_id: None,
        primary: Some(NodeId(0)),
        service: Service::Open,
        nodes: vec![node(0, Role::Primary), node(1, Role::Replica), node(2, Role::Replica)],
    }
}

fn read() -> Request {
    Request {
        place: Place::Anywhere,
        verdict_reason: Reason::Read,
        hint: None,
        transaction: Transaction::None,
        consistency: None,
        floor: Floor::NONE,
        home: None,
        waited: false,
        avoid: None,
    }
}

const REPLAYED: &[Lsn] = &[Lsn(0), Lsn(50), Lsn(100)];

fn ask(request: &Request, snapshot: &Snapshot, settings: &Settings) -> Decision {
    let positions = Positions { sample: (3, Lsn(80)), replayed: REPLAYED, missed: Lsn(0) };
    let scene = Scene { snapshot, positions, load: &[0, 0, 0], settings };
    decide(request, &scene, &mut fastrand::Rng::with_seed(5))
}

fn one(request: &Request) -> Decision {
    ask(request, &cluster(), &Settings::default())
}

fn node_of(decision: Decision) -> Option<NodeId> {
    match decision {
        Decision::Replica(node, _) => Some(node),
        _ => None,
    }
}

#[test]
fn reads_go_to_replicas_and_everything_else_to_the_primary() {
    assert!(matches!(one(&read()), Decision::Replica(_, RouteReason::Verdict(Reason::Read))));
    for reason in Reason::ALL {
        let request = Request { place: Place::Primary, verdict_reason: reason, ..read() };
        assert_eq!(one(&request), Decision::Primary(RouteReason::Verdict(reason)));
    }
    let off = Settings { splitting: false, ..Settings::default() };
    for hint in [None, Some(Hint::Primary), Some(Hint::Replica)] {
        let request = Request { hint, ..read() };
        assert_eq!(ask(&request, &cluster(), &off), Decision::Primary(RouteReason::SplittingOff));
    }
}

#[test]
fn a_hint_wins_over_verdict_and_transaction() {
    for place in [Place::Anywhere, Place::Primary] {
        for transaction in [
            Transaction::None,
            Transaction::Deferred { read_only: false, serializable: false, movable: false, moved: false },
            Transaction::Deferred { read_only: true, serializable: true, movable: false, moved: false },
        ] {
            let request = Request { place, transaction, hint: Some(Hint::Primary), ..read() };
            assert_eq!(one(&request), Decision::Primary(RouteReason::Hint));
            let request = Request { hint: Some(Hint::Replica), ..request };
            assert!(matches!(one(&request), Decision::Replica(_, RouteReason::Hint)));
        }
    }
    // It does not make a stale replica fresh.
    let request = Request { hint: Some(Hint::Replica), floor: Floor::at(Lsn(101)), waited: true, ..read() };
    assert_eq!(one(&request), Decision::Primary(RouteReason::Freshness));
}

#[test]
fn an_optimistic_transaction_stays_on_replicas_while_it_can_be_moved() {
    let optimistic = Settings { transactions: TransactionRouting::Optimistic, ..Settings::default() };
    for (movable, moved, place) in [
        (true, false, Place::Anywhere),
        (true, true, Place::Primary),
        (false, false, Place::Anywhere),
        (false, true, Place::Primary),
    ] {
        let transaction = Transaction::Deferred { read_only: false, serializable: false, movable, moved };
        let request = Request { place, transaction, ..read() };
        let decision = ask(&request, &cluster(), &optimistic);
        match (movable, moved) {
            (true, _) => {
                assert!(
                    matches!(decision, Decision::Replica(_, RouteReason::OptimisticTransaction)),
                    "{decision:?}"
                );
            }
            (false, true) => assert_eq!(decision, Decision::Primary(RouteReason::MovedTransaction)),
            (false, false) => assert_eq!(decision, Decision::Primary(RouteReason::Transaction)),
        }
        assert!(
            matches!(ask(&request, &cluster(), &Settings::default()), Decision::Primary(_)),
            "switched off"
        );
        // Its later reads would not be held against the commits of others.
        let global = Request { consistency: Some(Consistency::Global), ..request };
        assert_eq!(ask(&global, &cluster(), &optimistic), Decision::Primary(RouteReason::Transaction));
    }
}

#[test]
fn every_kind_of_deferred_transaction_has_its_place() {
    for (read_only, serializable) in [(false, false), (false, true), (true, false), (true, true)] {
        for reason in Reason::ALL {
            let place = if reason == Reason::Read { Place::Anywhere } else { Place::Primary };
            let transaction = Transaction::Deferred { read_only, serializable, movable: false, moved: false };
            let decision = one(&Request { place, verdict_reason: reason, transaction, ..read() });
            let local = matches!(
                reason,
                Reason::Write
                    | Reason::SessionState
                    | Reason::Locks
                    | Reason::NodeLocal
                    | Reason::NodeLocalSession
                    | Reason::UnreadableRelation
                    | Reason::Several
                    | Reason::Learned
            );
            match (read_only, serializable) {
                (_, true) => assert_eq!(decision, Decision::Primary(RouteReason::Serializable)),
                (false, false) => assert_eq!(decision, Decision::Primary(RouteReason::Transaction)),
                (true, false) if local => {
                    assert_eq!(decision, Decision::Primary(RouteReason::Verdict(reason)));
                }
                (true, false) => {
                    assert!(
                        matches!(decision, Decision::Replica(_, RouteReason::ReadOnlyTransaction)),
                        "{reason:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn only_readable_wanted_replicas_serve() {
    for role in [Role::Primary, Role::Replica, Role::Unknown] {
        for unreadable in [None, Some(Unreadable::Lagging), Some(Unreadable::NotStreaming)] {
            for weight in [0, 1] {
                for avoid in [None, Some(NodeId(1))] {
                    let mut snapshot = cluster();
                    snapshot.nodes.truncate(2);
                    snapshot.nodes[1] = NodeView { unreadable, weight, ..node(1, role) };
                    let decision = ask(&Request { avoid, ..read() }, &snapshot, &Settings::default());
                    let serves =
                        role == Role::Replica && unreadable.is_none() && weight > 0 && avoid.is_none();
                    let expected = if serves {
                        Decision::Replica(NodeId(1), RouteReason::Verdict(Reason::Read))
                    } else {
                        Decision::Primary(RouteReason::NoReplica)
                    };
                    assert_eq!(decision, expected, "{role:?} {unreadable:?} {weight} {avoid:?}");
                    let never = Settings { primary_reads: PrimaryReads::Never, ..Settings::default() };
                    let expected = if serves { expected } else { Decision::Nowhere };
                    assert_eq!(ask(&Request { avoid, ..read() }, &snapshot, &never), expected);
                }
            }
        }
    }
}

#[test]
fn a_floor_keeps_stale_replicas_out() {
    // Node 1 has replayed 50, node 2 100; sample 3 showed 80.
    for (floor, candidates) in [
        (Floor::NONE, &[1, 2][..]),
        (Floor::at(Lsn(50)), &[1, 2]),
        (Floor::at(Lsn(51)), &[2]),
        (Floor::at(Lsn(100)), &[2]),
        (Floor::at(Lsn(101)), &[]),
        (Floor::ticket(2), &[2]),
        (Floor::ticket(3), &[2]),
        (Floor::ticket(4), &[]),
    ] {
        let request = Request { floor, ..read() };
        if let Some(node) = node_of(one(&request)) {
            assert!(candidates.contains(&node.0), "{floor:?} {node:?}");
        } else {
            assert!(candidates.is_empty(), "{floor:?}");
            assert_eq!(one(&request), Decision::WaitForReplica);
            assert_eq!(one(&Request { waited: true, ..request }), Decision::Primary(RouteReason::Freshness));
            let impatient = Settings { causal_wait: Duration::ZERO, ..Settings::default() };
            assert_eq!(ask(&request, &cluster(), &impatient), Decision::Primary(RouteReason::Freshness));
            let never = Settings { primary_reads: PrimaryReads::Never, ..Settings::default() };
            assert_eq!(ask(&Request { waited: true, ..request }, &cluster(), &never), Decision::Nowhere);
        }
        let eventual = Settings { consistency: Consistency::Eventual, ..Settings::default() };
        assert!(node_of(ask(&request, &cluster(), &eventual)).is_some(), "{floor:?}");
    }
}

#[test]
fn a_session_stays_with_the_replica_that_served_it() {
    for home in [1, 2] {
        let request = Request { home: Some(NodeId(home)), ..read() };
        let busy = Scene {
            snapshot: &cluster(),
            positions: Positions { sample: (0, Lsn(0)), replayed: &[], missed: Lsn(0) },
            load: &[0, 1_000, 1_000],
            settings: &Settings::default(),
        };
        let decision = decide(&request, &busy, &mut fastrand::Rng::with_seed(1));
        assert_eq!(node_of(decision), Some(NodeId(home)));
        let mut snapshot = cluster();
        snapshot.nodes[usize::from(home)].unreadable = Some(Unreadable::Down);
        assert_eq!(node_of(ask(&request, &snapshot, &Settings::default())), Some(NodeId(3 - home)));
    }
    // The floor is what any other node has to show; who takes the home's place has to have it.
    let request = Request { home: Some(NodeId(1)), floor: Floor::at(Lsn(101)), ..read() };
    assert_eq!(node_of(one(&request)), Some(NodeId(1)));
    assert_eq!(
        one(&Request { home: Some(NodeId(0)), ..request }),
        Decision::WaitForReplica,
        "it was promoted"
    );
    // Where everybody's commits count, the home is a node like any other.
    let global = Request { consistency: Some(Consistency::Global), floor: Floor::at(Lsn(90)), ..request };
    assert_eq!(node_of(one(&global)), Some(NodeId(2)));
}

#[test]
fn waiting_is_given_up_until_a_replica_has_what_was_waited_for_in_vain() {
    let request = Request { floor: Floor::at(Lsn(200)), ..read() };
    let after = |missed: u64| {
        let positions = Positions { sample: (3, Lsn(80)), replayed: REPLAYED, missed: Lsn(missed) };
        let scene = Scene { snapshot: &cluster(), positions, load: &[], settings: &Settings::default() };
        decide(&request, &scene, &mut fastrand::Rng::with_seed(5))
    };
    assert_eq!(after(100), Decision::WaitForReplica, "node 2 has got there since");
    assert_eq!(after(101), Decision::Primary(RouteReason::Freshness));
}

#[test]
fn the_primary_takes_its_share_only_where_told_and_reachable() {
    let always = Settings { primary_reads: PrimaryReads::Always, ..Settings::default() };
    let decisions = |snapshot: &Snapshot| {
        let mut dice = fastrand::Rng::with_seed(3);
        let positions = Positions { sample: (0, Lsn(0)), replayed: &[], missed: Lsn(0) };
        let scene = Scene { snapshot, positions, load: &[], settings: &always };
        (0..3_000)
            .filter(|_| decide(&read(), &scene, &mut dice) == Decision::Primary(RouteReason::Share))
            .count()
    };
    assert!((800..1_200).contains(&decisions(&cluster())));
    assert_eq!(decisions(&Snapshot { service: Service::Held, ..cluster() }), 0);
    // The primary is always fresh.
    let request = Request { floor: Floor::at(Lsn(1_000)), ..read() };
    assert_eq!(ask(&request, &cluster(), &always), Decision::Primary(RouteReason::Share));
}

proptest! {
    #[test]
    fn a_decision_names_only_nodes_that_may_serve(
        nodes in prop::collection::vec((0..3_usize, any::<bool>(), 0..4_u32, 0..200_u64, 0..50_u32, any::<bool>()), 1..6),
        floor in prop_oneof![
            Just(Floor::NONE), (0..200_u64).prop_map(|l| Floor::at(Lsn(l))), (0..6_u64).prop_map(Floor::ticket)
        ],
        avoid in prop::option::of(0..6_u16),
        home in prop::option::of(0..6_u16),
        seed in any::<u64>(),
    ) {
        let roles = [Role::Primary, Role::Replica, Role::Unknown];
        let mut snapshot = cluster();
        snapshot.nodes = nodes.iter().zip(0..).map(|(n, id)| NodeView {
            unreadable: n.1.then_some(Unreadable::Lagging),
            weight: n.2,
            zone: Arc::from(if n.5 { "a" } else { "b" }),
            ..node(id, roles[n.0])
        }).collect();
        let replayed: Vec<Lsn> = nodes.iter().map(|n| Lsn(n.3)).collect();
        let load: Vec<u32> = nodes.iter().map(|n| n.4).collect();
        let settings = Settings { zone: Arc::from("a"), ..Settings::default() };
        let positions = Positions { sample: (3, Lsn(100)), replayed: &replayed, missed: Lsn(0) };
        let scene = Scene { snapshot: &snapshot, positions, load: &load, settings: &settings };
        let request = Request { floor, avoid: avoid.map(NodeId), home: home.map(NodeId), ..read() };
        let fresh = |id: NodeId| floor.is_covered(replayed[id.index()], (3, Lsn(100)));
        let eligible = |n: &NodeView| {
            n.id != NodeId(0) && n.role == Role::Replica && n.unreadable.is_none() && n.weight > 0 && request.avoid != Some(n.id)
        };
        let able: Vec<&NodeView> =
            snapshot.nodes.iter().filter(|n| eligible(n) && (fresh(n.id) || request.home == Some(n.id))).collect();
        match decide(&request, &scene, &mut fastrand::Rng::with_seed(seed)) {
            Decision::Replica(id, _) => {
                let chosen = able.iter().find(|n| n.id == id);
                prop_assert!(chosen.is_some());
                let stayed = request.home == Some(id);
                let near = able.iter().any(|n| &*n.zone == "a");
                prop_assert!(stayed || !near || chosen.is_some_and(|n| &*n.zone == "a"));
            }
            Decision::WaitForReplica => prop_assert!(able.is_empty() && snapshot.nodes.iter().any(eligible)),
            Decision::Primary(reason) => {
                prop_assert!(able.is_empty());
                prop_assert_eq!(reason, RouteReason::NoReplica);
            }
            Decision::Nowhere => prop_assert!(false),
        }
    }
}
