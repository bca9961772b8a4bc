//! What the core is told once: the nodes and its limits.
//!
//! The values cannot be invalid in a way that would break a promise; `config` clamps and explains.

use std::sync::Arc;
use std::time::Duration;

use super::rule::RuleId;
use crate::model::{Address, NodeId};

/// One configured node. Its place in the list given to `Core::new` is its `NodeId`.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name; also the `application_name` that its WAL receiver uses once it is vetted.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// Share of the reads, relative to the others.
    pub weight: u32,
    /// Availability zone, empty where not configured.
    pub zone: Arc<str>,
    /// Among equally advanced candidates the higher one is promoted. Zero: never promoted automatically.
    pub priority: u32,
    /// Taken out by a person: serves no reads, is not promoted, still counts in the quorum.
    pub disabled: bool,
    /// Not configured any more: is not started or promoted, counts in no quorum that is set from now on, and is asked only
    /// until it counts in none (Q1g). It keeps its place, so that the others keep their ids.
    pub removed: bool,
}

impl Member {
    /// A node with the defaults.
    pub fn new(name: &str, address: Address) -> Self {
        Self {
            name: name.into(),
            address,
            weight: 100,
            zone: "".into(),
            priority: 100,
            disabled: false,
            removed: false,
        }
    }
}

/// When a commit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `ANY k (all names)`: nothing acknowledged is ever lost in a failover.
    Quorum {
        /// `k`, the standbys that must have a commit; `None` computes it from the number of nodes.
        standbys: Option<u16>,
    },
    /// The primary alone: the tail that no replica received is lost in a failover, and reported.
    Async,
}

impl Durability {
    /// The default: a quorum needs two replicas to be of use, because with one the loss of either stops writes.
    pub fn default_for(nodes: usize) -> Self {
        if nodes >= 3 { Self::Quorum { standbys: None } } else { Self::Async }
    }

    /// `k` for this many nodes: standbys that must have a commit; zero in async mode.
    pub fn standbys_for(self, nodes: usize) -> usize {
        let most = nodes.saturating_sub(1);
        match self {
            Self::Quorum { standbys: Some(k) } => usize::from(k).clamp(1, most.max(1)),
            Self::Quorum { standbys: None } => (most / 2).max(1),
            Self::Async => 0,
        }
    }
}

/// What is done when too few standbys are there to acknowledge: fewer are asked for, until they return. Without this,
/// commits wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Degrade {
    /// How many standbys must have a commit in any case; zero: the primary may go on alone.
    pub standbys_min: u16,
    /// How long commits wait for more before.
    pub after: Duration,
}

impl Default for Degrade {
    fn default() -> Self {
        Self { standbys_min: 0, after: Duration::from_secs(5) }
    }
}

/// The limits and habits of the core.
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own that a person writes")]
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Failovers without a person: off is `primacy pause` from the start.
    pub automatic: bool,
    /// When a commit counts.
    pub durability: Durability,
    /// Whether fewer standbys are asked for when too few are there; `None`: commits wait.
    pub degrade: Option<Degrade>,
    /// Between two probes of a node while all is well.
    pub probe_interval: Duration,
    /// Between two probes of a node while the primary is suspected or being replaced.
    pub probe_interval_suspect: Duration,
    /// Silence after which soft evidence counts; also a probe's own deadline.
    pub detect_timeout: Duration,
    /// How long a primary that says it is starting or stopping may take before it counts as gone.
    pub restart_grace: Duration,
    /// How long commits may stand still under contradictory evidence.
    pub stall_timeout: Duration,
    /// How long start-up waits for every node to be heard before it decides with what it has.
    pub discover_timeout: Duration,
    /// How long the standbys' receivers may take to stop.
    pub recruit_timeout: Duration,
    /// After this long a receiver that has not stopped gets its node's conflicting sessions ended (T1).
    pub conflict_after: Duration,
    /// Once enough are recruited, how long others that are still stopping are waited for.
    pub recruit_linger: Duration,
    /// How long the candidate may take to replay what it received.
    pub replay_timeout: Duration,
    /// How long followers may take to be repointed before the promotion goes ahead without them.
    pub repoint_timeout: Duration,
    /// How long `pg_promote` may take.
    pub promote_timeout: Duration,
    /// How often the actuator looks whether the promotion is through.
    pub promote_poll: Duration,
    /// How long one attempt at the term row may wait for its quorum.
    pub term_row_timeout: Duration,
    /// After this long without a term row the cluster is shown as read-only (the attempt goes on).
    pub establish_timeout: Duration,
    /// How long clients may take to finish their transactions in a switchover.
    pub drain_timeout: Duration,
    /// How long the target of a switchover may take to receive everything.
    pub catch_up_timeout: Duration,
    /// For every other effect (journal, lock, settings, fences).
    pub effect_timeout: Duration,
    /// For a rejoin (rewind, restart).
    pub rejoin_timeout: Duration,
    /// Before a failed rejoin, repoint or setting is tried again.
    pub retry_after: Duration,
    /// Before an abandoned failover is tried again.
    pub attempt_backoff: Duration,
    /// Automatic failovers on soft evidence per `flap_window`.
    pub flap_max: usize,
    /// See `flap_max`.
    pub flap_window: Duration,
    /// Between two automatic failovers on soft evidence.
    pub flap_interval: Duration,
    /// Replicas further behind serve no reads; `None`: no limit.
    pub lag_bytes_max: Option<u64>,
    /// Replicas longer behind serve no reads; `None`: no limit.
    pub lag_max: Option<Duration>,
    /// Positions in the snapshot are refreshed at least this often (roles and states at once).
    pub publish_interval: Duration,
    /// Whether `synchronous_standby_names` is the core's to set.
    pub manage_sync_names: bool,
    /// `wal_receiver_timeout` to be set on the nodes, so that silence is noticed; `None` leaves it alone.
    pub receiver_timeout: Option<Duration>,
    /// Whether `standby.signal` is kept armed on the primary, so that a crashed one returns as a standby.
    pub arm_standby_signal: bool,
    /// Whether returning nodes are brought back without a person.
    pub auto_rejoin: bool,
    /// A rule that is switched off, so that a test can show that it is needed. Never set by configuration.
    #[doc(hidden)]
    pub without: Option<RuleId>,
}

impl Default for Settings {
    fn default() -> Self {
        let ms = Duration::from_millis;
        let s = Duration::from_secs;
        Self {
            automatic: true,
            durability: Durability::Quorum { standbys: None },
            degrade: None,
            probe_interval: ms(200),
            probe_interval_suspect: ms(20),
            detect_timeout: ms(600),
            restart_grace: ms(300),
            stall_timeout: s(10),
            discover_timeout: s(2),
            recruit_timeout: s(5),
            conflict_after: ms(100),
            recruit_linger: ms(100),
            replay_timeout: s(30),
            repoint_timeout: s(1),
            promote_timeout: s(30),
            promote_poll: ms(2),
            term_row_timeout: s(5),
            establish_timeout: s(10),
            drain_timeout: s(2),
            catch_up_timeout: s(2),
            effect_timeout: s(5),
            rejoin_timeout: s(600),
            retry_after: s(5),
            attempt_backoff: s(1),
            flap_max: 3,
            flap_window: s(3600),
            flap_interval: s(30),
            lag_bytes_max: None,
            lag_max: None,
            publish_interval: s(1),
            manage_sync_names: true,
            receiver_timeout: Some(s(1)),
            arm_standby_signal: false,
            auto_rejoin: true,
            without: None,
        }
    }
}

/// Every node id of a cluster of this size.
pub(super) fn node_ids(nodes: usize) -> impl Iterator<Item = NodeId> {
    (0..=u16::MAX).take(nodes).map(NodeId)
}
